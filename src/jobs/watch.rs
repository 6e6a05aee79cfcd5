//! Waiting for jobs: one task looks whether anybody committed, and only then whether a job that is waited for ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{model::Finished, store};
use crate::{
    ambient::Clock,
    audit::{Audit, Entry, EventType},
    db::{self, Database, Result, Tx, codec::Timestamp, owner},
};

/// Jobs that somebody in this process waits for. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    audit: Audit,
    poll: Duration,
    waiting: Mutex<HashMap<String, Waiter>>,
    newcomer: Notify,
    depth: Gauge,
}

struct Waiter {
    expires_at: Option<DateTime<Utc>>,
    tell: oneshot::Sender<Finished>,
}

/// Takes the waiter out again when its caller stops waiting.
struct Place<'a>(&'a Inner, &'a str);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
        self.0.depth.dec();
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    /// Nothing is looked for until [`Jobs::watch`] runs.
    pub fn new(db: Database, clock: Clock, audit: Audit, poll: Duration) -> Self {
        let (waiting, newcomer, depth) = Default::default();
        Self(Arc::new(Inner { db, clock, audit, poll, waiting, newcomer, depth }))
    }

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "jobs_waited_for",
            "Jobs in the coordinator's queue that steps wait for",
            self.0.depth.clone(),
        );
    }

    /// Until job `id`, which somebody has put into the queue, has ended. One waiter a job. A database that can't be read
    /// for a moment is no reason to give a job up, and neither is the end of this process: whoever waits is dropped then,
    /// and the job stays where it is.
    pub async fn ended(&self, id: &str) -> Finished {
        let expires_at = loop {
            match self.expires_at(id).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::warn!(job = id, %error, "could not look at a job; trying again");
                    tokio::time::sleep(self.0.poll).await;
                }
            }
        };
        let (tell, told) = oneshot::channel();
        self.0.lock().insert(id.to_owned(), Waiter { expires_at, tell });
        self.0.depth.inc();
        let _place = Place(&self.0, id);
        self.0.newcomer.notify_one();
        match told.await {
            Ok(finished) => finished,
            Err(_) => std::future::pending().await,
        }
    }

    async fn expires_at(&self, id: &str) -> Result<Option<DateTime<Utc>>> {
        store::expires_at(&mut *self.0.db.read().await?, id).await
    }

    /// The watching task, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        while let Err(error) = self.watch_until(&stop).await {
            tracing::error!(%error, "jobs can't be watched; trying again");
            tokio::time::sleep(self.0.poll).await;
        }
    }

    async fn watch_until(&self, stop: &CancellationToken) -> Result<()> {
        let mut watcher = self.0.db.watcher().await?;
        // The first look is needed in any case: something may have ended before the watcher was there.
        let mut fresh = true;
        loop {
            if self.0.lock().is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = self.0.newcomer.notified() => fresh = true,
                }
            }
            // A look that failed is owed, also when nobody commits any more.
            fresh |= watcher.changed().await?;
            if fresh {
                match self.look().await {
                    Ok(()) => fresh = false,
                    Err(error) => tracing::warn!(%error, "could not look at the jobs; trying again"),
                }
            }
            self.expire().await;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.0.newcomer.notified() => fresh = true,
                () = tokio::time::sleep(self.0.poll) => {}
            }
        }
    }

    async fn look(&self) -> Result<()> {
        let ids: Vec<String> = self.0.lock().keys().cloned().collect();
        let ended = store::finished(&mut *self.0.db.read().await?, &ids).await?;
        let mut waiting = self.0.lock();
        for (id, finished) in ended {
            if let Some(waiter) = waiting.remove(&id) {
                let _ = waiter.tell.send(finished);
            }
        }
        Ok(())
    }

    /// The coordinator marks a job expired only when a miner asks; a step must not wait for that.
    async fn expire(&self) {
        let now = self.0.clock.now();
        let late: Vec<String> = {
            let waiting = self.0.lock();
            let late = waiting.iter().filter(|(_, waiter)| waiter.expires_at.is_some_and(|at| at <= now));
            late.map(|(id, _)| id.clone()).collect()
        };
        for id in late {
            let (job, audit) = (id.clone(), self.0.audit.clone());
            let expire = async move |tx: &mut Tx| {
                if store::expire(tx, &job).await? {
                    let entry = Entry::new(EventType::WorkflowUpdated, Timestamp(now)).of("job", "expired");
                    audit.append(tx, vec![entry.on_behalf_of(owner::SYSTEM).data("job_id", json!(job))]).await?;
                }
                Ok::<_, db::Error>(())
            };
            match self.0.db.write(expire).await {
                // Once; a running job goes on past its time.
                Ok(()) => drop(self.0.lock().get_mut(&id).map(|waiter| waiter.expires_at = None)),
                Err(error) => tracing::warn!(job = id, %error, "could not expire a job; trying again"),
            }
        }
    }
}
