//! Writing of messages: those that wait at the same time are written in one transaction, with a few statements for all
//! of them.

mod known_message;
mod write_batch;

use self::write_batch::WriteBatch;
use super::model::{MessageDraft, SendReceipt};
use crate::{
    delivery::{ConnectionHub, OutgoingEntry},
    encryption::EncryptionService,
    error::{CommunicationError, Result},
    relations::AgentRelations,
};
use am_audit::AuditLog;
use am_core::ambient::{Clock, IdGenerator};
use am_core::boxed;
use am_db::{Tx, principal::Principal};

/// Services that writing depends on. Cheap to clone.
#[derive(Clone)]
pub struct MessageWriter {
    pub clock: Clock,
    pub ids: IdGenerator,
    pub audit: AuditLog,
    pub sealing: EncryptionService,
    pub relations: AgentRelations,
    pub hub: ConnectionHub,
}

/// A validated draft with its sender.
#[derive(Clone, Debug)]
pub struct OutgoingMessage {
    pub draft: MessageDraft,
    /// Size of the content in bytes of JSON.
    pub bytes: usize,
    pub by: Principal,
}

/// Result of writing messages.
pub struct WrittenMessages {
    /// Number of the last message before.
    pub before: i64,
    /// Number of the last message written.
    pub last: i64,
    /// Result for each message.
    pub answers: Vec<Result<SendReceipt>>,
    /// Entries for connections, in order.
    pub pushed: Vec<OutgoingEntry>,
}

impl MessageWriter {
    /// Write messages. A fault of one is returned as its result, and the others are written.
    ///
    /// # Errors
    /// Returns an error of the database; all of them must be rolled back then.
    #[boxed]
    pub async fn write(&self, tx: &mut Tx, letters: &[OutgoingMessage]) -> Result<WrittenMessages> {
        let mut work = WriteBatch::begin(self, tx, letters).await?;
        let mut answers = Vec::with_capacity(letters.len());
        for letter in letters {
            let answer = match work.letter(tx, letter).await {
                Err(CommunicationError::Db(error)) => return Err(error.into()),
                answer => answer,
            };
            answers.push(answer);
        }
        let pushed = std::mem::take(&mut work.pushed);
        let written = WrittenMessages { before: work.before, last: work.last, answers, pushed };
        work.end(tx).await?;
        Ok(written)
    }
}
