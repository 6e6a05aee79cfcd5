//! Tables `am_policies`, `am_policy_versions`, `am_policy_aliases` and `am_policy_alias_moves`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{AliasMove, NeighbourRow, NewVersion, PolicyRecord, VersionRecord};
use crate::{
    error::{Result, corrupt_json_error},
    model::PRODUCTION_ALIAS,
    serving::TrafficSplit,
};
use am_core::ids::{PolicyVersionId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Tx,
    codec::{Json, JsonOr, Timestamp},
    insert,
    page::PageRequest,
    row, sql, update,
};

row! {
    /// A row of `am_policies`.
    struct PolicyRow {
        name: String,
        owner_id: PrincipalId,
        latest: u32 = "last_version" => to_u32,
        split: TrafficSplit => JsonOr::into_inner,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

row! {
    VersionRecord {
        id,
        reference = "name || '@' || version",
        name,
        version => to_u32,
        owner_id,
        form => Json::into_inner,
        action_names => Json::into_inner,
        state_names => Json::into_inner,
        environment,
        source,
        sha256,
        size_bytes => i64::unsigned_abs,
        seed => |seed: Option<i64>| seed.map(i64::cast_unsigned),
        libtorch,
        training => JsonOr::into_inner,
        scores => JsonOr::into_inner,
        created_at,
    }
}

row! {
    AliasMove {
        from_version => |version: Option<i64>| version.map(to_u32),
        to_version => |version: Option<i64>| version.map(to_u32),
        rollback,
        moved_by,
        moved_at,
    }
}

/// The database's integers have a sign.
fn to_u32(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

fn policy_from_row(row: PolicyRow, aliases: BTreeMap<String, u32>) -> PolicyRecord {
    PolicyRecord {
        name: row.name,
        owner_id: row.owner_id,
        latest: row.latest,
        serving: aliases.get(PRODUCTION_ALIAS).copied().unwrap_or(row.latest),
        aliases,
        split: row.split,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

async fn aliases(conn: &mut Connection, name: &str) -> Result<BTreeMap<String, u32>> {
    let rows = sql!("SELECT alias, version FROM am_policy_aliases WHERE name = $1").bind(name);
    let rows: Vec<(String, i64)> = rows.fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(alias, version)| (alias, to_u32(version))).collect())
}

/// Read one policy.
pub async fn get(conn: &mut Connection, name: &str) -> Result<Option<PolicyRecord>> {
    let row = sql!("SELECT ", PolicyRow::COLUMNS, " FROM am_policies WHERE name = $1").bind(name);
    let Some(row) = row.fetch_optional(&mut *conn).await? else { return Ok(None) };
    Ok(Some(policy_from_row(row, aliases(conn, name).await?)))
}

/// Read a page of policies, newest first, and their total number.
pub async fn list(conn: &mut Connection, page: &PageRequest) -> Result<(Vec<PolicyRecord>, i64)> {
    let rows =
        sql!("SELECT ", PolicyRow::COLUMNS, " FROM (SELECT *, name AS id FROM am_policies) AS p WHERE true {page $1}",);
    let rows: Vec<PolicyRow> = rows.bind_page(page).fetch_all(&mut *conn).await?;
    let mut policies = Vec::with_capacity(rows.len());
    for row in rows {
        let aliases = aliases(conn, &row.name).await?;
        policies.push(policy_from_row(row, aliases));
    }
    let total = sql!("SELECT count(*) FROM am_policies WHERE true {span $1}").bind_span(page.created);
    let total = total.fetch_value(conn).await?;
    Ok((policies, total))
}

/// Read the names of policies that changed after `revision`, and the newest revision.
pub async fn changed_since(conn: &mut Connection, revision: i64) -> Result<(Vec<String>, i64)> {
    let rows = sql!("SELECT name, revision FROM am_policies WHERE revision > $1 ORDER BY revision").bind(revision);
    let rows: Vec<(String, i64)> = rows.fetch_all(conn).await?;
    let newest = rows.last().map_or(revision, |(_, revision)| *revision);
    Ok((rows.into_iter().map(|(name, _)| name).collect(), newest))
}

/// Read the names of policies with the alias `production`, the latest moved first.
pub async fn names_in_production(conn: &mut Connection) -> Result<Vec<String>> {
    let names = sql!("SELECT name FROM am_policy_aliases WHERE alias = $1 ORDER BY updated_at DESC LIMIT 100");
    Ok(names.bind(PRODUCTION_ALIAS).fetch_values(conn).await?)
}

/// Read all versions of a policy, in ascending order.
pub async fn all_versions(conn: &mut Connection, name: &str) -> Result<Vec<VersionRecord>> {
    let versions = sql!("SELECT ", VersionRecord::COLUMNS, " FROM am_policy_versions WHERE name = $1 ORDER BY version");
    Ok(versions.bind(name).fetch_all(conn).await?)
}

/// Read a page of a policy's versions, newest first, and their total number.
pub async fn versions(conn: &mut Connection, name: &str, page: &PageRequest) -> Result<(Vec<VersionRecord>, i64)> {
    let versions = sql!("SELECT ", VersionRecord::COLUMNS, " FROM am_policy_versions WHERE name = $1 {page $2}");
    let versions = versions.bind(name).bind_page(page).fetch_all(&mut *conn).await?;
    let total = sql!("SELECT count(*) FROM am_policy_versions WHERE name = $1 {span $2}").bind(name);
    Ok((versions, total.bind_span(page.created).fetch_value(conn).await?))
}

/// Read one version.
pub async fn get_version(conn: &mut Connection, name: &str, number: u32) -> Result<Option<VersionRecord>> {
    let version = sql!("SELECT ", VersionRecord::COLUMNS, " FROM am_policy_versions WHERE name = $1 AND version = $2");
    Ok(version.bind(name).bind(i64::from(number)).fetch_optional(conn).await?)
}

row! {
    NeighbourRow {
        version => to_u32,
        seed => |seed: Option<i64>| seed.map(i64::cast_unsigned),
        environment,
        scores => JsonOr::into_inner,
        trained_with = "{array {member training parameters}, {member training algorithm}, {member training settings}, {member training steps}}"
            => |texts: Json<Vec<Value>>| texts_of(texts.into_inner()),
    }
}

/// The first values of a list as texts.
fn texts_of<const COUNT: usize>(values: Vec<Value>) -> [Option<String>; COUNT] {
    let mut values = values.into_iter();
    std::array::from_fn(|_| match values.next()? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

/// Read the versions of a policy between two numbers that were trained, in ascending order.
pub async fn neighbours(conn: &mut Connection, name: &str, (from, to): (u32, u32)) -> Result<Vec<NeighbourRow>> {
    let rows = sql!(
        "SELECT ",
        NeighbourRow::COLUMNS,
        " FROM am_policy_versions WHERE name = $1 AND version >= $2 AND version <= $3 AND source = 'trained' ORDER BY version",
    );
    Ok(rows.bind(name).bind(i64::from(from)).bind(i64::from(to)).fetch_all(conn).await?)
}

/// Sum the bytes of the weights that an owner uploaded.
pub async fn uploaded_bytes(conn: &mut Connection, owner: &[String]) -> Result<i64> {
    let sum = sql!(
        "SELECT coalesce(sum(size_bytes), 0) FROM am_policy_versions WHERE owner_id IN ($1) AND source = 'uploaded'",
    );
    Ok(sum.bind_all(owner.iter()).fetch_value(conn).await?)
}

/// Reserve the next version number of a policy that belongs to `owner`, or create the policy.
pub async fn next_version(tx: &mut Tx, name: &str, owner: &PrincipalId, now: Timestamp) -> Result<u32> {
    let counted = sql!(
        "INSERT INTO am_policies (name, owner_id, last_version, revision, created_at, updated_at)
         VALUES ($1, $2, 1, (SELECT coalesce(max(revision), 0) + 1 FROM am_policies), $3, $3)
         ON CONFLICT (name) DO UPDATE SET last_version = am_policies.last_version + 1, updated_at = excluded.updated_at,
             revision = excluded.revision
         RETURNING last_version",
    );
    Ok(to_u32(counted.bind(name).bind(owner).bind(now).fetch_value(tx.conn().await?).await?))
}

/// Mark a policy as changed.
pub async fn touch(tx: &mut Tx, name: &str, now: Timestamp) -> Result<()> {
    sql!(
        "UPDATE am_policies SET updated_at = $2, revision = (SELECT max(revision) + 1 FROM am_policies) WHERE name = $1",
    )
    .bind(name)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Note that from now on other versions answer a policy's calls.
pub async fn set_serving_since(tx: &mut Tx, name: &str, now: Timestamp) -> Result<()> {
    update!("am_policies" { serving_since: now } where "name = $1" (name)).execute(tx.conn().await?).await?;
    Ok(())
}

/// Read since when the versions answer a policy's calls that do, in the stored form; empty: since before that was noted.
pub async fn serving_since(conn: &mut Connection, name: &str) -> Result<String> {
    let since = sql!("SELECT serving_since FROM am_policies WHERE name = $1").bind(name);
    let since: Option<Option<String>> = since.fetch_optional_value(conn).await?;
    Ok(since.flatten().unwrap_or_default())
}

/// Store a policy's split.
pub async fn set_split(tx: &mut Tx, name: &str, split: &TrafficSplit) -> Result<()> {
    update!("am_policies" { split: json_text(split)? } where "name = $1" (name)).execute(tx.conn().await?).await?;
    Ok(())
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt_json_error("a policy", error))
}

/// Store a version.
pub async fn insert_version(
    tx: &mut Tx,
    id: &PolicyVersionId,
    number: u32,
    new: &NewVersion,
    owner: &PrincipalId,
    now: Timestamp,
) -> Result<()> {
    insert!("am_policy_versions" {
        id: id,
        name: &new.name,
        version: i64::from(number),
        owner_id: owner,
        sha256: &new.file.sha256,
        size_bytes: new.file.size.cast_signed(),
        form: json_text(&new.form)?,
        action_names: json_text(&new.action_names)?,
        state_names: json_text(&new.state_names)?,
        environment: &new.environment,
        source: new.source,
        seed: new.seed.map(u64::cast_signed),
        libtorch: crate::LIBTORCH_VERSION,
        training: json_text(&new.training)?,
        scores: json_text(&new.scores)?,
        created_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Set an alias to a version, or remove it.
pub async fn move_alias(
    tx: &mut Tx,
    (name, alias): (&str, &str),
    to: Option<u32>,
    rollback: bool,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    let from = sql!("SELECT version FROM am_policy_aliases WHERE name = $1 AND alias = $2").bind(name).bind(alias);
    let from: Option<i64> = from.fetch_optional_value(tx.conn().await?).await?;
    let to = to.map(i64::from);
    let change = match to {
        Some(version) => insert!("am_policy_aliases" {
            name: name,
            alias: alias,
            version: version,
            updated_at: now,
        } update on (name, alias)),
        None => sql!("DELETE FROM am_policy_aliases WHERE name = $1 AND alias = $2").bind(name).bind(alias),
    };
    change.execute(tx.conn().await?).await?;
    insert!("am_policy_alias_moves" {
        name: name,
        alias: alias,
        from_version: from,
        to_version: to,
        rollback: rollback,
        moved_by: by,
        moved_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read the latest moves of an alias, the last first.
pub async fn alias_moves(conn: &mut Connection, name: &str, alias: &str) -> Result<Vec<AliasMove>> {
    let moves = sql!(
        "SELECT ",
        AliasMove::COLUMNS,
        " FROM am_policy_alias_moves WHERE name = $1 AND alias = $2 ORDER BY seq DESC LIMIT 100",
    );
    Ok(moves.bind(name).bind(alias).fetch_all(conn).await?)
}
