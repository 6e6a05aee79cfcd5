//! The audit log. Every change of state writes its entry in its own transaction, to the coordinator's table and, as a
//! leaf over all its columns, to a Merkle log with signed heads. Entries that the coordinator writes are added to the
//! Merkle log once they are found.

mod alarms;
mod checkpoint;
mod consumer;
mod continuity;
#[cfg(test)]
mod continuity_tests;
mod cosignature;
mod cosigned_heads;
mod custody;
mod event_webhooks;
mod export;
mod key_entries;
mod leaf;
mod look_through;
pub mod merkle;
mod model;
mod proofs;
mod sealing;
mod search;
mod store;
#[cfg(test)]
mod tests;
mod verification;
mod witnesses;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use checkpoint::{CheckpointError, LogCheckpoint, parse_log_key, verifier_key};
pub use continuity::{CustodyError, last_head_size};
pub use cosignature::{HeadCosignature, cosign};
pub use custody::KeyCustody;
pub use export::AuditExport;
pub use model::{
    AuditAlert, AuditEntry, AuditRecord, EntrySource, EventType, INVESTIGATION_THRESHOLD, LogKey, RISK_SCORES,
    SecurityLevel, SignedTreeHead, risk_score,
};
pub use proofs::{ConsistencyProof, InclusionProof, ProofError, verify_growth};
pub use search::{AuditCounts, AuditEntryView, AuditFilter, AuditPageRequest, SearchPage, risk_band};
pub use verification::{AuditFault, AuditVerificationReport, KeyChange, LogRestore, WitnessedSize, verify_export};
pub use witnesses::{WitnessError, WitnessService};

use alarms::LogAlarms;
use custody::EntryMac;
use leaf::SealedEntry;

use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    crypto::Signer,
    ids::AuditId,
};
use am_db::{
    Database, Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_webhooks::WebhookService;

/// Error of the audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// There is no entry with this id.
    #[error("there is no audit entry {0}")]
    NotFound(AuditId),
    /// The entry is not covered by a signed head yet; the value is its id.
    #[error("audit entry {0} is not covered by a signed head yet; the next head is signed within seconds")]
    NotSealed(AuditId),
    /// No signed head has this size.
    #[error("no head was signed over {0} entries")]
    HeadNotFound(u64),
}

/// Result of an audit operation.
pub type Result<T> = std::result::Result<T, AuditError>;

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<AuditLogInner>);

struct AuditLogInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    webhooks: WebhookService,
    signer: Signer,
    /// Name of the log in its heads.
    origin: String,
    /// Interval between two heads.
    every: Duration,
    /// Row number up to which the coordinator's table has no entries without a leaf.
    seen: AtomicI64,
    /// How many times others' commits were seen ([`Database::others_commits`]) when that was found out; 0: it was not.
    seen_commits: AtomicU64,
    /// Notified when an entry that requires investigation was written.
    nudge: Notify,
    custody: KeyCustody,
    /// Codes of this key's entries, and of the key before.
    macs: Vec<EntryMac>,
    /// The last head that this process signed, or found outside the database at its start.
    known: Mutex<Option<LogCheckpoint>>,
    /// The next complete subtree to read again.
    looked_at: AtomicU64,
    alarms: LogAlarms,
    /// Size of the last head that this process signed, for those who wait for heads.
    heads: watch::Sender<u64>,
}

/// Settings of the audit log.
pub struct AuditSettings {
    /// Name of the log in its heads, also the name of its key.
    pub origin: String,
    /// Interval between two signed heads.
    pub every: Duration,
}

impl AuditLog {
    /// The log of `db`, with heads signed by `signer`. Heads and alerts are published through `webhooks`.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        webhooks: WebhookService,
        signer: Signer,
        settings: AuditSettings,
    ) -> Self {
        let macs = vec![EntryMac::derive(&signer)];
        Self(Arc::new(AuditLogInner {
            db,
            clock,
            ids,
            webhooks,
            signer,
            origin: settings.origin,
            every: settings.every,
            seen: AtomicI64::new(0),
            seen_commits: AtomicU64::new(0),
            nudge: Notify::new(),
            custody: KeyCustody::default(),
            macs,
            known: Mutex::new(None),
            looked_at: AtomicU64::new(0),
            alarms: LogAlarms::default(),
            heads: watch::Sender::new(0),
        }))
    }

    /// The same log with this custody, and the head that is known from outside the database.
    fn rebuilt(&self, custody: KeyCustody, known: Option<LogCheckpoint>) -> Self {
        let inner = &self.0;
        let signers = std::iter::once(&inner.signer).chain(&custody.previous);
        Self(Arc::new(AuditLogInner {
            macs: signers.map(EntryMac::derive).collect(),
            custody,
            known: Mutex::new(known),
            db: inner.db.clone(),
            clock: inner.clock.clone(),
            ids: inner.ids.clone(),
            webhooks: inner.webhooks.clone(),
            signer: inner.signer.clone(),
            origin: inner.origin.clone(),
            every: inner.every,
            seen: AtomicI64::new(0),
            seen_commits: AtomicU64::new(0),
            nudge: Notify::new(),
            looked_at: AtomicU64::new(0),
            alarms: LogAlarms::default(),
            heads: watch::Sender::new(0),
        }))
    }

    fn known_head(&self) -> Option<LogCheckpoint> {
        self.0.known.lock().clone()
    }

    fn set_known_head(&self, head: LogCheckpoint) {
        *self.0.known.lock() = Some(head);
    }

    /// Why no head is signed; `None`: heads are signed.
    pub fn refusal(&self) -> Option<String> {
        self.0.alarms.refusal()
    }

    /// Register the metrics of the log.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.alarms.register(registry);
    }

    /// Append entries in the transaction of the change that they record.
    ///
    /// # Errors
    /// Returns a database error when the insert fails; the change is then rolled back as well.
    #[boxed]
    pub async fn append(&self, tx: &mut Tx, entries: Vec<AuditEntry>) -> am_db::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.rows(&entries).execute(tx).await
    }

    /// Append one entry in a transaction of its own, which tells of a change elsewhere, at most once for `once`.
    ///
    /// # Errors
    /// As the database.
    #[boxed]
    pub async fn record_once(
        &self,
        entry: AuditEntry,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AuditEntryView>> {
        let audit = self.clone();
        let work = async move |tx: &mut Tx| audit.record(tx, entry).await;
        let IdempotentResult { value: id, replayed } = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        Ok(IdempotentResult { value: self.get(&id).await?, replayed })
    }

    /// Append one entry in the transaction of the change that it tells of. Answers its id.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn record(&self, tx: &mut Tx, entry: AuditEntry) -> am_db::Result<AuditId> {
        let (now, id) = (Timestamp(self.0.clock.now()), self.new_id());
        let mut rows = RowBatch::default();
        self.push(&mut rows, &[SealedEntry::from_entry(&entry, id.clone(), now)]);
        rows.execute(tx).await?;
        Ok(id)
    }

    /// Rows of entries, to be inserted in the transaction of the change that they record.
    pub fn rows(&self, entries: &[AuditEntry]) -> RowBatch {
        let mut rows = RowBatch::default();
        self.add_entry_rows(&mut rows, entries);
        rows
    }

    /// Add the rows of entries to `rows`.
    pub fn add_entry_rows(&self, rows: &mut RowBatch, entries: impl AsRef<[AuditEntry]>) {
        let now = Timestamp(self.0.clock.now());
        let seal = |entry| SealedEntry::from_entry(entry, self.new_id(), now);
        let sealed: Vec<SealedEntry> = entries.as_ref().iter().map(seal).collect();
        self.push(rows, &sealed);
    }

    fn new_id(&self) -> AuditId {
        self.0.ids.next("audit_", 12).into()
    }

    fn push(&self, rows: &mut RowBatch, sealed: &[SealedEntry]) {
        if sealed.iter().any(|entry| entry.risk >= INVESTIGATION_THRESHOLD) {
            self.0.nudge.notify_one();
        }
        if let Some(mac) = self.0.macs.first() {
            store::add_sealed_rows(rows, sealed, mac);
        }
    }

    /// Name of the log and public key of its heads, in the form that verifiers of signed notes accept.
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.0.origin, self.0.signer.public_key())
    }

    /// Public key of the heads in hex, for `agent-management verify-audit`.
    pub fn public_key_hex(&self) -> String {
        self.0.signer.public_key_hex()
    }
}
