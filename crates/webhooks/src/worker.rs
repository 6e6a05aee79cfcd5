//! What delivers. Each endpoint has a few places of its own, so that a slow one holds up no other. Several processes may
//! work on one database: who claims a delivery has it until its lease is over, and begins no call without a claim.

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

/// How often what other processes have enqueued is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How often the queue is counted and what is old forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// For how long, after its time, a call that nobody has heard of counts as under way: its process may wait for the database.
const MARGIN: Duration = Duration::from_secs(5);
/// Rows forgotten at once.
const FORGET: i64 = 1000;

const GONE: &str = "the endpoint answered 410 Gone; it is called again after a restart";

/// Later by `wait`; never, for one that is not to be counted.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = chrono::Duration::from_std(wait).unwrap_or(chrono::Duration::MAX);
    Timestamp(now.0.checked_add_signed(wait).unwrap_or(now.0))
}

impl Webhooks {
    /// Deliver what is owed, until the room is stopped.
    pub(super) async fn work(self) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let wait = match self.round().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "could not look for webhook deliveries");
                    LOOK
                }
            };
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = housekeeping.tick() => {
                    if let Err(error) = self.keep_house().await {
                        tracing::warn!(%error, "could not count or forget webhook deliveries");
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

    /// Begin what is due and has a place; answers how long there is nothing to do.
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
                    tracing::warn!(endpoint = name, buried, "webhook deliveries given up: {GONE}");
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
            // Places are taken by this task alone, so those that were free still are.
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
                tracing::warn!(delivery = id, endpoint, attempt, error = said, next = %again, "webhook not delivered");
            }
            State::Dead => {
                self.0.metrics.attempt("dead");
                tracing::error!(delivery = id, endpoint, attempt, error = said, "webhook given up");
            }
        }
        match known {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(delivery = id, "a webhook call took too long and was repeated by another process")
            }
            Err(error) => {
                tracing::warn!(delivery = id, %error, "could not note what came of a webhook call; it is made again");
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

/// A delivery with its place.
struct Claim {
    claimed: Claimed,
    lease: String,
    permit: OwnedSemaphorePermit,
}
