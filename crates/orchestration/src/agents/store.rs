//! Queries of the tables `am_agents`, `am_agent_work` and `am_registry`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{AgentFilter, AgentStatus, OfflineReason, RegisteredAgentRecord, TaskStats, TaskType};
use crate::{error::Result, event_kinds::RegistryEventKind};
use am_core::ids::{AgentId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Tx,
    codec::{Json, Timestamp},
    insert,
    principal::Principal,
    row, sql,
    statement::Query,
};
use am_events::StreamEvent;

/// Event stream of the registry.
pub const REGISTRY_STREAM: &str = "registry";

row! {
    RegisteredAgentRecord from "a." {
        id,
        owner_id,
        agent_type,
        description,
        task_types => known_types,
        gpu_tier,
        max_concurrent_tasks,
        claimed_performance,
        performance_reported,
        claimed_reliability,
        cost_per_hour,
        endpoint_url,
        metadata,
        profile => Json::into_inner,
        status,
        offline_reason,
        reported_load,
        last_seen,
        created_at,
        updated_at,
        incarnation = "(SELECT coalesce(max(i.incarnation), 1) FROM am_agent_incarnations i WHERE i.agent_id = a.id)",
        open = "(SELECT count(*) FROM am_assignments s WHERE s.agent_id = a.id AND s.state IN ('OFFERED', 'ACCEPTED'))",
        work = "(SELECT {arrays {array w.task_type, w.completed, w.failed, w.lost, w.seconds}} FROM am_agent_work w WHERE w.agent_id = a.id)"
            => work_by_type,
    }
}

fn known_types(Json(words): Json<Vec<Value>>) -> Vec<TaskType> {
    words.iter().filter_map(|word| TaskType::from_value(word.as_str()?)).collect()
}

fn work_by_type(Json(entries): Json<Vec<Value>>) -> BTreeMap<TaskType, TaskStats> {
    let work = entries.iter().filter_map(|entry| {
        let number = |at: usize| entry.get(at).and_then(Value::as_i64).unwrap_or(0);
        let task_type = TaskType::from_stored(entry.get(0)?.as_str()?)?;
        let seconds = entry.get(4).and_then(Value::as_f64).unwrap_or(0.0);
        Some((task_type, TaskStats { completed: number(1), failed: number(2), lost: number(3), seconds }))
    });
    work.collect()
}

/// Read an agent from a row; one last heard of before `cutoff` is offline.
fn as_of(mut agent: RegisteredAgentRecord, cutoff: Timestamp) -> RegisteredAgentRecord {
    if agent.status == AgentStatus::Online && agent.last_seen < cutoff {
        (agent.status, agent.offline_reason) = (AgentStatus::Offline, Some(OfflineReason::Silent));
    }
    agent
}

/// Read one agent.
pub async fn get(conn: &mut Connection, id: &AgentId, cutoff: Timestamp) -> Result<Option<RegisteredAgentRecord>> {
    let agent = sql!("SELECT ", RegisteredAgentRecord::COLUMNS, " FROM am_agents a WHERE a.id = $1").bind(id);
    Ok(agent.fetch_optional(conn).await?.map(|agent| as_of(agent, cutoff)))
}

/// Read all agents, by name.
pub async fn list_all(conn: &mut Connection, cutoff: Timestamp) -> Result<Vec<RegisteredAgentRecord>> {
    let agents =
        sql!("SELECT ", RegisteredAgentRecord::COLUMNS, " FROM am_agents a ORDER BY a.id").fetch_all(conn).await?;
    Ok(agents.into_iter().map(|agent| as_of(agent, cutoff)).collect())
}

const MATCHING: &str = " FROM am_agents a WHERE true [?1 AND a.status = 'ONLINE' AND a.last_seen >= $2]
     [?3 AND (a.status = 'OFFLINE' OR a.last_seen < $2)] [AND {has a.task_types $4}] [AND a.gpu_tier = $5] [AND a.agent_type = $6] ";

fn bind_filter(query: Query, filter: &AgentFilter, cutoff: Timestamp) -> Query {
    query
        .bind_flag(filter.status == Some(AgentStatus::Online))
        .bind_some(filter.status.map(|_| cutoff))
        .bind_flag(filter.status == Some(AgentStatus::Offline))
        .bind_some(filter.task_type.map(TaskType::value))
        .bind_some(filter.gpu_tier)
        .bind_some(filter.agent_type.as_ref())
}

/// Read a page, newest first, and the number of matching agents.
pub async fn list(
    conn: &mut Connection,
    filter: &AgentFilter,
    cutoff: Timestamp,
) -> Result<(Vec<RegisteredAgentRecord>, i64)> {
    let agents = bind_filter(sql!("SELECT ", RegisteredAgentRecord::COLUMNS, MATCHING, "{page a. $7}"), filter, cutoff);
    let agents = agents.bind_page(&filter.page).fetch_all(&mut *conn).await?;
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span a. $7}"), filter, cutoff);
    let total = total.bind_span(filter.page.created).fetch_value(conn).await?;
    Ok((agents.into_iter().map(|agent| as_of(agent, cutoff)).collect(), total))
}

/// Read the mean seconds of the fastest agent, by type.
pub async fn fastest_mean_seconds(conn: &mut Connection) -> Result<BTreeMap<TaskType, f64>> {
    let rows = sql!(
        "SELECT task_type, fastest FROM (SELECT task_type,
             (SELECT min(w.seconds / w.completed) FROM am_agent_work w WHERE w.task_type = s.task_type AND w.completed > 0) AS fastest
         FROM am_agent_work_sums s) AS types WHERE fastest IS NOT NULL"
    );
    Ok(rows.fetch_all(conn).await?.into_iter().collect())
}

/// Read the mean seconds over all agents, by type.
pub async fn average_seconds(conn: &mut Connection) -> Result<BTreeMap<TaskType, f64>> {
    let rows = sql!("SELECT task_type, seconds / completed FROM am_agent_work_sums WHERE completed > 0");
    Ok(rows.fetch_all(conn).await?.into_iter().collect())
}

/// Insert or replace an agent.
pub async fn upsert(tx: &mut Tx, agent: &RegisteredAgentRecord) -> Result<()> {
    insert!("am_agents" {
        id: &agent.id,
        owner_id: &agent.owner_id,
        agent_type: &agent.agent_type,
        description: &agent.description,
        task_types: serde_json::to_string(&agent.task_types)?,
        gpu_tier: agent.gpu_tier,
        max_concurrent_tasks: agent.max_concurrent_tasks,
        claimed_performance: agent.claimed_performance,
        performance_reported: agent.performance_reported,
        claimed_reliability: agent.claimed_reliability,
        cost_per_hour: agent.cost_per_hour,
        endpoint_url: &agent.endpoint_url,
        metadata: &agent.metadata,
        profile: serde_json::to_string(&agent.profile)?,
        status: agent.status,
        offline_reason: agent.offline_reason,
        reported_load: agent.reported_load,
        last_seen: agent.last_seen,
        created_at: agent.created_at,
        updated_at: agent.updated_at,
    } update on (id) except (owner_id, created_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Note who registers an agent's id. Returns its incarnation: the present one, or the next if it was another owner's, of whom
/// no statistics are kept.
pub async fn incarnate(tx: &mut Tx, id: &AgentId, owner: &Principal) -> Result<i64> {
    let last = sql!("SELECT owner_id, incarnation FROM am_agent_incarnations WHERE agent_id = $1").bind(id);
    let last: Option<(PrincipalId, i64)> = last.fetch_optional(tx.conn().await?).await?;
    let incarnation = match last {
        Some((last_owner, incarnation)) if owner.owns(&last_owner) => return Ok(incarnation),
        Some((_, incarnation)) => incarnation + 1,
        None => 1,
    };
    insert!("am_agent_incarnations" { agent_id: id, owner_id: owner.id(), incarnation: incarnation } update on (agent_id))
        .execute(tx.conn().await?)
        .await?;
    sql!("DELETE FROM am_agent_work WHERE agent_id = $1").bind(id).execute(tx.conn().await?).await?;
    Ok(incarnation)
}

/// Count the agents that a principal has registered.
pub async fn count_of_owner(conn: &mut Connection, owner: &Principal) -> Result<i64> {
    let count = sql!("SELECT count(*) FROM am_agents a WHERE a.owner_id = $1").bind(owner.id());
    Ok(count.fetch_value(conn).await?)
}

/// Delete an agent. Its statistics are kept for its owner.
pub async fn delete(tx: &mut Tx, id: &AgentId) -> Result<()> {
    sql!("DELETE FROM am_agents WHERE id = $1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}

/// Read the ids of agents that are online by their row and were last heard of before `cutoff`.
pub async fn list_silent(conn: &mut Connection, cutoff: Timestamp) -> Result<Vec<AgentId>> {
    let silent = sql!("SELECT id FROM am_agents WHERE status = 'ONLINE' AND last_seen < $1 LIMIT 500");
    Ok(silent.bind(cutoff).fetch_values(conn).await?)
}

/// Count the agents that are online.
pub async fn count_online(conn: &mut Connection, cutoff: Timestamp) -> Result<i64> {
    let online = sql!("SELECT count(*) FROM am_agents WHERE status = 'ONLINE' AND last_seen >= $1");
    Ok(online.bind(cutoff).fetch_value(conn).await?)
}

/// Add `work` to an agent's statistics of a task type.
pub async fn add_task_stats(tx: &mut Tx, agent_id: &AgentId, task_type: TaskType, work: TaskStats) -> Result<()> {
    insert!("am_agent_work" {
        agent_id: agent_id,
        task_type: task_type,
        completed: work.completed,
        failed: work.failed,
        lost: work.lost,
        seconds: work.seconds,
    } add on (agent_id, task_type))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Append an event to the registry's stream.
pub async fn append_event(tx: &mut Tx, kind: RegistryEventKind, now: Timestamp, data: Value) -> Result<()> {
    let seq = sql!("UPDATE am_registry SET last_event = last_event + 1 WHERE stream = $1 RETURNING last_event");
    let seq = seq.bind(REGISTRY_STREAM).fetch_value(tx.conn().await?).await?;
    let event = StreamEvent { seq, kind: kind.stored().to_owned(), at: now, data };
    am_events::append_events(tx, REGISTRY_STREAM, &[event]).await?;
    Ok(())
}
