//! Reinforcement learning: environments, training, stored policies, and inference through libtorch.
//!
//! A policy is a name with immutable versions. [`Policies`] holds the loaded versions, each on its own thread, and
//! answers a state with a [`Decision`]. The same state always gets the same bits, whatever else is asked at the same
//! time.

mod allocator;
mod builtin;
pub mod calibration;
mod decide;
pub mod environments;
pub mod error;
pub mod export;
pub mod learning;
pub mod library;
mod model;
mod network;
mod orthogonal;
pub mod runs;
pub mod serving;
mod state;
pub mod training;

pub use allocator::keep_freed_memory;
pub use builtin::{BUILTIN_NAME, BUILTIN_SHA256, BUILTIN_VERSION, builtin_weights};
pub use error::Error;
pub use model::{Act, ActError, Decision, Mode, Pick, PolicyReference, ReferenceError};
pub use network::{Actions, Form, LoadError};
pub use serving::Policies;
pub use state::{ACTIONS, FEATURES, StateError, by_name, state_from_json};

/// Version of libtorch that this service is built for.
pub const LIBTORCH: &str = "2.13.0";
