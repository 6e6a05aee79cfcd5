//! Background work on stored entries: entries of the coordinator get their leaves, heads are signed, and alerts are
//! published. All of it depends on stored rows only, so any process may do it, repeatedly.

use std::{sync::atomic::Ordering, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Audit, Error, Result,
    checkpoint::Checkpoint,
    model::Source,
    store::{self, Head},
};
use am_db::{Tx, codec::Timestamp, owner::Owner};

/// Rows of the coordinator's table read per query.
const LOOK: i64 = 5000;
/// Rows that get leaves in one transaction.
const SEAL: i64 = 500;
/// Largest number of entries between two heads: a log that was never sealed needs several.
const STRIDE: u64 = 1 << 18;
/// Delay of an alert after its commit, so that alerts of the same moment are published together.
const MOMENT: Duration = Duration::from_millis(20);

impl Audit {
    /// Seal at intervals until `stopping` is cancelled; the last head is signed by [`Audit::seal`] when nothing more is
    /// written.
    pub async fn work(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(self.0.every) => {}
                () = self.0.nudge.notified() => tokio::time::sleep(MOMENT).await,
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
    pub async fn seal(&self) -> Result<()> {
        self.seal_coordinators().await?;
        while self.sign_head().await? {}
        self.tell().await
    }

    async fn seal_coordinators(&self) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        let last = store::last_row(&mut conn).await?;
        // Row numbers restart when the database was compacted or rows at its end were deleted.
        let mut seen = Some(self.0.seen.load(Ordering::Relaxed)).filter(|seen| *seen <= last).unwrap_or(0);
        while seen < last {
            let (found, looked) = store::unsealed(&mut conn, seen, LOOK).await?;
            if found.is_empty() {
                seen = looked;
                self.0.seen.store(seen, Ordering::Relaxed);
                continue;
            }
            drop(conn);
            // Queried again inside the transaction: another process may have sealed them.
            let after = seen;
            let sealed = self.0.db.write(async move |tx: &mut Tx| {
                let (found, looked) = store::unsealed(tx.conn().await?, after, SEAL).await?;
                store::seal_coordinators(tx, &found).await?;
                Ok::<_, am_db::Error>((found.len(), looked))
            });
            let (count, looked) = sealed.await?;
            seen = looked;
            self.0.seen.store(seen, Ordering::Relaxed);
            if count > 0 {
                tracing::info!(entries = count, "entries of the coordinator were sealed");
            }
            conn = self.0.db.read().await?;
        }
        Ok(())
    }

    /// Sign a head over the entries since the last one. Returns false when there are none.
    async fn sign_head(&self) -> Result<bool> {
        let (from, size, tiles) = {
            let mut conn = self.0.db.read().await?;
            let from = store::head_until(&mut conn, u64::MAX).await?.map_or(0, |head| head.size);
            let size = store::size(&mut conn).await?.min(from + STRIDE);
            if size <= from {
                return Ok(false);
            }
            let tiles = store::new_tiles(&mut conn, from, size).await?;
            (from, size, tiles)
        };
        let (audit, now) = (self.clone(), Timestamp(self.0.clock.now()));
        let signed = self.0.db.write(async move |tx: &mut Tx| {
            store::keep_tiles(tx, &tiles).await?;
            let root = store::range_hash(tx.conn().await?, 0..size).await?;
            let checkpoint = Checkpoint { origin: audit.0.origin.clone(), size, root };
            let note = checkpoint.sign(&audit.0.signer);
            let head = Head { size, root: hex::encode(root), checkpoint: note, made_at: now };
            if store::keep_head(tx, &head).await? {
                // Published off the host, because a log alone can't prove that its end was not cut off.
                audit.0.webhooks.enqueue(tx, HEAD, &head, now, Some(&format!("{HEAD}/{size}"))).await.map_err(owed)?;
            }
            Ok::<_, am_db::Error>(head)
        });
        let head = signed.await?;
        tracing::debug!(size = head.size, entries = head.size - from, root = head.root, "the audit log was sealed");
        Ok(true)
    }

    /// Publish an alert for each entry that requires investigation, once each.
    async fn tell(&self) -> Result<()> {
        let (known, size, found) = {
            let mut conn = self.0.db.read().await?;
            let known = store::cursor(&mut conn, ALERTS).await?;
            let size = store::size(&mut conn).await?;
            (known, size, store::to_investigate(&mut conn, known, 1).await?)
        };
        if found.is_empty() && size.saturating_sub(known) < 10_000 {
            return Ok(());
        }
        // Entries that the coordinator wrote long before they were sealed raise no alert.
        let webhooks = self.0.webhooks.clone();
        let news = Timestamp(self.0.clock.now() - OLD);
        let told = self.0.db.write(async move |tx: &mut Tx| {
            let from = store::cursor(tx.conn().await?, ALERTS).await?;
            let found = store::to_investigate(tx.conn().await?, from, AT_ONCE as i64).await?;
            let last = found.last().map_or(from, |alert| alert.seq);
            let reached = if found.len() < AT_ONCE { size.max(last) } else { last };
            store::advance(tx, ALERTS, reached).await?;
            let mut alerts = found.clone();
            alerts.retain(|alert| alert.source == Source::Service || alert.timestamp >= news);
            for alert in &alerts {
                let source = format!("{ALERT}/{}", alert.id);
                webhooks.enqueue(tx, ALERT, alert, alert.timestamp, Some(&source)).await.map_err(owed)?;
            }
            tx.after_commit(move || {
                for alert in &alerts {
                    tracing::warn!(
                        audit_id = alert.id,
                        event = alert.event_type,
                        risk = alert.risk_score,
                        user = alert.user_id.as_ref().map(Owner::as_str),
                        execution = alert.execution_id,
                        workflow = alert.workflow_id,
                        source = alert.source.word(),
                        "an audit entry needs investigation"
                    );
                }
            });
            Ok::<_, am_db::Error>(found.len())
        });
        if told.await? == AT_ONCE {
            self.0.nudge.notify_one();
        }
        Ok(())
    }
}

/// Webhook event kinds: a signed head, and an alert.
const HEAD: &str = "audit.head";
const ALERT: &str = "security.alert";

/// Convert the error: the delivery must be stored together with the change that it reports, or neither.
fn owed(error: am_webhooks::Error) -> am_db::Error {
    match error {
        am_webhooks::Error::Db(error) => error,
        other => am_db::Error::Unreadable(other.to_string()),
    }
}

/// Consumer name of the alerts.
const ALERTS: &str = "alerts";
/// Age from which an entry of the coordinator raises no alert when it is sealed.
const OLD: chrono::Duration = chrono::Duration::hours(24);
/// Alerts published per transaction.
const AT_ONCE: usize = 200;

/// An entry that requires investigation.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Alert {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Id of the entry.
    pub id: String,
    /// Type of the event.
    pub event_type: String,
    /// Risk score, 70 to 100.
    pub risk_score: i64,
    /// Principal of the acting user; null when unknown.
    pub user_id: Option<Owner>,
    /// Id of the execution concerned, if any.
    pub execution_id: Option<String>,
    /// Id of the workflow concerned, if any.
    pub workflow_id: Option<String>,
    /// Writer of the entry.
    pub source: Source,
    /// Time of the event.
    pub timestamp: Timestamp,
}

impl From<Error> for am_db::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Db(error) => error,
            other => Self::Unreadable(other.to_string()),
        }
    }
}
