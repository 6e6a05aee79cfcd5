//! References to policies, queries and decisions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::network::LoadError;

/// Maximum length of a policy or alias name, in characters.
const MAX_NAME_LEN: usize = 64;
/// Alias that always means the newest version and cannot be moved.
pub const LATEST_ALIAS: &str = "latest";
/// Alias that a reference without a version means, where the policy has it.
pub const PRODUCTION_ALIAS: &str = "production";

/// Selection of a policy's version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VersionSelector {
    /// The version in service: the alias [`PRODUCTION_ALIAS`] where the policy has it, else the newest version.
    Serving,
    /// Version with this number.
    Version(u32),
    /// Version that this alias points to; [`LATEST_ALIAS`] is the newest.
    Alias(String),
}

/// Reference to a policy, optionally at a version or alias: `name`, `name@version` or `name@alias`.
///
/// A name has 1 to 64 characters of `a-z`, `0-9`, `_`, `.` and `-` and begins with a letter or digit. A version is a
/// number from 1. An alias has the form of a name and begins with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyReference {
    /// Name of the policy.
    pub name: String,
    /// Selection of its version.
    pub pick: VersionSelector,
}

/// Error of parsing a [`PolicyReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The part before `@` is not a name.
    #[error("'{0}' is not a policy name: 1 to 64 of a-z, 0-9, '_', '.', '-', beginning with a letter or a digit")]
    Name(String),
    /// The part after `@` is neither a version nor an alias.
    #[error("'{0}' is not a policy version: a number from 1, or an alias")]
    Version(String),
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_policy_name(name: &str) -> bool {
    name.len() <= MAX_NAME_LEN
        && name.bytes().next().is_some_and(is_name_byte)
        && name.bytes().all(|c| is_name_byte(c) || matches!(c, b'_' | b'.' | b'-'))
}

/// Check that `text` is a valid alias: a name that begins with a letter.
pub fn is_alias(text: &str) -> bool {
    is_policy_name(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

impl PolicyReference {
    /// Refer to the policy of this name without a version.
    ///
    /// # Errors
    /// [`ReferenceError::Name`] for an invalid name.
    pub fn named(name: &str) -> Result<Self, ReferenceError> {
        match is_policy_name(name) {
            true => Ok(Self { name: name.to_owned(), pick: VersionSelector::Serving }),
            false => Err(ReferenceError::Name(name.to_owned())),
        }
    }

    /// Refer to the newest version of a policy.
    pub fn newest(name: &str) -> Self {
        Self { name: name.to_owned(), pick: VersionSelector::Alias(LATEST_ALIAS.to_owned()) }
    }

    /// Refer to a version of a policy.
    pub fn at(name: &str, version: u32) -> Self {
        Self { name: name.to_owned(), pick: VersionSelector::Version(version) }
    }
}

impl FromStr for PolicyReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let Some((name, pick)) = text.split_once('@') else { return Self::named(text) };
        let pick = match parse_version(pick) {
            Some(version) => VersionSelector::Version(version),
            None if is_alias(pick) => VersionSelector::Alias(pick.to_owned()),
            None => return Err(ReferenceError::Version(pick.to_owned())),
        };
        Ok(Self { pick, ..Self::named(name)? })
    }
}

/// Only the canonical form is accepted, without sign or leading zeros, so that a version has one reference.
fn parse_version(text: &str) -> Option<u32> {
    text.parse().ok().filter(|version: &u32| *version > 0 && version.to_string() == text)
}

impl fmt::Display for PolicyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            VersionSelector::Serving => f.write_str(&self.name),
            VersionSelector::Version(version) => write!(f, "{}@{version}", self.name),
            VersionSelector::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

impl TryFrom<String> for PolicyReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<PolicyReference> for String {
    fn from(reference: PolicyReference) -> Self {
        reference.to_string()
    }
}

/// Method of choosing an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActionMode {
    /// Choose the best action according to the policy.
    #[default]
    Greedy,
    /// Draw the action from the policy's distribution; equal seeds give equal draws.
    Sample {
        /// Seed of the generator; `None` draws a new one for each call.
        seed: Option<u64>,
    },
}

/// A chosen action: the index of a discrete one, or a vector of numbers within the policy's bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = PolicyAction)]
pub enum PolicyAction {
    /// Index of a discrete action.
    Index(usize),
    /// Vector of a continuous action.
    Vector(Vec<f64>),
}

/// Answer of a policy to one state. Members that its algorithm does not have are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PolicyDecision)]
pub struct PolicyDecision {
    /// Policy and version that answered, `name@version`.
    pub policy: String,
    /// Chosen action. In greedy mode the lowest index among equals.
    pub action: PolicyAction,
    /// Name of a discrete action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_name: Option<String>,
    /// PPO: probability of each action; they sum to 1 within the rounding of an `f32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Vec<f64>>,
    /// SAC: mean of the Gaussian, before the action is squashed or clamped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// SAC: standard deviation of the Gaussian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    /// Rainbow and DQN: expected discounted return of each action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_values: Option<Vec<f64>>,
    /// Critic's estimate of the discounted return from this state, in the environment's units of reward: PPO's critic,
    /// the highest Q-value, or the smaller of SAC's two critics for the greedy action.
    pub value: f64,
}

/// Error of asking a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The policy's name is unknown.
    #[error("there is no policy '{0}'")]
    UnknownPolicy(String),
    /// The policy has no such version.
    #[error("policy '{name}' has no version {version}")]
    UnknownVersion {
        /// Name of the policy.
        name: String,
        /// Version that was requested.
        version: u32,
    },
    /// The policy has no such alias.
    #[error("policy '{name}' has no alias '{alias}'")]
    UnknownAlias {
        /// Name of the policy.
        name: String,
        /// Alias that was requested.
        alias: String,
    },
    /// The length of a state differs from the policy's input.
    #[error("the policy takes a state of {expected} numbers, not {got}")]
    Dimension {
        /// Index of the state in the call, from 0.
        row: usize,
        /// Length of the policy's input.
        expected: usize,
        /// Length of the state.
        got: usize,
    },
    /// A number of a state is NaN, infinite, or too large for an `f32`.
    #[error("the state's number at position {position} is not finite as a 32-bit float")]
    NotFinite {
        /// Index of the state in the call, from 0.
        row: usize,
        /// Position of the number in the state, from 0.
        position: usize,
    },
    /// The call has no state, or too many.
    #[error("a call takes 1 to {most} states, not {got}")]
    Count {
        /// Maximum number of states.
        most: usize,
        /// Number of states in the call.
        got: usize,
    },
    /// The policy has Q-values only, so there is no distribution to draw from.
    #[error("'{0}' has no distribution to sample from: it answers Q-values, so ask for the mode greedy")]
    NoDistribution(String),
    /// The network's output is not finite, although the state's numbers are.
    #[error("the state's numbers are too large: the network's answer is not finite")]
    Overflow,
    /// The queue is full; retry later.
    #[error("the policy's request queue is full; retry later")]
    Overloaded,
    /// The policy's thread has ended.
    #[error("the policy is stopped")]
    Stopped,
    /// The weights were refused.
    #[error("the policy's weights cannot be used: {0}")]
    Load(#[from] LoadError),
    /// The weights file is missing or has changed.
    #[error("the policy's weights cannot be read: {0}")]
    Storage(String),
    /// libtorch failed, or the operating system could not start a thread.
    #[error("the policy cannot be run: {0}")]
    Runtime(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        for text in ["marketplace-ppo", "marketplace-ppo@1", "0.a_b-c@4294967295", "a@production", "a@v1.2"] {
            assert_eq!(text.parse::<PolicyReference>().unwrap().to_string(), text);
        }
        let reference = "marketplace-ppo@1".parse::<PolicyReference>().unwrap();
        assert_eq!(reference, PolicyReference::at("marketplace-ppo", 1));
        assert_eq!("a@latest".parse::<PolicyReference>().unwrap().pick, VersionSelector::Alias("latest".into()));
    }

    #[test]
    fn a_reference_says_which_part_is_wrong() {
        let too_long = "a".repeat(65);
        for name in ["", "-a", ".a", "A", "a b", "a/b", "é", &too_long] {
            assert_eq!(name.parse::<PolicyReference>(), Err(ReferenceError::Name(name.to_owned())));
        }
        for version in ["", "0", "01", "+1", "-1", "1.0", "X", "1x", "4294967296", "1@1"] {
            let text = format!("a@{version}");
            assert_eq!(text.parse::<PolicyReference>(), Err(ReferenceError::Version(version.to_owned())));
        }
        assert!("a".repeat(64).parse::<PolicyReference>().is_ok());
    }

    #[test]
    fn a_reference_is_a_string_in_json() {
        let reference: PolicyReference = serde_json::from_str(r#""marketplace-ppo@2""#).unwrap();
        assert_eq!(reference.pick, VersionSelector::Version(2));
        assert_eq!(serde_json::to_string(&reference).unwrap(), r#""marketplace-ppo@2""#);
        assert!(serde_json::from_str::<PolicyReference>(r#""Marketplace""#).is_err());
    }
}
