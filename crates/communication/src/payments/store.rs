//! What `am_messages` records of prices.

use crate::model::PaymentStatus;
use am_db::{Connection, Db, Result, Tx};

/// Those of these messages that `agent` wrote: id, what is recorded, price.
pub(super) async fn of(
    conn: &mut Connection,
    agent: &str,
    ids: &[String],
) -> Result<Vec<(String, PaymentStatus, f64)>> {
    let sql = "SELECT message_id, payment_status, price FROM am_messages
         WHERE sender = ?1 AND message_id IN (SELECT value FROM json_each(?2))";
    let ids = serde_json::json!(ids).to_string();
    Ok(sqlx::query_as::<Db, _>(sql).bind(agent).bind(ids).fetch_all(conn).await?)
}

/// Record it.
pub(super) async fn set(tx: &mut Tx, ids: &[&str], status: PaymentStatus) -> Result<()> {
    let sql = "UPDATE am_messages SET payment_status = ?2 WHERE message_id IN (SELECT value FROM json_each(?1))";
    sqlx::query(sql).bind(serde_json::json!(ids).to_string()).bind(status).execute(tx.conn().await?).await?;
    Ok(())
}
