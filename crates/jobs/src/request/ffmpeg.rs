//! Transcoding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hazards, address, args, shown, whole};
use crate::error::Fault;

/// The codec of the video.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FfmpegCodec {
    #[default]
    H264,
    H265,
    Vp9,
    Av1,
}

/// Fast and large, or slow and small.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FfmpegPreset {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Fast,
    #[default]
    Medium,
    Slow,
    Slower,
    Veryslow,
}

/// Transcoding.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FfmpegRequest {
    /// Where the miner gets the input: http, https or ipfs.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub input_url: String,
    /// The container, by its usual extension.
    #[serde(default = "mp4")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9]{1,10}$"))]
    pub output_format: String,
    /// The codec of the video.
    #[serde(default)]
    pub codec: FfmpegCodec,
    /// Fast and large, or slow and small.
    #[serde(default)]
    pub preset: FfmpegPreset,
    /// Constant rate factor: 0 is lossless, 51 the worst.
    #[serde(default = "whole::<23>")]
    #[schemars(range(min = 0, max = 51))]
    pub crf: u32,
    /// Width and height: `1280x720`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]+x[0-9]+$"))]
    pub resolution: Option<String>,
    /// Of the video: `2500k`, `5M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]+[kM]?$"))]
    pub bitrate: Option<String>,
    /// Frames a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 120))]
    pub fps: Option<u32>,
    /// The codec of the sound.
    #[serde(default = "aac")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,32}$"))]
    pub audio_codec: String,
    /// Of the sound.
    #[serde(default = "audio_bitrate")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]+[kM]?$"))]
    pub audio_bitrate: String,
    /// More arguments, of a list that docs/SERVICES.md has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 500)))]
    pub custom_args: Option<Vec<String>>,
}

fn mp4() -> String {
    "mp4".to_owned()
}

fn aac() -> String {
    "aac".to_owned()
}

fn audio_bitrate() -> String {
    "128k".to_owned()
}

impl Hazards for FfmpegRequest {
    fn hazards(&self, private: bool) -> Vec<Fault> {
        let mut faults: Vec<Fault> = address::fault("input_url", &self.input_url, private).into_iter().collect();
        faults.extend(args::faults(args::FFMPEG, self.custom_args.as_deref().unwrap_or_default()));
        faults
    }
}

shown!(FfmpegRequest);
