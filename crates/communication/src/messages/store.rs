//! Tables `am_messages` and `am_broadcasts`.

use sqlx::{QueryBuilder, Row as _};

use super::{
    model::{LeftOut, Message, Past, Receipt},
    state::Event,
};
use crate::{
    error::Result,
    model::{MessageStatus, PaymentStatus},
    sealing::{Bound, Sealed},
};
use am_db::{
    Connection, Db, Error, Row, Tx,
    codec::{Doc, Timestamp},
    page::Page,
    rows::{Insert, Rows},
};

const COLUMNS: &str = "id, message_id, channel_id, seq, sender, recipient, broadcast_id, topic, reply_to, kind, priority, \
     encryption, scope, key_id, content, bytes, price, payment_status, status, failure, pushed, created_at, expires_at, \
     delivered_at, read_at";
static MESSAGES: Insert = Insert::into("am_messages", COLUMNS);
static BROADCASTS: Insert = Insert::into(
    "am_broadcasts",
    "id, sender, channel_id, topic, recipients, pushed, seq, encrypted, price, refused, created_at",
);

/// A message as it is stored: its content is sealed.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Everything but the content, which is null.
    pub message: Message,
    /// The content.
    pub sealed: Sealed,
    /// The recipient had a socket when it was written.
    pub pushed: bool,
}

impl Stored {
    /// What its ciphertext is bound to.
    pub fn bound(&self) -> Bound<'_> {
        let Message { message_id, channel_id, sender, recipient, .. } = &self.message;
        Bound { message_id, channel: channel_id, sender, recipient: Some(recipient) }
    }

    /// What its sender was told.
    pub fn receipt(&self) -> Receipt {
        let message = &self.message;
        Receipt {
            status: "success".to_owned(),
            message_id: message.message_id.clone(),
            sender: message.sender.clone(),
            recipient: Some(message.recipient.clone()),
            channel_id: message.channel_id.clone(),
            seq: message.seq,
            encrypted: message.encrypted,
            encryption: Some(message.encryption),
            scope: Some(message.scope),
            key_id: message.key_id.clone(),
            ws_delivered: self.pushed,
            message_status: message.status,
            sent_at: message.sent_at,
            expires_at: Some(message.expires_at),
            price: message.price,
            payment_status: message.payment_status,
            recipients: None,
            pushed: None,
            refused: Vec::new(),
            repeated: false,
        }
    }
}

/// A new message.
pub fn push(rows: &mut Rows, stored: &Stored) {
    let (message, sealed) = (&stored.message, &stored.sealed);
    rows.push(&MESSAGES, |row| {
        row.put(message.id).put(&message.message_id).put(&message.channel_id).put(message.seq);
        row.put(&message.sender).put(&message.recipient).put(message.broadcast_id.as_deref());
        row.put(message.topic.as_deref()).put(message.reply_to.as_deref()).put(message.message_type.stored());
        row.put(message.priority.stored()).put(sealed.encryption.stored()).put(sealed.scope.stored());
        row.put(sealed.key_id.as_deref()).put(&sealed.stored).put(message.size_bytes).put(message.price);
        row.put(message.payment_status.stored()).put(message.status.stored()).put(message.failure.as_deref());
        row.put(stored.pushed).put(message.sent_at).put(message.expires_at);
        row.put(message.delivered_at).put(message.read_at);
    });
}

/// A message that went to several.
pub fn push_broadcast(rows: &mut Rows, receipt: &Receipt, topic: Option<&str>) {
    let refused = serde_json::to_string(&receipt.refused).unwrap_or_else(|_| "[]".to_owned());
    rows.push(&BROADCASTS, |row| {
        row.put(&receipt.message_id).put(&receipt.sender).put(&receipt.channel_id).put(topic);
        row.put(receipt.recipients.unwrap_or(0)).put(receipt.pushed.unwrap_or(0)).put(receipt.seq);
        row.put(receipt.encrypted).put(receipt.price).put(&refused).put(receipt.sent_at);
    });
}

fn stored(row: &Row) -> Result<Stored> {
    let (encryption, scope) = (row.try_get("encryption")?, row.try_get("scope")?);
    let key_id: Option<String> = row.try_get("key_id")?;
    let content: Doc = row.try_get("content")?;
    let sealed = Sealed { encryption, scope, key_id: key_id.clone(), stored: content };
    let message = Message {
        id: row.try_get("id")?,
        message_id: row.try_get("message_id")?,
        channel_id: row.try_get("channel_id")?,
        seq: row.try_get("seq")?,
        sender: row.try_get("sender")?,
        recipient: row.try_get("recipient")?,
        message_type: row.try_get("kind")?,
        priority: row.try_get("priority")?,
        content: serde_json::Value::Null,
        encrypted: sealed.is_encrypted(),
        encryption,
        scope,
        key_id,
        size_bytes: row.try_get("bytes")?,
        price: row.try_get("price")?,
        payment_status: row.try_get("payment_status")?,
        status: row.try_get("status")?,
        failure: row.try_get("failure")?,
        topic: row.try_get("topic")?,
        reply_to: row.try_get("reply_to")?,
        broadcast_id: row.try_get("broadcast_id")?,
        sent_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        delivered_at: row.try_get("delivered_at")?,
        read_at: row.try_get("read_at")?,
    };
    Ok(Stored { message, sealed, pushed: row.try_get("pushed")? })
}

fn select() -> QueryBuilder<Db> {
    let mut query = QueryBuilder::new("SELECT ");
    query.push(COLUMNS).push(" FROM am_messages ");
    query
}

async fn all(mut query: QueryBuilder<Db>, conn: &mut Connection) -> Result<Vec<Stored>> {
    query.build().fetch_all(conn).await?.iter().map(stored).collect()
}

/// The number of the last message of all.
pub async fn last_id(conn: &mut Connection) -> Result<i64> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'am_messages'").fetch_optional(conn).await?;
    Ok(last.unwrap_or(0))
}

/// Those of these messages that are there.
pub async fn by_message_ids(conn: &mut Connection, ids: &[&str]) -> Result<Vec<Stored>> {
    let mut query = select();
    query.push("WHERE message_id IN (SELECT value FROM json_each(");
    query.push_bind(serde_json::json!(ids).to_string()).push("))");
    all(query, conn).await
}

/// Those of these messages to several that are there, as their senders were told.
pub async fn broadcasts(conn: &mut Connection, ids: &[&str]) -> Result<Vec<Receipt>> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT id, sender, channel_id, recipients, pushed, seq, encrypted, price, refused, created_at FROM am_broadcasts
         WHERE id IN (SELECT value FROM json_each(",
    );
    query.push_bind(serde_json::json!(ids).to_string()).push("))");
    let rows = query.build().fetch_all(conn).await?;
    rows.iter().map(broadcast).collect()
}

fn broadcast(row: &Row) -> Result<Receipt> {
    let refused: &str = row.try_get("refused")?;
    let refused: Vec<LeftOut> =
        serde_json::from_str(refused).map_err(|error| Error::Unreadable(format!("am_broadcasts.refused: {error}")))?;
    let (recipients, pushed): (i64, i64) = (row.try_get("recipients")?, row.try_get("pushed")?);
    Ok(Receipt {
        status: "success".to_owned(),
        message_id: row.try_get("id")?,
        sender: row.try_get("sender")?,
        recipient: None,
        channel_id: row.try_get("channel_id")?,
        seq: row.try_get("seq")?,
        encrypted: row.try_get("encrypted")?,
        encryption: None,
        scope: None,
        key_id: None,
        ws_delivered: pushed > 0,
        message_status: MessageStatus::Pending,
        sent_at: row.try_get("created_at")?,
        expires_at: None,
        price: row.try_get("price")?,
        payment_status: PaymentStatus::Unpaid,
        recipients: Some(recipients),
        pushed: Some(pushed),
        refused,
        repeated: false,
    })
}

/// One message.
pub async fn get(conn: &mut Connection, message_id: &str) -> Result<Option<Stored>> {
    Ok(by_message_ids(conn, &[message_id]).await?.pop())
}

/// What waits for `agent`, after number `after`, in the order in which it was written.
pub async fn pending(
    conn: &mut Connection,
    agent: &str,
    after: i64,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Stored>> {
    let mut query = select();
    query.push("WHERE status = 'PENDING' AND recipient = ").push_bind(agent.to_owned());
    query.push(" AND id > ").push_bind(after).push(" AND expires_at > ").push_bind(now);
    query.push(" ORDER BY id LIMIT ").push_bind(limit);
    all(query, conn).await
}

/// Numbers and recipients of the messages after number `after`.
pub async fn recipients_after(conn: &mut Connection, after: i64, limit: i64) -> Result<Vec<(i64, String)>> {
    let rows = sqlx::query_as("SELECT id, recipient FROM am_messages WHERE id > ?1 ORDER BY id LIMIT ?2");
    Ok(rows.bind(after).bind(limit).fetch_all(conn).await?)
}

/// Those of these that wait for their recipients, in order.
pub async fn waiting(conn: &mut Connection, ids: &[i64], now: Timestamp) -> Result<Vec<Stored>> {
    let mut query = select();
    query.push("WHERE id IN (SELECT value FROM json_each(").push_bind(serde_json::json!(ids).to_string());
    query.push(")) AND status = 'PENDING' AND expires_at > ").push_bind(now).push(" ORDER BY id");
    all(query, conn).await
}

/// What came for `agent`: what is not read yet, the oldest first, after number `after`; or everything, the newest first,
/// before it.
pub async fn inbox(
    conn: &mut Connection,
    agent: &str,
    unread_only: bool,
    from: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>> {
    let mut query = select();
    query.push("WHERE recipient = ").push_bind(agent.to_owned());
    query.push(match unread_only {
        true => " AND status IN ('PENDING', 'DELIVERED')",
        false => " AND status IN ('PENDING', 'DELIVERED', 'READ')",
    });
    if let Some(from) = from {
        query.push(if unread_only { " AND id > " } else { " AND id < " }).push_bind(from);
    }
    query.push(if unread_only { " ORDER BY id" } else { " ORDER BY id DESC" });
    query.push(" LIMIT ").push_bind(limit);
    all(query, conn).await
}

fn push_past(query: &mut QueryBuilder<Db>, past: &Past) {
    query.push("WHERE true");
    let members = [
        (" AND sender = ", &past.sender),
        (" AND recipient = ", &past.recipient),
        (" AND channel_id = ", &past.channel),
    ];
    for (condition, value) in members {
        if let Some(value) = value {
            query.push(condition).push_bind(value.clone());
        }
    }
}

/// A page of the past, the newest first, and how many there are in all.
pub async fn past(conn: &mut Connection, past: &Past, page: &Page) -> Result<(Vec<Stored>, i64)> {
    let mut count = QueryBuilder::<Db>::new("SELECT count(*) FROM am_messages ");
    push_past(&mut count, past);
    let total = count.build_query_scalar().fetch_one(&mut *conn).await?;
    let mut query = select();
    push_past(&mut query, past);
    // Numbers are the order; times of one commit are the same.
    if let Some((_, id)) = &page.after {
        query.push(" AND id < ").push_bind(id.parse::<i64>().unwrap_or(i64::MAX));
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(page.limit));
    query.push(" OFFSET ").push_bind(i64::from(page.offset));
    Ok((all(query, conn).await?, total))
}

/// Messages that came, by id and recipient.
pub async fn delivered(tx: &mut Tx, acknowledged: &[(String, String)], now: Timestamp) -> Result<u64> {
    let mut query = QueryBuilder::<Db>::new("UPDATE am_messages SET ");
    query
        .push(Event::Delivered.set_sql())
        .push(", delivered_at = ")
        .push_bind(now)
        .push(" WHERE status IN ")
        .push(Event::Delivered.states_sql());
    // By their unique ids, not by what waits for anybody.
    query.push(" AND id IN (SELECT m.id FROM json_each(");
    query.push_bind(serde_json::json!(acknowledged).to_string());
    query.push(") a CROSS JOIN am_messages m ON m.message_id = a.value ->> 0 AND m.recipient = a.value ->> 1)");
    Ok(query.build().execute(tx.conn().await?).await?.rows_affected())
}

/// A message was read.
pub async fn read(tx: &mut Tx, message_id: &str, now: Timestamp) -> Result<bool> {
    let mut query = QueryBuilder::<Db>::new("UPDATE am_messages SET ");
    query
        .push(Event::Read.set_sql())
        .push(", read_at = ")
        .push_bind(now)
        .push(", delivered_at = coalesce(delivered_at, ")
        .push_bind(now);
    query.push(") WHERE message_id = ").push_bind(message_id.to_owned());
    query.push(" AND status IN ").push(Event::Read.states_sql());
    Ok(query.build().execute(tx.conn().await?).await?.rows_affected() > 0)
}

/// Messages that can't be opened.
pub async fn failed(tx: &mut Tx, failures: &[(String, String)]) -> Result<u64> {
    let mut query = QueryBuilder::<Db>::new("UPDATE am_messages SET ");
    query.push(Event::Failed.set_sql());
    query.push(", failure = f.why FROM (SELECT value ->> 0 AS id, value ->> 1 AS why FROM json_each(");
    query
        .push_bind(serde_json::json!(failures).to_string())
        .push(")) AS f WHERE am_messages.message_id = f.id AND status IN ");
    query.push(Event::Failed.states_sql());
    Ok(query.build().execute(tx.conn().await?).await?.rows_affected())
}

/// Is anything waiting whose time is up?
pub async fn has_expired(conn: &mut Connection, now: Timestamp) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM am_messages WHERE status = 'PENDING' AND expires_at <= ?1)";
    Ok(sqlx::query_scalar(sql).bind(now).fetch_one(conn).await?)
}

/// Mark what waits and whose time is up, at most `limit`.
pub async fn expire(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<u64> {
    let mut query = QueryBuilder::<Db>::new("UPDATE am_messages SET ");
    query.push(Event::Expired.set_sql()).push(" WHERE status IN ").push(Event::Expired.states_sql());
    query.push(" AND id IN (SELECT id FROM am_messages WHERE status = 'PENDING' AND expires_at <= ").push_bind(now);
    query.push(" LIMIT ").push_bind(limit).push(")");
    Ok(query.build().execute(tx.conn().await?).await?.rows_affected())
}

/// How many messages are in each state.
pub async fn waiting_count(conn: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM am_messages WHERE status = 'PENDING'").fetch_one(conn).await?)
}

/// What `agent` wrote and got, in the order in which it was written, after message number `after`.
pub async fn of_agent(conn: &mut Connection, agent: &str, after: i64, limit: i64) -> Result<Vec<Stored>> {
    let mut query = select();
    query.push("WHERE id IN (SELECT id FROM (SELECT id FROM am_messages WHERE sender = ").push_bind(agent.to_owned());
    query.push(" AND id > ").push_bind(after).push(" ORDER BY id LIMIT ").push_bind(limit);
    query.push(") UNION SELECT id FROM (SELECT id FROM am_messages WHERE recipient = ").push_bind(agent.to_owned());
    query.push(" AND id > ").push_bind(after).push(" ORDER BY id LIMIT ").push_bind(limit);
    query.push(")) ORDER BY id LIMIT ").push_bind(limit);
    all(query, conn).await
}
