//! Words that the whole room shares.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use am_audit::SecurityLevel;

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

/// A fault in what a client sent: where, and what. The path starts inside the request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the body down to the fault, such as `steps`, `score`, `depends_on`, 0.
    pub path: Vec<Place>,
    /// What is wrong with it.
    pub message: String,
}

/// One step on the way to a fault. A step of a workflow may be called `1`, which is no place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A member of an object.
    Member(String),
    /// An item of a list, counted from 0.
    Item(usize),
}

impl From<&str> for Place {
    fn from(member: &str) -> Self {
        Self::Member(member.to_owned())
    }
}

impl From<&String> for Place {
    fn from(member: &String) -> Self {
        Self::Member(member.clone())
    }
}

impl From<String> for Place {
    fn from(member: String) -> Self {
        Self::Member(member)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(member) => f.write_str(member),
            Self::Item(item) => write!(f, "{item}"),
        }
    }
}

impl Fault {
    /// A fault at `path`.
    pub fn new<P: Into<Place>>(path: impl IntoIterator<Item = P>, message: impl Into<String>) -> Self {
        Self { path: path.into_iter().map(Into::into).collect(), message: message.into() }
    }

    /// The same fault, in an item of the list that it was in.
    pub fn item(mut self, item: usize) -> Self {
        self.path.push(Place::Item(item));
        self
    }

    /// The same fault, seen from further out.
    pub fn below(mut self, outer: &[&str]) -> Self {
        self.path.splice(0..0, outer.iter().map(|&part| part.into()));
        self
    }

    /// The path as a person reads it: `steps.score.depends_on.0`.
    pub fn place(&self) -> String {
        self.path.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
    }
}

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

    /// What is wrong with it, if anything: (member, message).
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let good = |value: f64, max: f64| value.is_finite() && (0.0..=max).contains(&value);
        if !good(self.initial_seconds, 86_400.0) {
            Some(("initial_seconds", "must be 0 to 86400"))
        } else if !(1.0..=100.0).contains(&self.backoff) {
            Some(("backoff", "must be 1 to 100"))
        } else if !good(self.max_seconds, 86_400.0) {
            Some(("max_seconds", "must be 0 to 86400"))
        } else if !good(self.jitter, 1.0) {
            Some(("jitter", "must be 0 to 1"))
        } else {
            None
        }
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
        assert!(RetryPolicy { backoff: 0.5, ..policy }.fault().is_some());
        assert!(RetryPolicy { max_seconds: f64::NAN, ..policy }.fault().is_some());
        assert!(policy.fault().is_none());
    }
}
