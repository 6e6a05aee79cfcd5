//! Table `job`, which the coordinator owns. Its times are local.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row as _};

use super::{
    clients::{Filter, Job, Who},
    model::{Finished, JobState, NewJob, Service},
};
use am_db::{
    Connection, Db, Result, Row, Tx,
    codec::{Doc, LocalTimestamp, Timestamp},
    page::Page,
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

/// Say of a job that a miner works on that nobody wants it any more. The row's state is all that the coordinator and its
/// miner can see. True: it was running.
pub async fn stop(tx: &mut Tx, id: &str) -> Result<bool> {
    let done = sqlx::query("UPDATE job SET state = 'CANCELED', error = ?2 WHERE id = ?1 AND state = 'RUNNING'")
        .bind(id)
        .bind("its client asked to stop it")
        .execute(tx.conn().await?)
        .await?;
    Ok(done.rows_affected() == 1)
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

/// Whether there is such a row.
pub async fn exists(conn: &mut Connection, id: &str) -> Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM job WHERE id = ?1").bind(id).fetch_optional(conn).await?;
    Ok(found.is_some())
}

/// The states of those of `ids` that are there, where they are known ones.
pub async fn states(conn: &mut Connection, ids: &[String]) -> Result<Vec<(String, JobState)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT j.id, j.state FROM json_each(?1) o JOIN job j ON j.id = o.value")
            .bind(json!(ids).to_string())
            .fetch_all(conn)
            .await?;
    Ok(rows.into_iter().filter_map(|(id, state)| Some((id, JobState::from_stored(&state)?))).collect())
}

const COLUMNS: &str = "j.id, j.client_id, j.state, CASE WHEN json_valid(j.payload) THEN j.payload ->> 'service_type' END, j.ttl_seconds, \
     j.requested_at, j.expires_at, j.assigned_miner_id, j.error, j.payment_status, a.running_at, a.ended_at";
const FROM: &str = " FROM job j LEFT JOIN am_jobs a ON a.id = j.id";

fn job(row: &Row) -> Result<Job> {
    let (state, service): (String, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Job {
        id: row.try_get(0)?,
        client_id: row.try_get(1)?,
        state: JobState::from_stored(&state),
        status: state.to_ascii_uppercase(),
        service: service.as_deref().and_then(Service::from_name),
        service_type: service,
        ttl_seconds: row.try_get(4)?,
        requested_at: Timestamp(row.try_get::<LocalTimestamp, _>(5)?.0),
        expires_at: Timestamp(row.try_get::<LocalTimestamp, _>(6)?.0),
        miner: row.try_get(7)?,
        error: row.try_get(8)?,
        payment_status: row.try_get(9)?,
        running_at: row.try_get(10)?,
        ended_at: row.try_get(11)?,
        payload: Doc::none(),
        constraints: Doc::none(),
        result: Doc::none(),
        receipt: Doc::none(),
    })
}

/// One job, whole.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Job>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(", j.payload, j.constraints, j.result, j.receipt").push(FROM);
    query.push(" WHERE j.id = ").push_bind(id);
    let Some(row) = query.build().fetch_optional(conn).await? else { return Ok(None) };
    // A document that can't be read is shown as none.
    let document = |at: usize| row.try_get::<Option<Doc>, _>(at).ok().flatten().unwrap_or_else(Doc::none);
    let documents = (document(12), document(13), document(14), document(15));
    let (payload, constraints, result, receipt) = documents;
    Ok(Some(Job { payload, constraints, result, receipt, ..job(&row)? }))
}

fn push_filter(query: &mut QueryBuilder<Db>, who: &Who, filter: &Filter) {
    query.push(" WHERE true");
    if !who.all {
        query.push(" AND j.client_id IN (");
        let mut list = query.separated(", ");
        for alias in who.caller.aliases.iter() {
            list.push_bind(alias.clone());
        }
        query.push(")");
    }
    if let Some(state) = filter.state {
        query.push(" AND upper(j.state) = ").push_bind(state.name());
    }
    if let Some(service) = filter.service {
        query.push(" AND CASE WHEN json_valid(j.payload) THEN j.payload ->> 'service_type' END = ");
        query.push_bind(service.name());
    }
}

/// A page of jobs without their documents, newest first, and how many there are in all.
pub async fn list(conn: &mut Connection, who: &Who, filter: &Filter, page: &Page) -> Result<(Vec<Job>, i64)> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(FROM);
    push_filter(&mut query, who, filter);
    if let Some((at, id)) = &page.after {
        query.push(" AND (j.requested_at, j.id) < (").push_bind(LocalTimestamp(at.0));
        query.push(", ").push_bind(id.clone()).push(")");
    }
    query.push(" ORDER BY j.requested_at DESC, j.id DESC LIMIT ").push_bind(i64::from(page.limit));
    query.push(" OFFSET ").push_bind(i64::from(page.offset));
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*) FROM job j");
    push_filter(&mut count, who, filter);
    let total: i64 = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(job).collect::<Result<_>>()?, total))
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
