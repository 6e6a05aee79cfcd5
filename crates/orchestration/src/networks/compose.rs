//! Composition of one definition from several agents: each agent's steps become a group that sees only its own inputs
//! and steps; between stages the results are combined, and the next stage sees them as `$.inputs.upstream`.

use serde_json::{Map, Value, json};

use super::model::AgentNetwork;
use crate::definition::WorkflowDefinition;
use am_core::ids::WorkflowId;

/// An agent and its workflow's definition.
pub struct ComposedAgent {
    /// Identifier of the agent's workflow.
    pub id: WorkflowId,
    /// Definition of that workflow.
    pub definition: WorkflowDefinition,
}

/// Build the definition that runs `task` on the agents of `network`: steps `<agent>.<key>`, a step `<agent>` that
/// collects an agent's results, and a step `stage_<n>` that collects a stage's.
pub fn compose_definition(agents: &[ComposedAgent], network: &AgentNetwork, task: &Value) -> WorkflowDefinition {
    let names = unique_names(agents);
    let mut steps = Map::new();
    let mut scopes = Map::new();
    let mut upstream: Option<String> = None;
    for (number, stage) in network.stages().iter().enumerate() {
        let mut results = Map::new();
        for &at in stage {
            let (Some(agent), Some(name)) = (agents.get(at), names.get(at)) else { continue };
            scopes.insert(name.clone(), scope_inputs(task, upstream.as_deref()));
            add_agent(&mut steps, name, &agent.definition, upstream.as_deref());
            results.insert(name.clone(), json!(format!("$.steps['{name}'].output")));
        }
        let merge = format!("stage_{}", number + 1);
        let waits_for: Vec<String> = results.keys().cloned().collect();
        steps.insert(merge.clone(), collecting_step(results, waits_for));
        upstream = Some(merge);
    }
    WorkflowDefinition { steps, dependencies: Map::new(), scopes }
}

/// An agent may occur twice in a network, so names are made unique.
fn unique_names(agents: &[ComposedAgent]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for agent in agents {
        let plain: String =
            agent.id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let mut name = plain.clone();
        let mut count = 2;
        while names.contains(&name) {
            name = format!("{plain}_{count}");
            count += 1;
        }
        names.push(name);
    }
    names
}

/// Build an agent's inputs: the task, its members by name where it is an object, and the results of the stage before.
fn scope_inputs(task: &Value, upstream: Option<&str>) -> Value {
    let mut inputs = Map::new();
    for name in task.as_object().into_iter().flat_map(Map::keys) {
        if !name.contains(['\'', '\\']) {
            inputs.insert(name.clone(), json!(format!("$.inputs.task['{name}']")));
        }
    }
    inputs.insert("task".into(), json!("$.inputs.task"));
    inputs.insert("priority".into(), json!("$.inputs.priority"));
    if let Some(merge) = upstream {
        inputs.insert("upstream".into(), json!(format!("$.steps.{merge}.output")));
    }
    Value::Object(inputs)
}

fn add_agent(steps: &mut Map<String, Value>, name: &str, definition: &WorkflowDefinition, upstream: Option<&str>) {
    let keys = || definition.steps.keys();
    let mut has_dependents = std::collections::HashSet::new();
    for (key, step) in &definition.steps {
        let waits_for: Vec<String> = definition.waits_for(key).map(str::to_owned).collect();
        has_dependents.extend(waits_for.iter().cloned());
        let mut renamed: Vec<String> = waits_for.iter().map(|other| format!("{name}.{other}")).collect();
        if waits_for.is_empty() {
            renamed.extend(upstream.map(str::to_owned));
        }
        let mut step = step.as_object().cloned().unwrap_or_default();
        step.insert("depends_on".into(), json!(renamed));
        step.insert("scope".into(), json!(name));
        steps.insert(format!("{name}.{key}"), Value::Object(step));
    }
    let leaves: Vec<&String> = keys().filter(|key| !has_dependents.contains(*key)).collect();
    let results = leaves
        .iter()
        .filter(|key| !key.contains(['\'', '\\']))
        .map(|key| ((*key).clone(), json!(format!("$.steps['{name}.{key}'].output"))));
    let waits_for = leaves
        .iter()
        .map(|key| format!("{name}.{key}"))
        .chain(upstream.filter(|_| leaves.is_empty()).map(str::to_owned))
        .collect();
    steps.insert(name.to_owned(), collecting_step(results.collect(), waits_for));
}

/// Build a step that combines results.
fn collecting_step(results: Map<String, Value>, waits_for: Vec<String>) -> Value {
    json!({"step_type": "custom", "input_mappings": results, "depends_on": waits_for})
}
