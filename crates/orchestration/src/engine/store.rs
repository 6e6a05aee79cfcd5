//! What the engine writes: runs, their steps and events in one transaction, and who holds what.

use serde_json::Value;
use sqlx::QueryBuilder;

use super::{
    orders::{self, Order},
    run::{NewEvent, Run, StepRun},
    trail,
};
use crate::{
    error::{Error, Result},
    model::{Status, VerificationLevel},
};
use am_audit::{Entry, SecurityLevel};
use am_db::{
    Connection, Db, Tx,
    batch::Batch,
    codec::{Doc, Timestamp},
    rows::{Insert, Rows},
};
use am_events::Event;

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
    /// What the audit log gets to know of it.
    pub trail: Vec<Entry>,
    /// What steps that are about to begin wait for.
    pub orders: Vec<Order>,
    /// Orders that nobody waits for any more.
    pub take_back: Vec<String>,
    pub hold: Hold,
    pub worker: String,
}

/// What only a new run has to say.
pub struct NewRun {
    pub definition_hash: String,
    pub definition: std::sync::Arc<str>,
    pub inputs: String,
    pub level: VerificationLevel,
    pub security: SecurityLevel,
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
        let trail = trail::entries(run, now);
        run.is_new = false;
        let events = std::mem::take(&mut run.events);
        Self {
            run: row,
            steps,
            events,
            trail,
            orders: Vec::new(),
            take_back: Vec::new(),
            hold,
            worker: worker.to_owned(),
        }
    }
}

/// Is the run paused? Known from the same statement that proves the lease.
pub struct Saved {
    pub paused: bool,
}

impl NewRun {
    /// Of `run`, which was never saved.
    pub fn of(run: &Run) -> Self {
        Self {
            definition_hash: run.plan.hash.clone(),
            definition: run.plan.body.clone(),
            inputs: run.inputs.to_string(),
            level: run.level,
            security: run.security,
            max_execution_time: run.limits.seconds,
            max_cost_budget: run.limits.budget,
            trace_id: run.trace_id.clone(),
        }
    }
}

/// The rows of a new run; the definition only if it is not known to be stored. An id that is taken is a duplicate.
///
/// # Errors
/// When an event can't be written as JSON.
pub fn rows(save: &Save, new: &NewRun, definition_known: bool) -> Result<Rows> {
    let run = &save.run;
    let mut rows = Rows::default();
    if !definition_known {
        rows.push(&DEFINITIONS, |row| {
            row.put(&new.definition_hash).put(&*new.definition).put(run.now);
        });
    }
    rows.push(&EXECUTIONS, |row| {
        row.put(&run.id).put(&run.workflow_id).put(&run.client_id).put(run.status.stored());
        row.put(run.completed_steps).put(&run.step_states);
        row.put(&run.final_result).put(&run.receipt).put(&run.proof);
        row.put(run.error.as_deref()).put(run.failed_step.as_deref());
        row.put(run.started_at).put(run.completed_at).put(total_seconds(run));
        row.put(run.total_cost).put(run.total_steps).put(run.completed_steps).put(run.created_at).put(run.now);
    });
    rows.push(&RUNS, |row| {
        row.put(&run.id).put(&new.definition_hash).put(&new.inputs).put(new.level.stored()).put(new.security.stored());
        row.put(new.max_execution_time).put(new.max_cost_budget);
        row.put(save.hold.stored()).put((save.hold == Hold::Driven).then_some(save.worker.as_str()));
        row.put(run.fence).put(run.active_seconds).put(run.reserved_cost);
        row.put(save.events.len() as i64).put(new.trace_id.as_deref()).put(run.created_at);
    });
    for StepRow { row_id, step_id, step } in &save.steps {
        rows.push(&STEPS, |row| {
            let verification = step.verification.as_ref();
            row.put(row_id).put(&run.id).put(step_id).put(step.status.stored());
            row.put(&text(&step.input)).put(&text(&step.output));
            row.put((step.attempts > 0).then_some(step.seconds)).put(step.gpu).put(step.memory_mb);
            row.put(&verification.and_then(|done| Doc::of(done).ok()).unwrap_or_else(Doc::none)).put(verdict(step));
            row.put(step.error.as_deref()).put(i64::from(step.attempts.saturating_sub(1)));
            row.put(step.started_at).put(step.completed_at).put(run.now).put(run.now);
        });
    }
    am_events::append_to(&mut rows, &run.id, &numbered(save, 1))?;
    Ok(rows)
}

static DEFINITIONS: Insert =
    Insert::into("am_definitions", "hash, body, created_at").on_conflict("ON CONFLICT (hash) DO NOTHING");
static EXECUTIONS: Insert = Insert::into(
    "agent_executions",
    "id, workflow_id, client_id, status, current_step, step_states, final_result, execution_receipt, verification_proof, \
     error_message, failed_step, started_at, completed_at, total_execution_time, total_cost, total_steps, completed_steps, \
     created_at, updated_at",
);
static RUNS: Insert = Insert::into(
    "am_runs",
    "execution_id, definition_hash, inputs, verification_level, security_level, max_execution_time, max_cost_budget, state, worker, fence, \
     active_seconds, reserved_cost, last_event, trace_id, queued_at",
);
const STEP_COLUMNS: &str = "id, execution_id, step_id, status, input_data, output_data, execution_time, gpu_accelerated, \
     memory_usage, step_proof, verification_status, error_message, retry_count, started_at, completed_at, created_at, updated_at";
static STEPS: Insert = Insert::into("agent_step_executions", STEP_COLUMNS);

/// Write what has changed of a run that stands, and what the audit log gets to know of it.
///
/// # Errors
/// [`Error::LeaseLost`] when another holds the run.
pub async fn update(tx: &mut Tx, save: &Save, trail: Rows) -> Result<Saved> {
    let (last_event, paused) = update_run(tx, save).await?;
    let mut batch = Batch::default();
    update_steps(&mut batch, save);
    let mut rows = Rows::default();
    am_events::append_to(&mut rows, &save.run.id, &numbered(save, last_event - save.events.len() as i64 + 1))?;
    rows.append(trail);
    batch.rows(rows).execute(tx).await?;
    orders(tx, save).await?;
    Ok(Saved { paused })
}

/// How many runs of this level a client has under way; one that was never saved is none yet.
///
/// # Errors
/// As the database.
pub async fn under_way(conn: &mut Connection, client_id: &str, level: SecurityLevel) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM am_runs r JOIN agent_executions e ON e.id = r.execution_id
         WHERE r.state <> 'ended' AND r.security_level = ?2 AND e.client_id = ?1",
    );
    Ok(count.bind(client_id).bind(level).fetch_one(conn).await?)
}

/// Place the orders of a save, and take others back.
pub async fn orders(tx: &mut Tx, save: &Save) -> Result<()> {
    for order in &save.orders {
        order.place(tx, save.run.now).await?;
    }
    for id in &save.take_back {
        orders::take_back(tx, id, save.run.now).await?;
    }
    Ok(())
}

/// The events of a save, numbered from `first` on.
fn numbered(save: &Save, first: i64) -> Vec<Event> {
    let event = |(event, seq): (&NewEvent, i64)| Event {
        seq,
        kind: event.kind.to_owned(),
        at: event.at,
        data: event.data.clone(),
    };
    save.events.iter().zip(first..).map(event).collect()
}

fn total_seconds(run: &RunRow) -> Option<f64> {
    Some(run.completed_at?.seconds_since(run.started_at?))
}

/// A step's input or output as JSON.
fn text(value: &Option<std::sync::Arc<Value>>) -> String {
    value.as_ref().map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn verdict(step: &StepRun) -> Option<&'static str> {
    Some(if step.verification.as_ref()?.verified { "verified" } else { "failed" })
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
    .fetch_optional(tx.conn().await?)
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
    .execute(tx.conn().await?)
    .await?;
    // The coordinator deleted the execution under us: nobody wants its result.
    if done.rows_affected() == 0 { Err(Error::LeaseLost) } else { Ok(held) }
}

/// Rows of one statement: SQLite takes 32766 values.
const ROWS: usize = 500;

/// Rows that were made with the run are written over.
fn update_steps(batch: &mut Batch, save: &Save) {
    for chunk in save.steps.chunks(ROWS) {
        batch.statement(|query| {
            push_steps(query, save, chunk);
            query.push(
                " ON CONFLICT (id) DO UPDATE SET status = excluded.status, input_data = excluded.input_data,
                     output_data = excluded.output_data, execution_time = excluded.execution_time,
                     gpu_accelerated = excluded.gpu_accelerated, memory_usage = excluded.memory_usage,
                     step_proof = excluded.step_proof, verification_status = excluded.verification_status,
                     error_message = excluded.error_message, retry_count = excluded.retry_count,
                     started_at = excluded.started_at, completed_at = excluded.completed_at, updated_at = excluded.updated_at",
            );
        });
    }
}

fn push_steps(query: &mut QueryBuilder<Db>, save: &Save, rows: &[StepRow]) {
    query.push("INSERT INTO agent_step_executions (").push(STEP_COLUMNS).push(") ");
    query.push_values(rows, |mut row, StepRow { row_id, step_id, step }| {
        row.push_bind(row_id.clone()).push_bind(save.run.id.clone()).push_bind(step_id.clone()).push_bind(step.status);
        row.push_bind(text(&step.input)).push_bind(text(&step.output));
        row.push_bind((step.attempts > 0).then_some(step.seconds)).push_bind(step.gpu).push_bind(step.memory_mb);
        row.push_bind(step.verification.as_ref().and_then(|done| Doc::of(done).ok()).unwrap_or_else(Doc::none));
        row.push_bind(verdict(step));
        row.push_bind(step.error.clone()).push_bind(i64::from(step.attempts.saturating_sub(1)));
        row.push_bind(step.started_at).push_bind(step.completed_at).push_bind(save.run.now).push_bind(save.run.now);
    });
}
