//! Tables `agent_executions` and `agent_step_executions` as clients read them, and the changes clients ask for.

use serde_json::{Map, Value, json};
use sqlx::{QueryBuilder, Row as _};

use super::{Execution, Filter, StepLog, forbids};
use crate::{
    engine::stop_steps,
    error::{Error, Result, unreadable},
    model::Status,
};
use am_audit::{Entry, EventType, SecurityLevel};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
    principal::Principal,
};
use am_events::Event;

const SELECT: &str = "SELECT e.id, e.workflow_id, e.client_id, e.status, coalesce(r.paused, 0), e.current_step, e.step_states, \
     e.final_result, e.execution_receipt, e.verification_proof, e.error_message, e.failed_step, e.started_at, e.completed_at, \
     e.total_execution_time, e.total_cost, e.total_steps, e.completed_steps, e.created_at, e.updated_at";
const FROM: &str = " FROM agent_executions e LEFT JOIN am_runs r ON r.execution_id = e.id";

fn document(row: &Row, at: usize) -> am_db::Result<Doc> {
    Ok(row.try_get::<Option<Doc>, _>(at)?.unwrap_or_else(Doc::none))
}

fn execution(row: &Row) -> am_db::Result<Execution> {
    Ok(Execution {
        id: row.try_get(0)?,
        workflow_id: row.try_get(1)?,
        client_id: row.try_get(2)?,
        status: row.try_get(3)?,
        paused: row.try_get(4)?,
        current_step: row.try_get(5)?,
        step_states: document(row, 6)?.or_object(),
        final_result: document(row, 7)?,
        execution_receipt: document(row, 8)?,
        verification_proof: document(row, 9)?,
        error_message: row.try_get(10)?,
        failed_step: row.try_get(11)?,
        started_at: row.try_get(12)?,
        completed_at: row.try_get(13)?,
        total_execution_time: row.try_get(14)?,
        total_cost: row.try_get(15)?,
        total_steps: row.try_get(16)?,
        completed_steps: row.try_get(17)?,
        created_at: row.try_get(18)?,
        updated_at: row.try_get(19)?,
    })
}

/// One execution.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Execution>> {
    let mut query = QueryBuilder::<Db>::new(SELECT);
    query.push(FROM).push(" WHERE e.id = ").push_bind(id);
    let row = query.build().fetch_optional(conn).await?;
    Ok(row.as_ref().map(execution).transpose()?)
}

/// Has it ended, or is it not there?
pub async fn has_ended(conn: &mut Connection, id: &str) -> am_db::Result<bool> {
    let status: Option<Status> =
        sqlx::query_scalar("SELECT status FROM agent_executions WHERE id = ?1").bind(id).fetch_optional(conn).await?;
    Ok(status.is_none_or(Status::is_final))
}

fn push_filter(query: &mut QueryBuilder<Db>, caller: &Principal, filter: &Filter) {
    query.push(" WHERE e.client_id IN (");
    let mut list = query.separated(", ");
    for alias in caller.aliases.iter() {
        list.push_bind(alias);
    }
    query.push(")");
    if let Some(workflow_id) = &filter.workflow_id {
        query.push(" AND e.workflow_id = ").push_bind(workflow_id);
    }
    if let Some(status) = filter.status {
        query.push(" AND e.status = ").push_bind(status);
    }
}

/// A page, newest first, and how many there are in all.
pub async fn list(conn: &mut Connection, caller: &Principal, filter: &Filter) -> Result<(Vec<Execution>, i64)> {
    let mut query = QueryBuilder::<Db>::new(SELECT);
    query.push(FROM);
    push_filter(&mut query, caller, filter);
    filter.page.push(&mut query, "e.");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*) FROM agent_executions e");
    push_filter(&mut count, caller, filter);
    let total: i64 = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(execution).collect::<am_db::Result<_>>()?, total))
}

/// How many runs of a workflow ended well lately, and their mean seconds and cost.
pub async fn past_runs(conn: &mut Connection, workflow_id: &str) -> Result<(i64, Option<f64>, Option<f64>)> {
    let means = sqlx::query_as(
        "SELECT count(*), avg(total_execution_time), avg(total_cost) FROM
             (SELECT total_execution_time, total_cost FROM agent_executions
              WHERE workflow_id = ?1 AND status = 'COMPLETED' AND total_execution_time IS NOT NULL LIMIT 50)",
    );
    Ok(means.bind(workflow_id).fetch_one(conn).await?)
}

/// The steps' rows, in the definition's order where that is known.
pub async fn steps(conn: &mut Connection, execution: &Execution) -> Result<Vec<StepLog>> {
    let states = states(execution)?;
    let key_of = |row_id: &str| {
        states.iter().position(|(_, state)| state.get("step_execution_id").and_then(Value::as_str) == Some(row_id))
    };
    let rows = sqlx::query(
        "SELECT id, step_id, status, started_at, completed_at, execution_time, error_message, gpu_accelerated, memory_usage, retry_count,
             verification_status, input_data, output_data, step_proof
         FROM agent_step_executions WHERE execution_id = ?1 ORDER BY created_at, id",
    )
    .bind(&execution.id)
    .fetch_all(conn)
    .await?;
    let mut logs: Vec<(usize, StepLog)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let row_id: &str = row.try_get(0)?;
        let place = key_of(row_id);
        let log = StepLog {
            key: place.and_then(|at| states.keys().nth(at).cloned()),
            step_id: row.try_get(1)?,
            status: row.try_get(2)?,
            started_at: row.try_get(3)?,
            completed_at: row.try_get(4)?,
            execution_time: row.try_get(5)?,
            error_message: row.try_get(6)?,
            gpu_accelerated: row.try_get(7)?,
            memory_usage: row.try_get(8)?,
            retry_count: row.try_get(9)?,
            verification_status: row.try_get(10)?,
            input: document(row, 11)?,
            output: document(row, 12)?,
            proof: document(row, 13)?,
        };
        logs.push((place.unwrap_or(usize::MAX), log));
    }
    logs.sort_by_key(|(place, _)| *place);
    Ok(logs.into_iter().map(|(_, log)| log).collect())
}

fn states(execution: &Execution) -> Result<Map<String, Value>> {
    let states = execution.step_states.parse().map_err(|error| unreadable("agent_executions.step_states", error))?;
    Ok(states.unwrap_or_default())
}

/// The next event of an execution, if it is this service's: a run of the coordinator's has no stream.
pub async fn tell(tx: &mut Tx, id: &str, kind: &str, now: Timestamp, data: Value) -> Result<bool> {
    let seq: Option<i64> = sqlx::query_scalar(
        "UPDATE am_runs SET last_event = last_event + 1 WHERE execution_id = ?1 RETURNING last_event",
    )
    .bind(id)
    .fetch_optional(tx.conn().await?)
    .await?;
    let Some(seq) = seq else { return Ok(false) };
    am_events::append(tx, id, &[Event { seq, kind: kind.to_owned(), at: now, data }]).await?;
    Ok(true)
}

/// How sensitive an execution is; one that the coordinator runs counts as internal.
pub async fn security(conn: &mut Connection, id: &str) -> Result<SecurityLevel> {
    let level = sqlx::query_scalar("SELECT security_level FROM am_runs WHERE execution_id = ?1");
    Ok(level.bind(id).fetch_optional(conn).await?.unwrap_or(SecurityLevel::Internal))
}

/// What the audit log gets to know of a change that it has no word for.
fn changed(action: &str, now: Timestamp) -> Entry {
    Entry::new(EventType::WorkflowUpdated, now).of("execution", action)
}

/// Cancel, whoever holds it: the fence rises, so that a driver can't write over it.
pub async fn cancel(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<Entry> {
    if execution.status.is_final() {
        return Err(forbids(execution.status, "cancelled"));
    }
    let mut states = states(&execution)?;
    let taken_back = stop_steps(tx, &execution.id, &mut states, now).await?;
    sqlx::query("UPDATE am_runs SET state = 'ended', worker = NULL, fence = fence + 1, paused = 0, reserved_cost = 0 WHERE execution_id = ?1")
        .bind(&execution.id)
        .execute(tx.conn().await?)
        .await?;
    let seconds = execution.started_at.map(|started| now.seconds_since(started));
    sqlx::query(
        "UPDATE agent_executions SET status = 'CANCELLED', step_states = ?2, completed_at = ?3, total_execution_time = ?4, updated_at = ?3 WHERE id = ?1",
    )
    .bind(&execution.id)
    .bind(Value::Object(states).to_string())
    .bind(now)
    .bind(seconds)
    .execute(tx.conn().await?)
    .await?;
    let entry = Entry::new(EventType::ExecutionCancelled, now)
        .of("execution", "cancelled")
        .data("jobs_taken_back", json!(taken_back))
        .data("execution_time", json!(seconds))
        .change(Some(json!({"status": execution.status})), Some(json!({"status": Status::Cancelled})));
    tell(tx, &execution.id, "execution_cancelled", now, json!({"jobs_taken_back": taken_back})).await?;
    Ok(entry)
}

async fn set_paused(tx: &mut Tx, id: &str, paused: bool) -> Result<bool> {
    let done =
        sqlx::query("UPDATE am_runs SET paused = ?2 WHERE execution_id = ?1 AND paused <> ?2 AND state <> 'ended'")
            .bind(id)
            .bind(paused)
            .execute(tx.conn().await?)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Begin no further step.
pub async fn pause(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<Entry> {
    if execution.status.is_final() {
        return Err(forbids(execution.status, "paused"));
    }
    if !set_paused(tx, &execution.id, true).await? {
        let why = if execution.paused { "it is paused already" } else { "it is run by the coordinator" };
        return Err(Error::State(format!("Execution cannot be paused: {why}")));
    }
    tell(tx, &execution.id, "execution_paused", now, json!({})).await?;
    Ok(changed("paused", now).change(Some(json!({"paused": false})), Some(json!({"paused": true}))))
}

/// Go on.
pub async fn resume(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<Entry> {
    if !set_paused(tx, &execution.id, false).await? {
        return Err(Error::State("Execution cannot be resumed: it is not paused".into()));
    }
    tell(tx, &execution.id, "execution_resumed", now, json!({})).await?;
    Ok(changed("resumed", now).change(Some(json!({"paused": true})), Some(json!({"paused": false}))))
}

/// Make a failed execution ready again: steps that ended well stay, the others begin anew.
pub async fn retry(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<Entry> {
    if execution.status != Status::Failed {
        return Err(forbids(execution.status, "retried"));
    }
    let mut states = states(&execution)?;
    for state in states.values_mut() {
        let Some(members) = state.as_object_mut() else { continue };
        if members.get("status").and_then(Value::as_str) != Some("completed") {
            members.retain(|name, _| {
                matches!(name.as_str(), "step_execution_id" | "attempts" | "cost" | "execution_time")
            });
            // Attempts go on counting, for their number is part of the key that receivers tell repetitions by; how
            // many retries are left counts anew.
            if let Some(attempts) = members.get("attempts").cloned() {
                members.insert("attempts_before".into(), attempts);
            }
            members.insert("status".into(), json!(Status::Pending));
        }
    }
    let done = sqlx::query(
        "UPDATE am_runs SET state = 'ready', worker = NULL, fence = fence + 1, paused = 0, active_seconds = 0, reserved_cost = 0
         WHERE execution_id = ?1 AND state = 'ended'",
    )
    .bind(&execution.id)
    .execute(tx.conn().await?)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::State("Execution cannot be retried: it was run by the coordinator".into()));
    }
    sqlx::query(
        "UPDATE agent_executions SET status = 'RUNNING', step_states = ?2, error_message = NULL, failed_step = NULL, completed_at = NULL,
             total_execution_time = NULL, updated_at = ?3 WHERE id = ?1",
    )
    .bind(&execution.id)
    .bind(Value::Object(states).to_string())
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    sqlx::query(
        "UPDATE agent_step_executions SET status = 'PENDING', error_message = NULL, started_at = NULL, completed_at = NULL, updated_at = ?2
         WHERE execution_id = ?1 AND status <> 'COMPLETED'",
    )
    .bind(&execution.id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    tell(tx, &execution.id, "execution_retried", now, json!({"from_step": execution.failed_step})).await?;
    Ok(changed("retried", now)
        .data("from_step", json!(execution.failed_step))
        .change(Some(json!({"status": Status::Failed})), Some(json!({"status": Status::Running}))))
}
