//! SQL of the payment columns of `am_messages`.

use super::model::MessagePayment;
use crate::model::PaymentStatus;
use am_core::ids::{AgentId, MessageId};
use am_db::{Connection, FromRow as _, Result, Tx, row, sql};

row! {
    MessagePayment { message_id, payment_status, price }
}

/// Messages among `ids` that `agent` sent. Nothing is paid for imported ones.
pub(super) async fn sent_payments(
    conn: &mut Connection,
    agent: &AgentId,
    ids: &[MessageId],
) -> Result<Vec<MessagePayment>> {
    let messages = sql!(
        "SELECT ",
        MessagePayment::COLUMNS,
        " FROM am_messages WHERE sender = $1 AND message_id IN {texts $2} AND imported_id IS NULL",
    );
    messages.bind(agent).bind(serde_json::json!(ids).to_string()).fetch_all(conn).await
}

/// Set the payment status of messages that `agent` sent.
pub(super) async fn set_payment_status(
    tx: &mut Tx,
    agent: &AgentId,
    ids: &[&MessageId],
    status: PaymentStatus,
) -> Result<()> {
    let set = sql!("UPDATE am_messages SET payment_status = $2 WHERE sender = $3 AND message_id IN {texts $1}");
    set.bind(serde_json::json!(ids).to_string()).bind(status).bind(agent).execute(tx.conn().await?).await?;
    Ok(())
}
