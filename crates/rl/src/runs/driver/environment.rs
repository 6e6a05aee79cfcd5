//! The environment of a run as its driver finds it.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        model::{TrainingSpec, TrainingTask},
        store,
    },
    TrainingDriver,
};
use crate::{
    environments::{BRIDGE_ENVIRONMENT, BridgeAccess, BridgeSource, BridgeSpec, EnvironmentError, EnvironmentSource},
    error::{Result, RlError},
    own_environments::is_own_reference,
    training::{TrainingError, TrainingPlan},
};
use am_db::Tx;

/// How long a bridge may be silent before a run makes place for another owner's in the middle of a step.
const SILENCE_BEFORE_YIELD: Duration = Duration::from_secs(5);

impl TrainingDriver {
    /// Whether the environments are behind a bridge.
    pub(super) fn needs_bridge(&self) -> bool {
        matches!(&self.run.task, TrainingTask::Train(work) if work.environment == BRIDGE_ENVIRONMENT)
    }

    /// The plan of `work` in the environment that was found.
    pub(super) fn plan(&self, work: &TrainingSpec) -> TrainingPlan {
        work.plan(self.source.clone())
    }

    /// Mark the run as driven, as far as it has come. Returns false if it is no longer open.
    pub(super) fn mark_running(&self) -> Result<bool> {
        let (id, steps, seconds, now) = (self.run.id.clone(), self.run.steps_done, self.run.seconds, self.inner.now());
        self.write(async move |tx: &mut Tx| store::mark_running(tx, &id, steps, seconds, now).await)
    }

    /// Find where the environment comes from.
    pub(super) fn find_source(&self) -> Result<EnvironmentSource> {
        let TrainingTask::Train(work) = &self.run.task else { return Ok(EnvironmentSource::BuiltIn) };
        if self.needs_bridge() {
            return self.bridge(work).map(EnvironmentSource::Bridge);
        }
        if !is_own_reference(&work.environment) {
            return Ok(EnvironmentSource::BuiltIn);
        }
        let found = self.runtime.block_on(self.inner.environments.model(&work.environment))?;
        let same = found.filter(|(_, model)| Some(model.sha256()) == work.environment_sha256.as_deref());
        let deleted = || RlError::NotFound(format!("the environment '{}' was deleted", work.environment));
        same.map(|(_, model)| EnvironmentSource::Tables(model)).ok_or_else(deleted)
    }

    fn bridge(&self, work: &TrainingSpec) -> Result<BridgeSource> {
        let spec = BridgeSpec::read(work.parameters.as_ref()).map_err(RlError::Invalid)?;
        let (stop, handle) = (self.inner.stop.clone(), self.handle.clone());
        let interrupted = move |waited: Duration| {
            stop.is_cancelled() || handle.wish().is_some() || (waited >= SILENCE_BEFORE_YIELD && handle.must_yield())
        };
        let patience = self.inner.settings.bridge.patience;
        let access = BridgeAccess::open(&self.inner.bridges, &self.run.id, patience, Arc::new(interrupted));
        let none = || EnvironmentError::BridgeGone("no bridge is connected".to_owned());
        let access = access.ok_or_else(none).map_err(TrainingError::from)?;
        Ok(BridgeSource::described(spec).connected(access))
    }
}
