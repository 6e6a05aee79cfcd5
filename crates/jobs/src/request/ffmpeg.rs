//! Requests for transcoding with ffmpeg.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SafetyRules, address, command_arguments, default_integer, impl_openapi_schema};
use am_core::validation::Violation;

/// Codec of the video stream.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FfmpegCodec {
    #[default]
    H264,
    H265,
    Vp9,
    Av1,
}

/// Preset of the encoder, from fast with large files to slow with small files.
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

/// Request for transcoding a media file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FfmpegRequest {
    /// Address of the input: http, https or ipfs.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub input_url: String,
    /// Container format, by its usual file extension; default mp4.
    #[serde(default = "default_output_format")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9]{1,10}$"))]
    pub output_format: String,
    /// Video codec, default h264.
    #[serde(default)]
    pub codec: FfmpegCodec,
    /// Preset of the encoder, from fast with large files to slow with small files; default medium.
    #[serde(default)]
    pub preset: FfmpegPreset,
    /// Constant rate factor from 0 (lossless) to 51 (worst), default 23.
    #[serde(default = "default_integer::<23>")]
    #[schemars(range(min = 0, max = 51))]
    pub crf: u32,
    /// Width and height in pixels, such as `1280x720`; default: those of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]+x[0-9]+$"))]
    pub resolution: Option<String>,
    /// Video bit rate in bits per second, such as `2500k` or `5M`; default: chosen by the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]+[kM]?$"))]
    pub bitrate: Option<String>,
    /// Frames per second; default: those of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 120))]
    pub fps: Option<u32>,
    /// Audio codec, default aac.
    #[serde(default = "default_audio_codec")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,32}$"))]
    pub audio_codec: String,
    /// Audio bit rate in bits per second, default `128k`.
    #[serde(default = "default_audio_bitrate")]
    #[schemars(length(max = 20), regex(pattern = r"^[0-9]+[kM]?$"))]
    pub audio_bitrate: String,
    /// Further command line arguments, from the list in docs/SERVICES.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 500)))]
    pub custom_args: Option<Vec<String>>,
}

fn default_output_format() -> String {
    "mp4".to_owned()
}

fn default_audio_codec() -> String {
    "aac".to_owned()
}

fn default_audio_bitrate() -> String {
    "128k".to_owned()
}

impl SafetyRules for FfmpegRequest {
    fn hazards(&self, private: bool) -> Vec<Violation> {
        let mut faults: Vec<Violation> =
            address::address_fault("input_url", &self.input_url, private).into_iter().collect();
        faults.extend(command_arguments::argument_faults(
            command_arguments::FFMPEG_FLAGS,
            self.custom_args.as_deref().unwrap_or_default(),
        ));
        faults
    }
}

impl_openapi_schema!(FfmpegRequest);
