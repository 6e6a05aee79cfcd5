//! How messages are sealed, with real keys in a real database, and how the server's own keys are changed.

use std::time::Duration;

use super::{codec::base64, *};
use am_core::crypto::Signer;
use am_db::{page::Page, principal::Principal};
use am_webhooks::Webhooks;

const BOUND: Bound<'static> = Bound { message_id: "msg-1", channel: "ch-1", sender: "a", recipient: Some("b") };

struct House {
    dir: tempfile::TempDir,
    db: Database,
    clock: Clock,
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let settings = am_db::Settings { readers: 2, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        am_db::migrate(&db, &clock).await.unwrap();
        Self { dir, db, clock }
    }

    /// A process with these master keys, each name and the byte that makes its key.
    fn process(&self, masters: &[(&str, u8)], allow_plaintext: bool) -> Sealing {
        let parts = || (self.db.clone(), self.clock.clone(), Ids::system().unwrap());
        let webhooks = Webhooks::new(self.db.clone(), self.clock.clone(), parts().2, &Default::default()).unwrap();
        let signer = Signer::from_hex(&"5a".repeat(32)).unwrap();
        let settings = am_audit::Settings { origin: "test".to_owned(), every: Duration::from_secs(5) };
        let audit = Audit::new(parts(), webhooks, signer, settings);
        let key = |byte: u8| base64(&std::array::from_fn::<u8, 32, _>(|at| byte ^ at as u8)).into();
        let masters = masters.iter().map(|(name, byte)| ((*name).to_owned(), key(*byte))).collect();
        Sealing::new(parts(), audit, Settings { masters, allow_plaintext }).unwrap()
    }
}

fn caller() -> Principal {
    Principal { name: "key_00000000000000000000".into(), aliases: Arc::new([]), origin: None }
}

fn to(encryption: Option<Encryption>, encrypt: bool) -> SealFor<'static> {
    SealFor { bound: BOUND, encryption, encrypt }
}

async fn seal(sealing: &Sealing, to: SealFor<'static>, content: &Value) -> Result<Sealed> {
    let (sealing, content, now) = (sealing.clone(), content.clone(), sealing.now());
    let db = sealing.0.db.clone();
    db.write(async move |tx: &mut Tx| sealing.seal(tx, &to, &content, now).await).await
}

async fn open(sealing: &Sealing, sealed: &Sealed) -> Result<Opened> {
    sealing.open(&mut sealing.0.db.read().await.unwrap(), sealed, &BOUND).await
}

async fn register(sealing: &Sealing, kind: KeyKind, text: &str) -> AgentKey {
    sealing.register_key(&caller(), "b", (kind, text), None).await.unwrap().value
}

fn rsa() -> String {
    let all: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/envelopes/envelopes.json")).unwrap();
    all["rsa"]["public_key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_agent_without_a_key_is_written_to_at_rest() {
    let house = House::new().await;
    let sealing = house.process(&[("m", 1)], false);
    let content = json!({"secret": "tomatoes", "n": 1.5});
    for asked in [to(None, true), to(None, false), to(Some(Encryption::Aes256), true)] {
        let sealed = seal(&sealing, asked, &content).await.unwrap();
        assert_eq!((sealed.encryption, sealed.scope), (Encryption::Aes256, Scope::AtRest));
        assert!(sealed.is_encrypted() && !sealed.stored.get().unwrap().get().contains("tomatoes"));
        assert_eq!(open(&sealing, &sealed).await.unwrap(), Opened::Plain(content.clone()));
        // Another process has not unwrapped the channel's key yet.
        assert_eq!(open(&house.process(&[("m", 1)], false), &sealed).await.unwrap().into_value(), content);
        let elsewhere = Bound { message_id: "msg-2", ..BOUND };
        let moved = sealing.open(&mut house.db.read().await.unwrap(), &sealed, &elsewhere).await;
        assert!(matches!(moved, Err(SealError::Tampered(_))));
    }
    let used = sealing.masters().await.unwrap();
    assert_eq!(used[0].data_keys, 1, "a channel has one data key");
    for kind in [Encryption::Hpke, Encryption::Rsa, Encryption::Hybrid] {
        let refused = seal(&sealing, to(Some(kind), true), &content).await;
        assert!(matches!(refused, Err(SealError::Invalid { path, .. }) if path == ["encryption"]), "{kind}");
    }
}

#[tokio::test]
async fn nothing_is_stored_in_the_clear_unless_it_is_allowed() {
    let house = House::new().await;
    let (strict, open_minded) = (house.process(&[("m", 1)], false), house.process(&[("m", 1)], true));
    let content = json!({"x": 1});
    assert!(matches!(seal(&strict, to(Some(Encryption::None), true), &content).await, Err(SealError::Plaintext)));
    for asked in [to(Some(Encryption::None), true), to(None, false)] {
        let sealed = seal(&open_minded, asked, &content).await.unwrap();
        assert_eq!((sealed.encryption, sealed.scope, sealed.is_encrypted()), (Encryption::None, Scope::None, false));
        assert_eq!(open(&strict, &sealed).await.unwrap(), Opened::Plain(content.clone()));
    }
    let sealed = seal(&open_minded, to(None, true), &content).await.unwrap();
    assert_eq!(sealed.scope, Scope::AtRest, "what is to be encrypted is");
}

#[tokio::test]
async fn without_a_master_key_only_agents_with_keys_are_written_to() {
    let house = House::new().await;
    let sealing = house.process(&[], false);
    assert!(!sealing.has_master());
    let content = json!({"x": 1});
    assert!(matches!(seal(&sealing, to(None, true), &content).await, Err(SealError::NoMaster)));
    let public = SecretKey::generate().unwrap().public_key().unwrap();
    register(&sealing, KeyKind::X25519, &public.text()).await;
    assert_eq!(seal(&sealing, to(None, true), &content).await.unwrap().scope, Scope::SealedOnArrival);
    assert!(matches!(sealing.rotate().await, Err(SealError::NoMaster)));
}

#[tokio::test]
async fn an_agents_own_key_is_what_it_is_written_to_with() {
    let house = House::new().await;
    let sealing = house.process(&[("m", 1)], false);
    let content = json!({"x": "tomatoes"});
    let rsa = register(&sealing, KeyKind::Rsa, &rsa()).await;
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    let got = (sealed.encryption, sealed.scope, sealed.key_id.as_deref());
    assert_eq!(got, (Encryption::Hybrid, Scope::SealedOnArrival, Some(rsa.key_id.as_str())));
    assert_eq!(seal(&sealing, to(Some(Encryption::Rsa), true), &content).await.unwrap().encryption, Encryption::Rsa);

    let secret = SecretKey::generate().unwrap();
    let first = register(&sealing, KeyKind::X25519, &secret.public_key().unwrap().text()).await;
    let again = register(&sealing, KeyKind::X25519, &secret.public_key().unwrap().text()).await;
    assert_eq!(again, first, "the same key again changes nothing");
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    assert_eq!((sealed.encryption, sealed.key_id.as_deref()), (Encryption::Hpke, Some(first.key_id.as_str())));
    let Opened::Envelope(envelope) = open(&sealing, &sealed).await.unwrap() else { panic!() };
    assert!(!envelope.to_string().contains("tomatoes"));
    let envelope = Envelope::of(&envelope).unwrap().unwrap();
    assert_eq!(secret.open(&envelope, ("msg-1", "a", "b")).unwrap(), content);
    assert!(secret.open(&envelope, ("msg-2", "a", "b")).is_err());

    let newer = SecretKey::generate().unwrap();
    let newest = register(&sealing, KeyKind::X25519, &newer.public_key().unwrap().text()).await;
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    assert_eq!(sealed.key_id.as_deref(), Some(newest.key_id.as_str()), "the newest is used");
    sealing.revoke_key(&caller(), "b", &newest.key_id).await.unwrap();
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    assert_eq!(sealed.key_id.as_deref(), Some(first.key_id.as_str()), "and a revoked one is not");
    let back = sealing.register_key(&caller(), "b", (KeyKind::X25519, &newest.public_key), None).await;
    assert!(matches!(back, Err(SealError::State(_))));
    let page = Page { limit: 2, ..Page::default() };
    let (keys, total) = sealing.keys("b", &page).await.unwrap();
    assert_eq!(
        (total, keys.iter().map(|key| &key.key_id).collect::<Vec<_>>()),
        (3, vec![&newest.key_id, &first.key_id])
    );
    assert_eq!(sealing.keys("a", &page).await.unwrap().1, 0);
    assert!(matches!(sealing.revoke_key(&caller(), "a", &first.key_id).await, Err(SealError::NotFound(_))));
}

#[tokio::test]
async fn what_the_sender_sealed_is_kept_as_it_is_and_only_for_a_key_in_use() {
    let house = House::new().await;
    let sealing = house.process(&[], false);
    let secret = SecretKey::generate().unwrap();
    let public = secret.public_key().unwrap();
    let content = json!({"x": 1});
    let envelope = json!(public.seal(Encryption::Hpke, ("msg-1", "a", "b"), &content).unwrap());
    let refused = seal(&sealing, to(None, true), &envelope).await;
    assert!(matches!(refused, Err(SealError::Invalid { path, .. }) if path == ["content", "hpke", "key_id"]));
    let key = register(&sealing, KeyKind::X25519, &public.text()).await;
    for asked in [to(None, true), to(None, false), to(Some(Encryption::Hpke), true)] {
        let sealed = seal(&sealing, asked, &envelope).await.unwrap();
        assert_eq!((sealed.encryption, sealed.scope), (Encryption::Hpke, Scope::EndToEnd));
        assert_eq!(open(&sealing, &sealed).await.unwrap(), Opened::Envelope(envelope.clone()));
    }
    let other = seal(&sealing, to(Some(Encryption::Aes256), true), &envelope).await;
    assert!(matches!(other, Err(SealError::Invalid { path, .. }) if path == ["encryption"]));
    let all = SealFor { bound: Bound { recipient: None, ..BOUND }, ..to(None, true) };
    assert!(matches!(seal(&sealing, all, &envelope).await, Err(SealError::Invalid { .. })));
    sealing.revoke_key(&caller(), "b", &key.key_id).await.unwrap();
    assert!(matches!(seal(&sealing, to(None, true), &envelope).await, Err(SealError::Invalid { .. })));
}

#[tokio::test]
async fn masters_and_data_keys_are_changed_while_processes_run() {
    let house = House::new().await;
    let content = json!({"x": 1});
    let old = house.process(&[("old", 1)], false);
    let before = seal(&old, to(None, true), &content).await.unwrap();
    // Each process gets the new master first, then the command is run.
    let (first, second) =
        (house.process(&[("new", 2), ("old", 1)], false), house.process(&[("new", 2), ("old", 1)], false));
    assert_eq!(seal(&first, to(None, true), &content).await.unwrap().key_id, before.key_id);
    let rotated = second.rotate().await.unwrap();
    assert_eq!((rotated.master_id.as_str(), rotated.retired, rotated.rewrapped), ("new", 1, 1));
    let after = seal(&first, to(None, true), &content).await.unwrap();
    assert_ne!(after.key_id, before.key_id, "a process that ran all the while takes a new data key");
    let uses: Vec<_> =
        second.masters().await.unwrap().into_iter().map(|m| (m.master_id, m.current, m.data_keys)).collect();
    assert_eq!(uses, [("new".to_owned(), true, 2), ("old".to_owned(), false, 0)]);
    // Now the old master can go.
    let only = house.process(&[("new", 2)], false);
    for sealed in [&before, &after] {
        assert_eq!(open(&only, sealed).await.unwrap().into_value(), content);
        assert!(matches!(open(&house.process(&[("old", 1)], false), sealed).await, Err(SealError::UnknownMaster(_))));
    }
    assert_eq!(only.rotate().await.unwrap(), Rotated { master_id: "new".into(), retired: 1, rewrapped: 0 });
    assert_eq!(open(&only, &after).await.unwrap().into_value(), content);
}

#[tokio::test]
async fn many_data_keys_are_wrapped_anew_in_pieces() {
    let house = House::new().await;
    let old = house.process(&[("old", 1)], false);
    let mut sealed = Vec::new();
    for n in 0..1201 {
        let (sealing, now) = (old.clone(), old.now());
        sealed.push(house.db.write(async move |tx: &mut Tx| {
            let channel = format!("ch-{n}");
            let bound = Bound { channel: &channel, ..BOUND };
            sealing.seal(tx, &SealFor { bound, ..to(None, true) }, &json!(n), now).await
        }));
    }
    let sealed = futures_util::future::try_join_all(sealed).await.unwrap();
    let new = house.process(&[("new", 2), ("old", 1)], false);
    assert_eq!(new.rotate().await.unwrap().rewrapped, 1201);
    let only = house.process(&[("new", 2)], false);
    for (n, sealed) in sealed.iter().enumerate() {
        let channel = format!("ch-{n}");
        let bound = Bound { channel: &channel, ..BOUND };
        let opened = only.open(&mut house.db.read().await.unwrap(), sealed, &bound).await.unwrap();
        assert_eq!(opened.into_value(), json!(n));
    }
    assert!(house.dir.path().exists());
}
