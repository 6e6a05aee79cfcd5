//! What is owed, against a real database. Calls are tried in `tests/it/webhooks.rs`.

use std::time::Duration;

use serde_json::json;

use super::*;
use am_core::config::WebhookEndpoint;
use am_db::{DatabaseSettings, migrate};

struct WebhookTestService {
    _dir: tempfile::TempDir,
    db: Database,
    webhooks: WebhookService,
}

async fn open() -> WebhookTestService {
    let dir = tempfile::tempdir().unwrap();
    let settings = DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(5) };
    let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
    migrate(&db, &Clock::system()).await.unwrap();
    let endpoint = |events: Option<&[&str]>| WebhookEndpoint {
        url: "https://example.com/hook".parse().unwrap(),
        secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()],
        events: events.map(|events| events.iter().map(|kind| (*kind).to_owned()).collect()),
        allow_private: false,
        timeout: Duration::from_secs(1),
    };
    let mut config = WebhookConfig::default();
    config.endpoints.insert("all".to_owned(), endpoint(None));
    config.endpoints.insert("some".to_owned(), endpoint(Some(&["job.completed"])));
    let webhooks = WebhookService::new(db.clone(), Clock::system(), IdGenerator::seeded(7), &config).unwrap();
    WebhookTestService { _dir: dir, db, webhooks }
}

impl WebhookTestService {
    async fn enqueue(&self, kind: WebhookEventKind, source: Option<&'static str>) -> usize {
        let (webhooks, now) = (self.webhooks.clone(), self.webhooks.now());
        let work = async move |tx: &mut Tx| {
            webhooks.enqueue(tx, WebhookEvent { kind, owner: None, data: &json!({"x": 1}), source }, now).await
        };
        self.db.write(work).await.unwrap()
    }

    async fn claim(
        &self,
        most: usize,
        lease: &'static str,
        now: Timestamp,
        until: Timestamp,
    ) -> Vec<store::ClaimedDelivery> {
        let work = async move |tx: &mut Tx| {
            store::claim_deliveries(tx, "all", (store::ClaimOrder::Number, most), lease, now, until).await
        };
        self.db.write(work).await.unwrap()
    }

    async fn total(&self) -> i64 {
        self.webhooks
            .list(&DeliveryFilter::default(), &PageRequest { limit: 10, ..PageRequest::default() })
            .await
            .unwrap()
            .1
    }
}

#[tokio::test]
async fn an_event_is_owed_to_whoever_wants_its_kind_and_once_for_each_source() {
    let room = open().await;
    assert_eq!(
        (
            room.enqueue(WebhookEventKind::JobCompleted, None).await,
            room.enqueue(WebhookEventKind::JobFailed, None).await
        ),
        (2, 1)
    );
    assert_eq!(
        (
            room.enqueue(WebhookEventKind::JobCompleted, Some("s1")).await,
            room.enqueue(WebhookEventKind::JobCompleted, Some("s1")).await
        ),
        (2, 0)
    );
    assert_eq!((room.enqueue(WebhookEventKind::JobFailed, Some("s2")).await, room.total().await), (1, 6));
    assert!(room.webhooks.wanted(WebhookEventKind::AuditHead));
    // Among rows it is the same.
    for _ in 0..2 {
        let mut rows = RowBatch::default();
        let (now, kind) = (room.webhooks.now(), WebhookEventKind::JobCompleted);
        let event = WebhookEvent { kind, owner: None, data: &json!({"x": 1}), source: Some("s3") };
        assert_eq!(room.webhooks.add_delivery_rows(&mut rows, event, now).unwrap(), 2);
        room.db.insert(rows, || {}).await.unwrap();
        assert_eq!(room.total().await, 8);
    }
    let (newest, _) = room
        .webhooks
        .list(&DeliveryFilter::default(), &PageRequest { limit: 1, ..PageRequest::default() })
        .await
        .unwrap();
    let delivery = room.webhooks.get(&newest[0].id).await.unwrap();
    let expected = json!({"type": "job.completed", "timestamp": delivery.created_at, "data": {"x": 1}});
    assert_eq!(serde_json::to_value(&delivery.payload).unwrap(), expected);
}

#[tokio::test]
async fn what_is_undone_is_not_owed() {
    let room = open().await;
    let (webhooks, now) = (room.webhooks.clone(), room.webhooks.now());
    let work = async move |tx: &mut Tx| {
        let (kind, data) = (WebhookEventKind::JobCompleted, json!(null));
        webhooks.enqueue(tx, WebhookEvent { kind, owner: None, data: &data, source: None }, now).await?;
        Err::<(), _>(WebhookError::InvalidState("no".to_owned()))
    };
    assert!(room.db.write(work).await.is_err());
    assert_eq!(room.total().await, 0);
}

#[tokio::test]
async fn a_claim_is_its_leases_until_it_is_over() {
    let room = open().await;
    for _ in 0..3 {
        room.enqueue(WebhookEventKind::JobFailed, None).await;
    }
    let now = room.webhooks.now();
    let later = |seconds| Timestamp(now.0 + chrono::Duration::seconds(seconds));
    let first = room.claim(2, "one", now, later(10)).await;
    let second = room.claim(5, "two", now, later(20)).await;
    assert_eq!((first.len(), second.len(), first[0].attempt), (2, 1, 1));
    assert!(room.claim(5, "three", later(9), later(30)).await.is_empty());
    // It is over: the next one has it, and what the first one says then is not heard.
    let again = room.claim(5, "three", later(10), later(30)).await;
    assert_eq!((again.len(), again[0].attempt), (2, 2));
    let settle = async |lease: &str, state| {
        let settled = store::AttemptRecord {
            id: first[0].id.clone(),
            lease: lease.to_owned(),
            state,
            next_attempt_at: now,
            status: Some(200),
            error: None,
        };
        room.db.write(async move |tx: &mut Tx| store::record_attempt(tx, &settled, now).await).await.unwrap()
    };
    assert!(!settle("one", DeliveryState::Dead).await);
    assert!(settle("three", DeliveryState::Delivered).await && !settle("three", DeliveryState::Dead).await);
    assert_eq!(room.webhooks.get(&first[0].id).await.unwrap().state, DeliveryState::Delivered);
    // While one is called it can't be asked for again.
    assert!(matches!(
        room.webhooks.redeliver(&second[0].id, RowBatch::default(), None).await,
        Err(WebhookError::InvalidState(_))
    ));
}

#[tokio::test]
async fn what_has_ended_is_forgotten_and_what_is_owed_is_not() {
    let room = open().await;
    room.enqueue(WebhookEventKind::JobCompleted, None).await;
    let now = room.webhooks.now();
    let limit = Timestamp(now.0 + chrono::Duration::seconds(1));
    let bury = async move |tx: &mut Tx| store::give_up_due(tx, "some", limit, "gone").await;
    assert_eq!(room.db.write(bury).await.unwrap(), 1);
    assert!(store::has_old(&mut room.db.read().await.unwrap(), limit).await.unwrap());
    let forget = async move |tx: &mut Tx| store::delete_old(tx, limit, 10).await;
    assert_eq!(room.db.write(forget).await.unwrap(), 1);
    assert_eq!(store::count_pending(&mut room.db.read().await.unwrap()).await.unwrap(), 1);
    assert!(!store::has_old(&mut room.db.read().await.unwrap(), limit).await.unwrap());
}
