//! SQL of the payment columns of `am_messages`.

use crate::model::PaymentStatus;
use am_db::{Connection, Result, Tx, sql};

/// Messages among `ids` that `agent` sent: id, payment status, price.
pub(super) async fn sent_payments(
    conn: &mut Connection,
    agent: &str,
    ids: &[String],
) -> Result<Vec<(String, PaymentStatus, f64)>> {
    let messages = sql!(
        "SELECT message_id, payment_status, price FROM am_messages WHERE sender = $1 AND message_id IN {texts $2}",
    );
    messages.bind(agent).bind(serde_json::json!(ids).to_string()).fetch_all(conn).await
}

/// Set the payment status.
pub(super) async fn set_payment_status(tx: &mut Tx, ids: &[&str], status: PaymentStatus) -> Result<()> {
    let set = sql!("UPDATE am_messages SET payment_status = $2 WHERE message_id IN {texts $1}");
    set.bind(serde_json::json!(ids).to_string()).bind(status).execute(tx.conn().await?).await?;
    Ok(())
}
