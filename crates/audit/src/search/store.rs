//! Lookup of entries. The coordinator's table has an index for each id column, and none for level, risk or order;
//! `am_audit_entries` has those. Each page reads a bounded number of entries.

use super::{AuditEntryView, AuditFilter, AuditPageRequest, SearchPage};
use crate::model::{EntrySource, EventType, SecurityLevel};
use am_core::ids::AuditId;
use am_db::{
    Connection, DatabaseError, FromRow as _, Result,
    codec::{JsonText, Timestamp},
    foreign_rows::log_unreadable,
    row, sql,
    statement::Query,
};

/// Largest number of entries read for one page.
const SEARCH_WINDOW: i64 = 10_000;

row! {
    /// Counter of entries with equal properties.
    pub struct EntryCounter {
        /// Shown by its value, if it is one of the coordinator's event types.
        pub event_type: String => |event: String| EventType::from_stored(&event).map_or(event, |event| event.value().to_owned()),
        pub security_level: String => |level: String| {
            SecurityLevel::from_stored(&level).map_or(level, |level| level.value().to_owned())
        },
        pub risk_score: i64,
        pub requires_investigation: bool,
        pub entries: u64 => i64::cast_unsigned,
    }
}

/// All counters of entries.
pub async fn read_counters(conn: &mut Connection) -> Result<Vec<EntryCounter>> {
    sql!("SELECT ", EntryCounter::COLUMNS, " FROM am_audit_counts").fetch_all(conn).await
}

/// Number of entries that match the counted members of a filter.
fn count_matching(counts: &[EntryCounter], filter: &AuditFilter, event: bool, rest: bool) -> u64 {
    let keeps = |count: &&EntryCounter| {
        (!event || filter.event_type.is_none_or(|event| event.value() == count.event_type))
            && (!rest
                || (filter.security_level.is_none_or(|level| level.value() == count.security_level)
                    && filter.requires_investigation.is_none_or(|wanted| wanted == count.requires_investigation)
                    && filter.risk_min.is_none_or(|least| count.risk_score >= least)
                    && filter.risk_max.is_none_or(|most| count.risk_score <= most)))
    };
    counts.iter().filter(keeps).map(|count| count.entries).sum()
}

/// Index that yields a page's candidates, in the page's order.
enum IndexPlan {
    /// A column of `agent_audit_logs` that has an index, and its values.
    Column(Column, Vec<String>),
    /// The index by risk, for the few entries of some risk.
    Risk,
    /// No index: all entries.
    All,
}

/// A column of `agent_audit_logs` that has an index.
#[derive(Clone, Copy)]
enum Column {
    Execution,
    Step,
    Event,
    Workflow,
    User,
}

fn plan_index(filter: &AuditFilter, counts: &[EntryCounter]) -> IndexPlan {
    let one = |id: &str| vec![id.to_owned()];
    let event = filter.event_type.map(|event| vec![event.stored().to_owned()]);
    let few = |entries: u64| entries <= SEARCH_WINDOW.cast_unsigned();
    let by_risk = filter.risk_min.is_some() || filter.risk_max.is_some() || filter.requires_investigation == Some(true);
    if let Some(id) = &filter.execution_id {
        IndexPlan::Column(Column::Execution, one(id))
    } else if let Some(id) = &filter.step_id {
        IndexPlan::Column(Column::Step, one(id))
    } else if by_risk
        && few(count_matching(counts, &AuditFilter { security_level: None, ..filter.clone() }, false, true))
    {
        IndexPlan::Risk
    } else if let Some(event) = event.clone().filter(|_| few(count_matching(counts, filter, true, false))) {
        IndexPlan::Column(Column::Event, event)
    } else if let Some(id) = &filter.workflow_id {
        IndexPlan::Column(Column::Workflow, one(id))
    } else if let Some(user) = &filter.user {
        IndexPlan::Column(Column::User, user.clone())
    } else if let Some(event) = event {
        IndexPlan::Column(Column::Event, event)
    } else {
        IndexPlan::All
    }
}

/// Candidates of some value of a column. One value after the other: the index has the rows of one value in order, not those of
/// several.
macro_rules! by_column {
    ($column:literal) => {
        concat!(
            "SELECT place FROM (SELECT {place l} AS place FROM agent_audit_logs l WHERE l.",
            $column,
            " = $3 [AND {place l} < $1] [AND {place l} > $6] ORDER BY {place l} [?1 DESC] LIMIT $2) AS a [UNION ALL \
             SELECT place FROM (SELECT {place l} AS place FROM agent_audit_logs l WHERE l.",
            $column,
            " IN ($4) AND {place l} < $1 ORDER BY {place l} DESC LIMIT $2) AS b] [UNION ALL \
             SELECT place FROM (SELECT {place l} AS place FROM agent_audit_logs l WHERE l.",
            $column,
            " IN ($4) AND {place l} > $6 ORDER BY {place l} LIMIT $2) AS d]"
        )
    };
}

const BY_RISK: &str = "SELECT {place l} AS place FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id
     WHERE e.risk_score >= $3 AND e.risk_score <= $4 [?5 AND e.requires_investigation]
         [AND {place l} < $1] [AND {place l} > $6]";
const BY_PLACE: &str =
    "SELECT {place l} AS place FROM agent_audit_logs l WHERE true [AND {place l} < $1] [AND {place l} > $6]";

/// A query of what follows the candidates, which are rows `c`: their places, in the page's order. See [`bind_candidates`].
macro_rules! of_candidates {
    ($way:expr, $($rest:expr),+) => {{
        macro_rules! by {
            ($candidates:expr) => {
                sql!("WITH c AS MATERIALIZED (", $candidates, " ORDER BY 1 [?1 DESC] LIMIT $2)", $($rest),+)
            };
        }
        match $way {
            IndexPlan::Column(Column::Execution, _) => by!(by_column!("execution_id")),
            IndexPlan::Column(Column::Step, _) => by!(by_column!("step_id")),
            IndexPlan::Column(Column::Event, _) => by!(by_column!("event_type")),
            IndexPlan::Column(Column::Workflow, _) => by!(by_column!("workflow_id")),
            IndexPlan::Column(Column::User, _) => by!(by_column!("user_id")),
            IndexPlan::Risk => by!(BY_RISK),
            IndexPlan::All => by!(BY_PLACE),
        }
    }};
}

/// Where a page begins: behind this number, in its order.
#[derive(Clone, Copy)]
struct PageStart {
    after: Option<i64>,
    oldest_first: bool,
}

impl PageStart {
    /// The number that the page is below; missing where the oldest comes first.
    fn below(self) -> Option<i64> {
        (!self.oldest_first).then(|| self.after.unwrap_or(i64::MAX))
    }

    /// The number that the page is above; missing where the newest comes first.
    fn above(self) -> Option<i64> {
        self.oldest_first.then(|| self.after.unwrap_or(i64::MIN))
    }
}

/// The first six parameters: at most [`SEARCH_WINDOW`] candidates and one, behind the row where the page begins. The first or the sixth
/// is missing.
fn bind_candidates(query: Query, way: &IndexPlan, filter: &AuditFilter, start: PageStart) -> Query {
    let query = query.bind_some(start.below()).bind(SEARCH_WINDOW + 1);
    let query = match way {
        IndexPlan::Column(_, values) => {
            let others = values.get(1..).filter(|others| !others.is_empty());
            query.bind_some(values.first()).bind_all_some(others).bind_flag(false)
        }
        IndexPlan::Risk => {
            let query = query.bind(filter.risk_min.unwrap_or(0)).bind(filter.risk_max.unwrap_or(100));
            query.bind_flag(filter.requires_investigation == Some(true))
        }
        IndexPlan::All => query.bind_some(None::<i64>).bind_some(None::<i64>).bind_flag(false),
    };
    query.bind_some(start.above())
}

const MATCHING: &str = " WHERE true [AND l.workflow_id = $7] [AND l.execution_id = $8] [AND l.step_id = $9] [AND l.event_type = $10]
     [AND l.security_level = $11] [AND l.user_id IN ($12)] [AND l.requires_investigation = $13] [AND l.risk_score >= $14]
     [AND l.risk_score <= $15] {span l. $16} ";

fn bind_filter(query: Query, filter: &AuditFilter) -> Query {
    query
        .bind_some(filter.workflow_id.as_ref())
        .bind_some(filter.execution_id.as_ref())
        .bind_some(filter.step_id.as_ref())
        .bind_some(filter.event_type)
        .bind_some(filter.security_level)
        .bind_all_some(filter.user.as_deref())
        .bind_some(filter.requires_investigation)
        .bind_some(filter.risk_min)
        .bind_some(filter.risk_max)
        .bind_span(filter.created)
}

/// Search a page. See [`SearchPage::next`] for sparse matches.
pub async fn search(conn: &mut Connection, filter: &AuditFilter, page: &AuditPageRequest) -> Result<SearchPage> {
    let read_counters = read_counters(&mut *conn).await?;
    let total = filter.counted().then(|| count_matching(&read_counters, filter, true, true));
    if total == Some(0) {
        return Ok(SearchPage { entries: Vec::new(), total, next: None });
    }
    if let Some(way) = plan_log_index(filter, &read_counters) {
        return search_log(conn, (filter, way), page, total).await;
    }
    let before = match &page.after {
        None => None,
        Some(id) => match row_number(&mut *conn, id).await? {
            Some(number) => Some(number),
            // The row is missing, which the log's verification reports.
            None => return Ok(SearchPage { entries: Vec::new(), total, next: None }),
        },
    };
    let start = PageStart { after: before, oldest_first: page.oldest_first };
    let way = plan_index(filter, &read_counters);
    let numbers = of_candidates!(
        &way,
        " SELECT {place l} FROM c JOIN agent_audit_logs l ON {place l} = c.place",
        MATCHING,
        "ORDER BY {place l} [?1 DESC] LIMIT $18 OFFSET $19"
    );
    let numbers = bind_filter(bind_candidates(numbers, &way, filter, start), filter);
    let numbers = numbers.bind(i64::from(page.limit)).bind(i64::from(page.offset));
    let numbers: Vec<i64> = numbers.fetch_values(&mut *conn).await?;
    let mut entries = records_of_rows(&mut *conn, &numbers).await?;
    if page.oldest_first {
        entries.reverse();
    }
    let full = numbers.len() == page.limit as usize && !entries.is_empty();
    let next = if full {
        entries.last().map(|entry| (entry.created_at, entry.id.clone()))
    } else {
        // The window may have ended before the page was full.
        let end = window_end(&mut *conn, &way, filter, start).await?;
        // What follows is older, or newer, than what is asked for.
        end.filter(|(at, _)| match page.oldest_first {
            false => filter.created.after.is_none_or(|after| *at > after),
            true => filter.created.before.is_none_or(|before| *at < before),
        })
    };
    Ok(SearchPage { entries, total, next })
}

/// The last candidate of a full window, where the next page begins.
async fn window_end(
    conn: &mut Connection,
    way: &IndexPlan,
    filter: &AuditFilter,
    start: PageStart,
) -> Result<Option<(Timestamp, AuditId)>> {
    let end = of_candidates!(
        way,
        " SELECT l.created_at, l.id FROM agent_audit_logs l WHERE (SELECT count(*) FROM c) > $7
             [?1 AND {place l} = (SELECT min(place) FROM c)] [?6 AND {place l} = (SELECT max(place) FROM c)]"
    );
    bind_candidates(end, way, filter, start).bind(SEARCH_WINDOW).fetch_optional(conn).await
}

/// Index of `am_audit_entries` that yields a page's candidates, in the page's order.
enum LogIndexPlan {
    /// The index by risk, for the few entries of some risk.
    Risk,
    /// The index of entries that require investigation.
    Investigate,
    /// No index: all entries.
    All,
}

/// Choose an index of `am_audit_entries` when it has all columns of the filter and no index of the coordinator's table
/// helps; its short rows are then read instead of the entries. Unsealed entries appear there within seconds.
fn plan_log_index(filter: &AuditFilter, counts: &[EntryCounter]) -> Option<LogIndexPlan> {
    let bounds = filter.risk_min.is_some() || filter.risk_max.is_some();
    let others = bounds || filter.requires_investigation.is_some() || filter.security_level.is_some();
    let few = |entries: u64| entries <= SEARCH_WINDOW.cast_unsigned();
    let rare_event = filter.event_type.is_some() && few(count_matching(counts, filter, true, false));
    if !filter.counted() || !others || rare_event {
        return None;
    }
    let of_risk = AuditFilter { security_level: None, requires_investigation: None, ..filter.clone() };
    Some(if bounds && few(count_matching(counts, &of_risk, false, true)) {
        LogIndexPlan::Risk
    } else if filter.requires_investigation == Some(true) {
        LogIndexPlan::Investigate
    } else {
        LogIndexPlan::All
    })
}

/// A query of what follows the candidates, which are rows `c`: their numbers in the log, in the page's order. Its first parameters are
/// the number that they are below, how many, bounds of the risk, and the number that they are above.
macro_rules! of_log_candidates {
    ($way:expr, $($rest:expr),+) => {{
        macro_rules! by {
            ($candidates:literal) => {
                sql!(
                    "WITH c AS MATERIALIZED (SELECT seq FROM am_audit_entries ",
                    $candidates,
                    " [AND seq < $1] [AND seq > $5] ORDER BY seq [?1 DESC] LIMIT $2)",
                    $($rest),+
                )
            };
        }
        match $way {
            LogIndexPlan::Risk => by!("{by am_audit_entries_risk} WHERE risk_score >= $3 AND risk_score <= $4"),
            LogIndexPlan::Investigate => by!("{by am_audit_entries_investigate} WHERE requires_investigation"),
            LogIndexPlan::All => by!("WHERE true"),
        }
    }};
}

fn bind_log_candidates(query: Query, way: &LogIndexPlan, filter: &AuditFilter, start: PageStart) -> Query {
    let query = query.bind_some(start.below()).bind(SEARCH_WINDOW + 1);
    let bounds = matches!(way, LogIndexPlan::Risk)
        .then(|| (filter.risk_min.unwrap_or(0), filter.risk_max.unwrap_or(100)))
        .unzip();
    query.bind_some(bounds.0).bind_some(bounds.1).bind_some(start.above())
}

async fn search_log(
    conn: &mut Connection,
    (filter, way): (&AuditFilter, LogIndexPlan),
    page: &AuditPageRequest,
    total: Option<u64>,
) -> Result<SearchPage> {
    let place = sql!("SELECT seq FROM am_audit_entries WHERE audit_id = $1");
    let after: Option<i64> = match &page.after {
        None => None,
        Some(id) => match place.bind(id).fetch_optional_value(&mut *conn).await? {
            Some(seq) => Some(seq),
            None => return Ok(SearchPage { entries: Vec::new(), total, next: None }),
        },
    };
    let start = PageStart { after, oldest_first: page.oldest_first };
    let ids = of_log_candidates!(
        &way,
        " SELECT l.audit_id FROM c {then} am_audit_entries l ON l.seq = c.seq WHERE true [AND l.event_type = $6]
             [AND l.security_level = $7] [AND l.requires_investigation = $8] [AND l.risk_score >= $9] [AND l.risk_score <= $10]
         ORDER BY c.seq [?1 DESC] LIMIT $11 OFFSET $12"
    );
    let ids = bind_log_candidates(ids, &way, filter, start)
        .bind_some(filter.event_type)
        .bind_some(filter.security_level)
        .bind_some(filter.requires_investigation)
        .bind_some(filter.risk_min)
        .bind_some(filter.risk_max)
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset));
    let ids: Vec<AuditId> = ids.fetch_values(&mut *conn).await?;
    let mut entries = records_of_ids(&mut *conn, &ids).await?;
    if page.oldest_first {
        entries.reverse();
    }
    let full = ids.len() == page.limit as usize && !entries.is_empty();
    let next = if full {
        entries.last().map(|entry| (entry.created_at, entry.id.clone()))
    } else {
        let end = of_log_candidates!(
            &way,
            " SELECT l.created_at, l.id FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id
             WHERE (SELECT count(*) FROM c) > $6 [?1 AND e.seq = (SELECT min(seq) FROM c)] [?5 AND e.seq = (SELECT max(seq) FROM c)]"
        );
        bind_log_candidates(end, &way, filter, start).bind(SEARCH_WINDOW).fetch_optional(conn).await?
    };
    Ok(SearchPage { entries, total, next })
}

async fn row_number(conn: &mut Connection, id: &AuditId) -> Result<Option<i64>> {
    sql!("SELECT {place l} FROM agent_audit_logs l WHERE l.id = $1").bind(id).fetch_optional_value(conn).await
}

const RECORDS: &str = " FROM agent_audit_logs l LEFT JOIN am_audit_entries e ON e.audit_id = l.id ";

/// The entries of these row numbers, or of these ids, the last written first.
async fn records_of_rows(conn: &mut Connection, numbers: &[i64]) -> Result<Vec<AuditEntryView>> {
    let records =
        sql!("SELECT ", AuditEntryView::COLUMNS, RECORDS, "WHERE {place l} IN {integers $1} ORDER BY {place l} DESC");
    Ok(readable(records.bind(json(numbers)?).fetch_readable(conn).await?))
}

/// The sealed ones of these ids, the last of the log first.
async fn records_of_ids(conn: &mut Connection, ids: &[AuditId]) -> Result<Vec<AuditEntryView>> {
    let records = sql!("SELECT ", AuditEntryView::COLUMNS, RECORDS, "WHERE l.id IN {texts $1} ORDER BY e.seq DESC");
    Ok(readable(records.bind(json(ids)?).fetch_readable(conn).await?))
}

fn json(keys: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(keys).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Those that can be read; the others are logged.
fn readable(records: Vec<Result<AuditEntryView>>) -> Vec<AuditEntryView> {
    let told =
        |record: Result<AuditEntryView>| record.inspect_err(|error| log_unreadable("agent_audit_logs", error)).ok();
    records.into_iter().filter_map(told).map(AuditEntryView::checked).collect()
}

/// An entry by its id.
pub async fn get(conn: &mut Connection, id: &AuditId) -> Result<Option<AuditEntryView>> {
    let record = sql!("SELECT ", AuditEntryView::COLUMNS, RECORDS, "WHERE l.id = $1").bind(id);
    Ok(record.fetch_optional::<AuditEntryView>(conn).await?.map(AuditEntryView::checked))
}

row! {
    AuditEntryView from "l." {
        id,
        event_type,
        timestamp,
        workflow_id,
        execution_id,
        step_id,
        user_id,
        security_level,
        ip_address,
        user_agent,
        event_data => JsonText::or_empty_object,
        previous_state,
        new_state,
        risk_score,
        requires_investigation,
        investigation_notes,
        cryptographic_hash,
        signature_valid,
        created_at,
        log_sequence = "e.seq",
        leaf_hash = "e.leaf_hash",
        source = "e.source" => |word: Option<String>| {
            word.as_deref().and_then(EntrySource::from_stored).unwrap_or(EntrySource::Coordinator)
        },
    }
}
