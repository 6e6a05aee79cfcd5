//! Requests to create or change a policy: an object whose members are fields of a policy, each within its bounds.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::model::{STEP_TYPES, SecurityPolicy, VERIFICATION_LEVELS};
use am_audit::SecurityLevel;
use am_core::{
    money::Money,
    validation::{FieldPath, Violation, Violations, has_length},
};

/// Characters of a policy's name.
pub const NAME_LENGTH: RangeInclusive<usize> = 1..=100;
/// Characters of a policy's description.
const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=2000;
/// Words in a list of a policy.
const MAX_WORDS: usize = 50;
/// Characters of a label.
const LABEL_LENGTH: RangeInclusive<usize> = 1..=100;
/// Bounds of `max_execution_time` in seconds: as long as a workflow's own limit can be.
pub const EXECUTION_SECONDS: RangeInclusive<i64> = 1..=31_536_000;
/// Bounds of `max_memory_usage` in MB: 16 TB.
pub const MEMORY_MB: RangeInclusive<i64> = 1..=1 << 24;
/// Bounds of `max_concurrent_executions`.
pub const CONCURRENT_EXECUTIONS: RangeInclusive<i64> = 1..=1_000_000;
/// Bounds of `max_workflow_steps`.
pub const WORKFLOW_STEPS: RangeInclusive<i64> = 1..=1000;
/// Bounds of `max_data_size` in bytes: 1 PiB.
pub const DATA_BYTES: RangeInclusive<i64> = 1..=1 << 50;

/// Bounds of `max_cost_budget`.
pub const COST_BUDGET: RangeInclusive<f64> = 1e-8..=1e9;
/// Bounds of `max_cpu_cores`.
pub const CPU_CORES: RangeInclusive<f64> = 0.1..=1024.0;
/// Bounds of `max_disk_mb`.
pub const DISK_MB: RangeInclusive<i64> = 1..=1_000_000_000;

/// Changes to a policy. Members that are `None` stay unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyChange {
    name: Option<String>,
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    allowed_step_types: Option<Vec<String>>,
    max_execution_time: Option<i64>,
    max_memory_usage: Option<i64>,
    require_verification: Option<bool>,
    allowed_verification_levels: Option<Vec<String>>,
    max_concurrent_executions: Option<i64>,
    max_workflow_steps: Option<i64>,
    max_data_size: Option<i64>,
    require_sandbox: Option<bool>,
    require_audit_logging: Option<bool>,
    require_encryption: Option<bool>,
    compliance_standards: Option<Vec<String>>,
    allow_network: Option<Option<bool>>,
    allowed_domains: Option<Option<Vec<String>>>,
    allowed_commands: Option<Option<Vec<String>>>,
    max_sandbox_level: Option<Option<SecurityLevel>>,
    max_cost_budget: Option<Option<Money>>,
    max_cpu_cores: Option<Option<f64>>,
    max_disk_mb: Option<Option<i64>>,
    is_active: Option<bool>,
}

/// A value, or where inside it what is wrong.
type MemberResult<T> = Result<T, Violation>;

fn member_fault<T>(message: impl Into<String>) -> MemberResult<T> {
    Err(Violation::new(FieldPath::default(), message))
}

fn read_text(value: &Value, length: &RangeInclusive<usize>) -> MemberResult<String> {
    match value.as_str() {
        Some(text) if has_length(text, length) => Ok(text.to_owned()),
        Some(_) => member_fault(format!("must have {} to {} characters", length.start(), length.end())),
        None => member_fault("must be a string"),
    }
}

fn read_unsigned(value: &Value, range: &RangeInclusive<i64>) -> MemberResult<i64> {
    match value.as_i64() {
        Some(number) if range.contains(&number) => Ok(number),
        _ => member_fault(format!("must be an integer from {} to {}", range.start(), range.end())),
    }
}

fn read_bool(value: &Value) -> MemberResult<bool> {
    value.as_bool().map_or_else(|| member_fault("must be true or false"), Ok)
}

fn read_level(value: &Value) -> MemberResult<SecurityLevel> {
    let known = || SecurityLevel::ALL.iter().map(|level| level.value()).collect::<Vec<_>>().join(", ");
    let found = value.as_str().and_then(SecurityLevel::from_value);
    found.map_or_else(|| member_fault(format!("must be one of {}", known())), Ok)
}

/// Read a list of distinct words, each accepted by `good`.
fn read_list(value: &Value, good: impl Fn(&str) -> bool, what: &str) -> MemberResult<Vec<String>> {
    let Some(items) = value.as_array() else { return member_fault("must be a list of strings") };
    if items.len() > MAX_WORDS {
        return member_fault(format!("at most {MAX_WORDS}"));
    }
    let mut words: Vec<String> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(word) if words.iter().any(|known| known == word) => {
                return Err(Violation::new([at], "is named twice"));
            }
            Some(word) if good(word) => words.push(word.to_owned()),
            _ => return Err(Violation::new([at], format!("must be {what}"))),
        }
    }
    Ok(words)
}

/// A bound, or null for none.
fn read_bound<T>(value: &Value, read: impl FnOnce(&Value) -> MemberResult<T>) -> MemberResult<Option<T>> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn read_number(value: &Value, range: &RangeInclusive<f64>) -> MemberResult<f64> {
    match value.as_f64() {
        Some(number) if range.contains(&number) => Ok(number),
        _ => member_fault(format!("must be a number from {} to {}", range.start(), range.end())),
    }
}

/// Read a list of names as a sandbox's lists have them.
fn read_names(value: &Value, what: &str) -> MemberResult<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-*".contains(&byte);
    read_list(value, |word| has_length(word, &NAME_LENGTH) && word.bytes().all(plain), what)
}

fn read_list_of(value: &Value, known: &[&str]) -> MemberResult<Vec<String>> {
    read_list(value, |word| known.contains(&word), &format!("one of {}", known.join(", ")))
}

impl PolicyChange {
    /// Parse the members of `sent`.
    ///
    /// # Errors
    /// Returns each member that is not a field of a policy, is null, or is out of bounds.
    pub fn parse(sent: &Map<String, Value>) -> Result<Self, Vec<Violation>> {
        let (mut change, mut violations) = (Self::default(), Violations::default());
        for (field, value) in sent {
            violations.take(change.set(field, value).map_err(|violation| violation.within([field])));
        }
        violations.finish_with(Some(change))
    }

    fn set(&mut self, field: &str, value: &Value) -> MemberResult<()> {
        match field {
            "name" => self.name = Some(read_text(value, &NAME_LENGTH)?),
            "description" => self.description = Some(read_text(value, &DESCRIPTION_LENGTH)?),
            "security_level" => self.security_level = Some(read_level(value)?),
            "allowed_step_types" => self.allowed_step_types = Some(read_list_of(value, STEP_TYPES)?),
            "max_execution_time" => self.max_execution_time = Some(read_unsigned(value, &EXECUTION_SECONDS)?),
            "max_memory_usage" => self.max_memory_usage = Some(read_unsigned(value, &MEMORY_MB)?),
            "require_verification" => self.require_verification = Some(read_bool(value)?),
            "allowed_verification_levels" => {
                self.allowed_verification_levels = Some(read_list_of(value, VERIFICATION_LEVELS)?);
            }
            "max_concurrent_executions" => {
                self.max_concurrent_executions = Some(read_unsigned(value, &CONCURRENT_EXECUTIONS)?)
            }
            "max_workflow_steps" => self.max_workflow_steps = Some(read_unsigned(value, &WORKFLOW_STEPS)?),
            "max_data_size" => self.max_data_size = Some(read_unsigned(value, &DATA_BYTES)?),
            "require_sandbox" => self.require_sandbox = Some(read_bool(value)?),
            "require_audit_logging" => self.require_audit_logging = Some(read_bool(value)?),
            "require_encryption" => self.require_encryption = Some(read_bool(value)?),
            "compliance_standards" => {
                let what = format!("a string of 1 to {} characters", LABEL_LENGTH.end());
                self.compliance_standards = Some(read_list(value, |word| has_length(word, &LABEL_LENGTH), &what)?);
            }
            "allow_network" => self.allow_network = Some(read_bound(value, read_bool)?),
            "allowed_domains" => {
                let names = |value: &Value| read_names(value, "a host's name, *.name or *");
                self.allowed_domains = Some(read_bound(value, names)?);
            }
            "allowed_commands" => {
                let names = |value: &Value| read_names(value, "a program's name");
                self.allowed_commands = Some(read_bound(value, names)?);
            }
            "max_sandbox_level" => self.max_sandbox_level = Some(read_bound(value, read_level)?),
            "max_cost_budget" => {
                let budget = read_bound(value, |value| read_number(value, &COST_BUDGET))?;
                self.max_cost_budget = Some(budget.map(Money::from_f64));
            }
            "max_cpu_cores" => self.max_cpu_cores = Some(read_bound(value, |value| read_number(value, &CPU_CORES))?),
            "max_disk_mb" => self.max_disk_mb = Some(read_bound(value, |value| read_unsigned(value, &DISK_MB))?),
            "is_active" => self.is_active = Some(read_bool(value)?),
            "id" | "created_at" | "updated_at" => return member_fault("can't be set"),
            _ => return member_fault("is not a field of a policy"),
        }
        Ok(())
    }

    /// Apply the changes to `policy`.
    pub(super) fn apply(self, policy: &mut SecurityPolicy) {
        fn put<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        put(&mut policy.name, self.name);
        put(&mut policy.description, self.description);
        put(&mut policy.security_level, self.security_level);
        put(&mut policy.allowed_step_types, self.allowed_step_types);
        put(&mut policy.max_execution_time, self.max_execution_time);
        put(&mut policy.max_memory_usage, self.max_memory_usage);
        put(&mut policy.require_verification, self.require_verification);
        put(&mut policy.allowed_verification_levels, self.allowed_verification_levels);
        put(&mut policy.max_concurrent_executions, self.max_concurrent_executions);
        put(&mut policy.max_workflow_steps, self.max_workflow_steps);
        put(&mut policy.max_data_size, self.max_data_size);
        put(&mut policy.require_sandbox, self.require_sandbox);
        put(&mut policy.require_audit_logging, self.require_audit_logging);
        put(&mut policy.require_encryption, self.require_encryption);
        put(&mut policy.compliance_standards, self.compliance_standards);
        let bounds = &mut policy.bounds;
        put(&mut bounds.allow_network, self.allow_network);
        put(&mut bounds.allowed_domains, self.allowed_domains);
        put(&mut bounds.allowed_commands, self.allowed_commands);
        put(&mut bounds.max_sandbox_level, self.max_sandbox_level);
        put(&mut bounds.max_cost_budget, self.max_cost_budget);
        put(&mut bounds.max_cpu_cores, self.max_cpu_cores);
        put(&mut bounds.max_disk_mb, self.max_disk_mb);
        put(&mut policy.is_active, self.is_active);
    }
}
