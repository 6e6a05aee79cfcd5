//! A small witness of audit logs (<https://c2sp.org/tlog-witness>): it cosigns a head if that continues the last one that it cosigned,
//! and so a log that shows different people different histories needs the witness's help.
//!
//! `cargo run --example audit_witness -- --listen 127.0.0.1:8013 --name witness.example/w1 --key witness.hex --state witness.json
//! --log "$VERIFIER_KEY"`; the log's `verifier_key` stands in the answer of `audit-tree/head`. It prints its own verifier key and
//! its address, and then serves until it is ended.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use am_audit::{LogCheckpoint, cosign, verify_growth};
use am_core::{
    ambient::Clock,
    atomic_file::write_atomically,
    crypto::{Ed25519PublicKey, NoteKey, NoteKeyKind, Signer},
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use clap::Parser;
use parking_lot::Mutex;

/// Bytes of a request: 63 hashes and a checkpoint with many signatures.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Hashes of a proof at most, by the specification.
const MAX_PROOF_HASHES: usize = 63;

/// A witness that cosigns heads of audit logs.
#[derive(Parser)]
struct WitnessArguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8013")]
    listen: SocketAddr,
    /// Name of the witness, a URL without a scheme.
    #[arg(long)]
    name: String,
    /// File of the Ed25519 key, 64 hex digits; it is created if it is missing.
    #[arg(long)]
    key: PathBuf,
    /// File of the last head of each log; it is created if it is missing. Without it the witness has forgotten all.
    #[arg(long)]
    state: PathBuf,
    /// Verifier key of a log, NAME+HASH+BASE64. Repeatable, also for several keys of one log.
    #[arg(long = "log", value_name = "KEY", required = true)]
    logs: Vec<String>,
}

struct Witness {
    name: String,
    signer: Signer,
    clock: Clock,
    /// Keys of the logs by their origins.
    logs: BTreeMap<String, Vec<Ed25519PublicKey>>,
    state: PathBuf,
    /// The last head that was cosigned, as the log sent it, by origin. The lock is held from the check to the answer.
    heads: Mutex<BTreeMap<String, String>>,
}

/// Why a head is not cosigned.
enum Refusal {
    Status(StatusCode),
    /// The last head that was cosigned has this size.
    Conflict(u64),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Status(status) => status.into_response(),
            Self::Conflict(size) => {
                (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n"))
                    .into_response()
            }
        }
    }
}

/// A request as it was sent: the old size, the proof and the checkpoint.
struct Submission<'a> {
    old: u64,
    proof: Vec<String>,
    note: &'a str,
}

fn parse_request(body: &str) -> Option<Submission<'_>> {
    let (head, note) = body.split_once("\n\n")?;
    let mut lines = head.split('\n');
    let digits = lines.next()?.strip_prefix("old ")?;
    let old: u64 = digits.parse().ok().filter(|old: &u64| old.to_string() == digits)?;
    let proof: Vec<String> = lines.map(str::to_owned).collect();
    (proof.len() <= MAX_PROOF_HASHES && note.ends_with('\n')).then_some(Submission { old, proof, note })
}

impl Witness {
    /// Check a request, in the specification's order, and cosign its checkpoint.
    fn add_checkpoint(&self, body: &str) -> Result<String, Refusal> {
        let refuse = |status| Err(Refusal::Status(status));
        let Some(Submission { old, proof, note }) = parse_request(body) else { return refuse(StatusCode::BAD_REQUEST) };
        let Ok(new) = LogCheckpoint::parse(note) else { return refuse(StatusCode::BAD_REQUEST) };
        let Some(keys) = self.logs.get(&new.origin) else { return refuse(StatusCode::NOT_FOUND) };
        if LogCheckpoint::parse_verified_by(note, keys).is_err() {
            return refuse(StatusCode::FORBIDDEN);
        }
        if old > new.size {
            return refuse(StatusCode::BAD_REQUEST);
        }
        let mut heads = self.heads.lock();
        let last = heads.get(&new.origin).and_then(|note| LogCheckpoint::parse(note).ok());
        let known = last.as_ref().map_or(0, |last| last.size);
        let other_root = last.as_ref().is_some_and(|last| last.size == new.size && last.root != new.root);
        if old != known || other_root {
            return Err(Refusal::Conflict(known));
        }
        let holds = match &last {
            Some(last) if last.size > 0 => verify_growth(last, &new, &proof).is_ok(),
            _ => proof.is_empty(),
        };
        if !holds {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY);
        }
        let Ok(line) = cosign(note, &self.name, &self.signer, self.clock.now()) else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let mut next = heads.clone();
        next.insert(new.origin, note.to_owned());
        let text = serde_json::to_string_pretty(&next).map_err(io::Error::other);
        // What is not on the disk was not cosigned: after a crash the answer would be forgotten.
        if text.and_then(|text| write_atomically(&self.state, text.as_bytes(), 0o600)).is_err() {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR);
        }
        *heads = next;
        Ok(line)
    }
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: String) -> Response {
    // The disk is waited for, which is nothing for the threads that serve connections.
    let done = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    match done {
        Ok(Ok(line)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn open(arguments: WitnessArguments) -> Result<Witness, Box<dyn Error>> {
    let WitnessArguments { name, key, state, logs, .. } = arguments;
    let (signer, _) = Signer::load_or_create(&key)?;
    let heads: BTreeMap<String, String> = match fs::read_to_string(&state) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    for (origin, note) in &heads {
        // A head that can't be read must not count as none.
        LogCheckpoint::parse(note).map_err(|error| format!("{}: {origin}: {error}", state.display()))?;
    }
    let mut known: BTreeMap<String, Vec<Ed25519PublicKey>> = BTreeMap::new();
    for text in logs {
        let log = NoteKey::parse(&text, NoteKeyKind::Note).map_err(|error| format!("--log {text}: {error}"))?;
        known.entry(log.name().to_owned()).or_default().push(log.key().clone());
    }
    Ok(Witness { name, signer, clock: Clock::system(), logs: known, state, heads: Mutex::new(heads) })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = WitnessArguments::parse();
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    let witness = open(arguments)?;
    let key = NoteKey::new(&witness.name, NoteKeyKind::Cosignature, witness.signer.public_key().clone());
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(Arc::new(witness));
    writeln!(io::stdout(), "{key}\nlistening on {}", listener.local_addr()?)?;
    Ok(axum::serve(listener, router).await?)
}
