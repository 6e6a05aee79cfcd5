//! `/api/v1/services` and `/{service_type}/schema`: what can be asked for.

use serde::Serialize;
use serde_json::{Value, json};
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
    /// Same as `service_type`, under the name used by the former monolith.
    #[serde(rename = "type")]
    kind: JobService,
    /// Models that a request may name, for whisper, stable_diffusion and llm_inference.
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<&'static str>>,
    /// Codecs that a request may name, for ffmpeg.
    #[serde(skip_serializing_if = "Option::is_none")]
    codecs: Option<Vec<&'static str>>,
    /// Engines that a request may name, for blender.
    #[serde(skip_serializing_if = "Option::is_none")]
    engines: Option<Vec<&'static str>>,
    /// What the smallest request asks of a miner.
    constraints: ServiceNeeds,
}

/// What a service asks of a miner at least.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct ServiceNeeds {
    /// Maker of the GPU; `any`: none is asked.
    gpu: &'static str,
    /// Memory of the GPU in GB.
    min_vram_gb: u64,
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
        kind: service,
        models: choices(service, "model"),
        codecs: choices(service, "codec"),
        engines: choices(service, "engine"),
        constraints: service_needs(service),
    };
    JsonBody(ServiceList { services: JobService::ALL.map(document).into() })
}

fn service_needs(service: JobService) -> ServiceNeeds {
    let (gpu, min_vram_gb) = match service {
        JobService::Whisper => ("nvidia", 1),
        JobService::StableDiffusion => ("nvidia", 4),
        JobService::LlmInference => ("nvidia", 8),
        JobService::Ffmpeg => ("any", 0),
        JobService::Blender => ("any", 4),
    };
    ServiceNeeds { gpu, min_vram_gb }
}

/// The values that a member of a service's requests may have, by their schema; null: it has no such member, or takes other values.
fn choices(service: JobService, member: &str) -> Option<Vec<&'static str>> {
    let schema = am_jobs::service_schema(service);
    let mut found = schema.pointer(&format!("/properties/{member}"))?;
    if let Some(elsewhere) = found.get("$ref").and_then(Value::as_str) {
        found = schema.pointer(elsewhere.strip_prefix('#')?)?;
    }
    let each = found.get("oneOf").and_then(Value::as_array);
    let single = |choice: &'static Value| choice.get("const").into_iter().chain(enumerated(choice)).collect::<Vec<_>>();
    let values =
        each.map_or_else(|| enumerated(found).collect(), |each| each.iter().flat_map(single).collect::<Vec<_>>());
    let names: Vec<&str> = values.into_iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then_some(names)
}

fn enumerated(schema: &'static Value) -> impl Iterator<Item = &'static Value> {
    schema.get("enum").and_then(Value::as_array).into_iter().flatten()
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
/// Requests are checked against this schema. It has two members more, as in the monolith: `service_type`, and `schema`, the schema
/// once more; validators leave them aside. Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/services/{service_type}/schema", operation_id = "services_get_schema", tag = "services",
    security(()),
    params(("service_type" = JobService, Path, description = "Name of the service")),
    responses((status = 200, body = Object, description = "The JSON Schema (draft 2020-12) of the service's requests"))
)]
pub async fn get_service_schema(PathParams(service): PathParams<JobService>) -> Result<JsonBody<Value>, ApiError> {
    let schema = am_jobs::service_schema(service);
    let mut answer = schema.clone();
    if let Some(members) = answer.as_object_mut() {
        members.insert("service_type".to_owned(), json!(service));
        members.insert("schema".to_owned(), schema.clone());
    }
    Ok(JsonBody(answer))
}
