//! Requests for text generation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SafetyRules, default_integer, default_tenths, impl_openapi_schema};
use am_core::validation::Violation;

/// Language models that miners run.
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

/// Request for text generation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LlmRequest {
    /// Model that generates the text.
    pub model: LlmModel,
    /// Text to continue.
    #[schemars(length(min = 1, max = 10_000))]
    pub prompt: String,
    /// Largest number of tokens to generate, default 256.
    #[serde(default = "default_integer::<256>")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_tokens: u32,
    /// Sampling temperature from 0 to 2, default 0.7.
    #[serde(default = "default_tenths::<7>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: f64,
    /// Nucleus sampling: cumulative probability of the tokens considered, default 0.9.
    #[serde(default = "default_tenths::<9>")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f64,
    /// Number of the most likely tokens considered, default 40; 0 considers all.
    #[serde(default = "default_integer::<40>")]
    #[schemars(range(min = 0, max = 100))]
    pub top_k: u32,
    /// Penalty for tokens that occurred before, default 1.1; values over 1 make them less likely.
    #[serde(default = "default_tenths::<11>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub repetition_penalty: f64,
    /// Texts at which the generation stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 1000)))]
    pub stop_sequences: Option<Vec<String>>,
    /// Whether the miner delivers the text incrementally, default false.
    #[serde(default)]
    pub stream: bool,
}

impl SafetyRules for LlmRequest {
    fn hazards(&self, _: bool) -> Vec<Violation> {
        Vec::new()
    }
}

impl_openapi_schema!(LlmRequest);
