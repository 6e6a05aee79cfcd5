//! Recorded steps done again, where they are deterministic: whether the same input gives the same output.

use serde_json::{Map, Value};

use super::recorded::RecordedRun;
use crate::{
    action::{PolicyTarget, StepAction},
    engine::repeat::{asked_state, repeat_check, repeat_policy, repeat_program},
    jq::JqPool,
    mapping::MappingContext,
    receipts::json_hash,
    run::{PlannedSteps, RunContext, ScopeInputContext},
};
use am_core::{
    boxed,
    value_budget::{ByteLimit, ValueBudget},
};
use am_rl::{PolicyReference, PolicyServer};

/// Largest value of a step that is done again: what it was recorded with was checked when it ran.
const VALUE_LIMIT: ByteLimit = ByteLimit { name: "a repeated step's value", bytes: 64 << 20 };

/// What came of doing a step again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Its output has the recorded one's hash.
    Same,
    /// Its output has this other hash.
    Different(String),
    /// It is not deterministic, or what it asked is gone: why.
    NotRepeatable(String),
}

/// What a step asked a policy, and what it answered.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyQuestion {
    /// Policy and version that answered.
    pub reference: PolicyReference,
    /// State that it was asked for.
    pub state: Vec<f64>,
    /// Index of the action that it answered.
    pub action: usize,
}

/// What steps are done again with.
pub struct ReplayTools {
    /// Workers for programs and schemas.
    pub jq: JqPool,
    /// The server of loaded policies.
    pub policies: PolicyServer,
}

impl RecordedRun {
    fn planned(&self) -> PlannedSteps<'_> {
        PlannedSteps { plan: &self.plan, steps: &self.steps }
    }

    /// Do the step at `at` again with its recorded input, and compare the outputs' hashes as receipts have them.
    #[boxed]
    pub async fn replay(&self, at: usize, tools: &ReplayTools) -> ReplayOutcome {
        match self.repeated(at, tools).await {
            Err(reason) => ReplayOutcome::NotRepeatable(reason),
            Ok(output) => {
                let hash = json_hash(Some(&output));
                if hash == json_hash(self.steps[at].output.as_deref()) {
                    ReplayOutcome::Same
                } else {
                    ReplayOutcome::Different(hash)
                }
            }
        }
    }

    /// What the step at `at` asked a policy; `None`: it asked none. An error says why it can't be known.
    pub fn policy_query(&self, at: usize, policies: &PolicyServer) -> Option<Result<PolicyQuestion, String>> {
        let (spec, step) = (self.plan.steps.get(at)?, self.steps.get(at)?);
        if !matches!(spec.action, StepAction::Policy(_)) {
            return None;
        }
        if spec.outputs.is_some() {
            return Some(Err("output_mappings change its answer".to_owned()));
        }
        let output = step.output.as_deref()?;
        let action = output.get("action").and_then(Value::as_u64);
        let Some(action) = action else { return Some(Err("its action is not one of several".to_owned())) };
        let reference = output.get("policy").and_then(Value::as_str).and_then(|name| name.parse().ok());
        let Some(reference) = reference else { return Some(Err("its output does not name the policy".to_owned())) };
        let state = asked_state(policies, &reference, step.input.as_deref().unwrap_or(&Value::Null));
        Some(state.map(|state| PolicyQuestion { reference, state, action: action as usize }))
    }

    async fn repeated(&self, at: usize, tools: &ReplayTools) -> Result<Value, String> {
        let (spec, step) = (&self.plan.steps[at], &self.steps[at]);
        let null = Value::Null;
        let input = step.input.as_deref().unwrap_or(&null);
        let jq = tools.jq.for_client(&self.execution.client_id);
        let result = match &spec.action {
            StepAction::Jq(program) => repeat_program(&jq, program.clone(), input).await?,
            StepAction::Check { schema, assert } => repeat_check(&jq, schema.clone(), assert.clone(), input).await?,
            StepAction::Identity => input.clone(),
            StepAction::Policy(PolicyTarget::Fixed(reference)) => {
                let answered = step.output.as_deref().and_then(|output| output.get("policy")).and_then(Value::as_str);
                // What a name without a version meant then is in the answer.
                let reference: PolicyReference =
                    answered.and_then(|name| name.parse().ok()).unwrap_or_else(|| reference.clone());
                repeat_policy(&tools.policies, &reference, input).await?
            }
            StepAction::Policy(PolicyTarget::Path(_)) => {
                let answered = step.output.as_deref().and_then(|output| output.get("policy")).and_then(Value::as_str);
                let reference = answered.and_then(|name| name.parse().ok());
                let reference: PolicyReference =
                    reference.ok_or("its output does not name the policy that answered")?;
                repeat_policy(&tools.policies, &reference, input).await?
            }
            other => return Err(format!("a step of kind {} is not deterministic", other.kind())),
        };
        match &spec.outputs {
            None => Ok(result),
            Some(mapping) => {
                let mut budget = ValueBudget::new(VALUE_LIMIT);
                let scope = match &spec.scope {
                    None => None,
                    Some(scope) => {
                        let outer = ScopeInputContext { run: self.planned(), inputs: &self.inputs };
                        Some(Value::Object(resolved(&scope.inputs, &outer, &mut budget)?))
                    }
                };
                let inputs = scope.as_ref().unwrap_or(&self.inputs);
                let context = RunContext { run: self.planned(), at, inputs, output: Some(&result) };
                Ok(Value::Object(resolved(mapping, &context, &mut budget)?))
            }
        }
    }
}

fn resolved(
    mapping: &crate::mapping::ValueMapping,
    context: &dyn MappingContext,
    budget: &mut ValueBudget,
) -> Result<Map<String, Value>, String> {
    mapping.resolve(context, budget).map_err(|error| error.to_string())
}
