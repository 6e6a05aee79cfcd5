//! Speech to text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hazards, address, shown, tenths, whole, yes};
use crate::error::Fault;

/// A model of Whisper, the larger the better and the slower.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhisperModel {
    /// 39 million parameters.
    Tiny,
    /// 74 million.
    #[default]
    Base,
    /// 244 million.
    Small,
    /// 769 million.
    Medium,
    /// 1550 million.
    Large,
    /// The second of that size.
    LargeV2,
    /// The third.
    LargeV3,
}

/// The language that is spoken.
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

/// What is written down.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhisperTask {
    /// What is said.
    #[default]
    Transcribe,
    /// What it means in English.
    Translate,
}

/// Speech to text.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WhisperRequest {
    /// Where the miner gets the recording: http, https or ipfs.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub audio_url: String,
    /// The model.
    #[serde(default)]
    pub model: WhisperModel,
    /// The language; auto: found out.
    #[serde(default)]
    pub language: WhisperLanguage,
    /// Transcribe or translate.
    #[serde(default)]
    pub task: WhisperTask,
    /// Sampling temperature.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub temperature: f64,
    /// Candidates where it is sampled.
    #[serde(default = "whole::<5>")]
    #[schemars(range(min = 1, max = 10))]
    pub best_of: u32,
    /// Beams where it is not.
    #[serde(default = "whole::<5>")]
    #[schemars(range(min = 1, max = 10))]
    pub beam_size: u32,
    /// Patience of the beam search.
    #[serde(default = "tenths::<10>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub patience: f64,
    /// Tokens that are never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), inner(range(min = -1, max = 1_000_000)))]
    pub suppress_tokens: Option<Vec<i64>>,
    /// What is taken to have been said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10_000))]
    pub initial_prompt: Option<String>,
    /// Whether each window knows the text of the one before.
    #[serde(default = "yes")]
    pub condition_on_previous_text: bool,
    /// Compute in half precision.
    #[serde(default = "yes")]
    pub fp16: bool,
    /// Report more on the way.
    #[serde(default)]
    pub verbose: bool,
}

impl Hazards for WhisperRequest {
    fn hazards(&self, private: bool) -> Vec<Fault> {
        address::fault("audio_url", &self.audio_url, private).into_iter().collect()
    }
}

shown!(WhisperRequest);
