//! Queries for pages of executions.

use std::borrow::Cow;

use super::super::{ExecutionFilter, store::FROM_EXECUTIONS};
use crate::{error::Result, model::ExecutionStatus, run::Execution};
use am_core::{
    ids::{ExecutionId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, Database, DatabaseError, FromRow,
    codec::{JsonText, Timestamp},
    foreign_rows::read_page,
    kept_list::{ListPage, ListedTable, PageReader, filled_parts},
    packed_row,
    page::PageRequest,
    principal::Principal,
    row::{BriefText, Columns, ListedRow, OmittedMembers, PackedColumns as _, PackedRow, Truth, whole_number},
    sql,
    statement::{Query, some_of},
};

packed_row! {
    /// An execution of a list as one value. Its receipt is shown by itself only.
    pub struct ExecutionCells<'a> {
        id: ExecutionId = "e.id",
        workflow_id: WorkflowId = "e.workflow_id",
        client_id: PrincipalId = "e.client_id",
        #[serde(borrow)]
        status: Cow<'a, str> = "e.status",
        paused: Truth = "coalesce(r.paused AND e.status IN ('PENDING', 'RUNNING'), FALSE)",
        #[serde(deserialize_with = "whole_number")]
        current_step: i64 = "e.current_step",
        #[serde(borrow)]
        step_states: Option<BriefText<'a>> = "e.step_states" | "{brief e.step_states}",
        #[serde(borrow)]
        final_result: Option<BriefText<'a>> = "e.final_result" | "{brief e.final_result}",
        #[serde(borrow)]
        verification_proof: Option<BriefText<'a>> = "e.verification_proof" | "{brief e.verification_proof}",
        #[serde(borrow)]
        error_message: Option<BriefText<'a>> = "e.error_message" | "{brief e.error_message}",
        failed_step: Option<String> = "e.failed_step",
        #[serde(borrow)]
        started_at: Option<Cow<'a, str>> = "e.started_at",
        #[serde(borrow)]
        completed_at: Option<Cow<'a, str>> = "e.completed_at",
        #[serde(borrow)]
        total_execution_time: Option<Cow<'a, str>> = "CASE WHEN e.total_execution_time IS NOT NULL THEN {exact e.total_execution_time} END",
        #[serde(borrow)]
        total_cost: Cow<'a, str> = "{exact e.total_cost}",
        #[serde(deserialize_with = "whole_number")]
        total_steps: i64 = "e.total_steps",
        #[serde(deserialize_with = "whole_number")]
        completed_steps: i64 = "e.completed_steps",
        #[serde(borrow)]
        created_at: Cow<'a, str> = "e.created_at",
        #[serde(borrow)]
        updated_at: Cow<'a, str> = "e.updated_at",
    }
}

impl PackedRow for Execution {
    type Packed<'a> = ExecutionCells<'a>;

    fn unpack(cells: ExecutionCells<'_>) -> am_db::Result<ListedRow<Self>> {
        let fault = |name: &str, error: &dyn std::fmt::Display| {
            DatabaseError::InvalidValue(format!("agent_executions.{name}: {error}"))
        };
        let mut omitted = OmittedMembers::default();
        let mut document =
            |text: Option<BriefText<'_>>, name| match text.and_then(|text| text.or_omit(name, &mut omitted)) {
                Some(text) => JsonText::from_stored(&text).map_err(|error| fault(name, &error)),
                None => Ok(JsonText::none()),
            };
        let step_states = document(cells.step_states, "step_states")?.or_empty_object();
        let final_result = document(cells.final_result, "final_result")?;
        let verification_proof = document(cells.verification_proof, "verification_proof")?;
        let error_message = cells.error_message.and_then(|text| text.or_omit("error_message", &mut omitted));
        let moment = |text: &str, name| Timestamp::from_stored(text).map_err(|error| fault(name, &error));
        let some_moment = |text: Option<Cow<'_, str>>, name| text.map(|text| moment(&text, name)).transpose();
        let number = |text: &str, name| text.parse::<f64>().map_err(|error| fault(name, &error));
        let seconds = cells.total_execution_time.map(|text| number(&text, "total_execution_time"));
        let row = Self {
            id: cells.id,
            workflow_id: cells.workflow_id,
            client_id: cells.client_id,
            status: ExecutionStatus::from_stored(&cells.status).ok_or_else(|| fault("status", &cells.status))?,
            paused: cells.paused.0,
            current_step: cells.current_step,
            step_states,
            final_result,
            execution_receipt: JsonText::none(),
            verification_proof,
            error_message: error_message.map(Cow::into_owned),
            failed_step: cells.failed_step,
            started_at: some_moment(cells.started_at, "started_at")?,
            completed_at: some_moment(cells.completed_at, "completed_at")?,
            total_execution_time: seconds.transpose()?,
            total_cost: Money::from_f64(number(&cells.total_cost, "total_cost")?),
            total_steps: cells.total_steps,
            completed_steps: cells.completed_steps,
            created_at: moment(&cells.created_at, "created_at")?,
            updated_at: moment(&cells.updated_at, "updated_at")?,
        };
        Ok(ListedRow { row, omitted })
    }
}

/// An execution of a page that is read row by row.
struct ExecutionRow(ListedRow<Execution>);

impl FromRow for ExecutionRow {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        let cells: &str = columns.next_value()?;
        let cells = serde_json::from_str(cells).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
        Execution::unpack(cells).map(Self)
    }
}

const MATCHING: &str =
    " WHERE e.client_id IN ($1) [AND e.workflow_id = $2] [AND e.status IN ($3)] [AND e.completed_at > $4]
    [AND e.completed_at < $5] ";
/// Which rows of the list match, apart from whose. One status is found by an index; several are not in order there.
const LISTED: &str =
    " [AND l.workflow_id = $3] [AND l.status = $4] [AND coalesce(l.status, '') IN ($5)] [AND l.ended_at > $6]
    [AND l.ended_at < $7] {span l. $8} ";
/// Where in the list a page begins.
const POSITION: &str =
    " [AND (l.created_at, l.id) < (coalesce((SELECT created_at FROM am_execution_list WHERE id = $11), $10), $11)]
    [AND (l.created_at, l.id) > (coalesce((SELECT created_at FROM am_execution_list WHERE id = $13), $12), $13)] ";
const NEWS: &str = "{news agent_executions am_execution_list $17}, ";
/// The rows of a page in one value: before their columns, behind them, and between and behind the two parts of the list.
const ROWS_FROM: &str = "(SELECT {arrays {array page.listed_id, page.listed_at, e.created_at = page.listed_at, ";
const FIRST_PART: &str =
    "}} FROM (SELECT l.id AS listed_id, l.created_at AS listed_at FROM am_execution_list l WHERE l.client_id = $1 ";
const SECOND_PART: &str = " UNION ALL SELECT l.id, l.created_at FROM am_execution_list l WHERE l.client_id = $2 ";
const ROWS_END: &str = " ORDER BY listed_at [?14 DESC], listed_id [?14 DESC] LIMIT $15 OFFSET $16) AS page
    LEFT JOIN agent_executions e ON e.id = page.listed_id LEFT JOIN am_runs r ON r.execution_id = e.id)";

/// The total by counters.
const COUNTED: &str = "(SELECT CAST(coalesce(sum(entries), 0) AS BIGINT) FROM am_list_counts
    WHERE list = 'executions' AND owner_id IN ($1, $2) [AND kind = $4] [AND kind IN ($5)]), ";

/// The statement of a page: pieces for the total, and parts of the list.
macro_rules! page_statement {
    ($($total:expr),+; $($part:expr),+) => {
        sql!("SELECT ", NEWS, $($total,)+ ROWS_FROM, ExecutionCells::LISTED, $($part, LISTED, POSITION,)+ ROWS_END)
    };
}

/// Read a page, newest first, by the list of executions; `None`: it can't be used yet.
async fn list_kept(
    db: &Database,
    conn: &mut Connection,
    caller: &Principal,
    filter: &ExecutionFilter,
) -> Result<Option<ListPage<Execution>>> {
    let mut listed = caller.listed_forms();
    let owners = listed.iter().map(String::as_str);
    if let Some(filled) = filled_parts(conn, ListedTable::Executions, &filter.page, owners).await?
        && let Some((one, _)) = filled.first()
        && filled.iter().all(|(other, _)| one == other)
    {
        listed = vec![one.clone()];
    }
    let forms = match &*listed {
        [one] => [Some(one), None],
        [one, other] => [Some(one), Some(other)],
        _ => return Ok(None),
    };
    let is_counted = filter.workflow_id.is_none() && filter.page.created.is_unbounded() && filter.ended.is_unbounded();
    let statement = |page: &PageRequest, place: i64| {
        let query = match (is_counted, forms[1]) {
            (true, None) => page_statement!(COUNTED; FIRST_PART),
            (true, Some(_)) => page_statement!(COUNTED; FIRST_PART, SECOND_PART),
            (false, _) => page_statement!(
                "(SELECT count(*) FROM am_execution_list l WHERE l.client_id IN ($1, $2) ", LISTED, "), ";
                FIRST_PART, SECOND_PART
            ),
        };
        let (one, several) = match &*filter.status {
            [one] => (Some(*one), None),
            several => (None, some_of(several)),
        };
        let query = query.bind(forms[0]).bind(forms[1]).bind_some(filter.workflow_id.as_ref()).bind_some(one);
        let query = query.bind_all_some(several).bind_span(filter.ended).bind_span(page.created).bind_positions(page);
        let query = query.bind_flag(!page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset));
        query.bind(place)
    };
    let matches = |row: &Execution| {
        caller.owns(&row.client_id)
            && filter.workflow_id.as_ref().is_none_or(|id| *id == row.workflow_id)
            && (filter.status.is_empty() || filter.status.contains(&row.status))
    };
    let by_state = !filter.status.is_empty() || !filter.ended.is_unbounded();
    let reader = PageReader { page: &filter.page, by_state, statement: &statement, matches: &matches };
    Ok(db.read_list_page(conn, ListedTable::Executions, &reader).await?)
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
        let query = query.bind_all(caller.aliases.iter()).bind_some(filter.workflow_id.as_ref());
        query.bind_all_some(some_of(&filter.status)).bind_span(filter.ended)
    };
    let rows = || sql!("SELECT ", ExecutionCells::LISTED, FROM_EXECUTIONS, MATCHING, "{page e. $6 agent_executions}");
    let ids = || sql!("SELECT e.id FROM agent_executions e", MATCHING, "{page e. $6 agent_executions}");
    let rows = read_page::<ExecutionRow>(
        &mut *conn,
        &filter.page,
        |page| bind_filter(rows()).bind_page(page),
        |page| bind_filter(ids()).bind_page(page),
    );
    let rows = rows.await?.into_iter().map(|ExecutionRow(listed)| listed).collect();
    let total = bind_filter(sql!("SELECT count(*) FROM agent_executions e", MATCHING, "{span e. $6}"));
    let total = total.bind_span(filter.page.created);
    Ok(ListPage { rows, total: total.fetch_value(conn).await?, is_cut: false })
}
