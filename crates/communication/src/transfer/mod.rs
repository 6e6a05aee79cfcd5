//! Export and import of an agent's messages as JSON lines: a header, one line per message, and a trailer with their
//! number. Content encrypted at rest is exported unencrypted and encrypted again by the import; envelopes are kept.

mod import;
mod line;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::line::{End, FORMAT, Head};
use super::{
    error::{Error, Result},
    messages::{Message, of_agent, opened},
    sealing::Sealing,
};
use am_audit::Audit;
use am_core::ambient::{Clock, Ids};
use am_db::{Database, codec::Timestamp};

/// Messages read or written at a time.
const TOGETHER: usize = 500;
/// Maximum number of messages per import.
pub const MOST: usize = 20_000;

/// The export and import service. Cheap to clone.
#[derive(Clone)]
pub struct Transfer {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    sealing: Sealing,
}

/// Result of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MessageImport)]
pub struct Imported {
    /// Number of messages that were stored.
    pub imported: u64,
    /// Number of messages that existed already and were not changed.
    pub skipped: u64,
}

/// Reason why an import is refused. Nothing of it is stored then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is invalid.
    #[error("line {line}: {message}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Name of the member; empty for the whole line.
        member: &'static str,
        /// Description of the fault.
        message: String,
    },
    /// Any other error.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<am_db::Error> for ImportError {
    fn from(error: am_db::Error) -> Self {
        Self::Other(error.into())
    }
}

/// A running export.
pub struct Export {
    transfer: Transfer,
    agent: String,
    after: i64,
    count: u64,
    ready: VecDeque<String>,
    ended: bool,
}

impl Transfer {
    /// Create the service on `db`.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit, sealing: Sealing) -> Self {
        Self { db, clock, ids, audit, sealing }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Export all messages from and to `agent`, in the order in which they were written.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub fn export(&self, agent: &str) -> Result<Export> {
        let head = Head { format: FORMAT.to_owned(), agent_id: agent.to_owned(), exported_at: self.now() };
        let ready = VecDeque::from([line(&head)?]);
        Ok(Export { transfer: self.clone(), agent: agent.to_owned(), after: 0, count: 0, ready, ended: false })
    }
}

fn line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value);
    Ok(text.map_err(|error| am_db::Error::Unreadable(error.to_string()))? + "\n")
}

impl Export {
    /// The next lines; `None` at the end.
    ///
    /// # Errors
    /// Returns a database error when a query fails. A message that can't be decrypted is exported with `content` null
    /// and `failure` set.
    pub async fn next(&mut self) -> Result<Option<String>> {
        if let Some(text) = self.ready.pop_front() {
            return Ok(Some(text));
        }
        if self.ended {
            return Ok(None);
        }
        let sealing = self.transfer.sealing.clone();
        let mut conn = self.transfer.db.read().await?;
        let found = of_agent(&mut conn, &self.agent, self.after, TOGETHER as i64).await?;
        let mut text = String::new();
        for stored in found {
            self.after = stored.message.id;
            self.count += 1;
            let message = match opened(&sealing, &mut conn, stored).await? {
                (message, None) => message,
                (message, Some(error)) => Message { failure: Some(error.to_string()), ..message },
            };
            text += &line(&message)?;
        }
        if text.is_empty() {
            self.ended = true;
            text = line(&End { end: true, messages: self.count })?;
        }
        Ok(Some(text))
    }
}
