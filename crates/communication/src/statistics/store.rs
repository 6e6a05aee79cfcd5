//! Queries on `am_messages`. Imported messages do not count: they are what a file says.

use super::{MessageFacts, STATISTICS_WINDOW};
use crate::type_name::MessageTypeName;
use am_core::ids::AgentId;
use am_db::{Connection, FromRow as _, Result, row, sql};

row! {
    MessageFacts {
        id,
        message_id,
        channel = "channel_id",
        peer = "CASE WHEN sender = $1 THEN recipient ELSE sender END",
        reply_to,
        kind => MessageTypeName::from_stored,
        status,
        bytes,
        price,
        payment = "payment_status",
        at = "created_at",
    }
}

/// The last messages that an agent sent, newest first.
pub(super) async fn read_sent(conn: &mut Connection, agent: &AgentId) -> Result<Vec<MessageFacts>> {
    let sent = sql!(
        "SELECT ",
        MessageFacts::COLUMNS,
        " FROM am_messages WHERE sender = $1 AND imported_id IS NULL ORDER BY id DESC LIMIT $2",
    );
    sent.bind(agent).bind(STATISTICS_WINDOW).fetch_all(conn).await
}

/// The last messages that an agent received, newest first.
pub(super) async fn read_received(conn: &mut Connection, agent: &AgentId) -> Result<Vec<MessageFacts>> {
    let received = sql!(
        "SELECT ",
        MessageFacts::COLUMNS,
        " FROM am_messages WHERE recipient = $1 AND imported_id IS NULL ORDER BY id DESC LIMIT $2",
    );
    received.bind(agent).bind(STATISTICS_WINDOW).fetch_all(conn).await
}
