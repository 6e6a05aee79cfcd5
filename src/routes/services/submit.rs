//! The routes that put a job into the queue.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::{
    events, job_viewer,
    jobs::{JobDocument, job_document},
};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, JsonBody, PathParams, QueryParams,
        auth::KeyRole,
        idempotency::{IdempotencyHeader, IdempotentJson, WithReplayFlag},
    },
    routes::agents::WaitQuery,
};
use am_core::money::Money;
use am_db::codec::Timestamp;
use am_jobs::{
    AcceptedJob, BlenderRequest, FfmpegRequest, JobService, JobSubmission, LlmRequest, OpenJobLimit, RequestVariant,
    StableDiffusionRequest, WhisperRequest,
};

/// How long a job of the generic route stays open.
const GENERIC_TTL: Duration = Duration::from_secs(900);

/// Terms of a job.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SubmissionTerms {
    /// Most that a miner may take for the job, in AITBC tokens; only miners with such a price get it. Default: no
    /// limit.
    #[param(minimum = 0)]
    max_price: Option<f64>,
    /// When the job is no longer wanted (RFC 3339), a second from now or later: it expires then if no miner has taken
    /// it, unless its own time is up before.
    #[param(value_type = Option<String>, format = DateTime)]
    deadline: Option<Timestamp>,
}

impl SubmissionTerms {
    fn checked(self, app: &App) -> Result<Self, ApiError> {
        let refuse = |name: &'static str, msg: &str, kind: &'static str| {
            Err(ApiError::invalid_field(vec!["query".into(), name.into()], msg, kind))
        };
        if self.max_price.is_some_and(|price| price < 0.0) {
            return refuse("max_price", "Input should be greater than or equal to 0", "greater_than_equal");
        }
        let least = app.clock.now() + chrono::TimeDelta::seconds(1);
        if self.deadline.is_some_and(|deadline| deadline.0 < least) {
            return refuse("deadline", "Should be a second from now or later", "value_error");
        }
        Ok(self)
    }
}

/// What a request for a job is answered with.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what `answer` writes")]
pub enum SubmissionAnswer {
    /// With `wait`: the job as it is when the wait ends.
    Job(Box<JobDocument>),
    /// The queued job.
    Accepted(Box<AcceptedJob>),
}

/// The responses of the routes that submit a job to one service.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes what these routes answer")]
pub enum SubmissionResponses {
    #[response(status = 201, description = "The queued job or, with `wait`, the job as it is when the wait ends")]
    Created(SubmissionAnswer),
}

/// The routes of a service.
pub fn service_endpoints(service: JobService) -> &'static [&'static str] {
    match service {
        JobService::Whisper => &["/api/v1/services/whisper/transcribe", "/api/v1/services/whisper/translate"],
        JobService::StableDiffusion => {
            &["/api/v1/services/stable-diffusion/generate", "/api/v1/services/stable-diffusion/img2img"]
        }
        JobService::LlmInference => &["/api/v1/services/llm/inference", "/api/v1/services/llm/stream"],
        JobService::Ffmpeg => &["/api/v1/services/ffmpeg/transcode"],
        JobService::Blender => &["/api/v1/services/blender/render"],
    }
}

/// The request of one of the services, by the name in the path.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what the generic route takes")]
pub enum ServiceRequest {
    /// Request of `whisper`, for speech.
    Whisper(WhisperRequest),
    /// Request of `stable_diffusion`, for images.
    StableDiffusion(StableDiffusionRequest),
    /// Request of `llm_inference`, for text.
    LlmInference(LlmRequest),
    /// Request of `ffmpeg`, for video and audio.
    Ffmpeg(FfmpegRequest),
    /// Request of `blender`, for scenes.
    Blender(BlenderRequest),
}

/// What a request to any of the routes brings.
type SubmissionParts = (State<App>, ClientKey, QueryParams<SubmissionTerms>, QueryParams<WaitQuery>);

/// What a route submits requests to.
struct SubmissionTarget {
    service: JobService,
    variant: RequestVariant,
    /// Time to live of the job; `None` takes the service's default.
    ttl: Option<Duration>,
}

impl SubmissionTarget {
    fn new(service: JobService, variant: RequestVariant) -> Self {
        Self { service, variant, ttl: None }
    }
}

/// A job that is in the queue, from this request or an earlier one with the same key.
struct SubmittedJob {
    accepted: AcceptedJob,
    /// The job as it stands after the wait; `None` when no wait was asked for.
    now: Option<JobDocument>,
    replayed: bool,
}

impl SubmittedJob {
    fn response(self, status: StatusCode) -> Response {
        match self.now {
            Some(job) => (status, WithReplayFlag(JsonBody(job), self.replayed)).into_response(),
            None => (status, WithReplayFlag(JsonBody(self.accepted), self.replayed)).into_response(),
        }
    }
}

/// Limit of the open jobs of a caller with this role.
fn open_job_limit(app: &App, role: KeyRole) -> OpenJobLimit {
    let services = &app.shared.config.services;
    match role {
        KeyRole::Admin => OpenJobLimit { most: services.admin_open_jobs, setting: "SERVICE_MAX_OPEN_JOBS_ADMIN" },
        // No other role may call it.
        KeyRole::Client | KeyRole::Miner | KeyRole::Agent => {
            OpenJobLimit { most: services.client_open_jobs, setting: "SERVICE_MAX_OPEN_JOBS_CLIENT" }
        }
    }
}

/// Put it into the queue; the job, as it stands after the wait that was asked for.
async fn submit_job(
    (State(app), ClientKey(caller), QueryParams(terms), QueryParams(wait)): SubmissionParts,
    target: SubmissionTarget,
    request: IdempotentJson<Value>,
) -> Result<SubmittedJob, ApiError> {
    let wait = wait.of(&app)?;
    let who = job_viewer(&caller);
    // Terms that were good the first time may be over by now.
    let done = match app.db.answered(&app.clock, request.once.as_ref()).await? {
        Some(done) => done,
        None => {
            let SubmissionTerms { max_price, deadline } = terms.checked(&app)?;
            let SubmissionTarget { service, variant, ttl } = target;
            let max_price = max_price.map(Money::from_f64);
            let limit = open_job_limit(&app, caller.role);
            let order = JobSubmission { service, variant, body: request.body, ttl, deadline, max_price, limit };
            app.jobs.submit(&who.caller, order, request.once).await?
        }
    };
    let accepted: AcceptedJob = done.value;
    let now = match wait {
        Some(wait) => {
            let job = app.jobs.wait(&who, &accepted.job_id, wait).await?;
            Some(job_document(&app, &who, job).await?)
        }
        None => None,
    };
    Ok(SubmittedJob { accepted, now, replayed: done.replayed })
}

async fn submit_created(
    asked: SubmissionParts,
    service: JobService,
    variant: RequestVariant,
    request: IdempotentJson<Value>,
) -> Result<Response, ApiError> {
    let submitted = submit_job(asked, SubmissionTarget::new(service, variant), request).await?;
    Ok(submitted.response(StatusCode::CREATED))
}

/// Submit a job: speech to text
#[utoipa::path(
    post, path = "/api/v1/services/whisper/transcribe", operation_id = "services_transcribe", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = WhisperRequest,
    responses(SubmissionResponses)
)]
pub async fn transcribe_audio(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::Whisper, RequestVariant::Plain, request).await
}

/// Submit a job: speech to English text
#[utoipa::path(
    post, path = "/api/v1/services/whisper/translate", operation_id = "services_translate", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = WhisperRequest,
    responses(SubmissionResponses)
)]
pub async fn translate_audio(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::Whisper, RequestVariant::Translate, request).await
}

/// Submit a job: text to images
#[utoipa::path(
    post, path = "/api/v1/services/stable-diffusion/generate", operation_id = "services_generate_image",
    tag = "services", security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = StableDiffusionRequest,
    responses(SubmissionResponses)
)]
pub async fn generate_images(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::StableDiffusion, RequestVariant::Plain, request).await
}

/// Submit a job: an image to images
///
/// `image_url` is where the miner gets the image, `strength` how much of it is changed.
#[utoipa::path(
    post, path = "/api/v1/services/stable-diffusion/img2img", operation_id = "services_change_image",
    tag = "services", security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = StableDiffusionRequest,
    responses(SubmissionResponses)
)]
pub async fn transform_image(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::StableDiffusion, RequestVariant::Img2img, request).await
}

/// Submit a job: a prompt to a language model
#[utoipa::path(
    post, path = "/api/v1/services/llm/inference", operation_id = "services_infer", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = LlmRequest,
    responses(SubmissionResponses)
)]
pub async fn run_inference(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::LlmInference, RequestVariant::Plain, request).await
}

/// Submit a job to a language model and follow it
///
/// With `Accept: text/event-stream` the answer is a stream: a `state` event for each status, the `result` as the
/// miner delivers it, and `end`. The coordinator's table takes a result whole, so it comes in one piece. Without, the
/// answer is the job.
#[utoipa::path(
    post, path = "/api/v1/services/llm/stream", operation_id = "services_stream", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = LlmRequest,
    responses(
        (status = 200, content((SubmissionAnswer = "application/json"), (String = "text/event-stream")), description = "The queued job or, with `wait`, the job as it is when the wait ends; with `Accept: text/event-stream` the job's events"),
    )
)]
pub async fn stream_inference(
    (app, caller, terms, wait): SubmissionParts,
    headers: HeaderMap,
    request: IdempotentJson<Value>,
) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let wants_events = accept.contains("text/event-stream");
    let who = job_viewer(&caller.0);
    // One that is streamed is not waited for.
    let wait = if wants_events { QueryParams(WaitQuery::default()) } else { wait };
    let target = SubmissionTarget::new(JobService::LlmInference, RequestVariant::Stream);
    let submitted = submit_job((app.clone(), caller, terms, wait), target, request).await?;
    if wants_events {
        let following = app.jobs.follow(&who, &submitted.accepted.job_id, 0).await?;
        return Ok(WithReplayFlag(events::events_response(following), submitted.replayed).into_response());
    }
    Ok(submitted.response(StatusCode::OK))
}

/// Submit a job: transcode video or audio
///
/// `custom_args` are checked against a list of arguments; a 422 names the first that is not on it.
#[utoipa::path(
    post, path = "/api/v1/services/ffmpeg/transcode", operation_id = "services_transcode", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = FfmpegRequest,
    responses(SubmissionResponses)
)]
pub async fn transcode_media(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::Ffmpeg, RequestVariant::Plain, request).await
}

/// Submit a job: render a scene
///
/// `custom_args` are checked against a list of arguments; a 422 names the first that is not on it.
#[utoipa::path(
    post, path = "/api/v1/services/blender/render", operation_id = "services_render", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = BlenderRequest,
    responses(SubmissionResponses)
)]
pub async fn render_scene(asked: SubmissionParts, request: IdempotentJson<Value>) -> Result<Response, ApiError> {
    submit_created(asked, JobService::Blender, RequestVariant::Plain, request).await
}

/// Submit a job to any service
///
/// Deprecated: each service has routes of its own, which the headers name. The body is a request of the service. A
/// job waits 900 s.
#[utoipa::path(
    post, path = "/api/v1/services/{service_type}", operation_id = "services_submit", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(("service_type" = JobService, Path, description = "Name of the service"), SubmissionTerms, WaitQuery, IdempotencyHeader),
    request_body = ServiceRequest,
    responses(
        (status = 201, body = SubmissionAnswer, description = "The queued job or, with `wait`, the job as it is when the wait ends", headers(("X-Deprecated" = bool, description = "Always `true`"), ("X-Deprecation-Message" = String, description = "The routes to use instead"))),
    )
)]
#[deprecated]
pub async fn submit_generic_job(
    app: State<App>,
    caller: ClientKey,
    PathParams(service): PathParams<JobService>,
    terms: QueryParams<SubmissionTerms>,
    wait: QueryParams<WaitQuery>,
    request: IdempotentJson<Value>,
) -> Result<Response, ApiError> {
    let target = SubmissionTarget { service, variant: RequestVariant::Plain, ttl: Some(GENERIC_TTL) };
    let submitted = submit_job((app, caller, terms, wait), target, request).await?;
    let mut response = submitted.response(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-deprecated"), HeaderValue::from_static("true"));
    let message = format!("Use {} instead", service_endpoints(service).join(" or "));
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(HeaderName::from_static("x-deprecation-message"), message);
    }
    Ok(response)
}
