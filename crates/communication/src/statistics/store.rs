//! Queries on `am_messages`.

use super::{Row, WINDOW};
use am_db::{Connection, FromRow as _, Result, row, sql};

row! {
    Row {
        id,
        message_id,
        channel = "channel_id",
        peer = "CASE WHEN sender = $1 THEN recipient ELSE sender END",
        reply_to,
        kind,
        status,
        bytes,
        price,
        payment = "payment_status",
        at = "created_at",
    }
}

/// The last messages that an agent sent, newest first.
pub(super) async fn sent(conn: &mut Connection, agent: &str) -> Result<Vec<Row>> {
    let sent = sql!("SELECT ", Row::COLUMNS, " FROM am_messages WHERE sender = $1 ORDER BY id DESC LIMIT $2",);
    sent.bind(agent).bind(WINDOW).fetch_all(conn).await
}

/// The last messages that an agent received, newest first.
pub(super) async fn received(conn: &mut Connection, agent: &str) -> Result<Vec<Row>> {
    let received = sql!("SELECT ", Row::COLUMNS, " FROM am_messages WHERE recipient = $1 ORDER BY id DESC LIMIT $2",);
    received.bind(agent).bind(WINDOW).fetch_all(conn).await
}
