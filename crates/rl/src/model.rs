//! What is asked of a policy and what it answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::network::LoadError;

/// The most characters a policy's or an alias's name may have.
const MAX_NAME: usize = 64;
/// The alias that is always the newest version, and can't be moved.
pub const LATEST: &str = "latest";
/// The alias that a bare name means, where a policy has it.
pub const PRODUCTION: &str = "production";

/// Which version of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pick {
    /// Nothing is said: [`PRODUCTION`] where the policy has that alias, else the newest.
    Serving,
    /// This one.
    Version(u32),
    /// The one that this alias points at; [`LATEST`] is the newest.
    Alias(String),
}

/// A policy by name, at one version, or where an alias points: `name`, `name@version` or `name@alias`.
///
/// A name is 1 to 64 characters of `a-z`, `0-9`, `_`, `.` and `-`, the first a letter or a digit; a version is a number from 1; an
/// alias is as a name, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyReference {
    /// The policy's name.
    pub name: String,
    /// Which of its versions.
    pub pick: Pick,
}

/// Why a text is no [`PolicyReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The part before `@`.
    #[error("'{0}' is not a policy name: 1 to 64 of a-z, 0-9, '_', '.', '-', beginning with a letter or a digit")]
    Name(String),
    /// The part after `@`.
    #[error("'{0}' is not a policy version: a number from 1, or an alias")]
    Version(String),
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn well_formed(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|c| plain(c) || matches!(c, b'_' | b'.' | b'-'))
}

/// Whether `text` can be an alias: a name that begins with a letter.
pub fn is_alias(text: &str) -> bool {
    well_formed(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

impl PolicyReference {
    /// The policy of this name, at whatever version serves.
    ///
    /// # Errors
    /// [`ReferenceError::Name`].
    pub fn named(name: &str) -> Result<Self, ReferenceError> {
        match well_formed(name) {
            true => Ok(Self { name: name.to_owned(), pick: Pick::Serving }),
            false => Err(ReferenceError::Name(name.to_owned())),
        }
    }

    /// The newest version of it.
    pub fn newest(name: &str) -> Self {
        Self { name: name.to_owned(), pick: Pick::Alias(LATEST.to_owned()) }
    }

    /// This version of it.
    pub fn at(name: &str, version: u32) -> Self {
        Self { name: name.to_owned(), pick: Pick::Version(version) }
    }
}

impl FromStr for PolicyReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let Some((name, pick)) = text.split_once('@') else { return Self::named(text) };
        let pick = match parse_version(pick) {
            Some(version) => Pick::Version(version),
            None if is_alias(pick) => Pick::Alias(pick.to_owned()),
            None => return Err(ReferenceError::Version(pick.to_owned())),
        };
        Ok(Self { pick, ..Self::named(name)? })
    }
}

/// Only the way [`fmt::Display`] writes it, so that one version has one name: no sign, no leading zero.
fn parse_version(text: &str) -> Option<u32> {
    text.parse().ok().filter(|version: &u32| *version > 0 && version.to_string() == text)
}

impl fmt::Display for PolicyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            Pick::Serving => f.write_str(&self.name),
            Pick::Version(version) => write!(f, "{}@{version}", self.name),
            Pick::Alias(alias) => write!(f, "{}@{alias}", self.name),
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

/// How a policy chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The best action by what the policy knows.
    #[default]
    Greedy,
    /// An action drawn from the policy's distribution: the same seed draws the same.
    Sample {
        /// Of the generator; none: another for each call.
        seed: Option<u64>,
    },
}

/// What is done: the index of a discrete action, or a vector of numbers in the bounds of the policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Act {
    /// An index.
    Index(usize),
    /// A vector.
    Vector(Vec<f64>),
}

/// A policy's answer to one state. What a policy of its kind does not have is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The policy and the version that answered, `name@version`.
    pub policy: String,
    /// What to do. Greedy: of equals the lowest index.
    pub action: Act,
    /// What a discrete action is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_name: Option<String>,
    /// PPO: the probability of each action; they sum to 1 within the rounding of an `f32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Vec<f64>>,
    /// SAC: the mean of the Gaussian, before the action is squashed or clamped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// SAC: its standard deviation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    /// Rainbow and DQN: the expected discounted return of each action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_values: Option<Vec<f64>>,
    /// The critic's estimate of the discounted return from this state, in the environment's units of reward: PPO's critic,
    /// the highest Q, or the smaller of SAC's two for the greedy action.
    pub value: f64,
}

/// Why a policy did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No policy has that name.
    #[error("there is no policy '{0}'")]
    UnknownPolicy(String),
    /// The policy is there, this version of it is not.
    #[error("policy '{name}' has no version {version}")]
    UnknownVersion {
        /// The policy's name.
        name: String,
        /// The version asked for.
        version: u32,
    },
    /// The policy is there and has no such alias.
    #[error("policy '{name}' has no alias '{alias}'")]
    UnknownAlias {
        /// The policy's name.
        name: String,
        /// The alias asked for.
        alias: String,
    },
    /// A state has another length than the policy's input.
    #[error("the policy takes a state of {expected} numbers, not {got}")]
    Dimension {
        /// Which state of those given, from 0.
        row: usize,
        /// The length of the policy's input.
        expected: usize,
        /// The length of the state.
        got: usize,
    },
    /// A number of a state is NaN, infinite, or too large for an `f32`.
    #[error("the state's number at position {position} is not finite as a 32-bit float")]
    NotFinite {
        /// Which state of those given, from 0.
        row: usize,
        /// Its position in it, from 0.
        position: usize,
    },
    /// No state, or more of them than one call takes.
    #[error("a call takes 1 to {most} states, not {got}")]
    Count {
        /// How many there may be.
        most: usize,
        /// How many there are.
        got: usize,
    },
    /// The policy knows what actions are worth, not how often to do them.
    #[error("'{0}' has no distribution to sample from: it answers Q-values, so ask for the mode greedy")]
    NoDistribution(String),
    /// The state's numbers are finite, but so large that the network's answer is not.
    #[error("the state's numbers are too large: the network's answer is not finite")]
    Overflow,
    /// As many requests are waiting as may wait; ask again later.
    #[error("the policy has as many requests waiting as it takes")]
    Overloaded,
    /// The policy's thread has ended.
    #[error("the policy is stopped")]
    Stopped,
    /// The weights were refused.
    #[error("the policy's weights cannot be used: {0}")]
    Load(#[from] LoadError),
    /// The weights' file is not there, or not what it was.
    #[error("the policy's weights cannot be read: {0}")]
    Storage(String),
    /// libtorch failed, or the operating system gave no thread.
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
        assert_eq!("a@latest".parse::<PolicyReference>().unwrap().pick, Pick::Alias("latest".into()));
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
        assert_eq!(reference.pick, Pick::Version(2));
        assert_eq!(serde_json::to_string(&reference).unwrap(), r#""marketplace-ppo@2""#);
        assert!(serde_json::from_str::<PolicyReference>(r#""Marketplace""#).is_err());
    }
}
