//! Recording of events of connections in the database: acknowledgements and presence. One task records all waiting
//! events in one transaction, so that no connection waits for it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{DeliveryService, store};
use crate::{
    error::{CommunicationError, Result},
    message_log,
};
use am_core::{
    ambient::sleep_or_cancelled,
    ids::{AgentId, MessageId},
};
use am_db::{Tx, codec::Timestamp};

/// Capacity of the event queue; beyond it connections wait.
pub const EVENT_QUEUE_CAPACITY: usize = 8192;
/// Events recorded per transaction.
const EVENT_BATCH: usize = 1024;
/// Delay before a failed write is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Interval at which a process reports that it is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Interval at which it is recorded that a connected agent is still there.
const RENEWAL_INTERVAL: chrono::Duration = chrono::Duration::hours(1);

/// An event to record.
#[derive(Clone, Debug)]
pub enum AckEvent {
    /// A message was acknowledged by its recipient.
    Delivered { message_id: MessageId, agent: AgentId },
    /// A message can't be decrypted.
    Failed { id: i64, why: String },
    /// An agent's first connection in this process was opened, or its last one closed.
    Presence { agent: AgentId, online: bool },
}

impl DeliveryService {
    /// Record events until `stop` is cancelled and none is waiting.
    pub(super) async fn run_event_recorder(self, mut waiting: mpsc::Receiver<AckEvent>, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(EVENT_BATCH);
        let mut beat = tokio::time::interval(HEARTBEAT_INTERVAL);
        let mut told = false;
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut taken, EVENT_BATCH) => if count == 0 { break },
                () = stop.cancelled(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
                _ = beat.tick() => {
                    let here = self.0.hub.count() > 0;
                    if here || told {
                        told = here;
                        if let Err(error) = self.beat(here).await {
                            tracing::warn!(%error, "could not record that agents are connected to this process");
                        }
                    }
                    continue;
                }
            }
            let notes = std::mem::replace(&mut taken, Vec::with_capacity(EVENT_BATCH));
            while let Err(error) = self.record_events(notes.clone()).await {
                tracing::warn!(%error, notes = notes.len(), "acknowledgements could not be recorded; retrying");
                // Messages whose acknowledgements are lost at the end are delivered again.
                if matches!(error, CommunicationError::Db(am_db::DatabaseError::WriterStopped))
                    || !sleep_or_cancelled(&stop, RETRY_DELAY).await
                {
                    break;
                }
            }
        }
        if let Err(error) = self.beat(false).await {
            tracing::debug!(%error, "agents of this process are shown as connected for some more seconds");
        }
    }

    async fn record_events(&self, notes: Vec<AckEvent>) -> Result<()> {
        let (mut came, mut failures) = (Vec::new(), Vec::new());
        let mut presence = Vec::new();
        for note in notes {
            match note {
                AckEvent::Delivered { message_id, agent } => came.push((message_id, agent)),
                AckEvent::Failed { id, why } => failures.push((id, why)),
                AckEvent::Presence { agent, online } => presence.push((agent, online)),
            }
        }
        let (now, process) = (Timestamp(self.0.clock.now()), self.0.process.clone());
        let count = came.len();
        let beat = (!presence.is_empty()).then(|| process.clone());
        let work = async move |tx: &mut Tx| {
            if !came.is_empty() {
                message_log::mark_acknowledged(tx, &came, now).await?;
            }
            if !failures.is_empty() {
                message_log::mark_failed(tx, &failures).await?;
            }
            if let Some(process) = beat {
                store::record_heartbeat(tx, &process, now).await?;
                store::record_presence(tx, &process, &presence, now).await?;
            }
            Ok::<_, CommunicationError>(())
        };
        self.0.db.write(work).await?;
        self.0.hub.metrics().acknowledged.inc_by(count as u64);
        Ok(())
    }

    /// Report that this process is alive, and which agents are connected to it.
    async fn beat(&self, here: bool) -> Result<()> {
        let (now, process) = (Timestamp(self.0.clock.now()), self.0.process.clone());
        let agents = self.0.hub.agents();
        let work = async move |tx: &mut Tx| {
            match here {
                true => store::record_heartbeat(tx, &process, now).await?,
                false => store::remove_process(tx, &process).await?,
            }
            store::reconcile_presence(tx, &process, &agents, now).await?;
            store::renew_presence(tx, &process, Timestamp(now.0 - RENEWAL_INTERVAL), now).await?;
            Ok::<_, CommunicationError>(())
        };
        self.0.db.write(work).await
    }
}
