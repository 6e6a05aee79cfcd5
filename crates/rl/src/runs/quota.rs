//! Who may ask for how much training, and who may change whose runs.

use serde::{Deserialize, Serialize};

use super::{limits::TrainingLimits, model::TrainingRun, not_found_error};
use crate::error::Result;
use am_core::ids::TrainingRunId;
use am_db::principal::Principal;

/// Role of a caller, as far as training depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingRole {
    /// May see, pause, resume and cancel everybody's runs.
    Admin,
    /// May train policies of its own.
    Client,
    /// May train policies of its own.
    Miner,
}

/// A caller with its role.
#[derive(Clone, Debug)]
pub struct TrainingCaller {
    /// Principal that acts.
    pub principal: Principal,
    /// Role of the caller.
    pub role: TrainingRole,
}

impl TrainingCaller {
    /// Build the caller of a route that only admins may call.
    pub fn admin(principal: &Principal) -> Self {
        Self { principal: principal.clone(), role: TrainingRole::Admin }
    }

    /// Return the run that was found if the caller may see and change it; a stranger's is not found.
    pub(super) fn admit(&self, id: &TrainingRunId, found: Option<TrainingRun>) -> Result<TrainingRun> {
        let found = match self.role {
            TrainingRole::Admin => found,
            TrainingRole::Client | TrainingRole::Miner => self.principal.own(found, |run| &run.owner_id),
        };
        found.ok_or_else(|| not_found_error(id))
    }
}

/// Limits of runs by the role of who asks for them.
#[derive(Clone, Copy, Debug)]
pub struct TrainingQuotas {
    /// Most steps of a run that an admin, or a step of a workflow, asks for.
    pub admin_steps: u64,
    /// Most steps of a client's run.
    pub client_steps: u64,
    /// Most steps of a miner's run.
    pub miner_steps: u64,
    /// Most runs of one principal that have not ended.
    pub open_runs: u64,
}

impl TrainingQuotas {
    /// Return the limits for a role.
    pub fn of(&self, role: TrainingRole) -> TrainingLimits {
        let (steps, setting) = match role {
            TrainingRole::Admin => (self.admin_steps, "TRAINING_MAX_STEPS_ADMIN"),
            TrainingRole::Client => (self.client_steps, "TRAINING_MAX_STEPS_CLIENT"),
            TrainingRole::Miner => (self.miner_steps, "TRAINING_MAX_STEPS_MINER"),
        };
        TrainingLimits { steps, setting, open_runs: self.open_runs }
    }
}
