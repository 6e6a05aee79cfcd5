//! Tables `am_own_environments` and `am_own_environment_versions`.

use super::model::{NewEnvironmentVersion, OwnEnvironment, OwnEnvironmentVersion};
use crate::{
    environments::TabularDefinition,
    error::{Result, corrupt_json_error},
};
use am_core::ids::PrincipalId;
use am_db::{
    Connection, FromRow as _, Tx,
    codec::{Json, Timestamp},
    insert,
    page::PageRequest,
    row, sql,
};

row! {
    /// A row of `am_own_environments`.
    pub(super) struct OwnEnvironmentRow {
        pub(super) id: String,
        pub(super) owner_id: PrincipalId,
        pub(super) latest: u32 => to_u32,
        pub(super) created_at: Timestamp,
        pub(super) updated_at: Timestamp,
    }
}

row! {
    OwnEnvironmentVersion {
        id,
        version => to_u32,
        sha256,
        states => i64::unsigned_abs,
        transitions => i64::unsigned_abs,
        discount,
        description => Json::into_inner,
        solution => Json::into_inner,
        created_at,
    }
}

/// The database's integers have a sign.
fn to_u32(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt_json_error("an environment", error))
}

/// Read the row of an environment.
pub(super) async fn get_row(conn: &mut Connection, name: &str) -> Result<Option<OwnEnvironmentRow>> {
    let row = sql!("SELECT ", OwnEnvironmentRow::COLUMNS, " FROM am_own_environments WHERE id = $1").bind(name);
    Ok(row.fetch_optional(conn).await?)
}

/// Read one version.
pub(super) async fn get_version(
    conn: &mut Connection,
    name: &str,
    version: u32,
) -> Result<Option<OwnEnvironmentVersion>> {
    let found = sql!(
        "SELECT ",
        OwnEnvironmentVersion::COLUMNS,
        " FROM am_own_environment_versions WHERE name = $1 AND version = $2",
    );
    Ok(found.bind(name).bind(i64::from(version)).fetch_optional(conn).await?)
}

/// Read an environment at a version, by default the newest.
pub(super) async fn get(conn: &mut Connection, name: &str, version: Option<u32>) -> Result<Option<OwnEnvironment>> {
    let Some(row) = get_row(conn, name).await? else { return Ok(None) };
    let version = get_version(conn, name, version.unwrap_or(row.latest)).await?;
    Ok(version.map(|version| with_version(row, version)))
}

fn with_version(row: OwnEnvironmentRow, version: OwnEnvironmentVersion) -> OwnEnvironment {
    OwnEnvironment {
        name: row.id,
        owner_id: row.owner_id,
        latest: row.latest,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version,
    }
}

/// Read the tables of a version.
pub(super) async fn get_tables(conn: &mut Connection, name: &str, version: u32) -> Result<Option<TabularDefinition>> {
    let found = sql!("SELECT tables FROM am_own_environment_versions WHERE name = $1 AND version = $2");
    let found: Option<String> = found.bind(name).bind(i64::from(version)).fetch_optional_value(conn).await?;
    let read = |text: String| serde_json::from_str(&text).map_err(|error| corrupt_json_error("an environment", error));
    found.map(read).transpose()
}

/// Read a page of environments at their newest versions, newest first.
pub(super) async fn list(conn: &mut Connection, page: &PageRequest) -> Result<Vec<OwnEnvironment>> {
    let rows = sql!("SELECT ", OwnEnvironmentRow::COLUMNS, " FROM am_own_environments WHERE true {page $1}");
    let rows: Vec<OwnEnvironmentRow> = rows.bind_page(page).fetch_all(&mut *conn).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(version) = get_version(conn, &row.id, row.latest).await? {
            all.push(with_version(row, version));
        }
    }
    Ok(all)
}

/// Count the environments that were made in the page's time.
pub(super) async fn count(conn: &mut Connection, page: &PageRequest) -> Result<i64> {
    let total = sql!("SELECT count(*) FROM am_own_environments WHERE true {span $1}").bind_span(page.created);
    Ok(total.fetch_value(conn).await?)
}

/// Count the environments of an owner.
pub(super) async fn count_owned(conn: &mut Connection, owner: &[String]) -> Result<i64> {
    let count = sql!("SELECT count(*) FROM am_own_environments WHERE owner_id IN ($1)").bind_all(owner.iter());
    Ok(count.fetch_value(conn).await?)
}

/// Read a page of an environment's versions, newest first, and their total number.
pub(super) async fn versions(
    conn: &mut Connection,
    name: &str,
    page: &PageRequest,
) -> Result<(Vec<OwnEnvironmentVersion>, i64)> {
    let found =
        sql!("SELECT ", OwnEnvironmentVersion::COLUMNS, " FROM am_own_environment_versions WHERE name = $1 {page $2}",);
    let found = found.bind(name).bind_page(page).fetch_all(&mut *conn).await?;
    let total = sql!("SELECT count(*) FROM am_own_environment_versions WHERE name = $1 {span $2}").bind(name);
    Ok((found, total.bind_span(page.created).fetch_value(conn).await?))
}

/// Store a version, and its environment if it is the first.
pub(super) async fn insert(
    tx: &mut Tx,
    new: &NewEnvironmentVersion,
    owner: &PrincipalId,
    now: Timestamp,
) -> Result<()> {
    insert!("am_own_environments" {
        id: &new.name,
        owner_id: owner,
        latest: i64::from(new.version),
        created_at: now,
        updated_at: now,
    } update on (id) except (owner_id, created_at))
    .execute(tx.conn().await?)
    .await?;
    insert!("am_own_environment_versions" {
        id: format!("{}@{}", new.name, new.version),
        name: &new.name,
        version: i64::from(new.version),
        sha256: &new.sha256,
        states: new.tables.states.len() as i64,
        transitions: new.tables.transitions.len() as i64,
        discount: new.tables.discount,
        description: json_text(&new.description)?,
        solution: json_text(&new.solution)?,
        tables: json_text(&new.tables)?,
        created_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read the references of all versions of an environment, at most a hundred.
pub(super) async fn references(conn: &mut Connection, name: &str) -> Result<Vec<String>> {
    let found = sql!("SELECT id FROM am_own_environment_versions WHERE name = $1 LIMIT 1000").bind(name);
    Ok(found.fetch_values(conn).await?)
}

/// Read the reference of a version of a policy that was made in one of these environments.
pub(super) async fn policy_using(conn: &mut Connection, references: &[String]) -> Result<Option<String>> {
    let found = sql!("SELECT name || '@' || version FROM am_policy_versions WHERE environment IN ($1) LIMIT 1");
    Ok(found.bind_all(references.iter()).fetch_optional_value(conn).await?)
}

/// Read the id of a run that has not ended in one of these environments.
pub(super) async fn run_using(conn: &mut Connection, references: &[String]) -> Result<Option<String>> {
    let found = sql!(
        "SELECT id FROM am_training_runs WHERE own_environment IN ($1) AND status IN ('queued', 'running', 'paused') LIMIT 1",
    );
    Ok(found.bind_all(references.iter()).fetch_optional_value(conn).await?)
}

/// Delete an environment with its versions.
pub(super) async fn delete(tx: &mut Tx, name: &str) -> Result<()> {
    sql!("DELETE FROM am_own_environment_versions WHERE name = $1").bind(name).execute(tx.conn().await?).await?;
    sql!("DELETE FROM am_own_environments WHERE id = $1").bind(name).execute(tx.conn().await?).await?;
    Ok(())
}
