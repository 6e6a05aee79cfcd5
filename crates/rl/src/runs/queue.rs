//! The queue of training runs: which are claimed by this process, which are given up, and which yield.

use std::{collections::HashMap, fs, sync::Arc, thread};

use serde_json::json;

use super::{
    RUN_POLL_INTERVAL, TrainingRuns,
    control_handle::ControlHandle,
    driver::TrainingDriver,
    fairness::{self, TrainingUsage},
    model::{OpenRun, RunStatus, TrainingRun},
    run_lock::RunLock,
    store::{self, RunEnding},
    training_event::TrainingEventKind,
};
use crate::error::{Result, RlError};
use am_core::{
    ids::{PrincipalId, TrainingRunId},
    supervisor::BackgroundTask,
};
use am_db::Tx;

/// At this many claims without progress a run fails.
const MAX_CLAIMS: i64 = 3;

impl TrainingRuns {
    /// The task that trains what waits, as many runs at once as there are slots. It ends with [`TrainingRuns::stop`].
    pub fn background_task(&self) -> BackgroundTask {
        BackgroundTask::new("training", self.clone().work())
    }

    pub(super) async fn work(self) {
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "could not remove old checkpoints");
        }
        loop {
            if let Err(error) = self.claim_runs().await {
                tracing::warn!(%error, "could not read queued training runs");
            }
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(RUN_POLL_INTERVAL) => {}
            }
        }
    }

    /// Remove checkpoints of ended runs whose process died before removing them.
    async fn sweep(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(&self.0.settings.directory) else { return Ok(()) };
        let mut conn = self.0.db.read().await?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.split_once(".checkpoint")?.0.split('.').next()) else {
                continue;
            };
            let id = id.into();
            if store::get_status(&mut conn, &id).await?.is_none_or(RunStatus::is_final) {
                self.0.remove_checkpoints(&id);
            }
        }
        Ok(())
    }

    async fn claim_runs(&self) -> Result<()> {
        if self.0.settings.slots == 0 {
            return Ok(());
        }
        let mut open = store::list_open(&mut *self.0.db.read().await?).await?;
        // Without its bridge a run only waits, and needs no place; its bridge may be connected to another process.
        open.retain(|run| !run.needs_bridge || self.0.bridges.is_connected(&run.id));
        for run in fairness::order(&open, &self.owners(), &self.usage()) {
            if !self.has_place() || self.0.stop.is_cancelled() {
                break;
            }
            let Some(lock) = self.lock(&run.id) else { continue };
            if let Some((run, claims)) = self.claim(&run.id).await? {
                self.drive(run, claims, lock)?;
            }
        }
        if !self.has_place() && self.ask_for_a_place(&open) {
            // The place is there already.
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Whether one more run may be trained. A run that makes place has none while it writes its checkpoint, as this may take longer
    /// than all of a short run; at most as many as there are places do so at once, since each needs memory.
    pub(super) fn has_place(&self) -> bool {
        let (driven, places) = (self.0.driven(), self.0.settings.slots);
        let leaving = driven.values().filter(|handle| handle.must_yield()).count();
        driven.len() - leaving < places && driven.len() < 2 * places
    }

    /// The owners of the runs that this process drives.
    fn owners(&self) -> HashMap<TrainingRunId, PrincipalId> {
        self.0.driven().iter().map(|(id, handle)| (id.clone(), handle.owner_id.clone())).collect()
    }

    /// For how long each owner's runs were trained, those of now included.
    fn usage(&self) -> TrainingUsage {
        let mut usage = self.0.usage.lock().clone();
        self.0.driven().values().for_each(|handle| usage.add(&handle.owner_id, handle.since.elapsed()));
        usage
    }

    /// Ask a run to make place for another owner's, if one has a better right to it: the one that has been trained longest. Returns
    /// whether there was one.
    fn ask_for_a_place(&self, open: &[OpenRun]) -> bool {
        let (owners, usage) = (self.owners(), self.usage());
        let longest = self
            .0
            .driven()
            .values()
            .filter(|handle| !handle.must_yield() && fairness::must_yield(open, &owners, &usage, &handle.owner_id))
            .min_by_key(|handle| handle.since)
            .cloned();
        longest.inspect(|handle| handle.ask_to_yield()).is_some()
    }

    /// Count a claim of run `id`, which is locked, and read it, with the number of its claims without progress. A run that was claimed too often without progress is
    /// failed instead. `None`: there is nothing to drive.
    pub(super) async fn claim(&self, id: &TrainingRunId) -> Result<Option<(TrainingRun, i64)>> {
        let (id, now, audit, inner) = (id.clone(), self.0.now(), self.0.audit().clone(), self.0.clone());
        let claimed = self
            .0
            .db
            .write(async move |tx: &mut Tx| {
                // The previous holder of the lock may have ended the run.
                let Some(claims) = store::claim(tx, &id, now).await? else { return Ok(None) };
                let Some(run) = store::get(tx.conn().await?, &id).await? else { return Ok(None) };
                if claims < MAX_CLAIMS {
                    return Ok(Some((run, claims)));
                }
                let why = format!(
                    "given up: claimed {claims} times without progress, because the process ended or the save failed each time"
                );
                tracing::error!(run = id.as_str(), claims, "a training run is given up: it never came on");
                let ending = RunEnding { error: Some(why.clone()), ..RunEnding::default() };
                store::save_release(tx, &id, RunStatus::Failed, &ending, now).await?;
                let data = json!({"policy": run.policy, "error": why, "claims": claims});
                store::append_event(tx, &id, TrainingEventKind::Failed, data, now).await?;
                let entry = am_audit::AuditEntry::new(am_audit::EventType::ExecutionFailed, now)
                    .of("training_run", TrainingEventKind::Failed.word())
                    .on_behalf_of(&run.owner_id)
                    .training_run(&id)
                    .data("policy", json!(run.policy))
                    .data("claims", json!(claims))
                    .error("training_failed", Some(&why));
                let (before, after) = (json!({"status": run.status}), json!({"status": RunStatus::Failed}));
                audit.append(tx, vec![entry.change(Some(before), Some(after))]).await?;
                tx.after_commit(move || {
                    inner.remove_checkpoints(&id);
                    inner.hub.wake(&id);
                });
                Ok::<_, RlError>(None)
            })
            .await?;
        Ok(claimed)
    }

    fn drive(&self, run: TrainingRun, claims: i64, lock: RunLock) -> Result<()> {
        let handle = Arc::new(ControlHandle::new(run.owner_id.clone()));
        handle.ask(run.wish);
        self.0.driven().insert(run.id.clone(), handle.clone());
        let driver = TrainingDriver::new(self.0.clone(), tokio::runtime::Handle::current(), handle, run, claims);
        let spawned = thread::Builder::new().name("training".to_owned()).spawn(move || {
            driver.drive();
            drop(lock);
        });
        spawned.map(drop).map_err(|error| RlError::Storage("a thread".into(), error))
    }
}
