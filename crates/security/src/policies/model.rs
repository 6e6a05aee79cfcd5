//! Model of a security policy.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bounds::PolicyBounds;
use am_audit::SecurityLevel;
use am_core::ids::SecurityPolicyId;
use am_db::{codec::Timestamp, page::PageRequest};

/// Step types that a policy can name.
pub const STEP_TYPES: &[&str] = &["inference", "training", "data_processing", "verification", "custom"];
/// Verification levels that a policy can name.
pub const VERIFICATION_LEVELS: &[&str] = &["basic", "full", "zero-knowledge"];

/// A security policy, a row of `agent_security_policies`. It applies to the workflows of its security level while it is
/// active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SecurityPolicy)]
pub struct SecurityPolicy {
    /// Id: `policy_` and 8 hex digits.
    pub id: SecurityPolicyId,
    /// Name of 1 to 100 characters, unique among policies.
    pub name: String,
    /// Description for people, at most 2000 characters.
    pub description: String,
    /// Security level of the workflows that the policy applies to.
    pub security_level: SecurityLevel,
    /// Step types that a workflow may have; empty: any.
    pub allowed_step_types: Vec<String>,
    /// Longest time of a run in seconds; a workflow without its own limit violates it.
    pub max_execution_time: i64,
    /// Memory in MB that a step may request, and use where that is measured.
    pub max_memory_usage: i64,
    /// Whether results must be verified.
    pub require_verification: bool,
    /// Verification levels that a workflow and its steps may have; empty: any.
    pub allowed_verification_levels: Vec<String>,
    /// Executions that a client may have running at the same time.
    pub max_concurrent_executions: i64,
    /// Largest number of steps of a workflow.
    pub max_workflow_steps: i64,
    /// Largest size in bytes of a run's inputs as JSON, and of each step's.
    pub max_data_size: i64,
    /// Whether all computation must be done within this service.
    pub require_sandbox: bool,
    /// Whether changes must be audited; always met, because every change is.
    pub require_audit_logging: bool,
    /// Whether all data that leaves the process must be encrypted in transit.
    pub require_encryption: bool,
    /// Labels for people; they are not checked.
    pub compliance_standards: Vec<String>,
    /// Bounds on what steps, sandboxes and runs may ask.
    #[serde(flatten)]
    pub bounds: PolicyBounds,
    /// Whether the policy is in force.
    pub is_active: bool,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl SecurityPolicy {
    /// A policy with the coordinator's defaults.
    pub(super) fn new(id: SecurityPolicyId, now: Timestamp) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            security_level: SecurityLevel::Public,
            allowed_step_types: Vec::new(),
            max_execution_time: 3600,
            max_memory_usage: 8192,
            require_verification: true,
            allowed_verification_levels: vec!["basic".into()],
            max_concurrent_executions: 10,
            max_workflow_steps: 100,
            max_data_size: 1 << 30,
            require_sandbox: false,
            require_audit_logging: true,
            require_encryption: false,
            compliance_standards: Vec::new(),
            bounds: PolicyBounds::default(),
            is_active: true,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Filter for a list of policies. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct SecurityPolicyFilter {
    /// Security level of the policies.
    pub security_level: Option<SecurityLevel>,
    /// Whether the policies are active.
    pub is_active: Option<bool>,
    /// Page of the list.
    pub page: PageRequest,
}
