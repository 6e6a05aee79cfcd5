//! What a definition is compiled to.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    action::StepAction,
    mapping::ValueMapping,
    model::{RetryPolicy, StepType, VerificationLevel},
};

/// A compiled step.
#[derive(Clone, Debug)]
pub struct CompiledStep {
    /// Key in the definition.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Type of the step.
    pub step_type: StepType,
    /// Action of the step.
    pub action: StepAction,
    /// Mapping of its input; `None`: the outputs of its dependencies, or the run's inputs.
    pub inputs: Option<ValueMapping>,
    /// Mapping of its output from its result; `None`: the whole result.
    pub outputs: Option<ValueMapping>,
    /// Timeout of one attempt.
    pub timeout: Duration,
    /// Retry policy of failed attempts.
    pub retry: RetryPolicy,
    /// Maximum number of retries.
    pub max_retries: u32,
    /// Whether it must provide a proof.
    pub requires_proof: bool,
    /// Verification level, if the step sets its own.
    pub verification_level: Option<VerificationLevel>,
    /// Indices of the steps it depends on.
    pub depends_on: Vec<usize>,
    /// Group of the step, with the mapping of the group's inputs.
    pub scope: Option<Arc<StepScope>>,
    /// Requirements, as in the definition.
    pub model_requirements: Value,
    /// The step as in the definition.
    pub raw: StepDefinition,
}

impl CompiledStep {
    /// Return whether one of its paths searches, so that its work is not bounded by the size of what it selects.
    pub fn searches(&self) -> bool {
        let scope = self.scope.as_ref().map(|scope| &scope.inputs);
        let mut mappings = [self.inputs.as_ref(), self.outputs.as_ref(), scope].into_iter().flatten();
        mappings.any(ValueMapping::searches) || self.action.template().is_some_and(|(_, template)| template.searches())
    }
}

/// A group of steps that sees only its own inputs and steps.
#[derive(Clone, Debug)]
pub struct StepScope {
    /// Name; the keys of its steps are `<name>.<key>`.
    pub name: String,
    /// Mapping of its inputs from the run's.
    pub inputs: ValueMapping,
}

/// A step as written in a definition. Members not listed here are ignored.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StepDefinition {
    /// Name for people; default the key.
    pub name: Option<String>,
    /// Type of the step; default `inference`.
    pub step_type: Option<StepType>,
    /// Requirements; `model` names a language model.
    pub model_requirements: Option<Map<String, Value>>,
    /// Input mapping: name to JSONPath or literal.
    pub input_mappings: Option<Map<String, Value>>,
    /// Output mapping: name to JSONPath or literal.
    pub output_mappings: Option<Map<String, Value>>,
    /// Timeout of an attempt in seconds; default 300.
    pub timeout_seconds: Option<u64>,
    /// Retry policy; see [`RetryPolicy`].
    pub retry_policy: Option<RetryPolicy>,
    /// Maximum number of retries; default 3.
    pub max_retries: Option<u32>,
    /// Whether the step must provide a proof; default false.
    pub requires_proof: Option<bool>,
    /// Verification level; default that of the execution.
    pub verification_level: Option<VerificationLevel>,
    /// Keys of the steps it depends on.
    pub depends_on: Option<Vec<String>>,
    /// Action of the step.
    pub action: Option<Value>,
    /// Name of the group that it belongs to.
    pub scope: Option<String>,
    /// Key of the step whose hook it is: it takes part in the order of steps, but is neither input nor result of
    /// others.
    pub hook_of: Option<String>,
}

/// A compiled definition.
#[derive(Clone, Debug)]
pub struct ExecutionPlan {
    /// Steps, in the definition's order.
    pub steps: Vec<CompiledStep>,
    /// Dependents: for each step the indices of the steps that depend on it.
    pub dependents: Vec<Vec<usize>>,
    /// Canonical JSON of the definition, as stored with a run.
    pub body: Arc<str>,
    /// SHA-256 of `body`, in hex.
    pub hash: String,
}
