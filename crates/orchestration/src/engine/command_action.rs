//! Execution of commands in a sandbox.

use std::time::Duration;

use serde_json::{Value, json};

use super::invocation::{ActionFailure, ActionInvocation, ActionOutput, PreparedCommand};
use crate::{command_step::CommandSpec, mapping::ResolveError, run::RunState};
use am_core::json_number::{JsonReadError, read_json};
use am_security::sandbox::{self, CommandOutcome, SandboxError, SandboxService};

/// Time for setting up and removing a sandbox, beyond the command's own limit.
pub const SANDBOX_OVERHEAD: Duration = Duration::from_secs(30);

/// Prepare the command of step `at`, which has begun.
pub fn prepare_command(
    run: &RunState,
    at: usize,
    spec: &CommandSpec,
    input: &Value,
) -> Result<ActionInvocation, ResolveError> {
    let step = &run.plan.steps[at];
    let scope = run.scope_inputs(step)?;
    let command = spec.fill(&run.context(at, scope.as_deref(), None), input, &mut run.value_budget())?;
    let whose = sandbox::CommandContext {
        execution: run.id.clone(),
        workflow: run.workflow_id.clone(),
        step: run.steps[at].step_id.clone(),
        owner: run.client_id.clone(),
        wall: step.timeout,
    };
    Ok(ActionInvocation::Command(Box::new(PreparedCommand { run: whose, command, allow_failure: spec.allow_failure })))
}

/// Run a prepared command in a sandbox and return what it printed.
pub async fn run_command(sandboxes: &SandboxService, prepared: PreparedCommand) -> Result<ActionOutput, ActionFailure> {
    let PreparedCommand { run, command, allow_failure } = prepared;
    am_core::crash_point!("step.before_command");
    let ran = sandboxes.run(run, command).await.map_err(|error| match error {
        SandboxError::StartFailed(_)
        | SandboxError::QuotaReached(..)
        | SandboxError::Stopping
        | SandboxError::Storage(..)
        | SandboxError::Db(_) => ActionFailure::transient(error.to_string()),
        _ => ActionFailure::permanent(error.to_string()),
    })?;
    am_core::crash_point!("step.after_command");
    check_outcome(&ran, allow_failure)?;
    let memory_mb = Some(ran.usage.memory_peak_bytes as f64 / f64::from(1 << 20));
    let mut found = ActionOutput::new(command_output(&ran));
    found.memory_mb = memory_mb;
    Ok(found)
}

/// Fail the step on a violation, on termination from outside, and on a nonzero exit status unless that is allowed.
fn check_outcome(ran: &CommandOutcome, allow_failure: bool) -> Result<(), ActionFailure> {
    let tried: Vec<String> =
        ran.breaches().take(5).map(|attempt| format!("{} {}", violation_name(attempt.kind), attempt.what)).collect();
    if !tried.is_empty() {
        return Err(ActionFailure::permanent(format!("sandbox breach: the command tried {}", tried.join(", "))));
    }
    if let Some(ended) = ran.ended {
        // A repetition would end the same way, after as long.
        return Err(ActionFailure::permanent(format!("the command was ended: {}", ended.words())));
    }
    if ran.exit_code != 0 && !allow_failure {
        let said = ran.stderr.text();
        let tail: String = said.trim().chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect();
        return Err(ActionFailure::permanent(format!("the command ended with status {}: {tail}", ran.exit_code)));
    }
    Ok(())
}

fn violation_name(kind: sandbox::AttemptKind) -> &'static str {
    match kind {
        sandbox::AttemptKind::SystemCall => "the system call",
        sandbox::AttemptKind::Read => "to read",
        sandbox::AttemptKind::Write => "to change",
        sandbox::AttemptKind::Command => "to start",
        sandbox::AttemptKind::Network => "to reach",
    }
}

fn command_output(ran: &CommandOutcome) -> Value {
    let parsed: Result<Value, _> = read_json(&ran.stdout.bytes);
    let mut output = json!({
        "exit_code": ran.exit_code,
        "stdout": ran.stdout.text(),
        "stderr": ran.stderr.text(),
        "stdout_truncated": ran.stdout.truncated(),
        "stderr_truncated": ran.stderr.truncated(),
        "usage": ran.usage,
    });
    if let Some(members) = output.as_object_mut() {
        match parsed {
            Ok(parsed) => drop(members.insert("json".into(), parsed)),
            Err(JsonReadError::Number(error)) => drop(members.insert("json_error".into(), error.to_string().into())),
            Err(JsonReadError::Syntax(_)) => {}
        }
    }
    output
}
