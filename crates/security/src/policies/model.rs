//! What a policy is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_audit::SecurityLevel;
use am_db::{codec::Timestamp, page::Page};

/// The types of steps that a policy can name.
pub const STEP_TYPES: &[&str] = &["inference", "training", "data_processing", "verification", "custom"];
/// The verification levels that a policy can name.
pub const VERIFICATION_LEVELS: &[&str] = &["basic", "full", "zero-knowledge"];

/// A row of `agent_security_policies`. It binds the workflows of its security level while it is active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SecurityPolicy)]
pub struct Policy {
    /// `policy_` and 8 hex digits.
    pub id: String,
    /// 1 to 100 characters; no two policies have the same.
    pub name: String,
    /// For people.
    pub description: String,
    /// The level of the workflows that it binds.
    pub security_level: SecurityLevel,
    /// The step types that a workflow may have; empty: any.
    pub allowed_step_types: Vec<String>,
    /// Seconds that a run may take at most; a workflow without a limit of its own is over it.
    pub max_execution_time: i64,
    /// MB that a step may ask for, and use where that is measured.
    pub max_memory_usage: i64,
    /// Must results be verified?
    pub require_verification: bool,
    /// The verification levels that a workflow and its steps may have; empty: any.
    pub allowed_verification_levels: Vec<String>,
    /// Runs that a client may have under way at the same time.
    pub max_concurrent_executions: i64,
    /// Steps of a workflow.
    pub max_workflow_steps: i64,
    /// Bytes of JSON of a run's inputs, and of each step's.
    pub max_data_size: i64,
    /// Must everything be computed within this service?
    pub require_sandbox: bool,
    /// Always met: every change is audited.
    pub require_audit_logging: bool,
    /// Must whatever leaves the process be encrypted on its way?
    pub require_encryption: bool,
    /// Labels for people; nothing is checked.
    pub compliance_standards: Vec<String>,
    /// Does it bind?
    pub is_active: bool,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String)]
    pub updated_at: Timestamp,
}

impl Policy {
    /// The coordinator's defaults.
    pub(super) fn new(id: String, now: Timestamp) -> Self {
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
            is_active: true,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Which policies to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this level.
    pub security_level: Option<SecurityLevel>,
    /// Only those that bind, or that don't.
    pub is_active: Option<bool>,
    /// Which of them.
    pub page: Page,
}
