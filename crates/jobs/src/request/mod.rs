//! Requests for services. Each type lists a request's members with their bounds. The JSON Schema shown to clients is
//! generated from it, and requests are validated against that schema, so that the two can't differ.

mod address;
mod blender;
mod command_arguments;
mod ffmpeg;
mod llm;
mod schema_validation;
mod stable_diffusion;
#[cfg(test)]
mod tests;
mod whisper;

use serde_json::{Value, json};

/// Use the JSON Schema of the request in the OpenAPI document.
macro_rules! impl_openapi_schema {
    ($request:ident) => {
        impl utoipa::PartialSchema for $request {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                super::schema_validation::openapi_schema::<Self>()
            }
        }
        impl utoipa::ToSchema for $request {}
    };
}
use impl_openapi_schema;

pub use self::{
    blender::BlenderRequest, ffmpeg::FfmpegRequest, llm::LlmRequest, stable_diffusion::StableDiffusionRequest,
    whisper::WhisperRequest,
};
use super::{
    error::{JobError, Result},
    model::JobService,
};
use am_core::validation::Violation;

/// Variant of a request, given by its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestVariant {
    /// The request as sent by the client.
    Plain,
    /// Speech to English text.
    Translate,
    /// Image to image.
    Img2img,
    /// Incremental delivery of generated text.
    Stream,
}

impl RequestVariant {
    /// Member that the variant sets, whatever the client sent.
    fn forced_member(self) -> Option<(&'static str, Value)> {
        match self {
            Self::Plain => None,
            Self::Translate => Some(("task", json!("translate"))),
            Self::Img2img => Some(("mode", json!("img2img"))),
            Self::Stream => Some(("stream", json!(true))),
        }
    }
}

/// Rules of a request beyond its schema.
trait SafetyRules {
    /// Faults that make a request unsafe for miners. `private` permits addresses outside the public Internet.
    fn hazards(&self, private: bool) -> Vec<Violation>;
}

/// Self-contained JSON Schema of a service's requests.
pub fn service_schema(service: JobService) -> &'static Value {
    match service {
        JobService::Whisper => schema_validation::request_schema::<WhisperRequest>(),
        JobService::StableDiffusion => schema_validation::request_schema::<StableDiffusionRequest>(),
        JobService::LlmInference => schema_validation::request_schema::<LlmRequest>(),
        JobService::Ffmpeg => schema_validation::request_schema::<FfmpegRequest>(),
        JobService::Blender => schema_validation::request_schema::<BlenderRequest>(),
    }
}

/// Validate a request and fill in its defaults, as the miner gets it. `private` permits addresses of hosts outside the
/// public Internet.
///
/// # Errors
/// Returns [`JobError::Invalid`] with all faults.
pub fn validate_request(service: JobService, variant: RequestVariant, body: Value, private: bool) -> Result<Value> {
    let mut request = match service {
        JobService::Whisper => schema_validation::validate_request::<WhisperRequest>(body, private),
        JobService::StableDiffusion => schema_validation::validate_request::<StableDiffusionRequest>(body, private),
        JobService::LlmInference => schema_validation::validate_request::<LlmRequest>(body, private),
        JobService::Ffmpeg => schema_validation::validate_request::<FfmpegRequest>(body, private),
        JobService::Blender => schema_validation::validate_request::<BlenderRequest>(body, private),
    }
    .map_err(JobError::Invalid)?;
    if let Some((name, value)) = variant.forced_member() {
        request[name] = value;
    }
    Ok(request)
}

// Defaults, in the form that serde and the schema generator take: functions named by a path.

fn default_integer<const N: u32>() -> u32 {
    N
}

fn default_tenths<const N: u32>() -> f64 {
    f64::from(N) / 10.0
}

fn default_true() -> bool {
    true
}
