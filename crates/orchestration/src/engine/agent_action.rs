//! Execution of steps by agents of the registry.

use serde_json::json;

use super::{
    external_tasks::ExternalTask,
    invocation::{ActionFailure, ActionInvocation, ActionOutput},
};
use crate::{
    agent_step::AgentSpec,
    agents::TaskRequirements,
    assignments::{ASSIGNMENT_ID_PREFIX, AssignmentService, AssignmentState, NewAssignment},
    mapping::ResolveError,
    run::RunState,
};
use am_core::{ids::AssignmentId, money::Money};
use am_db::codec::Timestamp;

/// Prepare the assignment of step `at`, which has begun; if an earlier worker submitted one, that one is used. Its id
/// is made of `draw_digits`; `granted` is the highest price where the step names none.
pub fn prepare_assignment(
    run: &RunState,
    at: usize,
    spec: &AgentSpec,
    granted: Option<Money>,
    draw_digits: impl FnOnce() -> String,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(ActionInvocation, Option<ExternalTask>), ResolveError> {
    let (step, state) = (&run.plan.steps[at], &run.steps[at]);
    if let Some(id) = &state.job_id {
        return Ok((ActionInvocation::Agent { id: id.as_str().into() }, None));
    }
    let scope = run.scope_inputs(step)?;
    let mut budget = run.value_budget();
    let mut request = spec.request.fill(&run.context(at, scope.as_deref(), None), &mut budget)?;
    if let Some(input) = &state.input {
        budget.draw(input).map_err(|exceeded| ResolveError::too_large("the assignment's request", exceeded))?;
    }
    if let Some(members) = request.as_object_mut() {
        members.insert("input".into(), state.input.as_deref().cloned().unwrap_or_default());
        members.entry("name").or_insert_with(|| json!(step.name));
    }
    let id = AssignmentId::from(format!("{ASSIGNMENT_ID_PREFIX}{}", &draw_digits()[..16]));
    let timeout = chrono::Duration::from_std(step.timeout).unwrap_or(chrono::Duration::MAX);
    let new = NewAssignment {
        id: id.clone(),
        execution_id: run.id.clone(),
        step_key: step.key.clone(),
        workflow_id: run.workflow_id.clone(),
        client_id: run.client_id.clone(),
        need: TaskRequirements { max_price: spec.need.max_price.or(granted), ..spec.need.clone() },
        priority: spec.priority,
        request,
        max_retries: spec.max_retries,
        deadline: Timestamp(now.checked_add_signed(timeout).unwrap_or(now)),
    };
    Ok((ActionInvocation::Agent { id }, Some(ExternalTask::Agent(Box::new(new)))))
}

/// Wait for an assignment and return its result.
pub async fn await_assignment(
    assignments: &AssignmentService,
    id: &AssignmentId,
) -> Result<ActionOutput, ActionFailure> {
    let ended = assignments.ended(id).await;
    let reason = || ended.error.clone().unwrap_or_else(|| "no reason was given".into());
    match ended.state {
        AssignmentState::Completed => {
            let mut found = ActionOutput::new(ended.result);
            found.cost = ended.cost;
            Ok(found)
        }
        // The assignment has already been tried with as many agents as allowed.
        AssignmentState::Failed => Err(ActionFailure::permanent(format!("assignment {id} failed: {}", reason()))),
        _ => Err(ActionFailure::permanent(format!("assignment {id} was cancelled: {}", reason()))),
    }
}
