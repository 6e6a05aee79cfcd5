//! The parts of a request's way, each alone: `make bench`.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't be set up has nothing to measure")]

use std::{hint::black_box, path::PathBuf, sync::Arc, time::Duration};

use am_audit::AuditLog;
use am_communication::{
    encryption::{
        self, AgentPrivateKey, CiphertextBinding, EncryptedContent, EncryptionRequest, EncryptionService,
        EnvelopeBinding, KeyDirectory, KeyKind, MessageEncryption, NewAgentKey,
    },
    relations::AgentRelations,
};
use am_core::{
    ambient::{Clock, IdGenerator},
    crypto::{self, Signer},
    ids::{AgentId, ChannelId, MessageId},
};
use am_db::{Database, DatabaseSettings, Tx, principal::Principal};
use am_orchestration::jq;
use am_rl::{PolicyReference, PolicyServer, serving};
use am_webhooks::WebhookService;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{json, value::to_raw_value};
use tokio::runtime::Runtime;

fn receipts(c: &mut Criterion) {
    let payload = json!({
        "version": "1.0", "execution_id": "exec_0123456789", "total_cost": 0.03, "client_id": "key_0123456789abcdef0123",
        "steps": (0..3).map(|n| json!({"step": format!("step {n}"), "input_sha256": "0".repeat(64), "output_sha256": "f".repeat(64), "cost": 0.01})).collect::<Vec<_>>(),
    });
    let signer = Signer::from_hex(&"7".repeat(64)).unwrap();
    let mut group = c.benchmark_group("receipt");
    group.bench_function("canonical JSON", |b| b.iter(|| crypto::canonical_receipt_json(black_box(&payload))));
    group.bench_function("sign", |b| b.iter(|| signer.sign(black_box(&payload))));
    let signature = signer.sign(&payload);
    let keys = std::slice::from_ref(signer.public_key());
    group.bench_function("verify", |b| b.iter(|| crypto::verify_signature(black_box(&payload), &signature, keys)));
    group.finish();
}

fn database(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = DatabaseSettings { readers: 4, busy_timeout: Duration::from_secs(5) };
    let db = runtime.block_on(async {
        let db = Database::open(&dir.path().join("bench.db"), &settings).await.unwrap();
        am_db::migrate(&db, &Clock::system()).await.unwrap();
        db
    });
    let ids = IdGenerator::seeded(1);
    let write = |db: Database, id: String| async move {
        db.write(async move |tx: &mut Tx| {
            sqlx::query(
                "INSERT INTO am_definitions (hash, body, created_at) VALUES (?1, '{}', '2026-01-01 00:00:00.000000')",
            )
            .bind(id)
            .execute(tx.conn().await?)
            .await?;
            Ok::<_, am_db::DatabaseError>(())
        })
        .await
        .unwrap();
    };
    let mut group = c.benchmark_group("durable write");
    for callers in [1u64, 16, 64] {
        group.throughput(Throughput::Elements(callers));
        group.bench_function(format!("{callers} waiting"), |b| {
            b.to_async(&runtime).iter_batched(
                || (0..callers).map(|_| ids.hex(32)).collect::<Vec<_>>(),
                |batch| futures_util::future::join_all(batch.into_iter().map(|id| write(db.clone(), id))),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    runtime.block_on(db.close());
}

fn actions(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let settings = jq::JqSettings { workers: 2, timeout: Duration::from_secs(2), max_output: 1 << 20, memory_mb: 512 };
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_agent-management")).with_file_name("agent-management-jq");
    let pool = runtime.block_on(jq::JqPool::start(worker, Vec::new(), settings)).unwrap();
    let program: Arc<str> = "{y: (.x * 2)}".into();
    let input: Arc<serde_json::value::RawValue> = to_raw_value(&json!({"x": 21})).unwrap().into();
    let mut group = c.benchmark_group("action");
    group.bench_function("jq, one alone", |b| {
        b.to_async(&runtime).iter(|| async { pool.eval(program.clone(), input.clone()).await.unwrap() })
    });
    group.throughput(Throughput::Elements(32));
    group.bench_function("jq, 32 waiting", |b| {
        b.to_async(&runtime)
            .iter(|| futures_util::future::join_all((0..32).map(|_| pool.eval(program.clone(), input.clone()))));
    });
    let policies = PolicyServer::open(serving::ServingSettings::default(), IdGenerator::seeded(1)).unwrap();
    let reference: PolicyReference = "marketplace-ppo".parse().unwrap();
    group.throughput(Throughput::Elements(1));
    group.bench_function("policy, one alone", |b| {
        b.to_async(&runtime).iter(|| async { policies.act(&reference, vec![0.5; 9]).await.unwrap() });
    });
    group.finish();
    runtime.block_on(pool.shutdown());
}

/// A message of some 250 bytes: sealed and opened, with the statement that finds what to seal it with.
fn messages(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(5) };
    let (db, clock) = runtime.block_on(async {
        let db = Database::open(&dir.path().join("bench.db"), &settings).await.unwrap();
        am_db::migrate(&db, &Clock::system()).await.unwrap();
        (db, Clock::system())
    });
    let webhooks = WebhookService::new(db.clone(), clock.clone(), IdGenerator::seeded(1), &Default::default()).unwrap();
    let log = am_audit::AuditSettings { origin: "bench".to_owned(), every: Duration::from_secs(5) };
    let audit = AuditLog::new(
        db.clone(),
        clock.clone(),
        IdGenerator::seeded(1),
        webhooks,
        Signer::from_hex(&"7".repeat(64)).unwrap(),
        log,
    );
    let master = ("m".to_owned(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into());
    let keys = encryption::EncryptionSettings { masters: vec![master], allow_plaintext: false };
    let sealing =
        EncryptionService::new(db.clone(), clock.clone(), IdGenerator::seeded(1), audit.clone(), keys).unwrap();
    let relations = AgentRelations::new(db.clone(), clock.clone(), audit, false);
    let content = json!({"task": "x".repeat(200), "budget": 1.5, "tags": ["a", "b", "c"]});
    let (message_id, channel): (&MessageId, &ChannelId) = (&"m1".into(), &"c1".into());
    let [sender, keyless, keyed] = &["a", "b", "keyed"].map(AgentId::from);
    let bound = |recipient| CiphertextBinding { message_id, channel, sender, recipient: Some(recipient) };
    let to = |recipient| EncryptionRequest { bound: bound(recipient), encryption: None, encrypt: true };
    let secret = AgentPrivateKey::generate().unwrap();
    let public = secret.public_key().unwrap();
    let somebody = Principal { name: "dev_key".into(), aliases: Arc::new([]), origin: None, agent: None };
    let at_rest = runtime.block_on(async {
        let new = NewAgentKey { kind: KeyKind::X25519, public_key: public.text(), key_id: None };
        sealing.register_key(&somebody, keyed, new, None).await.unwrap();
        let (sealing, content) = (sealing.clone(), content.clone());
        let now = am_db::codec::Timestamp(clock.now());
        db.write(async move |tx: &mut Tx| {
            let (message_id, channel, recipient) = (&"m1".into(), &"c1".into(), Some(&"b".into()));
            let bound = CiphertextBinding { message_id, channel, sender: &"a".into(), recipient };
            sealing.seal(tx, &EncryptionRequest { bound, encryption: None, encrypt: true }, &content, now).await
        })
        .await
        .unwrap()
    });
    let mut conn = runtime.block_on(db.read()).unwrap();
    let mut group = c.benchmark_group("message");
    group.bench_function("permit", |b| {
        b.iter(|| runtime.block_on(relations.permit(&mut conn, sender, keyless)).unwrap());
    });
    group.bench_function("seal at rest", |b| {
        b.iter(|| runtime.block_on(seal(&sealing, &mut conn, &to(keyless), &content)));
    });
    group.bench_function("open at rest", |b| {
        b.iter(|| runtime.block_on(sealing.open(&mut conn, &at_rest, &bound(keyless))).unwrap());
    });
    group.bench_function("seal on arrival", |b| {
        b.iter(|| runtime.block_on(seal(&sealing, &mut conn, &to(keyed), &content)));
    });
    let message = &EnvelopeBinding { message_id, sender, recipient: keyed };
    group.bench_function("HPKE seal alone", |b| {
        b.iter(|| public.seal(MessageEncryption::Hpke, message, &content).unwrap())
    });
    let envelope = public.seal(MessageEncryption::Hpke, message, &content).unwrap();
    group.bench_function("HPKE open alone", |b| b.iter(|| secret.open(&envelope, message).unwrap()));
    group.finish();
    drop(conn);
    runtime.block_on(db.close());
}

async fn seal(
    sealing: &EncryptionService,
    conn: &mut am_db::Connection,
    to: &EncryptionRequest<'_>,
    content: &serde_json::Value,
) -> EncryptedContent {
    let mut keys = KeyDirectory::default();
    sealing.learn(conn, &mut keys, &[to.bound.channel], to.bound.recipient.as_slice()).await.unwrap();
    sealing.plan(&mut keys, to, content).unwrap().seal(&to.bound, content).unwrap()
}

criterion_group!(benches, receipts, database, actions, messages);
criterion_main!(benches);
