//! How agents perform: profiles, resources, optimisation, learning, capabilities, suites.

mod agent_evaluations;
pub mod capabilities;
mod evaluation_tasks;
pub mod meta;
mod methods;
pub mod optimisation;
pub mod profiles;
pub mod resources;
mod retention;
pub mod suites;
pub mod tasks;

/// The prefix of the group's paths.
pub const PERFORMANCE: &str = "/api/v1/agents/performance";
