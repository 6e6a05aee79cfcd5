//! What is open in the coordinator's table `job`, read in steps that an index serves; and table `am_jobs`.

use chrono::{DateTime, Utc};
use sqlx::Row as _;

use crate::{
    estimate::{LAST, Took},
    model::{JobState, NewJob, Service},
};
use am_db::{
    Connection, Result, Row, Tx,
    codec::{LocalTimestamp, Timestamp},
};

/// A job that was found open, or whose end has yet to be told of.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) rowid: i64,
    /// None: a state that this service does not know.
    pub(super) state: Option<JobState>,
    pub(super) requested_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) ours: bool,
}

/// As JSON, for a statement that looks all of them up.
fn list(ids: &[String]) -> String {
    // Texts always have a JSON form.
    serde_json::to_string(ids).unwrap_or_else(|_| "[]".to_owned())
}

/// The highest row number; 0 in an empty table.
pub(super) async fn top(conn: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT coalesce(max(rowid), 0) FROM job").fetch_one(conn).await?)
}

/// Of the rows after number `last` up to `top`, those that are open or whose end has yet to be told of.
pub(super) async fn fresh(conn: &mut Connection, last: i64, top: i64) -> Result<Vec<Found>> {
    let rows = sqlx::query(
        "SELECT j.id, j.rowid, j.state, j.requested_at, j.expires_at, a.id IS NOT NULL
         FROM job j LEFT JOIN am_jobs a ON a.id = j.id AND a.ended_at IS NULL
         WHERE j.rowid > ?1 AND j.rowid <= ?2 AND (upper(j.state) IN ('QUEUED', 'RUNNING') OR a.id IS NOT NULL)
         ORDER BY j.rowid",
    )
    .bind(last)
    .bind(top)
    .fetch_all(conn)
    .await?;
    // A row that can't be read is nobody's: it must not hold up the others.
    let read = |row: &Row| -> Result<Found> {
        Ok(Found {
            id: row.try_get(0)?,
            rowid: row.try_get(1)?,
            state: JobState::from_stored(row.try_get(2)?),
            requested_at: row.try_get::<LocalTimestamp, _>(3)?.0,
            expires_at: row.try_get::<LocalTimestamp, _>(4)?.0,
            ours: row.try_get(5)?,
        })
    };
    Ok(rows.iter().filter_map(|row| read(row).ok()).collect())
}

/// Jobs whose end has yet to be told of, and that are no longer in the coordinator's table.
pub(super) async fn gone(conn: &mut Connection) -> Result<Vec<String>> {
    let gone = sqlx::query_scalar(
        "SELECT a.id FROM am_jobs a WHERE a.ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM job j WHERE j.id = a.id)",
    );
    Ok(gone.fetch_all(conn).await?)
}

/// Those of `ids` that are no longer in `state`, with what they are in; none: the row is gone.
pub(super) async fn changed(
    conn: &mut Connection,
    ids: &[String],
    state: JobState,
) -> Result<Vec<(String, Option<JobState>, bool)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT o.value, j.state FROM json_each(?1) o LEFT JOIN job j ON j.id = o.value WHERE j.state IS NOT ?2",
    )
    .bind(list(ids))
    .bind(state.name())
    .fetch_all(conn)
    .await?;
    let read = |row: &Row| -> Result<(String, Option<JobState>, bool)> {
        let text: Option<&str> = row.try_get(1)?;
        Ok((row.try_get(0)?, text.and_then(JobState::from_stored), text.is_none()))
    };
    rows.iter().map(read).collect()
}

/// Keep a client's job that is put into the queue in the same transaction.
pub(crate) async fn keep(tx: &mut Tx, job: &NewJob) -> Result<()> {
    sqlx::query("INSERT INTO am_jobs (id, service, client_id, state, submitted_at) VALUES (?1, ?2, ?3, 'QUEUED', ?4)")
        .bind(&job.id)
        .bind(job.service.name())
        .bind(&job.client_id)
        .bind(Timestamp(job.requested_at))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// A client's job was seen in this state, which is no end. Answers its service, if that is news.
pub(super) async fn seen(tx: &mut Tx, id: &str, state: JobState, now: Timestamp) -> Result<Option<Service>> {
    let service: Option<String> = sqlx::query_scalar(
        "UPDATE am_jobs SET state = ?2, running_at = CASE WHEN ?2 = 'RUNNING' THEN coalesce(running_at, ?3) ELSE running_at END
         WHERE id = ?1 AND ended_at IS NULL AND state <> ?2 RETURNING service",
    )
    .bind(id)
    .bind(state.name())
    .bind(now)
    .fetch_optional(tx.conn().await?)
    .await?;
    Ok(service.as_deref().and_then(Service::from_name))
}

/// What was kept of a client's job.
pub(super) struct Kept {
    pub(super) service: String,
    pub(super) client_id: String,
    pub(super) submitted_at: Timestamp,
    pub(super) running_at: Option<Timestamp>,
}

/// A client's job has ended. None: it is no client's, or its end was told of already.
pub(super) async fn end(tx: &mut Tx, id: &str, state: JobState, now: Timestamp) -> Result<Option<Kept>> {
    let row = sqlx::query(
        "UPDATE am_jobs SET state = ?2, ended_at = ?3 WHERE id = ?1 AND ended_at IS NULL
         RETURNING service, client_id, submitted_at, running_at",
    )
    .bind(id)
    .bind(state.name())
    .bind(now)
    .fetch_optional(tx.conn().await?)
    .await?;
    let read = |row: Row| -> Result<Kept> {
        Ok(Kept {
            service: row.try_get(0)?,
            client_id: row.try_get(1)?,
            submitted_at: row.try_get(2)?,
            running_at: row.try_get(3)?,
        })
    };
    row.map(read).transpose()
}

/// How long the last completed jobs of a service took.
pub(crate) async fn took(conn: &mut Connection, service: Service) -> Result<Vec<Took>> {
    let rows: Vec<(Timestamp, Option<Timestamp>, Timestamp)> = sqlx::query_as(
        "SELECT submitted_at, running_at, ended_at FROM am_jobs
         WHERE service = ?1 AND state = 'COMPLETED' ORDER BY ended_at DESC LIMIT ?2",
    )
    .bind(service.name())
    .bind(LAST as i64)
    .fetch_all(conn)
    .await?;
    let took = |(submitted, running, ended): &(Timestamp, Option<Timestamp>, Timestamp)| Took {
        all: ended.seconds_since(*submitted),
        run: running.map(|running| ended.seconds_since(running)),
    };
    Ok(rows.iter().map(took).collect())
}
