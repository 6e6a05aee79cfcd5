//! Background work on stored entries: entries of the coordinator get their leaves, heads are signed, and alerts are
//! published. All of it depends on stored rows only, so any process may do it, repeatedly.

use am_core::boxed;
use std::{sync::atomic::Ordering, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    AuditError, AuditLog, Result,
    continuity::{LastHead, NewHead, to_database_error},
    model::{EntrySource, SignedTreeHead},
    store,
};
use am_db::{Tx, codec::Timestamp, owner::PrincipalName};
use am_webhooks::{WebhookEvent, WebhookEventKind};

/// Rows of the coordinator's table read per query.
const SCAN_BATCH: i64 = 5000;
/// Rows that get leaves in one transaction.
const SEAL_BATCH: i64 = 500;
/// Largest number of entries between two heads: a log that was never sealed needs several.
const MAX_ENTRIES_PER_HEAD: u64 = 1 << 18;
/// Delay of an alert after its commit, so that alerts of the same moment are published together.
const ALERT_DELAY: Duration = Duration::from_millis(20);

impl AuditLog {
    /// Seal at intervals until `stopping` is cancelled; the last head is signed by [`AuditLog::seal`] when nothing more is
    /// written.
    pub async fn work(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(self.0.every) => {}
                () = self.0.nudge.notified() => tokio::time::sleep(ALERT_DELAY).await,
            }
            if let Err(error) = self.seal().await {
                tracing::warn!(%error, "the audit log could not be sealed; retrying");
            }
        }
    }

    /// Add leaves for the coordinator's entries, sign a head over all entries, and publish alerts.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn seal(&self) -> Result<()> {
        self.seal_coordinators().await?;
        while self.sign_checkpoint().await? {}
        self.look_through().await?;
        self.tell().await
    }

    /// Add leaves for rows that others wrote. This process writes its rows with their leaves, so that there is nothing to look for
    /// where nobody else has committed.
    async fn seal_coordinators(&self) -> Result<()> {
        let last = store::last_row(&mut *self.0.db.read().await?).await?;
        // Row numbers restart when the database was compacted or rows at its end were deleted.
        let mut seen = Some(self.0.seen.load(Ordering::Relaxed)).filter(|seen| *seen <= last).unwrap_or(0);
        if seen == last {
            return Ok(());
        }
        // Inside a transaction, so that no row comes between the two.
        let db = self.0.db.clone();
        let marked = self.0.db.write(async move |tx: &mut Tx| {
            Ok::<_, am_db::DatabaseError>((store::last_row(tx.conn().await?).await?, db.others_commits()))
        });
        let (last, commits) = marked.await?;
        if seen > 0 && self.0.seen_commits.load(Ordering::Relaxed) == commits {
            self.0.seen.store(last, Ordering::Relaxed);
            return Ok(());
        }
        let mut conn = self.0.db.read().await?;
        while seen < last {
            let found = store::find_unsealed(&mut conn, seen, SCAN_BATCH).await?;
            if found.rows.is_empty() {
                seen = found.last;
                self.0.seen.store(seen, Ordering::Relaxed);
                continue;
            }
            drop(conn);
            // Queried again inside the transaction: another process may have sealed them.
            let after = seen;
            let sealed = self.0.db.write(async move |tx: &mut Tx| {
                let found = store::find_unsealed(tx.conn().await?, after, SEAL_BATCH).await?;
                store::insert_coordinator_leaves(tx, &found.rows).await?;
                Ok::<_, am_db::DatabaseError>((found.rows.len(), found.last))
            });
            let (count, last_sealed) = sealed.await?;
            seen = last_sealed;
            self.0.seen.store(seen, Ordering::Relaxed);
            if count > 0 {
                tracing::info!(entries = count, "entries of the coordinator were sealed");
            }
            conn = self.0.db.read().await?;
        }
        self.0.seen_commits.store(commits, Ordering::Relaxed);
        Ok(())
    }

    /// Sign a head over the entries since the last one. Returns false when there are none, or when the log does not
    /// continue the last head.
    async fn sign_checkpoint(&self) -> Result<bool> {
        let mut conn = self.0.db.read().await?;
        let last = match self.check_continuity(&mut conn).await? {
            Ok(last) => last,
            Err(reason) => {
                self.0.alarms.refuse(reason);
                return Ok(false);
            }
        };
        self.0.alarms.accept();
        let from = last.as_ref().map_or(0, LastHead::size);
        let entries = store::log_size(&mut conn).await?;
        self.disown_foreign(&mut conn, from, entries.min(from + MAX_ENTRIES_PER_HEAD)).await?;
        if last.as_ref().is_some_and(LastHead::needs_key_change) {
            drop(conn);
            return Ok(self.change_key().await?.is_some());
        }
        let size = entries.min(from + MAX_ENTRIES_PER_HEAD);
        if size <= from {
            return Ok(false);
        }
        let tiles = store::compute_new_tiles(&mut conn, from, size).await?;
        drop(conn);
        let audit = self.clone();
        let signed = self.0.db.write(async move |tx: &mut Tx| {
            // Once more where nobody else can write: what was checked above is what is signed.
            let Ok(last) = audit.check_continuity(tx.conn().await?).await? else { return Ok(None) };
            let epoch = last.as_ref().map_or(1, LastHead::epoch);
            let next = NewHead { size, epoch, tiles, with_previous: false, change: None };
            audit.add_head(tx, next).await.map(Some)
        });
        let head: Option<SignedTreeHead> = signed.await.map_err(|error: am_db::DatabaseError| error)?;
        let Some(head) = head else { return Ok(false) };
        self.keep_head(&head).await;
        tracing::debug!(size = head.size, entries = head.size - from, root = head.root, "the audit log was sealed");
        Ok(true)
    }

    /// Publish an alert for each entry that requires investigation, once each.
    async fn tell(&self) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        let known = store::consumer_position(&mut conn, ALERT_CONSUMER).await?;
        let size = store::log_size(&mut conn).await?;
        let found = store::to_investigate(&mut conn, known, 1).await?;
        drop(conn);
        if found.is_empty() && size.saturating_sub(known) < 10_000 {
            return Ok(());
        }
        // Entries that the coordinator wrote long before they were sealed raise no alert.
        let webhooks = self.0.webhooks.clone();
        let news = Timestamp(self.0.clock.now() - MAX_ALERT_AGE);
        let told = self.0.db.write(async move |tx: &mut Tx| {
            let from = store::consumer_position(tx.conn().await?, ALERT_CONSUMER).await?;
            let found = store::to_investigate(tx.conn().await?, from, ALERT_BATCH as i64).await?;
            let last = found.last().map_or(from, |alert| alert.seq);
            let reached = if found.len() < ALERT_BATCH { size.max(last) } else { last };
            store::advance_consumer(tx, ALERT_CONSUMER, reached).await?;
            let mut alerts = found.clone();
            alerts.retain(|alert| alert.source == EntrySource::Service || alert.timestamp >= news);
            for alert in &alerts {
                let kind = WebhookEventKind::SecurityAlert;
                let source = format!("{}/{}", kind.word(), alert.id);
                let event = WebhookEvent { kind, owner: None, data: alert, source: Some(&source) };
                webhooks.enqueue(tx, event, alert.timestamp).await.map_err(to_database_error)?;
            }
            tx.after_commit(move || {
                for alert in &alerts {
                    tracing::warn!(
                        audit_id = alert.id.as_str(),
                        event = alert.event_type,
                        risk = alert.risk_score,
                        user = alert.user_id.as_ref().map(PrincipalName::as_str),
                        execution = alert.execution_id.as_deref(),
                        workflow = alert.workflow_id.as_deref(),
                        source = alert.source.word(),
                        "an audit entry needs investigation"
                    );
                }
            });
            Ok::<_, am_db::DatabaseError>(found.len())
        });
        if told.await? == ALERT_BATCH {
            self.0.nudge.notify_one();
        }
        Ok(())
    }
}

/// Consumer name of the alerts.
const ALERT_CONSUMER: &str = "alerts";
/// Age from which an entry of the coordinator raises no alert when it is sealed.
const MAX_ALERT_AGE: chrono::Duration = chrono::Duration::hours(24);
/// Alerts published per transaction.
const ALERT_BATCH: usize = 200;

impl From<AuditError> for am_db::DatabaseError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Db(error) => error,
            other => Self::InvalidValue(other.to_string()),
        }
    }
}
