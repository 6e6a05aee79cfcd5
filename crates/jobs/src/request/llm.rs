//! Language models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hazards, shown, tenths, whole};
use crate::error::Fault;

/// A model that miners run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub enum LlmModel {
    #[serde(rename = "llama-7b")]
    Llama7b,
    #[serde(rename = "llama-13b")]
    Llama13b,
    #[serde(rename = "llama-70b")]
    Llama70b,
    #[serde(rename = "mistral-7b")]
    Mistral7b,
    #[serde(rename = "mixtral-8x7b")]
    Mixtral8x7b,
    #[serde(rename = "codellama-7b")]
    Codellama7b,
    #[serde(rename = "codellama-13b")]
    Codellama13b,
    #[serde(rename = "codellama-34b")]
    Codellama34b,
}

/// A prompt for a language model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LlmRequest {
    /// The model.
    pub model: LlmModel,
    /// What it goes on from.
    #[schemars(length(min = 1, max = 10_000))]
    pub prompt: String,
    /// Tokens at most.
    #[serde(default = "whole::<256>")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_tokens: u32,
    /// Sampling temperature.
    #[serde(default = "tenths::<7>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: f64,
    /// Of the likeliest tokens, those that have this share of the probability.
    #[serde(default = "tenths::<9>")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// So many of the likeliest tokens; 0: all.
    #[serde(default = "whole::<40>")]
    #[schemars(range(min = 0, max = 100))]
    pub top_k: u32,
    /// Over 1: what was said is less likely.
    #[serde(default = "tenths::<11>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub repetition_penalty: f64,
    /// Where it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 1000)))]
    pub stop_sequences: Option<Vec<String>>,
    /// Whether the miner is to deliver piece by piece.
    #[serde(default)]
    pub stream: bool,
}

impl Hazards for LlmRequest {
    fn hazards(&self, _: bool) -> Vec<Fault> {
        Vec::new()
    }
}

shown!(LlmRequest);
