//! Reinforcement learning: environments, training, stored policies, and inference through libtorch.
//!
//! A policy is a name with immutable versions. [`PolicyServer`] holds the loaded versions, each on its own thread, and
//! answers a state with a [`PolicyDecision`]. The same state always gets the same bits, whatever else is asked at the same
//! time.

mod builtin;
pub mod calibration;
pub mod environments;
pub mod error;
pub mod export;
mod interval;
pub mod learning;
pub mod library;
mod marketplace_state;
pub mod meta_learning;
mod model;
mod network;
mod orthogonal;
pub mod outcomes;
pub mod own_environments;
mod process_memory;
pub mod runs;
pub mod serving;
pub mod text_encoder;
pub mod training;
pub mod tuning;

pub use builtin::{BUILTIN_NAME, BUILTIN_SHA256, BUILTIN_VERSION, builtin_weights};
pub use error::RlError;
pub use marketplace_state::{ACTION_NAMES, FEATURE_NAMES, StateError, state_by_names, state_from_json};
pub use model::{ActError, ActionMode, PolicyAction, PolicyDecision, PolicyReference, ReferenceError, VersionSelector};
pub use network::{ActionLayer, ActionLayers, LoadError, PolicyActions, PolicySpec, action_layers};
pub use process_memory::{keep_freed_memory, release_start_memory};
pub use serving::PolicyServer;

/// Version of libtorch that this service is built for.
pub const LIBTORCH_VERSION: &str = "2.13.0";
