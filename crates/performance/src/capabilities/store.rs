//! SQL of tables `agent_capabilities`, `am_capabilities` and `am_capability_evidence`.

use am_core::ids::{AgentId, CapabilityId, PrincipalId};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText, Timestamp},
    page::PageRequest,
    push_row, row, sql, update,
};

use super::{
    model::{CapabilityDocument, CapabilityFilter, EvidenceDocument, EvidenceKind},
    record::CapabilityRecord,
    rules::TrialSums,
};

row! {
    CapabilityRecord {
        capability_id = "c.capability_id",
        agent_id = "c.agent_id",
        capability_name = "c.capability_name",
        capability_type = "c.capability_type",
        domain_area = "c.domain_area",
        skill_level = "c.skill_level",
        specializations = "c.specializations" => JsonOr::into_inner,
        created_at = "c.created_at",
        updated_at = "c.updated_at",
        claimed_level = "a.claimed_level",
        trials = "a.trials",
        reached = "a.reached",
        evidence = "a.evidence",
        evidence_at = "a.evidence_at",
    }
}

row! {
    EvidenceDocument {
        id,
        kind,
        reference,
        trials,
        reached,
        shown_at,
        created_at,
    }
}

row! {
    /// A request of the marketplace that was rated.
    pub struct RatedRequest {
        pub agent_id: Option<AgentId>,
        pub rating: Option<i64>,
        pub ended_at: Option<Timestamp>,
    }
}

row! {
    /// An evaluation that an agent's capability may be shown by.
    pub struct EvaluatedAgent {
        pub owner_id: PrincipalId,
        pub agent_id: Option<AgentId>,
        pub state: String,
        pub cases: i64,
        pub score: Option<f64>,
        pub ended_at: Option<Timestamp>,
    }
}

fn json(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// How many capabilities an agent has.
pub(super) async fn count(conn: &mut Connection, agent: &AgentId) -> Result<i64> {
    sql!("SELECT count(*) FROM agent_capabilities WHERE agent_id = $1").bind(agent).fetch_value(conn).await
}

/// Store a capability that nothing shows yet.
pub(super) async fn insert(tx: &mut Tx, made: &CapabilityDocument, owner: &PrincipalId) -> Result<()> {
    let (empty_list, empty): ([&str; 0], serde_json::Map<String, serde_json::Value>) = Default::default();
    let mut rows = RowBatch::default();
    push_row!(rows, "agent_capabilities" {
        id: &made.capability_id,
        capability_id: &made.capability_id,
        agent_id: &made.agent_id,
        capability_name: &made.capability_name,
        capability_type: &made.capability_type,
        domain_area: &made.domain_area,
        skill_level: made.claimed_level,
        proficiency_score: 0.0,
        experience_years: 0.0,
        performance_metrics: json(&empty)?,
        success_rate: 0.0,
        average_quality: 0.0,
        learning_rate: 0.0,
        adaptation_speed: 0.0,
        knowledge_retention: 0.0,
        specializations: json(&made.specialization_areas)?,
        sub_capabilities: json(&empty_list)?,
        tool_proficiency: json(&empty)?,
        acquired_at: made.created_at,
        last_improved: None::<&str>,
        improvement_count: 0,
        certified: false,
        certification_level: None::<&str>,
        last_validated: None::<&str>,
        created_at: made.created_at,
        updated_at: made.updated_at,
        capability_profile_meta_data: json(&empty)?,
        training_history: json(&empty_list)?,
    });
    push_row!(rows, "am_capabilities" {
        capability_id: &made.capability_id,
        agent_id: &made.agent_id,
        owner_id: owner,
        claimed_level: made.claimed_level,
        trials: 0.0,
        reached: 0.0,
        evidence: 0,
        created_at: made.created_at,
    });
    rows.execute(tx).await
}

pub(super) async fn capability(conn: &mut Connection, id: &CapabilityId) -> Result<Option<CapabilityRecord>> {
    let found = sql!(
        "SELECT ",
        CapabilityRecord::COLUMNS,
        " FROM agent_capabilities c LEFT JOIN am_capabilities a ON a.capability_id = c.capability_id
             WHERE c.capability_id = $1",
    );
    found.bind(id).fetch_optional(conn).await
}

/// A page of an agent's capabilities, and how many the filter leaves. The coordinator's table has no index in their order: an agent has
/// at most some hundred, which are sorted.
pub(super) async fn list(
    conn: &mut Connection,
    agent: &AgentId,
    filter: &CapabilityFilter,
    page: &PageRequest,
) -> Result<(Vec<CapabilityRecord>, i64)> {
    let (kind, area) = (filter.capability_type.as_deref(), filter.domain_area.as_deref());
    let rows = sql!(
        "SELECT ",
        CapabilityRecord::COLUMNS,
        " FROM agent_capabilities c LEFT JOIN am_capabilities a ON a.capability_id = c.capability_id
             WHERE c.agent_id = $1 [AND c.capability_type = $2] [AND c.domain_area = $3] {page c. $4 agent_capabilities}",
    );
    let rows = rows.bind(agent).bind_some(kind).bind_some(area).bind_page(page).fetch_all(&mut *conn).await?;
    let total = sql!(
        "SELECT count(*) FROM agent_capabilities c WHERE c.agent_id = $1 [AND c.capability_type = $2]
             [AND c.domain_area = $3] {span c. $4}",
    );
    let total = total.bind(agent).bind_some(kind).bind_some(area).bind_span(page.created);
    Ok((rows, total.fetch_value(conn).await?))
}

/// Whether something shows a capability already.
pub(super) async fn is_used(conn: &mut Connection, kind: EvidenceKind, reference: &str) -> Result<bool> {
    let found = sql!("SELECT 1 FROM am_capability_evidence WHERE kind = $1 AND reference = $2");
    found.bind(kind).bind(reference).exists(conn).await
}

/// Store evidence with the capability's new sums, as of `at`.
pub(super) async fn attach(
    tx: &mut Tx,
    before: &CapabilityRecord,
    (attached, owner): (&EvidenceDocument, &PrincipalId),
    sums: TrialSums,
    at: Timestamp,
) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_capability_evidence" {
        id: &attached.id,
        capability_id: &before.capability_id,
        kind: attached.kind,
        reference: &attached.reference,
        trials: attached.trials,
        reached: attached.reached,
        shown_at: attached.shown_at,
        created_at: attached.created_at,
    });
    push_row!(rows, "am_capabilities" {
        capability_id: &before.capability_id,
        agent_id: &before.agent_id,
        owner_id: owner,
        claimed_level: before.claimed_level.unwrap_or(before.skill_level),
        trials: sums.trials,
        reached: sums.reached,
        evidence: before.evidence.unwrap_or(0) + 1,
        evidence_at: at,
        created_at: before.created_at,
    } update on (capability_id) except (agent_id, owner_id, claimed_level, created_at));
    rows.execute(tx).await
}

/// Tell the coordinator's row what is certified.
pub(super) async fn tell(tx: &mut Tx, now: &CapabilityDocument, at: Timestamp) -> Result<()> {
    let level = now.certified_level.map(|level| format!("{level:.1}"));
    let row = update!("agent_capabilities" {
        skill_level: now.skill_level,
        proficiency_score: now.proficiency_score.unwrap_or(0.0),
        success_rate: now.proficiency_score.unwrap_or(0.0),
        certified: now.certified_level.is_some(),
        certification_level: level,
        last_validated: at,
        updated_at: at,
    } where "capability_id = $1" (&now.capability_id));
    row.execute(tx.conn().await?).await?;
    Ok(())
}

/// A page of what shows a capability, and how many pieces there are.
pub(super) async fn evidence(
    conn: &mut Connection,
    id: &CapabilityId,
    page: &PageRequest,
) -> Result<(Vec<EvidenceDocument>, i64)> {
    let rows =
        sql!("SELECT ", EvidenceDocument::COLUMNS, " FROM am_capability_evidence WHERE capability_id = $1 {page $2}");
    let rows = rows.bind(id).bind_page(page).fetch_all(&mut *conn).await?;
    let total = sql!("SELECT count(*) FROM am_capability_evidence WHERE capability_id = $1 {span $2}");
    Ok((rows, total.bind(id).bind_span(page.created).fetch_value(conn).await?))
}

pub(super) async fn rated_request(conn: &mut Connection, id: &str) -> Result<Option<RatedRequest>> {
    let found = sql!("SELECT ", RatedRequest::COLUMNS, " FROM am_market_requests WHERE id = $1");
    found.bind(id).fetch_optional(conn).await
}

pub(super) async fn evaluated_agent(conn: &mut Connection, id: &str) -> Result<Option<EvaluatedAgent>> {
    let found = sql!("SELECT ", EvaluatedAgent::COLUMNS, " FROM am_evaluations WHERE id = $1");
    found.bind(id).fetch_optional(conn).await
}
