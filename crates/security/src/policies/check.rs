//! The rules: what a workflow, a run and a step are held against. No I/O.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::model::Policy;
use am_audit::SecurityLevel;

/// The names of the rules: the fields of a policy that say them.
#[expect(missing_docs, reason = "each is the field of its name")]
pub mod rule {
    pub const ALLOWED_STEP_TYPES: &str = "allowed_step_types";
    pub const MAX_EXECUTION_TIME: &str = "max_execution_time";
    pub const MAX_MEMORY_USAGE: &str = "max_memory_usage";
    pub const REQUIRE_VERIFICATION: &str = "require_verification";
    pub const ALLOWED_VERIFICATION_LEVELS: &str = "allowed_verification_levels";
    pub const MAX_CONCURRENT_EXECUTIONS: &str = "max_concurrent_executions";
    pub const MAX_WORKFLOW_STEPS: &str = "max_workflow_steps";
    pub const MAX_DATA_SIZE: &str = "max_data_size";
    pub const REQUIRE_SANDBOX: &str = "require_sandbox";
    pub const REQUIRE_AUDIT_LOGGING: &str = "require_audit_logging";
    pub const REQUIRE_ENCRYPTION: &str = "require_encryption";
}

/// What a workflow, or a run of one, is to a policy.
#[derive(Clone, Debug)]
pub struct WorkflowFacts {
    /// The level that its verification asks for: policies of this level bind it.
    pub level: SecurityLevel,
    /// How it is verified, as clients see it.
    pub verification_level: &'static str,
    /// Is a run's verification part of its result?
    pub requires_verification: bool,
    /// Seconds a run may take; 0: no limit.
    pub max_execution_time: i64,
    /// How many steps it has.
    pub step_count: usize,
    /// Its steps, where they are judged too.
    pub steps: Vec<StepFacts>,
    /// Bytes of JSON of the run's inputs, where they are known.
    pub data_bytes: Option<u64>,
}

/// What a step is to a policy.
#[derive(Clone, Debug)]
pub struct StepFacts {
    /// Its key in the definition.
    pub key: String,
    /// What it is for, as clients see it.
    pub step_type: &'static str,
    /// How it is checked, if it says so itself.
    pub verification_level: Option<&'static str>,
    /// MB that it asks for.
    pub memory_mb: Option<f64>,
    /// Is all that is computed for it in this process computed by the service's own code, its jq workers or a sandbox?
    pub sandboxed: bool,
    /// What leaves the process for it.
    pub leaves: Leaves,
    /// Bytes of JSON of its input, where it is known.
    pub data_bytes: Option<u64>,
}

/// How a step's work leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// It does not.
    Nothing,
    /// In the coordinator's queue, for a miner.
    Job,
    /// To a configured address.
    Endpoint {
        /// Is it encrypted on its way?
        https: bool,
    },
}

impl Leaves {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Job => "job",
            Self::Endpoint { https: true } => "https",
            Self::Endpoint { https: false } => "http",
        }
    }
}

/// A rule that something breaks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// The policy.
    pub policy_id: String,
    /// Its name.
    #[serde(rename = "policy")]
    pub policy_name: String,
    /// The rule: the policy's field.
    pub rule: &'static str,
    /// What it allows.
    pub limit: Value,
    /// What was asked for, or measured.
    pub asked: Value,
    /// The step that breaks it.
    pub step: Option<String>,
}

impl Refusal {
    /// `policy` says `limit`, and `asked` is something else.
    pub fn of(policy: &Policy, rule: &'static str, limit: Value, asked: Value) -> Self {
        Self { policy_id: policy.id.clone(), policy_name: policy.name.clone(), rule, limit, asked, step: None }
    }

    /// It is this step that breaks it.
    #[must_use]
    pub fn in_step(mut self, key: &str) -> Self {
        self.step = Some(key.to_owned());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy_id, policy_name, rule, limit, asked, step } = self;
        write!(f, "Refused by security policy {policy_name:?} ({policy_id}): {rule} is {limit}, ")?;
        match step {
            Some(step) => write!(f, "and step {step:?} asks for {asked}"),
            None => write!(f, "and {asked} was asked for"),
        }
    }
}

fn allows(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|allowed| allowed == word)
}

fn over(limit: i64, bytes: Option<u64>) -> Option<u64> {
    bytes.filter(|bytes| i64::try_from(*bytes).unwrap_or(i64::MAX) > limit)
}

/// What a run breaks, whatever its steps are, and but for its time.
pub(super) fn run(policy: &Policy, facts: &WorkflowFacts) -> Vec<Refusal> {
    let mut broken = Vec::new();
    let mut refuse = |rule, limit, asked| broken.push(Refusal::of(policy, rule, limit, asked));
    if policy.require_verification && !facts.requires_verification {
        refuse(rule::REQUIRE_VERIFICATION, json!(true), json!(false));
    }
    if !allows(&policy.allowed_verification_levels, facts.verification_level) {
        let limit = json!(policy.allowed_verification_levels);
        refuse(rule::ALLOWED_VERIFICATION_LEVELS, limit, json!(facts.verification_level));
    }
    if i64::try_from(facts.step_count).unwrap_or(i64::MAX) > policy.max_workflow_steps {
        refuse(rule::MAX_WORKFLOW_STEPS, json!(policy.max_workflow_steps), json!(facts.step_count));
    }
    if let Some(bytes) = over(policy.max_data_size, facts.data_bytes) {
        refuse(rule::MAX_DATA_SIZE, json!(policy.max_data_size), json!(bytes));
    }
    broken
}

/// What a step breaks by itself.
pub(super) fn step(policy: &Policy, facts: &StepFacts) -> Vec<Refusal> {
    let mut broken = Vec::new();
    let mut refuse = |rule, limit, asked| broken.push(Refusal::of(policy, rule, limit, asked).in_step(&facts.key));
    if !allows(&policy.allowed_step_types, facts.step_type) {
        refuse(rule::ALLOWED_STEP_TYPES, json!(policy.allowed_step_types), json!(facts.step_type));
    }
    if let Some(level) = facts.verification_level.filter(|level| !allows(&policy.allowed_verification_levels, level)) {
        refuse(rule::ALLOWED_VERIFICATION_LEVELS, json!(policy.allowed_verification_levels), json!(level));
    }
    if let Some(asked) = facts.memory_mb.filter(|asked| *asked > policy.max_memory_usage as f64) {
        refuse(rule::MAX_MEMORY_USAGE, json!(policy.max_memory_usage), json!(asked));
    }
    if let Some(bytes) = over(policy.max_data_size, facts.data_bytes) {
        refuse(rule::MAX_DATA_SIZE, json!(policy.max_data_size), json!(bytes));
    }
    if policy.require_sandbox && !(facts.sandboxed && facts.leaves == Leaves::Nothing) {
        refuse(rule::REQUIRE_SANDBOX, json!(true), json!(facts.leaves.word()));
    }
    if policy.require_encryption && matches!(facts.leaves, Leaves::Job | Leaves::Endpoint { https: false }) {
        refuse(rule::REQUIRE_ENCRYPTION, json!(true), json!(facts.leaves.word()));
    }
    broken
}

/// Everything that a workflow breaks, its limit of time and its steps included.
pub(super) fn workflow(policy: &Policy, facts: &WorkflowFacts) -> Vec<Refusal> {
    let mut broken = run(policy, facts);
    if facts.max_execution_time <= 0 || facts.max_execution_time > policy.max_execution_time {
        let (limit, asked) = (json!(policy.max_execution_time), json!(facts.max_execution_time));
        broken.push(Refusal::of(policy, rule::MAX_EXECUTION_TIME, limit, asked));
    }
    broken.extend(facts.steps.iter().flat_map(|facts| step(policy, facts)));
    broken
}
