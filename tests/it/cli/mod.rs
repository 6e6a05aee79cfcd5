//! The command line for people: verbs that ask a running service, and those on its own files.

mod backup;
mod files;
mod runs;
mod terminal;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    harness::{ADMIN, ApiClient},
    operation::{run, run_with},
};

/// A command that asks `server` with the admin key.
pub fn ask_service(server: &ApiClient, arguments: &[&str]) -> Output {
    ask_with_input(server, arguments, "")
}

/// The same with something on its standard input.
pub fn ask_with_input(server: &ApiClient, arguments: &[&str], stdin: &str) -> Output {
    let env = [("AGENT_MANAGEMENT_URL", server.url("")), ("AGENT_MANAGEMENT_KEY", ADMIN.to_owned())];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run_with(server.dir(), arguments, &env, stdin)
}

/// The same in the background.
pub fn begin(server: &ApiClient, arguments: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-management"));
    command.args(arguments).current_dir(server.dir()).env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH", "LIBTORCH"] {
        command.envs(std::env::var(name).map(|value| (name, value)));
    }
    command.env("AGENT_MANAGEMENT_URL", server.url("")).env("AGENT_MANAGEMENT_KEY", ADMIN);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a command without a key of its own says of `url`.
pub fn without_key(dir: &Path, url: &str, arguments: &[&str]) -> Output {
    run(dir, &[arguments, &["--url", url]].concat(), &[])
}

/// The output of a command that ended with this status.
#[track_caller]
pub fn printed(output: &Output, status: i32) -> String {
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{text}\n{said}");
    text.into_owned()
}

/// The document that a command that went well printed.
#[track_caller]
pub fn document(output: &Output) -> Value {
    let text = printed(output, 0);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a command that ended with this status said on standard error.
#[track_caller]
pub fn said(output: &Output, status: i32) -> String {
    printed(output, status);
    String::from_utf8_lossy(&output.stderr).into_owned()
}
