//! The routes that put a job into the queue.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    events,
    jobs::{JobDocument, document},
    who,
};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        openapi::IdempotencyHeader,
    },
    routes::agents::WaitQuery,
};
use am_db::codec::Timestamp;
use am_jobs::{
    Accepted, BlenderRequest, FfmpegRequest, LlmRequest, Order, Service, StableDiffusionRequest, Variant,
    WhisperRequest,
};

/// How long a job of the generic route stays open.
const GENERIC_TTL: Duration = Duration::from_secs(900);

/// Terms of a job.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Terms {
    /// Most that a miner may take for the job, in AITBC tokens; only miners with such a price get it. Default: no
    /// limit.
    #[param(minimum = 0)]
    max_price: Option<f64>,
    /// When the job is no longer wanted (RFC 3339), a second from now or later: it expires then if no miner has taken
    /// it, unless its own time is up before.
    #[param(value_type = Option<String>, format = DateTime)]
    deadline: Option<Timestamp>,
}

impl Terms {
    fn checked(self, app: &App) -> Result<Self, ApiError> {
        let refuse = |name: &'static str, msg: &str, kind: &'static str| {
            Err(ApiError::field(vec!["query".into(), name.into()], msg, kind))
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
pub enum JobSubmission {
    /// With `wait`: the job as it is when the wait ends.
    Job(Box<JobDocument>),
    /// The queued job.
    Accepted(Box<Accepted>),
}

/// The routes of a service.
pub fn endpoints(service: Service) -> &'static [&'static str] {
    match service {
        Service::Whisper => &["/api/v1/services/whisper/transcribe", "/api/v1/services/whisper/translate"],
        Service::StableDiffusion => {
            &["/api/v1/services/stable-diffusion/generate", "/api/v1/services/stable-diffusion/img2img"]
        }
        Service::LlmInference => &["/api/v1/services/llm/inference", "/api/v1/services/llm/stream"],
        Service::Ffmpeg => &["/api/v1/services/ffmpeg/transcode"],
        Service::Blender => &["/api/v1/services/blender/render"],
    }
}

/// What a request to any of the routes brings.
type Asked = (State<App>, ClientKey, Query<Terms>, Query<WaitQuery>);

/// Put it into the queue; the job, as it stands after the wait that was asked for.
async fn submitted(
    (State(app), ClientKey(caller), Query(terms), Query(wait)): Asked,
    (service, variant, ttl): (Service, Variant, Option<Duration>),
    request: KeyedJson<Value>,
) -> Result<(App, Accepted, Option<JobDocument>, bool), ApiError> {
    let wait = wait.of(&app)?;
    let who = who(&caller);
    // Terms that were good the first time may be over by now.
    let done = match app.db.answered(&app.clock, request.once.as_ref()).await? {
        Some(done) => done,
        None => {
            let Terms { max_price, deadline } = terms.checked(&app)?;
            let order = Order { service, variant, body: request.body, ttl, deadline, max_price };
            app.jobs.submit(&who.caller, order, request.once).await?
        }
    };
    let accepted: Accepted = done.value;
    let now = match wait {
        Some(wait) => {
            let job = app.jobs.wait(&who, &accepted.job_id, wait).await?;
            Some(document(&app, job).await?)
        }
        None => None,
    };
    Ok((app, accepted, now, done.replayed))
}

fn answer(status: StatusCode, accepted: Accepted, now: Option<JobDocument>, replayed: bool) -> Response {
    match now {
        Some(job) => (status, Replayable(Json(job), replayed)).into_response(),
        None => (status, Replayable(Json(accepted), replayed)).into_response(),
    }
}

async fn created(
    asked: Asked,
    service: Service,
    variant: Variant,
    request: KeyedJson<Value>,
) -> Result<Response, ApiError> {
    let (_, accepted, now, replayed) = submitted(asked, (service, variant, None), request).await?;
    Ok(answer(StatusCode::CREATED, accepted, now, replayed))
}

/// Submit a job: speech to text
#[utoipa::path(
    post, path = "/api/v1/services/whisper/transcribe", operation_id = "services_transcribe", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = WhisperRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn transcribe(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Whisper, Variant::Plain, request).await
}

/// Submit a job: speech to English text
#[utoipa::path(
    post, path = "/api/v1/services/whisper/translate", operation_id = "services_translate", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = WhisperRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn translate(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Whisper, Variant::Translate, request).await
}

/// Submit a job: text to images
#[utoipa::path(
    post, path = "/api/v1/services/stable-diffusion/generate", operation_id = "services_generate_image",
    tag = "services", security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = StableDiffusionRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn generate(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::StableDiffusion, Variant::Plain, request).await
}

/// Submit a job: an image to images
///
/// `image_url` is where the miner gets the image, `strength` how much of it is changed.
#[utoipa::path(
    post, path = "/api/v1/services/stable-diffusion/img2img", operation_id = "services_change_image",
    tag = "services", security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = StableDiffusionRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn img2img(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::StableDiffusion, Variant::Img2img, request).await
}

/// Submit a job: a prompt to a language model
#[utoipa::path(
    post, path = "/api/v1/services/llm/inference", operation_id = "services_infer", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = LlmRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn inference(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::LlmInference, Variant::Plain, request).await
}

/// Submit a job to a language model and follow it
///
/// With `Accept: text/event-stream` the answer is a stream: a `state` event for each status, the `result` as the
/// miner delivers it, and `end`. The coordinator's table takes a result whole, so it comes in one piece. Without, the
/// answer is the job.
#[utoipa::path(
    post, path = "/api/v1/services/llm/stream", operation_id = "services_stream", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = LlmRequest,
    responses(
        (status = 200, content((JobSubmission = "application/json"), (String = "text/event-stream")), description = "The queued job or, with `wait`, the job as it is when the wait ends; with `Accept: text/event-stream` the job's events"),
    )
)]
pub async fn stream(
    (app, caller, terms, wait): Asked,
    headers: HeaderMap,
    request: KeyedJson<Value>,
) -> Result<Response, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let wants_events = accept.contains("text/event-stream");
    let who = who(&caller.0);
    // One that is streamed is not waited for.
    let wait = if wants_events { Query(WaitQuery::default()) } else { wait };
    let what = (Service::LlmInference, Variant::Stream, None);
    let (app, accepted, now, replayed) = submitted((app, caller, terms, wait), what, request).await?;
    if wants_events {
        let following = app.jobs.follow(&who, &accepted.job_id, 0).await?;
        return Ok(Replayable(events::respond(following), replayed).into_response());
    }
    Ok(answer(StatusCode::OK, accepted, now, replayed))
}

/// Submit a job: transcode video or audio
///
/// `custom_args` are checked against a list of arguments; a 422 names the first that is not on it.
#[utoipa::path(
    post, path = "/api/v1/services/ffmpeg/transcode", operation_id = "services_transcode", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = FfmpegRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn transcode(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Ffmpeg, Variant::Plain, request).await
}

/// Submit a job: render a scene
///
/// `custom_args` are checked against a list of arguments; a 422 names the first that is not on it.
#[utoipa::path(
    post, path = "/api/v1/services/blender/render", operation_id = "services_render", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(Terms, WaitQuery, IdempotencyHeader),
    request_body = BlenderRequest,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends"),
    )
)]
pub async fn render(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Blender, Variant::Plain, request).await
}

/// Submit a job to any service
///
/// Deprecated: each service has routes of its own, which the headers name. The body is a request of the service. A
/// job waits 900 s.
#[utoipa::path(
    post, path = "/api/v1/services/{service_type}", operation_id = "services_submit", tag = "services",
    security(("ApiKey" = ["admin", "client"])),
    params(("service_type" = Service, Path, description = "Name of the service"), Terms, WaitQuery, IdempotencyHeader),
    request_body = Object,
    responses(
        (status = 201, body = JobSubmission, description = "The queued job or, with `wait`, the job as it is when the wait ends", headers(("X-Deprecated" = bool, description = "Always `true`"), ("X-Deprecation-Message" = String, description = "The routes to use instead"))),
    )
)]
#[deprecated]
pub async fn generic(
    app: State<App>,
    caller: ClientKey,
    Path(service): Path<Service>,
    terms: Query<Terms>,
    wait: Query<WaitQuery>,
    request: KeyedJson<Value>,
) -> Result<Response, ApiError> {
    let what = (service, Variant::Plain, Some(GENERIC_TTL));
    let (_, accepted, now, replayed) = submitted((app, caller, terms, wait), what, request).await?;
    let mut response = answer(StatusCode::CREATED, accepted, now, replayed);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-deprecated"), HeaderValue::from_static("true"));
    let message = format!("Use {} instead", endpoints(service).join(" or "));
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(HeaderName::from_static("x-deprecation-message"), message);
    }
    Ok(response)
}
