//! What a job is: a service, a request, and what a miner must have to take it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The last frame that Blender knows.
const LAST_FRAME: u64 = 1_048_574;

/// The services miners offer, by the names the coordinator stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ServiceType)]
pub enum Service {
    /// Speech to text.
    Whisper,
    /// Text to image.
    StableDiffusion,
    /// Large language models.
    LlmInference,
    /// Transcoding.
    Ffmpeg,
    /// Rendering.
    Blender,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 5] = [Self::Whisper, Self::StableDiffusion, Self::LlmInference, Self::Ffmpeg, Self::Blender];

    /// As the coordinator stores it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whisper => "whisper",
            Self::StableDiffusion => "stable_diffusion",
            Self::LlmInference => "llm_inference",
            Self::Ffmpeg => "ffmpeg",
            Self::Blender => "blender",
        }
    }

    /// From the coordinator's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// How long a job of this service may stay open (contract, 'Services').
    pub fn ttl(self, request: &Value) -> Duration {
        Duration::from_secs(match self {
            Self::Whisper => 900,
            Self::StableDiffusion => 600,
            Self::LlmInference => 300,
            Self::Ffmpeg => 1800,
            Self::Blender => {
                let frame = |name| request.get(name).and_then(Value::as_u64);
                let (first, last) = (frame("frame_start").unwrap_or(1), frame("frame_end").unwrap_or(1));
                let frames = last.min(LAST_FRAME).saturating_sub(first) + 1;
                (frames * 30).max(600)
            }
        })
    }
}

/// GPU memory in GB that a language model needs (contract, 'Services'); none: not a model miners are known to run.
pub fn llm_vram_gb(model: &str) -> Option<u32> {
    Some(match model {
        "llama-7b" | "mistral-7b" | "codellama-7b" => 8,
        "llama-13b" | "codellama-13b" => 16,
        "codellama-34b" => 32,
        "mixtral-8x7b" => 48,
        "llama-70b" => 64,
        _ => return None,
    })
}

/// What a miner must have. A member that is left out is not asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraints(pub Map<String, Value>);

impl Constraints {
    /// What `service` needs for `request` (contract, 'Services'); `gpu: any` can never be met, so it is left out.
    pub fn of(service: Service, request: &Value) -> Self {
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str, default: f64| request.get(name).and_then(Value::as_f64).unwrap_or(default);
        let document = match service {
            Service::Whisper => {
                let vram = match text("model") {
                    "tiny" | "base" | "" => 1,
                    "small" => 2,
                    "medium" => 5,
                    _ => 10,
                };
                json!({"models": ["whisper"], "gpu": "nvidia", "min_vram_gb": vram})
            }
            Service::StableDiffusion => {
                let model = text("model");
                let small = model.is_empty() || model.contains("1.5") || model.contains("2.1");
                let vram = if small { 4 } else { 8 };
                json!({"models": ["stable-diffusion"], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": vram})
            }
            Service::LlmInference => {
                let mut needs = json!({"models": ["llm"], "gpu": "nvidia", "cuda": "11.8"});
                if let Some(vram) = llm_vram_gb(text("model")) {
                    needs["min_vram_gb"] = vram.into();
                }
                needs
            }
            Service::Ffmpeg if matches!(text("codec"), "" | "h264" | "h265") => {
                json!({"models": ["ffmpeg"], "gpu": "nvidia", "min_vram_gb": 4})
            }
            Service::Ffmpeg => json!({"models": ["ffmpeg"]}),
            Service::Blender => {
                let weight = if text("engine") == "eevee" { 1.0 } else { number("samples", 128.0) / 100.0 };
                let pixels = number("resolution_x", 1920.0) * number("resolution_y", 1080.0);
                let vram = ((pixels * weight / 1_048_576.0) as u64).max(4);
                if matches!(text("engine"), "" | "cycles") {
                    json!({"models": ["blender"], "gpu": "nvidia", "min_vram_gb": vram})
                } else {
                    json!({"models": ["blender"], "min_vram_gb": vram})
                }
            }
        };
        match document {
            Value::Object(members) => Self(members),
            _ => Self::default(),
        }
    }
}

/// A job to be put into the queue.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// 32 hex digits.
    pub id: String,
    /// Who asks; a principal, never a key.
    pub client_id: String,
    /// What is asked for.
    pub service: Service,
    /// Its request, as the miner will read it.
    pub request: Value,
    /// Who may take it.
    pub constraints: Constraints,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// How long it stays open.
    pub ttl: Duration,
}

/// A job's state, in the coordinator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// Waits for a miner.
    Queued,
    /// A miner works on it.
    Running,
    /// Done, with a result.
    Completed,
    /// A miner gave up.
    Failed,
    /// Taken back.
    Canceled,
    /// Nobody took it in time.
    Expired,
}

impl JobState {
    /// As the coordinator stores it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Expired => "EXPIRED",
        }
    }

    /// In lower case, as events and entries name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// From the coordinator's word, in any case.
    pub fn from_stored(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "QUEUED" => Self::Queued,
            "RUNNING" => Self::Running,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "CANCELED" | "CANCELLED" => Self::Canceled,
            "EXPIRED" => Self::Expired,
            _ => return None,
        })
    }

    /// Will nothing happen any more?
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// A final state.
    pub state: JobState,
    /// What the miner delivered.
    pub result: Value,
    /// Why it failed.
    pub error: Option<String>,
    /// What it cost, where the job's receipt says so.
    pub price: Option<f64>,
    /// The miner's receipt, if there is one.
    pub receipt: Value,
    /// Who did it.
    pub miner: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_the_contracts() {
        let of = |service, request: Value| Value::Object(Constraints::of(service, &request).0);
        assert_eq!(
            of(Service::LlmInference, json!({"model": "mixtral-8x7b"})),
            json!({"models": ["llm"], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": 48})
        );
        assert_eq!(of(Service::Whisper, json!({"model": "large-v3"}))["min_vram_gb"], 10);
        assert_eq!(of(Service::Ffmpeg, json!({"codec": "vp9"})), json!({"models": ["ffmpeg"]}));
        let blender = json!({"engine": "cycles", "samples": 1000, "resolution_x": 1920, "resolution_y": 1080});
        assert_eq!(of(Service::Blender, blender)["min_vram_gb"], 19);
        assert_eq!(
            of(Service::Blender, json!({"engine": "eevee"})),
            json!({"models": ["blender"], "min_vram_gb": 4}),
            "gpu any can never be met"
        );
        let next = json!({"engine": "eevee-next", "samples": 1000, "resolution_x": 1920, "resolution_y": 1080});
        assert_eq!(of(Service::Blender, next), json!({"models": ["blender"], "min_vram_gb": 19}));
        let sizes =
            [("stable-diffusion-1.5", 4), ("stable-diffusion-2.1", 4), ("stable-diffusion-xl", 8), ("sdxl-turbo", 8)];
        for (model, gb) in sizes {
            assert_eq!(of(Service::StableDiffusion, json!({"model": model}))["min_vram_gb"], gb, "{model}");
        }
    }

    #[test]
    fn a_ttl_grows_with_the_frames() {
        assert_eq!(Service::Blender.ttl(&json!({"frame_start": 1, "frame_end": 100})).as_secs(), 3000);
        assert_eq!(Service::Blender.ttl(&json!({"frame_end": u64::MAX})).as_secs(), 30 * 1_048_574);
        assert_eq!(Service::Blender.ttl(&json!({})).as_secs(), 600);
        assert_eq!(Service::LlmInference.ttl(&json!({})).as_secs(), 300);
    }
}
