//! Reinforcement-learning policies, answered through libtorch.
//!
//! A policy is a name with immutable versions. [`Policies`] holds those that are loaded, each behind its own thread, and
//! answers a state with a [`Decision`]. The same state always gets the same bits, whatever was asked at the same time.

mod builtin;
pub mod environments;
mod export;
mod metrics;
mod model;
mod network;
mod orthogonal;
mod serving;
mod state;
pub mod training;
mod worker;

pub use builtin::{BUILTIN_NAME, BUILTIN_SHA256, BUILTIN_VERSION, builtin_weights};
pub use export::{ExportError, Format, export};
pub use model::{Decision, Error, PolicyReference, ReferenceError};
pub use network::{Actions, Form, LoadError, with_support};
pub use serving::Policies;
pub use state::{ACTIONS, FEATURES, StateError, state_from_json};
