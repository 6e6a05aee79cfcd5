//! Signed calls to whoever wants to hear of events, by Standard Webhooks (<https://www.standardwebhooks.com>).
//!
//! What is owed is written with the change that it tells of ([`Webhooks::enqueue`]) and called afterwards, until it is
//! taken or the schedule is at its end. At least once: a receiver tells repetitions by `webhook-id`. Who is called stands
//! in the configuration alone, its secrets too.

mod call;
mod error;
mod metrics;
mod model;
mod schedule;
mod signature;
mod store;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    call::{Clients, Target},
    error::unknown,
    metrics::Metrics,
    store::New,
};
pub use self::{
    error::{Error, Result},
    model::{Delivery, Endpoint, Filter, State, TEST},
};
use am_core::{
    ambient::{Clock, Ids},
    config::WebhookConfig,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    rows::Rows,
};

/// Calls to one endpoint that are under way at once.
const PLACES: usize = 8;

/// Webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    clients: Clients,
    targets: BTreeMap<String, Lane>,
    retry_scale: f64,
    kept: chrono::Duration,
    metrics: Metrics,
    wake: Notify,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// An endpoint and its places.
struct Lane {
    target: Target,
    places: Arc<Semaphore>,
    /// It has answered 410.
    gone: AtomicBool,
}

/// The body of a message.
#[derive(Serialize)]
struct Message<'a, T> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: &'a T,
}

impl Webhooks {
    /// The configured endpoints. Nothing is called until [`Webhooks::spawn`].
    ///
    /// # Errors
    /// [`Error::Address`] for an endpoint that would never be called.
    pub fn new(db: Database, clock: Clock, ids: Ids, config: &WebhookConfig) -> Result<Self> {
        let lane = |(name, endpoint): (&String, _)| -> Result<(String, Lane)> {
            let target = Target::new(name, endpoint)?;
            Ok((name.clone(), Lane { target, places: Arc::new(Semaphore::new(PLACES)), gone: AtomicBool::new(false) }))
        };
        let targets = config.endpoints.iter().map(lane).collect::<Result<_>>()?;
        let kept = chrono::Duration::from_std(config.kept).unwrap_or(chrono::Duration::MAX);
        let (retry_scale, clients) = (config.retry_scale, Clients::new()?);
        let (metrics, wake, stop, tracker) = Default::default();
        let inner = Inner { db, clock, ids, clients, targets, retry_scale, kept, metrics, wake, stop, tracker };
        Ok(Self(Arc::new(inner)))
    }

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Begin to deliver.
    pub fn spawn(&self) {
        if !self.0.targets.is_empty() {
            self.0.tracker.spawn(self.clone().work());
        }
    }

    /// Begin nothing more; returns when the calls under way have ended.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// Look for deliveries now.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Whether any endpoint wants events of this kind.
    pub fn wanted(&self, kind: &str) -> bool {
        self.0.targets.values().any(|lane| lane.target.wants(kind))
    }

    /// Owe an event to each endpoint that wants its kind, in the transaction of what it tells of; they are called after
    /// the commit. `source` is what the event is known by at its source: one that is known already is not owed again.
    /// Answers how many are owed.
    ///
    /// # Errors
    /// As the database.
    pub async fn enqueue(
        &self,
        tx: &mut Tx,
        kind: &str,
        data: &impl Serialize,
        now: Timestamp,
        source: Option<&str>,
    ) -> Result<usize> {
        let (mut owed, body) = (0, body(kind, data, now)?);
        for new in self.owed(kind, &body, source) {
            owed += usize::from(store::insert(tx, &new, now).await?);
        }
        if owed > 0 {
            let me = self.clone();
            tx.after_commit(move || me.wake());
        }
        Ok(owed)
    }

    /// The same among `rows`; call [`Webhooks::wake`] after the commit. Answers how many are owed unless their source is
    /// known already.
    ///
    /// # Errors
    /// When `data` can't be written as JSON.
    pub fn enqueue_to(
        &self,
        rows: &mut Rows,
        kind: &str,
        data: &impl Serialize,
        now: Timestamp,
        source: Option<&str>,
    ) -> Result<usize> {
        if !self.wanted(kind) {
            return Ok(0);
        }
        let body = body(kind, data, now)?;
        let owed = self.owed(kind, &body, source).map(|new| store::insert_to(rows, &new, now));
        Ok(owed.count())
    }

    fn owed<'a>(&'a self, kind: &'a str, body: &'a str, source: Option<&'a str>) -> impl Iterator<Item = New<'a>> + 'a {
        let wanting = self.0.targets.iter().filter(move |(_, lane)| lane.target.wants(kind));
        wanting.map(move |(name, _)| New { id: self.new_id(), endpoint: name, kind, source, body })
    }

    fn new_id(&self) -> String {
        self.0.ids.next("msg_", 16)
    }

    /// The endpoints and how their deliveries stand: those that are configured, and others that deliveries are kept of.
    ///
    /// # Errors
    /// As the database.
    pub async fn endpoints(&self) -> Result<Vec<Endpoint>> {
        let counts = store::counts(&mut *self.0.db.read().await?).await?;
        let mut all: BTreeMap<&str, Endpoint> =
            self.0.targets.iter().map(|(name, lane)| (name.as_str(), shown(name, Some(lane)))).collect();
        for (name, state, count) in &counts {
            let endpoint = all.entry(name).or_insert_with(|| shown(name, None));
            match state {
                State::Pending => endpoint.pending = *count,
                State::Delivered => endpoint.delivered = *count,
                State::Dead => endpoint.dead = *count,
            }
        }
        Ok(all.into_values().collect())
    }

    /// A page of deliveries, newest first and without what is sent, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, filter: &Filter, page: &Page) -> Result<(Vec<Delivery>, i64)> {
        store::list(&mut *self.0.db.read().await?, filter, page).await
    }

    /// One delivery.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: &str) -> Result<Delivery> {
        store::get(&mut *self.0.db.read().await?, id).await?.ok_or_else(|| unknown(id))
    }

    /// Deliver now, however it stands, with a whole schedule before it. The receiver knows it by the same `webhook-id`.
    /// `beside` is written in the same transaction: what upper rooms note of it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] while it is called, or when its endpoint is no longer configured.
    pub async fn redeliver(&self, id: &str, beside: Rows, once: Option<Once>) -> Result<Done<Delivery>> {
        let (me, id, now) = (self.clone(), id.to_owned(), self.now());
        let done = self.0.db.write_once(&self.0.clock, once, async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?.ok_or_else(|| unknown(&id))?;
            if !me.0.targets.contains_key(&found.endpoint) {
                return Err(Error::State(format!("The endpoint {} is no longer configured", found.endpoint)));
            }
            if !store::again(tx, &id, now).await? {
                return Err(Error::State("It is being delivered at this moment".to_owned()));
            }
            beside.execute(tx).await?;
            tx.after_commit(move || me.wake());
            store::get(tx.conn().await?, &id).await?.ok_or_else(|| unknown(&id))
        });
        done.await
    }

    /// Owe an endpoint an event of kind [`TEST`], whichever kinds it wants. `beside` is written in the same transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn test(&self, name: &str, beside: Rows, once: Option<Once>) -> Result<Done<Delivery>> {
        if !self.0.targets.contains_key(name) {
            return Err(Error::NotFound(format!("No webhook endpoint {name}")));
        }
        let (me, endpoint, now) = (self.clone(), name.to_owned(), self.now());
        let done = self.0.db.write_once(&self.0.clock, once, async move |tx: &mut Tx| {
            let data = serde_json::json!({"message": "This is a test", "endpoint": endpoint});
            let (id, body) = (me.new_id(), body(TEST, &data, now)?);
            let new = New { id, endpoint: &endpoint, kind: TEST, source: None, body: &body };
            store::insert(tx, &new, now).await?;
            beside.execute(tx).await?;
            tx.after_commit(move || me.wake());
            store::get(tx.conn().await?, &new.id).await?.ok_or_else(|| unknown(&new.id))
        });
        done.await
    }
}

fn body(kind: &str, data: &impl Serialize, now: Timestamp) -> Result<String> {
    let message = Message { r#type: kind, timestamp: now, data };
    serde_json::to_string(&message).map_err(|error| am_db::Error::Unreadable(error.to_string()).into())
}

fn shown(name: &str, lane: Option<&Lane>) -> Endpoint {
    let target = lane.map(|lane| &lane.target);
    let address = |target: &Target| {
        let mut url = target.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    };
    let events = |target: &Target| target.events.clone().unwrap_or_else(|| vec!["*".to_owned()]);
    Endpoint {
        name: name.to_owned(),
        url: target.map(address),
        events: target.map(events).unwrap_or_default(),
        allow_private: target.is_some_and(|target| target.allow_private),
        timeout_seconds: target.map(|target| target.timeout.as_secs_f64()),
        active: lane.is_some_and(|lane| !lane.gone.load(Ordering::Acquire)),
        pending: 0,
        delivered: 0,
        dead: 0,
    }
}
