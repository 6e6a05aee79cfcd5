//! `/api/v1/services/jobs`.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::job_viewer;
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, JsonBody, PathParams, QueryParams,
        pagination::{PageQuery, Paginator},
        time_query::EndedQuery,
    },
    routes::agents::{WaitQuery, deletion::deletion_entry},
};
use am_core::ids::{JobId, PrincipalId};
use am_db::codec::{JsonText, Timestamp};
use am_jobs::{JobEstimate, JobFilter, JobRecord, JobService, JobState, JobViewer};
use am_retention::RetentionKind;

/// A job of a GPU service.
#[derive(Serialize, ToSchema)]
#[schema(as = ServiceJob)]
pub struct JobDocument {
    /// Id of the job: 32 hexadecimal digits.
    job_id: JobId,
    /// Service of the job as the coordinator stores it: `whisper`, `stable_diffusion`, `llm_inference`, `ffmpeg`, `blender`,
    /// or one that this service does not know; null: none is stored.
    service_type: Option<String>,
    /// Status of the job as the coordinator stores it: `QUEUED`, `RUNNING`, `COMPLETED`, `FAILED`, `CANCELED`, `EXPIRED`, or
    /// one that this service does not know.
    status: String,
    /// Principal of the client.
    client_id: PrincipalId,
    /// Name of the client's key, for admins. Left out where no stored key has the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key_name: Option<Arc<str>>,
    /// When the job was submitted.
    requested_at: Timestamp,
    /// When the job expires if no miner has taken it.
    expires_at: Timestamp,
    /// Seconds from submission to expiry.
    ttl_seconds: i64,
    /// When the job was first seen with a miner; null: not yet.
    running_at: Option<Timestamp>,
    /// When its end was noticed; null: not ended.
    ended_at: Option<Timestamp>,
    /// Miner that has the job; null: none.
    miner: Option<String>,
    /// Why the job did not complete; null: it did, or has not ended.
    error: Option<String>,
    /// Status of the payment, as the coordinator records it; null: none.
    payment_status: Option<String>,
    /// Place in the queue, from 1; null: it does not wait.
    position: Option<usize>,
    #[serde(flatten)]
    detail: Option<JobDetail>,
}

/// The members of a job that lists leave out.
#[derive(Serialize, ToSchema)]
#[schema(as = JobDetail)]
pub struct JobDetail {
    /// Estimated end; null: no job of the service has completed yet.
    estimated_completion: Option<Timestamp>,
    /// What the estimate rests on.
    estimate: JobEstimate,
    /// The request, as the miner reads it.
    #[schema(value_type = Object)]
    request: Value,
    /// What a miner must have.
    #[schema(value_type = Object)]
    constraints: JsonText,
    /// Result that the miner delivered; null: none.
    #[schema(value_type = Option<Object>)]
    result: JsonText,
    /// Receipt of the miner; null: none.
    #[schema(value_type = Option<Object>)]
    receipt: JsonText,
}

fn job_summary(app: &App, reader: &JobViewer, job: JobRecord, detail: Option<JobDetail>) -> JobDocument {
    let client_id = job.client();
    JobDocument {
        position: app.jobs.position(&job),
        key_name: app.shared.keyring.key_name(&client_id).filter(|_| reader.all),
        client_id,
        job_id: job.id,
        service_type: job.service_type,
        status: job.status,
        requested_at: job.requested_at,
        expires_at: job.expires_at,
        ttl_seconds: job.ttl_seconds,
        running_at: job.running_at,
        ended_at: job.ended_at,
        miner: job.miner,
        error: job.error,
        payment_status: job.payment_status,
        detail,
    }
}

/// A job with all that is known of it.
pub async fn job_document(app: &App, reader: &JobViewer, mut job: JobRecord) -> Result<JobDocument, ApiError> {
    let estimate = app.jobs.estimate(&job).await?;
    let payload = job.payload.parse::<Map<String, Value>>().ok().flatten();
    let request = payload.and_then(|mut payload| payload.remove("service_request")).unwrap_or_default();
    let take = |doc: &mut JsonText| std::mem::replace(doc, JsonText::none());
    let detail = JobDetail {
        estimated_completion: estimate.estimated_completion,
        estimate,
        request,
        constraints: take(&mut job.constraints),
        result: take(&mut job.result),
        receipt: take(&mut job.receipt),
    };
    Ok(job_summary(app, reader, job, Some(detail)))
}

/// Filter of jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// Only jobs in these states, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<JobState>>, style = Form, explode = false)]
    state: Vec<JobState>,
    /// Only jobs of this service.
    service_type: Option<JobService>,
}

/// List jobs
///
/// The caller's own, and with an admin key everybody's; the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/services/jobs", operation_id = "jobs_list", tag = "jobs",
    security(("ApiKey" = ["admin", "client"])),
    params(JobsQuery, EndedQuery, PageQuery),
    responses(
        (status = 200, body = Vec<JobDocument>, description = "A page of jobs, the newest first, without requests and results"),
    )
)]
pub async fn list_jobs(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    QueryParams(query): QueryParams<JobsQuery>,
    QueryParams(ended): QueryParams<EndedQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = JobFilter { states: query.state, service: query.service_type, ended: ended.span(&app.clock) };
    let who = job_viewer(&caller);
    let found = app.jobs.list(&who, &filter, &paging.page).await?;
    Ok(paging.answer_list(found, |job| (job.requested_at, &job.id), |job| job_summary(&app, &who, job, None)))
}

/// Get a job
///
/// With its place in the queue and an estimated end, from the last completed jobs of its service. With
/// `?wait=SECONDS` the answer comes when it has ended or the time is up.
#[utoipa::path(
    get, path = "/api/v1/services/jobs/{job_id}", operation_id = "jobs_get", tag = "jobs",
    security(("ApiKey" = ["admin", "client"])),
    params(("job_id" = String, Path, description = "Id of the job: 32 hexadecimal digits"), WaitQuery),
    responses(
        (status = 200, body = JobDocument, description = "The job"),
        (status = 404, description = "The caller has no job of this id"),
    )
)]
pub async fn get_job(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    PathParams(id): PathParams<JobId>,
    QueryParams(wait): QueryParams<WaitQuery>,
) -> Result<JsonBody<JobDocument>, ApiError> {
    let who = job_viewer(&caller);
    let job = match wait.of(&app)? {
        Some(wait) => app.jobs.wait(&who, &id, wait).await?,
        None => app.jobs.get(&who, &id).await?,
    };
    Ok(JsonBody(job_document(&app, &who, job).await?))
}

/// A cancelled job.
#[derive(Serialize, ToSchema)]
#[schema(as = CanceledJob)]
pub struct CanceledDocument {
    #[serde(flatten)]
    job: JobDocument,
    /// The job's status before the request.
    previous_status: JobState,
    /// Whether no miner will do the job. False: a miner had taken it, and may finish it all the same.
    taken_back: bool,
    /// What was done, in words.
    message: &'static str,
}

/// Cancel a job
///
/// A waiting job is taken out of the queue. A job that a miner works on is marked CANCELED, which is all that the
/// coordinator and the miner can see: nothing interrupts the miner, and if it delivers, the coordinator may overwrite
/// the mark with its result.
#[utoipa::path(
    delete, path = "/api/v1/services/jobs/{job_id}", operation_id = "jobs_cancel", tag = "jobs",
    security(("ApiKey" = ["admin", "client"])),
    params(("job_id" = String, Path, description = "Id of the job: 32 hexadecimal digits")),
    responses(
        (status = 200, body = CanceledDocument, description = "The job, and whether a miner had it"),
        (status = 400, description = "The job has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no job of this id"),
    )
)]
pub async fn cancel_job(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    PathParams(id): PathParams<JobId>,
) -> Result<JsonBody<CanceledDocument>, ApiError> {
    let who = job_viewer(&caller);
    let canceled = app.jobs.cancel(&who, &id).await?;
    let had_miner = canceled.job.miner.is_some();
    let message = match canceled.was {
        JobState::Queued => "Cancelled: no miner had taken it",
        JobState::Running => "Asked to stop: a miner has it, and may finish it all the same",
        _ => "It was canceled already",
    };
    Ok(JsonBody(CanceledDocument {
        previous_status: canceled.was,
        taken_back: !had_miner,
        message,
        job: job_document(&app, &who, canceled.job).await?,
    }))
}

/// Delete the record of a job
///
/// Of a job that was submitted here and has ended: it is in no list any more. A job that the coordinator wrote a receipt for stays.
#[utoipa::path(
    delete, path = "/api/v1/services/jobs/{job_id}/record", operation_id = "jobs_delete", tag = "jobs",
    security(("ApiKey" = ["admin", "client"])),
    params(("job_id" = String, Path, description = "Id of the job: 32 hexadecimal digits")),
    responses(
        (status = 204, description = "The job's record is deleted"),
        (status = 404, description = "The caller has no job of this id, or it was not submitted here"),
        (status = 409, description = "The job has not ended, or has a receipt of the coordinator (`in_use`)"),
    )
)]
pub async fn delete_job_record(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    PathParams(id): PathParams<JobId>,
) -> Result<StatusCode, ApiError> {
    app.jobs.get(&job_viewer(&caller), &id).await?;
    let entry = deletion_entry(&app, &caller.principal, "job").data("job_id", id.as_str().into());
    app.retention.remove(RetentionKind::Jobs, "Job", id.as_str(), entry).await?;
    Ok(StatusCode::NO_CONTENT)
}
