//! Delivery loop. Each endpoint has its own concurrency limit, so that a slow one delays no other. Several processes
//! may share a database: whoever claims a delivery owns it until its lease ends, and nothing is sent without a claim.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    ENDPOINT_CONCURRENCY, WebhookService,
    delivery_request::{self, DeliveryOutcome, EndpointSign},
    error::Result,
    model::DeliveryState,
    retry_schedule,
    store::{self, AttemptRecord, ClaimOrder, ClaimedDelivery},
};
use am_core::{crash_point, ids::DeliveryId};
use am_db::{Tx, codec::Timestamp};

/// Interval at which deliveries enqueued by other processes are looked for.
const DELIVERY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the queue is counted and old deliveries are deleted.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);
/// Time added to a request's time limit before it is considered lost: its process may still wait for the database.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// Rows deleted per transaction.
const DELETE_BATCH: i64 = 500;
/// Such transactions in an interval: more than deliveries come in it.
const MAX_DELETE_BATCHES: usize = 100;
/// Time between two such transactions.
const DELETE_PAUSE: Duration = Duration::from_millis(10);

/// Days for which a delivery waits while its endpoint does not work.
const MAX_WAIT_DAYS: i64 = 7;
const LATE_MESSAGE: &str = "the endpoint has not worked for seven days";
const GONE_MESSAGE: &str =
    "the endpoint answered 410 Gone; it is called again after a test or a redelivery that an operator asks for";

/// `now` plus `wait`; `now` itself when the sum is out of range.
fn add_duration(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = chrono::Duration::from_std(wait).unwrap_or(chrono::Duration::MAX);
    Timestamp(now.0.checked_add_signed(wait).unwrap_or(now.0))
}

impl WebhookService {
    /// Deliver until the service is stopped.
    pub(super) async fn work(self) {
        let mut housekeeping = tokio::time::interval(MAINTENANCE_INTERVAL);
        loop {
            let wait = match self.round().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "could not read pending webhook deliveries");
                    DELIVERY_POLL_INTERVAL
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
            self.0.metrics.queue.set(store::count_pending(&mut conn).await?);
            store::has_old(&mut conn, limit).await?
        };
        for _ in 0..if old { MAX_DELETE_BATCHES } else { 0 } {
            let deleted =
                self.0.db.write(async move |tx: &mut Tx| store::delete_old(tx, limit, DELETE_BATCH).await).await?;
            if deleted < DELETE_BATCH.cast_unsigned() || self.0.stop.is_cancelled() {
                break;
            }
            tokio::time::sleep(DELETE_PAUSE).await;
        }
        Ok(())
    }

    /// Start due deliveries within the concurrency limits. Returns the time until there is more to do.
    async fn round(&self) -> Result<Duration> {
        let mut conn = self.0.db.read().await?;
        self.refresh(&mut conn).await?;
        let targets = self.targets();
        if targets.is_empty() {
            return Ok(DELIVERY_POLL_INTERVAL);
        }
        let free = targets.iter().filter(|(_, lane)| lane.places.available_permits() > 0).map(|(name, _)| name);
        let names = serde_json::json!(free.collect::<Vec<_>>()).to_string();
        let due = store::earliest_due(&mut conn, &names).await?;
        drop(conn);
        let now = self.now();
        let (ready, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, at)| *at <= now);
        for claimed in self.claim(ready.into_iter().map(|(name, _)| name).collect(), now).await? {
            self.begin(claimed);
        }
        let next = later.iter().map(|(_, at)| (at.0 - now.0).to_std().unwrap_or_default()).min();
        Ok(next.unwrap_or(DELIVERY_POLL_INTERVAL).min(DELIVERY_POLL_INTERVAL))
    }

    async fn claim(&self, names: Vec<String>, now: Timestamp) -> Result<Vec<DeliveryClaim>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (me, lease) = (self.clone(), self.0.ids.random_id("", 16));
        let all = self.0.db.write(async move |tx: &mut Tx| {
            let (mut all, targets) = (Vec::new(), me.targets());
            for name in names {
                let Some(lane) = targets.get(&name) else { continue };
                let health = store::endpoint_health(tx, &name).await?;
                store::number_deliveries(tx, &name).await?;
                if health.is_gone(&lane.target.address_hash) {
                    let buried = store::give_up_due(tx, &name, now, GONE_MESSAGE).await?;
                    tracing::warn!(endpoint = name, buried, "webhook deliveries abandoned: {GONE_MESSAGE}");
                    continue;
                }
                if health.gone_at.is_some() {
                    store::reopen_endpoint(tx, &name).await?;
                } else if health.closed_until.is_some_and(|until| until > now) {
                    continue;
                }
                if health.failures > 0 {
                    let late = Timestamp(now.0 - chrono::Duration::days(MAX_WAIT_DAYS));
                    store::give_up_due(tx, &name, late, LATE_MESSAGE).await?;
                }
                let until = add_duration(now, lane.target.timeout + LEASE_MARGIN);
                let places = lane.places.available_permits();
                let share = match health.failures {
                    0 => (ClaimOrder::Number, places),
                    _ if places < ENDPOINT_CONCURRENCY => continue,
                    _ => (ClaimOrder::LeastTried, 1),
                };
                all.extend(store::claim_deliveries(tx, &name, share, &lease, now, until).await?);
            }
            Ok::<_, super::WebhookError>((all, lease))
        });
        let (all, lease) = all.await?;
        crash_point!("webhooks.after_claim");
        let place = |claimed: ClaimedDelivery| {
            // Only this task takes permits, so those that were free still are.
            let permit = self.targets().get(&claimed.endpoint)?.places.clone().try_acquire_owned().ok()?;
            Some(DeliveryClaim { claimed, lease: lease.clone(), permit })
        };
        Ok(all.into_iter().filter_map(place).collect())
    }

    fn begin(&self, claim: DeliveryClaim) {
        let me = self.clone();
        self.0.tracker.spawn(async move {
            let DeliveryClaim { claimed, lease, permit } = claim;
            me.deliver(claimed, lease).await;
            drop(permit);
            me.wake();
        });
    }

    async fn deliver(&self, claimed: ClaimedDelivery, lease: String) {
        let Some(lane) = self.targets().get(&claimed.endpoint).cloned() else { return };
        let ClaimedDelivery { id, endpoint, body, seq, attempt } = claimed;
        let (begun, body) = (self.now(), store::numbered_body(body, seq));
        self.0.metrics.active.inc();
        let outcome = delivery_request::send_request(&self.0.clients, &lane.target, &id, body, begun).await;
        self.0.metrics.active.dec();
        crash_point!("webhooks.after_call");
        let (sign, ask) = (outcome.sign(), outcome.ask);
        let settled = self.attempt_record(id, lease, attempt, outcome);
        let (record, me, name) = (settled.clone(), self.clone(), endpoint.clone());
        let known = self.0.db.write(async move |tx: &mut Tx| me.settle(tx, &name, record, (sign, ask), begun).await);
        let (settled, known) = match known.await {
            Ok((settled, known)) => (settled, Ok(known)),
            Err(error) => (settled, Err(error)),
        };
        let AttemptRecord { id, state, next_attempt_at: again, error, .. } = &settled;
        let (id, said) = (id.as_str(), error.as_deref().unwrap_or_default());
        self.0.metrics.attempt(*state);
        match state {
            DeliveryState::Delivered => {
                tracing::info!(delivery = id, endpoint, attempt, "webhook delivered");
            }
            DeliveryState::Pending => {
                tracing::warn!(delivery = id, endpoint, attempt, error = said, next = %again, "webhook delivery failed; it will be retried");
            }
            DeliveryState::Dead => {
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

    /// Store the result of an attempt and what it tells of the endpoint. All deliveries to an endpoint that does not work
    /// wait together: the first failure since it was called again sets for how long.
    async fn settle(
        &self,
        tx: &mut Tx,
        name: &str,
        mut record: AttemptRecord,
        (sign, ask): (EndpointSign, Option<Duration>),
        begun: Timestamp,
    ) -> Result<(AttemptRecord, bool)> {
        let now = self.now();
        match sign {
            EndpointSign::Works => store::record_success(tx, name).await?,
            EndpointSign::Gone => {
                let targets = self.targets();
                let address = targets.get(name).map(|lane| lane.target.address_hash.as_str());
                store::record_gone(tx, name, address.unwrap_or_default(), now).await?;
            }
            EndpointSign::Fails => {
                let health = store::endpoint_health(tx, name).await?;
                let closed = match health.closed_until {
                    Some(closed) if closed > begun => closed,
                    _ => {
                        let (failures, chance) = (health.failures + 1, self.0.ids.fraction());
                        let wait = retry_schedule::endpoint_wait(failures, self.0.retry_scale, chance, ask);
                        let closed = add_duration(now, wait);
                        store::record_failure(tx, name, failures, closed).await?;
                        closed
                    }
                };
                if record.state == DeliveryState::Pending {
                    record.next_attempt_at = closed;
                }
            }
        }
        let known = store::record_attempt(tx, &record, now).await?;
        Ok((record, known))
    }

    fn attempt_record(&self, id: DeliveryId, lease: String, attempt: i64, outcome: DeliveryOutcome) -> AttemptRecord {
        let wait = retry_schedule::retry_wait(attempt, self.0.retry_scale, self.0.ids.fraction(), outcome.ask);
        let (state, wait) = match (&outcome.error, outcome.gone, wait) {
            (None, ..) => (DeliveryState::Delivered, Duration::ZERO),
            (Some(_), false, Some(wait)) => (DeliveryState::Pending, wait),
            (Some(_), ..) => (DeliveryState::Dead, Duration::ZERO),
        };
        let next_attempt_at = add_duration(self.now(), wait);
        AttemptRecord { id, lease, state, next_attempt_at, status: outcome.status, error: outcome.error }
    }
}

/// A claimed delivery with its concurrency permit.
struct DeliveryClaim {
    claimed: ClaimedDelivery,
    lease: String,
    permit: OwnedSemaphorePermit,
}
