//! What happens to entries after they are written: those of the coordinator get their leaves, heads are signed, and what
//! somebody should look at is told. All of it goes by what is stored, so that any process may do it, and again.

use std::{sync::atomic::Ordering, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Audit, Error, Result,
    checkpoint::Checkpoint,
    model::Source,
    store::{self, Head},
};
use am_db::{Tx, codec::Timestamp, owner::Owner};

/// Rows of the coordinator's table that are looked at in one go.
const LOOK: i64 = 5000;
/// Rows that are given leaves in one transaction.
const SEAL: i64 = 500;
/// Entries that one head goes beyond the last at most: a log that was never sealed takes several.
const STRIDE: u64 = 1 << 18;
/// A change that should be looked at is told a moment after its commit, together with others of the same moment.
const MOMENT: Duration = Duration::from_millis(20);

impl Audit {
    /// Seal now and then, until `stopping`; the last head is made by [`Audit::seal`] when nothing is written any more.
    pub async fn work(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(self.0.every) => {}
                () = self.0.nudge.notified() => tokio::time::sleep(MOMENT).await,
            }
            if let Err(error) = self.seal().await {
                tracing::warn!(%error, "the audit log could not be sealed; trying again");
            }
        }
    }

    /// Give the coordinator's entries their leaves, sign a head over all entries, and tell what somebody should look at.
    ///
    /// # Errors
    /// As the database.
    pub async fn seal(&self) -> Result<()> {
        self.seal_coordinators().await?;
        while self.sign_head().await? {}
        self.tell().await
    }

    async fn seal_coordinators(&self) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        let last = store::last_row(&mut conn).await?;
        // Numbers of rows start anew when the database was compacted, or rows at the end were taken out.
        let mut seen = Some(self.0.seen.load(Ordering::Relaxed)).filter(|seen| *seen <= last).unwrap_or(0);
        while seen < last {
            let (found, looked) = store::unsealed(&mut conn, seen, LOOK).await?;
            if found.is_empty() {
                seen = looked;
                self.0.seen.store(seen, Ordering::Relaxed);
                continue;
            }
            drop(conn);
            // Asked again in the transaction: another process may have sealed them.
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

    /// Sign a head over what was appended since the last; false: there is nothing to sign.
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
                // Off the host: a log by itself can't show that its end was cut off.
                audit.0.webhooks.enqueue(tx, HEAD, &head, now, Some(&format!("{HEAD}/{size}"))).await.map_err(owed)?;
            }
            Ok::<_, am_db::Error>(head)
        });
        let head = signed.await?;
        tracing::debug!(size = head.size, entries = head.size - from, root = head.root, "the audit log was sealed");
        Ok(true)
    }

    /// Tell of entries that somebody should look at, each once.
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
        // What the coordinator wrote long before it was sealed is no news.
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

/// Kinds of events that webhooks can ask for: a signed head, something to look at.
const HEAD: &str = "audit.head";
const ALERT: &str = "security.alert";

/// What is owed is written with what it tells of, or neither is.
fn owed(error: am_webhooks::Error) -> am_db::Error {
    match error {
        am_webhooks::Error::Db(error) => error,
        other => am_db::Error::Unreadable(other.to_string()),
    }
}

/// Who tells of what should be looked at.
const ALERTS: &str = "alerts";
/// An entry of the coordinator's that is older when it is sealed is told of nowhere.
const OLD: chrono::Duration = chrono::Duration::hours(24);
/// Alerts that are told in one transaction.
const AT_ONCE: usize = 200;

/// Something that somebody should look at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Alert {
    /// Its place in the log.
    pub seq: u64,
    /// The entry.
    pub id: String,
    /// What happened.
    pub event_type: String,
    /// 70 to 100.
    pub risk_score: i64,
    /// Who did it.
    pub user_id: Option<Owner>,
    /// The execution it concerns.
    pub execution_id: Option<String>,
    /// The workflow it concerns.
    pub workflow_id: Option<String>,
    /// Who wrote the entry.
    pub source: Source,
    /// When it happened.
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
