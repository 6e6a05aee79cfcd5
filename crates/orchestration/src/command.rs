//! A step's command: read and checked with its workflow, made of its inputs when it begins.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    mapping::{Context, ResolveError},
    model::{Fault, Place},
    template::Template,
};
use am_audit::SecurityLevel;
use am_security::sandbox::{Command, Error, Requirements, StepLimits};

/// A command as a step describes it.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// `argv`, `stdin` and `env`, with paths in them.
    pub document: Template,
    level: Option<SecurityLevel>,
    requirements: Requirements,
    limits: StepLimits,
    /// Whether another exit status than 0 is a result like any other.
    pub allow_failure: bool,
}

impl CommandSpec {
    /// MB of memory that it asks for beyond its level's.
    pub fn memory_mb(&self) -> Option<f64> {
        self.requirements.memory_mb.map(|memory| memory as f64)
    }
}

/// What an operating system takes as one argument.
const LONGEST: usize = 128 * 1024;

/// Read the members of an action of kind command.
///
/// # Errors
/// The first fault, with the member it is in.
pub fn parse(members: &Map<String, Value>) -> Result<CommandSpec, Fault> {
    let fault = |member: &str, message: &str| Fault::new(["action", member], message);
    let argv = members.get("argv").and_then(Value::as_array).filter(|argv| !argv.is_empty());
    let argv =
        argv.ok_or_else(|| fault("argv", "must be a list: the command, which runs in a sandbox, and its arguments"))?;
    let fits = |word: &Value| word.as_str().is_some_and(|word| word.len() < LONGEST && !word.contains('\0'));
    if argv.len() > 1000 || !argv.iter().all(fits) {
        return Err(fault("argv", "must be at most 1000 strings"));
    }
    if argv.first().and_then(Value::as_str).is_none_or(|name| name.is_empty() || name.starts_with("$.")) {
        return Err(fault("argv", "must begin with the command's name, which no input may choose"));
    }
    let env = members.get("env").filter(|env| !env.is_null()).cloned().unwrap_or_else(|| json!({}));
    let named = |name: &String| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        name.bytes().all(good) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit()
    };
    if !env.as_object().is_some_and(|env| env.keys().all(named) && env.values().all(Value::is_string)) {
        return Err(fault("env", "must be an object of strings, whose names are letters, digits and _"));
    }
    let mut document = json!({"argv": argv, "env": env});
    if let (Some(stdin), Some(document)) =
        (members.get("stdin").filter(|stdin| !stdin.is_null()), document.as_object_mut())
    {
        document.insert("stdin".into(), stdin.clone());
    }
    let document = Template::parse(document).map_err(|(mut path, message)| {
        path.insert(0, "action".into());
        Fault { path, message }
    })?;
    let level = match members.get("security_level").filter(|level| !level.is_null()) {
        None => None,
        Some(level) => Some(
            level
                .as_str()
                .and_then(SecurityLevel::from_value)
                .ok_or_else(|| fault("security_level", "must be public, internal, confidential or restricted"))?,
        ),
    };
    let within = |member: &str, error: Error| match error {
        Error::Invalid { path, message } => {
            let path = path.iter().map(Place::from);
            Fault { path: ["action".into(), member.into()].into_iter().chain(path).collect(), message }
        }
        other => fault(member, &other.to_string()),
    };
    let requirements = Requirements::read(members.get("requirements").cloned());
    let requirements = requirements.map_err(|error| within("requirements", error))?;
    let limits = StepLimits::read(members.get("limits").cloned()).map_err(|error| within("limits", error))?;
    let allow_failure = match members.get("allow_failure") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(allow)) => *allow,
        Some(_) => return Err(fault("allow_failure", "must be true or false")),
    };
    Ok(CommandSpec { document, level, requirements, limits, allow_failure })
}

impl CommandSpec {
    /// The command, with what its paths lead to. It reads the step's input as JSON unless it has a `stdin` of its own.
    ///
    /// # Errors
    /// The first path that finds nothing.
    pub fn fill(&self, context: &dyn Context, input: &Value) -> Result<Command, ResolveError> {
        let filled = self.document.fill(context)?;
        let words = filled.get("argv").and_then(Value::as_array).into_iter().flatten();
        let env = filled.get("env").and_then(Value::as_object).into_iter().flatten();
        let stdin = match filled.get("stdin") {
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(other) => other.to_string().into_bytes(),
            None => input.to_string().into_bytes(),
        };
        Ok(Command {
            argv: words.map(text).collect(),
            stdin,
            env: env.map(|(name, value)| (name.clone(), text(value))).collect::<BTreeMap<_, _>>(),
            level: self.level,
            requirements: self.requirements.clone(),
            limits: self.limits.clone(),
        })
    }
}

/// A string as it is, anything else as JSON. What no argument can hold is left out.
fn text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().filter(|c| *c != '\0').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(action: Value) -> (Vec<Place>, String) {
        let fault = parse(action.as_object().unwrap()).unwrap_err();
        (fault.path, fault.message)
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
            let expected: Vec<Place> = path.into_iter().map(Place::from).collect();
            assert_eq!(fault(action.clone()).0, expected, "{action}");
        }
        assert!(
            parse(json!({"argv": ["python3", "-c", "$.inputs.code"], "stdin": {"a": 1}}).as_object().unwrap()).is_ok()
        );
    }
}
