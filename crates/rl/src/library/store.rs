//! Tables `am_policies`, `am_policy_versions`, `am_policy_aliases` and `am_policy_alias_moves`.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{QueryBuilder, Row as _};

use super::model::{AliasMove, NewVersion, Policy, VersionRecord};
use crate::{
    error::{Result, unreadable},
    model::PRODUCTION,
    serving::Split,
};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
    page::Page,
};

const POLICY: &str = "name, owner_id, last_version, split, created_at, updated_at";
const VERSION: &str = "id, name, version, owner_id, sha256, size_bytes, form, action_names, state_names, environment, source, seed, \
     libtorch, training, scores, created_at";

/// SQLite's integers have a sign.
fn number(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

fn document<T: for<'de> serde::Deserialize<'de>>(row: &Row, column: &str) -> Result<T> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn policy(row: &Row, aliases: BTreeMap<String, u32>) -> Result<Policy> {
    let latest = number(row.try_get("last_version")?);
    Ok(Policy {
        name: row.try_get("name")?,
        owner_id: row.try_get("owner_id")?,
        latest,
        serving: aliases.get(PRODUCTION).copied().unwrap_or(latest),
        aliases,
        split: document::<Option<Split>>(row, "split")?.unwrap_or_default(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn version(row: &Row) -> Result<VersionRecord> {
    let (name, version): (String, u32) = (row.try_get("name")?, number(row.try_get("version")?));
    let value = |column: &str| -> Result<Option<Value>> {
        let doc: Doc = row.try_get(column)?;
        doc.parse().map_err(|error| unreadable(column, error))
    };
    Ok(VersionRecord {
        id: row.try_get("id")?,
        reference: format!("{name}@{version}"),
        name,
        version,
        owner_id: row.try_get("owner_id")?,
        form: document(row, "form")?,
        action_names: document(row, "action_names")?,
        state_names: document(row, "state_names")?,
        environment: row.try_get("environment")?,
        source: row.try_get("source")?,
        sha256: row.try_get("sha256")?,
        size_bytes: row.try_get::<i64, _>("size_bytes")?.unsigned_abs(),
        seed: row.try_get::<Option<i64>, _>("seed")?.map(i64::cast_unsigned),
        libtorch: row.try_get("libtorch")?,
        training: value("training")?,
        scores: value("scores")?,
        created_at: row.try_get("created_at")?,
    })
}

async fn aliases(conn: &mut Connection, name: &str) -> Result<BTreeMap<String, u32>> {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT alias, version FROM am_policy_aliases WHERE name = ?1")
        .bind(name)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(|(alias, version)| (alias, number(version))).collect())
}

/// One policy.
pub async fn get(conn: &mut Connection, name: &str) -> Result<Option<Policy>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(POLICY).push(" FROM am_policies WHERE name = ").push_bind(name);
    let Some(row) = query.build().fetch_optional(&mut *conn).await? else { return Ok(None) };
    let aliases = aliases(conn, name).await?;
    policy(&row, aliases).map(Some)
}

/// A page of policies, newest first, and how many there are in all.
pub async fn list(conn: &mut Connection, page: &Page) -> Result<(Vec<Policy>, i64)> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(POLICY).push(" FROM (SELECT *, name AS id FROM am_policies) WHERE 1");
    page.push(&mut query, "");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut policies = Vec::with_capacity(rows.len());
    for row in &rows {
        let aliases = aliases(conn, row.try_get("name")?).await?;
        policies.push(policy(row, aliases)?);
    }
    let total = sqlx::query_scalar("SELECT count(*) FROM am_policies").fetch_one(conn).await?;
    Ok((policies, total))
}

/// The names of policies that changed after `revision`, and the newest revision.
pub async fn changed(conn: &mut Connection, revision: i64) -> Result<(Vec<String>, i64)> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, revision FROM am_policies WHERE revision > ?1 ORDER BY revision")
            .bind(revision)
            .fetch_all(conn)
            .await?;
    let newest = rows.last().map_or(revision, |(_, revision)| *revision);
    Ok((rows.into_iter().map(|(name, _)| name).collect(), newest))
}

/// The names of policies that have a version in production, the latest moved first.
pub async fn in_production(conn: &mut Connection) -> Result<Vec<String>> {
    let names =
        sqlx::query_scalar("SELECT name FROM am_policy_aliases WHERE alias = ?1 ORDER BY updated_at DESC LIMIT 100");
    Ok(names.bind(PRODUCTION).fetch_all(conn).await?)
}

/// All versions of a policy, the first first.
pub async fn all_versions(conn: &mut Connection, name: &str) -> Result<Vec<VersionRecord>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(VERSION).push(" FROM am_policy_versions WHERE name = ").push_bind(name).push(" ORDER BY version");
    query.build().fetch_all(conn).await?.iter().map(version).collect()
}

/// A page of a policy's versions, newest first, and how many there are in all.
pub async fn versions(conn: &mut Connection, name: &str, page: &Page) -> Result<(Vec<VersionRecord>, i64)> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(VERSION).push(" FROM am_policy_versions WHERE name = ").push_bind(name);
    page.push(&mut query, "");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let total = sqlx::query_scalar("SELECT count(*) FROM am_policy_versions WHERE name = ?1")
        .bind(name)
        .fetch_one(conn)
        .await?;
    Ok((rows.iter().map(version).collect::<Result<_>>()?, total))
}

/// One version.
pub async fn version_of(conn: &mut Connection, name: &str, number: u32) -> Result<Option<VersionRecord>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(VERSION).push(" FROM am_policy_versions WHERE name = ").push_bind(name);
    query.push(" AND version = ").push_bind(i64::from(number));
    query.build().fetch_optional(conn).await?.as_ref().map(version).transpose()
}

/// The next version's number of a policy that is `owner`'s, or new.
pub async fn count_up(tx: &mut Tx, name: &str, owner: &str, now: Timestamp) -> Result<u32> {
    let counted: i64 = sqlx::query_scalar(
        "INSERT INTO am_policies (name, owner_id, last_version, revision, created_at, updated_at)
         VALUES (?1, ?2, 1, (SELECT coalesce(max(revision), 0) + 1 FROM am_policies), ?3, ?3)
         ON CONFLICT (name) DO UPDATE SET last_version = last_version + 1, updated_at = excluded.updated_at,
             revision = excluded.revision
         RETURNING last_version",
    )
    .bind(name)
    .bind(owner)
    .bind(now)
    .fetch_one(tx.conn().await?)
    .await?;
    Ok(number(counted))
}

/// A policy has changed.
pub async fn touch(tx: &mut Tx, name: &str, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE am_policies SET updated_at = ?2, revision = (SELECT max(revision) + 1 FROM am_policies) WHERE name = ?1",
    )
    .bind(name)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Set a policy's split.
pub async fn set_split(tx: &mut Tx, name: &str, split: &Split) -> Result<()> {
    sqlx::query("UPDATE am_policies SET split = ?2 WHERE name = ?1")
        .bind(name)
        .bind(text(split)?)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| unreadable("a policy", error))
}

/// Store a version.
pub async fn insert(tx: &mut Tx, id: &str, number: u32, new: &NewVersion, owner: &str, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_policy_versions (id, name, version, owner_id, sha256, size_bytes, form, action_names, state_names,
             environment, source, seed, libtorch, training, scores, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )
    .bind(id)
    .bind(&new.name)
    .bind(i64::from(number))
    .bind(owner)
    .bind(&new.file.sha256)
    .bind(new.file.size.cast_signed())
    .bind(text(&new.form)?)
    .bind(text(&new.action_names)?)
    .bind(text(&new.state_names)?)
    .bind(&new.environment)
    .bind(new.source)
    .bind(new.seed.map(u64::cast_signed))
    .bind(crate::LIBTORCH)
    .bind(text(&new.training)?)
    .bind(text(&new.scores)?)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Point an alias at a version, or take it away.
pub async fn move_alias(
    tx: &mut Tx,
    (name, alias): (&str, &str),
    to: Option<u32>,
    rollback: bool,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    let from: Option<i64> = sqlx::query_scalar("SELECT version FROM am_policy_aliases WHERE name = ?1 AND alias = ?2")
        .bind(name)
        .bind(alias)
        .fetch_optional(tx.conn().await?)
        .await?;
    let change = match to {
        Some(_) => {
            "INSERT INTO am_policy_aliases (name, alias, version, updated_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at"
        }
        None => "DELETE FROM am_policy_aliases WHERE name = ?1 AND alias = ?2 AND ?3 IS NULL AND ?4 IS NOT NULL",
    };
    let to = to.map(i64::from);
    sqlx::query(change).bind(name).bind(alias).bind(to).bind(now).execute(tx.conn().await?).await?;
    sqlx::query(
        "INSERT INTO am_policy_alias_moves (name, alias, from_version, to_version, rollback, moved_by, moved_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(name)
    .bind(alias)
    .bind(from)
    .bind(to)
    .bind(rollback)
    .bind(by)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// The latest moves of an alias, the last first.
pub async fn moves(conn: &mut Connection, name: &str, alias: &str) -> Result<Vec<AliasMove>> {
    let rows = sqlx::query(
        "SELECT from_version, to_version, rollback, moved_by, moved_at FROM am_policy_alias_moves
         WHERE name = ?1 AND alias = ?2 ORDER BY seq DESC LIMIT 100",
    )
    .bind(name)
    .bind(alias)
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| -> Result<AliasMove> {
        Ok(AliasMove {
            from_version: row.try_get::<Option<i64>, _>(0)?.map(number),
            to_version: row.try_get::<Option<i64>, _>(1)?.map(number),
            rollback: row.try_get(2)?,
            moved_by: row.try_get(3)?,
            moved_at: row.try_get(4)?,
        })
    };
    rows.iter().map(one).collect()
}
