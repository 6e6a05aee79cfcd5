//! Queries for pages of executions.

use super::super::{ExecutionFilter, store::FROM_EXECUTIONS};
use crate::{error::Result, run::Execution};
use am_db::{
    Connection, Database, FromRow as _,
    foreign_rows::read_page,
    kept_list::{ListPage, ListedTable, PageReader},
    page::PageRequest,
    principal::Principal,
    sql,
    statement::Query,
};

const MATCHING: &str = " WHERE e.client_id IN ($1) [AND e.workflow_id = $2] [AND e.status = $3] ";
/// What of a page is read from the list of executions, for one of the two principals that may stand for the client.
const LISTED: &str = " [AND l.workflow_id = $3] [AND l.status = $4]
    [AND (l.created_at, l.id) < (coalesce((SELECT created_at FROM am_execution_list WHERE id = $6), $5), $6)] ";

/// Read a page, newest first, by the list of executions; `None`: it can't be used yet.
async fn list_kept(
    db: &Database,
    conn: &mut Connection,
    caller: &Principal,
    filter: &ExecutionFilter,
) -> Result<Option<ListPage<Execution>>> {
    let listed = caller.listed_forms();
    let forms = match &*listed {
        [one] => [Some(one), None],
        [one, other] => [Some(one), Some(other)],
        _ => return Ok(None),
    };
    if !db.follow_list(conn, ListedTable::Executions, filter.status.is_some()).await? {
        return Ok(None);
    }
    let ids = |page: &PageRequest| {
        let (at, id) = page.after.as_ref().map(|(at, id)| (*at, id)).unzip();
        let ids = sql!(
            "SELECT page.id, (SELECT {bytes e.step_states} + {bytes e.final_result} + {bytes e.execution_receipt}
                     + {bytes e.verification_proof} + {bytes e.error_message} FROM agent_executions e 
                     WHERE e.id = page.id AND e.created_at = page.created_at)
             FROM (SELECT l.id, l.created_at FROM am_execution_list l WHERE l.client_id = $1 ",
            LISTED,
            "UNION ALL SELECT l.id, l.created_at FROM am_execution_list l WHERE l.client_id = $2 ",
            LISTED,
            "ORDER BY created_at DESC, id DESC LIMIT $7 OFFSET $8) AS page",
        );
        let ids = ids.bind(forms[0]).bind(forms[1]).bind_some(filter.workflow_id.as_ref()).bind_some(filter.status);
        ids.bind_some(at).bind_some(id).bind(i64::from(page.limit)).bind(i64::from(page.offset))
    };
    let rows =
        |ids: String| sql!("SELECT ", Execution::COLUMNS, FROM_EXECUTIONS, " WHERE e.id IN {texts $1}").bind(ids);
    let matches = |row: &Execution| {
        caller.owns(&row.client_id)
            && filter.workflow_id.as_ref().is_none_or(|id| *id == row.workflow_id)
            && filter.status.is_none_or(|status| status == row.status)
    };
    let reader =
        PageReader { page: &filter.page, ids: &ids, rows: &rows, id: |row: &Execution| &row.id, matches: &matches };
    let (rows, is_cut) = db.read_list_page(conn, ListedTable::Executions, &reader).await?;
    let total = match &filter.workflow_id {
        None => sql!(
            "SELECT CAST(coalesce(sum(entries), 0) AS BIGINT) FROM am_list_counts
             WHERE list = 'executions' AND owner_id IN ($1) [AND kind = $2]"
        )
        .bind_all(listed.iter())
        .bind_some(filter.status),
        Some(id) => sql!(
            "SELECT count(*) FROM am_execution_list WHERE workflow_id = $1 AND client_id IN ($2) [AND status = $3]"
        )
        .bind(id)
        .bind_all(listed.iter())
        .bind_some(filter.status),
    };
    Ok(Some(ListPage { rows, total: total.fetch_value(conn).await?, is_cut }))
}

/// Read a page, newest first, and the total number.
pub async fn list(db: &Database, caller: &Principal, filter: &ExecutionFilter) -> Result<ListPage<Execution>> {
    let conn = &mut *db.read_list().await?;
    match list_kept(db, conn, caller, filter).await? {
        Some(page) => Ok(page),
        None => list_unkept(conn, caller, filter).await,
    }
}

/// Read a page from the table itself, all of which is read for it.
async fn list_unkept(
    conn: &mut Connection,
    caller: &Principal,
    filter: &ExecutionFilter,
) -> Result<ListPage<Execution>> {
    let bind_filter = |query: Query| {
        query.bind_all(caller.aliases.iter()).bind_some(filter.workflow_id.as_ref()).bind_some(filter.status)
    };
    let rows = || sql!("SELECT ", Execution::COLUMNS, FROM_EXECUTIONS, MATCHING, "{page e. $4 agent_executions}");
    let ids = || sql!("SELECT e.id FROM agent_executions e", MATCHING, "{page e. $4 agent_executions}");
    let rows = read_page(
        &mut *conn,
        &filter.page,
        |page| bind_filter(rows()).bind_page(page),
        |page| bind_filter(ids()).bind_page(page),
    );
    let rows = rows.await?;
    let total = bind_filter(sql!("SELECT count(*) FROM agent_executions e", MATCHING));
    Ok(ListPage { rows, total: total.fetch_value(conn).await?, is_cut: false })
}
