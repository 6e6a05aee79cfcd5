//! Waiting for jobs. One task checks whether another connection committed, and only then reads jobs: jobs with a waiter
//! at once, all open jobs as often as one percent of a core allows.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    job_queue::{JobQueue, JobWaiter},
    model::JobState,
    outcome::JobOutcome,
    store,
};
use am_audit::{AuditEntry, EventType};
use am_core::{boxed, config::ConstraintRule, ids::JobId};
use am_db::{Result, Tx, codec::Timestamp, owner};

/// Interval at which the database is checked while nothing in this process waits: another process may have left a job
/// whose end must be reported.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Pause per open job after reading all of them, which keeps the cost below one percent of a core (docs/SERVICES.md has
/// the measurement).
const PAUSE_PER_OPEN_JOB: Duration = Duration::from_micros(400);
/// Upper bound of that pause.
const MAX_SCAN_PAUSE: Duration = Duration::from_secs(30);

/// Interval at which the announcements of miners are read.
const MINER_READ_INTERVAL: Duration = Duration::from_secs(10);

/// Guard that removes the waiter when its caller stops waiting.
struct WaiterGuard<'a>(&'a JobQueue, &'a JobId);

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(self.1);
        self.0.0.metrics.depth.dec();
    }
}

/// Subscription to a job's state; dropping it unsubscribes.
pub(super) struct StateSubscription {
    jobs: JobQueue,
    id: JobId,
    /// Receiver that changes with the state, and once when the state is first read.
    state: Option<watch::Receiver<Option<JobState>>>,
}

impl StateSubscription {
    /// Wait until the state has changed since the last call, or until a shutdown.
    pub(super) async fn changed(&mut self) {
        let Some(state) = &mut self.state else { return };
        let stop = self.jobs.0.stop.get();
        let stopped = async {
            match stop {
                Some(stop) => stop.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = state.changed() => {}
            () = stopped => {}
        }
    }
}

impl Drop for StateSubscription {
    fn drop(&mut self) {
        self.state = None;
        let mut followed = self.jobs.followed();
        if followed.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            followed.remove(&self.id);
        }
    }
}

impl JobQueue {
    /// Subscribe to a job's state. Subscribe before reading the state, so that no change falls between the two.
    pub(super) fn subscribe_state(&self, id: &JobId) -> StateSubscription {
        let state = self.followed().entry(id.clone()).or_insert_with(|| watch::channel(None).0).subscribe();
        self.wake();
        StateSubscription { jobs: self.clone(), id: id.clone(), state: Some(state) }
    }

    /// Wait for the end of the queued job `id`; a job has one waiter. Temporary database errors are retried. At a
    /// shutdown the waiter is dropped and the job stays in the queue.
    #[boxed]
    pub async fn ended(&self, id: &JobId) -> JobOutcome {
        let expires_at = loop {
            match self.expires_at(id).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::warn!(job = id.as_str(), %error, "could not read a job; retrying");
                    tokio::time::sleep(self.0.settings.poll).await;
                }
            }
        };
        let (tell, told) = oneshot::channel();
        self.waiting().insert(id.clone(), JobWaiter { expires_at, tell });
        self.0.metrics.depth.inc();
        let _place = WaiterGuard(self, id);
        self.wake();
        match told.await {
            Ok(finished) => finished,
            Err(_) => std::future::pending().await,
        }
    }

    async fn expires_at(&self, id: &JobId) -> Result<Option<DateTime<Utc>>> {
        store::job_expiry(&mut *self.0.db.read().await?, id).await
    }

    /// Run the watching task until `stop` is cancelled.
    #[boxed]
    pub async fn watch(self, stop: CancellationToken) {
        let _ = self.0.stop.set(stop.clone());
        while let Err(error) = self.watch_until(&stop).await {
            tracing::error!(%error, "jobs can't be watched; retrying");
            tokio::time::sleep(self.0.settings.poll).await;
        }
    }

    async fn watch_until(&self, stop: &CancellationToken) -> Result<()> {
        let mut watcher = self.0.db.open_watcher().await?;
        // The first read is needed in any case: something may have changed before the watcher existed.
        let (mut waited, mut open) = (true, true);
        let mut rest_until = Instant::now();
        let mut miners_read: Option<Instant> = None;
        loop {
            // A failed read is repeated even when nothing more is committed.
            let changed = watcher.changed().await?;
            waited |= changed;
            open |= changed;
            if waited && self.has_waiters() {
                match self.look().await {
                    Ok(()) => waited = false,
                    Err(error) => tracing::warn!(%error, "could not read jobs; retrying"),
                }
            }
            self.expire().await;
            let reads_miners = self.0.settings.constraints == ConstraintRule::Matching;
            if reads_miners && miners_read.is_none_or(|at| at.elapsed() >= MINER_READ_INTERVAL) {
                match self.read_miners().await {
                    Ok(()) => miners_read = Some(Instant::now()),
                    Err(error) => tracing::warn!(%error, "could not read what miners announce; retrying"),
                }
            }
            let begun = Instant::now();
            if open && begun >= rest_until {
                match self.sweep().await {
                    Ok(()) => open = false,
                    Err(error) => tracing::warn!(%error, "could not read the job queue; retrying"),
                }
                let count = u32::try_from(self.queue().len()).unwrap_or(u32::MAX);
                tracing::debug!(open = count, seconds = begun.elapsed().as_secs_f64(), "read the job queue");
                rest_until = begun + PAUSE_PER_OPEN_JOB.saturating_mul(count).min(MAX_SCAN_PAUSE);
            }
            if let Err(error) = self.expire_client_jobs().await {
                tracing::warn!(%error, "could not expire jobs; retrying");
            }
            let tick = if self.has_waiters() || self.queue().has_reported_jobs() {
                self.0.settings.poll
            } else {
                IDLE_POLL_INTERVAL
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.0.newcomer.notified() => (waited, open) = (true, true),
                () = tokio::time::sleep(tick) => {}
            }
        }
    }

    fn has_waiters(&self) -> bool {
        !self.waiting().is_empty() || !self.followed().is_empty()
    }

    /// Read the names of models that miners announce.
    async fn read_miners(&self) -> Result<()> {
        let announced = store::announced_models(&mut *self.0.db.read().await?).await?;
        *self.0.announced.lock() = announced;
        Ok(())
    }

    /// Read the jobs that something in this process waits for.
    async fn look(&self) -> Result<()> {
        let ids: Vec<JobId> = self.waiting().keys().cloned().collect();
        let followed: Vec<JobId> = self.followed().keys().cloned().collect();
        let (ended, states) = {
            let mut conn = self.0.db.read().await?;
            (
                store::find_outcomes(&mut conn, &self.0.names, &ids).await?,
                store::read_states(&mut conn, &followed).await?,
            )
        };
        for (id, state) in states {
            if let Some(sender) = self.followed().get(&id) {
                sender.send_if_modified(|known| known.replace(state) != Some(state));
            }
        }
        let mut waiting = self.waiting();
        for (id, finished) in ended {
            if let Some(waiter) = waiting.remove(&id) {
                let _ = waiter.tell.send(finished);
            }
        }
        Ok(())
    }

    /// Expire jobs of waiting steps. The coordinator marks a job expired only when a miner asks, and a step must not
    /// wait for that.
    async fn expire(&self) {
        let now = self.0.clock.now();
        let late: Vec<JobId> = {
            let waiting = self.waiting();
            let late = waiting.iter().filter(|(_, waiter)| waiter.expires_at.is_some_and(|at| at <= now));
            late.map(|(id, _)| id.clone()).collect()
        };
        for id in late {
            let (job, audit) = (id.clone(), self.0.audit.clone());
            let expire = async move |tx: &mut Tx| {
                if store::expire_queued(tx, &job).await? {
                    let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(now)).of("job", "expired");
                    let entry = entry.on_behalf_of(owner::SYSTEM_PRINCIPAL).data("job_id", json!(job));
                    audit.append(tx, vec![entry]).await?;
                }
                Ok::<_, am_db::DatabaseError>(())
            };
            match self.0.db.write(expire).await {
                // Done once; a running job continues past its expiry.
                Ok(()) => drop(self.waiting().get_mut(&id).map(|waiter| waiter.expires_at = None)),
                Err(error) => tracing::warn!(job = id.as_str(), %error, "could not expire a job; retrying"),
            }
        }
    }
}
