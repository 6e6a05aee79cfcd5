//! How messages are sealed, with real keys in a real database, and how the server's own keys are changed.

use std::{sync::LazyLock, time::Duration};

use serde_json::json;

use super::{codec::encode_base64, *};
use am_core::{
    crypto::Signer,
    ids::{ChannelId, MessageId},
};
use am_db::{page::PageRequest, principal::Principal};
use am_webhooks::WebhookService;

static MESSAGE: LazyLock<MessageId> = LazyLock::new(|| "msg-1".into());
static CHANNEL: LazyLock<ChannelId> = LazyLock::new(|| "ch-1".into());
static SENDER: LazyLock<AgentId> = LazyLock::new(|| "a".into());
static RECIPIENT: LazyLock<AgentId> = LazyLock::new(|| "b".into());

fn bound() -> CiphertextBinding<'static> {
    CiphertextBinding { message_id: &MESSAGE, channel: &CHANNEL, sender: &SENDER, recipient: Some(&RECIPIENT) }
}

fn envelope_binding() -> EnvelopeBinding<'static> {
    EnvelopeBinding { message_id: &MESSAGE, sender: &SENDER, recipient: &RECIPIENT }
}

struct EncryptionTestService {
    dir: tempfile::TempDir,
    db: Database,
    clock: Clock,
}

impl EncryptionTestService {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let settings = am_db::DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        am_db::migrate(&db, &clock).await.unwrap();
        Self { dir, db, clock }
    }

    /// A process with these master keys, each name and the byte that makes its key.
    fn process(&self, masters: &[(&str, u8)], allow_plaintext: bool) -> EncryptionService {
        let parts = || (self.db.clone(), self.clock.clone(), IdGenerator::system().unwrap());
        let webhooks =
            WebhookService::new(self.db.clone(), self.clock.clone(), parts().2, &Default::default()).unwrap();
        let signer = Signer::from_hex(&"5a".repeat(32)).unwrap();
        let settings = am_audit::AuditSettings { origin: "test".to_owned(), every: Duration::from_secs(5) };
        let audit = AuditLog::new(self.db.clone(), self.clock.clone(), parts().2, webhooks, signer, settings);
        let key = |byte: u8| encode_base64(&std::array::from_fn::<u8, 32, _>(|at| byte ^ at as u8)).into();
        let masters = masters.iter().map(|(name, byte)| ((*name).to_owned(), key(*byte))).collect();
        let settings = EncryptionSettings { masters, allow_plaintext };
        EncryptionService::new(self.db.clone(), self.clock.clone(), parts().2, audit, settings).unwrap()
    }
}

fn caller() -> Principal {
    Principal { name: "key_00000000000000000000".into(), aliases: Arc::new([]), agent: None, origin: None }
}

fn to(encryption: Option<MessageEncryption>, encrypt: bool) -> EncryptionRequest<'static> {
    EncryptionRequest { bound: bound(), encryption, encrypt }
}

async fn seal(
    sealing: &EncryptionService,
    to: EncryptionRequest<'static>,
    content: &Value,
) -> Result<EncryptedContent> {
    let (sealing, content, now) = (sealing.clone(), content.clone(), sealing.now());
    let db = sealing.0.db.clone();
    db.write(async move |tx: &mut Tx| sealing.seal(tx, &to, &content, now).await).await
}

async fn open(sealing: &EncryptionService, sealed: &EncryptedContent) -> Result<DecryptedContent> {
    sealing.open(&mut sealing.0.db.read().await.unwrap(), sealed, &bound()).await
}

async fn register(sealing: &EncryptionService, kind: KeyKind, text: &str) -> AgentKey {
    let new = NewAgentKey { kind, public_key: text.to_owned(), key_id: None };
    sealing.register_key(&caller(), &"b".into(), new, None).await.unwrap().value
}

fn rsa() -> String {
    let all: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/envelopes/envelopes.json")).unwrap();
    all["rsa"]["public_key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_agent_without_a_key_is_written_to_at_rest() {
    let house = EncryptionTestService::new().await;
    let sealing = house.process(&[("m", 1)], false);
    let content = json!({"secret": "tomatoes", "n": 1.5});
    for asked in [to(None, true), to(None, false), to(Some(MessageEncryption::Aes256), true)] {
        let sealed = seal(&sealing, asked, &content).await.unwrap();
        assert_eq!((sealed.encryption, sealed.scope), (MessageEncryption::Aes256, EncryptionScope::AtRest));
        assert!(sealed.is_encrypted() && !sealed.stored.get().unwrap().get().contains("tomatoes"));
        assert_eq!(open(&sealing, &sealed).await.unwrap(), DecryptedContent::Plain(content.clone()));
        // Another process has not unwrapped the channel's key yet.
        assert_eq!(open(&house.process(&[("m", 1)], false), &sealed).await.unwrap().into_value(), content);
        let elsewhere = CiphertextBinding { message_id: &"msg-2".into(), ..bound() };
        let moved = sealing.open(&mut house.db.read().await.unwrap(), &sealed, &elsewhere).await;
        assert!(matches!(moved, Err(EncryptionError::Tampered(_))));
    }
    let used = sealing.masters().await.unwrap();
    assert_eq!(used[0].data_keys, 1, "a channel has one data key");
    for kind in [MessageEncryption::Hpke, MessageEncryption::Rsa, MessageEncryption::Hybrid] {
        let refused = seal(&sealing, to(Some(kind), true), &content).await;
        assert!(
            matches!(refused, Err(EncryptionError::Invalid(found)) if found.path.to_string() == "encryption"),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn nothing_is_stored_in_the_clear_unless_it_is_allowed() {
    let house = EncryptionTestService::new().await;
    let (strict, open_minded) = (house.process(&[("m", 1)], false), house.process(&[("m", 1)], true));
    let content = json!({"x": 1});
    assert!(matches!(
        seal(&strict, to(Some(MessageEncryption::None), true), &content).await,
        Err(EncryptionError::PlaintextForbidden)
    ));
    for asked in [to(Some(MessageEncryption::None), true), to(None, false)] {
        let sealed = seal(&open_minded, asked, &content).await.unwrap();
        assert_eq!(
            (sealed.encryption, sealed.scope, sealed.is_encrypted()),
            (MessageEncryption::None, EncryptionScope::None, false)
        );
        assert_eq!(open(&strict, &sealed).await.unwrap(), DecryptedContent::Plain(content.clone()));
    }
    let sealed = seal(&open_minded, to(None, true), &content).await.unwrap();
    assert_eq!(sealed.scope, EncryptionScope::AtRest, "what is to be encrypted is");
}

#[tokio::test]
async fn without_a_master_key_only_agents_with_keys_are_written_to() {
    let house = EncryptionTestService::new().await;
    let sealing = house.process(&[], false);
    assert!(!sealing.has_master_key());
    let content = json!({"x": 1});
    assert!(matches!(seal(&sealing, to(None, true), &content).await, Err(EncryptionError::NoMasterKey)));
    let public = AgentPrivateKey::generate().unwrap().public_key().unwrap();
    register(&sealing, KeyKind::X25519, &public.text()).await;
    assert_eq!(seal(&sealing, to(None, true), &content).await.unwrap().scope, EncryptionScope::SealedOnArrival);
    assert!(matches!(sealing.rotate().await, Err(EncryptionError::NoMasterKey)));
}

#[tokio::test]
async fn an_agents_own_key_is_what_it_is_written_to_with() {
    let house = EncryptionTestService::new().await;
    let sealing = house.process(&[("m", 1)], false);
    let content = json!({"x": "tomatoes"});
    let rsa = register(&sealing, KeyKind::Rsa, &rsa()).await;
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    let got = (sealed.encryption, sealed.scope, sealed.key_id.as_deref());
    assert_eq!(got, (MessageEncryption::Hybrid, EncryptionScope::SealedOnArrival, Some(rsa.key_id.as_str())));
    assert_eq!(
        seal(&sealing, to(Some(MessageEncryption::Rsa), true), &content).await.unwrap().encryption,
        MessageEncryption::Rsa
    );

    let secret = AgentPrivateKey::generate().unwrap();
    let first = register(&sealing, KeyKind::X25519, &secret.public_key().unwrap().text()).await;
    let again = register(&sealing, KeyKind::X25519, &secret.public_key().unwrap().text()).await;
    assert_eq!(again, first, "the same key again changes nothing");
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    assert_eq!((sealed.encryption, sealed.key_id.as_deref()), (MessageEncryption::Hpke, Some(first.key_id.as_str())));
    let DecryptedContent::Envelope(envelope) = open(&sealing, &sealed).await.unwrap() else { panic!() };
    assert!(!envelope.to_string().contains("tomatoes"));
    let envelope = ContentEnvelope::from_content(&envelope).unwrap().unwrap();
    assert_eq!(secret.open(&envelope, &envelope_binding()).unwrap(), content);
    assert!(secret.open(&envelope, &EnvelopeBinding { message_id: &"msg-2".into(), ..envelope_binding() }).is_err());

    let newer = AgentPrivateKey::generate().unwrap();
    let newest = register(&sealing, KeyKind::X25519, &newer.public_key().unwrap().text()).await;
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    assert_eq!(sealed.key_id.as_deref(), Some(newest.key_id.as_str()), "the newest is used");
    sealing.revoke_key(&caller(), &"b".into(), &newest.key_id).await.unwrap();
    let sealed = seal(&sealing, to(None, true), &content).await.unwrap();
    assert_eq!(sealed.key_id.as_deref(), Some(first.key_id.as_str()), "and a revoked one is not");
    let again = async |key_id: Option<AgentKeyId>| {
        let new = NewAgentKey { kind: KeyKind::X25519, public_key: newest.public_key.clone(), key_id };
        sealing.register_key(&caller(), &"b".into(), new, None).await
    };
    let other = again(Some("of another".into())).await;
    assert!(matches!(other, Err(EncryptionError::Invalid(found)) if found.path.to_string() == "key_id"));
    let back = again(Some(newest.key_id.clone())).await;
    assert!(matches!(back, Err(EncryptionError::InvalidState(_))));
    let page = PageRequest { limit: 2, ..PageRequest::default() };
    let (keys, total) = sealing.keys(&"b".into(), &page).await.unwrap();
    assert_eq!(
        (total, keys.iter().map(|key| &key.key_id).collect::<Vec<_>>()),
        (3, vec![&newest.key_id, &first.key_id])
    );
    assert_eq!(sealing.keys(&"a".into(), &page).await.unwrap().1, 0);
    assert!(matches!(
        sealing.revoke_key(&caller(), &"a".into(), &first.key_id).await,
        Err(EncryptionError::NotFound(_))
    ));
}

#[tokio::test]
async fn what_the_sender_sealed_is_kept_as_it_is_and_only_for_a_key_in_use() {
    let house = EncryptionTestService::new().await;
    let sealing = house.process(&[], false);
    let secret = AgentPrivateKey::generate().unwrap();
    let public = secret.public_key().unwrap();
    let content = json!({"x": 1});
    let envelope = json!(public.seal(MessageEncryption::Hpke, &envelope_binding(), &content).unwrap());
    let refused = seal(&sealing, to(None, true), &envelope).await;
    assert!(matches!(refused, Err(EncryptionError::Invalid(found)) if found.path.to_string() == "content.hpke.key_id"));
    let key = register(&sealing, KeyKind::X25519, &public.text()).await;
    for asked in [to(None, true), to(None, false), to(Some(MessageEncryption::Hpke), true)] {
        let sealed = seal(&sealing, asked, &envelope).await.unwrap();
        assert_eq!((sealed.encryption, sealed.scope), (MessageEncryption::Hpke, EncryptionScope::EndToEnd));
        assert_eq!(open(&sealing, &sealed).await.unwrap(), DecryptedContent::Envelope(envelope.clone()));
    }
    let other = seal(&sealing, to(Some(MessageEncryption::Aes256), true), &envelope).await;
    assert!(matches!(other, Err(EncryptionError::Invalid(found)) if found.path.to_string() == "encryption"));
    let all = EncryptionRequest { bound: CiphertextBinding { recipient: None, ..bound() }, ..to(None, true) };
    assert!(matches!(seal(&sealing, all, &envelope).await, Err(EncryptionError::Invalid(_))));
    sealing.revoke_key(&caller(), &"b".into(), &key.key_id).await.unwrap();
    assert!(matches!(seal(&sealing, to(None, true), &envelope).await, Err(EncryptionError::Invalid(_))));
}

#[tokio::test]
async fn masters_and_data_keys_are_changed_while_processes_run() {
    let house = EncryptionTestService::new().await;
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
    assert_eq!(uses, [("new".into(), true, 2), ("old".into(), false, 0)]);
    // Now the old master can go.
    let only = house.process(&[("new", 2)], false);
    for sealed in [&before, &after] {
        assert_eq!(open(&only, sealed).await.unwrap().into_value(), content);
        assert!(matches!(
            open(&house.process(&[("old", 1)], false), sealed).await,
            Err(EncryptionError::UnknownMasterKey(_))
        ));
    }
    assert_eq!(only.rotate().await.unwrap(), KeyRotationReport { master_id: "new".into(), retired: 1, rewrapped: 0 });
    assert_eq!(open(&only, &after).await.unwrap().into_value(), content);
}

#[tokio::test]
async fn many_data_keys_are_wrapped_anew_in_pieces() {
    let house = EncryptionTestService::new().await;
    let old = house.process(&[("old", 1)], false);
    let mut sealed = Vec::new();
    for n in 0..1201 {
        let (sealing, now) = (old.clone(), old.now());
        sealed.push(house.db.write(async move |tx: &mut Tx| {
            let channel = format!("ch-{n}").into();
            let bound = CiphertextBinding { channel: &channel, ..bound() };
            sealing.seal(tx, &EncryptionRequest { bound, ..to(None, true) }, &json!(n), now).await
        }));
    }
    let sealed = futures_util::future::try_join_all(sealed).await.unwrap();
    let new = house.process(&[("new", 2), ("old", 1)], false);
    assert_eq!(new.rotate().await.unwrap().rewrapped, 1201);
    let only = house.process(&[("new", 2)], false);
    for (n, sealed) in sealed.iter().enumerate() {
        let channel = format!("ch-{n}").into();
        let bound = CiphertextBinding { channel: &channel, ..bound() };
        let opened = only.open(&mut house.db.read().await.unwrap(), sealed, &bound).await.unwrap();
        assert_eq!(opened.into_value(), json!(n));
    }
    assert!(house.dir.path().exists());
}
