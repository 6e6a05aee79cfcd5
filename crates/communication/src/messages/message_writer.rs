//! Writing of messages: those that wait at the same time are written in one transaction, with a few statements for all
//! of them.

mod address_book;
mod batch_costs;
mod known_message;
mod prepared_batch;
mod write_batch;

use std::sync::Arc;

pub use self::prepared_batch::PreparedBatch;
use self::{address_book::AddressBook, write_batch::WriteBatch};
use super::model::{MessageDestination, MessageDraft, SendReceipt};
use crate::{
    delivery::{ConnectionHub, DeliveryService, OutgoingEntry, message_frame},
    encryption::{EncryptedContent, EncryptionScope, EncryptionService, stored_envelope},
    error::{CommunicationError, Result},
    message_log::MessageView,
    relations::AgentRelations,
};
use am_audit::AuditLog;
use am_core::ambient::{Clock, IdGenerator};
use am_core::boxed;
use am_db::{Connection, Tx, principal::Principal};
use am_ledger::{LedgerError, LedgerService};

/// Largest number of messages, each to a single agent, that are encrypted in the transaction itself: preparing them
/// would take longer.
const MAX_UNPREPARED_MESSAGES: usize = 8;
/// Largest size of their content in bytes of JSON.
const MAX_UNPREPARED_BYTES: usize = 16 << 10;

/// Services that writing depends on. Cheap to clone.
#[derive(Clone)]
pub struct MessageWriter {
    pub clock: Clock,
    pub ids: IdGenerator,
    pub audit: AuditLog,
    pub ledger: LedgerService,
    pub sealing: EncryptionService,
    pub relations: AgentRelations,
    pub hub: ConnectionHub,
    pub delivery: DeliveryService,
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
    /// Copies for connections, in order.
    pub pushed: Vec<PushedCopy>,
}

/// A written copy whose recipient has a connection.
pub struct PushedCopy {
    /// Place of its message in the batch.
    letter: usize,
    /// Message without its content.
    message: MessageView,
    sealed: EncryptedContent,
}

impl MessageWriter {
    /// Decide how messages are encrypted, before the transaction that writes them. What can't be
    /// prepared is left to the transaction.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn prepare(&self, conn: &mut Connection, letters: &[OutgoingMessage]) -> Result<PreparedBatch> {
        let mut book = AddressBook::begin(self, conn, letters, PreparedBatch::default()).await?;
        for (at, letter) in letters.iter().enumerate() {
            // For other errors the transaction finds the same reason to refuse it, or none any more.
            if let Err(CommunicationError::Db(error)) = book.prepare(conn, at, letter).await {
                return Err(error.into());
            }
        }
        Ok(book.prepared)
    }

    /// Encrypt what was prepared, on a thread for such work.
    #[boxed]
    pub async fn seal(&self, mut prepared: PreparedBatch, letters: &Arc<[OutgoingMessage]>) -> PreparedBatch {
        let (sealing, letters) = (self.sealing.clone(), letters.clone());
        let work = move || {
            prepared.seal(&sealing, &letters);
            prepared
        };
        // After a panic the transaction does it all.
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// Write messages. A fault of one is returned as its result, and the others are written.
    ///
    /// # Errors
    /// Returns an error of the database; all of them must be rolled back then.
    #[boxed]
    pub async fn write(
        &self,
        tx: &mut Tx,
        letters: &[OutgoingMessage],
        prepared: PreparedBatch,
    ) -> Result<WrittenMessages> {
        let mut work = WriteBatch::begin(self, tx, letters, prepared).await?;
        let mut answers = Vec::with_capacity(letters.len());
        for (at, letter) in letters.iter().enumerate() {
            let answer = match work.letter(tx, at, letter).await {
                Err(CommunicationError::Db(error) | CommunicationError::Ledger(LedgerError::Db(error))) => {
                    return Err(error.into());
                }
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

/// Whether messages are encrypted before their transaction: all but a few short ones.
pub fn are_prepared(letters: &[OutgoingMessage]) -> bool {
    let single = |letter: &OutgoingMessage| matches!(letter.draft.to, MessageDestination::Agent(_));
    letters.len() > MAX_UNPREPARED_MESSAGES
        || letters.iter().map(|letter| letter.bytes).sum::<usize>() > MAX_UNPREPARED_BYTES
        || !letters.iter().all(single)
}

/// What connections are sent of written copies.
pub async fn outgoing_entries(pushed: Vec<PushedCopy>, letters: &Arc<[OutgoingMessage]>) -> Vec<OutgoingEntry> {
    let bytes: i64 = pushed.iter().map(|copy| copy.message.size_bytes).sum();
    let letters = letters.clone();
    let work = move || pushed.into_iter().map(|copy| copy.into_entry(&letters)).collect();
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= MAX_UNPREPARED_BYTES => work(),
        _ => tokio::task::spawn_blocking(work).await.unwrap_or_default(),
    }
}

impl PushedCopy {
    fn into_entry(self, letters: &[OutgoingMessage]) -> OutgoingEntry {
        let Self { letter, mut message, sealed } = self;
        // Content that this service can decrypt is sent decrypted; it is available here.
        message.content = match sealed.scope {
            EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival => stored_envelope(&sealed),
            EncryptionScope::AtRest | EncryptionScope::None => {
                letters.get(letter).map(|letter| letter.draft.content.clone())
            }
        }
        .unwrap_or_default();
        OutgoingEntry { id: message.id, recipient: message.recipient.clone(), frame: message_frame(&message) }
    }
}
