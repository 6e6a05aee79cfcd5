//! Reads `am_messages`.

use sqlx::Row as _;

use super::{Row, WINDOW};
use am_db::{Connection, Result};

const COLUMNS: &str = "id, message_id, channel_id, reply_to, kind, status, bytes, price, payment_status, created_at";

async fn last(conn: &mut Connection, (own, other): (&str, &str), agent: &str) -> Result<Vec<Row>> {
    let sql = format!("SELECT {COLUMNS}, {other} AS peer FROM am_messages WHERE {own} = ?1 ORDER BY id DESC LIMIT ?2");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(agent).bind(WINDOW).fetch_all(conn).await?;
    rows.iter().map(row).collect()
}

fn row(row: &am_db::Row) -> Result<Row> {
    Ok(Row {
        id: row.try_get("id")?,
        message_id: row.try_get("message_id")?,
        channel: row.try_get("channel_id")?,
        peer: row.try_get("peer")?,
        reply_to: row.try_get("reply_to")?,
        kind: row.try_get("kind")?,
        status: row.try_get("status")?,
        bytes: row.try_get("bytes")?,
        price: row.try_get("price")?,
        payment: row.try_get("payment_status")?,
        at: row.try_get("created_at")?,
    })
}

/// The last messages that an agent wrote, the newest first.
pub(super) async fn sent(conn: &mut Connection, agent: &str) -> Result<Vec<Row>> {
    last(conn, ("sender", "recipient"), agent).await
}

/// The last that it got, the newest first.
pub(super) async fn received(conn: &mut Connection, agent: &str) -> Result<Vec<Row>> {
    last(conn, ("recipient", "sender"), agent).await
}
