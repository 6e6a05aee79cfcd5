//! `/api/v1/services/jobs`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::who;
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, Json, Path, Query,
        page::{PageQuery, Paging},
    },
    routes::agents::WaitQuery,
};
use am_db::{
    codec::{Doc, Timestamp},
    owner::Owner,
};
use am_jobs::{Estimate, Filter, Job, JobState, Service};

/// A job, as it stands in the coordinator's table.
#[derive(Serialize, ToSchema)]
#[schema(as = ServiceJob)]
pub struct JobDocument {
    job_id: String,
    /// The service that is asked for.
    #[schema(value_type = Option<Service>)]
    service_type: Option<String>,
    /// The coordinator's word.
    #[schema(value_type = JobState)]
    status: String,
    /// A principal.
    #[schema(value_type = String)]
    client_id: Owner,
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    /// When it expires if no miner has taken it.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    ttl_seconds: i64,
    /// When it was first seen with a miner.
    #[schema(value_type = Option<String>, format = DateTime)]
    running_at: Option<Timestamp>,
    /// When its end was noticed.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// The miner that has it.
    miner: Option<String>,
    /// Why it did not end well.
    error: Option<String>,
    /// The coordinator's word for how its payment stands.
    payment_status: Option<String>,
    /// Its place in the queue, from 1; none where it does not wait.
    position: Option<usize>,
    #[serde(flatten)]
    detail: Option<Detail>,
}

/// What a list leaves out.
#[derive(Serialize, ToSchema)]
pub struct Detail {
    /// When it is likely to be done.
    #[schema(value_type = Option<String>, format = DateTime)]
    estimated_completion: Option<Timestamp>,
    /// What that rests on.
    estimate: Estimate,
    /// The request, as the miner reads it.
    #[schema(value_type = Object)]
    request: Value,
    /// What a miner must have.
    #[schema(value_type = Object)]
    constraints: Doc,
    /// What the miner delivered.
    #[schema(value_type = Option<Object>)]
    result: Doc,
    /// The miner's receipt.
    #[schema(value_type = Option<Object>)]
    receipt: Doc,
}

fn brief(app: &App, job: Job, detail: Option<Detail>) -> JobDocument {
    JobDocument {
        position: app.jobs.position(&job),
        client_id: job.client(),
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
pub async fn document(app: &App, mut job: Job) -> Result<JobDocument, ApiError> {
    let estimate = app.jobs.estimate(&job).await?;
    let payload = job.payload.parse::<Map<String, Value>>().ok().flatten();
    let request = payload.and_then(|mut payload| payload.remove("service_request")).unwrap_or_default();
    let take = |doc: &mut Doc| std::mem::replace(doc, Doc::none());
    let detail = Detail {
        estimated_completion: estimate.estimated_completion,
        estimate,
        request,
        constraints: take(&mut job.constraints),
        result: take(&mut job.result),
        receipt: take(&mut job.receipt),
    };
    Ok(brief(app, job, Some(detail)))
}

/// Which jobs to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only in this state.
    state: Option<JobState>,
    /// Only of this service.
    service_type: Option<Service>,
}

/// List jobs
///
/// The caller's own, and with an admin key everybody's; newest first, 50 a page, without requests and results.
#[utoipa::path(
    get, path = "/api/v1/services/jobs", tag = "services", params(ListQuery, PageQuery),
    responses((status = 200, body = Vec<JobDocument>))
)]
pub async fn list(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    Query(query): Query<ListQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let filter = Filter { state: query.state, service: query.service_type };
    let (jobs, total) = app.jobs.list(&who(&caller), &filter, &page).await?;
    let last = jobs.last().map(|job| (job.requested_at, job.id.clone()));
    let rows: Vec<JobDocument> = jobs.into_iter().map(|job| brief(&app, job, None)).collect();
    let last = last.as_ref().map(|(at, id)| (*at, id.as_str()));
    Ok(paging.answer(&page, &rows, total as u64, last))
}

/// One job
///
/// With its place in the queue and an estimate, from the last completed jobs of its service, of when it is done. With
/// `?wait=SECONDS` the answer comes when it has ended or the time is up.
#[utoipa::path(
    get, path = "/api/v1/services/jobs/{job_id}", tag = "services", params(("job_id" = String, Path), WaitQuery),
    responses((status = 200, body = JobDocument), (status = 403), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
) -> Result<Json<JobDocument>, ApiError> {
    let who = who(&caller);
    let job = match wait.of(&app)? {
        Some(wait) => app.jobs.wait(&who, &id, wait).await?,
        None => app.jobs.get(&who, &id).await?,
    };
    Ok(Json(document(&app, job).await?))
}

/// A job that is no longer wanted.
#[derive(Serialize, ToSchema)]
pub struct CanceledDocument {
    #[serde(flatten)]
    job: JobDocument,
    /// The state that it was in.
    previous_status: JobState,
    /// Whether no miner will do it: false where one had taken it, which may finish it all the same.
    taken_back: bool,
    /// In words.
    message: &'static str,
}

/// Take a job back
///
/// One that waits is taken back. One that a miner works on is marked CANCELED, which is all that the coordinator and the
/// miner can see: nothing interrupts the miner, and if it delivers, the coordinator may put its result over the mark.
/// 400 when the job has ended.
#[utoipa::path(
    delete, path = "/api/v1/services/jobs/{job_id}", tag = "services", params(("job_id" = String, Path)),
    responses((status = 200, body = CanceledDocument), (status = 400), (status = 403), (status = 404))
)]
pub async fn cancel(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    Path(id): Path<String>,
) -> Result<Json<CanceledDocument>, ApiError> {
    let canceled = app.jobs.cancel(&who(&caller), &id).await?;
    let had_miner = canceled.job.miner.is_some();
    let message = match canceled.was {
        JobState::Queued => "Taken back: no miner had it",
        JobState::Running => "Asked to stop: a miner has it, and may finish it all the same",
        _ => "It was canceled already",
    };
    Ok(Json(CanceledDocument {
        previous_status: canceled.was,
        taken_back: !had_miner,
        message,
        job: document(&app, canceled.job).await?,
    }))
}
