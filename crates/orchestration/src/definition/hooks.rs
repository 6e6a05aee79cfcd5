//! Hooks of a step: commands that run in a sandbox before the step begins and after it ended well. Each hook becomes a
//! step of its own, so that time limits, retries, policies, logs, audit entries and crash recovery apply to it.

use serde_json::{Map, Value, json};

use super::source::WorkflowDefinition;
use am_core::validation::{FieldPath, PathSegment, Violation};

/// Phases of a hook; its step's key is `<key>.<phase>`.
const HOOK_PHASES: [&str; 2] = ["before", "after"];
/// Members of a hook that belong to its step; the others belong to its command.
const STEP_MEMBERS: [&str; 3] = ["timeout_seconds", "max_retries", "retry_policy"];

/// Return the definition with a step for each hook; `None` if there is no hook.
///
/// # Errors
/// Invalid hooks, and hooks whose step's key is in use.
pub fn expand_hooks(definition: &WorkflowDefinition) -> Result<Option<WorkflowDefinition>, Vec<Violation>> {
    if !definition.steps.values().any(|step| step.get("hooks").is_some()) {
        return Ok(None);
    }
    let mut faults = Vec::new();
    let mut steps = Map::new();
    let mut dependencies = definition.dependencies.clone();
    for (key, step) in &definition.steps {
        let found = HOOK_PHASES.map(|when| hook_step(definition, key, step, when));
        let [before, after] = found.map(|hook| {
            hook.unwrap_or_else(|fault| {
                faults.push(fault);
                None
            })
        });
        let upstream = || definition.waits_for(key).filter(|other| has_after_hook(definition, other));
        let mut waits_for: Vec<String> = upstream().map(|other| hook_key(other, "after")).collect();
        if let Some(mut before) = before {
            let hook = hook_key(key, "before");
            // It begins when its step would, and sees the same values.
            for member in ["depends_on", "input_mappings"] {
                before.extend(step.get(member).map(|value| (member.to_owned(), value.clone())));
            }
            dependencies.extend(definition.dependencies.get(key).map(|list| (hook.clone(), list.clone())));
            add_dependencies(&mut dependencies, &hook, &waits_for);
            steps.insert(hook.clone(), Value::Object(before));
            waits_for.push(hook);
        }
        add_dependencies(&mut dependencies, key, &waits_for);
        let mut bare = step.clone();
        bare.as_object_mut().and_then(|members| members.shift_remove("hooks"));
        steps.insert(key.clone(), bare);
        if let Some(mut after) = after {
            after.insert("depends_on".into(), json!([key]));
            steps.insert(hook_key(key, "after"), Value::Object(after));
        }
    }
    let expanded = WorkflowDefinition { steps, dependencies, scopes: definition.scopes.clone() };
    if faults.is_empty() { Ok(Some(expanded)) } else { Err(faults) }
}

/// Translate a fault in a hook's step, as made by [`expand_hooks`], to the place in the client's definition.
pub fn fault_in_source(definition: &WorkflowDefinition, fault: Violation) -> Violation {
    let [PathSegment::Member(steps), PathSegment::Member(key), ..] = fault.path.segments() else { return fault };
    let hook_of = definition.steps.get(key).and_then(|step| step.get("hook_of")).and_then(Value::as_str);
    let Some(hook_of) = hook_of.filter(|of| steps == "steps" && key.len() > of.len()) else { return fault };
    let when = key[hook_of.len()..].trim_start_matches('.').to_owned();
    let inside = fault.path.segments().iter().skip(2).cloned();
    let inside: FieldPath =
        inside.enumerate().filter(|(at, one)| *at > 0 || one != "action").map(|(_, one)| one).collect();
    Violation { path: inside.within(["steps", hook_of, "hooks", &when]), ..fault }
}

fn hook_key(key: &str, when: &str) -> String {
    format!("{key}.{when}")
}

fn has_after_hook(definition: &WorkflowDefinition, key: &str) -> bool {
    definition.steps.get(key).and_then(|step| step.get("hooks")?.get("after")).is_some_and(|hook| !hook.is_null())
}

/// Build the step of a hook, if the step has one.
fn hook_step(
    definition: &WorkflowDefinition,
    key: &str,
    step: &Value,
    when: &str,
) -> Result<Option<Map<String, Value>>, Violation> {
    let hooks = match step.get("hooks") {
        None | Some(Value::Null) => return Ok(None),
        Some(hooks) => hooks.as_object(),
    };
    let hooks = hooks.filter(|hooks| hooks.keys().all(|name| HOOK_PHASES.contains(&name.as_str())));
    let hooks = hooks
        .ok_or_else(|| Violation::new(["steps", key, "hooks"], "must be an object of hooks: before, after, or both"))?;
    let fault = |message: String| Violation::new(["steps", key, "hooks", when], message);
    let mut command = match hooks.get(when) {
        None | Some(Value::Null) => return Ok(None),
        Some(hook) => hook.as_object().cloned(),
    }
    .ok_or_else(|| fault("must be a command: an object with argv".into()))?;
    if definition.steps.contains_key(&hook_key(key, when)) {
        return Err(fault(format!("becomes a step {:?}, which there is already", hook_key(key, when))));
    }
    let mut made: Map<String, Value> =
        STEP_MEMBERS.iter().filter_map(|name| command.shift_remove_entry(*name)).collect();
    command.insert("kind".into(), json!("command"));
    made.insert("step_type".into(), json!("custom"));
    made.insert("action".into(), Value::Object(command));
    made.insert("hook_of".into(), json!(key));
    made.extend(step.get("scope").map(|scope| ("scope".to_owned(), scope.clone())));
    Ok(Some(made))
}

/// Let the step `key` depend on `more`. An invalid list is left for the compiler to refuse.
fn add_dependencies(dependencies: &mut Map<String, Value>, key: &str, more: &[String]) {
    if more.is_empty() {
        return;
    }
    if let Some(list) = dependencies.entry(key).or_insert_with(|| json!([])).as_array_mut() {
        list.extend(more.iter().map(|other| json!(other)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(steps: Value, dependencies: Value) -> WorkflowDefinition {
        let members = |value: Value| value.as_object().cloned().unwrap();
        let definition = WorkflowDefinition::new(members(steps), members(dependencies));
        expand_hooks(&definition).unwrap().unwrap()
    }

    fn waits_for<'a>(definition: &'a WorkflowDefinition, key: &str) -> Vec<&'a str> {
        definition.waits_for(key).collect()
    }

    #[test]
    fn hooks_stand_between_what_comes_before_and_what_comes_after() {
        let hook = json!({"argv": ["ls"], "max_retries": 1});
        let made = expanded(
            json!({
                "a": {"hooks": {"after": hook}},
                "b": {"hooks": {"before": hook, "after": hook}, "depends_on": ["a"]},
                "c": {"hooks": {"before": null}},
            }),
            json!({"c": ["b"]}),
        );
        let keys: Vec<&String> = made.steps.keys().collect();
        assert_eq!(keys, ["a", "a.after", "b.before", "b", "b.after", "c"]);
        assert_eq!(waits_for(&made, "a.after"), ["a"]);
        assert_eq!(waits_for(&made, "b.before"), ["a", "a.after"]);
        assert_eq!(waits_for(&made, "b"), ["a", "a.after", "b.before"]);
        assert_eq!(waits_for(&made, "c"), ["b", "b.after"]);
        assert_eq!(made.steps["b.before"]["action"], json!({"argv": ["ls"], "kind": "command"}));
        assert_eq!(made.steps["b.before"]["max_retries"], 1);
        assert!(made.steps.values().all(|step| step.get("hooks").is_none()));
        assert!(expand_hooks(&made).unwrap().is_none(), "what has its hooks' steps is not given them again");
    }

    #[test]
    fn a_hook_takes_no_steps_place() {
        let steps = json!({"a": {"hooks": {"after": {"argv": ["ls"]}}}, "a.after": {}});
        let definition = WorkflowDefinition::new(steps.as_object().cloned().unwrap(), Map::new());
        assert_eq!(expand_hooks(&definition).unwrap_err()[0].path.to_string(), "steps.a.hooks.after");
    }
}
