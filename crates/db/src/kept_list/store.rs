//! Statements of the lists beside the coordinator's tables: the same for each list, of its columns.

use super::ListedTable;
use crate::{
    Connection, DatabaseError, Result, Tx, codec::Timestamp, insert, owner::PrincipalName, row::Truth, sql,
    statement::Query,
};

/// Statements of one list. The parameters are those of the functions below that execute them.
struct ListStatements {
    /// Name of the list in counters and metrics.
    name: &'static str,
    /// Names of the table and of the list.
    tables: (&'static str, &'static str),
    /// Triggers of the write connection, which keep the list in the transaction of each own write.
    triggers: &'static str,
    /// The highest rowid of the table.
    highest_place: fn() -> Query,
    /// Ids and rowids behind a rowid.
    ids_after: fn() -> Query,
    /// Number and last rowid of the rows behind a rowid, and of those that are not as the list has them in one value: the id, the
    /// owner in the table, the owner in the list, and whether anything else differs.
    compared_after: fn() -> Query,
    /// Owners of these ids, as the table has them; none: the list has no owners.
    owners: Option<fn() -> Query>,
    /// Write rows of these ids, with these principals.
    put: fn() -> Query,
    /// Delete those of these ids that the table no longer has.
    delete: fn() -> Query,
    /// Number and last id of the list's rows behind an id, and in one value the ids that the table has no longer.
    listed_after: fn() -> Query,
    /// Ids that the list has as open and the table not, or in another state; none: no row is open.
    changed_open: Option<fn() -> Query>,
}

/// A list: its name, its table (`t`), the list's table, its column with the owner and what the table has of that, what else is joined to
/// the table; open rows by the column with their state and the states; its triggers, from a `file`, or `plain` ones by the begin of their
/// names, where the list's columns are the table's own; and the list's other columns, each with what it holds of the table.
macro_rules! list_statements {
    (@owners $table:literal [$($joined:literal)?]) => { None };
    (@owners $table:literal [$($joined:literal)?] $value:literal) => {
        Some(|| sql!(
            "SELECT DISTINCT ", $value, " FROM {texts $1} AS o JOIN ", $table, " t ON t.id = o.value", $(" ", $joined)?
        ))
    };
    (@differ) => { "l.id IS NULL" };
    (@differ $owner:literal $value:literal) => { concat!("l.", $owner, " IS DISTINCT FROM ", $value) };
    (@pair) => { "'', CASE WHEN l.id IS NOT NULL THEN '' END" };
    (@pair $owner:literal $value:literal) => { concat!($value, ", l.", $owner) };
    (@open $table:literal $list:literal) => { None };
    (@open $table:literal $list:literal $state:ident $value:literal $states:literal) => {
        Some(|| sql!(
            "SELECT l.id FROM ", $list, " l LEFT JOIN ", $table, " t ON t.id = l.id WHERE l.", stringify!($state), " IN ", $states,
            " AND (t.id IS NULL OR ", $value, " <> l.", stringify!($state), ") LIMIT $1",
        ))
    };
    (@triggers $table:literal $list:literal [$($column:ident)+] file $path:literal) => { include_str!($path) };
    // In its temporary schema: the coordinator's tables and its connections know nothing of them.
    (@triggers $table:literal $list:literal [$first:ident $($column:ident)*] plain $name:literal) => {
        concat!(
            "CREATE TEMP TRIGGER IF NOT EXISTS ", $name, "_added AFTER INSERT ON ", $table, " BEGIN INSERT INTO ", $list, " (id, ",
            stringify!($first), $(", ", stringify!($column),)* ") VALUES (new.id, new.", stringify!($first),
            $(", new.", stringify!($column),)* ") ON CONFLICT (id) DO UPDATE SET ", stringify!($first), " = excluded.",
            stringify!($first), $(", ", stringify!($column), " = excluded.", stringify!($column),)* "; END;\n",
            "CREATE TEMP TRIGGER IF NOT EXISTS ", $name, "_changed AFTER UPDATE OF ", stringify!($first),
            $(", ", stringify!($column),)* " ON ", $table, " BEGIN UPDATE ", $list, " SET ", stringify!($first), " = new.",
            stringify!($first), $(", ", stringify!($column), " = new.", stringify!($column),)* " WHERE id = new.id; END;\n",
            "CREATE TEMP TRIGGER IF NOT EXISTS ", $name, "_removed AFTER DELETE ON ", $table, " BEGIN DELETE FROM ", $list,
            " WHERE id = old.id; END;\n",
        )
    };
    (
        $name:literal: $table:literal as $list:literal, $(owner $owner:literal = $owner_value:literal,)? $(joined $joined:literal,)?
        $(open $state:ident = $state_value:literal in $states:literal,)? triggers $how:ident $source:literal,
        { $($column:ident = $value:literal),+ $(,)? }
    ) => {
        ListStatements {
            name: $name,
            tables: ($table, $list),
            triggers: list_statements!(@triggers $table $list [$($column)+] $how $source),
            highest_place: || sql!("SELECT coalesce(max({place t}), 0) FROM ", $table, " t"),
            ids_after: || sql!(
                "SELECT t.id, {place t} FROM ", $table, " t WHERE {place t} > $1 ORDER BY {place t} LIMIT $2",
            ),
            compared_after: || sql!(
                "SELECT count(*), max(s.place), {arrays CASE WHEN ", list_statements!(@differ $($owner $owner_value)?),
                $(" OR l.", stringify!($column), " IS DISTINCT FROM ", $value,)+
                " THEN {array t.id, ", list_statements!(@pair $($owner $owner_value)?), ", ",
                $("l.", stringify!($column), " IS DISTINCT FROM ", $value, " OR ",)+
                "FALSE} END} FROM (SELECT t.id, {place t} AS place FROM ", $table,
                " t WHERE {place t} > $1 ORDER BY {place t} LIMIT $2) AS s JOIN ", $table, " t ON t.id = s.id ",
                $($joined, " ",)? "LEFT JOIN ", $list, " l ON l.id = t.id",
            ),
            owners: list_statements!(@owners $table [$($joined)?] $($owner_value)?),
            put: || sql!(
                "INSERT INTO ", $list, " (id", $(", ", $owner,)? $(", ", stringify!($column),)+ ") SELECT t.id",
                $(", p.principal AS ", $owner,)? $(", ", $value,)+
                " FROM {texts $1} AS o JOIN ", $table, " t ON t.id = o.value ", $($joined, " ",)?
                $("JOIN {records $2 stored:text principal:text} AS p ON p.stored = ", $owner_value, " ",)?
                "WHERE true ON CONFLICT (id) DO UPDATE SET id = excluded.id",
                $(", ", $owner, " = excluded.", $owner,)?
                $(", ", stringify!($column), " = excluded.", stringify!($column),)+
                " WHERE ", $($list, ".", $owner, " <> excluded.", $owner, " OR ",)?
                $($list, ".", stringify!($column), " IS DISTINCT FROM excluded.", stringify!($column), " OR ",)+
                "FALSE",
            ),
            delete: || sql!(
                "DELETE FROM ", $list, " WHERE id IN {texts $1} AND NOT EXISTS (SELECT 1 FROM ", $table, " t WHERE t.id = ",
                $list, ".id)",
            ),
            listed_after: || sql!(
                "SELECT count(*), max(s.id), {arrays CASE WHEN t.id IS NULL THEN s.id END} FROM (SELECT l.id FROM ", $list,
                " l WHERE l.id > $1 ORDER BY l.id LIMIT $2) AS s LEFT JOIN ", $table, " t ON t.id = s.id",
            ),
            changed_open: list_statements!(@open $table $list $($state $state_value $states)?),
        }
    };
}

static EXECUTIONS: ListStatements = list_statements! {
    "executions": "agent_executions" as "am_execution_list", owner "client_id" = "t.client_id",
    open status = "CAST(t.status AS VARCHAR)" in "('PENDING', 'RUNNING')", triggers file "triggers/executions.sql",
    {
        workflow_id = "t.workflow_id",
        status = "CAST(t.status AS VARCHAR)",
        created_at = "t.created_at",
        ended_at = "t.completed_at",
    }
};

static WORKFLOWS: ListStatements = list_statements! {
    "workflows": "ai_agent_workflows" as "am_workflow_list", owner "owner_id" = "t.owner_id", triggers file "triggers/workflows.sql",
    { is_public = "t.is_public", tags = "CAST(t.tags AS VARCHAR)", created_at = "t.created_at" }
};

// What a client ordered here is that principal's, under whatever id the coordinator knows it. A result that says that it failed is a
// failure, and both spellings are one state.
static JOBS: ListStatements = list_statements! {
    "jobs": "job" as "am_job_list", owner "client_id" = "coalesce(a.client_id, t.client_id)",
    joined "LEFT JOIN am_jobs a ON a.id = t.id",
    open state = "upper(t.state)" in "('QUEUED', 'RUNNING')", triggers file "triggers/jobs.sql",
    {
        state = "CASE WHEN upper(t.state) = 'COMPLETED' AND lower({member t.result status}) IN ('failed', 'failure', 'error')
            THEN 'FAILED' WHEN upper(t.state) = 'CANCELLED' THEN 'CANCELED' ELSE upper(t.state) END",
        service = "coalesce({member t.payload service_type}, '')",
        requested_at = "t.requested_at",
        ended_at = "a.ended_at",
    }
};

static TRUST_SCORES: ListStatements = list_statements! {
    "trust_scores": "agent_trust_scores" as "am_trust_list", triggers file "triggers/trust_scores.sql",
    { entity_type = "t.entity_type", trust_score = "t.trust_score", created_at = "t.created_at" }
};

static SANDBOXES: ListStatements = list_statements! {
    "sandboxes": "agent_sandbox_configs" as "am_sandbox_list", triggers file "triggers/sandboxes.sql",
    { is_active = "t.is_active" }
};

static ALLOCATIONS: ListStatements = list_statements! {
    "allocations": "resource_allocations" as "am_allocation_list",
    open status = "t.status" in "('pending', 'allocated', 'active')", triggers plain "am_allocation",
    { agent_id = "t.agent_id", status = "t.status", created_at = "t.created_at" }
};

static OPTIMISATIONS: ListStatements = list_statements! {
    "optimisations": "performance_optimizations" as "am_optimisation_list",
    open status = "t.status" in "('pending', 'running')", triggers plain "am_optimisation",
    { agent_id = "t.agent_id", status = "t.status", created_at = "t.created_at" }
};

/// Name of a list in counters and metrics.
pub(super) fn name_of(table: ListedTable) -> &'static str {
    statements_of(table).name
}

/// Triggers of the write connection, which keep a list.
pub(super) fn triggers_of(table: ListedTable) -> &'static str {
    statements_of(table).triggers
}

fn statements_of(table: ListedTable) -> &'static ListStatements {
    match table {
        ListedTable::Executions => &EXECUTIONS,
        ListedTable::Workflows => &WORKFLOWS,
        ListedTable::Jobs => &JOBS,
        ListedTable::TrustScores => &TRUST_SCORES,
        ListedTable::Sandboxes => &SANDBOXES,
        ListedTable::Allocations => &ALLOCATIONS,
        ListedTable::Optimisations => &OPTIMISATIONS,
    }
}

fn parsed<T: serde::de::DeserializeOwned>(table: ListedTable, json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| DatabaseError::InvalidValue(format!("rows of {} compared: {error}", table.name())))
}

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
    (statements_of(table).highest_place)().fetch_value(conn).await
}

/// Ids of at most `limit` rows behind a rowid, in their order, and the last rowid.
pub(super) async fn ids_after(
    conn: &mut Connection,
    table: ListedTable,
    place: i64,
    limit: i64,
) -> Result<(Vec<String>, Option<i64>)> {
    let ids = (statements_of(table).ids_after)().bind(place).bind(limit);
    let rows: Vec<(String, i64)> = ids.fetch_all(conn).await?;
    let last = rows.last().map(|(_, place)| *place);
    Ok((rows.into_iter().map(|(id, _)| id).collect(), last))
}

/// A part of a table or of its list, compared with the other.
pub(super) struct ComparedRows<P> {
    /// Number of rows.
    pub(super) count: i64,
    /// Where the last of them stands; none: there was no row.
    pub(super) last: Option<P>,
    /// Ids of those that are not as the other has them, or not in it.
    pub(super) differing: Vec<String>,
}

/// Compare at most `limit` rows of a table behind a rowid, in their order, with the list.
pub(super) async fn compare_table(
    conn: &mut Connection,
    table: ListedTable,
    place: i64,
    limit: i64,
) -> Result<ComparedRows<i64>> {
    /// Of a row: its id, its owner in the table and in the list, and whether anything else differs.
    type Difference = (String, String, Option<String>, Truth);
    let compared = (statements_of(table).compared_after)().bind(place).bind(limit);
    let (count, last, rows): (i64, Option<i64>, String) = compared.fetch_one(conn).await?;
    let rows: Vec<Option<Difference>> = parsed(table, &rows)?;
    let differs = |(_, owner, listed, others): &Difference| {
        others.0 || listed.as_deref() != Some(PrincipalName::from_stored(owner).as_str())
    };
    let differing = rows.into_iter().flatten().filter(differs).map(|(id, ..)| id).collect();
    Ok(ComparedRows { count, last, differing })
}

/// Compare at most `limit` rows of a list behind an id, in their order, with its table.
pub(super) async fn compare_list(
    conn: &mut Connection,
    table: ListedTable,
    id: &str,
    limit: i64,
) -> Result<ComparedRows<String>> {
    let listed = (statements_of(table).listed_after)().bind(id).bind(limit);
    let (count, last, gone): (i64, Option<String>, String) = listed.fetch_one(conn).await?;
    let gone: Vec<Option<String>> = parsed(table, &gone)?;
    Ok(ComparedRows { count, last, differing: gone.into_iter().flatten().collect() })
}

/// Rows that the list has as open and that are so no longer, or in another state.
pub(super) async fn changed_open(conn: &mut Connection, table: ListedTable, limit: i64) -> Result<Vec<String>> {
    match statements_of(table).changed_open {
        Some(changed) => changed().bind(limit).fetch_values(conn).await,
        None => Ok(Vec::new()),
    }
}

/// Write the list's rows with these ids as the table has them, with a principal in the place of an owner's key. Returns the number of
/// rows written and deleted.
pub(super) async fn refresh(tx: &mut Tx, table: ListedTable, ids: &[String]) -> Result<u64> {
    let (ids, statements) = (ids_to_json(ids), statements_of(table));
    let mut put = (statements.put)().bind(&ids);
    if let Some(owners) = statements.owners {
        let stored: Vec<String> = owners().bind(&ids).fetch_values(tx.conn().await?).await?;
        let owners: Vec<[String; 2]> =
            stored.into_iter().map(|owner| [owner.clone(), PrincipalName::from_stored(&owner).into()]).collect();
        put = put.bind(serde_json::json!(owners).to_string());
    }
    let written = put.execute(tx.conn().await?).await?;
    Ok(written + (statements.delete)().bind(&ids).execute(tx.conn().await?).await?)
}

/// Give a row of the jobs' list its owner, whom the coordinator knows by an id of its own.
pub(super) async fn set_job_owner(tx: &mut Tx, id: &str, owner: &PrincipalName) -> Result<()> {
    let set = sql!("UPDATE am_job_list SET client_id = $2 WHERE id = $1").bind(id).bind(owner.as_str());
    set.execute(tx.conn().await?).await.map(drop)
}

/// Of these owners, each with the kinds of which it has rows in a list.
pub(super) async fn filled_kinds<'a>(
    conn: &mut Connection,
    table: ListedTable,
    owners: impl Iterator<Item = &'a str>,
) -> Result<Vec<(String, String)>> {
    let filled = sql!("SELECT owner_id, kind FROM am_list_counts WHERE list = $1 AND owner_id IN ($2) AND entries > 0");
    filled.bind(table.name()).bind_all(owners).fetch_all(conn).await
}

/// Whether the table of a list and the list itself are there.
pub(super) async fn has_tables(conn: &mut Connection, table: ListedTable) -> Result<bool> {
    let (of, list) = statements_of(table).tables;
    Ok(crate::has_table(conn, of).await? && crate::has_table(conn, list).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_triggers_keep_every_column() {
        let text = triggers_of(ListedTable::Allocations);
        for part in [
            "am_allocation_added AFTER INSERT ON resource_allocations BEGIN INSERT INTO am_allocation_list \
             (id, agent_id, status, created_at) VALUES (new.id, new.agent_id, new.status, new.created_at) ON CONFLICT (id) \
             DO UPDATE SET agent_id = excluded.agent_id, status = excluded.status, created_at = excluded.created_at; END;",
            "am_allocation_changed AFTER UPDATE OF agent_id, status, created_at ON resource_allocations BEGIN UPDATE \
             am_allocation_list SET agent_id = new.agent_id, status = new.status, created_at = new.created_at WHERE \
             id = new.id; END;",
            "am_allocation_removed AFTER DELETE ON resource_allocations BEGIN DELETE FROM am_allocation_list WHERE id = old.id; END;",
        ] {
            assert!(text.contains(part), "{text}\n{part}");
        }
    }
}
