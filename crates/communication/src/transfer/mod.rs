//! An agent's messages as JSON lines, out and in again: a line that says what it is, one for each message, and one that says
//! how many there were. What is encrypted at rest leaves in the clear and is encrypted again where it comes in; envelopes stay
//! as they are.

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

/// Messages that are read, or written, at a time.
const TOGETHER: usize = 500;
/// Messages that can be imported at once.
pub const MOST: usize = 20_000;

/// Takes messages out and in. Cheap to clone.
#[derive(Clone)]
pub struct Transfer {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    sealing: Sealing,
}

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// Messages that were not there before.
    pub imported: u64,
    /// Messages that were there already, under the same id, and stay as they are.
    pub skipped: u64,
}

/// Why an import is refused. Nothing of it is stored then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be.
    #[error("line {line}: {message}")]
    Line {
        /// Which, from 1 on.
        line: usize,
        /// The member; empty: the whole line.
        member: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<am_db::Error> for ImportError {
    fn from(error: am_db::Error) -> Self {
        Self::Other(error.into())
    }
}

/// An export under way.
pub struct Export {
    transfer: Transfer,
    agent: String,
    after: i64,
    count: u64,
    ready: VecDeque<String>,
    ended: bool,
}

impl Transfer {
    /// Of the messages in `db`.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit, sealing: Sealing) -> Self {
        Self { db, clock, ids, audit, sealing }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// What `agent` wrote and got, in the order in which it was written here.
    ///
    /// # Errors
    /// As the database.
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
    /// The next lines; none: that was all.
    ///
    /// # Errors
    /// As the database. A message that can't be opened is told of in its line, with `content` null and `failure`.
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
