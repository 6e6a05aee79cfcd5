//! SQL of tables `am_messages` and `am_message_contents`.

use std::sync::Arc;

use super::{
    message_state::MessageEvent,
    model::{HistoryFilter, ImportOrigin, MessageView, StoredMessage},
};
use crate::{
    encryption::{EncryptedContent, EncryptionScope, MessageEncryption, SharedContent, VerifiedSignature},
    error::{CommunicationError, Result},
    model::{MessagePriority, MessageStatus, PaymentStatus},
    type_name::MessageTypeName,
};
use am_core::{
    ids::{AgentId, BroadcastId, ChannelId, ContentId, ContentKeyId, MessageId, PrincipalId},
    money::Money,
};
use am_db::{
    Connection, FromRow, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    page::PageRequest,
    push_row, row,
    row::Columns,
    sql,
    statement::Query,
};

/// Add the row of content that copies share.
pub fn add_content_row(rows: &mut RowBatch, shared: &SharedContent, now: Timestamp) {
    push_row!(rows, "am_message_contents" { id: &shared.id, content: &shared.stored, created_at: now });
}

/// Add the row of a new message.
pub fn add_message_row(rows: &mut RowBatch, stored: &StoredMessage) {
    let (message, sealed) = (&stored.message, &stored.sealed);
    let imported = message.imported.as_ref();
    push_row!(rows, "am_messages" {
        id: message.id,
        message_id: &message.message_id,
        channel_id: &message.channel_id,
        seq: message.seq,
        sender: &message.sender,
        recipient: &message.recipient,
        broadcast_id: &message.broadcast_id,
        topic: &message.topic,
        reply_to: &message.reply_to,
        kind: message.message_type.to_stored(),
        priority: message.priority,
        encryption: sealed.encryption,
        scope: sealed.scope,
        key_id: &sealed.key_id,
        content: &sealed.stored,
        content_id: sealed.shared.as_ref().map(|shared| &shared.id),
        bytes: message.size_bytes,
        price: message.price,
        payment_status: message.payment_status,
        status: message.status,
        failure: &message.failure,
        pushed: stored.pushed,
        created_at: message.sent_at,
        expires_at: message.expires_at,
        delivered_at: message.delivered_at,
        read_at: message.read_at,
        draft_hash: &stored.draft_hash,
        imported_from: imported.map(|origin| &origin.source),
        imported_by: imported.map(|origin| &origin.imported_by),
        imported_id: imported.map(|origin| &origin.message_id),
        signature: message.signature.as_ref().map(VerifiedSignature::to_stored),
    });
}

row! {
    /// A row of `am_messages`.
    struct MessageRow {
        id: i64,
        message_id: MessageId,
        channel_id: ChannelId,
        seq: i64,
        sender: AgentId,
        recipient: AgentId,
        broadcast_id: Option<BroadcastId>,
        topic: Option<String>,
        reply_to: Option<MessageId>,
        kind: MessageTypeName => MessageTypeName::from_stored,
        priority: MessagePriority,
        encryption: MessageEncryption,
        scope: EncryptionScope,
        key_id: Option<ContentKeyId>,
        content: JsonText,
        content_id: Option<ContentId>,
        /// Content that the copy shares with others; `None` when it has its own.
        shared: Option<JsonText> =
            "(SELECT shared.content FROM am_message_contents shared WHERE shared.id = am_messages.content_id)",
        bytes: i64,
        price: Money,
        payment_status: PaymentStatus,
        status: MessageStatus,
        failure: Option<String>,
        pushed: bool,
        created_at: Timestamp,
        expires_at: Timestamp,
        delivered_at: Option<Timestamp>,
        read_at: Option<Timestamp>,
        draft_hash: Option<String>,
        imported_from: Option<String>,
        imported_by: Option<PrincipalId>,
        imported_id: Option<MessageId>,
        signature: Option<String>,
    }
}

impl FromRow for StoredMessage {
    const COLUMNS: &'static str = MessageRow::COLUMNS;

    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        let row = MessageRow::from_row(columns)?;
        // Content that is gone leaves a copy that can't be decrypted.
        let shared = row.content_id.map(|id| {
            let stored = row.shared.unwrap_or_else(JsonText::none);
            Arc::new(SharedContent { id, stored })
        });
        let sealed = EncryptedContent {
            encryption: row.encryption,
            scope: row.scope,
            key_id: row.key_id.clone(),
            stored: row.content,
            shared,
        };
        let message = MessageView {
            id: row.id,
            message_id: row.message_id,
            channel_id: row.channel_id,
            seq: row.seq,
            sender_id: row.sender.clone(),
            recipient_id: row.recipient.clone(),
            sender: row.sender,
            recipient: row.recipient,
            message_type: row.kind,
            priority: row.priority,
            content: serde_json::Value::Null,
            encrypted: sealed.is_encrypted(),
            encryption: row.encryption,
            scope: row.scope,
            key_id: row.key_id,
            size_bytes: row.bytes,
            price: row.price,
            payment_status: row.payment_status,
            status: row.status,
            failure: row.failure,
            topic: row.topic,
            reply_to: row.reply_to,
            broadcast_id: row.broadcast_id,
            signature: row.signature.as_deref().map(VerifiedSignature::from_stored).transpose()?,
            imported: row.imported_id.map(|message_id| ImportOrigin {
                source: row.imported_from.unwrap_or_default(),
                imported_by: row.imported_by.unwrap_or_default(),
                message_id,
            }),
            sent_at: row.created_at,
            expires_at: row.expires_at,
            delivered_at: row.delivered_at,
            read_at: row.read_at,
        };
        Ok(Self { message, sealed, pushed: row.pushed, draft_hash: row.draft_hash })
    }
}

/// Number of the last message of all.
pub async fn last_id(conn: &mut Connection) -> Result<i64> {
    let last: Option<i64> = sql!("SELECT {last am_messages}").fetch_value(conn).await?;
    Ok(last.unwrap_or(0))
}

/// Existing messages among these ids, of any sender.
pub async fn find_messages(conn: &mut Connection, ids: &[&MessageId]) -> Result<Vec<StoredMessage>> {
    let messages = sql!("SELECT ", StoredMessage::COLUMNS, " FROM am_messages WHERE message_id IN {texts $1}");
    Ok(messages.bind(serde_json::json!(ids).to_string()).fetch_all(conn).await?)
}

/// Existing messages that were imported under one of these ids of an export.
pub async fn find_imported(conn: &mut Connection, ids: &[&MessageId]) -> Result<Vec<StoredMessage>> {
    let messages = sql!(
        "SELECT ",
        StoredMessage::COLUMNS,
        " FROM am_messages WHERE imported_id IS NOT NULL AND imported_id IN {texts $1}",
    );
    Ok(messages.bind(serde_json::json!(ids).to_string()).fetch_all(conn).await?)
}

/// Messages to a single agent that senders gave one of these ids, of any sender.
pub async fn find_sent(conn: &mut Connection, ids: &[&MessageId]) -> Result<Vec<StoredMessage>> {
    let messages = sql!(
        "SELECT ",
        StoredMessage::COLUMNS,
        " FROM am_messages WHERE message_id IN {texts $1} AND broadcast_id IS NULL",
    );
    Ok(messages.bind(serde_json::json!(ids).to_string()).fetch_all(conn).await?)
}

/// The message with an id, from `sender` and to `recipient` where these are given.
pub async fn get_message(
    conn: &mut Connection,
    message_id: &MessageId,
    sender: Option<&AgentId>,
    recipient: Option<&AgentId>,
) -> Result<StoredMessage> {
    let mut found = find_messages(conn, &[message_id]).await?;
    found.retain(|stored| {
        let message = &stored.message;
        sender.is_none_or(|agent| *agent == message.sender) && recipient.is_none_or(|agent| *agent == message.recipient)
    });
    // A copy under an id that its sender chose for another message is of an earlier version.
    if let (true, Some(own)) = (sender.is_some(), found.iter().position(|one| one.message.broadcast_id.is_none())) {
        return Ok(found.swap_remove(own));
    }
    match found.pop() {
        Some(stored) if found.is_empty() => Ok(stored),
        Some(_) => Err(CommunicationError::Conflict(format!(
            "several agents sent a message with the id '{message_id}': name the sender in sender_id"
        ))),
        None => Err(CommunicationError::NotFound("Message")),
    }
}

/// Pending messages for `agent` after number `after`, in the order in which they were written.
pub async fn pending_messages(
    conn: &mut Connection,
    agent: &AgentId,
    after: i64,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<StoredMessage>> {
    let pending = sql!(
        "SELECT ",
        StoredMessage::COLUMNS,
        " FROM am_messages WHERE status = 'PENDING' AND recipient = $1 AND id > $2 AND expires_at > $3 ORDER BY id LIMIT $4",
    );
    Ok(pending.bind(agent).bind(after).bind(now).bind(limit).fetch_all(conn).await?)
}

/// Numbers and recipients of the messages after number `after`.
pub async fn recipients_after(conn: &mut Connection, after: i64, limit: i64) -> Result<Vec<(i64, AgentId)>> {
    let rows = sql!("SELECT id, recipient FROM am_messages WHERE id > $1 ORDER BY id LIMIT $2");
    Ok(rows.bind(after).bind(limit).fetch_all(conn).await?)
}

/// Pending messages among these, in order.
pub async fn pending_by_ids(conn: &mut Connection, ids: &[i64], now: Timestamp) -> Result<Vec<StoredMessage>> {
    let waiting = sql!(
        "SELECT ",
        StoredMessage::COLUMNS,
        " FROM am_messages WHERE id IN {integers $1} AND status = 'PENDING' AND expires_at > $2 ORDER BY id",
    );
    Ok(waiting.bind(serde_json::json!(ids).to_string()).bind(now).fetch_all(conn).await?)
}

/// Inbox of `agent`: unread messages after number `from`, oldest first; or all messages before it, newest first.
pub async fn read_inbox(
    conn: &mut Connection,
    agent: &AgentId,
    unread_only: bool,
    from: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredMessage>> {
    let messages = if unread_only {
        sql!(
            "SELECT ",
            StoredMessage::COLUMNS,
            " FROM am_messages WHERE recipient = $1 AND status IN ('PENDING', 'DELIVERED') [AND id > $2] ORDER BY id LIMIT $3",
        )
    } else {
        sql!(
            "SELECT ",
            StoredMessage::COLUMNS,
            " FROM am_messages WHERE recipient = $1 AND status IN ('PENDING', 'DELIVERED', 'READ') [AND id < $2]
             ORDER BY id DESC LIMIT $3",
        )
    };
    Ok(messages.bind(agent).bind_some(from).bind(limit).fetch_all(conn).await?)
}

const MATCHING: &str = " FROM am_messages WHERE true [AND sender = $1] [AND recipient = $2] [AND channel_id = $3] ";

fn bind_past(query: Query, past: &HistoryFilter) -> Query {
    query.bind_some(past.sender.as_ref()).bind_some(past.recipient.as_ref()).bind_some(past.channel.as_ref())
}

/// A page of the history, newest first, and the total number of matches.
pub async fn read_history(
    conn: &mut Connection,
    past: &HistoryFilter,
    page: &PageRequest,
) -> Result<(Vec<StoredMessage>, i64)> {
    let total = bind_past(sql!("SELECT count(*)", MATCHING, "{span $4}"), past).bind_span(page.created);
    let total = total.fetch_value(&mut *conn).await?;
    // Ordered by number; messages of one commit have the same time.
    let [newer, older] = page.positions().map(|position| position.map(|(_, id)| id.parse::<i64>().unwrap_or(i64::MAX)));
    let messages = bind_past(
        sql!(
            "SELECT ",
            StoredMessage::COLUMNS,
            MATCHING,
            "{span $4} [AND id < $6] [AND id > $7] ORDER BY id [?8 DESC] LIMIT $9 OFFSET $10",
        ),
        past,
    );
    let messages = messages.bind_span(page.created).bind_some(newer).bind_some(older).bind_flag(!page.oldest_first);
    let messages = messages.bind(i64::from(page.limit)).bind(i64::from(page.offset));
    Ok((messages.fetch_all(conn).await?, total))
}

/// `query`, whose first parameters are the state that `event` leads to and those it leads from.
fn bind_event(query: Query, event: MessageEvent) -> Query {
    query.bind(event.to()).bind_all(event.from().iter().copied())
}

/// Mark messages as delivered, by number.
pub async fn mark_delivered(tx: &mut Tx, ids: &[i64], now: Timestamp) -> Result<u64> {
    let delivered =
        sql!("UPDATE am_messages SET status = $1, delivered_at = $3 WHERE status IN ($2) AND id IN {integers $4}",);
    let delivered = bind_event(delivered, MessageEvent::Delivered).bind(now);
    Ok(delivered.bind(serde_json::json!(ids).to_string()).execute(tx.conn().await?).await?)
}

/// Mark messages as delivered, by id and recipient. Of several with the same id, from different senders, the oldest
/// pending one: a recipient gets them in this order, and one that is not acknowledged is sent again.
pub async fn mark_acknowledged(tx: &mut Tx, acknowledged: &[(MessageId, AgentId)], now: Timestamp) -> Result<u64> {
    let delivered = sql!(
        "UPDATE am_messages SET status = $1, delivered_at = $3 WHERE status IN ($2)
             AND id IN (SELECT (SELECT min(m.id) FROM am_messages m
                     WHERE m.message_id = a.message AND m.recipient = a.agent AND m.status = 'PENDING')
                 FROM {records $4 message:text agent:text} AS a)",
    );
    let delivered = bind_event(delivered, MessageEvent::Delivered).bind(now);
    Ok(delivered.bind(serde_json::json!(acknowledged).to_string()).execute(tx.conn().await?).await?)
}

/// Mark a message as read, by number.
pub async fn mark_read(tx: &mut Tx, id: i64, now: Timestamp) -> Result<bool> {
    let read = sql!(
        "UPDATE am_messages SET status = $1, read_at = $3, delivered_at = coalesce(delivered_at, $3)
         WHERE id = $4 AND status IN ($2)",
    );
    Ok(bind_event(read, MessageEvent::Read).bind(now).bind(id).execute(tx.conn().await?).await? > 0)
}

/// Mark messages as failed, by number, with the reasons.
pub async fn mark_failed(tx: &mut Tx, failures: &[(i64, String)]) -> Result<u64> {
    let failed = sql!(
        "UPDATE am_messages SET status = $1, failure = f.why FROM {records $3 id:integer why:text} AS f
         WHERE am_messages.id = f.id AND status IN ($2)",
    );
    let failed = bind_event(failed, MessageEvent::Failed).bind(serde_json::json!(failures).to_string());
    Ok(failed.execute(tx.conn().await?).await?)
}

/// Whether any pending message has expired.
pub async fn has_expired(conn: &mut Connection, now: Timestamp) -> Result<bool> {
    let expired = sql!("SELECT EXISTS (SELECT 1 FROM am_messages WHERE status = 'PENDING' AND expires_at <= $1)");
    Ok(expired.bind(now).fetch_value(conn).await?)
}

/// Mark at most `limit` expired messages.
pub async fn mark_expired(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<u64> {
    let expired = sql!(
        "UPDATE am_messages SET status = $1 WHERE status IN ($2)
             AND id IN (SELECT id FROM am_messages WHERE status = 'PENDING' AND expires_at <= $3 LIMIT $4)",
    );
    Ok(bind_event(expired, MessageEvent::Expired).bind(now).bind(limit).execute(tx.conn().await?).await?)
}

/// How many messages wait for their recipients.
pub async fn count_pending(conn: &mut Connection) -> Result<i64> {
    Ok(sql!("SELECT count(*) FROM am_messages WHERE status = 'PENDING'").fetch_value(conn).await?)
}

/// Messages from or to `agent` after number `after`, in the order in which they were written.
pub async fn messages_of_agent(
    conn: &mut Connection,
    agent: &AgentId,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredMessage>> {
    let messages = sql!(
        "SELECT ",
        StoredMessage::COLUMNS,
        " FROM am_messages WHERE id IN (
             SELECT id FROM (SELECT id FROM am_messages WHERE sender = $1 AND id > $2 ORDER BY id LIMIT $3) AS sent
             UNION SELECT id FROM (SELECT id FROM am_messages WHERE recipient = $1 AND id > $2 ORDER BY id LIMIT $3) AS received)
         ORDER BY id LIMIT $3",
    );
    Ok(messages.bind(agent).bind(after).bind(limit).fetch_all(conn).await?)
}
