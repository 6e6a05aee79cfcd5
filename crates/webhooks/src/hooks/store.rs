//! SQL of table `am_webhook_hooks`.

use super::super::error::Result;
use am_core::ids::PrincipalId;
use am_db::{
    Connection, FromRow as _, Tx,
    codec::{Json, JsonText, Timestamp},
    insert, row, sql,
};

row! {
    /// An endpoint as it is stored.
    pub struct HookRow {
        pub name: String,
        pub owner_id: PrincipalId,
        pub url: String,
        /// Kinds of events; none: all.
        pub events: Option<Vec<String>> => Json::into_inner,
        pub receives_all: bool,
        pub timeout_seconds: f64,
        pub created_at: Timestamp,
    }
}

/// Number of endpoints, and the highest number that one has: both change with whatever changes.
pub async fn state(conn: &mut Connection) -> Result<(i64, i64)> {
    let state = sql!("SELECT count(*), coalesce(max(number), 0) FROM am_webhook_hooks");
    Ok(state.fetch_one(conn).await?)
}

/// Read all endpoints.
pub async fn list(conn: &mut Connection) -> Result<Vec<HookRow>> {
    let all = sql!("SELECT ", HookRow::COLUMNS, " FROM am_webhook_hooks ORDER BY number");
    Ok(all.fetch_all(conn).await?)
}

/// Count the endpoints of an owner.
pub async fn count_of(conn: &mut Connection, owner: &PrincipalId) -> Result<i64> {
    let count = sql!("SELECT count(*) FROM am_webhook_hooks WHERE owner_id = $1").bind(owner);
    Ok(count.fetch_value(conn).await?)
}

/// Store an endpoint.
pub async fn insert(tx: &mut Tx, new: &HookRow) -> Result<()> {
    let events =
        JsonText::from_value(&new.events).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
    insert!("am_webhook_hooks" {
        name: &new.name,
        owner_id: &new.owner_id,
        url: &new.url,
        events: events,
        receives_all: new.receives_all,
        timeout_seconds: new.timeout_seconds,
        created_at: new.created_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Delete an endpoint. Returns false when there is none.
pub async fn delete(tx: &mut Tx, name: &str) -> Result<bool> {
    let deleted = sql!("DELETE FROM am_webhook_hooks WHERE name = $1").bind(name);
    Ok(deleted.execute(tx.conn().await?).await? > 0)
}
