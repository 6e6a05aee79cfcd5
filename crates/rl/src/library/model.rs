//! Policies as they are stored and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{network::Form, serving::Split};
use am_db::{codec::Timestamp, owner};

/// A policy: a name with versions and aliases.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whose it is; every key may ask it.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// The newest version.
    pub latest: u32,
    /// The version that a bare name means.
    pub serving: u32,
    /// Where each alias points.
    pub aliases: BTreeMap<String, u32>,
    /// Which calls by the bare name go elsewhere as well.
    pub split: Split,
    /// When its first version came.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// One version of a policy. Never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionRecord {
    /// `policy_` and 12 hex digits.
    pub id: String,
    /// `name@version`.
    pub reference: String,
    /// The policy's name.
    pub name: String,
    /// From 1.
    pub version: u32,
    /// Who made it.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// What its network is.
    #[serde(flatten)]
    pub form: Form,
    /// What its discrete actions are called.
    pub action_names: Vec<String>,
    /// What the numbers of a state are called; empty: nothing is said.
    pub state_names: Vec<String>,
    /// What it was trained on, or is for.
    pub environment: Option<String>,
    /// builtin, uploaded, trained, copied (an agent's first) or learned.
    pub source: String,
    /// SHA-256 of its safetensors file.
    pub sha256: String,
    /// The file's size.
    pub size_bytes: u64,
    /// What the run that made it was seeded with.
    pub seed: Option<u64>,
    /// The version of libtorch that checked it.
    pub libtorch: String,
    /// How it was made.
    pub training: Option<Value>,
    /// What it reached when it was made.
    pub scores: Option<Value>,
    /// When.
    pub created_at: Timestamp,
}

/// A version to be stored.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The policy's name.
    pub name: String,
    /// The file.
    pub file: Stored,
    /// What its network is.
    pub form: Form,
    /// What its discrete actions are called.
    pub action_names: Vec<String>,
    /// What the numbers of a state are called.
    pub state_names: Vec<String>,
    /// What it was trained on, or is for.
    pub environment: Option<String>,
    /// builtin, uploaded, trained, copied (an agent's first) or learned.
    pub source: &'static str,
    /// What the run that made it was seeded with.
    pub seed: Option<u64>,
    /// How it was made.
    pub training: Option<Value>,
    /// What it reached when it was made.
    pub scores: Option<Value>,
    /// Aliases that are to point at it.
    pub aliases: Vec<String>,
}

/// Weights that lie in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Of the file.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
}

/// One move of an alias.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AliasMove {
    /// Where it pointed before; none: it did not stand.
    pub from_version: Option<u32>,
    /// Where it points since; none: it was taken away.
    pub to_version: Option<u32>,
    /// Whether it went back.
    pub rollback: bool,
    /// Who moved it.
    #[serde(serialize_with = "owner::shown")]
    pub moved_by: String,
    /// When.
    pub moved_at: Timestamp,
}

/// What is sent with uploaded weights.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// What it is for; its names of actions and states are taken where none are sent.
    pub environment: Option<String>,
    /// What its discrete actions are called.
    pub action_names: Option<Vec<String>>,
    /// What the numbers of a state are called.
    pub state_names: Option<Vec<String>>,
    /// Aliases that are to point at it.
    pub aliases: Vec<String>,
    /// The least and the most return that Rainbow's atoms stand for, where the file doesn't say.
    pub support: Option<(f32, f32)>,
}
