//! Webhooks: signed delivery of events to configured endpoints, as specified by Standard Webhooks
//! (<https://www.standardwebhooks.com>).
//!
//! A delivery is stored in the transaction of the change that it reports ([`WebhookService::enqueue`]) and sent afterwards,
//! until the endpoint accepts it or the retry schedule ends. Delivery is at least once: receivers recognise repetitions
//! by `webhook-id`. Endpoints come from the configuration, or are made over the API ([`WebhookService::create_hook`]).

mod delivery_request;
mod delivery_worker;
mod error;
mod hooks;
mod metrics;
mod model;
mod retry_schedule;
mod signature;
mod store;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    delivery_request::{EndpointTarget, WebhookClients},
    error::delivery_not_found,
    hooks::{HookOwner, KnownHooks},
    metrics::WebhookMetrics,
    model::DeliveryCount,
    store::NewDelivery,
};
pub use self::{
    error::{Result, WebhookError},
    hooks::{CreatedHook, HookDraft},
    model::{DeliveryFilter, DeliveryState, EndpointStatus, HookScope, WebhookDelivery, WebhookEventKind},
};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    config::WebhookConfig,
    ids::DeliveryId,
    supervisor::BackgroundTask,
};
use am_db::{
    Database, Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};

/// Concurrent requests to one endpoint.
const ENDPOINT_CONCURRENCY: usize = 8;

/// The webhooks service. Cheap to clone.
#[derive(Clone)]
pub struct WebhookService(Arc<WebhookServiceInner>);

struct WebhookServiceInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    clients: WebhookClients,
    /// Endpoints by name: those of the configuration, and those of callers as last read.
    targets: RwLock<Arc<BTreeMap<String, Arc<EndpointState>>>>,
    hooks: KnownHooks,
    retry_scale: f64,
    kept: chrono::Duration,
    metrics: WebhookMetrics,
    wake: Notify,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// An endpoint with its concurrency limit.
struct EndpointState {
    target: EndpointTarget,
    places: Arc<Semaphore>,
    /// Who made it over the API; `None`: it is set in the configuration.
    owner: Option<HookOwner>,
}

impl EndpointState {
    /// Whether it receives an event of this kind, of a resource of `owner`.
    fn receives(&self, kind: WebhookEventKind, owner: Option<&str>, at: Timestamp) -> bool {
        self.target.accepts_kind(kind) && self.owner.as_ref().is_none_or(|own| own.receives(owner, at))
    }
}

/// An event to be delivered.
pub struct WebhookEvent<'e, T> {
    /// Kind of the event.
    pub kind: WebhookEventKind,
    /// Principal whose resource it is about; `None`: nobody's.
    pub owner: Option<&'e str>,
    /// What is told.
    pub data: &'e T,
    /// What the event is known by at its origin, so that it is stored once; `None`: it can't be repeated.
    pub source: Option<&'e str>,
}

/// Body of a webhook request.
#[derive(Serialize)]
struct WebhookPayload<'a, T> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: &'a T,
}

impl WebhookService {
    /// The configured endpoints. Nothing is called until [`WebhookService::background_task`] runs.
    ///
    /// # Errors
    /// Returns [`WebhookError::InvalidAddress`] for an endpoint that would never be called.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, config: &WebhookConfig) -> Result<Self> {
        Self::open(db, clock, ids, config, PathBuf::new())
    }

    /// The same, with the file of the key that secrets of endpoints are derived from that callers make.
    ///
    /// # Errors
    /// As [`WebhookService::new`].
    pub fn open(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        config: &WebhookConfig,
        secret_file: PathBuf,
    ) -> Result<Self> {
        let lane = |(name, endpoint): (&String, _)| -> Result<(String, Arc<EndpointState>)> {
            let (target, places) = (EndpointTarget::new(name, endpoint)?, Semaphore::new(ENDPOINT_CONCURRENCY));
            Ok((name.clone(), Arc::new(EndpointState { target, places: Arc::new(places), owner: None })))
        };
        let targets: BTreeMap<_, _> = config.endpoints.iter().map(lane).collect::<Result<_>>()?;
        let kept = chrono::Duration::from_std(config.kept).unwrap_or(chrono::Duration::MAX);
        let (retry_scale, clients) = (config.retry_scale, WebhookClients::new()?);
        Ok(Self(Arc::new(WebhookServiceInner {
            db,
            clock,
            ids,
            clients,
            targets: RwLock::new(Arc::new(targets)),
            hooks: KnownHooks::new(secret_file, config.private_addresses),
            retry_scale,
            kept,
            metrics: WebhookMetrics::default(),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        })))
    }

    /// Register the metrics of webhooks.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// The task that delivers. It ends with [`WebhookService::stop`].
    pub fn background_task(&self) -> BackgroundTask {
        BackgroundTask::new("webhooks", self.0.tracker.track_future(self.clone().work()))
    }

    /// The endpoints as they are known now.
    fn targets(&self) -> Arc<BTreeMap<String, Arc<EndpointState>>> {
        self.0.targets.read().clone()
    }

    /// Start no further requests and wait until the running ones have ended.
    #[boxed]
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// Check for pending deliveries now.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Whether any endpoint receives events of this kind.
    pub fn wanted(&self, kind: WebhookEventKind) -> bool {
        self.targets().values().any(|lane| lane.target.accepts_kind(kind))
    }

    /// Store a delivery for each endpoint that receives the event, in the transaction of the reported change; they are sent
    /// after the commit. An event with a known source is not stored again. Returns the number of deliveries stored.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn enqueue(&self, tx: &mut Tx, event: WebhookEvent<'_, impl Serialize>, now: Timestamp) -> Result<usize> {
        let (mut owed, body) = (0, serialize_payload(event.kind, event.data, now)?);
        for new in self.owed(&event, &body, now) {
            owed += usize::from(store::insert_delivery(tx, &new, now).await?);
        }
        if owed > 0 {
            let me = self.clone();
            tx.after_commit(move || me.wake());
        }
        Ok(owed)
    }

    /// Add the deliveries to `rows`, for a bulk insert; call [`WebhookService::wake`] after the commit. Returns the number of
    /// deliveries, including those whose source is known already.
    ///
    /// # Errors
    /// Fails when `data` can't be serialized as JSON.
    pub fn add_delivery_rows(
        &self,
        rows: &mut RowBatch,
        event: WebhookEvent<'_, impl Serialize>,
        now: Timestamp,
    ) -> Result<usize> {
        if !self.wanted(event.kind) {
            return Ok(0);
        }
        let body = serialize_payload(event.kind, event.data, now)?;
        let owed = self.owed(&event, &body, now);
        owed.iter().for_each(|new| store::add_delivery_row(rows, new, now));
        Ok(owed.len())
    }

    fn owed<'a, T>(&self, event: &WebhookEvent<'a, T>, body: &'a str, now: Timestamp) -> Vec<NewDelivery<'a>> {
        let (kind, source) = (event.kind, event.source);
        let targets = self.targets();
        let wanting = targets.iter().filter(|(_, lane)| lane.receives(kind, event.owner, now));
        wanting.map(|(name, _)| NewDelivery { id: self.new_id(), endpoint: name.clone(), kind, source, body }).collect()
    }

    fn new_id(&self) -> DeliveryId {
        self.0.ids.next("msg_", 16).into()
    }

    /// All endpoints with counts of their deliveries: configured ones, and former ones whose deliveries are still
    /// stored.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn endpoints(&self) -> Result<Vec<EndpointStatus>> {
        let mut conn = self.0.db.read().await?;
        let counts = store::count_by_state(&mut conn).await?;
        let health = store::read_health(&mut conn).await?;
        drop(conn);
        let (now, targets) = (self.now(), self.targets());
        let mut all: BTreeMap<&str, EndpointStatus> =
            targets.iter().map(|(name, lane)| (name.as_str(), endpoint_status(name, Some(lane)))).collect();
        for known in &health {
            let (Some(endpoint), Some(lane)) = (all.get_mut(known.name.as_str()), targets.get(&known.name)) else {
                continue;
            };
            endpoint.disabled_at = known.gone_at.filter(|_| known.is_gone(&lane.target.address_hash));
            endpoint.active = endpoint.disabled_at.is_none();
            (endpoint.failures, endpoint.last_sequence) = (known.failures, known.last_seq);
            endpoint.paused_until = known.closed_until.filter(|until| *until > now);
        }
        for DeliveryCount { endpoint: name, state, deliveries } in &counts {
            let endpoint = all.entry(name).or_insert_with(|| endpoint_status(name, None));
            match state {
                DeliveryState::Pending => endpoint.pending = *deliveries,
                DeliveryState::Delivered => endpoint.delivered = *deliveries,
                DeliveryState::Dead => endpoint.dead = *deliveries,
            }
        }
        Ok(all.into_values().collect())
    }

    /// A page of deliveries, newest first and without payloads, and the total number of matches.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, filter: &DeliveryFilter, page: &PageRequest) -> Result<(Vec<WebhookDelivery>, i64)> {
        store::list(&mut *self.0.db.read_list().await?, filter, page).await
    }

    /// A delivery with its payload.
    ///
    /// # Errors
    /// Returns [`WebhookError::NotFound`] when it does not exist.
    #[boxed]
    pub async fn get(&self, id: &DeliveryId) -> Result<WebhookDelivery> {
        store::get(&mut *self.0.db.read().await?, id).await?.ok_or_else(|| delivery_not_found(id))
    }

    /// Send a delivery now, whatever its state and its endpoint's, with a new retry schedule. It keeps its `webhook-id`. The rows of
    /// `beside` are inserted in the same transaction.
    ///
    /// # Errors
    /// Returns [`WebhookError::NotFound`]; [`WebhookError::InvalidState`] while a request is running, or when the endpoint is no longer
    /// configured.
    #[boxed]
    pub async fn redeliver(
        &self,
        id: &DeliveryId,
        beside: RowBatch,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<WebhookDelivery>> {
        let (id, now) = (id.clone(), self.now());
        let me = self.clone();
        let done = self.0.db.write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?.ok_or_else(|| delivery_not_found(&id))?;
            if !me.targets().contains_key(&found.endpoint) {
                return Err(WebhookError::InvalidState(format!(
                    "The endpoint {} is no longer configured",
                    found.endpoint
                )));
            }
            if !store::requeue(tx, &id, now).await? {
                return Err(WebhookError::InvalidState("The delivery is being sent now".to_owned()));
            }
            store::reopen_endpoint(tx, &found.endpoint).await?;
            beside.execute(tx).await?;
            tx.after_commit(move || me.wake());
            store::get(tx.conn().await?, &id).await?.ok_or_else(|| delivery_not_found(&id))
        });
        done.await
    }

    /// Enqueue an event of kind [`WebhookEventKind::EndpointTest`] for an endpoint, whichever kinds it receives. The rows of `beside` are
    /// inserted in the same transaction.
    ///
    /// # Errors
    /// Returns [`WebhookError::NotFound`] when there is no such endpoint.
    #[boxed]
    pub async fn test(
        &self,
        name: &str,
        beside: RowBatch,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<WebhookDelivery>> {
        if !self.targets().contains_key(name) {
            return Err(WebhookError::NotFound(format!("No webhook endpoint {name}")));
        }
        let (endpoint, now) = (name.to_owned(), self.now());
        let me = self.clone();
        let done = self.0.db.write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
            let data = serde_json::json!({"message": "This is a test", "endpoint": endpoint});
            let (id, body) = (me.new_id(), serialize_payload(WebhookEventKind::EndpointTest, &data, now)?);
            let kind = WebhookEventKind::EndpointTest;
            let new = NewDelivery { id, endpoint: endpoint.clone(), kind, source: None, body: &body };
            store::insert_delivery(tx, &new, now).await?;
            store::reopen_endpoint(tx, &endpoint).await?;
            beside.execute(tx).await?;
            tx.after_commit(move || me.wake());
            store::get(tx.conn().await?, &new.id).await?.ok_or_else(|| delivery_not_found(&new.id))
        });
        done.await
    }
}

fn serialize_payload(kind: WebhookEventKind, data: &impl Serialize, now: Timestamp) -> Result<String> {
    let message = WebhookPayload { r#type: kind.word(), timestamp: now, data };
    serde_json::to_string(&message).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()).into())
}

fn endpoint_status(name: &str, lane: Option<&Arc<EndpointState>>) -> EndpointStatus {
    let target = lane.map(|lane| &lane.target);
    let address = |target: &EndpointTarget| {
        let mut url = target.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    };
    let events = |target: &EndpointTarget| target.events.clone().unwrap_or_else(|| vec!["*".to_owned()]);
    EndpointStatus {
        name: name.to_owned(),
        url: target.map(address),
        events: target.map(events).unwrap_or_default(),
        allow_private: target.is_some_and(|target| target.allow_private),
        timeout_seconds: target.map(|target| target.timeout.as_secs_f64()),
        owner_id: lane.and_then(|lane| lane.owner.as_ref()).map(|owner| owner.id.clone()),
        scope: lane.and_then(|lane| lane.owner.as_ref()).map(|owner| owner.scope),
        created_at: lane.and_then(|lane| lane.owner.as_ref()).map(|owner| owner.since),
        active: lane.is_some(),
        disabled_at: None,
        failures: 0,
        paused_until: None,
        last_sequence: 0,
        pending: 0,
        delivered: 0,
        dead: 0,
    }
}
