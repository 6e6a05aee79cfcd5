//! Types of stored policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{network::PolicySpec, serving::TrafficSplit};
use am_core::ids::{PolicyVersionId, PrincipalId};
use am_db::{codec::Timestamp, owner};

/// A policy: a name with versions and aliases.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RlPolicy)]
pub struct PolicyRecord {
    /// Name of the policy.
    pub name: String,
    /// Principal that owns the policy; every key may use it.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Number of the newest version.
    pub latest: u32,
    /// Number of the version that answers references without a version: that of the alias `production`, or else the
    /// newest.
    pub serving: u32,
    /// Version number of each alias.
    pub aliases: BTreeMap<String, u32>,
    /// Split of the calls that name no version.
    pub split: TrafficSplit,
    /// Time when the first version was stored.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// One version of a policy. It never changes.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PolicyVersion)]
pub struct VersionRecord {
    /// Id: `policy_` and 12 hex digits.
    pub id: PolicyVersionId,
    /// Reference to the version, `name@version`.
    pub reference: String,
    /// Name of the policy.
    pub name: String,
    /// Version number, from 1.
    pub version: u32,
    /// Principal that made the version.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Network's algorithm, dimensions and actions.
    #[serde(flatten)]
    pub form: PolicySpec,
    /// Names of the discrete actions; empty for continuous ones.
    pub action_names: Vec<String>,
    /// Names of the numbers of a state; empty when none were given.
    pub state_names: Vec<String>,
    /// Environment that the version was trained in or is made for; null when unknown.
    pub environment: Option<String>,
    /// Origin: `builtin`, `uploaded`, `trained`, `copied` (first version of an agent's own policy) or `learned`.
    pub source: String,
    /// SHA-256 of the safetensors file, 64 hex digits.
    pub sha256: String,
    /// Size of the file, in bytes.
    pub size_bytes: u64,
    /// Seed of the training run that made the version; null when no run did.
    pub seed: Option<u64>,
    /// Version of libtorch that validated the file.
    pub libtorch: String,
    /// Algorithm, settings and further data of the training; null when the version was not trained here.
    pub training: Option<Value>,
    /// Evaluation made when the version was trained; null when there was none.
    pub scores: Option<Value>,
    /// Time when the version was stored.
    pub created_at: Timestamp,
}

/// What a training was besides its seed and environment: members of its record.
pub(super) const TRAINED_WITH: [&str; 4] = ["parameters", "algorithm", "settings", "steps"];

/// A version beside another, as far as that says whether they were trained alike.
#[derive(Clone, Debug)]
pub(super) struct NeighbourRow {
    /// Version number, from 1.
    pub(super) version: u32,
    /// Seed of its training; `None`: it has none.
    pub(super) seed: Option<u64>,
    /// Environment that it was trained in.
    pub(super) environment: Option<String>,
    /// Evaluation made at the end of its training.
    pub(super) scores: Option<Value>,
    /// The texts of [`TRAINED_WITH`], in their order.
    pub(super) trained_with: [Option<String>; TRAINED_WITH.len()],
}

/// A version to be stored.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Name of the policy.
    pub name: String,
    /// Stored weights file.
    pub file: StoredWeights,
    /// Network's algorithm, dimensions and actions.
    pub form: PolicySpec,
    /// Names of the discrete actions.
    pub action_names: Vec<String>,
    /// Names of the numbers of a state.
    pub state_names: Vec<String>,
    /// Environment that the version was trained in or is made for.
    pub environment: Option<String>,
    /// Origin: `builtin`, `uploaded`, `trained`, `copied` (first version of an agent's own policy) or `learned`.
    pub source: &'static str,
    /// Seed of the training run that made it.
    pub seed: Option<u64>,
    /// Algorithm, settings and further data of the training.
    pub training: Option<Value>,
    /// Evaluation made at the end of the training.
    pub scores: Option<Value>,
    /// Aliases to set to the new version.
    pub aliases: Vec<String>,
}

/// A weights file in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWeights {
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: String,
    /// Size of the file, in bytes.
    pub size: u64,
}

/// A move of an alias.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AliasMove {
    /// Version before the move; null: the alias did not exist.
    pub from_version: Option<u32>,
    /// Version after the move; null: the alias was removed.
    pub to_version: Option<u32>,
    /// Whether the move was a rollback.
    pub rollback: bool,
    /// Principal that moved the alias.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub moved_by: String,
    /// Time of the move.
    pub moved_at: Timestamp,
}

/// Metadata sent with uploaded weights.
#[derive(Clone, Debug, Default)]
pub struct WeightsUpload {
    /// Environment that the policy is made for; its names of actions and states are used where none are sent.
    pub environment: Option<String>,
    /// Names of the discrete actions.
    pub action_names: Option<Vec<String>>,
    /// Names of the numbers of a state.
    pub state_names: Option<Vec<String>>,
    /// Aliases to set to the new version.
    pub aliases: Vec<String>,
    /// Smallest and largest return of Rainbow's atoms, where the file does not contain them.
    pub support: Option<(f32, f32)>,
}
