//! Tables `am_agents`, `am_agent_work` and `am_registry`.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{QueryBuilder, Row as _};

use super::model::{Agent, AgentStatus, Filter, OfflineReason, TaskType, Work};
use crate::error::{Result, unreadable};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
    rows::{Insert, Rows},
};
use am_events::Event;

/// The registry's event stream.
pub const STREAM: &str = "registry";

static AGENTS: Insert = Insert::into(
    "am_agents",
    "id, owner_id, agent_type, description, task_types, gpu_tier, max_concurrent_tasks, claimed_performance, \
     performance_reported, claimed_reliability, cost_per_hour, endpoint_url, metadata, status, offline_reason, \
     reported_load, last_seen, created_at, updated_at",
)
.on_conflict(
    "ON CONFLICT (id) DO UPDATE SET agent_type = excluded.agent_type, description = excluded.description, \
     task_types = excluded.task_types, gpu_tier = excluded.gpu_tier, max_concurrent_tasks = excluded.max_concurrent_tasks, \
     claimed_performance = excluded.claimed_performance, performance_reported = excluded.performance_reported, \
     claimed_reliability = excluded.claimed_reliability, cost_per_hour = excluded.cost_per_hour, \
     endpoint_url = excluded.endpoint_url, metadata = excluded.metadata, status = excluded.status, \
     offline_reason = excluded.offline_reason, reported_load = excluded.reported_load, last_seen = excluded.last_seen, \
     updated_at = excluded.updated_at",
);

const COLUMNS: &str = "SELECT a.id, a.owner_id, a.agent_type, a.description, a.task_types, a.gpu_tier, a.max_concurrent_tasks, \
     a.claimed_performance, a.performance_reported, a.claimed_reliability, a.cost_per_hour, a.endpoint_url, a.metadata, \
     a.status, a.offline_reason, a.reported_load, a.last_seen, a.created_at, a.updated_at, \
     (SELECT count(*) FROM am_assignments s WHERE s.agent_id = a.id AND s.state IN ('OFFERED', 'ACCEPTED')), \
     (SELECT json_group_array(json_array(w.task_type, w.completed, w.failed, w.lost, w.seconds)) FROM am_agent_work w \
      WHERE w.agent_id = a.id) \
     FROM am_agents a";

/// An entry as of a moment: one that was heard of last before `cutoff` is offline.
fn agent(row: &Row, cutoff: Timestamp) -> Result<Agent> {
    let list =
        |what: &str, text: &str| serde_json::from_str::<Vec<Value>>(text).map_err(|error| unreadable(what, error));
    let types = list("am_agents.task_types", row.try_get(4)?)?;
    let task_types = types.iter().filter_map(|word| TaskType::from_value(word.as_str()?)).collect();
    let mut agent = Agent {
        id: row.try_get(0)?,
        owner_id: row.try_get(1)?,
        agent_type: row.try_get(2)?,
        description: row.try_get(3)?,
        task_types,
        gpu_tier: row.try_get(5)?,
        max_concurrent_tasks: row.try_get(6)?,
        claimed_performance: row.try_get(7)?,
        performance_reported: row.try_get(8)?,
        claimed_reliability: row.try_get(9)?,
        cost_per_hour: row.try_get(10)?,
        endpoint_url: row.try_get(11)?,
        metadata: row.try_get::<Option<Doc>, _>(12)?.unwrap_or_else(Doc::none),
        status: row.try_get(13)?,
        offline_reason: row.try_get(14)?,
        reported_load: row.try_get(15)?,
        last_seen: row.try_get(16)?,
        created_at: row.try_get(17)?,
        updated_at: row.try_get(18)?,
        open: row.try_get(19)?,
        work: BTreeMap::new(),
    };
    if agent.status == AgentStatus::Online && agent.last_seen < cutoff {
        (agent.status, agent.offline_reason) = (AgentStatus::Offline, Some(OfflineReason::Silent));
    }
    for entry in list("am_agent_work", row.try_get(20)?)? {
        let number = |at: usize| entry.get(at).and_then(Value::as_i64).unwrap_or(0);
        if let Some(task_type) = entry.get(0).and_then(Value::as_str).and_then(TaskType::from_stored) {
            let seconds = entry.get(4).and_then(Value::as_f64).unwrap_or(0.0);
            let work = Work { completed: number(1), failed: number(2), lost: number(3), seconds };
            agent.work.insert(task_type, work);
        }
    }
    Ok(agent)
}

/// One entry.
pub async fn get(conn: &mut Connection, id: &str, cutoff: Timestamp) -> Result<Option<Agent>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" WHERE a.id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.as_ref().map(|row| agent(row, cutoff)).transpose()
}

/// All entries, by name.
pub async fn all(conn: &mut Connection, cutoff: Timestamp) -> Result<Vec<Agent>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" ORDER BY a.id");
    query.build().fetch_all(conn).await?.iter().map(|row| agent(row, cutoff)).collect()
}

fn push_filter(query: &mut QueryBuilder<Db>, filter: &Filter, cutoff: Timestamp) {
    query.push(" WHERE true");
    match filter.status {
        None => {}
        Some(AgentStatus::Online) => {
            query.push(" AND a.status = 'ONLINE' AND a.last_seen >= ").push_bind(cutoff);
        }
        Some(AgentStatus::Offline) => {
            query.push(" AND (a.status = 'OFFLINE' OR a.last_seen < ").push_bind(cutoff).push(")");
        }
    }
    if let Some(task_type) = filter.task_type {
        query.push(" AND EXISTS (SELECT 1 FROM json_each(a.task_types) t WHERE t.value = ");
        query.push_bind(task_type.value()).push(")");
    }
    if let Some(tier) = filter.gpu_tier {
        query.push(" AND a.gpu_tier = ").push_bind(tier);
    }
    if let Some(kind) = &filter.agent_type {
        query.push(" AND a.agent_type = ").push_bind(kind.clone());
    }
}

/// A page, newest first, and how many match.
pub async fn list(conn: &mut Connection, filter: &Filter, cutoff: Timestamp) -> Result<(Vec<Agent>, i64)> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    push_filter(&mut query, filter, cutoff);
    filter.page.push(&mut query, "a.");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*) FROM am_agents a");
    push_filter(&mut count, filter, cutoff);
    let total = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(|row| agent(row, cutoff)).collect::<Result<_>>()?, total))
}

/// Mean seconds of the quickest agent, by type.
pub async fn fastest(conn: &mut Connection) -> Result<BTreeMap<TaskType, f64>> {
    let rows: Vec<(TaskType, f64)> = sqlx::query_as(
        "SELECT task_type, min(seconds / completed) FROM am_agent_work WHERE completed > 0 GROUP BY task_type",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Mean seconds over all agents, by type.
pub async fn usual(conn: &mut Connection) -> Result<BTreeMap<TaskType, f64>> {
    let rows: Vec<(TaskType, f64)> = sqlx::query_as(
        "SELECT task_type, sum(seconds) / sum(completed) FROM am_agent_work WHERE completed > 0 GROUP BY task_type",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Write an entry as it stands.
pub async fn put(tx: &mut Tx, agent: &Agent) -> Result<()> {
    let mut rows = Rows::default();
    let task_types = serde_json::to_string(&agent.task_types)?;
    rows.push(&AGENTS, |row| {
        row.put(&agent.id).put(&agent.owner_id).put(&agent.agent_type).put(&agent.description).put(&task_types);
        row.put(agent.gpu_tier.stored()).put(agent.max_concurrent_tasks).put(agent.claimed_performance);
        row.put(agent.performance_reported).put(agent.claimed_reliability).put(agent.cost_per_hour);
        row.put(agent.endpoint_url.as_deref()).put(&agent.metadata).put(agent.status.stored());
        row.put(agent.offline_reason.map(OfflineReason::stored)).put(agent.reported_load).put(agent.last_seen);
        row.put(agent.created_at).put(agent.updated_at);
    });
    Ok(rows.execute(tx).await?)
}

/// Forget an entry. What became of its work is kept.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    sqlx::query("DELETE FROM am_agents WHERE id = ?1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}

/// Those that are online by their row and were heard of last before `cutoff`.
pub async fn silent(conn: &mut Connection, cutoff: Timestamp) -> Result<Vec<String>> {
    let silent = sqlx::query_scalar("SELECT id FROM am_agents WHERE status = 'ONLINE' AND last_seen < ?1 LIMIT 500");
    Ok(silent.bind(cutoff).fetch_all(conn).await?)
}

/// How many are registered, and how many of them are online.
pub async fn counts(conn: &mut Connection, cutoff: Timestamp) -> Result<(i64, i64)> {
    let counts =
        sqlx::query_as("SELECT count(*), coalesce(sum(status = 'ONLINE' AND last_seen >= ?1), 0) FROM am_agents");
    Ok(counts.bind(cutoff).fetch_one(conn).await?)
}

/// Count what became of an assignment: `work` has the differences.
pub async fn note(tx: &mut Tx, agent_id: &str, task_type: TaskType, work: Work) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_agent_work (agent_id, task_type, completed, failed, lost, seconds) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (agent_id, task_type) DO UPDATE SET completed = completed + excluded.completed,
             failed = failed + excluded.failed, lost = lost + excluded.lost, seconds = seconds + excluded.seconds",
    )
    .bind(agent_id)
    .bind(task_type)
    .bind(work.completed)
    .bind(work.failed)
    .bind(work.lost)
    .bind(work.seconds)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Append to the registry's stream.
pub async fn tell(tx: &mut Tx, kind: &str, now: Timestamp, data: Value) -> Result<()> {
    let seq: i64 =
        sqlx::query_scalar("UPDATE am_registry SET last_event = last_event + 1 WHERE stream = ?1 RETURNING last_event")
            .bind(STREAM)
            .fetch_one(tx.conn().await?)
            .await?;
    am_events::append(tx, STREAM, &[Event { seq, kind: kind.to_owned(), at: now, data }]).await?;
    Ok(())
}
