//! Audit entries of a run: one per change that its events report.

use serde_json::json;

use crate::{
    event_kinds::ExecutionEventKind,
    run::{PendingEvent, RunState},
};
use am_audit::{AuditEntry, EventType};
use am_core::{ids::ExternalTaskId, money::Money};
use am_db::codec::Timestamp;

/// Build the audit entries of the unsaved events.
pub fn build_entries(run: &RunState, now: Timestamp) -> Vec<AuditEntry> {
    // A run without a permit has no event yet, but exists.
    if run.is_new && run.events.is_empty() {
        return vec![run_entry(run, EventType::WorkflowUpdated, "queued", now)];
    }
    let mut entries = Vec::with_capacity(run.events.len() + 1);
    for event in &run.events {
        entries.push(event_entry(run, event));
        entries.extend(verification_entry(run, event));
    }
    entries
}

/// Build the entry of a cancelled external task; a miner that already has the job continues.
pub fn task_cancelled_entry(run: &RunState, order: &ExternalTaskId, now: Timestamp) -> AuditEntry {
    let entry = run_entry(run, EventType::WorkflowUpdated, "taken_back", now);
    entry.of("order", "taken_back").data("order_id", json!(order))
}

/// Build the entry of a cost that came due after the run was cancelled: a step's call could not be taken back.
pub fn late_cost_entry(run: &RunState, cost: Money, now: Timestamp) -> AuditEntry {
    run_entry(run, EventType::WorkflowUpdated, "late_cost_booked", now).data("cost", json!(cost))
}

fn run_entry(run: &RunState, event: EventType, action: &str, at: Timestamp) -> AuditEntry {
    AuditEntry::new(event, at)
        .of("execution", action)
        .on_behalf_of(run.client_id.as_str())
        .workflow(run.workflow_id.as_str())
        .execution(run.id.as_str())
        .level(run.security)
}

fn event_entry(run: &RunState, event: &PendingEvent) -> AuditEntry {
    let data = &event.data;
    let of = |kind: EventType, action: &str| run_entry(run, kind, action, event.at);
    let of_step = |kind: EventType, action: &str| {
        let key = data["step"].as_str().unwrap_or_default();
        let at = run.plan.steps.iter().position(|step| step.key == key);
        let id = at.and_then(|at| run.steps.get(at)).map_or(key, |step| step.step_id.as_str());
        of(kind, action).of("step", action).step(id).data("step", json!(key)).data("attempt", data["attempt"].clone())
    };
    let seconds = run.completed_at.zip(run.started_at).map(|(end, start)| end.seconds_since(start));
    match event.kind {
        ExecutionEventKind::ExecutionStarted => of(EventType::ExecutionStarted, "started")
            .from(run.origin.clone())
            .data("total_steps", data["total_steps"].clone())
            .change(Some(json!({"status": "pending"})), Some(json!({"status": "running"}))),
        ExecutionEventKind::StepStarted => of_step(EventType::StepStarted, "started"),
        ExecutionEventKind::StepCompleted => of_step(EventType::StepCompleted, "completed")
            .data("execution_time", data["execution_time"].clone())
            .data("memory_usage", data["memory_usage"].clone())
            .data("cost", data["cost"].clone())
            .data("verified", data["verified"].clone()),
        ExecutionEventKind::StepFailed => of_step(EventType::StepFailed, "failed")
            .error("step_failed", data["error"].as_str())
            .data("retry_at", data["retry_at"].clone()),
        ExecutionEventKind::ExecutionCompleted => of(EventType::ExecutionCompleted, "completed")
            .data("execution_time", json!(seconds))
            .data("total_cost", data["total_cost"].clone())
            .data("verified", data["verified"].clone())
            .change(Some(json!({"status": "running"})), Some(json!({"status": "completed"}))),
        ExecutionEventKind::ExecutionFailed => of(EventType::ExecutionFailed, "failed")
            .error("execution_failed", data["error"].as_str())
            .data("class", data["class"].clone())
            .data("failed_step", data["failed_step"].clone())
            .data("execution_time", json!(seconds))
            .data("total_cost", data["total_cost"].clone())
            .change(Some(json!({"status": "running"})), Some(json!({"status": "failed"}))),
        // Stopped steps and submitted tasks.
        kind => of_step(EventType::WorkflowUpdated, kind.stored())
            .data("job_id", data["job_id"].clone())
            .data("run_id", data["run_id"].clone())
            .data("assignment_id", data["assignment_id"].clone())
            .data("reason", data["reason"].clone()),
    }
}

/// Build one entry about the verification of all results of the run.
fn verification_entry(run: &RunState, event: &PendingEvent) -> Option<AuditEntry> {
    let verified = event.data["verified"].as_bool().filter(|_| event.kind == ExecutionEventKind::ExecutionCompleted)?;
    let kind = if verified { EventType::VerificationCompleted } else { EventType::VerificationFailed };
    let entry = run_entry(run, kind, if verified { "verified" } else { "not_verified" }, event.at);
    Some(entry.data("level", json!(run.level)))
}
