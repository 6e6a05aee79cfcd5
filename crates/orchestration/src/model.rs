//! Words that the whole room shares.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use am_audit::SecurityLevel;
use am_core::validation::Violations;

am_db::stored_enum! {
    /// How thoroughly a result is checked.
    pub enum VerificationLevel {
        /// The step completed, has output, has no error.
        Basic = "BASIC" / "basic",
        /// Basic, and within time and memory.
        Full = "FULL" / "full",
        /// Full, and with a proof.
        ZeroKnowledge = "ZERO_KNOWLEDGE" / "zero-knowledge",
    }
}

impl VerificationLevel {
    /// How sensitive what is verified so thoroughly is taken to be; what is not verified at all is public.
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
    /// What a step is for; decides which actions it may have.
    pub enum StepType {
        /// Ask a model.
        Inference = "INFERENCE" / "inference",
        /// Train one.
        Training = "TRAINING" / "training",
        /// Change data.
        DataProcessing = "DATA_PROCESSING" / "data_processing",
        /// Check what others did.
        Verification = "VERIFICATION" / "verification",
        /// Anything else.
        Custom = "CUSTOM" / "custom",
    }
}

am_db::stored_enum! {
    /// Where an execution or a step stands.
    #[schema(as = ExecutionStatus)]
    pub enum Status {
        /// Not begun.
        Pending = "PENDING" / "pending",
        /// Under way.
        Running = "RUNNING" / "running",
        /// Ended well.
        Completed = "COMPLETED" / "completed",
        /// Ended badly.
        Failed = "FAILED" / "failed",
        /// Stopped on request.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

impl Status {
    /// Will nothing happen any more?
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

/// How a failed attempt is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Seconds before the first retry.
    pub initial_seconds: f64,
    /// The wait is multiplied by this each time.
    pub backoff: f64,
    /// The longest wait in seconds, before jitter.
    pub max_seconds: f64,
    /// Share of the wait, 0 to 1, that is random: waits of many runs do not fall together.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial_seconds: 1.0, backoff: 2.0, max_seconds: 60.0, jitter: 0.1 }
    }
}

impl RetryPolicy {
    /// The wait before the retry that follows attempt number `attempt` (from 1), with `random` from 0 to 1.
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
