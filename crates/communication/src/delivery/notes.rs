//! What sockets bring about in the database: acknowledgements, who came and who went. Noted by one task, all that waits at
//! a time in one transaction, so that no socket waits for it.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Delivery, store};
use crate::{
    error::{Error, Result},
    messages,
};
use am_core::ambient::pause;
use am_db::{Tx, codec::Timestamp};

/// Notes that may wait; beyond it sockets wait for a place.
pub const QUEUE: usize = 8192;
/// Notes in one transaction.
const TOGETHER: usize = 1024;
/// After a write that failed.
const AGAIN: Duration = Duration::from_millis(200);
/// How often a process tells that it holds sockets.
const BEAT: Duration = Duration::from_secs(5);

/// Something to be noted.
#[derive(Clone, Debug)]
pub enum Note {
    /// A message came to its recipient.
    Came { message_id: String, agent: Arc<str> },
    /// A message can't be opened.
    Failed { message_id: String, why: String },
    /// An agent's first socket here was opened, or its last one closed.
    Presence { agent: Arc<str>, online: bool },
}

impl Delivery {
    /// Write down what sockets bring about, until `stop` and until nothing waits any more.
    pub(super) async fn take_notes(self, mut waiting: mpsc::Receiver<Note>, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(TOGETHER);
        let mut beat = tokio::time::interval(BEAT);
        let mut told = false;
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut taken, TOGETHER) => if count == 0 { break },
                () = stop.cancelled(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
                _ = beat.tick() => {
                    let here = self.0.hub.count() > 0;
                    if here || told {
                        told = here;
                        if let Err(error) = self.beat(here).await {
                            tracing::warn!(%error, "could not tell that sockets are held here");
                        }
                    }
                    continue;
                }
            }
            let notes = std::mem::replace(&mut taken, Vec::with_capacity(TOGETHER));
            while let Err(error) = self.note_down(notes.clone()).await {
                tracing::warn!(%error, notes = notes.len(), "acknowledgements could not be noted; trying again");
                // What is lost at the end is delivered again.
                if matches!(error, Error::Db(am_db::Error::Stopped)) || !pause(&stop, AGAIN).await {
                    break;
                }
            }
        }
        if let Err(error) = self.beat(false).await {
            tracing::debug!(%error, "whoever was connected here counts as connected for some seconds yet");
        }
    }

    async fn note_down(&self, notes: Vec<Note>) -> Result<()> {
        let (mut came, mut failures, mut presence) = (Vec::new(), Vec::new(), Vec::new());
        for note in notes {
            match note {
                Note::Came { message_id, agent } => came.push((message_id, agent.to_string())),
                Note::Failed { message_id, why } => failures.push((message_id, why)),
                Note::Presence { agent, online } => presence.push((agent, online)),
            }
        }
        let (now, process, count) = (Timestamp(self.0.clock.now()), self.0.process.clone(), came.len());
        let beat = (!presence.is_empty()).then(|| process.clone());
        let work = async move |tx: &mut Tx| {
            if !came.is_empty() {
                messages::delivered(tx, &came, now).await?;
            }
            if !failures.is_empty() {
                messages::failed(tx, &failures).await?;
            }
            if let Some(process) = beat {
                store::beat(tx, &process, now).await?;
                store::presence(tx, &process, &presence, now).await?;
            }
            Ok::<_, Error>(())
        };
        self.0.db.write(work).await?;
        self.0.hub.metrics().acknowledged.inc_by(count as u64);
        Ok(())
    }

    /// Tell that this process holds the sockets of those that have one here, and of nobody else.
    async fn beat(&self, here: bool) -> Result<()> {
        let (now, process, agents) = (Timestamp(self.0.clock.now()), self.0.process.clone(), self.0.hub.agents());
        let work = async move |tx: &mut Tx| {
            match here {
                true => store::beat(tx, &process, now).await?,
                false => store::silence(tx, &process).await?,
            }
            store::reconcile(tx, &process, &agents, now).await?;
            Ok::<_, Error>(())
        };
        self.0.db.write(work).await
    }
}
