//! Explanation which policies apply to a workflow and why, rule by rule.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    check::{self, PolicyRefusal, StepDestination, WorkflowFacts},
    model::SecurityPolicy,
    rule,
};
use am_audit::SecurityLevel;
use am_core::ids::SecurityPolicyId;

/// Maximum number of policies that are explained.
pub(super) const MAX_EXPLAINED: u32 = 500;

/// A policy, evaluated for a workflow.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ExplainedPolicy)]
pub struct PolicyExplanation {
    /// Id of the policy.
    pub policy_id: SecurityPolicyId,
    /// Name of the policy.
    pub policy: String,
    /// Security level of the workflows that the policy applies to.
    pub security_level: SecurityLevel,
    /// Whether the policy is active.
    pub is_active: bool,
    /// Whether the policy applies to this workflow.
    pub binds: bool,
    /// Reason why the policy applies or not.
    pub why: String,
    /// Rules of the policy with their results for the workflow, also when the policy does not apply.
    pub rules: Vec<RuleExplanation>,
}

/// A rule of a policy, evaluated for a workflow.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ExplainedRule)]
pub struct RuleExplanation {
    /// Name of the rule: a field of the policy.
    pub rule: &'static str,
    /// Value that the rule allows.
    pub limit: Value,
    /// Value that the workflow requests; null when it is known only at runtime.
    pub asked: Value,
    /// Whether the workflow meets the rule, as far as that is known.
    pub met: bool,
    /// Keys of the steps that violate the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
}

/// Evaluate `policy` for a workflow.
pub(super) fn explain_policy(policy: SecurityPolicy, facts: &WorkflowFacts, under_way: i64) -> PolicyExplanation {
    let of_level = policy.security_level == facts.level;
    let why = match (of_level, policy.is_active) {
        (true, true) => format!("it is active, and the workflow's required level is {}", facts.level),
        (true, false) => "it is not active".to_owned(),
        (false, _) => {
            format!("it applies to workflows of level {}, and this one's is {}", policy.security_level, facts.level)
        }
    };
    PolicyExplanation {
        rules: explain_rules(&policy, facts, under_way),
        policy_id: policy.id,
        policy: policy.name,
        security_level: policy.security_level,
        is_active: policy.is_active,
        binds: of_level && policy.is_active,
        why,
    }
}

fn explain_rules(policy: &SecurityPolicy, facts: &WorkflowFacts, under_way: i64) -> Vec<RuleExplanation> {
    let broken = check::check_workflow(policy, facts);
    let steps = &facts.steps;
    let own = || steps.iter().filter_map(|step| step.verification_level);
    let types: BTreeSet<&str> = steps.iter().map(|step| step.step_type).collect();
    let levels: BTreeSet<&str> = own().chain([facts.verification_level]).collect();
    let leaving: Vec<&str> =
        steps.iter().filter(|step| step.leaves != StepDestination::Nothing).map(|step| step.key.as_str()).collect();
    let memory = steps
        .iter()
        .filter_map(|step| step.memory_mb)
        .fold(None, |most: Option<f64>, asked| Some(most.map_or(asked, |most| most.max(asked))));
    let rule = |name: &'static str, limit: Value, asked: Value| {
        let faults: Vec<&PolicyRefusal> = broken.iter().filter(|refusal| refusal.rule == name).collect();
        let steps = faults.iter().filter_map(|refusal| refusal.step.clone()).collect();
        RuleExplanation { rule: name, limit, asked, met: faults.is_empty(), steps }
    };
    let concurrent = RuleExplanation {
        met: under_way < policy.max_concurrent_executions,
        ..rule(rule::MAX_CONCURRENT_EXECUTIONS, json!(policy.max_concurrent_executions), json!(under_way + 1))
    };
    let mut rules = vec![
        rule(rule::ALLOWED_STEP_TYPES, json!(policy.allowed_step_types), json!(types)),
        rule(rule::MAX_EXECUTION_TIME, json!(policy.max_execution_time), json!(facts.max_execution_time)),
        rule(rule::MAX_MEMORY_USAGE, json!(policy.max_memory_usage), json!(memory)),
        rule(rule::REQUIRE_VERIFICATION, json!(policy.require_verification), json!(facts.requires_verification)),
        rule(rule::ALLOWED_VERIFICATION_LEVELS, json!(policy.allowed_verification_levels), json!(levels)),
        concurrent,
        rule(rule::MAX_WORKFLOW_STEPS, json!(policy.max_workflow_steps), json!(facts.step_count)),
        rule(rule::MAX_DATA_SIZE, json!(policy.max_data_size), json!(facts.data_bytes)),
        rule(rule::REQUIRE_SANDBOX, json!(policy.require_sandbox), json!(leaving)),
        rule(rule::REQUIRE_AUDIT_LOGGING, json!(policy.require_audit_logging), json!(true)),
        rule(rule::REQUIRE_ENCRYPTION, json!(policy.require_encryption), json!(leaving)),
    ];
    // Those that are set: what a workflow asks is shown where it is too much.
    let asked = |name: &str| {
        let faults = broken.iter().filter(|refusal| refusal.rule == name).map(|refusal| refusal.asked.clone());
        Value::Array(faults.collect())
    };
    let bounds = &policy.bounds;
    let limits = [
        (rule::ALLOW_NETWORK, json!(bounds.allow_network)),
        (rule::ALLOWED_DOMAINS, json!(bounds.allowed_domains)),
        (rule::ALLOWED_COMMANDS, json!(bounds.allowed_commands)),
        (rule::MAX_SANDBOX_LEVEL, json!(bounds.max_sandbox_level)),
        (rule::MAX_CPU_CORES, json!(bounds.max_cpu_cores)),
        (rule::MAX_DISK_MB, json!(bounds.max_disk_mb)),
    ];
    let set = limits.into_iter().filter(|(_, limit)| !limit.is_null());
    rules.extend(set.map(|(name, limit)| rule(name, limit, asked(name))));
    let budget = bounds.max_cost_budget.map(|most| json!(most));
    rules.extend(budget.map(|most| rule(rule::MAX_COST_BUDGET, most, json!(facts.max_cost_budget))));
    rules
}
