//! Rules of a policy, checked against a workflow, a run and a step. No I/O.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    bounds::{CommandFacts, PassedBound},
    model::SecurityPolicy,
    rule,
};
use am_audit::SecurityLevel;
use am_core::{ids::SecurityPolicyId, money::Money};

/// Properties of a workflow, or of a run of one, that policies check.
#[derive(Clone, Debug)]
pub struct WorkflowFacts {
    /// Security level derived from its verification level; policies of this level apply to it.
    pub level: SecurityLevel,
    /// Verification level, by its value in the API.
    pub verification_level: &'static str,
    /// Whether results are verified.
    pub requires_verification: bool,
    /// Time limit of a run in seconds; 0: no limit.
    pub max_execution_time: i64,
    /// Limit of a run's cost; 0: no limit.
    pub max_cost_budget: Money,
    /// Number of steps.
    pub step_count: usize,
    /// Steps, where they are checked too.
    pub steps: Vec<StepFacts>,
    /// Size of the run's inputs as JSON in bytes; `None` when unknown.
    pub data_bytes: Option<u64>,
}

/// Properties of a step that policies check.
#[derive(Clone, Debug)]
pub struct StepFacts {
    /// Key of the step in the definition.
    pub key: String,
    /// Type of the step, by its value in the API.
    pub step_type: &'static str,
    /// Verification level of the step itself; `None` when it sets none.
    pub verification_level: Option<&'static str>,
    /// Requested memory in MB; `None` when it requests none.
    pub memory_mb: Option<f64>,
    /// Whether all of its local computation is done by the service's own code, its jq workers or a sandbox.
    pub sandboxed: bool,
    /// Destination outside this process to which the step sends data.
    pub leaves: StepDestination,
    /// Host of the endpoint that the step calls; `None` when it calls none.
    pub host: Option<String>,
    /// What the step's command asks of its sandbox; `None` when it runs none.
    pub command: Option<CommandFacts>,
    /// Size of the step's input as JSON in bytes; `None` when unknown.
    pub data_bytes: Option<u64>,
}

/// Destination outside this process to which a step sends data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDestination {
    /// The step sends no data.
    Nothing,
    /// The coordinator's queue, for a miner.
    Job,
    /// A configured HTTP endpoint.
    Endpoint {
        /// Whether the connection is encrypted.
        https: bool,
    },
}

impl StepDestination {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Job => "job",
            Self::Endpoint { https: true } => "https",
            Self::Endpoint { https: false } => "http",
        }
    }
}

/// Violation of a rule of a security policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyRefusal {
    /// Id of the policy.
    pub policy_id: SecurityPolicyId,
    /// Name of the policy.
    #[serde(rename = "policy")]
    pub policy_name: String,
    /// Name of the rule: a field of the policy.
    pub rule: &'static str,
    /// Value that the rule allows.
    pub limit: Value,
    /// Value that was requested or measured.
    pub asked: Value,
    /// Key of the step that violates the rule; `None` when the workflow or run does.
    pub step: Option<String>,
}

impl PolicyRefusal {
    /// Create the violation of a `rule` of `policy` that allows `limit`, by the value `asked`.
    pub fn new(policy: &SecurityPolicy, rule: &'static str, limit: Value, asked: Value) -> Self {
        Self { policy_id: policy.id.clone(), policy_name: policy.name.clone(), rule, limit, asked, step: None }
    }

    /// Set the step that violates the rule.
    #[must_use]
    pub fn with_step(mut self, key: &str) -> Self {
        self.step = Some(key.to_owned());
        self
    }
}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy_id, policy_name, rule, limit, asked, step } = self;
        write!(f, "Refused by security policy {policy_name:?} ({policy_id}): {rule} is {limit}, ")?;
        match step {
            Some(step) => write!(f, "and step {step:?} asks for {asked}"),
            None => write!(f, "and {asked} was asked for"),
        }
    }
}

fn is_allowed(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|allowed| allowed == word)
}

fn exceeding_size(limit: i64, bytes: Option<u64>) -> Option<u64> {
    bytes.filter(|bytes| i64::try_from(*bytes).unwrap_or(i64::MAX) > limit)
}

/// Violations by a run, apart from its steps and its time limit.
pub(super) fn check_run(policy: &SecurityPolicy, facts: &WorkflowFacts) -> Vec<PolicyRefusal> {
    let mut broken = Vec::new();
    let mut refuse = |rule, limit, asked| broken.push(PolicyRefusal::new(policy, rule, limit, asked));
    if policy.require_verification && !facts.requires_verification {
        refuse(rule::REQUIRE_VERIFICATION, json!(true), json!(false));
    }
    if !is_allowed(&policy.allowed_verification_levels, facts.verification_level) {
        let limit = json!(policy.allowed_verification_levels);
        refuse(rule::ALLOWED_VERIFICATION_LEVELS, limit, json!(facts.verification_level));
    }
    if i64::try_from(facts.step_count).unwrap_or(i64::MAX) > policy.max_workflow_steps {
        refuse(rule::MAX_WORKFLOW_STEPS, json!(policy.max_workflow_steps), json!(facts.step_count));
    }
    if let Some(bytes) = exceeding_size(policy.max_data_size, facts.data_bytes) {
        refuse(rule::MAX_DATA_SIZE, json!(policy.max_data_size), json!(bytes));
    }
    if let Some((rule, limit, asked)) = policy.bounds.passed_by_budget(facts.max_cost_budget) {
        refuse(rule, limit, asked);
    }
    broken
}

/// Violations by what is asked of a sandbox, with or without a command.
pub(super) fn check_sandbox(policy: &SecurityPolicy, asked: &CommandFacts) -> Vec<PolicyRefusal> {
    let mut passed = policy.bounds.passed_by_command(asked);
    if let Some(memory) = asked.memory_mb().filter(|memory| *memory > policy.max_memory_usage as f64) {
        passed.push((rule::MAX_MEMORY_USAGE, json!(policy.max_memory_usage), json!(memory)));
    }
    passed.into_iter().map(|(rule, limit, asked)| PolicyRefusal::new(policy, rule, limit, asked)).collect()
}

/// The bounds that a step passes.
fn passed_bounds(policy: &SecurityPolicy, facts: &StepFacts) -> Vec<PassedBound> {
    let bounds = &policy.bounds;
    let mut passed: Vec<PassedBound> =
        facts.command.iter().flat_map(|command| bounds.passed_by_command(command)).collect();
    if bounds.allow_network == Some(false) && matches!(facts.leaves, StepDestination::Endpoint { .. }) {
        passed.push((rule::ALLOW_NETWORK, json!(false), json!(facts.leaves.word())));
    }
    passed.extend(facts.host.as_deref().and_then(|host| bounds.passed_by_host(host)));
    passed
}

/// Violations by a step.
pub(super) fn check_step(policy: &SecurityPolicy, facts: &StepFacts) -> Vec<PolicyRefusal> {
    let mut broken = Vec::new();
    let mut refuse =
        |rule, limit, asked| broken.push(PolicyRefusal::new(policy, rule, limit, asked).with_step(&facts.key));
    if !is_allowed(&policy.allowed_step_types, facts.step_type) {
        refuse(rule::ALLOWED_STEP_TYPES, json!(policy.allowed_step_types), json!(facts.step_type));
    }
    if let Some(level) =
        facts.verification_level.filter(|level| !is_allowed(&policy.allowed_verification_levels, level))
    {
        refuse(rule::ALLOWED_VERIFICATION_LEVELS, json!(policy.allowed_verification_levels), json!(level));
    }
    if let Some(asked) = facts.memory_mb.filter(|asked| *asked > policy.max_memory_usage as f64) {
        refuse(rule::MAX_MEMORY_USAGE, json!(policy.max_memory_usage), json!(asked));
    }
    if let Some(bytes) = exceeding_size(policy.max_data_size, facts.data_bytes) {
        refuse(rule::MAX_DATA_SIZE, json!(policy.max_data_size), json!(bytes));
    }
    if policy.require_sandbox && !(facts.sandboxed && facts.leaves == StepDestination::Nothing) {
        refuse(rule::REQUIRE_SANDBOX, json!(true), json!(facts.leaves.word()));
    }
    if policy.require_encryption
        && matches!(facts.leaves, StepDestination::Job | StepDestination::Endpoint { https: false })
    {
        refuse(rule::REQUIRE_ENCRYPTION, json!(true), json!(facts.leaves.word()));
    }
    for (rule, limit, asked) in passed_bounds(policy, facts) {
        refuse(rule, limit, asked);
    }
    broken
}

/// All violations by a workflow, including its time limit and its steps.
pub(super) fn check_workflow(policy: &SecurityPolicy, facts: &WorkflowFacts) -> Vec<PolicyRefusal> {
    let mut broken = check_run(policy, facts);
    if facts.max_execution_time <= 0 || facts.max_execution_time > policy.max_execution_time {
        let (limit, asked) = (json!(policy.max_execution_time), json!(facts.max_execution_time));
        broken.push(PolicyRefusal::new(policy, rule::MAX_EXECUTION_TIME, limit, asked));
    }
    broken.extend(facts.steps.iter().flat_map(|facts| check_step(policy, facts)));
    broken
}
