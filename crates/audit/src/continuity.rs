//! Whether the log continues what was signed. A head is signed only over a tree whose beginning is that of the last head, in
//! the database and outside of it; a change of keys and a restore are entries that are signed themselves.

use serde_json::{Map, Value, json};

use super::{
    AuditEntry, AuditLog, EventType, KeyCustody, Result, SecurityLevel,
    checkpoint::{LogCheckpoint, verifier_key},
    custody::{read_last_head, write_last_head},
    key_entries::{KEY_REPLACED, KEY_ROTATED, RESTORED, sign_members},
    leaf,
    model::{EntrySource, LogKey, SignedTreeHead},
    store,
};
use am_core::{
    boxed,
    crypto::{Ed25519PublicKey, Signer},
    ids::AuditId,
};
use am_db::{Connection, Database, DatabaseError, Tx, codec::Timestamp};
use am_webhooks::{WebhookEvent, WebhookEventKind};

/// Reason why the log cannot be opened or restarted.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] DatabaseError),
    /// The file of the last head cannot be read.
    #[error("the last signed head, {0}: {1}")]
    LastHead(std::path::PathBuf, std::io::Error),
    /// The last head was signed by a key that is not there; the value is its size.
    #[error(
        "the log has a head over {0} entries that neither this key signed nor AUDIT_PREVIOUS_SIGNING_KEY_HEX; restore the \
         key, or, if it is lost, start once with --new-audit-key (AUDIT_NEW_KEY=true)"
    )]
    MissingKey(u64),
    /// The log continues the last head.
    #[error("the log continues the last signed head; nothing was restored")]
    NothingRestored,
    /// The database does not fit its own heads.
    #[error("this database does not fit its own heads, so it is no backup of the log: {0}")]
    Damaged(String),
}

/// Which key signed a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadSigner {
    Current,
    Previous,
    /// Another one, which the operator said is lost.
    Lost,
}

/// The last head of the database.
pub(super) struct LastHead {
    checkpoint: LogCheckpoint,
    by: HeadSigner,
}

/// What the last head is compared with, and which head comes next.
pub(super) type Continuity = std::result::Result<Option<LastHead>, String>;

impl LastHead {
    pub(super) fn size(&self) -> u64 {
        self.checkpoint.size
    }

    pub(super) fn epoch(&self) -> u64 {
        self.checkpoint.epoch
    }

    /// Whether another key signed it than the one that signs now.
    pub(super) fn needs_key_change(&self) -> bool {
        self.by != HeadSigner::Current
    }
}

/// Size of the last head in the database; `None` when no head was signed yet.
///
/// # Errors
/// Returns a database error when a query fails.
#[boxed]
pub async fn last_head_size(db: &Database) -> am_db::Result<Option<u64>> {
    Ok(store::head_until(&mut *db.read().await?, u64::MAX).await?.map(|head| head.size))
}

impl AuditLog {
    /// Take `custody` of the log's keys: the last head must be signed by one of them.
    ///
    /// # Errors
    /// Returns [`CustodyError::MissingKey`] when it is not, and [`CustodyError::LastHead`] when the file of the last head
    /// is damaged.
    #[boxed]
    pub async fn with_custody(self, custody: KeyCustody) -> std::result::Result<Self, CustodyError> {
        let kept = match &custody.last_head {
            Some(path) => read_last_head(path).map_err(|error| CustodyError::LastHead(path.clone(), error))?,
            None => None,
        };
        let audit = self.rebuilt(custody, kept);
        let head = store::head_until(&mut *audit.0.db.read().await?, u64::MAX).await?;
        if let Some(head) = head
            && audit.signed_by(&head.checkpoint).is_none()
        {
            return Err(CustodyError::MissingKey(head.size));
        }
        Ok(audit)
    }

    fn signed_by(&self, note: &str) -> Option<(LogCheckpoint, HeadSigner)> {
        let by = |key| LogCheckpoint::parse_verified(note, key).ok();
        if let Some(checkpoint) = by(self.0.signer.public_key()) {
            return Some((checkpoint, HeadSigner::Current));
        }
        if let Some(previous) = &self.0.custody.previous
            && let Some(checkpoint) = by(previous.public_key())
        {
            return Some((checkpoint, HeadSigner::Previous));
        }
        let lost = LogCheckpoint::parse(note).ok().filter(|_| self.0.custody.accept_new_key)?;
        Some((lost, HeadSigner::Lost))
    }

    /// Compare the tree with the last head of the database and with the last one that this process knows of.
    pub(super) async fn check_continuity(&self, conn: &mut Connection) -> am_db::Result<Continuity> {
        let last = match self.last_sound_head(conn).await? {
            Ok(last) => last,
            Err(what) => return Ok(Err(what)),
        };
        let Some(kept) = self.known_head() else { return Ok(Ok(last)) };
        let size = last.as_ref().map_or(0, LastHead::size);
        // Only the command for restores signs a head of a later epoch.
        if last.as_ref().is_some_and(|last| last.checkpoint.epoch > kept.epoch && last.by == HeadSigner::Current) {
            return Ok(Ok(last));
        }
        if size < kept.size {
            let what =
                format!("a head over {} entries was signed, but the database ends with one over {size}", kept.size);
            return Ok(Err(what));
        }
        let same = match &last {
            Some(last) if last.checkpoint.size == kept.size => last.checkpoint.root == kept.root,
            _ => is_root_of(conn, &kept).await?,
        };
        let what = || format!("the first {} entries are not those of the head that was signed over them", kept.size);
        Ok(if same { Ok(last) } else { Err(what()) })
    }

    /// The last head of the database, if its signature is good and its tree is the database's.
    async fn last_sound_head(&self, conn: &mut Connection) -> am_db::Result<Continuity> {
        let Some(head) = store::head_until(conn, u64::MAX).await? else { return Ok(Ok(None)) };
        let Some((checkpoint, by)) = self.signed_by(&head.checkpoint) else {
            return Ok(Err(format!("the database's head over {} entries is not signed by this log's keys", head.size)));
        };
        if checkpoint.size != head.size || checkpoint.origin != self.0.origin && by == HeadSigner::Current {
            return Ok(Err(format!("the database's head over {} entries is another's", head.size)));
        }
        if !is_root_of(conn, &checkpoint).await? {
            return Ok(Err(format!("the first {} entries are not those that the database's head is over", head.size)));
        }
        Ok(Ok(Some(LastHead { checkpoint, by })))
    }

    /// Sign a head over `size` entries, whose complete subtrees since the last head are `tiles`.
    pub(super) async fn add_head(&self, tx: &mut Tx, next: NewHead) -> am_db::Result<SignedTreeHead> {
        let now = Timestamp(self.0.clock.now());
        store::insert_tiles(tx, &next.tiles).await?;
        let root = store::range_hash(tx.conn().await?, 0..next.size).await?;
        let checkpoint = LogCheckpoint { origin: self.0.origin.clone(), size: next.size, root, epoch: next.epoch };
        let before = self.0.custody.previous.as_ref().filter(|_| next.with_previous);
        let note = checkpoint.sign(std::iter::once(&self.0.signer).chain(before));
        let head = SignedTreeHead { size: next.size, root: hex::encode(root), checkpoint: note, made_at: now };
        if store::insert_head(tx, &head).await? {
            self.record_key(tx, &next, now).await?;
            // Published off the host, because a log alone can't prove that its end was not cut off.
            let kind = WebhookEventKind::AuditHead;
            let source = match next.epoch {
                1 => format!("{}/{}", kind.word(), next.size),
                epoch => format!("{}/{epoch}/{}", kind.word(), next.size),
            };
            let event = WebhookEvent { kind, owner: None, data: &head, source: Some(&source) };
            self.0.webhooks.enqueue(tx, event, now).await.map_err(to_database_error)?;
        }
        Ok(head)
    }

    /// Record the key with the first head that it signs.
    async fn record_key(&self, tx: &mut Tx, next: &NewHead, now: Timestamp) -> am_db::Result<()> {
        let keys = store::log_keys(tx.conn().await?).await?;
        let public_key = self.0.signer.public_key_hex();
        if keys.last().is_some_and(|last| last.public_key == public_key) {
            return Ok(());
        }
        let key = |key: &Ed25519PublicKey, first_size, change: &str, audit_id| LogKey {
            first_size,
            public_key: key.to_hex(),
            verifier_key: verifier_key(&self.0.origin, key),
            change: change.to_owned(),
            audit_id,
            begun_at: now,
        };
        if let (true, true, Some(previous)) = (keys.is_empty(), next.with_previous, &self.0.custody.previous) {
            store::insert_log_key(tx, &key(previous.public_key(), 1, "first", None)).await?;
        }
        let first = keys.is_empty() && next.change.is_none();
        let change = next.change.as_ref().map_or("first", |(change, _)| change);
        let id = next.change.as_ref().map(|(_, id)| id.clone());
        store::insert_log_key(tx, &key(self.0.signer.public_key(), if first { 1 } else { next.size }, change, id)).await
    }

    /// Remember a head that was signed, in memory and in its file.
    pub(super) async fn keep_head(&self, head: &SignedTreeHead) {
        let Ok(checkpoint) = LogCheckpoint::parse(&head.checkpoint) else { return };
        self.set_known_head(checkpoint);
        self.0.heads.send_replace(head.size);
        let Some(path) = self.0.custody.last_head.clone() else { return };
        let note = head.checkpoint.clone();
        let written = tokio::task::spawn_blocking(move || write_last_head(&path, &note)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "the last signed head can't be kept outside the database");
        }
    }

    /// Append the entry that tells of the change of keys, and sign a head over it by both keys.
    pub(super) async fn change_key(&self) -> Result<Option<SignedTreeHead>> {
        let audit = self.clone();
        let signed = self.0.db.write(async move |tx: &mut Tx| {
            let Ok(Some(last)) = audit.check_continuity(tx.conn().await?).await? else { return Ok(None) };
            let change = audit.record_key_change(tx, &last).await?;
            let rotated = last.by == HeadSigner::Previous;
            audit.head_now(tx, last.size(), last.checkpoint.epoch, rotated, Some(change)).await.map(Some)
        });
        let head: std::result::Result<Option<SignedTreeHead>, DatabaseError> = signed.await;
        let head = head?;
        if let Some(head) = &head {
            self.keep_head(head).await;
            tracing::warn!(size = head.size, key = self.0.signer.public_key_hex(), "another key signs the audit log");
        }
        Ok(head)
    }

    /// Append the entry that tells of the change of keys since `last`. Answers the change and the entry's id.
    async fn record_key_change(&self, tx: &mut Tx, last: &LastHead) -> am_db::Result<(&'static str, AuditId)> {
        let (action, change) = match last.by {
            HeadSigner::Previous => (KEY_ROTATED, "rotated"),
            HeadSigner::Current | HeadSigner::Lost => (KEY_REPLACED, "replaced"),
        };
        Ok((change, self.record(tx, self.key_entry(last, action)).await?))
    }

    fn key_entry(&self, last: &LastHead, action: &str) -> AuditEntry {
        let mut members = Map::new();
        members.insert("head_size".into(), json!(last.size()));
        members.insert("head_root".into(), json!(hex::encode(last.checkpoint.root)));
        members.insert("new_public_key".into(), json!(self.0.signer.public_key_hex()));
        let previous = self.0.custody.previous.as_ref().filter(|_| last.by == HeadSigner::Previous);
        self.own_entry(action, members, previous)
    }

    fn own_entry(&self, action: &str, members: Map<String, Value>, previous: Option<&Signer>) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(self.0.clock.now()))
            .on_behalf_of("system")
            .level(SecurityLevel::Restricted);
        let members = sign_members(action, members, &self.0.signer, previous);
        members.into_iter().fold(entry, |entry, (name, value)| entry.data(&name, value))
    }

    /// A head over all entries, within the transaction.
    async fn head_now(
        &self,
        tx: &mut Tx,
        from: u64,
        epoch: u64,
        with_previous: bool,
        change: Option<(&'static str, AuditId)>,
    ) -> am_db::Result<SignedTreeHead> {
        let conn = tx.conn().await?;
        let size = store::log_size(conn).await?;
        let tiles = store::compute_new_tiles(conn, from, size).await?;
        self.add_head(tx, NewHead { size, epoch, tiles, with_previous, change }).await
    }

    /// Accept an older state of the log that was restored from a backup: an entry tells from which head on entries are
    /// lost, and the head over it begins another epoch.
    ///
    /// # Errors
    /// Returns [`CustodyError::NothingRestored`] when the log continues the last head, and [`CustodyError::Damaged`] when
    /// the database does not even fit its own heads.
    #[boxed]
    pub async fn accept_restore(&self, reason: &str) -> std::result::Result<SignedTreeHead, CustodyError> {
        let (audit, reason) = (self.clone(), reason.to_owned());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let (Some(kept), Err(_)) = (audit.known_head(), audit.check_continuity(conn).await?) else {
                return Err(CustodyError::NothingRestored);
            };
            let last = audit.last_sound_head(conn).await?.map_err(CustodyError::Damaged)?;
            let from = last.as_ref().map_or(0, LastHead::size);
            let epoch = last.as_ref().map_or(1, |last| last.checkpoint.epoch).max(kept.epoch) + 1;
            let mut members = Map::new();
            members.insert("epoch".into(), json!(epoch));
            members.insert("head_size".into(), json!(from));
            members.insert("lost_size".into(), json!(kept.size));
            members.insert("lost_root".into(), json!(hex::encode(kept.root)));
            members.insert("reason".into(), json!(reason));
            // A backup from before a change of keys.
            let change = match &last {
                Some(last) if last.by != HeadSigner::Current => Some(audit.record_key_change(tx, last).await?),
                _ => None,
            };
            audit.record(tx, audit.own_entry(RESTORED, members, None)).await?;
            let with_previous = change.as_ref().is_some_and(|(change, _)| *change == "rotated");
            Ok(audit.head_now(tx, from, epoch, with_previous, change).await?)
        };
        let head = self.0.db.write(work).await?;
        self.keep_head(&head).await;
        self.0.alarms.accept();
        Ok(head)
    }

    /// Give entries that only claim to be the service's own to the coordinator. They are not covered by a head yet.
    pub(super) async fn disown_foreign(&self, conn: &mut Connection, from: u64, size: u64) -> Result<bool> {
        let claimed = store::claimed_entries(conn, from..size).await?;
        let is_own = |entry: &store::ClaimedEntry| {
            let leaf = hex::decode(&entry.leaf_hash).ok().and_then(|leaf| leaf.try_into().ok());
            let (Some(leaf), Some(mac)) = (leaf, &entry.mac) else { return false };
            self.0.macs.iter().any(|key| key.tag(&entry.audit_id, &leaf) == *mac)
        };
        let foreign: Vec<u64> = claimed.iter().filter(|entry| !is_own(entry)).map(|entry| entry.seq).collect();
        if foreign.is_empty() {
            return Ok(false);
        }
        let seqs = foreign.clone();
        let work = async move |tx: &mut Tx| {
            for seq in seqs {
                let found = store::read_exported(tx.conn().await?, seq - 1, 1).await?;
                let Some(entry) = found.into_iter().find(|entry| entry.seq == seq) else { continue };
                let sealed = hex::decode(&entry.leaf_hash).ok().and_then(|leaf| leaf.try_into().ok());
                let columns = entry.columns.as_ref();
                let leaf = columns.map(|columns| leaf::leaf_hash(EntrySource::Coordinator, columns));
                store::disown_entry(tx, seq, &leaf.or(sealed).unwrap_or_default()).await?;
            }
            Ok::<_, DatabaseError>(())
        };
        self.0.db.write(work).await?;
        self.0.alarms.disowned(&foreign);
        Ok(true)
    }

    /// Keys that signed heads, oldest first.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn keys(&self) -> Result<Vec<LogKey>> {
        Ok(store::log_keys(&mut *self.0.db.read().await?).await?)
    }
}

/// The next head.
pub(super) struct NewHead {
    pub(super) size: u64,
    pub(super) epoch: u64,
    /// Complete subtrees since the last head.
    pub(super) tiles: Vec<store::MerkleTile>,
    /// Whether the previous key signs too.
    pub(super) with_previous: bool,
    /// The change of keys and the entry that tells of it, if this head is the first of another key.
    pub(super) change: Option<(&'static str, AuditId)>,
}

/// Whether the tree over the checkpoint's size has its root. Hashes that are missing make another tree.
async fn is_root_of(conn: &mut Connection, checkpoint: &LogCheckpoint) -> am_db::Result<bool> {
    match store::range_hash(conn, 0..checkpoint.size).await {
        Ok(root) => Ok(root == checkpoint.root),
        Err(DatabaseError::InvalidValue(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Convert the error: the delivery must be stored together with the change that it reports, or neither.
pub(super) fn to_database_error(error: am_webhooks::WebhookError) -> am_db::DatabaseError {
    match error {
        am_webhooks::WebhookError::Db(error) => error,
        other => am_db::DatabaseError::InvalidValue(other.to_string()),
    }
}
