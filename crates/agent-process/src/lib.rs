//! The processes behind deployments: an instance that serves one workflow, and the small supervisor that keeps instances alive
//! while the service itself restarts. Both are the executable `agent-management-agent`, which links none of the service's subjects:
//! fifty of them share one machine.

mod confine;
mod counters;
mod http_server;
mod instance;
mod keeper;
pub mod process_info;
pub mod protocol;
pub mod restart_rule;
mod state_file;
mod supervise;

pub use self::{
    instance::{InstanceArguments, run_instance},
    supervise::{SuperviseArguments, run_supervisor},
};

use std::fmt;

/// Why a process of this crate ended.
#[derive(Debug)]
pub struct AgentError(pub String);

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AgentError {}

impl AgentError {
    /// What failed, and why.
    pub(crate) fn of(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}
