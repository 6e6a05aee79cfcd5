//! Table `job`, which the coordinator owns. Its times are local.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row as _};

use super::model::{Finished, JobState, NewJob};
use crate::db::{
    Connection, Db, Error, Result, Tx,
    codec::{Doc, LocalTimestamp},
};

/// Put `job` into the queue.
///
/// # Errors
/// As the database.
pub async fn enqueue(tx: &mut Tx, job: &NewJob) -> Result<()> {
    let payload = json!({"service_type": job.service.name(), "service_request": job.request});
    let expires = job.requested_at + job.ttl;
    sqlx::query(
        "INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at, result, receipt)
         VALUES (?1, ?2, 'QUEUED', ?3, ?4, ?5, ?6, ?7, 'null', 'null')",
    )
    .bind(&job.id)
    .bind(&job.client_id)
    .bind(payload.to_string())
    .bind(Value::Object(job.constraints.0.clone()).to_string())
    .bind(job.ttl.as_secs() as i64)
    .bind(LocalTimestamp(job.requested_at))
    .bind(LocalTimestamp(expires))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Take a job back that no miner has taken yet; one that runs is left to its miner. True: it was taken back.
///
/// # Errors
/// As the database.
pub async fn take_back(tx: &mut Tx, id: &str) -> Result<bool> {
    close(tx, id, "CANCELED", "taken back by its client").await
}

/// Close a job that nobody took before its time was up. True: it was.
pub async fn expire(tx: &mut Tx, id: &str) -> Result<bool> {
    close(tx, id, "EXPIRED", "no miner took it in time").await
}

async fn close(tx: &mut Tx, id: &str, state: &'static str, error: &str) -> Result<bool> {
    let done = sqlx::query("UPDATE job SET state = ?2, error = ?3 WHERE id = ?1 AND state = 'QUEUED'")
        .bind(id)
        .bind(state)
        .bind(error)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

/// When `id` expires, if it is there.
pub async fn expires_at(conn: &mut Connection, id: &str) -> Result<Option<DateTime<Utc>>> {
    let found: Option<LocalTimestamp> =
        sqlx::query_scalar("SELECT expires_at FROM job WHERE id = ?1").bind(id).fetch_optional(conn).await?;
    Ok(found.map(|at| at.0))
}

/// Those of `ids` that have ended, with how.
pub async fn finished(conn: &mut Connection, ids: &[String]) -> Result<Vec<(String, Finished)>> {
    let mut ended = Vec::new();
    for chunk in ids.chunks(500) {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT id, state, result, error, receipt, assigned_miner_id FROM job WHERE state NOT IN ('QUEUED', 'RUNNING') AND id IN (",
        );
        let mut list = query.separated(", ");
        for id in chunk {
            list.push_bind(id);
        }
        query.push(")");
        for row in query.build().fetch_all(&mut *conn).await? {
            let text: &str = row.try_get(1)?;
            let state = JobState::from_stored(text).ok_or_else(|| Error::Unreadable(format!("job.state {text:?}")))?;
            let value = |at: usize| -> Result<Value> {
                let doc: Option<Doc> = row.try_get(at)?;
                let parsed = doc.map(|doc| doc.parse::<Value>()).transpose();
                Ok(parsed.map_err(|error| Error::Unreadable(error.to_string()))?.flatten().unwrap_or(Value::Null))
            };
            let receipt = value(4)?;
            let finished = Finished {
                state,
                result: value(2)?,
                error: row.try_get(3)?,
                price: receipt.get("price").and_then(Value::as_f64),
                receipt,
                miner: row.try_get(5)?,
            };
            ended.push((row.try_get(0)?, finished));
        }
    }
    Ok(ended)
}
