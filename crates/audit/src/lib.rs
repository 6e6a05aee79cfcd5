//! The audit log. Every change of state writes its entry in its own transaction, into the coordinator's table and, as a
//! leaf over all of its columns, into a Merkle log beside it whose heads are signed. What the coordinator writes is sealed
//! when it is seen.

mod checkpoint;
mod export;
mod follow;
mod leaf;
mod merkle;
mod model;
mod proofs;
mod seal;
mod search;
mod store;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use tokio::sync::Notify;

pub use checkpoint::verifier_key;
pub use export::{Export, FaultFound, Report, verify};
pub use follow::Fact;
pub use model::{Entry, EventType, INVESTIGATE, SecurityLevel, Source, risk};
pub use proofs::{Consistency, Inclusion, ProofError};
pub use seal::Alert;
pub use search::{Counts, Filter, Found, Page, Record, risk_band};
pub use store::Head;

use leaf::Sealed;

use am_core::{
    ambient::{Clock, Ids},
    crypto::Signer,
};
use am_db::{Database, Tx, codec::Timestamp, rows::Rows};
use am_webhooks::Webhooks;

/// What can go wrong in the audit log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// There is no such entry.
    #[error("there is no audit entry {0}")]
    NotFound(String),
    /// It has no place below a signed head yet.
    #[error("audit entry {0} is below no signed head yet; the next one is signed within seconds")]
    NotSealed(String),
    /// No head has this size.
    #[error("no head was signed over {0} entries")]
    NoHead(u64),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    webhooks: Webhooks,
    signer: Signer,
    /// The log's name in its heads.
    origin: String,
    /// Between two heads.
    every: Duration,
    /// The coordinator's rows were looked through up to this number.
    seen: AtomicI64,
    /// Something somebody should look at was written.
    nudge: Notify,
}

/// How the log is kept.
pub struct Settings {
    /// Its name in heads and as their key's.
    pub origin: String,
    /// Between two heads.
    pub every: Duration,
}

impl Audit {
    /// The log of `db`, whose heads `signer` signs. Heads and alerts go out by `webhooks`.
    pub fn new(
        (db, clock, ids): (Database, Clock, Ids),
        webhooks: Webhooks,
        signer: Signer,
        settings: Settings,
    ) -> Self {
        Self(Arc::new(Inner {
            db,
            clock,
            ids,
            webhooks,
            signer,
            origin: settings.origin,
            every: settings.every,
            seen: AtomicI64::new(0),
            nudge: Notify::new(),
        }))
    }

    /// Append entries in the transaction of the change that they tell of.
    ///
    /// # Errors
    /// As the database; the change is then undone too.
    pub async fn append(&self, tx: &mut Tx, entries: Vec<Entry>) -> am_db::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.rows(&entries).execute(tx).await
    }

    /// Append one entry in its own transaction, that of a change elsewhere. Answers its id.
    ///
    /// # Errors
    /// As the database.
    pub async fn record(&self, tx: &mut Tx, entry: Entry) -> am_db::Result<String> {
        let (now, id) = (Timestamp(self.0.clock.now()), self.0.ids.next("audit_", 12));
        let mut rows = Rows::default();
        self.push(&mut rows, &[Sealed::of(&entry, id.clone(), now)]);
        rows.execute(tx).await?;
        Ok(id)
    }

    /// The rows of entries, to be written in the transaction of the change that they tell of.
    pub fn rows(&self, entries: &[Entry]) -> Rows {
        let mut rows = Rows::default();
        self.add_to(&mut rows, entries);
        rows
    }

    /// Append entries among `rows`.
    pub fn add_to(&self, rows: &mut Rows, entries: impl AsRef<[Entry]>) {
        let now = Timestamp(self.0.clock.now());
        let seal = |entry| Sealed::of(entry, self.0.ids.next("audit_", 12), now);
        let sealed: Vec<Sealed> = entries.as_ref().iter().map(seal).collect();
        self.push(rows, &sealed);
    }

    fn push(&self, rows: &mut Rows, sealed: &[Sealed]) {
        if sealed.iter().any(|entry| entry.risk >= INVESTIGATE) {
            self.0.nudge.notify_one();
        }
        store::push(rows, sealed);
    }

    /// The log's name, and the key that its heads are signed with as verifiers of signed notes take it.
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.0.origin, self.0.signer.public_key())
    }

    /// The same key in hex, for `agent-management verify-audit`.
    pub fn public_key_hex(&self) -> String {
        self.0.signer.public_key_hex()
    }
}
