//! Who holds which run, and what a run that is claimed was saved as.

use serde_json::{Map, Value, json};
use sqlx::Row as _;

use crate::{
    engine::{orders, trail},
    error::{Result, unreadable},
    model::{Status, VerificationLevel},
};
use am_audit::{Entry, EventType, SecurityLevel};
use am_db::{
    Connection, Tx,
    codec::{Doc, Timestamp},
};
use am_events::Event;

/// A run that waits for a worker?
pub async fn any_ready(conn: &mut Connection) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM am_runs WHERE state = 'ready' AND NOT paused LIMIT 1")
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Take the run that waits longest: its id and the new fence.
pub async fn claim(tx: &mut Tx, worker: &str) -> Result<Option<(String, i64)>> {
    let claimed = sqlx::query_as(
        "UPDATE am_runs SET state = 'driven', worker = ?1, fence = fence + 1
         WHERE execution_id = (SELECT execution_id FROM am_runs WHERE state = 'ready' AND NOT paused ORDER BY queued_at LIMIT 1)
         RETURNING execution_id, fence",
    );
    Ok(claimed.bind(worker).fetch_optional(tx.conn().await?).await?)
}

/// Give back a run that is held under `fence` and not driven, as it was saved last.
pub async fn give_back(tx: &mut Tx, id: &str, fence: i64) -> Result<()> {
    sqlx::query(
        "UPDATE am_runs SET state = 'ready', worker = NULL WHERE execution_id = ?1 AND fence = ?2 AND state = 'driven'",
    )
    .bind(id)
    .bind(fence)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Stop the steps of a run that nobody drives any more, in their rows and in `states` (column `step_states`, to be
/// written by the caller). Answers the jobs that could be taken back.
pub async fn stop_steps(tx: &mut Tx, id: &str, states: &mut Map<String, Value>, now: Timestamp) -> Result<Vec<String>> {
    let mut taken_back = Vec::new();
    for state in states.values_mut() {
        let stops = matches!(state.get("status").and_then(Value::as_str), Some("running" | "pending"));
        let (Some(members), true) = (state.as_object_mut(), stops) else { continue };
        members.insert("status".into(), json!(Status::Cancelled));
        members.remove("reserved");
        members.remove("retry_at");
        if let Some(job) = members.get("job_id").and_then(Value::as_str)
            && orders::take_back(tx, job, now).await?
        {
            taken_back.push(job.to_owned());
        }
    }
    sqlx::query(
        "UPDATE agent_step_executions SET status = 'CANCELLED', completed_at = ?2, updated_at = ?2
         WHERE execution_id = ?1 AND status IN ('PENDING', 'RUNNING')",
    )
    .bind(id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(taken_back)
}

/// Fail a claimed run that can't be loaded. Answers what the audit log gets to know of it; none: it is another's by now.
pub async fn fail_unloaded(tx: &mut Tx, id: &str, fence: i64, why: &str, now: Timestamp) -> Result<Option<Entry>> {
    let seq: Option<i64> = sqlx::query_scalar(
        "UPDATE am_runs SET state = 'ended', worker = NULL, reserved_cost = 0, last_event = last_event + 1
         WHERE execution_id = ?1 AND fence = ?2 AND state = 'driven' RETURNING last_event",
    )
    .bind(id)
    .bind(fence)
    .fetch_optional(tx.conn().await?)
    .await?;
    let Some(seq) = seq else { return Ok(None) };
    let stored: Option<(Option<Doc>, String, String)> =
        sqlx::query_as("SELECT step_states, client_id, workflow_id FROM agent_executions WHERE id = ?1")
            .bind(id)
            .fetch_optional(tx.conn().await?)
            .await?;
    let Some((states, client_id, workflow_id)) = stored else { return Ok(None) };
    // They may be what can't be read.
    let mut states: Map<String, Value> = states.and_then(|doc| doc.parse().ok().flatten()).unwrap_or_default();
    let taken_back = stop_steps(tx, id, &mut states, now).await?;
    sqlx::query(
        "UPDATE agent_executions SET status = 'FAILED', error_message = ?2, step_states = ?4, completed_at = ?3, updated_at = ?3 WHERE id = ?1",
    )
    .bind(id)
    .bind(why)
    .bind(now)
    .bind(Value::Object(states).to_string())
    .execute(tx.conn().await?)
    .await?;
    let data = json!({"error": why, "jobs_taken_back": taken_back});
    let event = Event { seq, kind: "execution_failed".into(), at: now, data };
    am_events::append(tx, id, &[event]).await?;
    let entry = Entry::new(EventType::ExecutionFailed, now)
        .of("execution", "failed")
        .on_behalf_of(&client_id)
        .workflow(workflow_id)
        .execution(id)
        .data("error_message", json!(trail::message(why)));
    Ok(Some(entry))
}

/// What is stored of a claimed run.
pub struct Stored {
    pub workflow_id: String,
    pub client_id: String,
    pub definition: String,
    pub inputs: Value,
    pub level: VerificationLevel,
    pub security: SecurityLevel,
    pub max_execution_time: i64,
    pub max_cost_budget: f64,
    pub trace_id: Option<String>,
    pub active_seconds: f64,
    pub status: Status,
    pub step_states: Doc,
    pub total_cost: f64,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
}

/// Read a run that has been claimed.
pub async fn load(conn: &mut Connection, id: &str) -> Result<Option<Stored>> {
    let row = sqlx::query(
        "SELECT e.workflow_id, e.client_id, d.body, r.inputs, r.verification_level, r.max_execution_time, r.max_cost_budget, r.trace_id,
             r.active_seconds, e.status, e.step_states, e.total_cost, e.created_at, e.started_at, r.security_level
         FROM am_runs r JOIN agent_executions e ON e.id = r.execution_id JOIN am_definitions d ON d.hash = r.definition_hash
         WHERE r.execution_id = ?1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let inputs: &str = row.try_get(3)?;
    Ok(Some(Stored {
        workflow_id: row.try_get(0)?,
        client_id: row.try_get(1)?,
        definition: row.try_get(2)?,
        inputs: serde_json::from_str(inputs).map_err(|error| unreadable("am_runs.inputs", error))?,
        level: row.try_get(4)?,
        max_execution_time: row.try_get(5)?,
        max_cost_budget: row.try_get(6)?,
        trace_id: row.try_get(7)?,
        active_seconds: row.try_get(8)?,
        status: row.try_get(9)?,
        step_states: row.try_get(10)?,
        total_cost: row.try_get(11)?,
        created_at: row.try_get(12)?,
        started_at: row.try_get(13)?,
        security: row.try_get(14)?,
    }))
}

/// A step's row: its ids, what it took and gave, how it was checked.
pub struct StoredStep {
    pub row_id: String,
    pub step_id: String,
    pub input: Doc,
    pub output: Doc,
    pub memory_mb: Option<f64>,
    pub gpu: bool,
    pub verification: Doc,
}

/// The steps' rows of an execution.
pub async fn load_steps(conn: &mut Connection, id: &str) -> Result<Vec<StoredStep>> {
    let rows = sqlx::query(
        "SELECT id, step_id, input_data, output_data, memory_usage, gpu_accelerated, step_proof FROM agent_step_executions WHERE execution_id = ?1",
    )
    .bind(id)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let doc =
                |at: usize| -> am_db::Result<Doc> { Ok(row.try_get::<Option<Doc>, _>(at)?.unwrap_or_else(Doc::none)) };
            Ok(StoredStep {
                row_id: row.try_get(0)?,
                step_id: row.try_get(1)?,
                input: doc(2)?,
                output: doc(3)?,
                memory_mb: row.try_get(4)?,
                gpu: row.try_get(5)?,
                verification: doc(6)?,
            })
        })
        .collect()
}

/// Write this worker's sign of life.
pub async fn heartbeat(tx: &mut Tx, worker: &str, now: Timestamp, lease_until: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_workers (id, started_at, heartbeat_at, lease_until) VALUES (?1, ?2, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, lease_until = excluded.lease_until",
    )
    .bind(worker)
    .bind(now)
    .bind(lease_until)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// The other workers, with the end of their leases.
pub async fn workers(conn: &mut Connection) -> Result<Vec<(String, Timestamp)>> {
    Ok(sqlx::query_as("SELECT id, lease_until FROM am_workers").fetch_all(conn).await?)
}

/// A worker is gone: give its runs free. Answers how many. Their fences rise, so that it can't write them any more.
/// With `lease`, only if that is still the end of its lease: none is answered where it is not.
pub async fn bury(tx: &mut Tx, worker: &str, lease: Option<Timestamp>) -> Result<Option<u64>> {
    let dead = sqlx::query("DELETE FROM am_workers WHERE id = ?1 AND (?2 IS NULL OR lease_until = ?2)")
        .bind(worker)
        .bind(lease)
        .execute(tx.conn().await?)
        .await?;
    if dead.rows_affected() == 0 && lease.is_some() {
        return Ok(None);
    }
    let freed = sqlx::query(
        "UPDATE am_runs SET state = 'ready', worker = NULL, fence = fence + 1 WHERE state = 'driven' AND worker = ?1",
    );
    Ok(Some(freed.bind(worker).execute(tx.conn().await?).await?.rows_affected()))
}

/// The runs that `worker` holds: id, fence, whether it is paused.
pub async fn held(conn: &mut Connection, worker: &str) -> Result<Vec<(String, i64, bool)>> {
    let held = sqlx::query_as("SELECT execution_id, fence, paused FROM am_runs WHERE state = 'driven' AND worker = ?1");
    Ok(held.bind(worker).fetch_all(conn).await?)
}

/// How many runs wait for a worker.
pub async fn waiting(conn: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM am_runs WHERE state = 'ready'").fetch_one(conn).await?)
}
