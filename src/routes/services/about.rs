//! `/api/v1/services` and `/{service_type}/schema`: what can be asked for.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::submit;
use crate::http::{ApiError, JsonBody, PathParams};
use am_jobs::JobService;

/// A GPU service.
#[derive(Serialize, ToSchema)]
#[schema(as = JobService)]
pub struct ServiceDocument {
    /// Name, for people.
    name: &'static str,
    /// Name of the service in requests.
    service_type: JobService,
    /// Description in one line.
    description: &'static str,
    /// Paths that take its jobs.
    endpoints: &'static [&'static str],
    /// Path of the JSON Schema of its requests.
    schema: String,
    /// Seconds that a job waits for a miner; for blender the least, 30 for each frame.
    ttl_seconds: u64,
}

/// The GPU services.
#[derive(Serialize, ToSchema)]
pub struct ServiceList {
    /// Services that jobs can be submitted for.
    services: Vec<ServiceDocument>,
}

/// List the GPU services
///
/// Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/services", operation_id = "services_list", tag = "services", security(()),
    responses((status = 200, body = ServiceList, description = "The services"))
)]
pub async fn list_services() -> JsonBody<ServiceList> {
    let document = |service: JobService| ServiceDocument {
        name: service_title(service),
        service_type: service,
        description: service_description(service),
        endpoints: submit::service_endpoints(service),
        schema: format!("/api/v1/services/{}/schema", service.name()),
        ttl_seconds: service.ttl(&Value::Null).as_secs(),
    };
    JsonBody(ServiceList { services: JobService::ALL.map(document).into() })
}

fn service_title(service: JobService) -> &'static str {
    match service {
        JobService::Whisper => "Whisper",
        JobService::StableDiffusion => "Stable Diffusion",
        JobService::LlmInference => "LLM inference",
        JobService::Ffmpeg => "FFmpeg",
        JobService::Blender => "Blender",
    }
}

fn service_description(service: JobService) -> &'static str {
    match service {
        JobService::Whisper => "Speech to text, or to English text",
        JobService::StableDiffusion => "Text, or an image, to images",
        JobService::LlmInference => "Language models",
        JobService::Ffmpeg => "Video and audio to other formats",
        JobService::Blender => "Images and frames of a scene",
    }
}

/// Get the JSON Schema of a service's requests
///
/// Requests are checked against this schema. Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/services/{service_type}/schema", operation_id = "services_get_schema", tag = "services",
    security(()),
    params(("service_type" = JobService, Path, description = "Name of the service")),
    responses((status = 200, body = Object, description = "The JSON Schema (draft 2020-12) of the service's requests"))
)]
pub async fn get_service_schema(
    PathParams(service): PathParams<JobService>,
) -> Result<JsonBody<&'static Value>, ApiError> {
    Ok(JsonBody(am_jobs::service_schema(service)))
}
