//! Tables `am_agent_keys` and `am_message_data_keys`.

use sqlx::{QueryBuilder, Row as _};

use super::{
    masters::Wrapped,
    model::{AgentKey, KeyKind, MasterUse},
};
use am_db::{Connection, Db, Result, Row, Tx, codec::Timestamp, page::Page};

const KEY: &str = "key_id, kind, public_key, owner_id, created_at, revoked_at";

fn agent_key(row: &Row) -> Result<AgentKey> {
    Ok(AgentKey {
        key_id: row.try_get("key_id")?,
        kind: row.try_get("kind")?,
        public_key: row.try_get("public_key")?,
        owner_id: row.try_get("owner_id")?,
        created_at: row.try_get("created_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

/// All keys of an agent, revoked ones too, the newest first.
pub(super) async fn keys_of(conn: &mut Connection, agent: &str) -> Result<Vec<AgentKey>> {
    let sql = format!("SELECT {KEY} FROM am_agent_keys WHERE agent_id = ?1 ORDER BY created_at DESC, key_id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(agent).fetch_all(conn).await?;
    rows.iter().map(agent_key).collect()
}

/// A page of them, and how many there are.
pub(super) async fn key_page(conn: &mut Connection, agent: &str, page: &Page) -> Result<(Vec<AgentKey>, i64)> {
    let count = "SELECT count(*) FROM am_agent_keys WHERE agent_id = ?1";
    let total: i64 = sqlx::query_scalar::<Db, _>(count).bind(agent).fetch_one(&mut *conn).await?;
    let mut query = QueryBuilder::<Db>::new("SELECT * FROM (SELECT key_id AS id, ");
    query.push(KEY).push(" FROM am_agent_keys WHERE agent_id = ").push_bind(agent.to_owned()).push(") WHERE true");
    page.push(&mut query, "");
    let rows = query.build().fetch_all(conn).await?;
    Ok((rows.iter().map(agent_key).collect::<Result<_>>()?, total))
}

/// One key of an agent.
pub(super) async fn key_of(conn: &mut Connection, agent: &str, key_id: &str) -> Result<Option<AgentKey>> {
    let sql = format!("SELECT {KEY} FROM am_agent_keys WHERE agent_id = ?1 AND key_id = ?2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(agent).bind(key_id).fetch_optional(conn).await?;
    row.as_ref().map(agent_key).transpose()
}

/// Enter a key.
pub(super) async fn insert_key(tx: &mut Tx, agent: &str, key: &AgentKey) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_agent_keys (agent_id, key_id, kind, public_key, owner_id, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(agent)
    .bind(&key.key_id)
    .bind(key.kind)
    .bind(&key.public_key)
    .bind(&key.owner_id)
    .bind(key.created_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Take a key back.
pub(super) async fn revoke_key(tx: &mut Tx, agent: &str, key_id: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE am_agent_keys SET revoked_at = ?3 WHERE agent_id = ?1 AND key_id = ?2")
        .bind(agent)
        .bind(key_id)
        .bind(now)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// What a message can be sealed with.
#[derive(Default)]
pub(super) struct Found {
    /// The recipient's active keys, the newest first: kind, id, base64.
    pub keys: Vec<(KeyKind, String, String)>,
    /// The channel's active data key.
    pub data_key: Option<Wrapped>,
}

/// What there is to seal a message of `channel` to `recipient` with, in one trip.
pub(super) async fn find(conn: &mut Connection, channel: &str, recipient: Option<&str>) -> Result<Found> {
    let rows: Vec<(Option<KeyKind>, String, String, String)> = sqlx::query_as::<Db, _>(
        "SELECT kind, key_id, public_key, created_at AS at FROM am_agent_keys WHERE agent_id = ?2 AND revoked_at IS NULL
         UNION ALL
         SELECT NULL, id, wrapped, master_id FROM am_message_data_keys WHERE channel_id = ?1 AND retired_at IS NULL
         ORDER BY at DESC",
    )
    .bind(channel)
    .bind(recipient)
    .fetch_all(conn)
    .await?;
    let mut found = Found::default();
    for (kind, id, text, other) in rows {
        match kind {
            Some(kind) => found.keys.push((kind, id, text)),
            None => {
                let (channel, master_id, wrapped) = (channel.to_owned(), other, text);
                found.data_key = Some(Wrapped { id, channel, master_id, wrapped });
            }
        }
    }
    Ok(found)
}

fn wrapped(row: (String, String, String, String)) -> Wrapped {
    let (id, channel, master_id, wrapped) = row;
    Wrapped { id, channel, master_id, wrapped }
}

/// A data key, retired or not.
pub(super) async fn data_key(conn: &mut Connection, id: &str) -> Result<Option<Wrapped>> {
    let sql = "SELECT id, channel_id, master_id, wrapped FROM am_message_data_keys WHERE id = ?1";
    Ok(sqlx::query_as::<Db, _>(sql).bind(id).fetch_optional(conn).await?.map(wrapped))
}

/// Enter a channel's data key.
pub(super) async fn insert_data_key(tx: &mut Tx, key: &Wrapped, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_message_data_keys (id, channel_id, master_id, wrapped, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(&key.id)
    .bind(&key.channel)
    .bind(&key.master_id)
    .bind(&key.wrapped)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// No data key seals any more; answers how many did.
pub(super) async fn retire_all(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    let sql = "UPDATE am_message_data_keys SET retired_at = ?1 WHERE retired_at IS NULL";
    Ok(sqlx::query(sql).bind(now).execute(tx.conn().await?).await?.rows_affected())
}

/// Up to `limit` data keys that another master than `current` wraps.
pub(super) async fn under_others(conn: &mut Connection, current: &str, limit: u32) -> Result<Vec<Wrapped>> {
    // Two ranges of the index, which <> would not use.
    let rows: Vec<(String, String, String, String)> = sqlx::query_as::<Db, _>(
        "SELECT id, channel_id, master_id, wrapped FROM am_message_data_keys WHERE master_id < ?1
         UNION ALL SELECT id, channel_id, master_id, wrapped FROM am_message_data_keys WHERE master_id > ?1 LIMIT ?2",
    )
    .bind(current)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(wrapped).collect())
}

/// Put a data key under another master.
pub(super) async fn set_wrapped(tx: &mut Tx, key: &Wrapped) -> Result<()> {
    sqlx::query("UPDATE am_message_data_keys SET master_id = ?2, wrapped = ?3 WHERE id = ?1")
        .bind(&key.id)
        .bind(&key.master_id)
        .bind(&key.wrapped)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Which masters wrap how many data keys.
pub(super) async fn masters(conn: &mut Connection) -> Result<Vec<MasterUse>> {
    let sql = "SELECT master_id, count(*) FROM am_message_data_keys GROUP BY master_id ORDER BY master_id";
    let rows: Vec<(String, i64)> = sqlx::query_as::<Db, _>(sql).fetch_all(conn).await?;
    let used = |(master_id, data_keys)| MasterUse { master_id, configured: false, current: false, data_keys };
    Ok(rows.into_iter().map(used).collect())
}
