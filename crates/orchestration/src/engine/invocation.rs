//! An attempt at an action: what it needs, gives, and fails with.

use std::sync::Arc;

use serde_json::Value;

use crate::run::AttemptOutput;
use am_core::{
    ids::{AssignmentId, JobId, PrincipalId, TrainingRunId},
    money::Money,
};
use am_rl::PolicyReference;
use am_security::sandbox::{self, SandboxCommand};

/// Failure of an attempt, and whether another attempt may succeed.
#[derive(Debug)]
pub struct ActionFailure {
    pub message: String,
    pub retryable: bool,
}

impl ActionFailure {
    /// Create a permanent failure: a retry would fail again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: false }
    }

    /// Create a transient failure: a retry may succeed.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true }
    }
}

/// An attempt with all inputs resolved, ready to be executed independently of its run.
pub enum ActionInvocation {
    /// Result is known without executing anything.
    Resolved(Result<AttemptOutput, ActionFailure>),
    Jq {
        client: PrincipalId,
        program: Arc<str>,
        input: Arc<Value>,
    },
    Policy {
        reference: PolicyReference,
        input: Arc<Value>,
    },
    Check {
        client: PrincipalId,
        schema: Option<Arc<str>>,
        assert: Option<Arc<str>>,
        input: Arc<Value>,
    },
    Job {
        id: JobId,
    },
    Train {
        id: TrainingRunId,
    },
    Agent {
        id: AssignmentId,
    },
    Http {
        endpoint: String,
        body: Value,
        key: String,
        traceparent: Option<String>,
    },
    Command(Box<PreparedCommand>),
}

/// Output of an action, and figures measured with it.
pub struct ActionOutput {
    pub output: AttemptOutput,
    /// Price of the service.
    pub cost: Money,
    pub gpu: bool,
    pub proof: Option<Value>,
    pub memory_mb: Option<f64>,
    pub miner_receipt: Option<Value>,
}

impl ActionOutput {
    /// Create the output of an action without figures.
    pub fn new(output: impl Into<AttemptOutput>) -> Self {
        Self { output: output.into(), cost: Money::ZERO, gpu: false, proof: None, memory_mb: None, miner_receipt: None }
    }
}

/// A command that is ready to run.
pub struct PreparedCommand {
    pub run: sandbox::CommandContext,
    pub command: SandboxCommand,
    /// Whether a nonzero exit status is an ordinary result.
    pub allow_failure: bool,
}
