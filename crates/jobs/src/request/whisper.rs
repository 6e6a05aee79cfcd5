//! Requests for speech recognition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SafetyRules, address, default_integer, default_tenths, default_true, impl_openapi_schema};
use am_core::validation::Violation;

/// Whisper models; larger ones are better and slower.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhisperModel {
    /// Model with 39 million parameters.
    Tiny,
    /// Model with 74 million parameters.
    #[default]
    Base,
    /// Model with 244 million parameters.
    Small,
    /// Model with 769 million parameters.
    Medium,
    /// Model with 1550 million parameters.
    Large,
    /// Second version of the large model.
    LargeV2,
    /// Third version of the large model.
    LargeV3,
}

/// Language that is spoken.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhisperLanguage {
    #[default]
    Auto,
    En,
    Es,
    Fr,
    De,
    It,
    Pt,
    Ru,
    Ja,
    Ko,
    Zh,
}

/// Task of Whisper.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhisperTask {
    /// Transcription in the spoken language.
    #[default]
    Transcribe,
    /// Translation into English.
    Translate,
}

/// Request for speech recognition.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WhisperRequest {
    /// Address of the recording: http, https or ipfs.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub audio_url: String,
    /// Whisper model, default base.
    #[serde(default)]
    pub model: WhisperModel,
    /// Spoken language; auto (default) detects it.
    #[serde(default)]
    pub language: WhisperLanguage,
    /// Transcription (default) or translation into English.
    #[serde(default)]
    pub task: WhisperTask,
    /// Sampling temperature from 0 to 1, default 0.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub temperature: f64,
    /// Number of candidates when sampling, default 5.
    #[serde(default = "default_integer::<5>")]
    #[schemars(range(min = 1, max = 10))]
    pub best_of: u32,
    /// Number of beams when not sampling, default 5.
    #[serde(default = "default_integer::<5>")]
    #[schemars(range(min = 1, max = 10))]
    pub beam_size: u32,
    /// Patience factor of the beam search, default 1.0.
    #[serde(default = "default_tenths::<10>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub patience: f64,
    /// Ids of tokens that are never generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), inner(range(min = -1, max = 1_000_000)))]
    pub suppress_tokens: Option<Vec<i64>>,
    /// Text that is assumed to precede the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10_000))]
    pub initial_prompt: Option<String>,
    /// Whether each window is conditioned on the text of the previous one, default true.
    #[serde(default = "default_true")]
    pub condition_on_previous_text: bool,
    /// Whether half precision is used, default true.
    #[serde(default = "default_true")]
    pub fp16: bool,
    /// Whether progress is reported in more detail, default false.
    #[serde(default)]
    pub verbose: bool,
}

impl SafetyRules for WhisperRequest {
    fn hazards(&self, private: bool) -> Vec<Violation> {
        address::address_fault("audio_url", &self.audio_url, private).into_iter().collect()
    }
}

impl_openapi_schema!(WhisperRequest);
