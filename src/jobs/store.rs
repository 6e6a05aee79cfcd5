//! Table `job`, which the coordinator owns. Its times are local.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row as _};

use super::model::{Finished, JobState, NewJob};
use crate::db::{
    Connection, Db, Result, Row, Tx,
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
    .execute(tx.conn().await?)
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
        .execute(tx.conn().await?)
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
            "SELECT id, state, result, error, receipt, assigned_miner_id FROM job WHERE id IN (",
        );
        let mut list = query.separated(", ");
        for id in chunk {
            list.push_bind(id);
        }
        // A state that this service does not know is none that it may take for an end.
        query.push(") AND upper(state) IN ('COMPLETED', 'FAILED', 'CANCELED', 'CANCELLED', 'EXPIRED')");
        for row in query.build().fetch_all(&mut *conn).await? {
            ended.push((row.try_get(0)?, how(&row)?));
        }
    }
    Ok(ended)
}

/// How the job of this row ended. One whose row can't be read has failed, and says so; the others are not held up by it.
fn how(row: &Row) -> Result<Finished> {
    let text: &str = row.try_get(1)?;
    let document = |at: usize| -> std::result::Result<Value, String> {
        let doc: Option<Doc> = row.try_get(at).map_err(|error| error.to_string())?;
        let parsed = doc.map(|doc| doc.parse::<Value>()).transpose().map_err(|error| error.to_string())?;
        Ok(parsed.flatten().unwrap_or(Value::Null))
    };
    let read = JobState::from_stored(text)
        .ok_or_else(|| format!("its state is {text:?}"))
        .and_then(|state| Ok((state, document(2)?, document(4)?)));
    let (state, result, receipt, unreadable) = match read {
        Ok((state, result, receipt)) => (state, result, receipt, None),
        Err(why) => (JobState::Failed, Value::Null, Value::Null, Some(format!("its row can't be read: {why}"))),
    };
    Ok(Finished {
        state,
        result,
        error: unreadable.or(row.try_get(3)?),
        price: receipt.get("price").and_then(Value::as_f64).filter(|price| *price >= 0.0),
        receipt,
        miner: row.try_get(5)?,
    })
}
