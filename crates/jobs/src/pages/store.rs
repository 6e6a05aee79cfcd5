//! Queries for pages of jobs.

use std::borrow::Cow;

use super::super::{
    model::{JobFilter, JobRecord, JobService, JobViewer},
    outcome::failure_reason,
    shown_names::ShownNames,
    store::{JOB_TABLES, JobSummary},
};
use am_core::ids::{JobId, PrincipalId};
use am_db::{
    Connection, Database, DatabaseError, FromRow, Result,
    codec::Timestamp,
    foreign_rows::read_page,
    job_clock::QueueTimestamp,
    kept_list::{ListPage, ListedTable, PageReader},
    packed_row,
    page::PageRequest,
    row::{Columns, ListedRow, OmittedMembers, PackedColumns as _, PackedRow, whole_number},
    sql,
    statement::{Query, some_of},
};

/// Forms of a client that a page is read for together.
const MAX_FORMS: usize = 3;

packed_row! {
    /// A job of a list as one value.
    pub struct JobCells<'a> {
        id: JobId = "j.id",
        #[serde(borrow)]
        client_id: Cow<'a, str> = "j.client_id",
        ordered_by: Option<PrincipalId> = "a.client_id",
        #[serde(borrow)]
        state: Cow<'a, str> = "j.state",
        service: Option<String> = "{member j.payload service_type}",
        #[serde(deserialize_with = "whole_number")]
        ttl_seconds: i64 = "j.ttl_seconds",
        #[serde(borrow)]
        requested_at: Cow<'a, str> = "j.requested_at",
        #[serde(borrow)]
        expires_at: Cow<'a, str> = "j.expires_at",
        miner: Option<String> = "j.assigned_miner_id",
        error: Option<String> = "j.error",
        payment_status: Option<String> = "j.payment_status",
        #[serde(borrow)]
        running_at: Option<Cow<'a, str>> = "a.running_at",
        #[serde(borrow)]
        ended_at: Option<Cow<'a, str>> = "a.ended_at",
        failure: Option<String> = "CASE WHEN upper(j.state) = 'COMPLETED' AND lower({member j.result status}) IN ('failed', 'failure', 'error') THEN coalesce({member j.result error}, '') END",
    }
}

impl PackedRow for JobRecord {
    type Packed<'a> = JobCells<'a>;

    fn unpack(cells: JobCells<'_>) -> Result<ListedRow<Self>> {
        let fault =
            |name: &str, error: &dyn std::fmt::Display| DatabaseError::InvalidValue(format!("job.{name}: {error}"));
        let queue_time = |text: &str, name| QueueTimestamp::from_stored(text).map_err(|error| fault(name, &error));
        let noticed = |text: Option<Cow<'_, str>>, name| {
            text.map(|text| Timestamp::from_stored(&text).map_err(|error| fault(name, &error))).transpose()
        };
        let summary = JobSummary {
            id: cells.id,
            stored_client: cells.client_id.into_owned(),
            ordered_by: cells.ordered_by,
            state: cells.state.into_owned(),
            service: cells.service,
            ttl_seconds: cells.ttl_seconds,
            requested_at: queue_time(&cells.requested_at, "requested_at")?,
            expires_at: queue_time(&cells.expires_at, "expires_at")?,
            miner: cells.miner,
            error: cells.error,
            payment_status: cells.payment_status,
            running_at: noticed(cells.running_at, "running_at")?,
            ended_at: noticed(cells.ended_at, "ended_at")?,
            failure: cells.failure.map(|given| failure_reason(&given)),
        };
        Ok(ListedRow { row: summary.into(), omitted: OmittedMembers::default() })
    }
}

/// A job of a page that is read row by row.
struct JobRow(JobRecord);

impl FromRow for JobRow {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        let cells: &str = columns.next_value()?;
        let cells = serde_json::from_str(cells).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
        JobRecord::unpack(cells).map(|listed| Self(listed.row))
    }
}

/// Which rows of the list match, apart from whose. One state is found by an index; several are not in order there.
const LISTED: &str =
    " [AND l.state = $4] [AND coalesce(l.state, '') IN ($5)] [AND l.service = $6] [AND l.ended_at > $7]
    [AND l.ended_at < $8] [AND l.requested_at > $9] [AND l.requested_at < $10] ";
/// Where in the list a page begins.
const POSITION: &str =
    " [AND (l.requested_at, l.id) < (coalesce((SELECT requested_at FROM am_job_list WHERE id = $12), $11), $12)]
    [AND (l.requested_at, l.id) > (coalesce((SELECT requested_at FROM am_job_list WHERE id = $14), $13), $14)] ";
const NEWS: &str = "{news job am_job_list $18}, ";
/// The rows of a page in one value: before their columns, and behind the parts of the list.
const ROWS_FROM: &str = "(SELECT {arrays {array page.listed_id, page.listed_at, j.requested_at = page.listed_at, ";
const ROWS_END: &str = " ORDER BY listed_at [?15 DESC], listed_id [?15 DESC] LIMIT $16 OFFSET $17) AS page
    LEFT JOIN job j ON j.id = page.listed_id LEFT JOIN am_jobs a ON a.id = page.listed_id)";
/// The list of everybody's jobs, and the parts of a client's, one for each of its forms.
const ALL_PART: &str = "}} FROM (SELECT l.id AS listed_id, l.requested_at AS listed_at FROM am_job_list l WHERE true ";
const OWN_PARTS: [&str; MAX_FORMS] = [
    "}} FROM (SELECT l.id AS listed_id, l.requested_at AS listed_at FROM am_job_list l WHERE l.client_id = $1 ",
    " UNION ALL SELECT l.id, l.requested_at FROM am_job_list l WHERE l.client_id = $2 ",
    " UNION ALL SELECT l.id, l.requested_at FROM am_job_list l WHERE l.client_id = $3 ",
];
/// Totals by the counters.
const ALL_COUNTED: &str = "(SELECT CAST(coalesce(sum(entries), 0) AS BIGINT) FROM am_list_counts
    WHERE list = $19 AND owner_id = '*' [AND kind = $4] [AND kind IN ($5)]), ";
const OWN_COUNTED: &str = "(SELECT CAST(coalesce(sum(entries), 0) AS BIGINT) FROM am_list_counts
    WHERE list = $19 AND owner_id IN ($1, $2, $3) [AND kind = $4] [AND kind IN ($5)]), ";

/// The statement of a page of everybody's jobs, with these pieces for the total.
macro_rules! all_page {
    ($($total:expr),+) => {
        sql!("SELECT ", NEWS, $($total,)+ ROWS_FROM, JobCells::LISTED, ALL_PART, LISTED, POSITION, ROWS_END)
    };
}

/// The statement of a page of a client's jobs, with these pieces for the total.
macro_rules! own_page {
    ($($total:expr),+) => {
        sql!(
            "SELECT ",
            NEWS,
            $($total,)+
            ROWS_FROM,
            JobCells::LISTED,
            OWN_PARTS[0],
            LISTED,
            POSITION,
            OWN_PARTS[1],
            LISTED,
            POSITION,
            OWN_PARTS[2],
            LISTED,
            POSITION,
            ROWS_END,
        )
    };
}

/// A page of jobs without their documents and without keys, newest first.
pub(crate) async fn list(
    db: &Database,
    names: &ShownNames,
    who: &JobViewer,
    filter: &JobFilter,
    page: &PageRequest,
) -> Result<ListPage<JobRecord>> {
    let conn = &mut *db.read_list().await?;
    let found = match list_kept(db, conn, who, filter, page).await? {
        Some(found) => found,
        None => list_unkept(conn, who, filter, page).await?,
    };
    let ListPage { rows, total, is_cut } = found;
    let hide = |listed: ListedRow<JobRecord>| ListedRow { row: names.hide_in_record(listed.row), ..listed };
    Ok(ListPage { rows: rows.into_iter().map(hide).collect(), total, is_cut })
}

/// A time in the clock of table `job`.
fn in_queue(at: Timestamp) -> QueueTimestamp {
    QueueTimestamp(at.0)
}

/// Bind where a page begins: the times are of table `job`.
fn bind_positions(query: Query, page: &PageRequest) -> Query {
    page.positions().into_iter().fold(query, |query, position| {
        let (at, id) = position.map(|(at, id)| (in_queue(at), id)).unzip();
        query.bind_some(at).bind_some(id)
    })
}

/// Read a page by the list of jobs; `None`: it can't be used yet.
async fn list_kept(
    db: &Database,
    conn: &mut Connection,
    who: &JobViewer,
    filter: &JobFilter,
    page: &PageRequest,
) -> Result<Option<ListPage<JobRecord>>> {
    let mut forms = who.caller.listed_forms();
    forms.sort();
    forms.dedup();
    if !who.all && forms.len() > MAX_FORMS {
        return Ok(None);
    }
    let (one, several) = match &*filter.states {
        [one] => (Some(one.name()), None),
        several => (None, some_of(several)),
    };
    let is_counted = page.created.is_unbounded() && filter.ended.is_unbounded();
    let service = filter.service.map(JobService::name);
    let counters = service.map_or_else(|| "jobs".to_owned(), |service| format!("jobs/{service}"));
    let statement = |rest: &PageRequest, place: i64| {
        let query = match (who.all, is_counted) {
            (true, true) => all_page!(ALL_COUNTED),
            (true, false) => all_page!("(SELECT count(*) FROM am_job_list l WHERE true ", LISTED, "), "),
            (false, true) => own_page!(OWN_COUNTED),
            (false, false) => {
                own_page!("(SELECT count(*) FROM am_job_list l WHERE l.client_id IN ($1, $2, $3) ", LISTED, "), ")
            }
        };
        let query = (0..MAX_FORMS).fold(query, |query, at| match who.all {
            true => query.bind_some(None::<&str>),
            false => query.bind(forms.get(at)),
        });
        let query = query.bind_some(one).bind_all_some(several.map(|states| states.iter().map(|state| state.name())));
        let query = query.bind_some(service).bind_span(filter.ended);
        let query = query.bind_some(rest.created.after.map(in_queue)).bind_some(rest.created.before.map(in_queue));
        let query = bind_positions(query, rest).bind_flag(!rest.oldest_first);
        let query = query.bind(i64::from(rest.limit)).bind(i64::from(rest.offset)).bind(place);
        if is_counted { query.bind(counters.as_str()) } else { query }
    };
    let matches = |job: &JobRecord| {
        who.may_see(job)
            && (filter.states.is_empty() || job.state.is_some_and(|state| filter.states.contains(&state)))
            && filter.service.is_none_or(|service| job.service == Some(service))
    };
    let by_state = !filter.states.is_empty() || !filter.ended.is_unbounded();
    let reader = PageReader { page, by_state, statement: &statement, matches: &matches };
    db.read_list_page(conn, ListedTable::Jobs, &reader).await
}

const MATCHING: &str = " WHERE true [AND coalesce(a.client_id, j.client_id) IN ($1)]
     [AND CASE WHEN upper(j.state) = 'COMPLETED' AND lower({member j.result status}) IN ('failed', 'failure', 'error')
         THEN 'FAILED' ELSE upper(j.state) END IN ($2)]
     [AND {member j.payload service_type} = $3] [AND a.ended_at > $4] [AND a.ended_at < $5] [AND j.requested_at > $6]
     [AND j.requested_at < $7] ";

/// A page of the table itself. The row before is compared as it is stored, in any of a time's forms.
const JOB_PAGE: &str = "[AND (j.requested_at, j.id) < (coalesce((SELECT requested_at FROM job WHERE id = $9), $8), $9)]
     [AND (j.requested_at, j.id) > (coalesce((SELECT requested_at FROM job WHERE id = $11), $10), $11)]
     ORDER BY j.requested_at [?12 DESC], j.id [?12 DESC] LIMIT $13 OFFSET $14";

/// Read a page from the table itself, all of which is read for it.
async fn list_unkept(
    conn: &mut Connection,
    who: &JobViewer,
    filter: &JobFilter,
    page: &PageRequest,
) -> Result<ListPage<JobRecord>> {
    let bind_filter = |query: Query, page: &PageRequest| {
        query
            .bind_all_some((!who.all).then(|| who.caller.aliases.iter()))
            .bind_all_some(some_of(&filter.states).map(|states| states.iter().map(|state| state.name())))
            .bind_some(filter.service.map(JobService::name))
            .bind_span(filter.ended)
            .bind_some(page.created.after.map(in_queue))
            .bind_some(page.created.before.map(in_queue))
    };
    let bind = |query: Query, page: &PageRequest| {
        let query = bind_positions(bind_filter(query, page), page);
        query.bind_flag(!page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset))
    };
    let rows = || sql!("SELECT ", JobCells::LISTED, JOB_TABLES, MATCHING, JOB_PAGE);
    let ids = || sql!("SELECT j.id", JOB_TABLES, MATCHING, JOB_PAGE);
    let rows = read_page::<JobRow>(&mut *conn, page, |page| bind(rows(), page), |page| bind(ids(), page)).await?;
    let total = bind_filter(sql!("SELECT count(*)", JOB_TABLES, MATCHING), page).fetch_value(conn).await?;
    let listed = |JobRow(row)| ListedRow { row, omitted: OmittedMembers::default() };
    Ok(ListPage { rows: rows.into_iter().map(listed).collect(), total, is_cut: false })
}
