//! Command of a step: parsed with the workflow, filled from its inputs when the step begins.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    mapping::{MappingContext, ResolveError},
    template::JsonTemplate,
};
use am_audit::SecurityLevel;
use am_core::{
    validation::{Violation, Violations, within},
    value_budget::ValueBudget,
};
use am_security::{
    policies::CommandFacts,
    sandbox::{SandboxBounds, SandboxCeilings, SandboxCommand, SandboxError, SandboxRequirements, StepLimits},
};

/// Command of a step.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// Members `argv`, `stdin` and `env`, with paths in them.
    pub document: JsonTemplate,
    /// The command's name, which no input chooses.
    program: String,
    level: Option<SecurityLevel>,
    requirements: SandboxRequirements,
    limits: StepLimits,
    /// Whether a nonzero exit status is an ordinary result.
    pub allow_failure: bool,
}

impl CommandSpec {
    /// Memory in MB that it requests beyond its security level's default.
    pub fn memory_mb(&self) -> Option<f64> {
        self.requirements.memory_mb.map(|memory| memory as f64)
    }

    /// Check that it asks for nothing above the operator's ceilings.
    ///
    /// # Errors
    /// Every requirement that is above one, with its path inside the step.
    pub fn check_ceilings(&self, ceilings: &SandboxCeilings) -> Result<(), Vec<Violation>> {
        ceilings.check(&self.requirements).map_err(|found| within("action", within("requirements", found)))
    }

    /// What it asks of its sandbox.
    pub fn facts(&self) -> CommandFacts {
        CommandFacts::new(self.level, Some(&self.program), &self.requirements)
    }
}

/// Bytes of one argument, as Linux takes it.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024;
/// Arguments of a command, its name among them.
const MAX_ARGUMENTS: usize = 1000;

/// Parse the members of an action of kind `command`.
///
/// # Errors
/// Every violation, with its path inside the step.
pub fn parse_command(members: &Map<String, Value>) -> Result<CommandSpec, Vec<Violation>> {
    let mut violations = Violations::default();
    let given = |member: &str| members.get(member).filter(|value| !value.is_null());
    let argv = argv(members.get("argv")).map_err(|message| Violation::new("argv", message));
    let argv = violations.take(argv).cloned();
    let env = given("env").cloned().unwrap_or_else(|| json!({}));
    let env_is_good = env
        .as_object()
        .is_some_and(|env| env.keys().all(|name| is_variable(name)) && env.values().all(Value::is_string));
    violations.require(env_is_good, "env", "must be an object of strings, whose names are letters, digits and _");
    let program = argv.iter().flatten().next().and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut document = json!({"argv": argv.unwrap_or_default()});
    if let Some(document) = document.as_object_mut() {
        document.extend(env_is_good.then(|| ("env".to_owned(), env)));
        document.extend(given("stdin").map(|stdin| ("stdin".to_owned(), stdin.clone())));
    }
    let document = violations.take(JsonTemplate::parse(document));
    let level = given("security_level").map(|level| level.as_str().and_then(SecurityLevel::from_value));
    violations.require(level != Some(None), "security_level", "must be public, internal, confidential or restricted");
    let requirements = SandboxRequirements::parse(given("requirements").cloned());
    let requirements = violations.take(requirements.map_err(|error| sandbox_violations("requirements", error)));
    let limits = StepLimits::parse(given("limits").cloned());
    let limits = violations.take(limits.map_err(|error| sandbox_violations("limits", error)));
    let allow_failure = given("allow_failure").map(Value::as_bool);
    violations.require(allow_failure != Some(None), "allow_failure", "must be true or false");
    let (level, allow_failure) = (level.flatten(), allow_failure.flatten().unwrap_or(false));
    let spec = document.zip(requirements).zip(limits).map(|((document, requirements), limits)| CommandSpec {
        document,
        program,
        level,
        requirements,
        limits,
        allow_failure,
    });
    violations.finish_with(spec).map_err(|found| within("action", found))
}

fn argv(sent: Option<&Value>) -> Result<&Vec<Value>, String> {
    let argv = sent.and_then(Value::as_array).filter(|argv| !argv.is_empty());
    let argv = argv.ok_or("must be a list: the command, which runs in a sandbox, and its arguments")?;
    let fits = |word: &Value| word.as_str().is_some_and(|word| word.len() < MAX_ARGUMENT_BYTES && !word.contains('\0'));
    if argv.len() > MAX_ARGUMENTS || !argv.iter().all(fits) {
        return Err(format!("must be at most {MAX_ARGUMENTS} strings"));
    }
    if argv.first().and_then(Value::as_str).is_none_or(|name| name.is_empty() || name.starts_with("$.")) {
        return Err("must begin with the command's name, which no input may choose".to_owned());
    }
    Ok(argv)
}

fn is_variable(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(good) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit()
}

fn sandbox_violations(member: &str, error: SandboxError) -> Vec<Violation> {
    match error {
        SandboxError::Invalid(found) => within(member, found),
        other => vec![Violation::new(member, other.to_string())],
    }
}

impl CommandSpec {
    /// Fill in the command's paths. Standard input is the step's input as JSON, unless the command has a `stdin`.
    ///
    /// # Errors
    /// The first path without a value.
    pub fn fill(
        &self,
        context: &dyn MappingContext,
        input: &Value,
        budget: &mut ValueBudget,
    ) -> Result<SandboxCommand, ResolveError> {
        let filled = self.document.fill(context, budget)?;
        let words = filled.get("argv").and_then(Value::as_array).into_iter().flatten();
        let env = filled.get("env").and_then(Value::as_object).into_iter().flatten();
        let stdin = match filled.get("stdin") {
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(other) => other.to_string().into_bytes(),
            None => input.to_string().into_bytes(),
        };
        Ok(SandboxCommand {
            argv: words.map(argument_text).collect(),
            stdin,
            env: env.map(|(name, value)| (name.clone(), argument_text(value))).collect::<BTreeMap<_, _>>(),
            level: self.level,
            requirements: self.requirements.clone(),
            limits: self.limits.clone(),
            bounds: SandboxBounds::default(),
        })
    }
}

/// Convert a value to an argument: a string as it is, anything else as JSON. Characters that no argument can contain
/// are dropped.
fn argument_text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().filter(|c| *c != '\0').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(action: &Value) -> Vec<String> {
        let found = parse_command(action.as_object().unwrap()).unwrap_err();
        found.iter().map(|violation| violation.path.to_string()).collect()
    }

    #[test]
    fn a_command_is_checked_with_its_workflow() {
        for (action, path) in [
            (json!({}), vec!["action", "argv"]),
            (json!({"argv": []}), vec!["action", "argv"]),
            (json!({"argv": ["ls", 1]}), vec!["action", "argv"]),
            (json!({"argv": ["$.inputs.command"]}), vec!["action", "argv"]),
            (json!({"argv": ["ls"], "env": {"1A": "x"}}), vec!["action", "env"]),
            (json!({"argv": ["ls"], "security_level": "secret"}), vec!["action", "security_level"]),
            (json!({"argv": ["ls"], "limits": {"memory_mb": 0}}), vec!["action", "limits", "memory_mb"]),
            (json!({"argv": ["ls"], "limits": {"memory": 64}}), vec!["action", "limits", "memory"]),
            (json!({"argv": ["ls"], "requirements": {"cpu_cores": -1}}), vec!["action", "requirements", "cpu_cores"]),
            (
                json!({"argv": ["ls"], "requirements": {"allowed_commands": ["a/b"]}}),
                vec!["action", "requirements", "allowed_commands"],
            ),
            (json!({"argv": ["ls"], "allow_failure": 1}), vec!["action", "allow_failure"]),
        ] {
            assert_eq!(paths(&action), [path.join(".")], "{action}");
        }
        let all = json!({"argv": [], "env": 1, "limits": {"seconds": 0, "memory_mb": 0}, "allow_failure": 1});
        let expected = ["argv", "env", "limits.memory_mb", "limits.seconds", "allow_failure"];
        assert_eq!(paths(&all), expected.map(|path| format!("action.{path}")));
        assert!(
            parse_command(json!({"argv": ["python3", "-c", "$.inputs.code"], "stdin": {"a": 1}}).as_object().unwrap())
                .is_ok()
        );
    }
}
