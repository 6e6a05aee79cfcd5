//! SQL of table `am_broadcasts`.

use super::model::{RejectedRecipient, SendReceipt};
use crate::{
    error::Result,
    model::{MessageStatus, PaymentStatus},
};
use am_core::{
    ids::{AgentId, BroadcastId, ChannelId, MessageId},
    money::Money,
};
use am_db::{
    Connection, FromRow as _,
    bulk_insert::RowBatch,
    codec::{Json, Timestamp},
    push_row, row, sql,
};

/// Add the row of a message to several recipients.
pub fn add_broadcast_row(rows: &mut RowBatch, receipt: &SendReceipt, topic: Option<&str>, draft_hash: Option<&str>) {
    let refused = serde_json::to_string(&receipt.refused).unwrap_or_else(|_| "[]".to_owned());
    push_row!(rows, "am_broadcasts" {
        id: &receipt.message_id,
        sender: &receipt.sender,
        channel_id: &receipt.channel_id,
        topic: topic,
        recipients: receipt.recipients.unwrap_or(0),
        pushed: receipt.pushed.unwrap_or(0),
        seq: receipt.seq,
        encrypted: receipt.encrypted,
        price: receipt.price,
        refused: &refused,
        created_at: receipt.sent_at,
        draft_hash: draft_hash,
    });
}

row! {
    /// A row of `am_broadcasts`, as its sender was told.
    struct BroadcastRow {
        id: BroadcastId,
        sender: AgentId,
        channel_id: ChannelId,
        recipients: i64,
        pushed: i64,
        seq: i64,
        encrypted: bool,
        price: Money,
        refused: Vec<RejectedRecipient> => Json::into_inner,
        created_at: Timestamp,
        draft_hash: Option<String>,
    }
}

/// Receipts of the existing messages to several recipients among these ids, of any sender, with the hashes of their
/// drafts.
pub async fn find_broadcasts(conn: &mut Connection, ids: &[&MessageId]) -> Result<Vec<(SendReceipt, Option<String>)>> {
    let broadcasts = sql!("SELECT ", BroadcastRow::COLUMNS, " FROM am_broadcasts WHERE id IN {texts $1}");
    let broadcasts: Vec<BroadcastRow> = broadcasts.bind(serde_json::json!(ids).to_string()).fetch_all(conn).await?;
    Ok(broadcasts.into_iter().map(broadcast_from_row).collect())
}

fn broadcast_from_row(row: BroadcastRow) -> (SendReceipt, Option<String>) {
    let receipt = SendReceipt {
        status: "success".to_owned(),
        message_id: row.id.into_string().into(),
        sender: row.sender,
        recipient: None,
        channel_id: row.channel_id,
        seq: row.seq,
        encrypted: row.encrypted,
        encryption: None,
        scope: None,
        key_id: None,
        ws_delivered: row.pushed > 0,
        message_status: MessageStatus::Pending,
        sent_at: row.created_at,
        expires_at: None,
        price: row.price,
        payment_status: PaymentStatus::Unpaid,
        recipients: Some(row.recipients),
        pushed: Some(row.pushed),
        refused: row.refused,
        repeated: false,
    };
    (receipt, row.draft_hash)
}
