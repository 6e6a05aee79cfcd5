//! State transitions of assignments inside a transaction, each with its events, the agent's statistics and the audit
//! entries.

use serde_json::{Value, json};

use super::{
    model::{Assignment, AssignmentAttempt, AssignmentState, AttemptOutcome, NewAssignment, NotificationKind},
    store,
};
use crate::{
    agents::{self, RegisteredAgentRecord, TaskStats},
    error::{OrchestrationError, Result},
    event_kinds::ExecutionEventKind,
    run,
};
use am_audit::{AuditEntry, EventType};
use am_core::boxed;
use am_core::ids::{AgentId, AssignmentId};
use am_db::{Connection, Tx, codec::Timestamp, owner};

/// Store an assignment, which waits for an agent.
pub async fn place_assignment(tx: &mut Tx, new: &NewAssignment, now: Timestamp) -> Result<()> {
    store::insert(tx, new, now).await
}

/// Cancel an assignment. Its agent is notified and has capacity again. Returns false if it had ended.
pub async fn cancel_assignment(tx: &mut Tx, id: &AssignmentId, now: Timestamp) -> Result<bool> {
    let Some(mut one) = store::get(tx.conn().await?, id).await? else { return Ok(false) };
    if one.state.is_final() {
        return Ok(false);
    }
    if one.state.is_held() {
        let mut attempt = current_attempt(tx.conn().await?, &one).await?;
        one.close(&mut attempt, AttemptOutcome::Cancelled, Some("the assignment was cancelled"), false, now);
        store::save_attempt(tx, id, &attempt).await?;
        store::insert_notification(tx, id, &attempt, NotificationKind::Cancel, now).await?;
    } else {
        one.end_unheld(AssignmentState::Cancelled, None, now);
    }
    store::save(tx, &one).await?;
    Ok(true)
}

/// Read the current attempt.
pub async fn current_attempt(conn: &mut Connection, one: &Assignment) -> Result<AssignmentAttempt> {
    store::get_attempt(conn, &one.id, one.attempt).await?.ok_or(OrchestrationError::NotFound("Attempt"))
}

/// Release all assignments of an agent that is gone. Returns an audit entry for each.
pub async fn release_all(tx: &mut Tx, agent_id: &AgentId, why: &str, now: Timestamp) -> Result<Vec<AuditEntry>> {
    let held = store::list_held_by(tx.conn().await?, agent_id).await?;
    let mut entries = Vec::with_capacity(held.len());
    for mut one in held {
        let mut attempt = current_attempt(tx.conn().await?, &one).await?;
        close_attempt(
            tx,
            &mut one,
            &mut attempt,
            AttemptOutcome::Lost,
            &format!("agent {agent_id:?}: {why}"),
            false,
            now,
        )
        .await?;
        store::insert_notification(tx, &one.id, &attempt, NotificationKind::Cancel, now).await?;
        let action = if one.state == AssignmentState::Failed { "given_up" } else { "released" };
        entries.push(audit_entry(&one, &attempt, action, now));
    }
    Ok(entries)
}

/// Close the current attempt without a result.
pub async fn close_attempt(
    tx: &mut Tx,
    one: &mut Assignment,
    attempt: &mut AssignmentAttempt,
    outcome: AttemptOutcome,
    why: &str,
    last: bool,
    now: Timestamp,
) -> Result<()> {
    one.close(attempt, outcome, Some(why), last, now);
    store::save_attempt(tx, &one.id, attempt).await?;
    store::save(tx, one).await?;
    let work = match outcome {
        AttemptOutcome::Failed | AttemptOutcome::Expired => TaskStats { failed: 1, ..TaskStats::default() },
        _ => TaskStats { lost: 1, ..TaskStats::default() },
    };
    agents::store::add_task_stats(tx, &attempt.agent_id, one.task_type, work).await?;
    let kind = match outcome {
        AttemptOutcome::Failed => ExecutionEventKind::AgentFailed,
        _ => ExecutionEventKind::AgentReleased,
    };
    append_event(tx, one, Some(attempt), kind, now, json!({"outcome": outcome, "reason": why, "state": one.state}))
        .await
}

/// Complete the assignment with the agent's result.
pub async fn complete_attempt(
    tx: &mut Tx,
    one: &mut Assignment,
    attempt: &mut AssignmentAttempt,
    result: &Value,
    now: Timestamp,
) -> Result<()> {
    one.accept(attempt, now);
    one.result = am_db::codec::JsonText::from_value(result)?;
    one.close(attempt, AttemptOutcome::Completed, None, false, now);
    store::save_attempt(tx, &one.id, attempt).await?;
    store::save(tx, one).await?;
    let seconds = attempt.seconds.unwrap_or(0.0);
    let work = TaskStats { completed: 1, seconds, ..TaskStats::default() };
    agents::store::add_task_stats(tx, &attempt.agent_id, one.task_type, work).await?;
    let data = json!({"execution_time": seconds, "cost": attempt.cost});
    append_event(tx, one, Some(attempt), ExecutionEventKind::AgentCompleted, now, data).await
}

/// Offer an assignment to `agent`. Returns the attempt; `None` if it no longer waits.
pub async fn offer_assignment(
    tx: &mut Tx,
    one: &mut Assignment,
    agent: &RegisteredAgentRecord,
    score: f64,
    now: Timestamp,
) -> Result<Option<AssignmentAttempt>> {
    let Some(attempt) = one.offer((&agent.id, agent.incarnation), score, agent.cost_per_hour, now) else {
        return Ok(None);
    };
    store::save_attempt(tx, &one.id, &attempt).await?;
    store::save(tx, one).await?;
    store::insert_notification(tx, &one.id, &attempt, NotificationKind::Task, now).await?;
    append_event(tx, one, Some(&attempt), ExecutionEventKind::AgentAssigned, now, json!({"score": score})).await?;
    Ok(Some(attempt))
}

/// Append an event to the run's stream.
#[boxed]
pub async fn append_event(
    tx: &mut Tx,
    one: &Assignment,
    attempt: Option<&AssignmentAttempt>,
    kind: ExecutionEventKind,
    now: Timestamp,
    mut data: Value,
) -> Result<()> {
    data["step"] = json!(one.step_key);
    data["assignment_id"] = json!(one.id);
    if let Some(attempt) = attempt {
        data["agent_id"] = json!(attempt.agent_id);
        data["assignment_attempt"] = json!(attempt.attempt);
    }
    run::append_event(tx, &one.execution_id, kind, now, data).await.map(drop)
}

/// Build the audit entry of an attempt's end. For trust scores, an agent's success or failure counts as an execution of
/// its own.
pub fn audit_entry(one: &Assignment, attempt: &AssignmentAttempt, action: &str, now: Timestamp) -> AuditEntry {
    let event = match attempt.outcome {
        Some(AttemptOutcome::Completed) => EventType::ExecutionCompleted,
        Some(AttemptOutcome::Failed | AttemptOutcome::Lost | AttemptOutcome::Missed | AttemptOutcome::Expired) => {
            EventType::ExecutionFailed
        }
        Some(AttemptOutcome::Cancelled) | None => EventType::WorkflowUpdated,
    };
    let reason = attempt.reason.as_deref();
    let failed = event == EventType::ExecutionFailed;
    let entry = AuditEntry::new(event, now)
        .of("assignment", action)
        .on_behalf_of(owner::SYSTEM_PRINCIPAL)
        .workflow(one.workflow_id.as_str())
        .execution(one.execution_id.as_str())
        .data("assignment_id", json!(one.id))
        .data("step", json!(one.step_key))
        .data("agent_id", json!(attempt.agent_id))
        .data("attempt", json!(attempt.attempt))
        .data("execution_time", json!(attempt.seconds));
    if failed { entry.error("assignment_failed", reason) } else { entry.reason(reason) }
}
