//! Stored messages, one for each recipient: who has which, how they are read, and their status.

mod message_state;
mod model;
mod store;

pub(super) use model::StoredMessage;
pub use model::{HistoryFilter, ImportOrigin, MessageView};
pub(super) use store::{
    add_content_row, add_message_row, count_pending, find_imported, find_messages, find_sent, get_message, has_expired,
    last_id, mark_acknowledged, mark_delivered, mark_expired, mark_failed, mark_read, messages_of_agent,
    pending_by_ids, pending_messages, read_history, read_inbox, recipients_after,
};

use super::{
    encryption::{EncryptionError, EncryptionService},
    error::Result,
};
use am_db::Connection;

/// A message with its decrypted content, or without content and with the error.
pub(super) async fn decrypt_stored(
    sealing: &EncryptionService,
    conn: &mut Connection,
    stored: StoredMessage,
) -> Result<(MessageView, Option<EncryptionError>)> {
    let result = sealing.open(conn, &stored.sealed, &stored.bound()).await;
    match result {
        Ok(content) => Ok((MessageView { content: content.into_value(), ..stored.message }, None)),
        Err(EncryptionError::Db(error)) => Err(error.into()),
        Err(error) => Ok((stored.message, Some(error))),
    }
}
