//! Composition of a plan into a workflow definition, in which each sub-task is a step done by an agent.

use serde_json::{Map, Value, json};

use super::model::{DecompositionStrategy, PlanDocument, SubTask};
use crate::definition::WorkflowDefinition;
use am_core::validation::{FieldPath, PathSegment, Violation};

/// Build the definition that runs `plan`.
pub fn compose_definition(plan: &PlanDocument) -> WorkflowDefinition {
    let steps = plan.sub_tasks.iter().map(|sub_task| (sub_task.key.clone(), sub_task_step(plan, sub_task)));
    WorkflowDefinition::new(steps.collect(), Map::new())
}

fn sub_task_step(plan: &PlanDocument, sub_task: &SubTask) -> Value {
    let mut request = sub_task.payload.clone();
    request.entry("task").or_insert_with(|| json!({"name": plan.name, "description": plan.description}));
    let mut step = json!({
        "name": sub_task.name,
        "step_type": sub_task.task_type.step_type(),
        "action": {
            "kind": "agent",
            "task_type": sub_task.task_type,
            "gpu_tier": sub_task.gpu_tier,
            "agent_type": sub_task.agent_type,
            "max_price": sub_task.max_price,
            "estimated_seconds": sub_task.estimated_seconds,
            "priority": plan.priority.place(),
            "request": request,
        },
        "depends_on": sub_task.depends_on,
        "timeout_seconds": sub_task.timeout_seconds,
        // The assignment itself is offered to several agents, so the step is not retried.
        "max_retries": 0,
    });
    // Sequential sub-tasks do not take each other's output: each takes the task's inputs.
    if plan.strategy == DecompositionStrategy::Sequential {
        step["input_mappings"] = json!({"inputs": "$.inputs"});
    }
    step
}

/// A violation in that definition, where the client wrote it.
pub fn fault_in_plan(plan: &PlanDocument, violation: Violation) -> Violation {
    let mut path = violation.path.into_iter().peekable();
    let mut out = FieldPath::from("sub_tasks");
    let _ = path.next_if(|segment| segment == "steps");
    if let Some(PathSegment::Member(key)) = path.peek()
        && let Some(at) = plan.sub_tasks.iter().position(|sub_task| sub_task.key == *key)
    {
        path.next();
        out.push(at);
    }
    let _ = path.next_if(|segment| segment == "action");
    for segment in path {
        out.push(if &segment == "request" { "payload".into() } else { segment });
    }
    Violation { path: out, ..violation }
}
