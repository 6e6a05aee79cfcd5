//! How entries are looked up. The coordinator's table has an index for each of the columns that name something, and none
//! for the level, the risk or the order; what is missing stands in `am_audit_entries`. Each page looks through a bounded
//! number of entries.

use sqlx::{QueryBuilder, Row as _};

use super::{Filter, Found, Page, Record};
use crate::{
    model::{EventType, SecurityLevel, Source},
    store::LOG_COLUMNS,
};
use am_db::{
    Connection, Db, Error, Result, Row,
    codec::{Doc, Timestamp},
    owner::Owner,
};

/// The most entries that are looked through for one page.
const WINDOW: i64 = 10_000;

/// One kind of entries, and how many there are.
pub struct Count {
    pub event_type: String,
    pub security_level: String,
    pub risk_score: i64,
    pub requires_investigation: bool,
    pub entries: u64,
}

/// All counters.
pub async fn counts(conn: &mut Connection) -> Result<Vec<Count>> {
    let rows: Vec<(String, String, i64, bool, i64)> = sqlx::query_as(
        "SELECT event_type, security_level, risk_score, requires_investigation, entries FROM am_audit_counts",
    )
    .fetch_all(conn)
    .await?;
    let count = |(event, level, risk_score, requires_investigation, entries): (String, String, i64, bool, i64)| Count {
        // Shown by value, where it is one of the coordinator's words.
        event_type: EventType::from_stored(&event).map_or(event, |event| event.value().to_owned()),
        security_level: SecurityLevel::from_stored(&level).map_or(level, |level| level.value().to_owned()),
        risk_score,
        requires_investigation,
        entries: entries.cast_unsigned(),
    };
    Ok(rows.into_iter().map(count).collect())
}

/// The entries that the counted part of a filter leaves.
fn matching(counts: &[Count], filter: &Filter, event: bool, rest: bool) -> u64 {
    let keeps = |count: &&Count| {
        (!event || filter.event_type.is_none_or(|event| event.value() == count.event_type))
            && (!rest
                || (filter.security_level.is_none_or(|level| level.value() == count.security_level)
                    && filter.requires_investigation.is_none_or(|wanted| wanted == count.requires_investigation)
                    && filter.risk_min.is_none_or(|least| count.risk_score >= least)
                    && filter.risk_max.is_none_or(|most| count.risk_score <= most)))
    };
    counts.iter().filter(keeps).map(|count| count.entries).sum()
}

/// By which index the candidates of a page come, newest first.
enum Way {
    /// A column of `agent_audit_logs` that has an index, and its value.
    Column(&'static str, Vec<String>),
    /// The few of some risk.
    Risk,
    /// All.
    All,
}

fn way(filter: &Filter, counts: &[Count]) -> Way {
    let one = |value: &String| vec![value.clone()];
    let event = filter.event_type.map(|event| vec![event.stored().to_owned()]);
    let few = |entries: u64| entries <= WINDOW.cast_unsigned();
    let by_risk = filter.risk_min.is_some() || filter.risk_max.is_some() || filter.requires_investigation == Some(true);
    if let Some(id) = &filter.execution_id {
        Way::Column("execution_id", one(id))
    } else if let Some(id) = &filter.step_id {
        Way::Column("step_id", one(id))
    } else if by_risk && few(matching(counts, &Filter { security_level: None, ..filter.clone() }, false, true)) {
        Way::Risk
    } else if let Some(event) = event.clone().filter(|_| few(matching(counts, filter, true, false))) {
        Way::Column("event_type", event)
    } else if let Some(id) = &filter.workflow_id {
        Way::Column("workflow_id", one(id))
    } else if let Some(user) = &filter.user {
        Way::Column("user_id", user.clone())
    } else if let Some(event) = event {
        Way::Column("event_type", event)
    } else {
        Way::All
    }
}

/// The row numbers of candidates, newest first, at most [`WINDOW`] and one, below row `before`.
fn push_candidates(query: &mut QueryBuilder<Db>, way: &Way, filter: &Filter, before: Option<i64>) {
    let below = before.unwrap_or(i64::MAX);
    match way {
        // One after the other: the index has the rows of one value in order, not those of several.
        Way::Column(column, values) => {
            for (at, value) in values.iter().enumerate() {
                query.push(if at > 0 { " UNION ALL " } else { "" });
                query.push("SELECT rowid FROM (SELECT rowid FROM agent_audit_logs WHERE ").push(*column).push(" = ");
                query.push_bind(value.clone()).push(" AND rowid < ").push_bind(below);
                query.push(" ORDER BY rowid DESC LIMIT ").push_bind(WINDOW + 1).push(")");
            }
        }
        Way::Risk => {
            query.push("SELECT l.rowid FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id WHERE ");
            if filter.requires_investigation == Some(true) {
                query.push("e.requires_investigation AND ");
            }
            query.push("e.risk_score >= ").push_bind(filter.risk_min.unwrap_or(0));
            query.push(" AND e.risk_score <= ").push_bind(filter.risk_max.unwrap_or(100));
            query.push(" AND l.rowid < ").push_bind(below);
        }
        Way::All => {
            query.push("SELECT rowid FROM agent_audit_logs WHERE rowid < ").push_bind(below);
        }
    }
    query.push(" ORDER BY 1 DESC LIMIT ").push_bind(WINDOW + 1);
}

fn push_filter(query: &mut QueryBuilder<Db>, filter: &Filter) {
    let texts = [
        ("workflow_id", &filter.workflow_id),
        ("execution_id", &filter.execution_id),
        ("step_id", &filter.step_id),
        ("event_type", &filter.event_type.map(|event| event.stored().to_owned())),
        ("security_level", &filter.security_level.map(|level| level.stored().to_owned())),
    ];
    for (column, value) in texts {
        if let Some(value) = value {
            query.push(" AND l.").push(column).push(" = ").push_bind(value.clone());
        }
    }
    if let Some(user) = &filter.user {
        query.push(" AND l.user_id IN (");
        let mut list = query.separated(", ");
        for form in user {
            list.push_bind(form.clone());
        }
        query.push(")");
    }
    if let Some(wanted) = filter.requires_investigation {
        query.push(" AND l.requires_investigation = ").push_bind(wanted);
    }
    if let Some(least) = filter.risk_min {
        query.push(" AND l.risk_score >= ").push_bind(least);
    }
    if let Some(most) = filter.risk_max {
        query.push(" AND l.risk_score <= ").push_bind(most);
    }
}

/// A page. See [`Found::next`] for what happens where few of many match.
pub async fn search(conn: &mut Connection, filter: &Filter, page: &Page) -> Result<Found> {
    let counts = counts(&mut *conn).await?;
    let total = filter.counted().then(|| matching(&counts, filter, true, true));
    if total == Some(0) {
        return Ok(Found { entries: Vec::new(), total, next: None });
    }
    if let Some(way) = log_way(filter, &counts) {
        return search_log(conn, (filter, way), page, total).await;
    }
    let before = match &page.after {
        None => None,
        Some(id) => match row_number(&mut *conn, id).await? {
            Some(number) => Some(number),
            // It was taken out, which is for the log's verification to tell.
            None => return Ok(Found { entries: Vec::new(), total, next: None }),
        },
    };
    let way = way(filter, &counts);
    let mut query = QueryBuilder::<Db>::new("WITH c AS MATERIALIZED (");
    push_candidates(&mut query, &way, filter, before);
    query.push(") SELECT l.rowid FROM c JOIN agent_audit_logs l ON l.rowid = c.rowid WHERE true");
    push_filter(&mut query, filter);
    query.push(" ORDER BY l.rowid DESC LIMIT ").push_bind(i64::from(page.limit));
    query.push(" OFFSET ").push_bind(i64::from(page.offset));
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *conn).await?;
    let entries = records(&mut *conn, "l.rowid", &numbers, "l.rowid").await?;
    let full = entries.len() == page.limit as usize;
    let next = if full {
        entries.last().map(|entry| (entry.created_at, entry.id.clone()))
    } else {
        // The window may have ended before the page was full.
        window_end(&mut *conn, &way, filter, before).await?
    };
    Ok(Found { entries, total, next })
}

/// The last candidate of a window that was full: where the next one begins.
async fn window_end(
    conn: &mut Connection,
    way: &Way,
    filter: &Filter,
    before: Option<i64>,
) -> Result<Option<(Timestamp, String)>> {
    let mut query = QueryBuilder::<Db>::new("WITH c AS MATERIALIZED (");
    push_candidates(&mut query, way, filter, before);
    query.push(") SELECT l.created_at, l.id FROM agent_audit_logs l WHERE (SELECT count(*) FROM c) > ");
    query.push_bind(WINDOW).push(" AND l.rowid = (SELECT min(rowid) FROM c)");
    Ok(query.build_query_as().fetch_optional(conn).await?)
}

/// By which index of `am_audit_entries` the candidates of a page come, newest first.
enum LogWay {
    /// The few of some risk.
    Risk,
    /// Those that somebody should look at.
    Investigate,
    /// All.
    All,
}

/// Does all that is asked for stand in `am_audit_entries`, and no index of the coordinator's table help? Then its short
/// rows are read instead of the entries. What is not sealed yet comes there within seconds.
fn log_way(filter: &Filter, counts: &[Count]) -> Option<LogWay> {
    let bounds = filter.risk_min.is_some() || filter.risk_max.is_some();
    let others = bounds || filter.requires_investigation.is_some() || filter.security_level.is_some();
    let few = |entries: u64| entries <= WINDOW.cast_unsigned();
    let rare_event = filter.event_type.is_some() && few(matching(counts, filter, true, false));
    if !filter.counted() || !others || rare_event {
        return None;
    }
    let of_risk = Filter { security_level: None, requires_investigation: None, ..filter.clone() };
    Some(if bounds && few(matching(counts, &of_risk, false, true)) {
        LogWay::Risk
    } else if filter.requires_investigation == Some(true) {
        LogWay::Investigate
    } else {
        LogWay::All
    })
}

fn push_log_candidates(query: &mut QueryBuilder<Db>, way: &LogWay, filter: &Filter, below: i64) {
    query.push("WITH c AS MATERIALIZED (SELECT seq FROM am_audit_entries ");
    match way {
        LogWay::Risk => {
            query.push("INDEXED BY am_audit_entries_risk WHERE risk_score >= ").push_bind(filter.risk_min.unwrap_or(0));
            query.push(" AND risk_score <= ").push_bind(filter.risk_max.unwrap_or(100)).push(" AND ");
        }
        LogWay::Investigate => {
            query.push("INDEXED BY am_audit_entries_investigate WHERE requires_investigation AND ");
        }
        LogWay::All => {
            query.push("WHERE ");
        }
    }
    query.push("seq < ").push_bind(below).push(" ORDER BY seq DESC LIMIT ").push_bind(WINDOW + 1).push(")");
}

async fn search_log(
    conn: &mut Connection,
    (filter, way): (&Filter, LogWay),
    page: &Page,
    total: Option<u64>,
) -> Result<Found> {
    let place = |id: String| sqlx::query_scalar("SELECT seq FROM am_audit_entries WHERE audit_id = ?1").bind(id);
    let below: i64 = match &page.after {
        None => i64::MAX,
        Some(id) => match place(id.clone()).fetch_optional(&mut *conn).await? {
            Some(seq) => seq,
            None => return Ok(Found { entries: Vec::new(), total, next: None }),
        },
    };
    let mut query = QueryBuilder::<Db>::new("");
    push_log_candidates(&mut query, &way, filter, below);
    query.push(" SELECT l.audit_id FROM c CROSS JOIN am_audit_entries l ON l.seq = c.seq WHERE true");
    push_filter(&mut query, filter);
    query.push(" ORDER BY c.seq DESC LIMIT ").push_bind(i64::from(page.limit));
    query.push(" OFFSET ").push_bind(i64::from(page.offset));
    let ids: Vec<String> = query.build_query_scalar().fetch_all(&mut *conn).await?;
    let full = ids.len() == page.limit as usize;
    let entries = records(&mut *conn, "l.id", &ids, "e.seq").await?;
    let next = if full {
        entries.last().map(|entry| (entry.created_at, entry.id.clone()))
    } else {
        let mut query = QueryBuilder::<Db>::new("");
        push_log_candidates(&mut query, &way, filter, below);
        query.push(" SELECT l.created_at, l.id FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id");
        query.push(" WHERE e.seq = (SELECT min(seq) FROM c) AND (SELECT count(*) FROM c) > ").push_bind(WINDOW);
        query.build_query_as().fetch_optional(conn).await?
    };
    Ok(Found { entries, total, next })
}

async fn row_number(conn: &mut Connection, id: &str) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar("SELECT rowid FROM agent_audit_logs WHERE id = ?1").bind(id).fetch_optional(conn).await?)
}

fn push_records(query: &mut QueryBuilder<Db>) {
    query.push("SELECT ");
    for (at, column) in LOG_COLUMNS.split(',').enumerate() {
        query.push(if at > 0 { ", l." } else { "l." }).push(column.trim());
    }
    query.push(
        ", e.seq, e.leaf_hash, e.source FROM agent_audit_logs l LEFT JOIN am_audit_entries e ON e.audit_id = l.id",
    );
}

/// The entries whose `column` is one of `keys`, the last of `order` first.
async fn records<K: serde::Serialize>(
    conn: &mut Connection,
    column: &'static str,
    keys: &[K],
    order: &'static str,
) -> Result<Vec<Record>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Db>::new("");
    push_records(&mut query);
    query.push(" WHERE ").push(column).push(" IN (SELECT value FROM json_each(");
    query.push_bind(serde_json::to_string(keys).map_err(|error| Error::Unreadable(error.to_string()))?);
    query.push(")) ORDER BY ").push(order).push(" DESC");
    query.build().fetch_all(conn).await?.iter().map(record).collect()
}

/// One entry.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Record>> {
    let mut query = QueryBuilder::<Db>::new("");
    push_records(&mut query);
    query.push(" WHERE l.id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.as_ref().map(record).transpose()
}

fn record(row: &Row) -> Result<Record> {
    let doc = |at: usize| -> Result<Doc> { Ok(row.try_get::<Option<Doc>, _>(at)?.unwrap_or_else(Doc::none)) };
    let user: Option<String> = row.try_get(6)?;
    let source: Option<String> = row.try_get(21)?;
    let record = Record {
        id: row.try_get(0)?,
        event_type: row.try_get(1)?,
        timestamp: row.try_get(2)?,
        workflow_id: row.try_get(3)?,
        execution_id: row.try_get(4)?,
        step_id: row.try_get(5)?,
        user_id: user.as_deref().map(Owner::from_stored),
        security_level: row.try_get(7)?,
        ip_address: row.try_get(8)?,
        user_agent: row.try_get(9)?,
        event_data: doc(10)?.or_object(),
        previous_state: doc(11)?,
        new_state: doc(12)?,
        risk_score: row.try_get(13)?,
        requires_investigation: row.try_get(14)?,
        investigation_notes: row.try_get(15)?,
        cryptographic_hash: row.try_get(16)?,
        signature_valid: row.try_get(17)?,
        created_at: row.try_get(18)?,
        log_sequence: row.try_get(19)?,
        leaf_hash: row.try_get(20)?,
        source: source.as_deref().and_then(Source::from_word).unwrap_or(Source::Coordinator),
    };
    Ok(record.checked())
}
