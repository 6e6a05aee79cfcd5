//! What is recorded of a workflow's executions: the attempts at each step, with their times, from the executions' events.

use std::collections::HashMap;

use am_db::{codec::Timestamp, page::PageRequest, principal::Principal};
use am_events::StreamEvent;
use am_orchestration::{
    definition::{CompiledStep, ExecutionPlan},
    executions::{ExecutionFilter, ExecutionService},
    model::ExecutionStatus,
    workflows::Workflow,
};
use am_performance_math::replay::{ReplayAttempt, ReplayRetry, ReplayStep};
use serde_json::Value;

use super::workflow_search::RecordedAttempts;
use crate::error::Result;

/// Executions whose events are read, the newest ones.
const MAX_EXECUTIONS: u32 = 60;
/// Events of an execution that are read.
const MAX_EVENTS: usize = 5_000;

/// What is recorded of one execution.
struct RecordedRun {
    attempts: RecordedAttempts,
    /// Seconds from when each step could begin to when it did; `None`: it did not.
    lags: Vec<Option<f64>>,
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.0 - from.0).as_seconds_f64().max(0.0)
}

/// Whether a failed attempt would not be tried again whatever the settings: its step computes, and would fail the same way, or it was
/// not tried again though it had retries left. Of one that had none it is not known, and taken as one that may pass.
fn ends_for_good(step: &CompiledStep, data: &Value) -> bool {
    let retries_left = data["attempt"].as_u64().is_some_and(|attempt| attempt <= u64::from(step.max_retries));
    step.action.is_pure() || (data["retry_at"].is_null() && retries_left)
}

/// Read the events of an execution, in which steps have these keys. `None`: they tell of no whole attempt.
fn read_run(events: &[StreamEvent], plan: &ExecutionPlan) -> Option<RecordedRun> {
    let places: HashMap<&str, usize> =
        plan.steps.iter().enumerate().map(|(at, step)| (step.key.as_str(), at)).collect();
    let count = plan.steps.len();
    let (mut attempts, mut lags) = (vec![Vec::new(); count], vec![None; count]);
    let (mut began, mut ended) = (vec![None; count], vec![None; count]);
    let mut start = None;
    for event in events {
        match event.kind.as_str() {
            "execution_started" => start = Some(event.at),
            // The time in a pause is nobody's.
            "execution_paused" | "execution_retried" => return None,
            _ => {}
        }
        let Some(at) = event.data["step"].as_str().and_then(|key| places.get(key).copied()) else { continue };
        match event.kind.as_str() {
            "step_started" => {
                began[at] = Some(event.at);
                let ready =
                    plan.steps[at].depends_on.iter().map(|before| ended[*before]).collect::<Option<Vec<Timestamp>>>();
                let ready = ready.and_then(|ready| ready.into_iter().chain(start).max());
                if lags[at].is_none() {
                    lags[at] = ready.map(|ready| seconds(ready, event.at));
                }
            }
            "step_completed" | "step_failed" => {
                let Some(from) = began[at].take() else { continue };
                let failed = event.kind == "step_failed";
                let is_final = failed && ends_for_good(&plan.steps[at], &event.data);
                attempts[at].push(ReplayAttempt { seconds: seconds(from, event.at), failed, is_final });
                if !failed {
                    ended[at] = Some(event.at);
                }
            }
            _ => {}
        }
    }
    attempts.iter().any(|attempts| !attempts.is_empty()).then_some(RecordedRun { attempts, lags })
}

/// The steps of a workflow with their present settings and the engine's usual lag, and the attempts of its recorded executions, oldest
/// first.
pub(super) async fn recorded_runs(
    executions: &ExecutionService,
    caller: &Principal,
    (workflow, plan): (&Workflow, &ExecutionPlan),
) -> Result<(Vec<ReplayStep>, Vec<RecordedAttempts>)> {
    let filter = ExecutionFilter {
        workflow_id: Some(workflow.id.clone()),
        status: vec![ExecutionStatus::Completed, ExecutionStatus::Failed],
        page: PageRequest { limit: MAX_EXECUTIONS, ..PageRequest::default() },
        ..ExecutionFilter::default()
    };
    let page = executions.list(caller, &filter).await?;
    let mut runs = Vec::new();
    for row in &page.rows {
        // An execution of an earlier definition has steps of other keys, or other settings, but the same attempts.
        let events = executions.events(caller, &row.row.id, 0, MAX_EVENTS).await?;
        runs.extend(read_run(&events, plan));
    }
    runs.reverse();
    let lag = |at: usize| {
        let mut found: Vec<f64> = runs.iter().filter_map(|run| run.lags[at]).collect();
        found.sort_by(f64::total_cmp);
        found.get(found.len() / 2).copied().unwrap_or_default()
    };
    let steps = plan.steps.iter().enumerate().map(|(at, step)| ReplayStep {
        dependencies: step.depends_on.clone(),
        attempts: Vec::new(),
        lag: lag(at),
        retry: ReplayRetry {
            retries: step.max_retries,
            initial: step.retry.initial_seconds,
            backoff: step.retry.backoff,
            max: step.retry.max_seconds,
            jitter: step.retry.jitter,
        },
    });
    let steps = steps.collect();
    Ok((steps, runs.into_iter().map(|run| run.attempts).collect()))
}
