//! The routes that put a job into the queue.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

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

/// Terms of a job, whatever it is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Terms {
    /// The most that a miner may take for it: only miners with such a price get it.
    #[param(minimum = 0)]
    max_price: Option<f64>,
    /// When the job is no longer wanted (RFC 3339): it expires then if no miner has taken it, unless its service's own time
    /// is up before.
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

/// Speech to text
#[utoipa::path(
    post, path = "/api/v1/services/whisper/transcribe", tag = "services", params(Terms, WaitQuery), request_body = WhisperRequest,
    responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn transcribe(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Whisper, Variant::Plain, request).await
}

/// Speech to English text
#[utoipa::path(
    post, path = "/api/v1/services/whisper/translate", tag = "services", params(Terms, WaitQuery), request_body = WhisperRequest,
    responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn translate(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Whisper, Variant::Translate, request).await
}

/// Text to images
#[utoipa::path(
    post, path = "/api/v1/services/stable-diffusion/generate", tag = "services", params(Terms, WaitQuery),
    request_body = StableDiffusionRequest, responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn generate(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::StableDiffusion, Variant::Plain, request).await
}

/// An image to images
///
/// `image_url` says where the miner gets it, `strength` how much of it is changed.
#[utoipa::path(
    post, path = "/api/v1/services/stable-diffusion/img2img", tag = "services", params(Terms, WaitQuery),
    request_body = StableDiffusionRequest, responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn img2img(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::StableDiffusion, Variant::Img2img, request).await
}

/// Ask a language model
#[utoipa::path(
    post, path = "/api/v1/services/llm/inference", tag = "services", params(Terms, WaitQuery), request_body = LlmRequest,
    responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn inference(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::LlmInference, Variant::Plain, request).await
}

/// Ask a language model and follow the job
///
/// With `Accept: text/event-stream` the answer is a stream: a `state` event for each state, the `result` as the miner
/// delivers it, and `end`. The coordinator's table takes a result whole, so it comes in one piece. Without, the answer is the
/// job, as elsewhere.
#[utoipa::path(
    post, path = "/api/v1/services/llm/stream", tag = "services", params(Terms, WaitQuery), request_body = LlmRequest,
    responses((status = 200, description = "`text/event-stream` where that is accepted", body = Accepted), (status = 422))
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

/// Transcode
///
/// `custom_args` are checked against a list of arguments: 422 names the first that is not on it.
#[utoipa::path(
    post, path = "/api/v1/services/ffmpeg/transcode", tag = "services", params(Terms, WaitQuery), request_body = FfmpegRequest,
    responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn transcode(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Ffmpeg, Variant::Plain, request).await
}

/// Render
///
/// `custom_args` are checked against a list of arguments, as for ffmpeg.
#[utoipa::path(
    post, path = "/api/v1/services/blender/render", tag = "services", params(Terms, WaitQuery), request_body = BlenderRequest,
    responses((status = 201, body = Accepted), (status = 422))
)]
pub async fn render(asked: Asked, request: KeyedJson<Value>) -> Result<Response, ApiError> {
    created(asked, Service::Blender, Variant::Plain, request).await
}

/// Ask any service
///
/// Deprecated, which its headers say: each service has routes of its own. Takes what those take; a job stays open for 900 s.
#[utoipa::path(
    post, path = "/api/v1/services/{service_type}", tag = "services", params(("service_type" = Service, Path), Terms, WaitQuery),
    request_body = Object, responses((status = 201, body = Accepted), (status = 422))
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
