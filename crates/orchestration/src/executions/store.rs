//! Queries of the tables `agent_executions` and `agent_step_executions` for clients, and changes requested by clients.

use serde_json::{Map, Value, json};

use super::{
    StepLog,
    redefinition::{Redefinition, StepComparison, compare_steps},
    wrong_state_error,
};
use crate::{
    definition::WorkflowDefinition,
    engine::stop_steps,
    error::{OrchestrationError, Result, corrupt_json_error},
    event_kinds::ExecutionEventKind,
    model::{ExecutionStatus, VerificationLevel},
    run::{Execution, append_event},
};
use am_audit::{AuditEntry, EventType, SecurityLevel};
use am_core::{
    ids::{ExecutionId, StepExecutionId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    foreign_rows::log_unreadable,
    push_row, row, sql, update,
};

row! {
    Execution from "e." {
        id,
        workflow_id,
        client_id,
        status,
        // A run that ended while it was paused is not paused any more.
        paused = "coalesce(r.paused AND e.status IN ('PENDING', 'RUNNING'), FALSE)",
        current_step,
        step_states => JsonText::or_empty_object,
        final_result,
        execution_receipt,
        verification_proof,
        error_message,
        failed_step,
        started_at,
        completed_at,
        total_execution_time,
        total_cost,
        total_steps,
        completed_steps,
        created_at,
        updated_at,
    }
}

row! {
    StepLog {
        // The row's own id, until the step's key is known.
        key = "id",
        step_id,
        status,
        started_at,
        completed_at,
        execution_time,
        error_message,
        gpu_accelerated,
        memory_usage,
        retry_count,
        verification_status,
        input = "input_data",
        output = "output_data",
        proof = "step_proof",
    }
}

pub(super) const FROM_EXECUTIONS: &str = " FROM agent_executions e LEFT JOIN am_runs r ON r.execution_id = e.id";

/// Read one execution.
pub async fn get(conn: &mut Connection, id: &ExecutionId) -> Result<Option<Execution>> {
    let query = sql!("SELECT ", Execution::COLUMNS, FROM_EXECUTIONS, " WHERE e.id = $1");
    Ok(query.bind(id).fetch_optional(conn).await?)
}

/// Read the client of an execution, as it is stored.
pub async fn client(conn: &mut Connection, id: &ExecutionId) -> Result<Option<String>> {
    Ok(sql!("SELECT client_id FROM agent_executions WHERE id = $1").bind(id).fetch_optional_value(conn).await?)
}

/// Read the inputs of an execution; none where the coordinator runs it.
pub async fn inputs(conn: &mut Connection, id: &ExecutionId) -> Result<JsonText> {
    let inputs = sql!("SELECT inputs FROM am_runs WHERE execution_id = $1").bind(id);
    Ok(inputs.fetch_optional_value(conn).await?.unwrap_or_else(JsonText::none))
}

/// Read the definition that an execution goes by; none where the coordinator runs it.
pub async fn definition_body(conn: &mut Connection, id: &ExecutionId) -> Result<Option<String>> {
    let body = sql!(
        "SELECT d.body FROM am_runs r JOIN am_definitions d ON d.hash = r.definition_hash WHERE r.execution_id = $1",
    );
    Ok(body.bind(id).fetch_optional_value(conn).await?)
}

/// Return whether an execution has ended or does not exist.
pub async fn has_ended(conn: &mut Connection, id: &ExecutionId) -> am_db::Result<bool> {
    let status = sql!("SELECT status FROM agent_executions WHERE id = $1").bind(id);
    let status: Option<String> = status.fetch_optional_value(conn).await?;
    // A state that only the coordinator knows is no end.
    Ok(status.is_none_or(|status| ExecutionStatus::from_stored(&status).is_some_and(ExecutionStatus::is_final)))
}

row! {
    /// Means over the runs of a workflow that ended well lately.
    pub struct RunMeans {
        /// Number of these runs.
        pub runs: i64 = "count(*)",
        /// Mean seconds; null without a run.
        pub seconds: Option<f64> = "avg(total_execution_time)",
        /// Mean cost; null without a run.
        pub cost: Option<Money> = "avg(total_cost)",
    }
}

/// Count the runs of a workflow that ended well lately, with their mean seconds and cost.
pub async fn completed_run_means(conn: &mut Connection, workflow_id: &WorkflowId) -> Result<RunMeans> {
    let means = sql!(
        "SELECT ",
        RunMeans::COLUMNS,
        " FROM
             (SELECT total_execution_time, total_cost FROM agent_executions
              WHERE workflow_id = $1 AND status = 'COMPLETED' AND total_execution_time IS NOT NULL
              ORDER BY created_at DESC, id DESC LIMIT 50) AS lately",
    );
    Ok(means.bind(workflow_id).fetch_one(conn).await?)
}

/// Read the steps' rows, in the definition's order where known.
pub async fn list_steps(conn: &mut Connection, execution: &Execution) -> Result<Vec<StepLog>> {
    let states = step_states(execution)?;
    let key_of = |row_id: &str| {
        states.iter().position(|(_, state)| state.get("step_execution_id").and_then(Value::as_str) == Some(row_id))
    };
    let rows = sql!(
        "SELECT ",
        StepLog::COLUMNS,
        " FROM agent_step_executions WHERE execution_id = $1 ORDER BY created_at, id",
    );
    let rows: Vec<am_db::Result<StepLog>> = rows.bind(&execution.id).fetch_readable(conn).await?;
    let mut logs: Vec<(usize, StepLog)> = Vec::with_capacity(rows.len());
    for row in rows {
        let log = match row {
            Ok(log) => log,
            Err(error) => {
                log_unreadable(execution.id.as_str(), &error);
                continue;
            }
        };
        let place = log.key.as_deref().and_then(key_of);
        let key = place.and_then(|at| states.keys().nth(at).cloned());
        logs.push((place.unwrap_or(usize::MAX), StepLog { key, ..log }));
    }
    logs.sort_by_key(|(place, _)| *place);
    Ok(logs.into_iter().map(|(_, log)| log).collect())
}

/// Read the state of each step, by key.
pub fn step_states(execution: &Execution) -> Result<Map<String, Value>> {
    let states =
        execution.step_states.parse().map_err(|error| corrupt_json_error("agent_executions.step_states", error))?;
    Ok(states.unwrap_or_default())
}

/// Read the security level of an execution; one run by the coordinator counts as internal.
pub async fn security_level(conn: &mut Connection, id: &ExecutionId) -> Result<SecurityLevel> {
    let level = sql!("SELECT security_level FROM am_runs WHERE execution_id = $1").bind(id);
    Ok(level.fetch_optional_value(conn).await?.unwrap_or(SecurityLevel::Internal))
}

/// Build an audit entry of the generic kind for a change.
fn audit_entry(action: &str, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now).of("execution", action)
}

/// Cancel an execution, whoever holds it: the fence rises, so that a driver cannot overwrite the cancellation.
pub async fn cancel(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<AuditEntry> {
    if execution.status.is_final() {
        return Err(wrong_state_error(execution.status, "cancelled"));
    }
    let mut states = step_states(&execution)?;
    let taken_back = stop_steps(tx, &execution.id, &mut states, now).await?;
    sql!(
        "UPDATE am_runs SET state = 'ended', worker = NULL, fence = fence + 1, paused = FALSE, reserved_cost = 0 WHERE execution_id = $1"
    )
    .bind(&execution.id)
    .execute(tx.conn().await?)
    .await?;
    // No proof is made of what did not complete.
    update!("agent_step_executions" {
        verification_status: "failed",
        updated_at: now,
    } where "execution_id = $1 AND verification_status = 'pending'" (&execution.id))
    .execute(tx.conn().await?)
    .await?;
    let seconds = execution.started_at.map(|started| now.seconds_since(started));
    update!("agent_executions" {
        status: ExecutionStatus::Cancelled,
        step_states: Value::Object(states).to_string(),
        completed_at: now,
        total_execution_time: seconds,
        updated_at: now,
    } where "id = $1" (&execution.id))
    .execute(tx.conn().await?)
    .await?;
    let entry = AuditEntry::new(EventType::ExecutionCancelled, now)
        .of("execution", "cancelled")
        .data("jobs_taken_back", json!(taken_back))
        .data("execution_time", json!(seconds))
        .change(Some(json!({"status": execution.status})), Some(json!({"status": ExecutionStatus::Cancelled})));
    append_event(
        tx,
        &execution.id,
        ExecutionEventKind::ExecutionCancelled,
        now,
        json!({"jobs_taken_back": taken_back}),
    )
    .await?;
    Ok(entry)
}

async fn set_paused(tx: &mut Tx, id: &ExecutionId, paused: bool) -> Result<bool> {
    let changed = sql!("UPDATE am_runs SET paused = $2 WHERE execution_id = $1 AND paused <> $2 AND state <> 'ended'");
    Ok(changed.bind(id).bind(paused).execute(tx.conn().await?).await? == 1)
}

fn definition_word(redefinition: Option<&Redefinition>) -> &'static str {
    if redefinition.is_some() { "current" } else { "original" }
}

/// Terms of an execution: verification level, time limit in seconds, security level.
pub async fn run_terms(
    conn: &mut Connection,
    id: &ExecutionId,
) -> Result<Option<(VerificationLevel, i64, SecurityLevel)>> {
    let terms =
        sql!("SELECT verification_level, max_execution_time, security_level FROM am_runs WHERE execution_id = $1");
    Ok(terms.bind(id).fetch_optional(conn).await?)
}

/// Give a failed execution another definition: rows for its new steps, and steps that are not the same any more to be done
/// again.
async fn redefine(
    tx: &mut Tx,
    execution: &Execution,
    states: &mut Map<String, Value>,
    new: &Redefinition,
    now: Timestamp,
) -> Result<()> {
    let corrupt = |error| corrupt_json_error("am_definitions.body", error);
    let body = definition_body(tx.conn().await?, &execution.id).await?;
    let old = WorkflowDefinition::from_snapshot(&body.unwrap_or_default()).map_err(corrupt)?;
    let current = WorkflowDefinition::from_snapshot(&new.plan.body).map_err(corrupt)?;
    let has_completed = |state: &Value| state.get("status").and_then(Value::as_str) == Some("completed");
    let completed = states.iter().filter(|(_, state)| has_completed(state)).map(|(key, _)| key.as_str()).collect();
    let StepComparison { same, kept } = compare_steps(&old, &current, &completed);
    let mut rows = RowBatch::default();
    let mut next = Map::new();
    for (spec, step_id) in new.plan.steps.iter().zip(new.step_ids.iter()) {
        let mut state = states.remove(&spec.key).unwrap_or_else(|| json!({}));
        let members = state.as_object_mut().ok_or_else(|| corrupt_json_error("step_states", "a state is no object"))?;
        if !members.contains_key("step_execution_id") {
            let row_id = StepExecutionId::from(new.ids.next("step_exec_", 10));
            members.insert("step_execution_id".into(), json!(row_id));
            push_row!(rows, "agent_step_executions" {
                id: &row_id,
                execution_id: &execution.id,
                step_id: step_id,
                status: ExecutionStatus::Pending,
                gpu_accelerated: false,
                retry_count: 0i64,
                created_at: now,
                updated_at: now,
            } where present {
                step_type: spec.step_type,
            });
        }
        if !kept.contains(&spec.key) {
            members.insert("status".into(), json!(ExecutionStatus::Pending));
        }
        if !same.contains(&spec.key) {
            // Another call, which repeats none.
            members.remove("repeat_call");
        }
        next.insert(spec.key.clone(), state);
    }
    *states = next;
    push_row!(rows, "am_definitions" {
        hash: &new.plan.hash,
        body: &*new.plan.body,
        created_at: now,
    } "ON CONFLICT (hash) DO UPDATE SET created_at = excluded.created_at");
    rows.execute(tx).await?;
    let again = sql!("UPDATE agent_step_executions SET status = 'PENDING' WHERE execution_id = $1 AND id NOT IN ($2)");
    let kept_rows =
        kept.iter().filter_map(|key| states.get(key)?.get("step_execution_id")?.as_str().map(str::to_owned));
    // A list is never empty: no row has this id.
    let kept_rows: Vec<String> = kept_rows.chain([String::new()]).collect();
    again.bind(&execution.id).bind_all(kept_rows.iter()).execute(tx.conn().await?).await?;
    sql!("UPDATE am_runs SET definition_hash = $2, security_level = $3 WHERE execution_id = $1")
        .bind(&execution.id)
        .bind(&new.plan.hash)
        .bind(new.security)
        .execute(tx.conn().await?)
        .await?;
    sql!("UPDATE agent_executions SET total_steps = $2, completed_steps = $3, current_step = $3 WHERE id = $1")
        .bind(&execution.id)
        .bind(new.plan.steps.len() as i64)
        .bind(kept.len() as i64)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Pause an execution.
pub async fn pause(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<AuditEntry> {
    if execution.status.is_final() {
        return Err(wrong_state_error(execution.status, "paused"));
    }
    if !set_paused(tx, &execution.id, true).await? {
        let why = if execution.paused { "it is paused already" } else { "it is run by the coordinator" };
        return Err(OrchestrationError::InvalidState(format!("Execution cannot be paused: {why}")));
    }
    append_event(tx, &execution.id, ExecutionEventKind::ExecutionPaused, now, json!({})).await?;
    Ok(audit_entry("paused", now).change(Some(json!({"paused": false})), Some(json!({"paused": true}))))
}

/// Resume an execution.
pub async fn resume(tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<AuditEntry> {
    if !set_paused(tx, &execution.id, false).await? {
        return Err(OrchestrationError::InvalidState("Execution cannot be resumed: it is not paused".into()));
    }
    append_event(tx, &execution.id, ExecutionEventKind::ExecutionResumed, now, json!({})).await?;
    Ok(audit_entry("resumed", now).change(Some(json!({"paused": true})), Some(json!({"paused": false}))))
}

/// Make a failed execution ready again: steps that ended well stay, the others are reset. With another definition, steps
/// stay only where they are the same.
pub async fn retry(
    tx: &mut Tx,
    execution: Execution,
    now: Timestamp,
    redefinition: Option<&Redefinition>,
) -> Result<AuditEntry> {
    if execution.status != ExecutionStatus::Failed {
        return Err(wrong_state_error(execution.status, "retried"));
    }
    let mut states = step_states(&execution)?;
    if let Some(new) = redefinition {
        redefine(tx, &execution, &mut states, new, now).await?;
    }
    for state in states.values_mut() {
        let Some(members) = state.as_object_mut() else { continue };
        if members.get("status").and_then(Value::as_str) != Some("completed") {
            members.retain(|name, _| {
                matches!(name.as_str(), "step_execution_id" | "attempts" | "cost" | "execution_time" | "repeat_call")
            });
            // Attempts continue to count, because their number is part of the receivers' idempotency key; the number of
            // retries left starts anew.
            if let Some(attempts) = members.get("attempts").cloned() {
                members.insert("attempts_before".into(), attempts);
            }
            members.insert("status".into(), json!(ExecutionStatus::Pending));
        }
    }
    let readied = sql!(
        "UPDATE am_runs SET state = 'ready', worker = NULL, fence = fence + 1, paused = FALSE, active_seconds = 0, reserved_cost = 0
         WHERE execution_id = $1 AND state = 'ended'",
    );
    let readied = readied.bind(&execution.id).execute(tx.conn().await?).await?;
    if readied == 0 {
        return Err(OrchestrationError::InvalidState(
            "Execution cannot be retried: it was run by the coordinator".into(),
        ));
    }
    sql!(
        "UPDATE agent_executions SET status = 'RUNNING', step_states = $2, error_message = NULL, failed_step = NULL, completed_at = NULL,
             total_execution_time = NULL, updated_at = $3 WHERE id = $1",
    )
    .bind(&execution.id)
    .bind(Value::Object(states).to_string())
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    sql!(
        "UPDATE agent_step_executions SET status = 'PENDING', error_message = NULL, started_at = NULL, completed_at = NULL, updated_at = $2
         WHERE execution_id = $1 AND status <> 'COMPLETED'",
    )
    .bind(&execution.id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    append_event(
        tx,
        &execution.id,
        ExecutionEventKind::ExecutionRetried,
        now,
        json!({"from_step": execution.failed_step, "definition": definition_word(redefinition)}),
    )
    .await?;
    Ok(audit_entry("retried", now)
        .data("from_step", json!(execution.failed_step))
        .data("definition", json!(definition_word(redefinition)))
        .change(Some(json!({"status": ExecutionStatus::Failed})), Some(json!({"status": ExecutionStatus::Running}))))
}
