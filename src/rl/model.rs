//! What is asked of a policy and what it answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::network::LoadError;

/// The most characters a policy's name may have.
const MAX_NAME: usize = 64;

/// A policy by name, at one version or, without one, at the newest there is: `name` or `name@version`.
///
/// A name is 1 to 64 characters of `a-z`, `0-9`, `_`, `.` and `-`, the first a letter or a digit; a version is a number from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyReference {
    /// The policy's name.
    pub name: String,
    /// The version asked for; `None` is the newest.
    pub version: Option<u32>,
}

/// Why a text is no [`PolicyReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The part before `@`.
    #[error("'{0}' is not a policy name: 1 to 64 of a-z, 0-9, '_', '.', '-', beginning with a letter or a digit")]
    Name(String),
    /// The part after `@`.
    #[error("'{0}' is not a policy version: a number from 1")]
    Version(String),
}

impl FromStr for PolicyReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let well_formed = name.len() <= MAX_NAME
            && name.bytes().next().is_some_and(plain)
            && name.bytes().all(|c| plain(c) || matches!(c, b'_' | b'.' | b'-'));
        if !well_formed {
            return Err(ReferenceError::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), version: version.map(parse_version).transpose()? })
    }
}

/// Only the way [`fmt::Display`] writes it, so that one version has one name: no sign, no leading zero.
fn parse_version(text: &str) -> Result<u32, ReferenceError> {
    text.parse()
        .ok()
        .filter(|version: &u32| *version > 0 && version.to_string() == text)
        .ok_or_else(|| ReferenceError::Version(text.to_owned()))
}

impl fmt::Display for PolicyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
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

/// A policy's answer to one state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The policy and the version that answered, `name@version`.
    pub policy: String,
    /// The greedy action: the index of the highest probability, the lowest of equals.
    pub action: usize,
    /// What that action is called.
    pub action_name: String,
    /// The probability of each action; they sum to 1 within the rounding of an `f32`.
    pub probabilities: Vec<f64>,
    /// The critic's estimate of the discounted return from this state, in the environment's units of reward.
    pub value: f64,
}

/// Why a policy did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No policy of that name is loaded.
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
    /// The state has another length than the policy's input.
    #[error("the policy takes a state of {expected} numbers, not {got}")]
    Dimension {
        /// The length of the policy's input.
        expected: usize,
        /// The length of the state.
        got: usize,
    },
    /// A number of the state is NaN, infinite, or too large for an `f32`.
    #[error("the state's number at position {position} is not finite as a 32-bit float")]
    NotFinite {
        /// Its position, from 0.
        position: usize,
    },
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
    /// libtorch failed, or the operating system gave no thread.
    #[error("the policy cannot be run: {0}")]
    Runtime(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        for text in ["marketplace-ppo", "marketplace-ppo@1", "0.a_b-c@4294967295"] {
            assert_eq!(text.parse::<PolicyReference>().unwrap().to_string(), text);
        }
        let reference = "marketplace-ppo@1".parse::<PolicyReference>().unwrap();
        assert_eq!(reference, PolicyReference { name: "marketplace-ppo".into(), version: Some(1) });
    }

    #[test]
    fn a_reference_says_which_part_is_wrong() {
        let too_long = "a".repeat(65);
        for name in ["", "-a", ".a", "A", "a b", "a/b", "é", &too_long] {
            assert_eq!(name.parse::<PolicyReference>(), Err(ReferenceError::Name(name.to_owned())));
        }
        for version in ["", "0", "01", "+1", "-1", "1.0", "x", "4294967296", "1@1"] {
            let text = format!("a@{version}");
            assert_eq!(text.parse::<PolicyReference>(), Err(ReferenceError::Version(version.to_owned())));
        }
        assert!("a".repeat(64).parse::<PolicyReference>().is_ok());
    }

    #[test]
    fn a_reference_is_a_string_in_json() {
        let reference: PolicyReference = serde_json::from_str(r#""marketplace-ppo@2""#).unwrap();
        assert_eq!(reference.version, Some(2));
        assert_eq!(serde_json::to_string(&reference).unwrap(), r#""marketplace-ppo@2""#);
        assert!(serde_json::from_str::<PolicyReference>(r#""Marketplace""#).is_err());
    }
}
