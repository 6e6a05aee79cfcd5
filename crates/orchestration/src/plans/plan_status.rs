//! State of a plan's sub-tasks, combined from its execution and its assignments.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    PlanStanding,
    model::{SubTaskStatus, TaskPlan},
};
use crate::{
    assignments::{Assignment, AssignmentAttempt},
    model::ExecutionStatus,
};
use am_core::ids::AssignmentId;
use am_db::codec::JsonText;

/// Combine a plan with the states of its steps, their assignments, and the attempts by assignment.
pub fn plan_standing(
    plan: TaskPlan,
    states: &Map<String, Value>,
    mut by_step: BTreeMap<String, Vec<Assignment>>,
    attempts: &BTreeMap<AssignmentId, Vec<AssignmentAttempt>>,
) -> PlanStanding {
    let sub_tasks = plan.document.sub_tasks.iter().map(|sub_task| {
        let state = states.get(&sub_task.key);
        let status = state.and_then(|state| serde_json::from_value(state.get("status")?.clone()).ok());
        let all = by_step.remove(&sub_task.key).unwrap_or_default();
        let told = all.iter().flat_map(|one| attempts.get(&one.id).cloned().unwrap_or_default()).collect();
        let last = all.into_iter().next_back();
        let stage = plan.document.stages.iter().position(|stage| stage.contains(&sub_task.key)).unwrap_or(0) + 1;
        let or_of_the_step = |error: Option<String>| error.or_else(|| Some(state?.get("error")?.as_str()?.to_owned()));
        SubTaskStatus {
            sub_task: sub_task.clone(),
            stage,
            status: status.unwrap_or(ExecutionStatus::Pending),
            assignment_status: last.as_ref().map(|one| one.state),
            assignment_id: last.as_ref().map(|one| one.id.clone()),
            agent_id: last.as_ref().and_then(|one| one.agent_id.clone()),
            progress: last.as_ref().map_or(0.0, |one| one.progress),
            result: last.as_ref().map_or_else(JsonText::none, |one| one.result.clone()),
            error: or_of_the_step(last.as_ref().and_then(|one| one.error.clone())),
            seconds: last.as_ref().and_then(|one| one.seconds),
            cost: last.as_ref().and_then(|one| one.cost),
            attempts: told,
        }
    });
    let sub_task_status: Vec<SubTaskStatus> = sub_tasks.collect();
    let done = sub_task_status.iter().filter(|one| one.status == ExecutionStatus::Completed).count();
    let progress = 100.0 * done as f64 / sub_task_status.len().max(1) as f64;
    PlanStanding { plan, progress, sub_task_status }
}
