//! Changes of assignments inside a transaction, each with its events, what is counted of its agent and what the audit log
//! gets to know.

use serde_json::{Value, json};

use super::{
    model::{Assignment, Attempt, NewAssignment, Outcome, State},
    store,
};
use crate::{
    error::{Error, Result},
    executions,
    registry::{self, Agent, Work},
};
use am_audit::{Entry, EventType};
use am_db::{Connection, Tx, codec::Timestamp, owner};

/// Place an assignment, which waits for an agent.
pub async fn place(tx: &mut Tx, new: &NewAssignment, now: Timestamp) -> Result<()> {
    store::insert(tx, new, now).await
}

/// Nobody waits for it any more: its agent is told, and has room again. True: it had not ended.
pub async fn take_back(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    let Some(mut one) = store::get(tx.conn().await?, id).await? else { return Ok(false) };
    if one.state.is_final() {
        return Ok(false);
    }
    if one.state.is_held() {
        let mut attempt = current(tx.conn().await?, &one).await?;
        one.close(&mut attempt, Outcome::Cancelled, Some("nobody wants it any more"), false, now);
        store::save_attempt(tx, id, &attempt).await?;
        store::notify(tx, id, &attempt, "CANCEL", now).await?;
    } else {
        one.end_unheld(State::Cancelled, None, now);
    }
    store::save(tx, &one).await?;
    Ok(true)
}

/// The attempt that is under way.
pub async fn current(conn: &mut Connection, one: &Assignment) -> Result<Attempt> {
    store::get_attempt(conn, &one.id, one.attempt).await?.ok_or(Error::NotFound("Attempt"))
}

/// Release all that an agent has, because it is gone. Answers what the audit log gets to know of it, an entry for each.
pub async fn release_all(tx: &mut Tx, agent_id: &str, why: &str, now: Timestamp) -> Result<Vec<Entry>> {
    let held = store::held_by(tx.conn().await?, agent_id).await?;
    let mut entries = Vec::with_capacity(held.len());
    for mut one in held {
        let mut attempt = current(tx.conn().await?, &one).await?;
        over(tx, &mut one, &mut attempt, Outcome::Lost, &format!("agent {agent_id:?}: {why}"), false, now).await?;
        store::notify(tx, &one.id, &attempt, "CANCEL", now).await?;
        entries.push(entry(&one, &attempt, "released", now));
    }
    Ok(entries)
}

/// The attempt under way is over otherwise than by a result.
pub async fn over(
    tx: &mut Tx,
    one: &mut Assignment,
    attempt: &mut Attempt,
    outcome: Outcome,
    why: &str,
    last: bool,
    now: Timestamp,
) -> Result<()> {
    one.close(attempt, outcome, Some(why), last, now);
    store::save_attempt(tx, &one.id, attempt).await?;
    store::save(tx, one).await?;
    let work = match outcome {
        Outcome::Failed | Outcome::Expired => Work { failed: 1, ..Work::default() },
        _ => Work { lost: 1, ..Work::default() },
    };
    registry::store::note(tx, &attempt.agent_id, one.task_type, work).await?;
    let kind = if outcome == Outcome::Failed { "agent_failed" } else { "agent_released" };
    tell(tx, one, Some(attempt), kind, now, json!({"outcome": outcome, "reason": why, "state": one.state})).await
}

/// The agent delivered.
pub async fn complete(
    tx: &mut Tx,
    one: &mut Assignment,
    attempt: &mut Attempt,
    result: &Value,
    now: Timestamp,
) -> Result<()> {
    one.accept(attempt, now);
    one.result = am_db::codec::Doc::of(result)?;
    one.close(attempt, Outcome::Completed, None, false, now);
    store::save_attempt(tx, &one.id, attempt).await?;
    store::save(tx, one).await?;
    let seconds = attempt.seconds.unwrap_or(0.0);
    let work = Work { completed: 1, seconds, ..Work::default() };
    registry::store::note(tx, &attempt.agent_id, one.task_type, work).await?;
    let data = json!({"execution_time": seconds, "cost": attempt.cost});
    tell(tx, one, Some(attempt), "agent_completed", now, data).await
}

/// Give it to `agent`. Answers the attempt; none: it does not wait any more.
pub async fn offer(
    tx: &mut Tx,
    one: &mut Assignment,
    agent: &Agent,
    score: f64,
    now: Timestamp,
) -> Result<Option<Attempt>> {
    let Some(attempt) = one.offer(&agent.id, score, agent.cost_per_hour, now) else { return Ok(None) };
    store::save_attempt(tx, &one.id, &attempt).await?;
    store::save(tx, one).await?;
    store::notify(tx, &one.id, &attempt, "TASK", now).await?;
    tell(tx, one, Some(&attempt), "agent_assigned", now, json!({"score": score})).await?;
    Ok(Some(attempt))
}

/// Tell whoever follows the run.
pub async fn tell(
    tx: &mut Tx,
    one: &Assignment,
    attempt: Option<&Attempt>,
    kind: &str,
    now: Timestamp,
    mut data: Value,
) -> Result<()> {
    data["step"] = json!(one.step_key);
    data["assignment_id"] = json!(one.id);
    if let Some(attempt) = attempt {
        data["agent_id"] = json!(attempt.agent_id);
        data["assignment_attempt"] = json!(attempt.attempt);
    }
    executions::tell(tx, &one.execution_id, kind, now, data).await.map(drop)
}

/// What the audit log gets to know of what became of an attempt. What an agent did well or badly is an execution of its
/// own, by which its trust is judged.
pub fn entry(one: &Assignment, attempt: &Attempt, action: &str, now: Timestamp) -> Entry {
    let event = match attempt.outcome {
        Some(Outcome::Completed) => EventType::ExecutionCompleted,
        Some(Outcome::Failed | Outcome::Lost | Outcome::Missed | Outcome::Expired) => EventType::ExecutionFailed,
        Some(Outcome::Cancelled) | None => EventType::WorkflowUpdated,
    };
    let reason = attempt.reason.as_deref().map(|reason| reason.chars().take(1000).collect::<String>());
    let failed = event == EventType::ExecutionFailed;
    Entry::new(event, now)
        .of("assignment", action)
        .on_behalf_of(owner::SYSTEM)
        .workflow(&one.workflow_id)
        .execution(&one.execution_id)
        .data("assignment_id", json!(one.id))
        .data("step", json!(one.step_key))
        .data("agent_id", json!(attempt.agent_id))
        .data("attempt", json!(attempt.attempt))
        .data("execution_time", json!(attempt.seconds))
        .data(if failed { "error_message" } else { "reason" }, json!(reason))
}
