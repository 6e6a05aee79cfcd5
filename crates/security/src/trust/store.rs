//! Table `agent_trust_scores`. The coordinator has no rule that an entity has one row; the oldest counts.

use sqlx::{QueryBuilder, Row as _};

use super::model::{Bands, Filter, TrustScore, TrustStatistics};
use am_db::{
    Connection, Db, Error, Result, Row, Tx,
    codec::Doc,
    page::Page,
    rows::{Insert, Rows},
};

const COLUMNS: &str = "id, entity_type, entity_id, trust_score, reputation_score, total_executions, successful_executions, \
     failed_executions, verification_success_rate, security_violations, policy_violations, sandbox_breaches, last_execution, \
     last_violation, average_execution_time, execution_history, violation_history, created_at, updated_at";

static SCORES: Insert = Insert::into("agent_trust_scores", COLUMNS).on_conflict(
    "ON CONFLICT (id) DO UPDATE SET trust_score = excluded.trust_score, reputation_score = excluded.reputation_score,
         total_executions = excluded.total_executions, successful_executions = excluded.successful_executions,
         failed_executions = excluded.failed_executions, verification_success_rate = excluded.verification_success_rate,
         security_violations = excluded.security_violations, policy_violations = excluded.policy_violations,
         sandbox_breaches = excluded.sandbox_breaches, last_execution = excluded.last_execution,
         last_violation = excluded.last_violation, average_execution_time = excluded.average_execution_time,
         execution_history = excluded.execution_history, violation_history = excluded.violation_history,
         updated_at = excluded.updated_at",
);

fn score(row: &Row) -> Result<TrustScore> {
    let history = |at: usize| -> Result<Vec<serde_json::Value>> {
        let doc: Option<Doc> = row.try_get(at)?;
        let list = doc.map(|doc| doc.parse()).transpose();
        Ok(list
            .map_err(|error| Error::Unreadable(format!("agent_trust_scores: {error}")))?
            .flatten()
            .unwrap_or_default())
    };
    Ok(TrustScore {
        id: row.try_get(0)?,
        entity_type: row.try_get(1)?,
        entity_id: row.try_get(2)?,
        trust_score: row.try_get(3)?,
        reputation_score: row.try_get(4)?,
        total_executions: row.try_get(5)?,
        successful_executions: row.try_get(6)?,
        failed_executions: row.try_get(7)?,
        verification_success_rate: row.try_get(8)?,
        security_violations: row.try_get(9)?,
        policy_violations: row.try_get(10)?,
        sandbox_breaches: row.try_get(11)?,
        last_execution: row.try_get(12)?,
        last_violation: row.try_get(13)?,
        average_execution_time: row.try_get(14)?,
        execution_history: history(15)?,
        violation_history: history(16)?,
        created_at: row.try_get(17)?,
        updated_at: row.try_get(18)?,
    })
}

/// The rows of entities with one of these ids, oldest first.
pub async fn of_ids(conn: &mut Connection, ids: &[&str]) -> Result<Vec<TrustScore>> {
    let ids = serde_json::to_string(ids).map_err(|error| Error::Unreadable(error.to_string()))?;
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM agent_trust_scores WHERE entity_id IN (SELECT value FROM json_each(");
    query.push_bind(ids).push(")) ORDER BY created_at, id");
    query.build().fetch_all(conn).await?.iter().map(score).collect()
}

/// Write rows: new ones, and over those of the same id.
pub async fn put<'a>(tx: &mut Tx, scores: impl IntoIterator<Item = &'a TrustScore>) -> Result<()> {
    let mut rows = Rows::default();
    let mut any = false;
    for score in scores {
        any = true;
        let history =
            |notes: &[serde_json::Value]| Doc::of(&notes).map_err(|error| Error::Unreadable(error.to_string()));
        let (executions, violations) = (history(&score.execution_history)?, history(&score.violation_history)?);
        rows.push(&SCORES, |row| {
            row.put(&score.id).put(&score.entity_type).put(&score.entity_id);
            row.put(score.trust_score).put(score.reputation_score).put(score.total_executions);
            row.put(score.successful_executions).put(score.failed_executions).put(score.verification_success_rate);
            row.put(score.security_violations).put(score.policy_violations).put(score.sandbox_breaches);
            row.put(score.last_execution).put(score.last_violation).put(score.average_execution_time);
            row.put(&executions).put(&violations).put(score.created_at).put(score.updated_at);
        });
    }
    if any { rows.execute(tx).await } else { Ok(()) }
}

fn push_filter(query: &mut QueryBuilder<Db>, filter: &Filter) {
    query.push(" FROM agent_trust_scores WHERE true");
    if let Some(kind) = &filter.entity_type {
        query.push(" AND entity_type = ").push_bind(kind.clone());
    }
    if let Some(ids) = &filter.entity_id {
        query.push(" AND entity_id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.clone());
        }
        query.push(")");
    }
    if let Some(least) = filter.min_score {
        query.push(" AND trust_score >= ").push_bind(least);
    }
    if let Some(most) = filter.max_score {
        query.push(" AND trust_score <= ").push_bind(most);
    }
}

/// A page of the rows that match, newest first, and how many match in all.
pub async fn list(conn: &mut Connection, filter: &Filter, page: &Page) -> Result<(Vec<TrustScore>, i64)> {
    let mut query = QueryBuilder::<Db>::new("SELECT count(*)");
    push_filter(&mut query, filter);
    let total: i64 = query.build_query_scalar().fetch_one(&mut *conn).await?;
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS);
    push_filter(&mut query, filter);
    page.push(&mut query, "");
    let rows = query.build().fetch_all(conn).await?;
    Ok((rows.iter().map(score).collect::<Result<_>>()?, total))
}

/// How many entities are trusted how far, from the index by trust alone.
pub async fn statistics(conn: &mut Connection) -> Result<TrustStatistics> {
    let row: (i64, Option<f64>, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), avg(trust_score), count(*) FILTER (WHERE trust_score < 20),
             count(*) FILTER (WHERE trust_score >= 20 AND trust_score < 40),
             count(*) FILTER (WHERE trust_score >= 40 AND trust_score < 60),
             count(*) FILTER (WHERE trust_score >= 60 AND trust_score < 80)
         FROM agent_trust_scores INDEXED BY ix_agent_trust_scores_trust_score",
    )
    .fetch_one(conn)
    .await?;
    let [total, very_low, low, medium, high] = [row.0, row.2, row.3, row.4, row.5].map(i64::cast_unsigned);
    let very_high = total - very_low - low - medium - high;
    Ok(TrustStatistics {
        total_entities: total,
        average_trust_score: row.1,
        high_trust_entities: very_high,
        low_trust_entities: very_low,
        distribution: Bands { very_low, low, medium, high, very_high },
    })
}
