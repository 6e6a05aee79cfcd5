//! Export and import of an agent's messages as JSON lines: a header, one line per message, and a trailer with their
//! number. Content encrypted at rest is exported unencrypted and encrypted again by the import; envelopes are kept.

mod export_record;
mod import;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::export_record::{EXPORT_FORMAT_ID, ExportHeader, ExportTrailer};
use super::{
    encryption::EncryptionService,
    error::{CommunicationError, Result},
    message_log::{MessageView, decrypt_stored, messages_of_agent},
};
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::AgentId,
};
use am_db::{Database, codec::Timestamp};

/// Messages read or written at a time.
const TRANSFER_BATCH: usize = 500;
/// Maximum number of messages per import.
pub const MAX_IMPORT_MESSAGES: usize = 20_000;

/// The export and import service. Cheap to clone.
#[derive(Clone)]
pub struct TransferService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    sealing: EncryptionService,
}

/// Result of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MessageImport)]
pub struct ImportReport {
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
    Other(#[from] CommunicationError),
}

impl From<am_db::DatabaseError> for ImportError {
    fn from(error: am_db::DatabaseError) -> Self {
        Self::Other(error.into())
    }
}

/// A running export.
pub struct MessageExport {
    transfer: TransferService,
    agent: AgentId,
    after: i64,
    count: u64,
    ready: VecDeque<String>,
    ended: bool,
}

impl TransferService {
    /// Create the service on `db`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog, sealing: EncryptionService) -> Self {
        Self { db, clock, ids, audit, sealing }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Export all messages from and to `agent`, in the order in which they were written.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub fn export(&self, agent: &AgentId) -> Result<MessageExport> {
        let head =
            ExportHeader { format: EXPORT_FORMAT_ID.to_owned(), agent_id: agent.clone(), exported_at: self.now() };
        let ready = VecDeque::from([to_json_line(&head)?]);
        Ok(MessageExport { transfer: self.clone(), agent: agent.clone(), after: 0, count: 0, ready, ended: false })
    }
}

fn to_json_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value);
    Ok(text.map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))? + "\n")
}

impl MessageExport {
    /// The next lines; `None` at the end.
    ///
    /// # Errors
    /// Returns a database error when a query fails. A message that can't be decrypted is exported with `content` null
    /// and `failure` set.
    #[boxed]
    pub async fn next(&mut self) -> Result<Option<String>> {
        if let Some(text) = self.ready.pop_front() {
            return Ok(Some(text));
        }
        if self.ended {
            return Ok(None);
        }
        let sealing = self.transfer.sealing.clone();
        let mut conn = self.transfer.db.read().await?;
        let found = messages_of_agent(&mut conn, &self.agent, self.after, TRANSFER_BATCH as i64).await?;
        let mut text = String::new();
        for stored in found {
            self.after = stored.message.id;
            self.count += 1;
            let message = match decrypt_stored(&sealing, &mut conn, stored).await? {
                (message, None) => message,
                (message, Some(error)) => MessageView { failure: Some(error.to_string()), ..message },
            };
            text += &to_json_line(&message)?;
        }
        if text.is_empty() {
            self.ended = true;
            text = to_json_line(&ExportTrailer { end: true, messages: self.count })?;
        }
        Ok(Some(text))
    }
}
