//! A retry with the current definition of the workflow: which steps keep their results.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use crate::definition::{ExecutionPlan, WorkflowDefinition};
use am_audit::SecurityLevel;
use am_core::{ambient::IdGenerator, ids::StepId};

/// Definition that an execution goes on with.
#[derive(Clone)]
pub struct Redefinition {
    /// The present definition of its workflow, compiled.
    pub plan: Arc<ExecutionPlan>,
    /// Id of the row of each step in `agent_steps`.
    pub step_ids: Arc<[StepId]>,
    /// Security level of the execution from now on.
    pub security: SecurityLevel,
    /// Source of the ids of new steps' rows.
    pub ids: IdGenerator,
}

/// Steps that are the same in both definitions.
pub struct StepComparison {
    /// Steps with the same text and dependencies.
    pub same: BTreeSet<String>,
    /// Those among them that keep their results: completed, as is every step that they wait for.
    pub kept: BTreeSet<String>,
}

/// Compare the steps of two definitions; `completed` are those that have ended well under the old one.
pub fn compare_steps(old: &WorkflowDefinition, new: &WorkflowDefinition, completed: &BTreeSet<&str>) -> StepComparison {
    let is_same = |key: &str, step: &Value| {
        let waits = |definition: &WorkflowDefinition| -> BTreeSet<String> {
            definition.waits_for(key).map(str::to_owned).collect()
        };
        old.steps.get(key) == Some(step) && waits(old) == waits(new)
    };
    let same: BTreeSet<String> =
        new.steps.iter().filter(|(key, step)| is_same(key, step)).map(|(key, _)| key.clone()).collect();
    let waits: BTreeMap<&str, Vec<&str>> =
        same.iter().map(|key| (key.as_str(), new.waits_for(key).collect())).collect();
    let mut kept: BTreeSet<String> = same.iter().filter(|key| completed.contains(key.as_str())).cloned().collect();
    loop {
        let lost: Vec<String> = kept
            .iter()
            .filter(|key| waits.get(key.as_str()).into_iter().flatten().any(|other| !kept.contains(*other)))
            .cloned()
            .collect();
        if lost.is_empty() {
            return StepComparison { same, kept };
        }
        kept.retain(|key| !lost.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(steps: Value) -> WorkflowDefinition {
        WorkflowDefinition::new(steps.as_object().unwrap().clone(), Default::default())
    }

    #[test]
    fn what_follows_a_changed_step_is_done_again() {
        let old = definition(json!({
            "a": {"n": 1}, "b": {"n": 1, "depends_on": ["a"]}, "c": {"n": 1, "depends_on": ["b"]}, "d": {"n": 1},
        }));
        let done: BTreeSet<&str> = ["a", "b", "d"].into();
        let kept = |new: &WorkflowDefinition| {
            let found = compare_steps(&old, new, &done).kept;
            found.into_iter().collect::<Vec<_>>().join("")
        };
        assert_eq!(kept(&old), "abd");
        let mut new = old.clone();
        new.steps["c"] = json!({"n": 2, "depends_on": ["b"]});
        assert_eq!(kept(&new), "abd", "the step that failed is another one");
        new.steps["a"] = json!({"n": 2});
        assert_eq!(kept(&new), "d", "what waits for a changed step waits again");
        let mut new = old.clone();
        new.dependencies.insert("d".into(), json!(["c"]));
        assert_eq!(kept(&new), "ab", "it waits for more");
        new.steps.shift_remove("a");
        assert_eq!(kept(&new), "");
    }
}
