//! Writes of the engine: runs, steps, events, external tasks and audit entries in one transaction.

use super::{
    checkpoint::{NewExecution, Ownership, RunCheckpoint, RunRow, StepRow},
    external_tasks, late_costs,
};
use crate::{
    error::{OrchestrationError, Result},
    run::{PendingEvent, StepRun},
};
use am_audit::SecurityLevel;
use am_core::ids::PrincipalId;
use am_db::{Connection, Tx, bulk_insert::RowBatch, codec::JsonText, push_row, sql, update};
use am_events::StreamEvent;

/// Result of a save: whether the run is paused, read by the statement that also verifies the lease.
pub struct SaveOutcome {
    pub paused: bool,
}

/// A row of `agent_step_executions`, new or written over.
macro_rules! step_row {
    ($rows:expr, $run:expr, $row:expr, $($conflict:tt)*) => {{
        let StepRow { row_id, step_id, step_type, input, output, awaits_proof, step } = $row;
        push_row!($rows, "agent_step_executions" {
            id: row_id,
            execution_id: &$run.id,
            step_id: step_id,
            status: step.status,
            input_data: input,
            output_data: output,
            execution_time: (step.attempts > 0).then_some(step.seconds),
            gpu_accelerated: step.gpu,
            memory_usage: step.memory_mb,
            step_proof: step.verification.as_ref().and_then(|done| JsonText::from_value(done).ok()).unwrap_or_else(JsonText::none),
            verification_status: verification_status(step, *awaits_proof),
            error_message: &step.error,
            retry_count: i64::from(step.attempts.saturating_sub(1)),
            started_at: step.started_at,
            completed_at: step.completed_at,
            created_at: $run.now,
            updated_at: $run.now,
        } where present {
            step_type: *step_type,
        } $($conflict)*);
    }};
}

/// Build the rows of a new run, with the definition unless it is known to be stored. A used id is reported as a
/// duplicate.
///
/// # Errors
/// When an event has no JSON form.
pub fn insert_rows(save: &RunCheckpoint, new: &NewExecution, definition_known: bool) -> Result<RowBatch> {
    let run = &save.run;
    let mut rows = RowBatch::default();
    if !definition_known {
        push_row!(rows, "am_definitions" {
            hash: &new.definition_hash,
            body: &*new.definition,
            created_at: run.now,
        } "ON CONFLICT (hash) DO UPDATE SET created_at = excluded.created_at");
    }
    push_row!(rows, "agent_executions" {
        id: &run.id,
        workflow_id: &run.workflow_id,
        client_id: &run.client_id,
        status: run.status,
        current_step: run.completed_steps,
        step_states: &run.step_states,
        final_result: &run.final_result,
        execution_receipt: &run.receipt,
        verification_proof: &run.proof,
        error_message: &run.error,
        failed_step: &run.failed_step,
        started_at: run.started_at,
        completed_at: run.completed_at,
        total_execution_time: total_seconds(run),
        total_cost: run.total_cost,
        total_steps: run.total_steps,
        completed_steps: run.completed_steps,
        created_at: run.created_at,
        updated_at: run.now,
    } where present {
        verification_level: new.level,
    });
    push_row!(rows, "am_runs" {
        execution_id: &run.id,
        definition_hash: &new.definition_hash,
        inputs: &new.inputs,
        verification_level: new.level,
        security_level: new.security,
        max_execution_time: new.max_execution_time,
        max_cost_budget: new.max_cost_budget,
        state: save.hold.stored(),
        worker: (save.hold == Ownership::Driven).then_some(&save.worker_id),
        fence: run.fence,
        active_seconds: run.active_seconds,
        reserved_cost: run.reserved_cost,
        last_event: save.events.len() as i64,
        trace_id: &new.trace_id,
        queued_at: run.created_at,
        client_id: &run.client_id,
    });
    for step in &save.steps {
        step_row!(rows, run, step,);
    }
    push_proof_order(&mut rows, save);
    am_events::add_event_rows(&mut rows, &run.id, &number_events(save, 1))?;
    Ok(rows)
}

/// Save the changes of an existing run, with its audit entries.
///
/// # Errors
/// [`OrchestrationError::LeaseLost`] when another worker holds the run.
pub async fn save_run(tx: &mut Tx, save: &RunCheckpoint, trail: RowBatch) -> Result<SaveOutcome> {
    let (last_event, paused) = update_run(tx, save).await?;
    let mut rows = RowBatch::default();
    for step in &save.steps {
        // Rows that were made with the run are written over.
        step_row!(
            rows,
            save.run,
            step,
            update on (id) except (execution_id, step_id, created_at)
        );
    }
    push_proof_order(&mut rows, save);
    let mut events = number_events(save, last_event - save.events.len() as i64 + 1);
    am_events::order_times(tx.conn().await?, &save.run.id, &mut events).await?;
    am_events::add_event_rows(&mut rows, &save.run.id, &events)?;
    rows.append(trail);
    rows.execute(tx).await?;
    submit_tasks(tx, save).await?;
    Ok(SaveOutcome { paused })
}

/// Count the active runs of a client at this security level; a run that was never saved does not count.
///
/// # Errors
/// Returns a database error when the query fails.
pub async fn count_active(conn: &mut Connection, client_id: &PrincipalId, level: SecurityLevel) -> Result<i64> {
    let count = sql!(
        "SELECT count(*) FROM am_runs r JOIN agent_executions e ON e.id = r.execution_id
         WHERE r.state <> 'ended' AND r.security_level = $2 AND r.client_id = $1",
    );
    Ok(count.bind(client_id).bind(level).fetch_value(conn).await?)
}

/// Count the runs of a client that have not ended, up to `most`.
///
/// # Errors
/// Returns a database error when the query fails.
pub async fn count_open(conn: &mut Connection, client_id: &PrincipalId, most: i64) -> Result<i64> {
    let count = sql!(
        "SELECT count(*) FROM (SELECT 1 FROM am_runs WHERE client_id = $1 AND state <> 'ended' LIMIT $2) AS open_runs"
    );
    Ok(count.bind(client_id).bind(most).fetch_value(conn).await?)
}

/// Submit and cancel the external tasks of a save.
pub async fn submit_tasks(tx: &mut Tx, save: &RunCheckpoint) -> Result<()> {
    for order in &save.orders {
        order.place(tx, save.ordered_at).await?;
    }
    for id in &save.take_back {
        if !external_tasks::cancel(tx, id, save.ordered_at).await? {
            late_costs::leave_job(tx, &save.run.id, id, save.ordered_at).await?;
        }
    }
    Ok(())
}

/// Number the events of a save, beginning with `first`.
fn number_events(save: &RunCheckpoint, first: i64) -> Vec<StreamEvent> {
    let event = |(event, seq): (&PendingEvent, i64)| StreamEvent {
        seq,
        kind: event.kind.stored().to_owned(),
        at: event.at,
        data: event.data.clone(),
    };
    save.events.iter().zip(first..).map(event).collect()
}

fn total_seconds(run: &RunRow) -> Option<f64> {
    Some(run.completed_at?.seconds_since(run.started_at?))
}

fn verification_status(step: &StepRun, awaits_proof: bool) -> Option<&'static str> {
    let verified = step.verification.as_ref()?.verified;
    Some(match (verified, awaits_proof) {
        (true, _) => "verified",
        (false, true) => "pending",
        (false, false) => "failed",
    })
}

/// Order the proof of a run that ends with a step that requires one.
fn push_proof_order(rows: &mut RowBatch, save: &RunCheckpoint) {
    if save.run.wants_proof {
        push_row!(rows, "am_proof_orders" {
            execution_id: &save.run.id,
            ordered_at: save.run.now,
        } update on (execution_id));
    }
}

async fn update_run(tx: &mut Tx, save: &RunCheckpoint) -> Result<(i64, bool)> {
    let run = &save.run;
    let held = sql!(
        "UPDATE am_runs SET state = $3, worker = $4, active_seconds = $5, reserved_cost = $6, last_event = last_event + $7, claims = 0,
             paused = paused AND $3 <> 'ended'
         WHERE execution_id = $1 AND fence = $2 AND state = 'driven' RETURNING last_event, paused",
    )
    .bind(&run.id)
    .bind(run.fence)
    .bind(save.hold.stored())
    .bind((save.hold == Ownership::Driven).then_some(&save.worker_id))
    .bind(run.active_seconds)
    .bind(run.reserved_cost)
    .bind(save.events.len() as i64);
    let held: Option<(i64, bool)> = held.fetch_optional(tx.conn().await?).await?;
    let held = held.ok_or(OrchestrationError::LeaseLost)?;
    let changed = update!("agent_executions" {
        status: run.status,
        current_step: run.completed_steps,
        step_states: &run.step_states,
        final_result: &run.final_result,
        execution_receipt: &run.receipt,
        verification_proof: &run.proof,
        error_message: &run.error,
        failed_step: &run.failed_step,
        started_at: run.started_at,
        completed_at: run.completed_at,
        total_execution_time: total_seconds(run),
        total_cost: run.total_cost,
        completed_steps: run.completed_steps,
        updated_at: run.now,
    } where "id = $1" (&run.id));
    // The coordinator deleted the execution, so its result is not needed.
    if changed.execute(tx.conn().await?).await? == 0 { Err(OrchestrationError::LeaseLost) } else { Ok(held) }
}
