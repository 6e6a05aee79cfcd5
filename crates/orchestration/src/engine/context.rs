//! Lookup of the paths in a run's mappings.

use serde_json::Value;

use super::run::RunState;
use crate::mapping::{MappingContext, StepView};

/// Values visible to the mappings of a step.
pub struct RunContext<'a> {
    pub run: &'a RunState,
    pub at: usize,
    pub inputs: &'a Value,
    pub output: Option<&'a Value>,
}

impl MappingContext for RunContext<'_> {
    fn inputs(&self) -> &Value {
        self.inputs
    }

    fn step(&self, key: &str) -> Option<StepView<'_>> {
        let scope = self.run.plan.steps[self.at].scope.as_ref();
        find_step(self.run, |other| match scope {
            None => other == key,
            Some(scope) => other
                .strip_prefix(scope.name.as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| rest == key),
        })
    }

    fn output(&self) -> Option<&Value> {
        self.output
    }
}

/// Values visible to the mapping of a group's inputs: the whole run.
pub struct ScopeInputContext<'a> {
    run: &'a RunState,
}

impl<'a> ScopeInputContext<'a> {
    pub fn new(run: &'a RunState) -> Self {
        Self { run }
    }
}

impl MappingContext for ScopeInputContext<'_> {
    fn inputs(&self) -> &Value {
        &self.run.inputs
    }

    fn step(&self, key: &str) -> Option<StepView<'_>> {
        find_step(self.run, |other| other == key)
    }

    fn output(&self) -> Option<&Value> {
        None
    }
}

fn find_step(run: &RunState, is: impl Fn(&str) -> bool) -> Option<StepView<'_>> {
    let at = run.plan.steps.iter().position(|step| is(&step.key))?;
    let step = &run.steps[at];
    Some(StepView { output: step.output.as_deref(), input: step.input.as_deref(), status: step.status.value() })
}
