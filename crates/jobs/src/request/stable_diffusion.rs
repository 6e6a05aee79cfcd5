//! Requests for image generation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SafetyRules, address, default_integer, default_tenths, default_true, impl_openapi_schema};
use am_core::validation::Violation;

/// Image generation models.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum SdModel {
    #[default]
    #[serde(rename = "stable-diffusion-1.5")]
    V15,
    #[serde(rename = "stable-diffusion-2.1")]
    V21,
    #[serde(rename = "stable-diffusion-xl")]
    Xl,
    #[serde(rename = "sdxl-turbo")]
    Turbo,
    #[serde(rename = "sdxl-refiner")]
    Refiner,
}

/// Width and height of an image in pixels.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum SdSize {
    #[default]
    #[serde(rename = "512x512")]
    S512x512,
    #[serde(rename = "512x768")]
    S512x768,
    #[serde(rename = "768x512")]
    S768x512,
    #[serde(rename = "768x768")]
    S768x768,
    #[serde(rename = "768x1024")]
    S768x1024,
    #[serde(rename = "1024x768")]
    S1024x768,
    #[serde(rename = "1024x1024")]
    S1024x1024,
    #[serde(rename = "1024x1536")]
    S1024x1536,
    #[serde(rename = "1536x1024")]
    S1536x1024,
}

/// Random seed, for all images or for each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ImageSeed {
    /// Seed of the first image.
    One(#[schemars(range(min = -9_007_199_254_740_991_i64, max = 9_007_199_254_740_991_i64))] i64),
    /// Seed of each image.
    Each(
        #[schemars(length(max = 4), inner(range(min = -9_007_199_254_740_991_i64, max = 9_007_199_254_740_991_i64)))]
        Vec<i64>,
    ),
}

/// Request for generating images from text or from an image.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StableDiffusionRequest {
    /// Description of the image.
    #[schemars(length(min = 1, max = 1000))]
    pub prompt: String,
    /// Description of what the image must not show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub negative_prompt: Option<String>,
    /// Image generation model.
    #[serde(default)]
    pub model: SdModel,
    /// Width and height in pixels, default 512x512.
    #[serde(default)]
    pub size: SdSize,
    /// Number of images, default 1.
    #[serde(default = "default_integer::<1>")]
    #[schemars(range(min = 1, max = 4))]
    pub num_images: u32,
    /// Number of denoising steps, default 20.
    #[serde(default = "default_integer::<20>")]
    #[schemars(range(min = 1, max = 100))]
    pub num_inference_steps: u32,
    /// Strength with which the prompt is followed, default 7.5.
    #[serde(default = "default_tenths::<75>")]
    #[schemars(range(min = 1.0, max = 20.0))]
    pub guidance_scale: f64,
    /// Seed that makes an image reproducible; default: random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<ImageSeed>,
    /// Class name of the scheduler, default DPMSolverMultistepScheduler.
    #[serde(default = "default_scheduler")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_]*$"))]
    pub scheduler: String,
    /// Whether images that the safety checker rejects are withheld, default true.
    #[serde(default = "default_true")]
    pub enable_safety_checker: bool,
    /// Name of a LoRA, or its address: http, https or ipfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^((?i:https?|ipfs)://.+|[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?)$")
    )]
    pub lora: Option<String>,
    /// Weight of the LoRA, default 1.0.
    #[serde(default = "default_tenths::<10>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub lora_scale: f64,
    /// Address of the initial image, for image to image: http, https or ipfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub image_url: Option<String>,
    /// Share of the initial image that is changed, for image to image, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub strength: Option<f64>,
}

fn default_scheduler() -> String {
    "DPMSolverMultistepScheduler".to_owned()
}

impl SafetyRules for StableDiffusionRequest {
    fn hazards(&self, private: bool) -> Vec<Violation> {
        let lora = self.lora.as_deref().filter(|lora| lora.contains("://"));
        let lora = lora.and_then(|lora| address::address_fault("lora", lora, private));
        let image = self.image_url.as_deref().and_then(|url| address::address_fault("image_url", url, private));
        lora.into_iter().chain(image).collect()
    }
}

impl_openapi_schema!(StableDiffusionRequest);
