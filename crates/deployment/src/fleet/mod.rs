//! The fleet's task: looks at all live deployments again and again, and does what is to be done. It knows no past: what to do follows
//! from what the database wants, what the supervisor has and what checks find, so a new process goes on where the last one ended.

mod checks;
mod look;
mod sampling;
mod steps;

use std::{fs::File, time::Duration};

use am_agent_process::protocol::KeptInstance;
use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;

pub(crate) use self::checks::CheckResult;
use crate::{DeploymentError, DeploymentService, Result, instances, model::DeploymentRecord, store};

/// Time between two looks while something starts, ends or is ill.
const BUSY_LOOK: Duration = Duration::from_millis(250);
/// Time between two looks otherwise.
const CALM_LOOK: Duration = Duration::from_secs(1);
/// Shortest time between two looks.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);
/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// What the task keeps between looks.
struct FleetWatch {
    /// Held by the one process that acts; others only know where calls go.
    leading: Option<File>,
    last_sample: Duration,
    /// The supervisor's last fault, so that each is told once.
    fault: Option<String>,
}

impl DeploymentService {
    /// Look after all deployments until asked to end. Their instances go on.
    pub async fn watch_fleet(self, stop: CancellationToken) {
        let mut watch = FleetWatch { leading: None, last_sample: self.0.parts.clock.elapsed(), fault: None };
        loop {
            let pause = match self.look(&mut watch).await {
                Ok(true) => BUSY_LOOK,
                Ok(false) => CALM_LOOK,
                Err(error) => {
                    self.0.metrics.look_failures.inc();
                    tracing::warn!(%error, "deployments could not be looked after; it is tried again");
                    CALM_LOOK
                }
            };
            let woken = async {
                tokio::time::sleep(SHORTEST_LOOK).await;
                tokio::select! {
                    () = self.0.wake.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = woken => {}
            }
        }
    }

    /// Look once. Returns whether the next look should be soon.
    async fn look(&self, watch: &mut FleetWatch) -> Result<bool> {
        let records = store::live_deployments(&mut *self.db().read_vital().await?).await?;
        if records.is_empty() {
            self.0.live.lock().deployments.clear();
            return Ok(false);
        }
        let leads = self.leads(watch)?;
        let kept = if leads { self.kept_instances(watch).await } else { None };
        let mut busy = false;
        for record in &records {
            busy |= self.told(record, self.look_at(record, kept.as_deref(), leads).await);
        }
        self.forget_others(&records);
        if !leads {
            return Ok(busy);
        }
        self.store_checks().await?;
        for record in &records {
            busy |= self.told(record, self.decide(record).await);
        }
        let now = self.0.parts.clock.elapsed();
        if now.saturating_sub(watch.last_sample) >= SAMPLE_EVERY {
            watch.last_sample = now;
            self.sample(&records).await?;
        }
        Ok(busy)
    }

    /// Look at one deployment. Returns whether something starts or ends.
    async fn look_at(&self, record: &DeploymentRecord, kept: Option<&[KeptInstance]>, leads: bool) -> Result<bool> {
        let found = instances::store::live_instances(&mut *self.db().read_vital().await?, &record.document.id).await?;
        self.take_in(record, &found, kept, leads).await?;
        match kept {
            Some(kept) => self.tend(record, &found, kept).await,
            None => Ok(false),
        }
    }

    /// What a look at one deployment found. An error is told, and keeps nothing from the others.
    fn told(&self, record: &DeploymentRecord, found: Result<bool>) -> bool {
        found.unwrap_or_else(|error| {
            self.0.metrics.look_failures.inc();
            tracing::warn!(deployment = record.document.id, %error, "a deployment could not be looked after; it is tried again");
            true
        })
    }

    /// Whether this process is the one that acts.
    fn leads(&self, watch: &mut FleetWatch) -> Result<bool> {
        if watch.leading.is_some() {
            return Ok(true);
        }
        let directory = &self.0.parts.settings.directory;
        let opened = std::fs::create_dir_all(directory).and_then(|()| File::create(directory.join("leader.lock")));
        let file = opened.map_err(|error| DeploymentError::Host("the lock of the fleet", error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            watch.leading = Some(file);
        }
        Ok(watch.leading.is_some())
    }

    async fn kept_instances(&self, watch: &mut FleetWatch) -> Option<Vec<KeptInstance>> {
        match self.0.parts.supervisor.list().await {
            Ok(kept) => {
                watch.fault = None;
                Some(kept)
            }
            Err(fault) => {
                if watch.fault.as_ref() != Some(&fault) {
                    tracing::error!(fault, "the supervisor of instances can't be asked");
                }
                watch.fault = Some(fault);
                None
            }
        }
    }

    fn forget_others(&self, records: &[DeploymentRecord]) {
        let mut live = self.0.live.lock();
        live.deployments.retain(|id, _| records.iter().any(|record| record.document.id == *id));
    }
}
