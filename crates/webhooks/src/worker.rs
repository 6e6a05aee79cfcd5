//! Delivery loop. Each endpoint has its own concurrency limit, so that a slow one delays no other. Several processes
//! may share a database: whoever claims a delivery owns it until its lease ends, and nothing is sent without a claim.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Webhooks,
    call::{self, Outcome},
    error::Result,
    model::State,
    schedule,
    store::{self, Claimed, Settled},
};
use am_core::crash_point;
use am_db::{Tx, codec::Timestamp};

/// Interval at which deliveries enqueued by other processes are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Interval at which the queue is counted and old deliveries are deleted.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Time added to a request's time limit before it is considered lost: its process may still wait for the database.
const MARGIN: Duration = Duration::from_secs(5);
/// Rows deleted per transaction.
const FORGET: i64 = 1000;

const GONE: &str = "the endpoint answered 410 Gone; it is called again after a restart";

/// `now` plus `wait`; `now` itself when the sum is out of range.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = chrono::Duration::from_std(wait).unwrap_or(chrono::Duration::MAX);
    Timestamp(now.0.checked_add_signed(wait).unwrap_or(now.0))
}

impl Webhooks {
    /// Deliver until the service is stopped.
    pub(super) async fn work(self) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let wait = match self.round().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "could not read pending webhook deliveries");
                    LOOK
                }
            };
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = housekeeping.tick() => {
                    if let Err(error) = self.keep_house().await {
                        tracing::warn!(%error, "could not count or delete webhook deliveries");
                    }
                }
            }
        }
    }

    async fn keep_house(&self) -> Result<()> {
        let limit = Timestamp(self.now().0 - self.0.kept);
        let old = {
            let mut conn = self.0.db.read().await?;
            self.0.metrics.queue.set(store::owed(&mut conn).await?);
            store::has_old(&mut conn, limit).await?
        };
        if old {
            self.0.db.write(async move |tx: &mut Tx| store::forget(tx, limit, FORGET).await).await?;
        }
        Ok(())
    }

    /// Start due deliveries within the concurrency limits. Returns the time until there is more to do.
    async fn round(&self) -> Result<Duration> {
        let free: Vec<&String> = self
            .0
            .targets
            .iter()
            .filter(|(_, lane)| lane.places.available_permits() > 0)
            .map(|(name, _)| name)
            .collect();
        let names = serde_json::json!(free).to_string();
        let due = store::due(&mut *self.0.db.read().await?, &names).await?;
        let now = self.now();
        let (ready, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, at)| *at <= now);
        for claimed in self.claim(ready.into_iter().map(|(name, _)| name).collect(), now).await? {
            self.begin(claimed);
        }
        let next = later.iter().map(|(_, at)| (at.0 - now.0).to_std().unwrap_or_default()).min();
        Ok(next.unwrap_or(LOOK).min(LOOK))
    }

    async fn claim(&self, names: Vec<String>, now: Timestamp) -> Result<Vec<Claim>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (me, lease) = (self.clone(), self.0.ids.prefixed("", 16));
        let all = self.0.db.write(async move |tx: &mut Tx| {
            let mut all = Vec::new();
            for name in names {
                let Some(lane) = me.0.targets.get(&name) else { continue };
                if lane.gone.load(Ordering::Acquire) {
                    let buried = store::bury(tx, &name, now, GONE).await?;
                    tracing::warn!(endpoint = name, buried, "webhook deliveries abandoned: {GONE}");
                    continue;
                }
                let until = after(now, lane.target.timeout + MARGIN);
                let places = lane.places.available_permits();
                all.extend(store::claim(tx, &name, places, &lease, now, until).await?);
            }
            Ok::<_, super::Error>((all, lease))
        });
        let (all, lease) = all.await?;
        crash_point!("webhooks.after_claim");
        let place = |claimed: Claimed| {
            // Only this task takes permits, so those that were free still are.
            let permit = self.0.targets.get(&claimed.endpoint)?.places.clone().try_acquire_owned().ok()?;
            Some(Claim { claimed, lease: lease.clone(), permit })
        };
        Ok(all.into_iter().filter_map(place).collect())
    }

    fn begin(&self, claim: Claim) {
        let me = self.clone();
        self.0.tracker.spawn(async move {
            let Claim { claimed, lease, permit } = claim;
            me.deliver(claimed, lease).await;
            drop(permit);
            me.wake();
        });
    }

    async fn deliver(&self, claimed: Claimed, lease: String) {
        let Some(lane) = self.0.targets.get(&claimed.endpoint) else { return };
        let Claimed { id, endpoint, body, attempt } = claimed;
        self.0.metrics.active.inc();
        let outcome = call::call(&self.0.clients, &lane.target, &id, body, self.now()).await;
        self.0.metrics.active.dec();
        crash_point!("webhooks.after_call");
        if outcome.gone {
            lane.gone.store(true, Ordering::Release);
        }
        let settled = self.settled(id, lease, attempt, outcome);
        let (state, error, again) = (settled.state, settled.error.clone(), settled.next_attempt_at);
        let (id, now) = (settled.id.clone(), self.now());
        let known = self.0.db.write(async move |tx: &mut Tx| store::settle(tx, &settled, now).await).await;
        let said = error.as_deref().unwrap_or_default();
        match state {
            State::Delivered => {
                self.0.metrics.attempt("delivered");
                tracing::info!(delivery = id, endpoint, attempt, "webhook delivered");
            }
            State::Pending => {
                self.0.metrics.attempt("failed");
                tracing::warn!(delivery = id, endpoint, attempt, error = said, next = %again, "webhook delivery failed; it will be retried");
            }
            State::Dead => {
                self.0.metrics.attempt("dead");
                tracing::error!(
                    delivery = id,
                    endpoint,
                    attempt,
                    error = said,
                    "webhook delivery abandoned after the last attempt"
                );
            }
        }
        match known {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    delivery = id,
                    "a webhook request exceeded its lease and was repeated by another process"
                )
            }
            Err(error) => {
                tracing::warn!(delivery = id, %error, "could not record the result of a webhook request; it will be repeated");
            }
        }
    }

    fn settled(&self, id: String, lease: String, attempt: i64, outcome: Outcome) -> Settled {
        let wait = schedule::wait(attempt, self.0.retry_scale, self.0.ids.fraction(), outcome.ask);
        let (state, wait) = match (&outcome.error, outcome.gone, wait) {
            (None, ..) => (State::Delivered, Duration::ZERO),
            (Some(_), false, Some(wait)) => (State::Pending, wait),
            (Some(_), ..) => (State::Dead, Duration::ZERO),
        };
        let next_attempt_at = after(self.now(), wait);
        Settled { id, lease, state, next_attempt_at, status: outcome.status, error: outcome.error }
    }
}

/// A claimed delivery with its concurrency permit.
struct Claim {
    claimed: Claimed,
    lease: String,
    permit: OwnedSemaphorePermit,
}
