//! SQL of tables `agent_performance_profiles`, `am_profiles` and those beside them.

use std::collections::{BTreeMap, BTreeSet};

use am_core::ids::{AgentId, PrincipalId};
use am_db::{
    Connection, DatabaseError, FromRow, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText, Timestamp},
    push_change, push_row, row,
    row::Columns,
    sql,
    statement::Query,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    measured::MeasuredWork,
    model::{ProfileMetrics, ProfileRecord, RankedProfile},
    score::score_bucket,
};

row! {
    ProfileRecord from "p." {
        id,
        profile_id,
        agent_id,
        agent_type,
        overall_score,
        performance_metrics => JsonOr::into_inner,
        learning_strategies => JsonOr::into_inner,
        resource_efficiency => JsonOr::into_inner,
        cost_per_task,
        throughput,
        average_latency,
        specialization_areas => JsonOr::into_inner,
        expertise_levels => JsonOr::into_inner,
        performance_history,
        improvement_trends => JsonOr::into_inner,
        created_at,
        updated_at,
        last_assessed,
        owner_id = "a.owner_id",
        reports = "a.reports",
        measured = "a.measured" => JsonOr::into_inner,
        agent_owner = "coalesce((SELECT g.owner_id FROM am_agents g WHERE g.id = p.agent_id),
            (SELECT c.owner_id FROM am_agent_claims c WHERE c.agent_id = p.agent_id))",
    }
}

/// A profile, and where its score stands by what this service keeps.
pub(super) struct PlacedProfile {
    pub record: ProfileRecord,
    /// `None`: the score is not the one that is kept.
    pub place: Option<ScorePlace>,
}

impl FromRow for PlacedProfile {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        let record = ProfileRecord::from_row(columns)?;
        let kept: Option<f64> = columns.next_value()?;
        let (ranked, better) = columns.next_json("place")?;
        let place = (kept == Some(record.overall_score)).then_some(ScorePlace { ranked, better });
        Ok(Self { record, place })
    }
}

row! {
    RankedProfile from "a." {
        agent_id,
        profile_id = "a.id",
        agent_type,
        overall_score = "a.score",
        reports,
        created_at,
    }
}

/// The type that counts all types.
const ALL_TYPES: &str = "*";

/// Where a score stands among those of its type.
pub(super) struct ScorePlace {
    /// Profiles with a score.
    pub ranked: i64,
    /// Profiles with a higher one.
    pub better: i64,
}

pub(super) fn json(value: &impl Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Which of an agent's rows, `p`, is its profile: that of this service's row beside it, `a`; of several that the coordinator made, the
/// last.
const PRESENT: &str = " LEFT JOIN am_profiles a ON a.agent_id = p.agent_id
    WHERE p.id = coalesce(a.id, (SELECT max(y.id) FROM agent_performance_profiles y WHERE y.agent_id = p.agent_id))";

/// The profile of an agent.
pub(super) async fn find(conn: &mut Connection, agent: &AgentId) -> Result<Option<ProfileRecord>> {
    let found =
        sql!("SELECT ", ProfileRecord::COLUMNS, " FROM agent_performance_profiles p", PRESENT, " AND p.agent_id = $1",);
    found.bind(agent).fetch_optional(conn).await
}

/// The same, with its place among those of its type.
pub(super) async fn find_placed(conn: &mut Connection, agent: &AgentId) -> Result<Option<PlacedProfile>> {
    let found = sql!(
        "SELECT ",
        ProfileRecord::COLUMNS,
        ", a.score, (SELECT CAST({array coalesce(sum(k.profiles), 0), coalesce(sum(k.profiles) FILTER (WHERE k.bucket > a.bucket), 0)
                 + (SELECT count(*) FROM am_profiles b WHERE b.agent_type = p.agent_type AND b.bucket = a.bucket AND b.score > a.score)} AS TEXT)
             FROM am_profile_ranks k WHERE k.agent_type = p.agent_type)
         FROM agent_performance_profiles p",
        PRESENT,
        " AND p.agent_id = $1",
    );
    found.bind(agent).fetch_optional(conn).await
}

/// Profiles of agents; that of each as [`find`] has it.
pub(super) async fn find_all<'a>(
    conn: &mut Connection,
    agents: impl Iterator<Item = &'a AgentId>,
) -> Result<Vec<ProfileRecord>> {
    let agents: BTreeSet<[&AgentId; 1]> = agents.map(|agent| [agent]).collect();
    let found = sql!(
        "SELECT ",
        ProfileRecord::COLUMNS,
        " FROM {records $1 agent_id:text} AS r
         {then} agent_performance_profiles p ON p.agent_id = r.agent_id",
        PRESENT,
    );
    let agents = serde_json::to_string(&agents).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    found.bind(agents).fetch_all(conn).await
}

/// Write the rows of a profile, new or changed, what is kept of it beside, and `rows`.
pub(super) async fn save(tx: &mut Tx, record: &ProfileRecord, is_new: bool, mut rows: RowBatch) -> Result<()> {
    if is_new {
        push_profile(&mut rows, record)?;
        push_beside(&mut rows, record)?;
    } else {
        push_changed(&mut rows, std::iter::once(record))?;
    }
    rows.execute(tx).await
}

/// Changes of profiles that are there.
pub(super) fn push_changed<'a>(
    rows: &mut RowBatch,
    records: impl Iterator<Item = &'a ProfileRecord> + Clone,
) -> Result<()> {
    for record in records.clone() {
        push_change!(
            rows,
            (
                &record.id,
                record.overall_score,
                json(&record.performance_metrics)?,
                json(&record.resource_efficiency)?,
                record.cost_per_task,
                record.throughput,
                record.average_latency,
                record.performance_history.as_deref().unwrap_or("[]"),
                json(&record.improvement_trends)?,
                record.updated_at,
                record.last_assessed,
            ),
            "UPDATE agent_performance_profiles SET overall_score = r.score, performance_metrics = r.metrics,
                 resource_efficiency = r.efficiency, cost_per_task = r.cost, throughput = r.throughput, average_latency = r.latency,
                 performance_history = r.history, improvement_trends = r.trends, updated_at = r.updated, last_assessed = r.assessed
             FROM {records $1 id:text score:float metrics:json efficiency:json cost:float throughput:float latency:float
                 history:json trends:json updated:timestamp assessed:timestamp} AS r
             WHERE agent_performance_profiles.id = r.id"
        );
    }
    records.clone().try_for_each(|record| push_beside(rows, record))
}

fn push_profile(rows: &mut RowBatch, record: &ProfileRecord) -> Result<()> {
    let empty = serde_json::json!({});
    push_row!(rows, "agent_performance_profiles" {
        id: &record.id,
        profile_id: &record.profile_id,
        agent_id: &record.agent_id,
        agent_type: &record.agent_type,
        agent_version: "1.0.0",
        overall_score: record.overall_score,
        performance_metrics: json(&record.performance_metrics)?,
        learning_strategies: json(&record.learning_strategies)?,
        adaptation_rate: 0.0,
        generalization_score: 0.0,
        resource_efficiency: json(&record.resource_efficiency)?,
        cost_per_task: record.cost_per_task,
        throughput: record.throughput,
        average_latency: record.average_latency,
        specialization_areas: json(&record.specialization_areas)?,
        expertise_levels: json(&record.expertise_levels)?,
        performance_history: record.performance_history.as_deref().unwrap_or("[]"),
        improvement_trends: json(&record.improvement_trends)?,
        benchmark_scores: json(&empty)?,
        created_at: record.created_at,
        updated_at: record.updated_at,
        last_assessed: record.last_assessed,
        profile_meta_data: json(&empty)?,
        performance_notes: "",
    });
    Ok(())
}

/// The row of this service beside the coordinator's.
pub(super) fn push_beside(rows: &mut RowBatch, record: &ProfileRecord) -> Result<()> {
    let has_score = record.performance_metrics.as_object().is_some_and(|metrics| !metrics.is_empty());
    let score = has_score.then_some(record.overall_score);
    push_row!(rows, "am_profiles" {
        agent_id: &record.agent_id,
        id: &record.id,
        owner_id: record.owner_id.as_deref().unwrap_or_default(),
        agent_type: &record.agent_type,
        score: score,
        bucket: score.map(score_bucket),
        reports: record.reports.unwrap_or(0),
        measured: json(&record.measured)?,
        created_at: record.created_at,
    } update on (agent_id) except (created_at));
    Ok(())
}

/// Values of an agent's metrics at a moment.
pub(super) struct ProfileValues {
    pub agent: AgentId,
    /// The stored owner of its profile; empty: none.
    pub owner: String,
    pub metrics: ProfileMetrics,
    pub at: Timestamp,
}

impl ProfileValues {
    /// What was reported, with the score that it gave.
    pub(super) fn reported(record: &ProfileRecord, metrics: &ProfileMetrics, at: Timestamp) -> Self {
        let mut metrics = metrics.clone();
        metrics.insert("overall_score".to_owned(), record.overall_score);
        Self { agent: record.agent_id.clone(), owner: record.owner_id.clone().unwrap_or_default(), metrics, at }
    }
}

/// The last values of metrics, and the points of their series.
pub(super) fn push_metrics(rows: &mut RowBatch, reports: &[ProfileValues]) {
    let mut last = BTreeMap::new();
    for report in reports {
        last.extend(report.metrics.iter().map(|(name, value)| ((&report.agent, name), (*value, report))));
    }
    for ((agent, name), (value, report)) in last {
        push_row!(rows, "am_profile_metrics" {
            agent_id: agent,
            metric: name,
            owner_id: &report.owner,
            value: value,
            hour: hour_of(report.at),
            reported_at: report.at,
        } update on (agent_id, metric));
    }
    for report in reports {
        for (name, value) in &report.metrics {
            push_point(rows, &report.agent, name, *value, report.at);
        }
    }
}

/// A point of a series.
pub(super) fn push_point(rows: &mut RowBatch, agent: &AgentId, metric: &str, value: f64, at: Timestamp) {
    push_row!(rows, "am_profile_points" {
        agent_id: agent,
        metric: metric,
        value: value,
        happened_at: at,
    });
}

/// The hour of a moment, as sums are kept: `2026-12-01T09`.
pub(super) fn hour_of(at: Timestamp) -> String {
    at.0.format("%Y-%m-%dT%H").to_string()
}

/// Where a score stands among the profiles of a type.
pub(super) async fn place_of(conn: &mut Connection, agent_type: &str, score: f64) -> Result<ScorePlace> {
    let place = sql!(
        "SELECT coalesce(sum(profiles), 0), coalesce(sum(profiles) FILTER (WHERE bucket > $2), 0)
             + (SELECT count(*) FROM am_profiles a WHERE a.agent_type = $1 AND a.bucket = $2 AND a.score > $3)
         FROM am_profile_ranks WHERE agent_type = $1",
    );
    let (ranked, better): (i64, i64) =
        place.bind(agent_type).bind(score_bucket(score)).bind(score).fetch_one(conn).await?;
    Ok(ScorePlace { ranked, better })
}

/// How many profiles of a type, or of all, have a score.
pub(super) async fn count_ranked(conn: &mut Connection, agent_type: Option<&str>) -> Result<i64> {
    let count = sql!("SELECT coalesce(sum(profiles), 0) FROM am_profile_ranks WHERE agent_type = $1");
    count.bind(agent_type.unwrap_or(ALL_TYPES)).fetch_value(conn).await
}

/// A page of profiles by their scores, the best first, behind that of an agent.
pub(super) async fn ranking(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    agent_type: Option<&str>,
    after: Option<(f64, String)>,
    (limit, offset): (i64, i64),
) -> Result<Vec<RankedProfile>> {
    const BEHIND: &str =
        " [AND (a.score, a.agent_id) < ($1, $2)] ORDER BY a.score DESC, a.agent_id DESC LIMIT $3 OFFSET $4";
    let (score, agent) = after.unzip();
    let bound = |query: Query| query.bind_some(score).bind_some(agent.as_deref()).bind(limit).bind(offset);
    let query = match (owner, agent_type) {
        (None, None) => bound(sql!(
            "SELECT ",
            RankedProfile::COLUMNS,
            " FROM am_profiles a {by am_profiles_rank} WHERE a.score IS NOT NULL",
            BEHIND,
        )),
        (None, Some(kind)) => bound(sql!(
            "SELECT ",
            RankedProfile::COLUMNS,
            " FROM am_profiles a {by am_profiles_type_rank} WHERE a.score IS NOT NULL AND a.agent_type = $5",
            BEHIND,
        ))
        .bind(kind),
        (Some(owner), None) => bound(sql!(
            "SELECT ",
            RankedProfile::COLUMNS,
            " FROM am_profiles a {by am_profiles_owner_rank} WHERE a.score IS NOT NULL AND a.owner_id = $5",
            BEHIND,
        ))
        .bind(owner),
        (Some(owner), Some(kind)) => bound(sql!(
            "SELECT ",
            RankedProfile::COLUMNS,
            " FROM am_profiles a {by am_profiles_owner_type_rank} WHERE a.score IS NOT NULL AND a.owner_id = $5 AND a.agent_type = $6",
            BEHIND,
        ))
        .bind(owner)
        .bind(kind),
    };
    query.fetch_all(conn).await
}

/// The score of an agent's profile.
pub(super) async fn score_of(conn: &mut Connection, agent: &str) -> Result<Option<f64>> {
    let score: Option<Option<f64>> =
        sql!("SELECT score FROM am_profiles WHERE agent_id = $1").bind(agent).fetch_optional_value(conn).await?;
    Ok(score.flatten())
}

/// Profiles that the coordinator made behind a place, with their places.
pub(super) async fn made_by_others(conn: &mut Connection, place: i64, limit: i64) -> Result<Vec<(i64, AgentId)>> {
    let found = sql!(
        "SELECT {place p}, p.agent_id FROM agent_performance_profiles p WHERE {place p} > $1 ORDER BY {place p} LIMIT $2",
    );
    found.bind(place).bind(limit).fetch_all(conn).await
}

/// Owner and type of a registered agent.
pub(super) async fn registered(conn: &mut Connection, agent: &AgentId) -> Result<Option<(String, String)>> {
    sql!("SELECT owner_id, agent_type FROM am_agents WHERE id = $1").bind(agent).fetch_optional(conn).await
}

/// Whether there is a profile with this name of an agent in this service's table.
pub(super) async fn is_kept(conn: &mut Connection, agent: &AgentId) -> Result<bool> {
    sql!("SELECT 1 FROM am_profiles WHERE agent_id = $1").bind(agent).exists(conn).await
}

/// An empty record, of a profile that is made now.
pub(super) fn new_record(
    id: String,
    (agent_id, agent_type): (AgentId, String),
    owner: Option<String>,
    now: Timestamp,
) -> ProfileRecord {
    let (list, object) = (Value::Array(Vec::new()), serde_json::json!({}));
    ProfileRecord {
        profile_id: id.clone(),
        id,
        agent_id,
        agent_type,
        overall_score: 0.0,
        performance_metrics: object.clone(),
        learning_strategies: list.clone(),
        resource_efficiency: object.clone(),
        cost_per_task: 0.0,
        throughput: 0.0,
        average_latency: 0.0,
        specialization_areas: list.clone(),
        expertise_levels: object.clone(),
        performance_history: None,
        improvement_trends: object,
        created_at: now,
        updated_at: now,
        last_assessed: None,
        owner_id: owner,
        reports: Some(0),
        measured: None::<MeasuredWork>,
        agent_owner: None,
    }
}
