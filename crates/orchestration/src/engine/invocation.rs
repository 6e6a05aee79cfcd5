//! An attempt at an action: what it needs, gives, and fails with.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    http_step::PreparedRequest,
    run::{AttemptFailure, AttemptOutput},
};
use am_core::{
    ids::{AssignmentId, JobId, PrincipalId, TrainingRunId},
    money::Money,
    retry_after::parse_retry_after,
};
use am_rl::PolicyReference;
use am_security::sandbox::{self, SandboxCommand};

/// Longest wait for which an endpoint is granted its `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Failure of an attempt, and whether another attempt may succeed.
#[derive(Debug, Default)]
pub struct ActionFailure {
    pub message: String,
    pub retryable: bool,
    /// Whether an endpoint was called and did not answer.
    pub unanswered: bool,
    /// Whether it was a job that no miner took in time.
    pub expired: bool,
    /// The endpoint's `Retry-After`, as it was sent.
    pub retry_after: Option<String>,
}

impl ActionFailure {
    /// Create a permanent failure: a retry would fail again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Create a transient failure: a retry may succeed.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true, ..Self::default() }
    }

    /// Create a transient failure of a call that may have taken effect: no answer came.
    pub fn unanswered(message: impl Into<String>) -> Self {
        Self { unanswered: true, ..Self::transient(message) }
    }

    /// Return the failure as its run takes it. At `now`, a time by which the endpoint wants to wait becomes a duration.
    pub fn into_attempt(self, now: DateTime<Utc>) -> AttemptFailure {
        AttemptFailure {
            retry_after: self.retry_after.and_then(|value| parse_retry_after(&value, now, MAX_RETRY_AFTER)),
            message: self.message,
            retryable: self.retryable,
            unanswered: self.unanswered,
        }
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
    Http(Box<EndpointCall>),
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

/// A call of an endpoint that is ready to be made.
pub struct EndpointCall {
    pub request: PreparedRequest,
    /// Idempotency key: equal for the same attempt, also after a crash, and for each attempt until one is answered, so that
    /// the receiver recognises a repetition.
    pub key: String,
    /// Whether a call with this key may have been made before.
    pub repeats: bool,
    pub traceparent: Option<String>,
}

/// A command that is ready to run.
pub struct PreparedCommand {
    pub run: sandbox::CommandContext,
    pub command: SandboxCommand,
    /// Whether a nonzero exit status is an ordinary result.
    pub allow_failure: bool,
}
