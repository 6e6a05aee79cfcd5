//! Lookup of the paths in a run's mappings.

use serde_json::Value;

use super::step::StepRun;
use crate::{
    definition::ExecutionPlan,
    mapping::{MappingContext, StepView},
};

/// A run's plan and the state of its steps.
#[derive(Clone, Copy)]
pub struct PlannedSteps<'a> {
    pub plan: &'a ExecutionPlan,
    /// State of each step, in the plan's order.
    pub steps: &'a [StepRun],
}

impl<'a> PlannedSteps<'a> {
    fn find(self, is: impl Fn(&str) -> bool) -> Option<StepView<'a>> {
        let at = self.plan.steps.iter().position(|step| is(&step.key))?;
        let step = &self.steps[at];
        Some(StepView { output: step.output.as_deref(), input: step.input.as_deref(), status: step.status.value() })
    }
}

/// Values visible to the mappings of a step.
pub struct RunContext<'a> {
    pub run: PlannedSteps<'a>,
    /// Place of the step in the plan.
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
        self.run.find(|other| match scope {
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
    pub run: PlannedSteps<'a>,
    /// Inputs of the run.
    pub inputs: &'a Value,
}

impl MappingContext for ScopeInputContext<'_> {
    fn inputs(&self) -> &Value {
        self.inputs
    }

    fn step(&self, key: &str) -> Option<StepView<'_>> {
        self.run.find(|other| other == key)
    }

    fn output(&self) -> Option<&Value> {
        None
    }
}
