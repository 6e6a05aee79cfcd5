//! `/api/v1/services` and `/{service_type}/schema`: what can be asked for.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::submit;
use crate::http::{ApiError, Json, Path};
use am_jobs::Service;

/// A service and how it is asked.
#[derive(Serialize, ToSchema)]
pub struct ServiceDocument {
    name: &'static str,
    service_type: Service,
    /// In a line.
    description: &'static str,
    /// Its routes.
    endpoints: &'static [&'static str],
    /// The JSON Schema of its requests.
    schema: String,
    /// How long a job of it stays open, in seconds; blender: 30 a frame, and so at least.
    ttl_seconds: u64,
}

/// What can be asked for.
#[derive(Serialize, ToSchema)]
pub struct Services {
    services: Vec<ServiceDocument>,
}

/// The services
///
/// Takes no key, as in the monolith.
#[utoipa::path(get, path = "/api/v1/services", tag = "services", security(()), responses((status = 200, body = Services)))]
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

/// The JSON Schema of a service's requests
///
/// The very schema that requests are checked against. Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/services/{service_type}/schema", tag = "services", security(()), params(("service_type" = Service, Path)),
    responses((status = 200, body = Object), (status = 422))
)]
pub async fn schema(Path(service): Path<Service>) -> Result<Json<&'static Value>, ApiError> {
    Ok(Json(am_jobs::schema(service)))
}
