//! SQL of table `am_api_keys`.

use std::{collections::HashMap, sync::Arc};

use super::{
    key_cache::CachedKey,
    model::{ApiKey, KeyName, KeyRole, key_state},
    secret::SaltedHash,
};
use am_core::ids::{AgentId, ApiKeyId, PrincipalId};
use am_db::{Connection, DatabaseError, FromRow as _, Result, Tx, codec::Timestamp, row, sql};

row! {
    /// What a list shows of a row of `am_api_keys`; the rest is for the ring.
    struct Shown {
        id: ApiKeyId,
        name: String,
        role: KeyRole,
        agent_id: Option<AgentId>,
        principal: PrincipalId,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
        rotated_at: Option<Timestamp>,
        previous_until: Option<Timestamp>,
        revoked_at: Option<Timestamp>,
        last_used_at: Option<Timestamp>,
    }
}

impl Shown {
    fn at(self, now: Timestamp) -> ApiKey {
        ApiKey {
            state: key_state(self.expires_at, self.revoked_at, now),
            id: self.id,
            name: self.name,
            role: self.role,
            agent_id: self.agent_id,
            principal: self.principal,
            created_at: self.created_at,
            expires_at: self.expires_at,
            rotated_at: self.rotated_at,
            previous_until: self.previous_until,
            revoked_at: self.revoked_at,
            last_used_at: self.last_used_at,
        }
    }
}

row! {
    /// What is needed to compare a secret with a key's.
    struct Secrets {
        id: ApiKeyId,
        role: KeyRole,
        agent_id: Option<AgentId>,
        principal: PrincipalId,
        salt: Option<String>,
        hash: Option<String>,
        previous_salt: Option<String>,
        previous_hash: Option<String>,
        previous_until: Option<Timestamp>,
        expires_at: Option<Timestamp>,
    }
}

fn salted_hash_from_row(salt: Option<&str>, hash: Option<&str>) -> Result<Option<SaltedHash>> {
    let (Some(salt), Some(hash)) = (salt, hash) else { return Ok(None) };
    let unreadable = || DatabaseError::InvalidValue("salt and hash of an API key are no hex digits".to_owned());
    SaltedHash::from_hex(salt, hash).map(Some).ok_or_else(unreadable)
}

/// Number of the last change.
pub(super) async fn revision(conn: &mut Connection) -> Result<i64> {
    sql!("SELECT coalesce(max(revision), 0) FROM am_api_keys").fetch_value(conn).await
}

/// Keys that were not revoked, by id.
pub(super) async fn load_cached_keys(conn: &mut Connection) -> Result<HashMap<ApiKeyId, CachedKey>> {
    let rows = sql!("SELECT ", Secrets::COLUMNS, " FROM am_api_keys WHERE revoked_at IS NULL");
    let rows: Vec<Secrets> = rows.fetch_all(conn).await?;
    let mut held = HashMap::with_capacity(rows.len());
    for row in rows {
        let Some(current) = salted_hash_from_row(row.salt.as_deref(), row.hash.as_deref())? else { continue };
        let previous = salted_hash_from_row(row.previous_salt.as_deref(), row.previous_hash.as_deref())?;
        let key = CachedKey {
            role: row.role,
            agent: row.agent_id,
            principal: (&*row.principal).into(),
            current,
            previous: previous.zip(row.previous_until),
            expires_at: row.expires_at,
            used: Arc::default(),
        };
        held.insert(row.id, key);
    }
    Ok(held)
}

/// Ids, principals and names of all keys, revoked ones too.
pub(super) async fn load_names(conn: &mut Connection) -> Result<Vec<KeyName>> {
    sql!("SELECT ", KeyName::COLUMNS, " FROM am_api_keys").fetch_all(conn).await
}

row! {
    KeyName { id, principal, name }
}

/// Record when keys were used last; a later time that is known stays.
pub(super) async fn record_use(tx: &mut Tx, used: &[(ApiKeyId, Timestamp)]) -> Result<()> {
    for (id, at) in used {
        sql!("UPDATE am_api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)")
            .bind(id)
            .bind(*at)
            .execute(tx.conn().await?)
            .await?;
    }
    Ok(())
}

/// All keys in order of creation.
pub(super) async fn list_keys(conn: &mut Connection, now: Timestamp) -> Result<Vec<ApiKey>> {
    let keys = sql!("SELECT ", Shown::COLUMNS, " FROM am_api_keys ORDER BY created_at, id");
    let keys: Vec<Shown> = keys.fetch_all(conn).await?;
    Ok(keys.into_iter().map(|key| key.at(now)).collect())
}

/// The key with this name or id; the two have different forms, so they can't be confused.
pub(super) async fn find_key(conn: &mut Connection, name_or_id: &str, now: Timestamp) -> Result<Option<ApiKey>> {
    let key = sql!("SELECT ", Shown::COLUMNS, " FROM am_api_keys WHERE id = $1 OR name = $1").bind(name_or_id);
    Ok(key.fetch_optional::<Shown>(conn).await?.map(|key| key.at(now)))
}

/// Insert a key.
pub(super) async fn insert_key(tx: &mut Tx, key: &ApiKey, secret: &SaltedHash) -> Result<()> {
    let (salt, hash) = secret.to_hex();
    sql!(
        "INSERT INTO am_api_keys (id, name, role, principal, salt, hash, created_at, expires_at, agent_id, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT coalesce(max(revision), 0) + 1 FROM am_api_keys))",
    )
    .bind(&key.id)
    .bind(&key.name)
    .bind(key.role)
    .bind(&key.principal)
    .bind(salt)
    .bind(hash)
    .bind(key.created_at)
    .bind(key.expires_at)
    .bind(&key.agent_id)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Mark a key as revoked and delete its previous secret.
pub(super) async fn revoke_key(tx: &mut Tx, key: &ApiKey) -> Result<()> {
    sql!(
        "UPDATE am_api_keys SET revoked_at = $2, previous_salt = NULL, previous_hash = NULL, previous_until = NULL,
             revision = (SELECT max(revision) + 1 FROM am_api_keys)
         WHERE id = $1",
    )
    .bind(&key.id)
    .bind(key.revoked_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Replace a key's secret; the current one becomes the previous one if it stays valid for some time.
pub(super) async fn rotate_key(tx: &mut Tx, key: &ApiKey, secret: &SaltedHash) -> Result<()> {
    let (salt, hash) = secret.to_hex();
    sql!(
        "UPDATE am_api_keys SET previous_salt = CASE WHEN $7 THEN salt END, previous_hash = CASE WHEN $7 THEN hash END,
             previous_until = $4, salt = $2, hash = $3, rotated_at = $5, expires_at = $6,
             revision = (SELECT max(revision) + 1 FROM am_api_keys)
         WHERE id = $1",
    )
    .bind(&key.id)
    .bind(salt)
    .bind(hash)
    .bind(key.previous_until)
    .bind(key.rotated_at)
    .bind(key.expires_at)
    .bind(key.previous_until.is_some())
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
