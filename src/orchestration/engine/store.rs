//! What the engine writes: runs, their steps and events in one transaction, and who holds what.

use serde_json::{Map, Value, json};
use sqlx::{QueryBuilder, Row as _};

use super::run::{NewEvent, Run, StepRun};
use crate::{
    db::{
        self, Connection, Db, Tx,
        codec::{Doc, Timestamp},
    },
    events::{self, Event},
    jobs::{self, NewJob},
    orchestration::{
        error::{Error, Result, unreadable},
        model::{Status, VerificationLevel},
    },
};

/// Who holds a run after it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Whoever claims it first.
    Ready,
    /// This worker.
    Driven,
    /// Nobody any more.
    Ended,
}

impl Hold {
    fn stored(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Driven => "driven",
            Self::Ended => "ended",
        }
    }
}

/// Everything of a run that is written at once, apart from the run so that it can go to the writer's thread.
pub struct Save {
    pub run: RunRow,
    pub steps: Vec<StepRow>,
    pub events: Vec<NewEvent>,
    /// Jobs that steps which are about to begin wait for.
    pub jobs: Vec<NewJob>,
    /// Jobs that nobody waits for any more.
    pub take_back: Vec<String>,
    pub hold: Hold,
    pub worker: String,
    /// For a new run.
    pub new: Option<NewRun>,
}

/// What only a new run has to say.
pub struct NewRun {
    pub definition_hash: String,
    pub definition: std::sync::Arc<str>,
    pub inputs: String,
    pub level: VerificationLevel,
    pub max_execution_time: i64,
    pub max_cost_budget: f64,
    pub trace_id: Option<String>,
}

/// Columns of `agent_executions` and `am_runs` that change.
pub struct RunRow {
    pub id: String,
    pub workflow_id: String,
    pub client_id: String,
    pub fence: i64,
    pub status: Status,
    pub step_states: String,
    pub final_result: Doc,
    pub receipt: Doc,
    pub proof: Doc,
    pub error: Option<String>,
    pub failed_step: Option<String>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub total_cost: f64,
    pub total_steps: i64,
    pub completed_steps: i64,
    pub created_at: Timestamp,
    pub now: Timestamp,
    pub active_seconds: f64,
    pub reserved_cost: f64,
}

/// A row of `agent_step_executions`.
pub struct StepRow {
    pub row_id: String,
    pub step_id: String,
    pub step: StepRun,
}

impl Save {
    /// What has changed in `run` since it was saved last. The run counts as saved then.
    pub fn of(run: &mut Run, hold: Hold, worker: &str, now: Timestamp) -> Self {
        let row = RunRow {
            id: run.id.clone(),
            workflow_id: run.workflow_id.clone(),
            client_id: run.client_id.clone(),
            fence: run.fence,
            status: run.status,
            step_states: run.step_states().to_string(),
            final_result: run.final_result.clone(),
            receipt: run.receipt.clone(),
            proof: run.proof.clone(),
            error: run.error.clone(),
            failed_step: run.failed_step.clone(),
            started_at: run.started_at,
            completed_at: run.completed_at,
            total_cost: run.total_cost,
            total_steps: run.steps.len() as i64,
            completed_steps: run.completed_steps() as i64,
            created_at: run.created_at,
            now,
            active_seconds: run.active_seconds(now),
            reserved_cost: run.steps.iter().map(|step| step.reserved).sum(),
        };
        let steps = run
            .steps
            .iter_mut()
            .filter(|step| step.dirty)
            .map(|step| {
                step.dirty = false;
                StepRow { row_id: step.row_id.clone(), step_id: step.step_id.clone(), step: step.clone() }
            })
            .collect();
        let new = run.is_new.then(|| NewRun {
            definition_hash: run.plan.hash.clone(),
            definition: run.plan.body.clone(),
            inputs: run.inputs.to_string(),
            level: run.level,
            max_execution_time: run.limits.seconds,
            max_cost_budget: run.limits.budget,
            trace_id: run.trace_id.clone(),
        });
        run.is_new = false;
        let events = std::mem::take(&mut run.events);
        Self { run: row, steps, events, jobs: Vec::new(), take_back: Vec::new(), hold, worker: worker.to_owned(), new }
    }
}

/// Is the run paused? Known from the same statement that proves the lease.
pub struct Saved {
    pub paused: bool,
}

/// Write it all; the definition of a new run only if it is not known to be stored.
///
/// # Errors
/// [`Error::LeaseLost`] when another holds the run; a duplicate when an id is taken.
pub async fn save(tx: &mut Tx, save: &Save, definition_known: bool) -> Result<Saved> {
    let (last_event, paused) = match &save.new {
        Some(new) => {
            insert_run(tx, save, new, definition_known).await?;
            (save.events.len() as i64, false)
        }
        None => update_run(tx, save).await?,
    };
    upsert_steps(tx, &save.run.id, save.run.now, &save.steps).await?;
    for job in &save.jobs {
        jobs::enqueue(tx, job).await?;
    }
    for id in &save.take_back {
        jobs::take_back(tx, id).await?;
    }
    let first = last_event - save.events.len() as i64 + 1;
    let numbered: Vec<Event> = save.events.iter().zip(first..).map(|(event, seq)| numbered(event, seq)).collect();
    events::append(tx, &save.run.id, &numbered).await?;
    Ok(Saved { paused })
}

fn numbered(event: &NewEvent, seq: i64) -> Event {
    Event { seq, kind: event.kind.to_owned(), at: event.at, data: event.data.clone() }
}

fn taken(what: &str) -> Error {
    Error::Db(db::Error::Duplicate(what.to_owned()))
}

async fn insert_run(tx: &mut Tx, save: &Save, new: &NewRun, definition_known: bool) -> Result<()> {
    let run = &save.run;
    if !definition_known {
        sqlx::query(
            "INSERT INTO am_definitions (hash, body, created_at) VALUES (?1, ?2, ?3) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(&new.definition_hash)
        .bind(new.definition.to_string())
        .bind(run.now)
        .execute(tx.conn())
        .await?;
    }
    let done = sqlx::query(
        "INSERT INTO agent_executions (id, workflow_id, client_id, status, current_step, step_states, final_result, execution_receipt,
             verification_proof, error_message, failed_step, started_at, completed_at, total_execution_time, total_cost, total_steps,
             completed_steps, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?17, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?17, ?16, ?18) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&run.id)
    .bind(&run.workflow_id)
    .bind(&run.client_id)
    .bind(run.status)
    .bind(&run.step_states)
    .bind(run.final_result.clone())
    .bind(run.receipt.clone())
    .bind(run.proof.clone())
    .bind(&run.error)
    .bind(&run.failed_step)
    .bind(run.started_at)
    .bind(run.completed_at)
    .bind(total_seconds(run))
    .bind(run.total_cost)
    .bind(run.total_steps)
    .bind(run.created_at)
    .bind(run.completed_steps)
    .bind(run.now)
    .execute(tx.conn())
    .await?;
    if done.rows_affected() == 0 {
        return Err(taken("agent_executions.id"));
    }
    sqlx::query(
        "INSERT INTO am_runs (execution_id, definition_hash, inputs, verification_level, max_execution_time, max_cost_budget, state,
             worker, fence, active_seconds, reserved_cost, last_event, trace_id, queued_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )
    .bind(&run.id)
    .bind(&new.definition_hash)
    .bind(&new.inputs)
    .bind(new.level)
    .bind(new.max_execution_time)
    .bind(new.max_cost_budget)
    .bind(save.hold.stored())
    .bind((save.hold == Hold::Driven).then_some(&save.worker))
    .bind(run.fence)
    .bind(run.active_seconds)
    .bind(run.reserved_cost)
    .bind(save.events.len() as i64)
    .bind(&new.trace_id)
    .bind(run.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

fn total_seconds(run: &RunRow) -> Option<f64> {
    Some(run.completed_at?.seconds_since(run.started_at?))
}

async fn update_run(tx: &mut Tx, save: &Save) -> Result<(i64, bool)> {
    let run = &save.run;
    let held: Option<(i64, bool)> = sqlx::query_as(
        "UPDATE am_runs SET state = ?3, worker = ?4, active_seconds = ?5, reserved_cost = ?6, last_event = last_event + ?7
         WHERE execution_id = ?1 AND fence = ?2 AND state = 'driven' RETURNING last_event, paused",
    )
    .bind(&run.id)
    .bind(run.fence)
    .bind(save.hold.stored())
    .bind((save.hold == Hold::Driven).then_some(&save.worker))
    .bind(run.active_seconds)
    .bind(run.reserved_cost)
    .bind(save.events.len() as i64)
    .fetch_optional(tx.conn())
    .await?;
    let held = held.ok_or(Error::LeaseLost)?;
    let done = sqlx::query(
        "UPDATE agent_executions SET status = ?2, current_step = ?3, step_states = ?4, final_result = ?5, execution_receipt = ?6,
             verification_proof = ?7, error_message = ?8, failed_step = ?9, started_at = ?10, completed_at = ?11,
             total_execution_time = ?12, total_cost = ?13, completed_steps = ?3, updated_at = ?14
         WHERE id = ?1",
    )
    .bind(&run.id)
    .bind(run.status)
    .bind(run.completed_steps)
    .bind(&run.step_states)
    .bind(run.final_result.clone())
    .bind(run.receipt.clone())
    .bind(run.proof.clone())
    .bind(&run.error)
    .bind(&run.failed_step)
    .bind(run.started_at)
    .bind(run.completed_at)
    .bind(total_seconds(run))
    .bind(run.total_cost)
    .bind(run.now)
    .execute(tx.conn())
    .await?;
    // The coordinator deleted the execution under us: nobody wants its result.
    if done.rows_affected() == 0 { Err(Error::LeaseLost) } else { Ok(held) }
}

async fn upsert_steps(tx: &mut Tx, execution_id: &str, now: Timestamp, rows: &[StepRow]) -> Result<()> {
    for chunk in rows.chunks(500) {
        let mut query = QueryBuilder::<Db>::new(
            "INSERT INTO agent_step_executions (id, execution_id, step_id, status, input_data, output_data, execution_time,
                 gpu_accelerated, memory_usage, step_proof, verification_status, error_message, retry_count, started_at,
                 completed_at, created_at, updated_at) ",
        );
        query.push_values(chunk, |mut row, StepRow { row_id, step_id, step }| {
            let text = |value: &Option<std::sync::Arc<Value>>| {
                value.as_ref().map_or_else(|| "null".to_owned(), |value| value.to_string())
            };
            let begun = step.attempts > 0;
            row.push_bind(row_id.clone());
            row.push_bind(execution_id.to_owned());
            row.push_bind(step_id.clone());
            row.push_bind(step.status);
            row.push_bind(text(&step.input));
            row.push_bind(text(&step.output));
            row.push_bind(begun.then_some(step.seconds));
            row.push_bind(step.gpu);
            row.push_bind(step.memory_mb);
            row.push_bind(
                step.verification.as_ref().map_or(Doc::none(), |done| Doc::of(done).unwrap_or_else(|_| Doc::none())),
            );
            row.push_bind(step.verification.as_ref().map(|done| if done.verified { "verified" } else { "failed" }));
            row.push_bind(step.error.clone());
            row.push_bind(i64::from(step.attempts.saturating_sub(1)));
            row.push_bind(step.started_at);
            row.push_bind(step.completed_at);
            row.push_bind(now);
            row.push_bind(now);
        });
        query.push(
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, input_data = excluded.input_data, output_data = excluded.output_data,
                 execution_time = excluded.execution_time, gpu_accelerated = excluded.gpu_accelerated, memory_usage = excluded.memory_usage,
                 step_proof = excluded.step_proof, verification_status = excluded.verification_status, error_message = excluded.error_message,
                 retry_count = excluded.retry_count, started_at = excluded.started_at, completed_at = excluded.completed_at,
                 updated_at = excluded.updated_at
             WHERE agent_step_executions.execution_id = excluded.execution_id",
        );
        let done = query.build().execute(tx.conn()).await?;
        if done.rows_affected() < chunk.len() as u64 {
            return Err(taken("agent_step_executions.id"));
        }
    }
    Ok(())
}

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
    Ok(claimed.bind(worker).fetch_optional(tx.conn()).await?)
}

/// Give back a run that is held under `fence` and not driven, as it was saved last.
pub async fn give_back(tx: &mut Tx, id: &str, fence: i64) -> Result<()> {
    sqlx::query(
        "UPDATE am_runs SET state = 'ready', worker = NULL WHERE execution_id = ?1 AND fence = ?2 AND state = 'driven'",
    )
    .bind(id)
    .bind(fence)
    .execute(tx.conn())
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
            && jobs::take_back(tx, job).await?
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
    .execute(tx.conn())
    .await?;
    Ok(taken_back)
}

/// Fail a claimed run that can't be loaded.
pub async fn fail_unloaded(tx: &mut Tx, id: &str, fence: i64, why: &str, now: Timestamp) -> Result<()> {
    let seq: Option<i64> = sqlx::query_scalar(
        "UPDATE am_runs SET state = 'ended', worker = NULL, reserved_cost = 0, last_event = last_event + 1
         WHERE execution_id = ?1 AND fence = ?2 AND state = 'driven' RETURNING last_event",
    )
    .bind(id)
    .bind(fence)
    .fetch_optional(tx.conn())
    .await?;
    let Some(seq) = seq else { return Ok(()) };
    let states: Option<Doc> = sqlx::query_scalar("SELECT step_states FROM agent_executions WHERE id = ?1")
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
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
    .execute(tx.conn())
    .await?;
    let data = json!({"error": why, "jobs_taken_back": taken_back});
    let event = Event { seq, kind: "execution_failed".into(), at: now, data };
    Ok(events::append(tx, id, &[event]).await?)
}

/// What is stored of a claimed run.
pub struct Stored {
    pub workflow_id: String,
    pub client_id: String,
    pub definition: String,
    pub inputs: Value,
    pub level: VerificationLevel,
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
             r.active_seconds, e.status, e.step_states, e.total_cost, e.created_at, e.started_at
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
                |at: usize| -> db::Result<Doc> { Ok(row.try_get::<Option<Doc>, _>(at)?.unwrap_or_else(Doc::none)) };
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
    .execute(tx.conn())
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
        .execute(tx.conn())
        .await?;
    if dead.rows_affected() == 0 && lease.is_some() {
        return Ok(None);
    }
    let freed = sqlx::query(
        "UPDATE am_runs SET state = 'ready', worker = NULL, fence = fence + 1 WHERE state = 'driven' AND worker = ?1",
    );
    Ok(Some(freed.bind(worker).execute(tx.conn()).await?.rows_affected()))
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
