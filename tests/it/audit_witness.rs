//! Heads of the audit log and their witnesses: the service against the small witness of `examples/`, in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use am_audit::LogCheckpoint;
use am_core::crypto::{NoteKey, NoteKeyKind, Signer, sha256_hex};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, PATIENCE, ReservedPort, Server, TestApp, poll_interval},
    kit::{JsonDocument, jq, sql},
    operation::run_with,
};

const LOGS: &str = "/api/v1/agents/security/audit-logs";
const TREE: &str = "/api/v1/agents/security/audit-tree";
const ORIGIN: &str = "example.com/log";
const LOG_KEY: &str = "d81c29c42592cc5e9c25717e5f7fd8bc864069351df5fd3471dc7a62c62052fc";
const NAME: &str = "witness.example/w1";

fn log_signer() -> Signer {
    Signer::from_hex(LOG_KEY).unwrap()
}

/// The place of a witness: its key, its state, and the port that it listens on whenever it runs.
struct Place {
    dir: tempfile::TempDir,
    port: ReservedPort,
}

/// The witness's process; it is killed with the test.
struct Witness(Child);

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), port: ReservedPort::new() }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state.json")
    }

    fn signer(&self) -> Signer {
        Signer::load_or_create(&self.dir.path().join("witness.hex")).unwrap().0
    }

    fn key(&self) -> String {
        NoteKey::new(NAME, NoteKeyKind::Cosignature, self.signer().public_key().clone()).to_string()
    }

    /// `AUDIT_WITNESSES` with this witness alone.
    fn setting(&self) -> String {
        let url = format!("http://127.0.0.1:{}/", self.port.number());
        json!([{"url": url, "key": self.key(), "allow_private": true, "timeout_seconds": 5}]).to_string()
    }

    /// Start the witness, and wait until it listens.
    fn run(&self) -> Witness {
        let program =
            Path::new(env!("CARGO_BIN_EXE_agent-management")).parent().unwrap().join("examples/audit_witness");
        assert!(program.is_file(), "cargo builds it with all tests, or by `cargo build --example audit_witness`");
        let key = am_audit::verifier_key(ORIGIN, log_signer().public_key());
        let listen = format!("127.0.0.1:{}", self.port.number());
        let mut command = Command::new(program);
        command.args(["--listen", &listen, "--name", NAME, "--log", &key]).arg("--state").arg(self.state());
        command.arg("--key").arg(self.dir.path().join("witness.hex")).stdout(Stdio::piped());
        let mut witness = Witness(command.spawn().unwrap());
        let mut lines = BufReader::new(witness.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), self.key());
        assert!(lines.next().unwrap().unwrap().starts_with("listening on "));
        witness
    }

    async fn submit(&self, body: String) -> Answer {
        Answer::of(
            reqwest::Client::new().post(format!("http://127.0.0.1:{}/add-checkpoint", self.port.number())).body(body),
        )
        .await
    }
}

/// The settings of a log that is witnessed.
fn settings(place: &Place) -> [(&'static str, String); 4] {
    [
        ("AUDIT_SEAL_SECONDS", "1".to_owned()),
        ("AUDIT_ORIGIN", ORIGIN.to_owned()),
        ("AUDIT_SIGNING_KEY_HEX", LOG_KEY.to_owned()),
        ("AUDIT_WITNESSES", place.setting()),
    ]
}

async fn app(place: &Place) -> TestApp {
    settings(place).into_iter().fold(TestApp::builder(), |app, (name, value)| app.env(name, value)).start().await
}

/// Until the last head fulfils this.
async fn head_when(server: &ApiClient, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = server.get(&format!("{TREE}/head")).await;
        if answer.status == StatusCode::OK && wanted(&answer.body) {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "it never came: {}", answer.text);
        poll_interval().await;
    }
}

fn size(head: &Value) -> u64 {
    head["size"].as_u64().unwrap()
}

fn is_cosigned(head: &Value) -> bool {
    head["cosignatures"].as_array().is_some_and(|found| !found.is_empty())
}

/// Write an entry; the cosigned head over it.
async fn cosigned(server: &ApiClient) -> Value {
    let before = server.get(&format!("{TREE}/head")).await.body["size"].as_u64().unwrap_or(0);
    server.workflow(json!({"a": jq(".x")})).await;
    head_when(server, |head| size(head) > before && is_cosigned(head)).await
}

/// Until a sample of the witness has a value that fulfils this.
async fn metric_when(server: &ApiClient, name: &str, more: &str, wanted: impl Fn(f64) -> bool) {
    let sample = format!("{name}{{witness=\"{NAME}\"{more}}} ");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = server.get("/metrics").await.text;
        let value = page.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok());
        if value.is_some_and(&wanted) {
            return;
        }
        let said: Vec<&str> = page.lines().filter(|line| line.starts_with("audit_witness")).collect();
        assert!(Instant::now() < deadline, "{sample} in {said:#?}");
        poll_interval().await;
    }
}

async fn is_refused(server: &ApiClient, refused: bool) {
    metric_when(server, "audit_witness_refused", "", |value| value == f64::from(u8::from(refused))).await;
}

fn verify(dir: &Path, export: &str, log_key: &str, witness: Option<&str>) -> (bool, Value) {
    let mut arguments = vec!["verify-audit", "-", "--public-key", log_key];
    arguments.extend(witness.into_iter().flat_map(|key| ["--witness", key]));
    let done = run_with(dir, &arguments, &[("DATA_DIR", ".")], export);
    (done.status.success(), serde_json::from_slice(&done.stdout).unwrap_or_default())
}

#[tokio::test]
async fn heads_are_cosigned_shown_exported_and_verified() {
    let place = Place::new();
    let _witness = place.run();
    let server = app(&place).await;
    let head = cosigned(&server).await;
    let cosignature = &head["cosignatures"][0];
    assert_eq!(
        (cosignature.text("witness"), cosignature.text("key_id")),
        (NAME, place.key().split('+').nth(1).unwrap())
    );
    assert!(cosignature.text("cosigned_at").ends_with(".000000Z"), "{cosignature}");
    assert!(head.text("checkpoint").ends_with(&format!("{}\n", cosignature.text("line"))), "{head}");
    let note = server.request(Method::GET, &format!("{TREE}/head")).header("accept", "text/plain");
    let note = server.answer(note).await.text;
    assert_eq!(note, head.text("checkpoint"));
    let first = size(&head);
    let last = cosigned(&server).await;
    let entries = size(&last) as f64;
    metric_when(&server, "audit_witness_cosigned_size", "", |value| value == entries).await;
    is_refused(&server, false).await;
    let proof = server.get(&format!("{TREE}/consistency?from={first}&to={}", size(&last))).await.ok();
    assert!(proof["from"].text("checkpoint").contains(NAME), "proofs have the cosignatures too: {proof}");

    let (dir, log_key) = (server.dir().to_owned(), head.text("public_key").to_owned());
    let export = server.get(&format!("{LOGS}/export")).await.text;
    let (good, report) = verify(&dir, &export, &log_key, Some(&place.key()));
    assert!(good && report["cosigned"] == json!([{"witness": NAME, "size": size(&last)}]), "{report}");
    assert!(report["cosignatures"].as_u64().unwrap() >= 2, "{report}");
    let (good, report) = verify(&dir, &export, &log_key, None);
    assert!(good && report["cosigned"] == json!([]) && report["cosignatures"].as_u64().unwrap() >= 2, "{report}");

    // Another key in the witness's name, and the log's own key, are no witness's.
    let other = NoteKey::new(NAME, NoteKeyKind::Cosignature, log_signer().public_key().clone()).to_string();
    let (good, report) = verify(&dir, &export, &log_key, Some(&other));
    assert!(!good && report["cosigned"][0]["size"].is_null(), "{report}");
    assert!(report["first_fault"].text("what").contains("cosigned none of the heads"), "{report}");
    assert!(!verify(&dir, &export, &log_key, Some(head.text("verifier_key"))).0);
    // The cosignature of one head under another is a fault for those who know the key.
    let lines = |head: &Value| head["cosignatures"][0].text("line").to_owned();
    let swapped = export.replace(&lines(&last), &lines(&head));
    assert_ne!(swapped, export);
    let (good, report) = verify(&dir, &swapped, &log_key, Some(&place.key()));
    assert!(!good && report["first_fault"].text("what").contains(NAME), "{report}");
    assert!(verify(&dir, &swapped, &log_key, None).0);
}

#[tokio::test]
async fn sealing_goes_on_without_the_witness_and_it_catches_up() {
    let place = Place::new();
    let server = app(&place).await;
    server.workflow(json!({"a": jq(".x")})).await;
    let alone = head_when(&server, |head| size(head) > 0).await;
    assert!(!is_cosigned(&alone));
    let failed = ",result=\"failed\"";
    metric_when(&server, "audit_witness_submissions_total", failed, |value| value >= 1.0).await;
    let witness = place.run();
    let first = cosigned(&server).await;
    drop(witness);
    server.workflow(json!({"a": jq(".x")})).await;
    let second = head_when(&server, |head| size(head) > size(&first)).await;
    assert!(!is_cosigned(&second), "{second}");
    assert!(server.get("/health/ready").await.status == 200, "a witness that is down is no reason to stop");
    let _witness = place.run();
    let caught_up = head_when(&server, is_cosigned).await;
    assert!(size(&caught_up) >= size(&second));
    is_refused(&server, false).await;
}

#[tokio::test]
async fn another_size_than_expected_is_proved_from_once_more() {
    let place = Place::new();
    let witness = place.run();
    let server = app(&place).await;
    let first = cosigned(&server).await;
    // As after a crash between the witness's answer and its record: the witness knows a head, and the log does not know it.
    sql(&server.database(), "DROP TRIGGER am_audit_cosignatures_kept; DELETE FROM am_audit_cosignatures").await;
    let second = cosigned(&server).await;
    assert!(size(&second) > size(&first));
    // A witness that has lost its state.
    drop(witness);
    std::fs::remove_file(place.state()).unwrap();
    let _witness = place.run();
    let third = cosigned(&server).await;
    assert!(size(&third) > size(&second));
    is_refused(&server, false).await;
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_refused_and_told() {
    let place = Place::new();
    let _witness = place.run();
    let builder = settings(&place).into_iter().fold(Server::builder(), |server, (name, value)| server.env(name, value));
    let mut server = builder.start().await;
    cosigned(&server).await;
    assert!(server.terminate().success());
    let kept = server.dir().join("kept.db");
    std::fs::copy(server.database(), &kept).unwrap();
    let mut server = server.restart().await;
    for _ in 0..3 {
        cosigned(&server).await;
    }
    let lost = size(&head_when(&server, is_cosigned).await);
    assert!(server.terminate().success());
    // Whoever replaces the database and the file of the last head leaves nothing on this machine that tells.
    std::fs::copy(&kept, server.database()).unwrap();
    for rest in ["coordinator.db-wal", "coordinator.db-shm"] {
        let _ = std::fs::remove_file(server.dir().join(rest));
    }
    std::fs::remove_file(server.dir().join("audit-last-head.txt")).unwrap();
    let server = server.restart().await;
    server.workflow(json!({"a": jq(".x")})).await;
    let rolled_back = head_when(&server, |head| head["checkpoint"].is_string()).await;
    assert!(size(&rolled_back) < lost);
    is_refused(&server, true).await;
    server.logged("a witness refuses the audit log").await;
    // Once it is longer than it was, it still is another log.
    for _ in 0..4 {
        server.workflow(json!({"a": jq(".y")})).await;
    }
    let longer = head_when(&server, |head| size(head) > lost).await;
    server.logged(&format!("it cosigned over {lost} entries is not the beginning")).await;
    is_refused(&server, true).await;
    assert!(!is_cosigned(&longer) && !is_cosigned(&server.get(&format!("{TREE}/head")).await.ok()));
}

/// The node over two hashes, in RFC 6962's words.
fn node(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    hash(&[&[1][..], &left, &right].concat())
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    hex::decode(sha256_hex(bytes)).unwrap().try_into().unwrap()
}

fn note(origin: &str, size: u64, root: [u8; 32], signer: &Signer) -> String {
    LogCheckpoint { origin: origin.to_owned(), size, root, epoch: 1 }.sign([signer])
}

#[tokio::test]
async fn the_example_witness_answers_as_the_specification_says() {
    let place = Place::new();
    let witness = place.run();
    let signer = log_signer();
    let (a, b, c) = (hash(b"a"), hash(b"b"), hash(b"c"));
    let one = note(ORIGIN, 1, a, &signer);
    let two = note(ORIGIN, 2, node(a, b), &signer);
    let line = |hash: [u8; 32]| format!("{}\n", STANDARD.encode(hash));
    for (body, status) in [
        ("nonsense".to_owned(), 400),
        (one.clone(), 400),
        (format!("old 01\n\n{one}"), 400),
        (format!("old -1\n\n{one}"), 400),
        (format!("old 2\n\n{one}"), 400),
        (format!("old 0\n{}\n{one}", line(a).repeat(64)), 400),
        (format!("old 0\n\n{}", note("example.com/other", 1, a, &signer)), 404),
        (format!("old 0\n\n{}", note(ORIGIN, 1, a, &place.signer())), 403),
        (format!("old 0\n{}\n{one}", line(a)), 422),
    ] {
        assert_eq!(place.submit(body.clone()).await.status.as_u16(), status, "{body}");
    }
    let conflict = async |body: String, size: &str| {
        let answer = place.submit(body).await;
        let kind = answer.header("content-type").to_owned();
        assert_eq!((answer.status.as_u16(), kind.as_str(), answer.text.as_str()), (409, "text/x.tlog.size", size));
    };
    conflict(format!("old 1\n\n{one}"), "0\n").await;
    let cosigned = place.submit(format!("old 0\n\n{one}")).await;
    assert_eq!(cosigned.status, 200);
    assert!(cosigned.text.starts_with(&format!("\u{2014} {NAME} ")) && cosigned.text.ends_with('\n'));
    conflict(format!("old 0\n\n{two}"), "1\n").await;
    conflict(format!("old 1\n\n{}", note(ORIGIN, 1, b, &signer)), "1\n").await;
    assert_eq!(place.submit(format!("old 1\n\n{one}")).await.status, 200, "the same head again");
    assert_eq!(place.submit(format!("old 1\n{}\n{two}", line(c))).await.status, 422);
    // Of two histories that both continue its head, it cosigns one.
    let other = note(ORIGIN, 2, node(a, c), &signer);
    let (first, second) = tokio::join!(
        place.submit(format!("old 1\n{}\n{two}", line(b))),
        place.submit(format!("old 1\n{}\n{other}", line(c)))
    );
    let mut both = [first.status.as_u16(), second.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both, [200, 409]);
    drop(witness);
    let _witness = place.run();
    conflict(format!("old 1\n{}\n{two}", line(b)), "2\n").await;
}
