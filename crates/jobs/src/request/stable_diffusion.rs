//! Text, or an image, to images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hazards, address, shown, tenths, whole, yes};
use crate::error::Fault;

/// A model.
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

/// Width and height of an image.
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

/// One seed, or one an image.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Seed {
    /// Of the first image.
    One(#[schemars(range(min = -9_007_199_254_740_991_i64, max = 9_007_199_254_740_991_i64))] i64),
    /// Of each.
    Each(
        #[schemars(length(max = 4), inner(range(min = -9_007_199_254_740_991_i64, max = 9_007_199_254_740_991_i64)))]
        Vec<i64>,
    ),
}

/// Text, or an image, to images.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StableDiffusionRequest {
    /// What is to be seen.
    #[schemars(length(min = 1, max = 1000))]
    pub prompt: String,
    /// What is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub negative_prompt: Option<String>,
    /// The model.
    #[serde(default)]
    pub model: SdModel,
    /// Width and height.
    #[serde(default)]
    pub size: SdSize,
    /// How many images.
    #[serde(default = "whole::<1>")]
    #[schemars(range(min = 1, max = 4))]
    pub num_images: u32,
    /// Steps of denoising.
    #[serde(default = "whole::<20>")]
    #[schemars(range(min = 1, max = 100))]
    pub num_inference_steps: u32,
    /// How closely the prompt is followed.
    #[serde(default = "tenths::<75>")]
    #[schemars(range(min = 1.0, max = 20.0))]
    pub guidance_scale: f64,
    /// Makes an image repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// The scheduler's class.
    #[serde(default = "scheduler")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_]*$"))]
    pub scheduler: String,
    /// Withhold images that the checker takes for unsafe.
    #[serde(default = "yes")]
    pub enable_safety_checker: bool,
    /// A LoRA's name, or where the miner gets it: http, https or ipfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^((?i:https?|ipfs)://.+|[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?)$")
    )]
    pub lora: Option<String>,
    /// Its weight.
    #[serde(default = "tenths::<10>")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub lora_scale: f64,
    /// img2img: where the miner gets the image to begin with: http, https or ipfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub image_url: Option<String>,
    /// img2img: how much of it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub strength: Option<f64>,
}

fn scheduler() -> String {
    "DPMSolverMultistepScheduler".to_owned()
}

impl Hazards for StableDiffusionRequest {
    fn hazards(&self, private: bool) -> Vec<Fault> {
        let lora = self.lora.as_deref().filter(|lora| lora.contains("://"));
        let lora = lora.and_then(|lora| address::fault("lora", lora, private));
        let image = self.image_url.as_deref().and_then(|url| address::fault("image_url", url, private));
        lora.into_iter().chain(image).collect()
    }
}

shown!(StableDiffusionRequest);
