//! SQL of table `agent_trust_scores` and of its list. The coordinator does not enforce one row per entity; the oldest counts.

use super::model::{TrustDistribution, TrustFilter, TrustScore, TrustStatistics};
use am_db::{
    Connection, Database, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText},
    foreign_rows::read_page,
    kept_list::ListedTable,
    page::PageRequest,
    push_row, row, sql,
    statement::Query,
};

row! {
    TrustScore from "t." {
        id,
        entity_type,
        entity_id,
        trust_score,
        reputation_score,
        total_executions,
        successful_executions,
        failed_executions,
        verification_success_rate,
        security_violations,
        policy_violations,
        sandbox_breaches,
        last_execution,
        last_violation,
        average_execution_time,
        execution_history => JsonOr::into_inner,
        violation_history => JsonOr::into_inner,
        created_at,
        updated_at,
    }
}

/// Rows of entities with one of these ids, oldest first.
pub async fn scores_by_ids(conn: &mut Connection, ids: &[&str]) -> Result<Vec<TrustScore>> {
    let ids = serde_json::to_string(ids).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    let scores = sql!(
        "SELECT ",
        TrustScore::COLUMNS,
        " FROM agent_trust_scores t WHERE t.entity_id IN {texts $1} ORDER BY t.created_at, t.id",
    );
    scores.bind(ids).fetch_all(conn).await
}

/// Insert or update rows by their ids.
pub async fn upsert_scores<'a>(tx: &mut Tx, scores: impl IntoIterator<Item = &'a TrustScore>) -> Result<()> {
    let mut rows = RowBatch::default();
    let mut any = false;
    for score in scores {
        any = true;
        let history = |notes: &[serde_json::Value]| {
            JsonText::from_value(&notes).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
        };
        let (executions, violations) = (history(&score.execution_history)?, history(&score.violation_history)?);
        push_row!(rows, "agent_trust_scores" {
            id: &score.id,
            entity_type: &score.entity_type,
            entity_id: &score.entity_id,
            trust_score: score.trust_score,
            reputation_score: score.reputation_score,
            total_executions: score.total_executions,
            successful_executions: score.successful_executions,
            failed_executions: score.failed_executions,
            verification_success_rate: score.verification_success_rate,
            security_violations: score.security_violations,
            policy_violations: score.policy_violations,
            sandbox_breaches: score.sandbox_breaches,
            last_execution: score.last_execution,
            last_violation: score.last_violation,
            average_execution_time: score.average_execution_time,
            execution_history: executions,
            violation_history: violations,
            created_at: score.created_at,
            updated_at: score.updated_at,
        } update on (id) except (entity_type, entity_id, created_at));
    }
    if any { rows.execute(tx).await } else { Ok(()) }
}

const MATCHING: &str = " FROM agent_trust_scores t WHERE true [AND t.entity_type = $1] [AND t.entity_id IN ($2)]
     [AND t.trust_score >= $3] [AND t.trust_score <= $4] ";
/// Which rows of the list match.
const LISTED: &str = " [AND l.entity_type = $1] [AND l.trust_score >= $2] [AND l.trust_score <= $3] ";
/// What belongs to the list's rows, and which of them is still as asked for.
const ROWS: &str = " {then} agent_trust_scores t ON t.id = l.id [AND t.entity_type = $1] [AND t.trust_score >= $2]
     [AND t.trust_score <= $3] WHERE true ";

fn bind_filter(query: Query, filter: &TrustFilter) -> Query {
    query
        .bind_some(filter.entity_type.as_ref())
        .bind_all_some(filter.entity_id.as_deref())
        .bind_some(filter.min_score)
        .bind_some(filter.max_score)
}

/// A page of the rows that match, newest first, and the total number of matches.
pub async fn list(db: &Database, filter: &TrustFilter, page: &PageRequest) -> Result<(Vec<TrustScore>, i64)> {
    let conn = &mut *db.read_list().await?;
    // One entity's rows are found by the table's own index.
    if filter.entity_id.is_none() && db.follow_list(conn, ListedTable::TrustScores, false).await? {
        list_kept(conn, filter, page).await
    } else {
        list_unkept(conn, filter, page).await
    }
}

/// Read a page by the list of trust scores.
async fn list_kept(conn: &mut Connection, filter: &TrustFilter, page: &PageRequest) -> Result<(Vec<TrustScore>, i64)> {
    let bind = |query: Query| {
        let query = query.bind_some(filter.entity_type.as_ref());
        query.bind_some(filter.min_score).bind_some(filter.max_score)
    };
    let is_counted = filter.min_score.is_none() && filter.max_score.is_none() && page.created.is_unbounded();
    let total = if is_counted {
        let total = sql!(
            "SELECT CAST(coalesce(sum(entries), 0) AS BIGINT) FROM am_list_counts
             WHERE list = 'trust_scores' AND owner_id = '*' [AND kind = $1]",
        );
        total.bind_some(filter.entity_type.as_ref())
    } else {
        bind(sql!("SELECT count(*) FROM am_trust_list l WHERE true", LISTED, "{span l. $4}")).bind_span(page.created)
    };
    let total = total.fetch_value(&mut *conn).await?;
    let rows = || match filter.entity_type {
        None => sql!(
            "SELECT ",
            TrustScore::COLUMNS,
            " FROM am_trust_list l {by am_trust_list_page}",
            ROWS,
            LISTED,
            "{page l. $4 am_trust_list}",
        ),
        Some(_) => sql!(
            "SELECT ",
            TrustScore::COLUMNS,
            " FROM am_trust_list l {by am_trust_list_type}",
            ROWS,
            "AND l.entity_type = $1 ",
            LISTED,
            "{page l. $4 am_trust_list}",
        ),
    };
    let ids = || match filter.entity_type {
        None => {
            sql!("SELECT t.id FROM am_trust_list l {by am_trust_list_page}", ROWS, LISTED, "{page l. $4 am_trust_list}",)
        }
        Some(_) => sql!(
            "SELECT t.id FROM am_trust_list l {by am_trust_list_type}",
            ROWS,
            "AND l.entity_type = $1 ",
            LISTED,
            "{page l. $4 am_trust_list}",
        ),
    };
    let scores = read_page(conn, page, |page| bind(rows()).bind_page(page), |page| bind(ids()).bind_page(page));
    Ok((scores.await?, total))
}

/// Read a page from the table itself: of one entity, or until the list is complete.
async fn list_unkept(
    conn: &mut Connection,
    filter: &TrustFilter,
    page: &PageRequest,
) -> Result<(Vec<TrustScore>, i64)> {
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span t. $5}"), filter).bind_span(page.created);
    let total = total.fetch_value(&mut *conn).await?;
    let rows = || sql!("SELECT ", TrustScore::COLUMNS, MATCHING, "{page t. $5 agent_trust_scores}");
    let ids = || sql!("SELECT t.id", MATCHING, "{page t. $5 agent_trust_scores}");
    let scores = read_page(
        conn,
        page,
        |page| bind_filter(rows(), filter).bind_page(page),
        |page| bind_filter(ids(), filter).bind_page(page),
    );
    Ok((scores.await?, total))
}

/// Distribution of trust scores, from sums that are kept with the list.
pub async fn statistics(db: &Database) -> Result<TrustStatistics> {
    let conn = &mut *db.read_list().await?;
    if !db.follow_list(conn, ListedTable::TrustScores, false).await? {
        return unkept_statistics(conn).await;
    }
    let bands: Vec<(i64, i64, i64)> =
        sql!("SELECT band, entries, millionths FROM am_trust_bands").fetch_all(conn).await?;
    let mut counts = [0; 5];
    for (band, entries, _) in &bands {
        if let Some(count) = usize::try_from(*band).ok().and_then(|band| counts.get_mut(band)) {
            *count += *entries;
        }
    }
    let (total, sum) = (counts.iter().sum::<i64>(), bands.iter().map(|(.., sum)| *sum).sum::<i64>());
    Ok(statistics_of(counts, (total > 0).then(|| sum as f64 / 1e6 / total as f64)))
}

/// The same from the table's index by trust score, all of which is read.
async fn unkept_statistics(conn: &mut Connection) -> Result<TrustStatistics> {
    let row = sql!(
        "SELECT count(*), avg(trust_score), count(*) FILTER (WHERE trust_score < 20),
             count(*) FILTER (WHERE trust_score >= 20 AND trust_score < 40),
             count(*) FILTER (WHERE trust_score >= 40 AND trust_score < 60),
             count(*) FILTER (WHERE trust_score >= 60 AND trust_score < 80)
         FROM agent_trust_scores",
    );
    let row: (i64, Option<f64>, i64, i64, i64, i64) = row.fetch_one(conn).await?;
    let [total, lowest, low, medium, high] = [row.0, row.2, row.3, row.4, row.5];
    Ok(statistics_of([lowest, low, medium, high, total - lowest - low - medium - high], row.1))
}

/// The report on numbers of scores by bands of 20, and their mean.
fn statistics_of(bands: [i64; 5], average: Option<f64>) -> TrustStatistics {
    let [very_low, low, medium, high, very_high] = bands.map(i64::cast_unsigned);
    let distribution = TrustDistribution { very_low, low, medium, high, very_high };
    TrustStatistics {
        total_entities: very_low + low + medium + high + very_high,
        average_trust_score: average,
        high_trust_entities: very_high,
        low_trust_entities: very_low,
        trust_score_distribution: distribution.clone(),
        distribution,
    }
}
