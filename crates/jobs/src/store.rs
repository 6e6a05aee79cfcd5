//! SQL of table `job`, which the coordinator owns. Its times are in a clock of its own.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    miner_payload::miner_payload,
    model::{JobRecord, JobService, JobState, NewJob},
    outcome::{JobOutcome, failure_reason},
    shown_names::ShownNames,
};
use am_core::{
    ids::{JobId, PrincipalId},
    json_number::read_json,
};
use am_db::{
    Connection, DatabaseError, FromRow, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    job_clock::QueueTimestamp,
    kept_list::list_job_of,
    push_row, row,
    row::Columns,
    sql,
};

/// Miners whose announcements are read.
const MAX_READ_MINERS: i64 = 1000;

/// Insert `job` into the queue.
///
/// # Errors
/// Returns a database error when a query fails.
pub async fn enqueue(tx: &mut Tx, job: &NewJob) -> Result<()> {
    let payload = miner_payload(job.service, &job.request);
    let expires = job.requested_at + job.ttl;
    let mut rows = RowBatch::default();
    push_row!(rows, "job" {
        id: &job.id,
        client_id: &job.coordinator_client,
        state: "QUEUED",
        payload: payload.to_string(),
        constraints: Value::Object(job.constraints.0.clone()).to_string(),
        ttl_seconds: job.ttl.as_secs() as i64,
        requested_at: QueueTimestamp(job.requested_at),
        expires_at: QueueTimestamp(expires),
        result: "null",
        receipt: "null",
    });
    rows.execute(tx).await?;
    list_job_of(tx, job.id.as_str(), &job.coordinator_client).await
}

/// Cancel a job that no miner has taken yet; a running job is left to its miner. Returns whether it was cancelled.
///
/// # Errors
/// Returns a database error when a query fails.
pub async fn cancel_queued(tx: &mut Tx, id: &JobId) -> Result<bool> {
    close_queued(tx, id, "CANCELED", "cancelled by its client").await
}

/// Close a job that no miner took before its expiry. Returns whether it was closed.
pub async fn expire_queued(tx: &mut Tx, id: &JobId) -> Result<bool> {
    close_queued(tx, id, "EXPIRED", "no miner took it in time").await
}

/// Mark a running job as cancelled. The row's state is all that the coordinator and its miner can see. Returns whether
/// the job was running.
pub async fn cancel_running(tx: &mut Tx, id: &JobId) -> Result<bool> {
    let stopped = sql!("UPDATE job SET state = 'CANCELED', error = $2 WHERE id = $1 AND state = 'RUNNING'");
    Ok(stopped.bind(id).bind("stopped by its client").execute(tx.conn().await?).await? == 1)
}

async fn close_queued(tx: &mut Tx, id: &JobId, state: &'static str, error: &str) -> Result<bool> {
    let closed = sql!("UPDATE job SET state = $2, error = $3 WHERE id = $1 AND state = 'QUEUED'");
    Ok(closed.bind(id).bind(state).bind(error).execute(tx.conn().await?).await? == 1)
}

/// Expiry of job `id`; `None` when there is no such job.
pub async fn job_expiry(conn: &mut Connection, id: &JobId) -> Result<Option<DateTime<Utc>>> {
    let found = sql!("SELECT expires_at FROM job WHERE id = $1").bind(id);
    let found: Option<QueueTimestamp> = found.fetch_optional_value(conn).await?;
    Ok(found.map(|at| at.0))
}

/// Whether job `id` exists.
pub async fn job_exists(conn: &mut Connection, id: &JobId) -> Result<bool> {
    sql!("SELECT 1 FROM job WHERE id = $1").bind(id).exists(conn).await
}

/// Return whether a miner has the job, or has completed it.
///
/// # Errors
/// Returns a database error when the query fails.
pub async fn may_cost(conn: &mut Connection, id: &JobId) -> Result<bool> {
    let states = read_states(conn, std::slice::from_ref(id)).await?;
    Ok(states.iter().any(|(_, state)| matches!(state, JobState::Running | JobState::Completed)))
}

/// Constraints of the existing jobs among `ids`.
pub async fn read_constraints(conn: &mut Connection, ids: &[JobId]) -> Result<Vec<(JobId, JsonText)>> {
    let rows = sql!("SELECT j.id, j.constraints FROM {texts $1} AS o JOIN job j ON j.id = o.value");
    rows.bind(json!(ids).to_string()).fetch_all(conn).await
}

row! {
    /// A job that has not ended.
    pub struct OpenJobRow from "j." {
        pub id: JobId,
        pub state: String,
        pub requested_at: QueueTimestamp,
        pub constraints: JsonText,
    }
}

/// The open jobs among `ids`.
pub async fn read_open_jobs(conn: &mut Connection, ids: &[JobId]) -> Result<Vec<OpenJobRow>> {
    let rows = sql!(
        "SELECT ",
        OpenJobRow::COLUMNS,
        " FROM {texts $1} AS o JOIN job j ON j.id = o.value WHERE upper(j.state) IN ('QUEUED', 'RUNNING')",
    );
    // What can't be read says nothing.
    Ok(rows.bind(json!(ids).to_string()).fetch_readable(conn).await?.into_iter().filter_map(Result::ok).collect())
}

row! {
    /// What a miner announces.
    pub struct AnnouncedMiner {
        /// Region; null: it announces none.
        pub region: Option<String>,
        /// Capabilities, as the miner wrote them.
        pub capabilities: JsonText,
    }
}

/// What miners announce that are not offline, of those that were heard of last; none where the coordinator keeps no miners here.
pub async fn announced_miners(conn: &mut Connection) -> Result<Option<Vec<AnnouncedMiner>>> {
    let rows = sql!(
        "SELECT ",
        AnnouncedMiner::COLUMNS,
        " FROM miner WHERE upper(status) <> 'OFFLINE' ORDER BY last_heartbeat DESC LIMIT $1",
    );
    match rows.bind(MAX_READ_MINERS).fetch_readable(conn).await {
        // The coordinator creates its table late, and may change it.
        Err(DatabaseError::Other(_)) => Ok(None),
        read => Ok(Some(read?.into_iter().filter_map(Result::ok).collect())),
    }
}

/// States of the existing jobs among `ids`; unknown states are left out.
pub async fn read_states(conn: &mut Connection, ids: &[JobId]) -> Result<Vec<(JobId, JobState)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sql!("SELECT j.id, j.state FROM {texts $1} AS o JOIN job j ON j.id = o.value");
    let rows: Vec<(JobId, String)> = rows.bind(json!(ids).to_string()).fetch_all(conn).await?;
    Ok(rows.into_iter().filter_map(|(id, state)| Some((id, JobState::from_stored(&state)?))).collect())
}

row! {
    /// A job without its documents.
    pub(crate) struct JobSummary from "j." {
        pub(crate) id: JobId,
        pub(crate) stored_client: String = "j.client_id",
        pub(crate) ordered_by: Option<PrincipalId> = "a.client_id",
        pub(crate) state: String,
        pub(crate) service: Option<String> = "{member j.payload service_type}",
        pub(crate) ttl_seconds: i64,
        pub(crate) requested_at: QueueTimestamp,
        pub(crate) expires_at: QueueTimestamp,
        pub(crate) miner: Option<String> = "j.assigned_miner_id",
        pub(crate) error: Option<String>,
        pub(crate) payment_status: Option<String>,
        pub(crate) running_at: Option<Timestamp> = "a.running_at",
        pub(crate) ended_at: Option<Timestamp> = "a.ended_at",
        /// What a miner reported as a failure in a result.
        pub(crate) failure: Option<String> = "CASE WHEN upper(j.state) = 'COMPLETED' AND lower({member j.result status}) IN ('failed', 'failure', 'error') THEN coalesce({member j.result error}, '') END" => |given: Option<String>| given.map(|given| failure_reason(&given)),
    }
}

pub(crate) const JOB_TABLES: &str = " FROM job j LEFT JOIN am_jobs a ON a.id = j.id ";

impl From<JobSummary> for JobRecord {
    fn from(listed: JobSummary) -> Self {
        let reported = listed.failure;
        let state = if reported.is_some() { JobState::Failed.name() } else { &listed.state };
        Self {
            id: listed.id,
            stored_client: listed.stored_client,
            ordered_by: listed.ordered_by,
            state: JobState::from_stored(state),
            status: state.to_ascii_uppercase(),
            service: listed.service.as_deref().and_then(JobService::from_name),
            service_type: listed.service,
            ttl_seconds: listed.ttl_seconds,
            requested_at: Timestamp(listed.requested_at.0),
            expires_at: Timestamp(listed.expires_at.0),
            miner: listed.miner,
            error: listed.error.or(reported),
            payment_status: listed.payment_status,
            running_at: listed.running_at,
            ended_at: listed.ended_at,
            payload: JsonText::none(),
            constraints: JsonText::none(),
            result: JsonText::none(),
            receipt: JsonText::none(),
        }
    }
}

/// A job with its documents, which are the last columns. One that can't be read is shown as none.
struct JobDocumentRow(JobRecord);

impl FromRow for JobDocumentRow {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        let job = JobRecord::from(JobSummary::from_row(columns)?);
        let mut document = || columns.next_value().unwrap_or_else(|_| JsonText::none());
        Ok(Self(JobRecord {
            payload: document(),
            constraints: document(),
            result: document(),
            receipt: document(),
            ..job
        }))
    }
}

/// A job with all its documents, without keys.
pub async fn get_job(conn: &mut Connection, names: &ShownNames, id: &JobId) -> Result<Option<JobRecord>> {
    let job = sql!(
        "SELECT ",
        JobSummary::COLUMNS,
        ", j.payload, j.constraints, j.result, j.receipt",
        JOB_TABLES,
        "WHERE j.id = $1",
    );
    Ok(job.bind(id).fetch_optional(conn).await?.map(|JobDocumentRow(job)| names.hide_in_record(job)))
}

/// Names of models that miners announce, of those that were heard of last.
pub async fn announced_models(conn: &mut Connection) -> Result<HashSet<String>> {
    let rows =
        sql!("SELECT capabilities FROM miner WHERE upper(status) <> 'OFFLINE' ORDER BY last_heartbeat DESC LIMIT $1");
    // What can't be read announces nothing.
    let rows: Vec<Result<(JsonText,)>> = match rows.bind(MAX_READ_MINERS).fetch_readable(conn).await {
        // The coordinator creates its table late, and may change it.
        Err(DatabaseError::Other(_)) => Vec::new(),
        read => read?,
    };
    let announced = rows.into_iter().filter_map(|row| row.ok()?.0.parse::<Value>().ok()?);
    let models = announced.filter_map(|capabilities| capabilities.get("models")?.as_array().cloned()).flatten();
    Ok(models.filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// Outcomes of the ended jobs among `ids`, without keys.
pub async fn find_outcomes(
    conn: &mut Connection,
    names: &ShownNames,
    ids: &[JobId],
) -> Result<Vec<(JobId, JobOutcome)>> {
    let mut ended = Vec::new();
    for chunk in ids.chunks(500) {
        // A state that this service does not know must not be taken for an end.
        let found = sql!(
            "SELECT id, state, result, receipt, error, assigned_miner_id,
                 CASE WHEN EXISTS (SELECT 1 FROM am_jobs a WHERE a.id = job.id) THEN '' ELSE client_id END FROM job
             WHERE id IN ($1) AND upper(state) IN ('COMPLETED', 'FAILED', 'CANCELED', 'CANCELLED', 'EXPIRED')",
        );
        let found: Vec<End> = found.bind_all(chunk).fetch_all(&mut *conn).await?;
        ended.extend(found.into_iter().map(|End(id, how, client)| (id, names.hide_in_outcome(&client, how))));
    }
    Ok(ended)
}

/// A job that has ended, how, and its client as stored where that may be a key. One whose row can't be read has failed, and says so; the others are not held up by it.
struct End(JobId, JobOutcome, String);

impl FromRow for End {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        let (id, text): (JobId, String) = (columns.next_value()?, columns.next_value()?);
        let mut document = || -> std::result::Result<Value, String> {
            let doc: JsonText = columns.next_value().map_err(|error| error.to_string())?;
            let Some(text) = doc.get() else { return Ok(Value::Null) };
            read_json(text.get().as_bytes()).map_err(|error| error.to_string())
        };
        let (result, receipt) = (document(), document());
        let (error, miner): (Option<String>, Option<String>) = (columns.next_value()?, columns.next_value()?);
        let client: String = columns.next_value()?;
        let read = || {
            let state = JobState::from_stored(&text).ok_or_else(|| format!("its state is {text:?}"))?;
            Ok(JobOutcome::from_row(state, result?, error, receipt?, miner.clone()))
        };
        let how = read().unwrap_or_else(|why: String| JobOutcome {
            state: JobState::Failed,
            result: Value::Null,
            error: Some(format!("its row can't be read: {why}")),
            price: None,
            receipt: Value::Null,
            miner,
        });
        Ok(Self(id, how, client))
    }
}
