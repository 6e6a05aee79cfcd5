//! What clients send to make or change a policy: an object whose members are a policy's fields, each within its bounds.

use serde_json::{Map, Value};

use super::model::{Policy, STEP_TYPES, VERIFICATION_LEVELS};
use am_audit::SecurityLevel;

/// The longest description, in characters.
const LONGEST: usize = 2000;
/// Labels of a policy at most, and the longest, in characters.
const LABELS: (usize, usize) = (50, 100);

/// A fault in what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The member.
    pub field: String,
    /// The place in the member's list.
    pub item: Option<usize>,
    /// What is wrong with it.
    pub message: String,
}

/// What to change of a policy; what is none stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
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
    is_active: Option<bool>,
}

type Read<T> = Result<T, (Option<usize>, String)>;

fn bad<T>(message: impl Into<String>) -> Read<T> {
    Err((None, message.into()))
}

fn text(value: &Value, least: usize, most: usize) -> Read<String> {
    match value.as_str() {
        Some(text) if (least..=most).contains(&text.chars().count()) => Ok(text.to_owned()),
        Some(_) => bad(format!("must have {least} to {most} characters")),
        None => bad("must be a string"),
    }
}

fn number(value: &Value, most: i64) -> Read<i64> {
    match value.as_i64() {
        Some(number) if (1..=most).contains(&number) => Ok(number),
        _ => bad(format!("must be an integer from 1 to {most}")),
    }
}

fn truth(value: &Value) -> Read<bool> {
    value.as_bool().map_or_else(|| bad("must be true or false"), Ok)
}

fn level(value: &Value) -> Read<SecurityLevel> {
    let known = || SecurityLevel::ALL.iter().map(|level| level.value()).collect::<Vec<_>>().join(", ");
    let found = value.as_str().and_then(SecurityLevel::from_value);
    found.map_or_else(|| bad(format!("must be one of {}", known())), Ok)
}

/// A list of different words, each one that `good` takes.
fn list(value: &Value, good: impl Fn(&str) -> bool, what: &str) -> Read<Vec<String>> {
    let Some(items) = value.as_array() else { return bad("must be a list of strings") };
    if items.len() > LABELS.0 {
        return bad(format!("at most {}", LABELS.0));
    }
    let mut words: Vec<String> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(word) if words.iter().any(|known| known == word) => return Err((Some(at), "is named twice".into())),
            Some(word) if good(word) => words.push(word.to_owned()),
            _ => return Err((Some(at), format!("must be {what}"))),
        }
    }
    Ok(words)
}

fn one_of(value: &Value, known: &[&str]) -> Read<Vec<String>> {
    list(value, |word| known.contains(&word), &format!("one of {}", known.join(", ")))
}

impl Change {
    /// Read the members of `sent`.
    ///
    /// # Errors
    /// Each member that is no field of a policy, is null, or is out of bounds.
    pub fn read(sent: &Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let (mut change, mut faults) = (Self::default(), Vec::new());
        for (field, value) in sent {
            if let Err((item, message)) = change.set(field, value) {
                faults.push(Fault { field: field.clone(), item, message });
            }
        }
        if faults.is_empty() { Ok(change) } else { Err(faults) }
    }

    fn set(&mut self, field: &str, value: &Value) -> Read<()> {
        match field {
            "name" => self.name = Some(text(value, 1, 100)?),
            "description" => self.description = Some(text(value, 0, LONGEST)?),
            "security_level" => self.security_level = Some(level(value)?),
            "allowed_step_types" => self.allowed_step_types = Some(one_of(value, STEP_TYPES)?),
            // As long as a workflow's own limit can be.
            "max_execution_time" => self.max_execution_time = Some(number(value, 31_536_000)?),
            "max_memory_usage" => self.max_memory_usage = Some(number(value, 1 << 24)?),
            "require_verification" => self.require_verification = Some(truth(value)?),
            "allowed_verification_levels" => {
                self.allowed_verification_levels = Some(one_of(value, VERIFICATION_LEVELS)?);
            }
            "max_concurrent_executions" => self.max_concurrent_executions = Some(number(value, 1_000_000)?),
            "max_workflow_steps" => self.max_workflow_steps = Some(number(value, 1000)?),
            "max_data_size" => self.max_data_size = Some(number(value, 1 << 50)?),
            "require_sandbox" => self.require_sandbox = Some(truth(value)?),
            "require_audit_logging" => self.require_audit_logging = Some(truth(value)?),
            "require_encryption" => self.require_encryption = Some(truth(value)?),
            "compliance_standards" => {
                let good = |word: &str| (1..=LABELS.1).contains(&word.chars().count());
                let what = format!("a string of 1 to {} characters", LABELS.1);
                self.compliance_standards = Some(list(value, good, &what)?);
            }
            "is_active" => self.is_active = Some(truth(value)?),
            "id" | "created_at" | "updated_at" => return bad("can't be set"),
            _ => return bad("is no field of a policy"),
        }
        Ok(())
    }

    /// Change `policy`.
    pub(super) fn apply(self, policy: &mut Policy) {
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
        put(&mut policy.is_active, self.is_active);
    }
}
