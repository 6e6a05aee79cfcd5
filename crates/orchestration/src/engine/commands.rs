//! Execution of commands in a sandbox.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    actions::{Call, Failure, Found, Performer},
    run::Run,
};
use crate::{command::CommandSpec, mapping::ResolveError};
use am_security::sandbox::{self, Command, Error, Ran};

/// A command that is ready to run.
pub struct Prepared {
    run: sandbox::Run,
    command: Command,
    allow_failure: bool,
}

/// Time for setting up and removing a sandbox, beyond the command's own limit.
pub const AROUND: Duration = Duration::from_secs(30);

/// Prepare the command of step `at`, which has begun.
pub fn prepare(run: &Run, at: usize, spec: &CommandSpec, input: &Value) -> Result<Call, ResolveError> {
    let step = &run.plan.steps[at];
    let scope = run.scope_inputs(step)?;
    let command = spec.fill(&run.context(at, scope.as_ref(), None), input)?;
    let whose = sandbox::Run {
        execution: run.id.clone(),
        workflow: run.workflow_id.clone(),
        step: run.steps[at].step_id.clone(),
        owner: run.client_id.clone(),
        wall: step.timeout,
    };
    Ok(Call::Command(Box::new(Prepared { run: whose, command, allow_failure: spec.allow_failure })))
}

impl Performer {
    pub(super) async fn command(&self, prepared: Prepared) -> Result<Found, Failure> {
        let Prepared { run, command, allow_failure } = prepared;
        am_core::crash_point!("step.before_command");
        let ran = self.sandboxes.run(run, command).await.map_err(|error| match error {
            Error::Start(_) | Error::Stopping | Error::Storage(..) | Error::Db(_) => {
                Failure::passing(error.to_string())
            }
            _ => Failure::certain(error.to_string()),
        })?;
        am_core::crash_point!("step.after_command");
        judged(&ran, allow_failure)?;
        let memory_mb = Some(ran.usage.memory_peak_bytes as f64 / f64::from(1 << 20));
        let mut found = Found::output(output(&ran));
        found.memory_mb = memory_mb;
        Ok(found)
    }
}

/// Fail the step on a violation, on termination from outside, and on a nonzero exit status unless that is allowed.
fn judged(ran: &Ran, allow_failure: bool) -> Result<(), Failure> {
    let tried: Vec<String> =
        ran.breaches().take(5).map(|attempt| format!("{} {}", word(attempt.kind), attempt.what)).collect();
    if !tried.is_empty() {
        return Err(Failure::certain(format!("sandbox breach: the command tried {}", tried.join(", "))));
    }
    if let Some(ended) = ran.ended {
        // A repetition would end the same way, after as long.
        return Err(Failure::certain(format!("the command was ended: {}", ended.words())));
    }
    if ran.exit_code != 0 && !allow_failure {
        let said = ran.stderr.text();
        let tail: String = said.trim().chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect();
        return Err(Failure::certain(format!("the command ended with status {}: {tail}", ran.exit_code)));
    }
    Ok(())
}

fn word(kind: sandbox::AttemptKind) -> &'static str {
    match kind {
        sandbox::AttemptKind::SystemCall => "the system call",
        sandbox::AttemptKind::Read => "to read",
        sandbox::AttemptKind::Write => "to change",
        sandbox::AttemptKind::Command => "to start",
        sandbox::AttemptKind::Network => "to reach",
    }
}

fn output(ran: &Ran) -> Value {
    let parsed: Option<Value> = serde_json::from_slice(&ran.stdout.bytes).ok();
    let mut output = json!({
        "exit_code": ran.exit_code,
        "stdout": ran.stdout.text(),
        "stderr": ran.stderr.text(),
        "stdout_truncated": ran.stdout.truncated(),
        "stderr_truncated": ran.stderr.truncated(),
        "usage": ran.usage,
    });
    if let (Some(parsed), Some(members)) = (parsed, output.as_object_mut()) {
        members.insert("json".into(), parsed);
    }
    output
}
