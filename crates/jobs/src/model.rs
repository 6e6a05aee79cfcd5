//! Model of a job: a service, a request, the requirements on a miner, and what became of it.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use am_core::ids::{JobId, PrincipalId};
use am_db::{
    codec::{JsonText, Timestamp},
    owner::PrincipalName,
    page::TimeSpan,
    principal::Principal,
};

/// Highest frame number that Blender supports.
const MAX_BLENDER_FRAME: u64 = 1_048_574;

/// Services offered by miners, under the names that the coordinator stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ServiceType)]
pub enum JobService {
    /// Speech to text.
    Whisper,
    /// Text to image.
    StableDiffusion,
    /// Text generation with large language models.
    LlmInference,
    /// Transcoding of video and audio.
    Ffmpeg,
    /// Rendering of 3D scenes.
    Blender,
}

impl JobService {
    /// All services in order of declaration.
    pub const ALL: [Self; 5] = [Self::Whisper, Self::StableDiffusion, Self::LlmInference, Self::Ffmpeg, Self::Blender];

    /// The name that the coordinator stores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whisper => "whisper",
            Self::StableDiffusion => "stable_diffusion",
            Self::LlmInference => "llm_inference",
            Self::Ffmpeg => "ffmpeg",
            Self::Blender => "blender",
        }
    }

    /// Parse the coordinator's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// Default time to live of a job of this service (contract, 'Services').
    pub fn ttl(self, request: &Value) -> Duration {
        Duration::from_secs(match self {
            Self::Whisper => 900,
            Self::StableDiffusion => 600,
            Self::LlmInference => 300,
            Self::Ffmpeg => 1800,
            Self::Blender => {
                let frame = |name| request.get(name).and_then(Value::as_u64);
                let (first, last) = (frame("frame_start").unwrap_or(1), frame("frame_end").unwrap_or(1));
                let frames = last.min(MAX_BLENDER_FRAME).saturating_sub(first) + 1;
                (frames * 30).max(600)
            }
        })
    }
}

/// GPU memory in GB that a language model needs (contract, 'Services'); `None` for a model that miners are not known to
/// run.
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

/// Requirements on a miner. A member that is left out is not required.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MinerConstraints(pub Map<String, Value>);

impl MinerConstraints {
    /// Requirements of `service` for `request` (contract, 'Services'). `gpu: any` can never be met, so it is left out.
    pub fn for_request(service: JobService, request: &Value) -> Self {
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str, default: f64| request.get(name).and_then(Value::as_f64).unwrap_or(default);
        let document = match service {
            JobService::Whisper => {
                let vram = match text("model") {
                    "tiny" | "base" | "" => 1,
                    "small" => 2,
                    "medium" => 5,
                    _ => 10,
                };
                json!({"models": ["whisper"], "gpu": "nvidia", "min_vram_gb": vram})
            }
            JobService::StableDiffusion => {
                let model = text("model");
                let small = model.is_empty() || model.contains("1.5") || model.contains("2.1");
                let vram = if small { 4 } else { 8 };
                json!({"models": ["stable-diffusion"], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": vram})
            }
            JobService::LlmInference => {
                let mut needs = json!({"models": ["llm"], "gpu": "nvidia", "cuda": "11.8"});
                if let Some(vram) = llm_vram_gb(text("model")) {
                    needs["min_vram_gb"] = vram.into();
                }
                needs
            }
            JobService::Ffmpeg if matches!(text("codec"), "" | "h264" | "h265") => {
                json!({"models": ["ffmpeg"], "gpu": "nvidia", "min_vram_gb": 4})
            }
            JobService::Ffmpeg => json!({"models": ["ffmpeg"]}),
            JobService::Blender => {
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

    /// Of these requirements, those that a miner can meet which announces its GPU by product name, its driver's version
    /// and the names of the models that it has loaded: the GPU memory, and `model` where a miner announces that name.
    pub fn matching(mut self, request: &Value, announced: &HashSet<String>) -> Self {
        self.0.retain(|name, _| !matches!(name.as_str(), "gpu" | "cuda" | "models"));
        if let Some(model) = request.get("model").and_then(Value::as_str).filter(|model| announced.contains(*model)) {
            self.0.insert("models".to_owned(), json!([model]));
        }
        self
    }
}

/// A job to be put into the queue.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Id of the job: 32 hex digits.
    pub id: JobId,
    /// Principal of the client; never an API key.
    pub client_id: PrincipalId,
    /// Id under which the coordinator knows the client, by which the client finds the job there; its principal where the
    /// coordinator does not know it.
    pub coordinator_client: String,
    /// Service that is requested.
    pub service: JobService,
    /// Request, as the miner will read it.
    pub request: Value,
    /// Requirements on the miner.
    pub constraints: MinerConstraints,
    /// Time of submission.
    pub requested_at: DateTime<Utc>,
    /// Time to live in the queue.
    pub ttl: Duration,
}

/// State of a job, in the coordinator's vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// Waiting for a miner.
    Queued,
    /// Taken by a miner.
    Running,
    /// Completed with a result.
    Completed,
    /// Given up by a miner.
    Failed,
    /// Cancelled by its client.
    Canceled,
    /// Expired, because no miner took it in time.
    Expired,
}

impl JobState {
    /// The name that the coordinator stores.
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

    /// The name in lower case, for events and audit entries.
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

    /// Parse the coordinator's name, in any case.
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

    /// Whether the state is final.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job in the coordinator's table.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// Id of the job.
    pub id: JobId,
    /// Client as stored: a principal, the coordinator's id of it, or an API key in a row that the coordinator wrote.
    pub stored_client: String,
    /// Principal of the client that ordered the job here; `None` for a job of a step, or of the coordinator's.
    pub ordered_by: Option<PrincipalId>,
    /// State; `None` when this service does not know the stored one.
    pub state: Option<JobState>,
    /// State as stored.
    pub status: String,
    /// Service; `None` when this service does not know the stored one.
    pub service: Option<JobService>,
    /// Service as stored; `None` when the payload names none.
    pub service_type: Option<String>,
    /// Time to live in seconds.
    pub ttl_seconds: i64,
    /// Time of submission.
    pub requested_at: Timestamp,
    /// Time at which the job expires if no miner has taken it.
    pub expires_at: Timestamp,
    /// Id of the miner that took the job; `None` before.
    pub miner: Option<String>,
    /// Reason of a failure, cancellation or expiry; `None` otherwise.
    pub error: Option<String>,
    /// Payment status as written by the coordinator; `None` without a payment.
    pub payment_status: Option<String>,
    /// Time when the job was first seen running; only for jobs submitted by clients.
    pub running_at: Option<Timestamp>,
    /// Time when the end of the job was noticed; only for jobs submitted by clients.
    pub ended_at: Option<Timestamp>,
    /// Service and request, as the miner reads them.
    pub payload: JsonText,
    /// Requirements on the miner.
    pub constraints: JsonText,
    /// Result delivered by the miner.
    pub result: JsonText,
    /// Receipt of the miner.
    pub receipt: JsonText,
}

impl JobRecord {
    /// Whether the job has ended.
    pub fn is_final(&self) -> bool {
        self.state.is_some_and(JobState::is_final)
    }

    /// Principal of the client; never an API key.
    pub fn client(&self) -> PrincipalId {
        self.ordered_by.clone().unwrap_or_else(|| PrincipalName::from_stored(&self.stored_client).as_str().into())
    }

    /// The client as stored, where that may be an API key.
    pub(super) fn client_key(&self) -> Option<&str> {
        self.ordered_by.is_none().then_some(self.stored_client.as_str())
    }
}

/// Filter for a list of jobs. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// States of the jobs; empty: any.
    pub states: Vec<JobState>,
    /// When the jobs ended, as this service noticed.
    pub ended: TimeSpan,
    /// Service that is requested.
    pub service: Option<JobService>,
}

/// A caller with the scope of its access.
#[derive(Clone, Debug)]
pub struct JobViewer {
    /// Principal of the caller.
    pub caller: Principal,
    /// Whether the caller may access the jobs of all clients, not only its own.
    pub all: bool,
}

impl JobViewer {
    /// Whether the caller may see a job.
    pub(super) fn may_see(&self, job: &JobRecord) -> bool {
        let ordered = job.ordered_by.as_ref().is_some_and(|client| self.caller.owns(client));
        self.all || ordered || self.caller.owns(&job.stored_client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_the_contracts() {
        let of = |service, request: Value| Value::Object(MinerConstraints::for_request(service, &request).0);
        assert_eq!(
            of(JobService::LlmInference, json!({"model": "mixtral-8x7b"})),
            json!({"models": ["llm"], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": 48})
        );
        assert_eq!(of(JobService::Whisper, json!({"model": "large-v3"}))["min_vram_gb"], 10);
        assert_eq!(of(JobService::Ffmpeg, json!({"codec": "vp9"})), json!({"models": ["ffmpeg"]}));
        let blender = json!({"engine": "cycles", "samples": 1000, "resolution_x": 1920, "resolution_y": 1080});
        assert_eq!(of(JobService::Blender, blender)["min_vram_gb"], 19);
        assert_eq!(
            of(JobService::Blender, json!({"engine": "eevee"})),
            json!({"models": ["blender"], "min_vram_gb": 4}),
            "gpu any can never be met"
        );
        let next = json!({"engine": "eevee-next", "samples": 1000, "resolution_x": 1920, "resolution_y": 1080});
        assert_eq!(of(JobService::Blender, next), json!({"models": ["blender"], "min_vram_gb": 19}));
        let sizes =
            [("stable-diffusion-1.5", 4), ("stable-diffusion-2.1", 4), ("stable-diffusion-xl", 8), ("sdxl-turbo", 8)];
        for (model, gb) in sizes {
            assert_eq!(of(JobService::StableDiffusion, json!({"model": model}))["min_vram_gb"], gb, "{model}");
        }
    }

    #[test]
    fn only_what_a_miner_announces_is_required_of_it() {
        let of = |request: Value, announced: &[&str]| {
            let needs = MinerConstraints::for_request(JobService::LlmInference, &request);
            Value::Object(needs.matching(&request, &announced.iter().map(|name| (*name).to_owned()).collect()).0)
        };
        let asked = || json!({"model": "llama-7b"});
        assert_eq!(of(asked(), &[]), json!({"min_vram_gb": 8}));
        assert_eq!(of(asked(), &["llm", "llama3.2:3b"]), json!({"min_vram_gb": 8}), "other names");
        assert_eq!(of(asked(), &["llama-7b"]), json!({"min_vram_gb": 8, "models": ["llama-7b"]}));
        assert_eq!(of(json!({"model": 7}), &["7"]), json!({}));
    }

    #[test]
    fn a_ttl_grows_with_the_frames() {
        assert_eq!(JobService::Blender.ttl(&json!({"frame_start": 1, "frame_end": 100})).as_secs(), 3000);
        assert_eq!(JobService::Blender.ttl(&json!({"frame_end": u64::MAX})).as_secs(), 30 * 1_048_574);
        assert_eq!(JobService::Blender.ttl(&json!({})).as_secs(), 600);
        assert_eq!(JobService::LlmInference.ttl(&json!({})).as_secs(), 300);
    }
}
