//! A plan as a definition that the engine runs: each sub-task is a step that an agent does.

use serde_json::{Map, Value, json};

use super::model::{Document, Strategy, SubTask};
use crate::{
    definition::Definition,
    model::{Fault, Place},
};

/// The definition that runs `plan`.
pub fn definition(plan: &Document) -> Definition {
    let steps = plan.sub_tasks.iter().map(|sub_task| (sub_task.key.clone(), step(plan, sub_task)));
    Definition::new(steps.collect(), Map::new())
}

fn step(plan: &Document, sub_task: &SubTask) -> Value {
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
        // Its assignment goes from agent to agent by itself.
        "max_retries": 0,
    });
    // One after the other, but not one out of the other: each takes what the task was given.
    if plan.strategy == Strategy::Sequential {
        step["input_mappings"] = json!({"inputs": "$.inputs"});
    }
    step
}

/// A fault in that definition, where the client wrote it.
pub fn in_plan(plan: &Document, fault: Fault) -> Fault {
    let mut path = fault.path.into_iter().peekable();
    let mut out: Vec<Place> = vec!["sub_tasks".into()];
    let _ = path.next_if(|place| *place == Place::from("steps"));
    if let Some(Place::Member(key)) = path.peek()
        && let Some(at) = plan.sub_tasks.iter().position(|sub_task| sub_task.key == *key)
    {
        path.next();
        out.push(Place::Item(at));
    }
    let _ = path.next_if(|place| *place == Place::from("action"));
    let rest = path.map(|place| if place == Place::from("request") { "payload".into() } else { place });
    out.extend(rest);
    Fault { path: out, message: fault.message }
}
