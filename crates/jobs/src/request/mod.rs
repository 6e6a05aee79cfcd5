//! Requests for services. Each type lists a request's members with their bounds. The JSON Schema shown to clients is
//! generated from it, and requests are validated against that schema, so that the two can't differ.

mod address;
mod args;
mod blender;
mod check;
mod ffmpeg;
mod llm;
mod stable_diffusion;
#[cfg(test)]
mod tests;
mod whisper;

use serde_json::{Value, json};

/// Use the JSON Schema of the request in the OpenAPI document.
macro_rules! shown {
    ($request:ident) => {
        impl utoipa::PartialSchema for $request {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                super::check::openapi::<Self>()
            }
        }
        impl utoipa::ToSchema for $request {}
    };
}
use shown;

pub use self::{
    blender::BlenderRequest, ffmpeg::FfmpegRequest, llm::LlmRequest, stable_diffusion::StableDiffusionRequest,
    whisper::WhisperRequest,
};
use super::{
    error::{Error, Result},
    model::Service,
};
use am_core::validation::Violation;

/// Variant of a request, given by its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The request as sent by the client.
    Plain,
    /// Speech to English text.
    Translate,
    /// Image to image.
    Img2img,
    /// Incremental delivery of generated text.
    Stream,
}

impl Variant {
    /// Member that the variant sets, whatever the client sent.
    fn forces(self) -> Option<(&'static str, Value)> {
        match self {
            Self::Plain => None,
            Self::Translate => Some(("task", json!("translate"))),
            Self::Img2img => Some(("mode", json!("img2img"))),
            Self::Stream => Some(("stream", json!(true))),
        }
    }
}

/// Rules of a request beyond its schema.
trait Hazards {
    /// Faults that make a request unsafe for miners. `private` permits addresses outside the public Internet.
    fn hazards(&self, private: bool) -> Vec<Violation>;
}

/// Self-contained JSON Schema of a service's requests.
pub fn schema(service: Service) -> &'static Value {
    match service {
        Service::Whisper => check::schema::<WhisperRequest>(),
        Service::StableDiffusion => check::schema::<StableDiffusionRequest>(),
        Service::LlmInference => check::schema::<LlmRequest>(),
        Service::Ffmpeg => check::schema::<FfmpegRequest>(),
        Service::Blender => check::schema::<BlenderRequest>(),
    }
}

/// Validate a request and fill in its defaults, as the miner gets it. `private` permits addresses of hosts outside the
/// public Internet.
///
/// # Errors
/// Returns [`Error::Invalid`] with all faults.
pub fn read(service: Service, variant: Variant, body: Value, private: bool) -> Result<Value> {
    let mut request = match service {
        Service::Whisper => check::read::<WhisperRequest>(body, private),
        Service::StableDiffusion => check::read::<StableDiffusionRequest>(body, private),
        Service::LlmInference => check::read::<LlmRequest>(body, private),
        Service::Ffmpeg => check::read::<FfmpegRequest>(body, private),
        Service::Blender => check::read::<BlenderRequest>(body, private),
    }
    .map_err(Error::Invalid)?;
    if let Some((name, value)) = variant.forces() {
        request[name] = value;
    }
    Ok(request)
}

/// Safety faults of a request that was not validated by [`read`] and may lack members or have others.
pub fn hazards(service: Service, request: &Value, private: bool) -> Vec<Violation> {
    let addresses: &[&str] = match service {
        Service::Whisper => &["audio_url"],
        Service::StableDiffusion => &["image_url"],
        Service::LlmInference => &[],
        Service::Ffmpeg => &["input_url"],
        Service::Blender => &["blend_file_url"],
    };
    let mut faults: Vec<Violation> = Vec::new();
    for name in addresses {
        faults.extend(request.get(*name).and_then(Value::as_str).and_then(|url| address::fault(name, url, private)));
    }
    let known = match service {
        Service::Ffmpeg => args::FFMPEG,
        Service::Blender => args::BLENDER,
        _ => return faults,
    };
    match request.get("custom_args") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match texts {
                Some(texts) => faults.extend(args::faults(known, &texts)),
                None => faults.push(Violation::new("custom_args", "Should be a list of strings")),
            }
        }
        Some(_) => faults.push(Violation::new("custom_args", "Should be a list of strings")),
    }
    faults
}

// Defaults, in the form that serde and the schema generator take: functions named by a path.

fn whole<const N: u32>() -> u32 {
    N
}

fn tenths<const N: u32>() -> f64 {
    f64::from(N) / 10.0
}

fn yes() -> bool {
    true
}
