//! Table `am_api_keys`.

use std::collections::HashMap;

use sqlx::Row as _;

use super::{
    model::{ApiKey, state},
    ring::Held,
    secret::Salted,
};
use am_db::{Connection, Error, Result, Row, Tx, codec::Timestamp};

/// What a list shows; the rest is for the ring.
const SHOWN: &str = "id, name, role, principal, created_at, expires_at, rotated_at, previous_until, revoked_at";

fn shown(row: &Row, now: Timestamp) -> Result<ApiKey> {
    let (expires_at, revoked_at) = (row.try_get("expires_at")?, row.try_get("revoked_at")?);
    Ok(ApiKey {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        role: row.try_get("role")?,
        principal: row.try_get("principal")?,
        state: state(expires_at, revoked_at, now),
        created_at: row.try_get("created_at")?,
        expires_at,
        rotated_at: row.try_get("rotated_at")?,
        previous_until: row.try_get("previous_until")?,
        revoked_at,
    })
}

fn salted(row: &Row, salt: &str, hash: &str) -> Result<Option<Salted>> {
    let (salt, hash): (Option<&str>, Option<&str>) = (row.try_get(salt)?, row.try_get(hash)?);
    let (Some(salt), Some(hash)) = (salt, hash) else { return Ok(None) };
    let unreadable = || Error::Unreadable("salt and hash of an API key are no hex digits".to_owned());
    Salted::from_hex(salt, hash).map(Some).ok_or_else(unreadable)
}

/// The last change's number.
pub(super) async fn revision(conn: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT coalesce(max(revision), 0) FROM am_api_keys").fetch_one(conn).await?)
}

/// Those that were not revoked, by id.
pub(super) async fn held(conn: &mut Connection) -> Result<HashMap<String, Held>> {
    let rows = sqlx::query(
        "SELECT id, role, principal, salt, hash, previous_salt, previous_hash, previous_until, expires_at
         FROM am_api_keys WHERE revoked_at IS NULL",
    )
    .fetch_all(conn)
    .await?;
    let mut held = HashMap::with_capacity(rows.len());
    for row in &rows {
        let Some(current) = salted(row, "salt", "hash")? else { continue };
        let previous = salted(row, "previous_salt", "previous_hash")?;
        let principal: &str = row.try_get("principal")?;
        let key = Held {
            role: row.try_get("role")?,
            principal: principal.into(),
            current,
            previous: previous.zip(row.try_get("previous_until")?),
            expires_at: row.try_get("expires_at")?,
        };
        held.insert(row.try_get("id")?, key);
    }
    Ok(held)
}

/// All, in the order in which they were made.
pub(super) async fn list(conn: &mut Connection, now: Timestamp) -> Result<Vec<ApiKey>> {
    let sql = format!("SELECT {SHOWN} FROM am_api_keys ORDER BY created_at, id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(|row| shown(row, now)).collect()
}

/// The one of this name or id; none of either has the form of the other.
pub(super) async fn get(conn: &mut Connection, name_or_id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
    let sql = format!("SELECT {SHOWN} FROM am_api_keys WHERE id = ?1 OR name = ?1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(name_or_id).fetch_optional(conn).await?;
    row.map(|row| shown(&row, now)).transpose()
}

/// Enter a key.
pub(super) async fn insert(tx: &mut Tx, key: &ApiKey, secret: &Salted) -> Result<()> {
    let (salt, hash) = secret.to_hex();
    sqlx::query(
        "INSERT INTO am_api_keys (id, name, role, principal, salt, hash, created_at, expires_at, revision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, (SELECT coalesce(max(revision), 0) + 1 FROM am_api_keys))",
    )
    .bind(&key.id)
    .bind(&key.name)
    .bind(key.role)
    .bind(&key.principal)
    .bind(salt)
    .bind(hash)
    .bind(key.created_at)
    .bind(key.expires_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Take a key back: neither of its secrets is good any more.
pub(super) async fn revoke(tx: &mut Tx, key: &ApiKey) -> Result<()> {
    sqlx::query(
        "UPDATE am_api_keys SET revoked_at = ?2, previous_salt = NULL, previous_hash = NULL, previous_until = NULL,
             revision = (SELECT max(revision) + 1 FROM am_api_keys)
         WHERE id = ?1",
    )
    .bind(&key.id)
    .bind(key.revoked_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Give a key another secret; the present one is kept as the one before if it is good for some time yet.
pub(super) async fn rotate(tx: &mut Tx, key: &ApiKey, secret: &Salted) -> Result<()> {
    let (salt, hash) = secret.to_hex();
    sqlx::query(
        "UPDATE am_api_keys SET previous_salt = iif(?4 IS NULL, NULL, salt), previous_hash = iif(?4 IS NULL, NULL, hash),
             previous_until = ?4, salt = ?2, hash = ?3, rotated_at = ?5, expires_at = ?6,
             revision = (SELECT max(revision) + 1 FROM am_api_keys)
         WHERE id = ?1",
    )
    .bind(&key.id)
    .bind(salt)
    .bind(hash)
    .bind(key.previous_until)
    .bind(key.rotated_at)
    .bind(key.expires_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
