//! What the engine writes: runs, their steps and events in one transaction, and who holds what.

use serde_json::Value;
use sqlx::QueryBuilder;

use super::run::{NewEvent, Run, StepRun};
use crate::{
    db::{
        Db, Tx,
        batch::Batch,
        codec::{Doc, Timestamp},
    },
    events::{self, Event},
    jobs::{self, NewJob},
    orchestration::{
        error::{Error, Result},
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
    let mut batch = Batch::default();
    let (last_event, paused) = match &save.new {
        Some(new) => {
            insert_run(&mut batch, save, new, definition_known);
            insert_steps(&mut batch, save);
            (save.events.len() as i64, false)
        }
        None => {
            let held = update_run(tx, save).await?;
            update_steps(&mut batch, save);
            held
        }
    };
    let first = last_event - save.events.len() as i64 + 1;
    let numbered: Vec<Event> = save.events.iter().zip(first..).map(|(event, seq)| numbered(event, seq)).collect();
    events::append_to(&mut batch, &save.run.id, &numbered)?;
    batch.execute(tx).await?;
    for job in &save.jobs {
        jobs::enqueue(tx, job).await?;
    }
    for id in &save.take_back {
        jobs::take_back(tx, id).await?;
    }
    Ok(Saved { paused })
}

fn numbered(event: &NewEvent, seq: i64) -> Event {
    Event { seq, kind: event.kind.to_owned(), at: event.at, data: event.data.clone() }
}

/// A new run. An id that is taken is a duplicate, which undoes the whole of it.
fn insert_run(batch: &mut Batch, save: &Save, new: &NewRun, definition_known: bool) {
    let run = &save.run;
    if !definition_known {
        batch.statement(|query| {
            query.push("INSERT INTO am_definitions (hash, body, created_at) ");
            query.push_values([()], |mut row, ()| {
                row.push_bind(new.definition_hash.clone()).push_bind(new.definition.to_string()).push_bind(run.now);
            });
            query.push(" ON CONFLICT (hash) DO NOTHING");
        });
    }
    batch.statement(|query| {
        query.push(
            "INSERT INTO agent_executions (id, workflow_id, client_id, status, current_step, step_states, final_result,
                 execution_receipt, verification_proof, error_message, failed_step, started_at, completed_at,
                 total_execution_time, total_cost, total_steps, completed_steps, created_at, updated_at) ",
        );
        query.push_values([run], |mut row, run| {
            row.push_bind(run.id.clone()).push_bind(run.workflow_id.clone()).push_bind(run.client_id.clone());
            row.push_bind(run.status).push_bind(run.completed_steps).push_bind(run.step_states.clone());
            row.push_bind(run.final_result.clone()).push_bind(run.receipt.clone()).push_bind(run.proof.clone());
            row.push_bind(run.error.clone()).push_bind(run.failed_step.clone());
            row.push_bind(run.started_at).push_bind(run.completed_at).push_bind(total_seconds(run));
            row.push_bind(run.total_cost).push_bind(run.total_steps).push_bind(run.completed_steps);
            row.push_bind(run.created_at).push_bind(run.now);
        });
    });
    batch.statement(|query| {
        query.push(
            "INSERT INTO am_runs (execution_id, definition_hash, inputs, verification_level, max_execution_time, max_cost_budget,
                 state, worker, fence, active_seconds, reserved_cost, last_event, trace_id, queued_at) ",
        );
        query.push_values([run], |mut row, run| {
            row.push_bind(run.id.clone()).push_bind(new.definition_hash.clone()).push_bind(new.inputs.clone());
            row.push_bind(new.level).push_bind(new.max_execution_time).push_bind(new.max_cost_budget);
            row.push_bind(save.hold.stored()).push_bind((save.hold == Hold::Driven).then(|| save.worker.clone()));
            row.push_bind(run.fence).push_bind(run.active_seconds).push_bind(run.reserved_cost);
            row.push_bind(save.events.len() as i64).push_bind(new.trace_id.clone()).push_bind(run.created_at);
        });
    });
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

fn insert_steps(batch: &mut Batch, save: &Save) {
    for chunk in save.steps.chunks(ROWS) {
        batch.statement(|query| push_steps(query, save, chunk));
    }
}

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
    query.push(
        "INSERT INTO agent_step_executions (id, execution_id, step_id, status, input_data, output_data, execution_time,
             gpu_accelerated, memory_usage, step_proof, verification_status, error_message, retry_count, started_at,
             completed_at, created_at, updated_at) ",
    );
    query.push_values(rows, |mut row, StepRow { row_id, step_id, step }| {
        let text = |value: &Option<std::sync::Arc<Value>>| {
            value.as_ref().map_or_else(|| "null".to_owned(), |value| value.to_string())
        };
        let verification = step.verification.as_ref();
        row.push_bind(row_id.clone()).push_bind(save.run.id.clone()).push_bind(step_id.clone()).push_bind(step.status);
        row.push_bind(text(&step.input)).push_bind(text(&step.output));
        row.push_bind((step.attempts > 0).then_some(step.seconds)).push_bind(step.gpu).push_bind(step.memory_mb);
        row.push_bind(verification.and_then(|done| Doc::of(done).ok()).unwrap_or_else(Doc::none));
        row.push_bind(verification.map(|done| if done.verified { "verified" } else { "failed" }));
        row.push_bind(step.error.clone()).push_bind(i64::from(step.attempts.saturating_sub(1)));
        row.push_bind(step.started_at).push_bind(step.completed_at).push_bind(save.run.now).push_bind(save.run.now);
    });
}
