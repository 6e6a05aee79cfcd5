//! SQL of table `agent_trust_scores`. The coordinator does not enforce one row per entity; the oldest counts.

use super::model::{TrustDistribution, TrustFilter, TrustScore, TrustStatistics};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText},
    foreign_rows::read_page,
    page::PageRequest,
    push_row, row, sql,
    statement::Query,
};

row! {
    TrustScore {
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
        " FROM agent_trust_scores WHERE entity_id IN {texts $1} ORDER BY created_at, id",
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

const MATCHING: &str = " FROM agent_trust_scores WHERE true [AND entity_type = $1] [AND entity_id IN ($2)]
     [AND trust_score >= $3] [AND trust_score <= $4] ";

fn bind_filter(query: Query, filter: &TrustFilter) -> Query {
    query
        .bind_some(filter.entity_type.as_ref())
        .bind_all_some(filter.entity_id.as_deref())
        .bind_some(filter.min_score)
        .bind_some(filter.max_score)
}

/// A page of the rows that match, newest first, and the total number of matches.
pub async fn list(conn: &mut Connection, filter: &TrustFilter, page: &PageRequest) -> Result<(Vec<TrustScore>, i64)> {
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span $5}"), filter).bind_span(page.created);
    let total = total.fetch_value(&mut *conn).await?;
    let rows = || sql!("SELECT ", TrustScore::COLUMNS, MATCHING, "{page $5 agent_trust_scores}");
    let ids = || sql!("SELECT id", MATCHING, "{page $5 agent_trust_scores}");
    let scores = read_page(
        conn,
        page,
        |page| bind_filter(rows(), filter).bind_page(page),
        |page| bind_filter(ids(), filter).bind_page(page),
    );
    Ok((scores.await?, total))
}

/// Distribution of trust scores, computed from the index by trust score alone.
pub async fn statistics(conn: &mut Connection) -> Result<TrustStatistics> {
    let row = sql!(
        "SELECT count(*), avg(trust_score), count(*) FILTER (WHERE trust_score < 20),
             count(*) FILTER (WHERE trust_score >= 20 AND trust_score < 40),
             count(*) FILTER (WHERE trust_score >= 40 AND trust_score < 60),
             count(*) FILTER (WHERE trust_score >= 60 AND trust_score < 80)
         FROM agent_trust_scores",
    );
    let row: (i64, Option<f64>, i64, i64, i64, i64) = row.fetch_one(conn).await?;
    let [total, very_low, low, medium, high] = [row.0, row.2, row.3, row.4, row.5].map(i64::cast_unsigned);
    let very_high = total - very_low - low - medium - high;
    let distribution = TrustDistribution { very_low, low, medium, high, very_high };
    Ok(TrustStatistics {
        total_entities: total,
        average_trust_score: row.1,
        high_trust_entities: very_high,
        low_trust_entities: very_low,
        trust_score_distribution: distribution.clone(),
        distribution,
    })
}
