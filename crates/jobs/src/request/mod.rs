//! What clients ask of the services. Each type is a request's members with their bounds; the JSON Schema that clients are
//! shown is generated from it, and requests are checked against that schema, so that the two can't differ.

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

/// In the description of the API the request stands as its own schema has it.
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
    error::{Error, Fault, Place, Result},
    model::Service,
};

/// What a route makes of a request beside what the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Nothing.
    Plain,
    /// Speech to English text.
    Translate,
    /// An image from an image.
    Img2img,
    /// Words as they are found.
    Stream,
}

impl Variant {
    /// Members that the client's are overruled by.
    fn forces(self) -> Option<(&'static str, Value)> {
        match self {
            Self::Plain => None,
            Self::Translate => Some(("task", json!("translate"))),
            Self::Img2img => Some(("mode", json!("img2img"))),
            Self::Stream => Some(("stream", json!(true))),
        }
    }
}

/// A request's members beyond what their schema says.
trait Hazards {
    /// What no miner should be given.
    fn hazards(&self, private: bool) -> Vec<Fault>;
}

/// The schema of a service's requests, self-contained.
pub fn schema(service: Service) -> &'static Value {
    match service {
        Service::Whisper => check::schema::<WhisperRequest>(),
        Service::StableDiffusion => check::schema::<StableDiffusionRequest>(),
        Service::LlmInference => check::schema::<LlmRequest>(),
        Service::Ffmpeg => check::schema::<FfmpegRequest>(),
        Service::Blender => check::schema::<BlenderRequest>(),
    }
}

/// The request as the miner gets it: checked, with the defaults filled in. `private`: addresses of hosts that are not on
/// the Internet are taken.
///
/// # Errors
/// [`Error::Invalid`] with every fault.
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

/// What no miner should be given, in a request that came another way than [`read`] and may lack or add members.
pub fn hazards(service: Service, request: &Value, private: bool) -> Vec<Fault> {
    let addresses: &[&str] = match service {
        Service::Whisper => &["audio_url"],
        Service::StableDiffusion => &["image_url"],
        Service::LlmInference => &[],
        Service::Ffmpeg => &["input_url"],
        Service::Blender => &["blend_file_url"],
    };
    let mut faults: Vec<Fault> = Vec::new();
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
                None => faults.push(Fault::value([Place::from("custom_args")], "Should be a list of strings")),
            }
        }
        Some(_) => faults.push(Fault::value([Place::from("custom_args")], "Should be a list of strings")),
    }
    faults
}

// Defaults, as serde and the schema's generator take them: by a path.

fn whole<const N: u32>() -> u32 {
    N
}

fn tenths<const N: u32>() -> f64 {
    f64::from(N) / 10.0
}

fn yes() -> bool {
    true
}
