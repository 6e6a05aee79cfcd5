//! Check of security policies against workflows and runs: this module supplies the facts, the rules are in `security`.

use std::io;

use serde_json::{Value, json};

use super::{
    action::{ActionCatalog, StepAction},
    definition::{CompiledStep, ExecutionPlan},
    error::{OrchestrationError, Result},
    model::VerificationLevel,
};
use am_audit::{AuditEntry, AuditLog, EventType, SecurityLevel};
use am_core::{
    ambient::Clock,
    boxed,
    ids::{ExecutionId, WorkflowId},
    money::Money,
};
use am_db::{Database, Tx, codec::Timestamp, principal::Principal};
use am_security::policies::{PolicyRefusal, SecurityPolicies, StepDestination, StepFacts, WorkflowFacts};

/// Check of workflows and runs against the security policies; refusals are written to the audit log. Cheap to clone.
#[derive(Clone)]
pub struct PolicyGuard {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    policies: SecurityPolicies,
    names: ActionCatalog,
}

/// Kind of a resource that policies bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedResource {
    /// A workflow that is made or changed.
    Workflow,
    /// An execution that is started, or goes on.
    Execution,
    /// A step of an execution.
    Step,
}

impl GuardedResource {
    /// The word of the audit log.
    fn word(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Execution => "execution",
            Self::Step => "step",
        }
    }
}

/// Request that is checked.
pub struct AdmissionRequest<'a> {
    /// Kind of the resource.
    pub resource: GuardedResource,
    /// Principal of the client.
    pub caller: &'a Principal,
    /// Id of the workflow, if it has one already.
    pub workflow_id: Option<&'a WorkflowId>,
    /// Id of the execution, if it has one already.
    pub execution_id: Option<&'a ExecutionId>,
}

/// Properties of a workflow that policies depend on, other than its steps.
#[derive(Clone, Copy, Debug)]
pub struct ExecutionConstraints {
    /// Security level of the workflow.
    pub security: SecurityLevel,
    /// Verification level of the workflow.
    pub level: VerificationLevel,
    /// Whether the result of a run includes its verification.
    pub requires_verification: bool,
    /// Time limit in seconds; 0: no limit.
    pub max_execution_time: i64,
    /// Limit of the cost; 0: no limit.
    pub max_cost_budget: Money,
}

impl PolicyGuard {
    /// Create a guard that checks workflows, whose actions may refer to `names`, against `policies`.
    pub fn new(db: Database, clock: Clock, audit: AuditLog, policies: SecurityPolicies, names: ActionCatalog) -> Self {
        Self { db, clock, audit, policies, names }
    }

    /// Return the security policies.
    pub fn policies(&self) -> &SecurityPolicies {
        &self.policies
    }

    /// Build the facts about a workflow or run, including its steps; `inputs` where they are known.
    pub fn facts(&self, terms: ExecutionConstraints, plan: &ExecutionPlan, inputs: Option<&Value>) -> WorkflowFacts {
        WorkflowFacts {
            steps: plan.steps.iter().map(|step| step_facts(step, &self.names, None)).collect(),
            data_bytes: inputs.map(json_len),
            ..terms.facts(plan.steps.len())
        }
    }

    /// Check `plan` under `terms`. A refusal is written to the audit log before it is returned.
    ///
    /// # Errors
    /// [`OrchestrationError::Refused`] when a policy forbids it.
    #[boxed]
    pub async fn admit(
        &self,
        asked: &AdmissionRequest<'_>,
        terms: ExecutionConstraints,
        plan: &ExecutionPlan,
        inputs: Option<&Value>,
    ) -> Result<()> {
        if !self.policies.bind(terms.security) {
            return Ok(());
        }
        match self.policies.check_workflow(&self.facts(terms, plan, inputs)) {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.refuse(asked, terms.security, refusal).await),
        }
    }

    /// Write a refusal to the audit log, in its own transaction. Returns the refusal, or the error of the write.
    pub async fn refuse(
        &self,
        asked: &AdmissionRequest<'_>,
        level: SecurityLevel,
        refusal: Box<PolicyRefusal>,
    ) -> OrchestrationError {
        let mut entry = refusal_entry(asked.resource, level, &refusal, Timestamp(self.clock.now())).by(asked.caller);
        if let Some(id) = asked.workflow_id {
            entry = entry.workflow(id.as_str());
        }
        if let Some(id) = asked.execution_id {
            entry = entry.execution(id.as_str());
        }
        let audit = self.audit.clone();
        let told = self
            .db
            .write(async move |tx: &mut Tx| Ok::<_, OrchestrationError>(audit.append(tx, vec![entry]).await?))
            .await;
        told.err().unwrap_or(OrchestrationError::Refused(refusal))
    }
}

impl ExecutionConstraints {
    /// Build the facts about a run, without its steps.
    pub fn facts(self, step_count: usize) -> WorkflowFacts {
        WorkflowFacts {
            level: self.security,
            verification_level: self.level.value(),
            requires_verification: self.requires_verification,
            max_execution_time: self.max_execution_time,
            max_cost_budget: self.max_cost_budget,
            step_count,
            steps: Vec::new(),
            data_bytes: None,
        }
    }
}

/// Build the audit entry of a refusal.
pub fn refusal_entry(
    resource: GuardedResource,
    level: SecurityLevel,
    refusal: &PolicyRefusal,
    now: Timestamp,
) -> AuditEntry {
    AuditEntry::new(EventType::AccessDenied, now)
        .of(resource.word(), "refused")
        .level(level)
        .data("policy_id", json!(refusal.policy_id))
        .data("policy", json!(refusal.policy_name))
        .data("rule", json!(refusal.rule))
        .data("limit", refusal.limit.clone())
        .data("asked", refusal.asked.clone())
        .data("step", json!(refusal.step))
}

/// Build the facts about a step; `input` where it is known.
pub fn step_facts(step: &CompiledStep, names: &ActionCatalog, input: Option<&Value>) -> StepFacts {
    StepFacts {
        key: step.key.clone(),
        step_type: step.step_type.value(),
        verification_level: step.verification_level.map(VerificationLevel::value),
        memory_mb: memory_mb(&step.model_requirements, &step.action),
        // Programs of clients run only in jq workers and sandboxes; everything else in this process is its own code.
        sandboxed: true,
        leaves: match &step.action {
            StepAction::Job(_) => StepDestination::Job,
            StepAction::Http(call) => StepDestination::Endpoint { https: is_https(names, &call.endpoint) },
            // The way to an agent is not known before one is chosen.
            StepAction::Agent(_) => StepDestination::Endpoint { https: false },
            _ => StepDestination::Nothing,
        },
        host: match &step.action {
            StepAction::Http(call) => endpoint_host(names, &call.endpoint),
            _ => None,
        },
        command: match &step.action {
            StepAction::Command(command) => Some(command.facts()),
            _ => None,
        },
        data_bytes: input.map(json_len),
    }
}

/// Return the memory that a step requests, in MB: `model_requirements.memory_mb` (or `memory`), or its command's
/// requirements if they are larger.
fn memory_mb(requirements: &Value, action: &StepAction) -> Option<f64> {
    let model = ["memory_mb", "memory"].iter().find_map(|name| requirements.get(name).and_then(Value::as_f64));
    let command = match action {
        StepAction::Command(command) => command.memory_mb(),
        _ => None,
    };
    [model, command].into_iter().flatten().reduce(f64::max)
}

fn endpoint_host(names: &ActionCatalog, endpoint: &str) -> Option<String> {
    names.endpoints.get(endpoint)?.host()
}

fn is_https(names: &ActionCatalog, endpoint: &str) -> bool {
    let url = names.endpoints.get(endpoint).map(|endpoint| endpoint.url.as_str()).unwrap_or_default();
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// Return the length of a value as JSON, in bytes.
pub fn json_len(value: &Value) -> u64 {
    struct ByteCounter(u64);
    impl io::Write for ByteCounter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = ByteCounter(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_json_text() {
        for value in [json!(null), json!({"a": [1, 2.5, "naïve ✓\n"]}), json!("x".repeat(1000))] {
            assert_eq!(json_len(&value), value.to_string().len() as u64);
        }
    }

    #[test]
    fn the_stricter_level_binds() {
        use SecurityLevel::{Confidential, Internal, Public, Restricted};
        assert_eq!(Public.max(Internal), Internal);
        assert_eq!(Restricted.max(Confidential), Restricted);
        assert_eq!(Internal.max(Internal), Internal);
    }

    #[test]
    fn memory_is_read_under_both_its_names() {
        assert_eq!(memory_mb(&json!({"memory": 512}), &StepAction::Identity), Some(512.0));
        assert_eq!(memory_mb(&json!({"memory_mb": 1.5, "memory": 512}), &StepAction::Identity), Some(1.5));
        assert_eq!(memory_mb(&json!({"memory": "512"}), &StepAction::Identity), None);
        assert_eq!(memory_mb(&json!(null), &StepAction::Identity), None);
    }
}
