//! SQL of open jobs in the coordinator's table `job`, read in steps that an index supports; and of table `am_jobs`.

use chrono::{DateTime, Utc};

use super::model::{FoundJob, JobChange};
use crate::{
    estimate::{ESTIMATE_SAMPLE, JobDuration},
    model::{JobService, JobState, NewJob},
};
use am_core::ids::{JobId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Result, Tx, codec::Timestamp, insert, job_clock::QueueTimestamp, owner::is_principal,
    row, sql,
};

row! {
    FoundJob from "j." {
        id,
        rowid = "{place j}",
        state => known_state,
        requested_at => utc,
        expires_at => utc,
        ours = "a.id IS NOT NULL",
    }
}

fn known_state(text: String) -> Option<JobState> {
    JobState::from_stored(&text)
}

fn utc(at: QueueTimestamp) -> DateTime<Utc> {
    at.0
}

/// JSON list of ids, as parameter of a statement that looks up all of them.
fn ids_to_json(ids: &[JobId]) -> String {
    // Texts always have a JSON form.
    serde_json::to_string(ids).unwrap_or_else(|_| "[]".to_owned())
}

/// Count the jobs of a client that have not ended, up to `most`.
pub(crate) async fn count_open(conn: &mut Connection, client_id: &PrincipalId, most: i64) -> Result<i64> {
    let count = sql!(
        "SELECT count(*) FROM (SELECT 1 FROM am_jobs WHERE client_id = $1 AND ended_at IS NULL LIMIT $2) AS open_jobs"
    );
    count.bind(client_id).bind(most).fetch_value(conn).await
}

/// Highest row number; 0 in an empty table.
pub(crate) async fn highest_rowid(conn: &mut Connection) -> Result<i64> {
    sql!("SELECT coalesce(max({place j}), 0) FROM job j").fetch_value(conn).await
}

/// Number of rows, the last ones, that are looked at for times of the coordinator's own.
const CLOCK_WINDOW: i64 = 1000;

/// Times of submission of the last jobs that others ordered, each as it is stored.
pub(crate) async fn times_of_others(conn: &mut Connection) -> Result<Vec<Timestamp>> {
    let times = sql!("SELECT requested_at, client_id FROM job j WHERE {place j} > $1 ORDER BY {place j} DESC",);
    let top = highest_rowid(&mut *conn).await?;
    let read: Vec<Result<(Timestamp, String)>> = times.bind(top - CLOCK_WINDOW).fetch_readable(conn).await?;
    let others = read.into_iter().filter_map(Result::ok).filter(|(_, client)| !is_principal(client));
    Ok(others.map(|(at, _)| at).collect())
}

/// Jobs in rows after number `last` up to `top` that are open or whose end must still be reported.
pub(crate) async fn find_new_jobs(conn: &mut Connection, last: i64, top: i64) -> Result<Vec<FoundJob>> {
    let found = sql!(
        "SELECT ",
        FoundJob::COLUMNS,
        " FROM job j LEFT JOIN am_jobs a ON a.id = j.id AND a.ended_at IS NULL
         WHERE {place j} > $1 AND {place j} <= $2 AND (upper(j.state) IN ('QUEUED', 'RUNNING') OR a.id IS NOT NULL)
         ORDER BY {place j}",
    );
    // A row that can't be read is skipped, so that it does not block the others.
    Ok(found.bind(last).bind(top).fetch_readable(conn).await?.into_iter().filter_map(Result::ok).collect())
}

/// Jobs whose end must still be reported and that are missing from the coordinator's table.
pub(crate) async fn find_missing(conn: &mut Connection) -> Result<Vec<JobId>> {
    let gone = sql!(
        "SELECT a.id FROM am_jobs a WHERE a.ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM job j WHERE j.id = a.id)"
    );
    gone.fetch_values(conn).await
}

/// Jobs among `ids` that are no longer in `state`.
pub(crate) async fn find_changed(conn: &mut Connection, ids: &[JobId], state: JobState) -> Result<Vec<JobChange>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sql!(
        "SELECT o.value, j.state FROM {texts $1} AS o LEFT JOIN job j ON j.id = o.value WHERE j.state IS DISTINCT FROM $2",
    );
    let rows: Vec<(JobId, Option<String>)> = rows.bind(ids_to_json(ids)).bind(state.name()).fetch_all(conn).await?;
    let changes = rows.into_iter().map(|(id, text)| JobChange {
        id,
        state: text.as_deref().and_then(JobState::from_stored),
        gone: text.is_none(),
    });
    Ok(changes.collect())
}

/// Record a client's job that is inserted into the queue in the same transaction.
pub(crate) async fn insert_client_job(tx: &mut Tx, job: &NewJob) -> Result<()> {
    insert!("am_jobs" {
        id: &job.id,
        service: job.service.name(),
        client_id: &job.client_id,
        state: "QUEUED",
        submitted_at: Timestamp(job.requested_at),
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Record the open state in which a client's job was seen. Returns its service if the state is new.
pub(crate) async fn record_state(
    tx: &mut Tx,
    id: &JobId,
    state: JobState,
    now: Timestamp,
) -> Result<Option<JobService>> {
    let seen = sql!(
        "UPDATE am_jobs SET state = $2, running_at = CASE WHEN $4 THEN coalesce(running_at, $3) ELSE running_at END
         WHERE id = $1 AND ended_at IS NULL AND state <> $2 RETURNING service",
    );
    let seen = seen.bind(id).bind(state.name()).bind(now).bind(state == JobState::Running);
    let service: Option<String> = seen.fetch_optional_value(tx.conn().await?).await?;
    Ok(service.as_deref().and_then(JobService::from_name))
}

row! {
    /// What was kept of a client's job.
    pub(crate) struct ClientJobRecord {
        pub(crate) service: String,
        pub(crate) client_id: PrincipalId,
        pub(crate) submitted_at: Timestamp,
        pub(crate) running_at: Option<Timestamp>,
    }
}

/// Record the end of a client's job. Returns `None` when it is not a client's job or its end was recorded already.
pub(crate) async fn record_end(
    tx: &mut Tx,
    id: &JobId,
    state: JobState,
    now: Timestamp,
) -> Result<Option<ClientJobRecord>> {
    let ended = sql!(
        "UPDATE am_jobs SET state = $2, ended_at = $3 WHERE id = $1 AND ended_at IS NULL RETURNING ",
        ClientJobRecord::COLUMNS,
    );
    ended.bind(id).bind(state.name()).bind(now).fetch_optional(tx.conn().await?).await
}

row! {
    /// Times of a completed job.
    struct CompletedJob {
        submitted_at: Timestamp,
        running_at: Option<Timestamp>,
        ended_at: Timestamp,
    }
}

/// Durations of the last completed jobs of a service.
pub(crate) async fn recent_durations(conn: &mut Connection, service: JobService) -> Result<Vec<JobDuration>> {
    let rows = sql!(
        "SELECT ",
        CompletedJob::COLUMNS,
        " FROM am_jobs WHERE service = $1 AND state = 'COMPLETED' ORDER BY ended_at DESC LIMIT $2",
    );
    let rows: Vec<CompletedJob> = rows.bind(service.name()).bind(ESTIMATE_SAMPLE as i64).fetch_all(conn).await?;
    let took = |job: &CompletedJob| JobDuration {
        all: job.ended_at.seconds_since(job.submitted_at),
        run: job.running_at.map(|running| job.ended_at.seconds_since(running)),
    };
    Ok(rows.iter().map(took).collect())
}
