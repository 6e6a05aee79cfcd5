//! Bridges of runs: who may connect one, and how many there are.

use std::time::Duration;

use super::{
    TrainingRuns,
    model::{TrainingRun, TrainingTask},
    quota::TrainingCaller,
};
use crate::{
    environments::{BRIDGE_ENVIRONMENT, BridgePeer, BridgeSpec},
    error::{Result, RlError},
};
use am_core::{boxed, ids::TrainingRunId};

/// Limits of bridges to environments in other processes.
#[derive(Clone, Copy, Debug)]
pub struct BridgeSettings {
    /// Longest time that a bridge may take for an answer; a run whose bridge takes longer fails.
    pub patience: Duration,
    /// Most bridges that are connected to this process.
    pub most: usize,
}

/// The environments that a run's bridge must have.
fn expected_spec(run: &TrainingRun) -> Result<BridgeSpec> {
    let refused = |why: &str| Err(RlError::InvalidState(why.to_owned()));
    let TrainingTask::Train(work) = &run.task else {
        return refused("The training run learns from feedback: it takes no bridge");
    };
    if work.environment != BRIDGE_ENVIRONMENT {
        return refused("The training run has environments of this service: it takes no bridge");
    }
    if run.status.is_final() {
        return Err(RlError::InvalidState(format!("The training run takes no bridge: it is {}", run.status)));
    }
    BridgeSpec::read(work.parameters.as_ref()).map_err(RlError::Invalid)
}

impl TrainingRuns {
    /// Return what the bridge of a run of `caller` must have.
    ///
    /// # Errors
    /// [`RlError::NotFound`]; [`RlError::InvalidState`] for a run that takes no bridge or has ended.
    #[boxed]
    pub async fn bridge_spec(&self, caller: &TrainingCaller, id: &TrainingRunId) -> Result<BridgeSpec> {
        expected_spec(&self.get(caller, id).await?)
    }

    /// Connect a bridge that has what the run needs; one that is connected already is closed. The run is trained by this
    /// process from now on, when a place is free.
    ///
    /// # Errors
    /// [`RlError::Quota`] when too many are connected.
    pub fn connect_bridge(&self, id: &TrainingRunId) -> Result<BridgePeer> {
        let most = self.0.settings.bridge.most;
        let none = || RlError::Quota(format!("{most} bridges are connected, which is the most (TRAINING_BRIDGES)"));
        let peer = self.0.bridges.connect(id, most).ok_or_else(none)?;
        self.0.metrics.count_bridges(self.0.bridges.count());
        self.wake();
        Ok(peer)
    }

    /// Wait until this process trains no more.
    #[boxed]
    pub async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// Note that a bridge was closed.
    pub fn bridge_closed(&self) {
        self.0.metrics.count_bridges(self.0.bridges.count());
    }

    /// Longest time that a bridge may take for an answer.
    pub fn bridge_patience(&self) -> Duration {
        self.0.settings.bridge.patience
    }
}
