//! SQL of tables `creative_capabilities`, `am_creative_capabilities`, `am_creative_works` and
//! `am_agent_claims`.

use am_core::ids::{AgentId, CreativeCapabilityId, CreativeWorkId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    insert,
    page::PageRequest,
    push_row, row, sql, update,
};

use crate::model::{CapabilityRow, CreativeFigures, WorkDocument, WorkRole};

row! {
    CapabilityRow from "c." {
        id,
        capability_id,
        agent_id,
        creative_domain,
        capability_type,
        originality_score,
        novelty_score,
        aesthetic_quality,
        coherence_score,
        generation_models,
        style_variety,
        output_quality,
        creative_learning_rate,
        style_adaptation,
        cross_domain_transfer,
        creative_specializations,
        tool_proficiency,
        domain_knowledge,
        creations_generated,
        user_ratings,
        expert_evaluations,
        status,
        certification_level,
        last_evaluation,
        created_at,
        updated_at,
        meta_data = "c.creative_profile_meta_data",
        portfolio_samples,
        owner_id = "a.owner_id",
        claimed_score = "a.claimed_score",
        originality = "a.originality",
        novelty = "a.novelty",
        aesthetic = "a.aesthetic",
        coherence = "a.coherence",
        works_variety = "a.style_variety",
        learning_rate = "a.learning_rate",
        evaluations = "a.evaluations",
    }
}

row! {
    WorkDocument {
        id,
        capability_id,
        role,
        title,
        text,
        sha256,
        created_at,
    }
}

/// The stored owner of an agent: who has registered it, else who used it first.
pub(crate) async fn find_agent_owner(conn: &mut Connection, agent: &AgentId) -> Result<Option<String>> {
    let owner = sql!(
        "SELECT coalesce((SELECT owner_id FROM am_agents WHERE id = $1),
             (SELECT owner_id FROM am_agent_claims WHERE agent_id = $1)) AS owner_id",
    );
    owner.bind(agent).fetch_value(conn).await
}

/// Note who used an agent first that nobody has registered.
pub(crate) async fn insert_claim(tx: &mut Tx, agent: &AgentId, owner: &PrincipalId, now: Timestamp) -> Result<()> {
    let claim = insert!("am_agent_claims" { agent_id: agent, owner_id: owner, created_at: now }
        "ON CONFLICT (agent_id) DO NOTHING");
    claim.execute(tx.conn().await?).await?;
    Ok(())
}

pub(crate) async fn get(conn: &mut Connection, id: &CreativeCapabilityId) -> Result<Option<CapabilityRow>> {
    let found = sql!(
        "SELECT ",
        CapabilityRow::COLUMNS,
        " FROM creative_capabilities c LEFT JOIN am_creative_capabilities a ON a.capability_id = c.capability_id
          WHERE c.capability_id = $1",
    );
    found.bind(id).fetch_optional(conn).await
}

/// Capabilities of an agent, at most `most`, in no order.
pub(crate) async fn of_agent(conn: &mut Connection, agent: &AgentId, most: i64) -> Result<Vec<CapabilityRow>> {
    let found = sql!(
        "SELECT ",
        CapabilityRow::COLUMNS,
        " FROM creative_capabilities c LEFT JOIN am_creative_capabilities a ON a.capability_id = c.capability_id
          WHERE c.agent_id = $1 LIMIT $2",
    );
    found.bind(agent).bind(most).fetch_all(conn).await
}

pub(crate) async fn count_of_agent(conn: &mut Connection, agent: &AgentId) -> Result<i64> {
    sql!("SELECT count(*) FROM creative_capabilities WHERE agent_id = $1").bind(agent).fetch_value(conn).await
}

/// Add the rows of a new capability to `rows`.
pub(crate) fn insert_capability(rows: &mut RowBatch, new: &CapabilityRow) {
    push_row!(rows, "creative_capabilities" {
        id: &new.id,
        capability_id: &new.capability_id,
        agent_id: &new.agent_id,
        creative_domain: &new.creative_domain,
        capability_type: &new.capability_type,
        originality_score: new.originality_score,
        novelty_score: new.novelty_score,
        aesthetic_quality: new.aesthetic_quality,
        coherence_score: new.coherence_score,
        generation_models: &new.generation_models,
        style_variety: new.style_variety,
        output_quality: new.output_quality,
        creative_learning_rate: new.creative_learning_rate,
        style_adaptation: new.style_adaptation,
        cross_domain_transfer: new.cross_domain_transfer,
        creative_specializations: &new.creative_specializations,
        tool_proficiency: &new.tool_proficiency,
        domain_knowledge: &new.domain_knowledge,
        creations_generated: new.creations_generated,
        user_ratings: &new.user_ratings,
        expert_evaluations: &new.expert_evaluations,
        status: &new.status,
        certification_level: new.certification_level.as_deref(),
        last_evaluation: new.last_evaluation,
        created_at: new.created_at,
        updated_at: new.updated_at,
        creative_profile_meta_data: &new.meta_data,
        portfolio_samples: &new.portfolio_samples,
    });
}

/// Add the row of what the coordinator's table can't hold to `rows`, unless there is one.
pub(crate) fn insert_own(rows: &mut RowBatch, row: &CapabilityRow, owner: &PrincipalId, now: Timestamp) {
    push_row!(rows, "am_creative_capabilities" {
        capability_id: &row.capability_id,
        agent_id: &row.agent_id,
        owner_id: owner,
        claimed_score: row.claimed_score.unwrap_or(row.originality_score),
        created_at: now,
    } "ON CONFLICT (capability_id) DO NOTHING");
}

/// Store the averages after an evaluation, in both tables. Where a figure is not known, the coordinator's column keeps its value.
pub(crate) async fn store_evaluation(
    tx: &mut Tx,
    row: &CapabilityRow,
    averages: &CreativeFigures,
    now: Timestamp,
) -> Result<()> {
    update!("creative_capabilities" {
        originality_score: averages.originality.unwrap_or(row.originality_score),
        novelty_score: averages.novelty.unwrap_or(row.novelty_score),
        aesthetic_quality: averages.aesthetic_quality.unwrap_or(row.aesthetic_quality),
        coherence_score: averages.coherence.unwrap_or(row.coherence_score),
        creations_generated: row.creations_generated,
        expert_evaluations: row.expert_evaluations.clone(),
        status: &row.status,
        last_evaluation: now,
        updated_at: now,
    } where "capability_id = $1" (&row.capability_id))
    .execute(tx.conn().await?)
    .await?;
    update!("am_creative_capabilities" {
        originality: averages.originality,
        novelty: averages.novelty,
        aesthetic: averages.aesthetic_quality,
        coherence: averages.coherence,
        evaluations: row.evaluations.unwrap_or(0) + 1,
    } where "capability_id = $1" (&row.capability_id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Store the number of kinds of works.
pub(crate) async fn store_variety(
    tx: &mut Tx,
    row: &CapabilityRow,
    variety: Option<i64>,
    now: Timestamp,
) -> Result<()> {
    update!("creative_capabilities" {
        style_variety: variety.unwrap_or(row.style_variety),
        updated_at: now,
    } where "capability_id = $1" (&row.capability_id))
    .execute(tx.conn().await?)
    .await?;
    update!("am_creative_capabilities" { style_variety: variety } where "capability_id = $1" (&row.capability_id))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Add the row of a text to `rows`, unless the capability has the same in this role.
pub(crate) fn insert_work(rows: &mut RowBatch, work: &WorkDocument) {
    push_row!(rows, "am_creative_works" {
        id: &work.id,
        capability_id: &work.capability_id,
        role: work.role,
        title: work.title.as_deref(),
        text: &work.text,
        bytes: work.text.len() as i64,
        sha256: &work.sha256,
        created_at: work.created_at,
    } "ON CONFLICT (capability_id, role, sha256) DO NOTHING");
}

/// Texts of a capability in one role, the newest first, at most `most`.
pub(crate) async fn works(
    conn: &mut Connection,
    capability: &CreativeCapabilityId,
    role: WorkRole,
    most: i64,
) -> Result<Vec<WorkDocument>> {
    let found = sql!(
        "SELECT ",
        WorkDocument::COLUMNS,
        " FROM am_creative_works WHERE capability_id = $1 AND role = $2 ORDER BY created_at DESC, id DESC LIMIT $3",
    );
    found.bind(capability).bind(role).bind(most).fetch_all(conn).await
}

/// A page of a capability's texts.
pub(crate) async fn list_works(
    conn: &mut Connection,
    capability: &CreativeCapabilityId,
    page: &PageRequest,
) -> Result<Vec<WorkDocument>> {
    let found = sql!("SELECT ", WorkDocument::COLUMNS, " FROM am_creative_works WHERE capability_id = $1 {page $2}");
    found.bind(capability).bind_page(page).fetch_all(conn).await
}

/// How many texts the corpus has, and their bytes together.
pub(crate) async fn corpus_size(conn: &mut Connection, capability: &CreativeCapabilityId) -> Result<(i64, i64)> {
    let size = sql!(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM am_creative_works WHERE capability_id = $1
         AND role IN ('OWN', 'REFERENCE')",
    );
    size.bind(capability).fetch_one(conn).await
}

/// Which of these texts, by their SHA-256, the capability has in this role.
pub(crate) async fn has_work(
    conn: &mut Connection,
    capability: &CreativeCapabilityId,
    role: WorkRole,
    sha256: &str,
) -> Result<bool> {
    let found = sql!("SELECT 1 FROM am_creative_works WHERE capability_id = $1 AND role = $2 AND sha256 = $3");
    found.bind(capability).bind(role).bind(sha256).exists(conn).await
}

/// Delete a text of the corpus; whether there was one.
pub(crate) async fn delete_work(tx: &mut Tx, capability: &CreativeCapabilityId, id: &CreativeWorkId) -> Result<bool> {
    let deleted =
        sql!("DELETE FROM am_creative_works WHERE id = $2 AND capability_id = $1 AND role IN ('OWN', 'REFERENCE')");
    Ok(deleted.bind(capability).bind(id).execute(tx.conn().await?).await? > 0)
}

/// Delete the evaluated creations behind the newest `kept`.
pub(crate) async fn trim_creations(tx: &mut Tx, capability: &CreativeCapabilityId, kept: i64) -> Result<()> {
    let deleted = sql!(
        "DELETE FROM am_creative_works WHERE id IN (SELECT id FROM am_creative_works
             WHERE capability_id = $1 AND role = 'CREATION' ORDER BY created_at DESC, id DESC LIMIT 10 OFFSET $2)",
    );
    deleted.bind(capability).bind(kept).execute(tx.conn().await?).await?;
    Ok(())
}

/// Store the gain of an enhancement for each of its cycles.
pub(crate) async fn store_learning_rate(
    tx: &mut Tx,
    capability: &CreativeCapabilityId,
    rate: f64,
    now: Timestamp,
) -> Result<()> {
    update!("creative_capabilities" {
        creative_learning_rate: rate,
        updated_at: now,
    } where "capability_id = $1" (capability))
    .execute(tx.conn().await?)
    .await?;
    update!("am_creative_capabilities" { learning_rate: rate } where "capability_id = $1" (capability))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// A JSON column's text.
pub(crate) fn json_text(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))
}
