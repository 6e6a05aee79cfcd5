//! Messages that were sent before, under ids that their senders chose.

use std::collections::HashMap;

use super::OutgoingMessage;
use crate::{
    error::Result,
    message_log,
    messages::{
        draft_hash::has_hash,
        model::{MessageDestination, SendReceipt},
        store,
    },
};
use am_core::ids::{AgentId, MessageId};
use am_db::Connection;

/// A message that was sent before.
pub(super) struct KnownMessage {
    pub(super) receipt: SendReceipt,
    /// Salted hash of its draft; `None` when an earlier version stored it.
    pub(super) draft_hash: Option<String>,
    /// Size of its content in bytes of JSON; `None` for several copies.
    pub(super) bytes: Option<i64>,
}

impl KnownMessage {
    /// Whether a message under the same id is the same message.
    pub(super) fn is(&self, letter: &OutgoingMessage) -> bool {
        match (&self.draft_hash, &letter.draft.to) {
            (Some(hash), _) => has_hash(&letter.draft, hash),
            (None, MessageDestination::Agent(agent)) => {
                self.receipt.recipient.as_ref() == Some(agent) && self.bytes == Some(letter.bytes as i64)
            }
            (None, MessageDestination::Channel(channel)) => {
                self.receipt.recipient.is_none() && self.receipt.channel_id == *channel
            }
            (None, _) => self.receipt.recipient.is_none(),
        }
    }
}

/// Messages under the ids of these, by sender and id.
pub(super) async fn find_known(
    conn: &mut Connection,
    letters: &[OutgoingMessage],
) -> Result<HashMap<(AgentId, MessageId), KnownMessage>> {
    let ids: Vec<&MessageId> = letters.iter().filter_map(|letter| letter.draft.message_id.as_ref()).collect();
    let mut known = HashMap::new();
    if !ids.is_empty() {
        for found in message_log::find_sent(&mut *conn, &ids).await? {
            let (receipt, bytes) = (SendReceipt::of(&found), Some(found.message.size_bytes));
            let key = (receipt.sender.clone(), receipt.message_id.clone());
            known.insert(key, KnownMessage { receipt, draft_hash: found.draft_hash, bytes });
        }
        for (receipt, draft_hash) in store::find_broadcasts(&mut *conn, &ids).await? {
            let key = (receipt.sender.clone(), receipt.message_id.clone());
            known.insert(key, KnownMessage { receipt, draft_hash, bytes: None });
        }
    }
    Ok(known)
}
