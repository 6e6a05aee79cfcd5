//! Environments that callers sent as tables, as they are stored and shown.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::environments::{EnvironmentDescription, EnvironmentSolution, TabularDefinition};
use am_core::ids::PrincipalId;
use am_db::{codec::Timestamp, owner};

/// Longest name of an environment, in characters.
const MAX_NAME_CHARS: usize = 64;

/// An environment to be stored. Members not listed here are ignored.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = EnvironmentDraft)]
pub struct EnvironmentDraft {
    /// Name, 1 to 64 of `a-z`, `0-9`, `_`, `.` and `-`, beginning with a letter or digit; not that of a built-in
    /// environment, nor `bridge`. A name that the caller has used gets a new version.
    pub name: String,
    /// Tables of the environment.
    pub tables: TabularDefinition,
}

/// An environment that was sent as tables, at one of its versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnEnvironment {
    /// Name of the environment.
    pub name: String,
    /// Principal that owns the environment; every key may train in it.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Number of the newest version.
    pub latest: u32,
    /// Time when the first version was stored.
    pub created_at: Timestamp,
    /// Time when the newest version was stored.
    pub updated_at: Timestamp,
    /// The version that was stored or found.
    pub version: OwnEnvironmentVersion,
}

/// A version of an environment that was sent as tables. It never changes.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EnvironmentVersion)]
pub struct OwnEnvironmentVersion {
    /// Reference to the version, `name@version`, as runs name it.
    pub id: String,
    /// Version number, from 1.
    pub version: u32,
    /// SHA-256 of the tables without their description, 64 hex digits.
    pub sha256: String,
    /// Number of states.
    pub states: u64,
    /// Number of rows of the table of transitions.
    pub transitions: u64,
    /// Discount of the next step's reward.
    pub discount: f64,
    /// What trainings see.
    pub description: EnvironmentDescription,
    /// What the best policies reach.
    pub solution: EnvironmentSolution,
    /// Time when the version was stored.
    pub created_at: Timestamp,
}

/// A version to be stored.
#[derive(Clone, Debug)]
pub(super) struct NewEnvironmentVersion {
    /// Name of the environment.
    pub(super) name: String,
    /// Number of the version, from 1.
    pub(super) version: u32,
    /// SHA-256 of the tables.
    pub(super) sha256: String,
    /// Its tables as they were sent.
    pub(super) tables: TabularDefinition,
    /// What trainings see; its name is that of the version.
    pub(super) description: EnvironmentDescription,
    /// What the best policies reach.
    pub(super) solution: EnvironmentSolution,
}

/// A reference to an environment, with or without a version: `name` or `name@version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvironmentReference {
    /// Name of the environment.
    pub(super) name: String,
    /// Number of the version; `None`: the newest.
    pub(super) version: Option<u32>,
}

impl EnvironmentReference {
    /// Read a reference; `None`: it is none, and nothing is stored under it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let Some((name, version)) = text.split_once('@') else {
            return is_environment_name(text).then(|| Self { name: text.to_owned(), version: None });
        };
        let number: u32 = version.parse().ok()?;
        let canonical = number > 0 && number.to_string() == version;
        (canonical && is_environment_name(name)).then(|| Self { name: name.to_owned(), version: Some(number) })
    }
}

impl fmt::Display for EnvironmentReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Whether a text has the form of an environment's name.
pub(super) fn is_environment_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= MAX_NAME_CHARS
        && name.bytes().next().is_some_and(is_first)
        && name.bytes().all(|byte| is_first(byte) || matches!(byte, b'_' | b'.' | b'-'))
}

/// Whether a run's environment, as it is stored, is one that was sent as tables: it has a version.
pub fn is_own_reference(environment: &str) -> bool {
    EnvironmentReference::read(environment).is_some_and(|reference| reference.version.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        for text in ["maze", "maze@1", "0.a_b-c@4294967295"] {
            assert_eq!(EnvironmentReference::read(text).unwrap().to_string(), text);
        }
        for text in ["", "Maze", "-a", "a b", "maze@", "maze@0", "maze@01", "maze@latest", "maze@1@2", &"a".repeat(65)]
        {
            assert_eq!(EnvironmentReference::read(text), None, "{text}");
        }
        assert!(is_own_reference("maze@1") && !is_own_reference("maze") && !is_own_reference("CartPole-v1"));
    }
}
