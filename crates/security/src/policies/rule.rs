//! Names of the rules, equal to the fields of a policy.
#![expect(missing_docs, reason = "each is the field of its name")]

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
pub const ALLOW_NETWORK: &str = "allow_network";
pub const ALLOWED_DOMAINS: &str = "allowed_domains";
pub const ALLOWED_COMMANDS: &str = "allowed_commands";
pub const MAX_SANDBOX_LEVEL: &str = "max_sandbox_level";
pub const MAX_COST_BUDGET: &str = "max_cost_budget";
pub const MAX_CPU_CORES: &str = "max_cpu_cores";
pub const MAX_DISK_MB: &str = "max_disk_mb";
