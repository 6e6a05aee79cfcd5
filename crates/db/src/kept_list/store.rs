//! Statements of the lists beside the coordinator's tables.

use super::ListedTable;
use crate::{Connection, Result, Tx, codec::Timestamp, insert, owner::PrincipalName, sql, statement::Query};

fn ids_to_json(ids: &[String]) -> String {
    serde_json::json!(ids).to_string()
}

/// How far a list is made: a rowid, and whether it is complete.
pub(super) async fn read_progress(conn: &mut Connection, table: ListedTable) -> Result<(i64, bool)> {
    let progress = sql!("SELECT place, built_at IS NOT NULL FROM am_list_progress WHERE list = $1").bind(table.name());
    Ok(progress.fetch_optional(conn).await?.unwrap_or_default())
}

/// Note how far a list is made; `built_at`: since when it is complete.
pub(super) async fn save_progress(
    tx: &mut Tx,
    table: ListedTable,
    place: i64,
    built_at: Option<Timestamp>,
) -> Result<()> {
    insert!("am_list_progress" { list: table.name(), place: place, built_at: built_at } update on (list))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// The highest rowid of a table; 0: it is empty.
pub(super) async fn highest_place(conn: &mut Connection, table: ListedTable) -> Result<i64> {
    let highest = match table {
        ListedTable::Executions => sql!("SELECT coalesce(max({place t}), 0) FROM agent_executions t"),
        ListedTable::Workflows => sql!("SELECT coalesce(max({place t}), 0) FROM ai_agent_workflows t"),
    };
    highest.fetch_value(conn).await
}

/// Ids of at most `limit` rows behind a rowid, in their order, and the last rowid.
pub(super) async fn ids_after(
    conn: &mut Connection,
    table: ListedTable,
    place: i64,
    limit: i64,
) -> Result<(Vec<String>, Option<i64>)> {
    let ids = match table {
        ListedTable::Executions => {
            sql!("SELECT t.id, {place t} FROM agent_executions t WHERE {place t} > $1 ORDER BY {place t} LIMIT $2")
        }
        ListedTable::Workflows => {
            sql!("SELECT t.id, {place t} FROM ai_agent_workflows t WHERE {place t} > $1 ORDER BY {place t} LIMIT $2")
        }
    };
    let rows: Vec<(String, i64)> = ids.bind(place).bind(limit).fetch_all(conn).await?;
    let last = rows.last().map(|(_, place)| *place);
    Ok((rows.into_iter().map(|(id, _)| id).collect(), last))
}

/// Ids among these whose rows are not as the list has them, or not in it.
pub(super) async fn differing(conn: &mut Connection, table: ListedTable, ids: &[String]) -> Result<Vec<String>> {
    let compared = match table {
        ListedTable::Executions => sql!(
            "SELECT t.id, t.client_id, l.client_id,
                 l.status <> CAST(t.status AS VARCHAR) OR l.workflow_id <> t.workflow_id OR l.created_at <> t.created_at
                     OR l.ended_at IS DISTINCT FROM t.completed_at
             FROM {texts $1} AS o JOIN agent_executions t ON t.id = o.value
                 LEFT JOIN am_execution_list l ON l.id = t.id"
        ),
        ListedTable::Workflows => sql!(
            "SELECT t.id, t.owner_id, l.owner_id,
                 l.is_public <> t.is_public OR l.tags <> t.tags OR l.created_at <> t.created_at
             FROM {texts $1} AS o JOIN ai_agent_workflows t ON t.id = o.value
                 LEFT JOIN am_workflow_list l ON l.id = t.id"
        ),
    };
    let compared: Vec<(String, PrincipalName, Option<String>, Option<bool>)> =
        compared.bind(ids_to_json(ids)).fetch_all(conn).await?;
    let differs = |owner: &PrincipalName, listed: Option<&str>, others: Option<bool>| {
        listed != Some(owner.as_str()) || others == Some(true)
    };
    let differing =
        compared.into_iter().filter(|(_, owner, listed, others)| differs(owner, listed.as_deref(), *others));
    Ok(differing.map(|(id, ..)| id).collect())
}

/// Executions that the list has as open and that are so no longer, or in another status.
pub(super) async fn changed_open_executions(conn: &mut Connection, limit: i64) -> Result<Vec<String>> {
    let changed = sql!(
        "SELECT l.id FROM am_execution_list l LEFT JOIN agent_executions t ON t.id = l.id
         WHERE l.status IN ('PENDING', 'RUNNING') AND (t.id IS NULL OR CAST(t.status AS VARCHAR) <> l.status) LIMIT $1"
    );
    changed.bind(limit).fetch_values(conn).await
}

/// Write the list's rows with these ids as the table has them, with a principal in the place of an owner's key. Returns the number of
/// rows written and deleted.
pub(super) async fn refresh(tx: &mut Tx, table: ListedTable, ids: &[String]) -> Result<u64> {
    let ids = ids_to_json(ids);
    let owners = match table {
        ListedTable::Executions => {
            sql!("SELECT DISTINCT t.client_id FROM {texts $1} AS o JOIN agent_executions t ON t.id = o.value")
        }
        ListedTable::Workflows => {
            sql!("SELECT DISTINCT t.owner_id FROM {texts $1} AS o JOIN ai_agent_workflows t ON t.id = o.value")
        }
    };
    let stored: Vec<String> = owners.bind(&ids).fetch_values(tx.conn().await?).await?;
    let owners: Vec<[String; 2]> =
        stored.into_iter().map(|owner| [owner.clone(), PrincipalName::from_stored(&owner).into()]).collect();
    let put = match table {
        ListedTable::Executions => sql!(
            "INSERT INTO am_execution_list (id, client_id, workflow_id, status, created_at, ended_at)
             SELECT t.id, p.principal, t.workflow_id, t.status, t.created_at, t.completed_at
             FROM {texts $1} AS o JOIN agent_executions t ON t.id = o.value
                 JOIN {records $2 stored:text principal:text} AS p ON p.stored = t.client_id WHERE true
             ON CONFLICT (id) DO UPDATE SET client_id = excluded.client_id, workflow_id = excluded.workflow_id,
                 status = excluded.status, created_at = excluded.created_at, ended_at = excluded.ended_at
             WHERE am_execution_list.client_id <> excluded.client_id OR am_execution_list.status <> excluded.status
                 OR am_execution_list.workflow_id <> excluded.workflow_id
                 OR am_execution_list.created_at <> excluded.created_at
                 OR am_execution_list.ended_at IS DISTINCT FROM excluded.ended_at"
        ),
        ListedTable::Workflows => sql!(
            "INSERT INTO am_workflow_list (id, owner_id, is_public, tags, created_at)
             SELECT t.id, p.principal, t.is_public, t.tags, t.created_at
             FROM {texts $1} AS o JOIN ai_agent_workflows t ON t.id = o.value
                 JOIN {records $2 stored:text principal:text} AS p ON p.stored = t.owner_id WHERE true
             ON CONFLICT (id) DO UPDATE SET owner_id = excluded.owner_id, is_public = excluded.is_public,
                 tags = excluded.tags, created_at = excluded.created_at
             WHERE am_workflow_list.owner_id <> excluded.owner_id OR am_workflow_list.is_public <> excluded.is_public
                 OR am_workflow_list.tags <> excluded.tags OR am_workflow_list.created_at <> excluded.created_at"
        ),
    };
    let delete = match table {
        ListedTable::Executions => sql!(
            "DELETE FROM am_execution_list WHERE id IN {texts $1}
                 AND NOT EXISTS (SELECT 1 FROM agent_executions t WHERE t.id = am_execution_list.id)"
        ),
        ListedTable::Workflows => sql!(
            "DELETE FROM am_workflow_list WHERE id IN {texts $1}
                 AND NOT EXISTS (SELECT 1 FROM ai_agent_workflows t WHERE t.id = am_workflow_list.id)"
        ),
    };
    let owners = serde_json::json!(owners).to_string();
    let written = put.bind(&ids).bind(owners).execute(tx.conn().await?).await?;
    Ok(written + delete.bind(&ids).execute(tx.conn().await?).await?)
}

/// Ids of at most `limit` rows of a list behind an id, each with whether its row is gone.
pub(super) async fn listed_after(
    conn: &mut Connection,
    table: ListedTable,
    id: &str,
    limit: i64,
) -> Result<Vec<(String, bool)>> {
    let listed: Query = match table {
        ListedTable::Executions => sql!(
            "SELECT l.id, t.id IS NULL FROM am_execution_list l LEFT JOIN agent_executions t ON t.id = l.id
             WHERE l.id > $1 ORDER BY l.id LIMIT $2"
        ),
        ListedTable::Workflows => sql!(
            "SELECT l.id, t.id IS NULL FROM am_workflow_list l LEFT JOIN ai_agent_workflows t ON t.id = l.id
             WHERE l.id > $1 ORDER BY l.id LIMIT $2"
        ),
    };
    listed.bind(id).bind(limit).fetch_all(conn).await
}
