//! Types shared by the modules of the orchestration crate.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use am_audit::SecurityLevel;
use am_core::validation::Violations;

/// The longest a step may take, in seconds: a week.
pub(crate) const MAX_STEP_SECONDS: u64 = 604_800;

am_db::stored_enum! {
    /// Verification level of results.
    pub enum VerificationLevel {
        /// The step completed with an output and without error.
        Basic = "BASIC" / "basic",
        /// Like basic, and within the limits of time and memory.
        Full = "FULL" / "full",
        /// Like full, and with a proof.
        ZeroKnowledge = "ZERO_KNOWLEDGE" / "zero-knowledge",
    }
}

impl VerificationLevel {
    /// Return the security level that the verification level implies; without verification it is public.
    pub fn security_level(self, requires_verification: bool) -> SecurityLevel {
        match self {
            _ if !requires_verification => SecurityLevel::Public,
            Self::ZeroKnowledge => SecurityLevel::Restricted,
            Self::Full => SecurityLevel::Confidential,
            Self::Basic => SecurityLevel::Internal,
        }
    }
}

am_db::stored_enum! {
    /// Type of a step; determines which actions it may have.
    pub enum StepType {
        /// Ask a model.
        Inference = "INFERENCE" / "inference",
        /// Train a model.
        Training = "TRAINING" / "training",
        /// Process or transform data.
        DataProcessing = "DATA_PROCESSING" / "data_processing",
        /// Check results of other steps.
        Verification = "VERIFICATION" / "verification",
        /// Any other work.
        Custom = "CUSTOM" / "custom",
    }
}

am_db::stored_enum! {
    /// Status of an execution or step.
    #[schema(as = ExecutionStatus)]
    pub enum ExecutionStatus {
        /// Waiting to begin.
        Pending = "PENDING" / "pending",
        /// Begun and not ended.
        Running = "RUNNING" / "running",
        /// Completed without error.
        Completed = "COMPLETED" / "completed",
        /// Ended by an error.
        Failed = "FAILED" / "failed",
        /// Cancelled on request.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

impl ExecutionStatus {
    /// Return whether the status is final.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// Bounds of a wait before a retry, in seconds.
const RETRY_SECONDS: RangeInclusive<f64> = 0.0..=86_400.0;
/// Bounds of what a wait is multiplied by.
const RETRY_BACKOFF: RangeInclusive<f64> = 1.0..=100.0;
/// Bounds of the random share of a wait.
const RETRY_JITTER: RangeInclusive<f64> = 0.0..=1.0;

/// Retry policy of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct RetryPolicy {
    /// Seconds before the first retry.
    pub initial_seconds: f64,
    /// Factor of the delay from one retry to the next. Also taken as `backoff_factor`.
    #[serde(alias = "backoff_factor")]
    pub backoff: f64,
    /// Maximum delay in seconds, before jitter.
    pub max_seconds: f64,
    /// Random share of the delay, 0 to 1, which spreads the retries of many runs.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial_seconds: 1.0, backoff: 2.0, max_seconds: 60.0, jitter: 0.1 }
    }
}

impl RetryPolicy {
    /// Return the delay before the retry after attempt number `attempt` (from 1), with `random` from 0 to 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = (self.initial_seconds * self.backoff.powi(exponent)).min(self.max_seconds);
        let spread = 1.0 + self.jitter * (2.0 * random - 1.0);
        Duration::try_from_secs_f64(wait * spread).unwrap_or(Duration::ZERO)
    }

    /// Every member that is out of its bounds, with its path inside the policy.
    pub fn violations(&self) -> Violations {
        let mut violations = Violations::default();
        violations.require(RETRY_SECONDS.contains(&self.initial_seconds), "initial_seconds", "must be 0 to 86400");
        violations.require(RETRY_BACKOFF.contains(&self.backoff), "backoff", "must be 1 to 100");
        violations.require(RETRY_SECONDS.contains(&self.max_seconds), "max_seconds", "must be 0 to 86400");
        violations.require(RETRY_JITTER.contains(&self.jitter), "jitter", "must be 0 to 1");
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_jitter_around_it() {
        let policy = RetryPolicy { initial_seconds: 1.0, backoff: 3.0, max_seconds: 5.0, jitter: 0.5 };
        let seconds = |attempt, random| policy.delay(attempt, random).as_secs_f64();
        assert_eq!([seconds(1, 0.5), seconds(2, 0.5), seconds(3, 0.5), seconds(99, 0.5)], [1.0, 3.0, 5.0, 5.0]);
        assert_eq!([seconds(1, 0.0), seconds(1, 1.0)], [0.5, 1.5]);
        assert!(RetryPolicy { backoff: 0.5, ..policy }.violations().finish().is_err());
        assert!(RetryPolicy { max_seconds: f64::NAN, ..policy }.violations().finish().is_err());
        assert!(policy.violations().finish().is_ok());
    }
}
