//! Whatever is done with keys, in whatever order: which secrets are good is what a few lines of bookkeeping say.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;
use am_audit::AuditSettings;
use am_core::{
    crypto::Signer,
    ids::{ApiKeyId, PrincipalId},
};
use am_webhooks::WebhookService;

/// A database with a clock that stands still until it is set, and the keys as two processes see them.
struct KeyTestService {
    _dir: tempfile::TempDir,
    /// Where they are changed.
    office: ApiKeyService,
    /// Where they are asked for.
    door: ApiKeyService,
    seconds: Arc<AtomicI64>,
}

impl KeyTestService {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seconds = Arc::new(AtomicI64::new(1_800_000_000));
        let read = seconds.clone();
        let clock = Clock::from_fn(move || chrono::DateTime::from_timestamp(read.load(Ordering::Relaxed), 0).unwrap());
        let settings = am_db::DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        am_db::migrate(&db, &clock).await.unwrap();
        let open = async |seed: u64| {
            let signer = Signer::from_hex(&"5a".repeat(32)).unwrap();
            let settings = AuditSettings { origin: "test".to_owned(), every: Duration::from_secs(5) };
            let ids = || IdGenerator::seeded(seed);
            let webhooks = WebhookService::new(db.clone(), clock.clone(), ids(), &Default::default()).unwrap();
            let audit = AuditLog::new(db.clone(), clock.clone(), ids(), webhooks, signer, settings);
            ApiKeyService::open(db.clone(), clock.clone(), ids(), audit).await.unwrap()
        };
        let (office, door) = (open(1).await, open(2).await);
        Self { _dir: dir, office, door, seconds }
    }
}

#[derive(Clone, Debug)]
enum KeyOperation {
    Create { lifetime: Option<u64> },
    Rotate { key: usize, grace: u64, lifetime: Option<u64> },
    Revoke { key: usize },
    Wait { seconds: i64 },
}

fn deeds() -> impl Strategy<Value = Vec<KeyOperation>> {
    let time = || proptest::option::of(1u64..30);
    let deed = prop_oneof![
        time().prop_map(|lifetime| KeyOperation::Create { lifetime }),
        (0usize..4, 0u64..20, time()).prop_map(|(key, grace, lifetime)| KeyOperation::Rotate { key, grace, lifetime }),
        (0usize..4).prop_map(|key| KeyOperation::Revoke { key }),
        (1i64..15).prop_map(|seconds| KeyOperation::Wait { seconds }),
    ];
    proptest::collection::vec(deed, 1..25)
}

/// What must be true of a key.
struct KeyServiceModel {
    id: ApiKeyId,
    principal: PrincipalId,
    /// Each secret it had, the last one being the present one, and until when it is good.
    secrets: Vec<(String, Option<i64>)>,
    ends: Option<i64>,
    revoked: bool,
}

impl KeyServiceModel {
    fn expired(&self, now: i64) -> bool {
        self.ends.is_some_and(|end| end <= now)
    }

    fn is_good(&self, until: Option<i64>, now: i64) -> bool {
        !self.revoked && !self.expired(now) && until.is_none_or(|until| now < until)
    }
}

async fn perform(house: &KeyTestService, books: &mut Vec<KeyServiceModel>, deed: KeyOperation) {
    let now = house.seconds.load(Ordering::Relaxed);
    let term = |lifetime: u64| Expiry::For(Duration::from_secs(lifetime));
    let end = |lifetime: u64| now + lifetime.cast_signed();
    match deed {
        KeyOperation::Wait { seconds } => drop(house.seconds.fetch_add(seconds, Ordering::Relaxed)),
        KeyOperation::Create { lifetime } => {
            let name = format!("key-{}", books.len());
            let made =
                house.office.create(&name, KeyRole::Client, None, lifetime.map_or(Expiry::Never, term)).await.unwrap();
            books.push(KeyServiceModel {
                id: made.key.id,
                principal: made.key.principal,
                secrets: vec![(made.secret.expose_secret().to_owned(), None)],
                ends: lifetime.map(end),
                revoked: false,
            });
        }
        KeyOperation::Revoke { key } => {
            let Some(book) = books.get_mut(key) else { return };
            let done = house.office.revoke(&format!("key-{key}")).await;
            assert_eq!(done.is_ok(), !book.revoked, "{done:?}");
            book.revoked = true;
        }
        KeyOperation::Rotate { key, grace, lifetime } => {
            let Some(book) = books.get_mut(key) else { return };
            let done = house.office.rotate(&book.id, Duration::from_secs(grace), lifetime.map(term)).await;
            let allowed = !book.revoked && (lifetime.is_some() || !book.expired(now));
            assert_eq!(done.is_ok(), allowed, "{done:?}");
            let Ok(made) = done else { return };
            assert_eq!((&made.key.id, &made.key.principal), (&book.id, &book.principal));
            let last = book.secrets.len() - 1;
            for (at, (_, until)) in book.secrets.iter_mut().enumerate() {
                *until = Some(if at == last { end(grace) } else { 0 });
            }
            book.secrets.push((made.secret.expose_secret().to_owned(), None));
            book.ends = lifetime.map(end).or(book.ends);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_secret_is_good_when_the_books_say_so(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (house, mut books) = (KeyTestService::new().await, Vec::new());
            for deed in deeds {
                let shown = format!("{deed:?}");
                perform(&house, &mut books, deed).await;
                house.door.refresh().await.unwrap();
                let now = house.seconds.load(Ordering::Relaxed);
                let listed = house.door.list().await.unwrap();
                for book in &books {
                    let expected = (&*book.principal, KeyRole::Client);
                    for (secret, until) in &book.secrets {
                        let known = house.door.find(secret);
                        let known = known.as_ref().map(|known| (&*known.principal, known.role));
                        let wanted = book.is_good(*until, now).then_some(expected);
                        assert_eq!(known, wanted, "after {shown}: {secret} at {now}");
                    }
                    let entry = listed.iter().find(|key| key.id == book.id).unwrap();
                    let active = !book.revoked && !book.expired(now);
                    assert_eq!(entry.state == KeyState::Active, active, "after {shown}: {entry:?}");
                }
            }
        });
    }
}

#[tokio::test]
async fn a_change_is_not_known_before_it_is_looked_for_and_shows_no_secret() {
    let house = KeyTestService::new().await;
    let made = house.office.create("ci", KeyRole::Admin, None, Expiry::Never).await.unwrap();
    let secret = made.secret.expose_secret();
    assert_eq!(house.door.find(secret), None);
    house.door.refresh().await.unwrap();
    assert_eq!(house.door.find(secret).map(|known| known.role), Some(KeyRole::Admin));
    assert!(!format!("{made:?} {:?}", house.door.list().await.unwrap()).contains(&secret[12..]));
    let again = house.office.create("ci", KeyRole::Admin, None, Expiry::Never).await;
    assert!(matches!(again, Err(KeyError::NameTaken(_))), "{again:?}");
    let nobody = house.office.revoke("nobody").await;
    assert!(matches!(nobody, Err(KeyError::NotFound(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_key_bound_to_an_agent_names_it_until_it_is_revoked() {
    let house = KeyTestService::new().await;
    let agent = AgentId::from("bob");
    let made = house.office.create("bob", KeyRole::Agent, Some(agent.clone()), Expiry::Never).await.unwrap();
    house.door.refresh().await.unwrap();
    let known = house.door.find(made.secret.expose_secret()).unwrap();
    assert_eq!((known.role, known.agent.as_ref()), (KeyRole::Agent, Some(&agent)));
    assert!(house.door.has_agent_key(&agent) && !house.door.has_agent_key(&"alice".into()));
    assert_eq!(house.door.list().await.unwrap()[0].agent_id, Some(agent.clone()));
    house.office.revoke("bob").await.unwrap();
    house.door.refresh().await.unwrap();
    assert!(!house.door.has_agent_key(&agent));
    for (role, agent) in [(KeyRole::Agent, None), (KeyRole::Admin, Some(agent))] {
        let refused = house.office.create("x", role, agent, Expiry::Never).await;
        assert!(matches!(refused, Err(KeyError::Invalid(_))), "{refused:?}");
    }
}
