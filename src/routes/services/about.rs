//! `/api/v1/services` and `/{service_type}/schema`: what can be asked for.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::submit;
use crate::http::{ApiError, Json, Path};
use am_jobs::Service;

/// A GPU service.
#[derive(Serialize, ToSchema)]
#[schema(as = Service)]
pub struct ServiceDocument {
    /// Name, for people.
    name: &'static str,
    /// Name of the service in requests.
    service_type: Service,
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
pub struct Services {
    /// The services.
    services: Vec<ServiceDocument>,
}

/// List the GPU services
///
/// Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/services", operation_id = "services_list", tag = "services", security(()),
    responses((status = 200, body = Services, description = "The services"))
)]
pub async fn list() -> Json<Services> {
    let document = |service: Service| ServiceDocument {
        name: title(service),
        service_type: service,
        description: description(service),
        endpoints: submit::endpoints(service),
        schema: format!("/api/v1/services/{}/schema", service.name()),
        ttl_seconds: service.ttl(&Value::Null).as_secs(),
    };
    Json(Services { services: Service::ALL.map(document).into() })
}

fn title(service: Service) -> &'static str {
    match service {
        Service::Whisper => "Whisper",
        Service::StableDiffusion => "Stable Diffusion",
        Service::LlmInference => "LLM inference",
        Service::Ffmpeg => "FFmpeg",
        Service::Blender => "Blender",
    }
}

fn description(service: Service) -> &'static str {
    match service {
        Service::Whisper => "Speech to text, or to English text",
        Service::StableDiffusion => "Text, or an image, to images",
        Service::LlmInference => "Language models",
        Service::Ffmpeg => "Video and audio to other formats",
        Service::Blender => "Images and frames of a scene",
    }
}

/// Get the JSON Schema of a service's requests
///
/// Requests are checked against this schema. Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/services/{service_type}/schema", operation_id = "services_get_schema", tag = "services",
    security(()),
    params(("service_type" = Service, Path, description = "Name of the service")),
    responses((status = 200, body = Object, description = "The JSON Schema (draft 2020-12) of the service's requests"))
)]
pub async fn schema(Path(service): Path<Service>) -> Result<Json<&'static Value>, ApiError> {
    Ok(Json(am_jobs::schema(service)))
}
