//! Rendering.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hazards, address, args, shown, whole, yes};
use crate::error::{Fault, Place};

/// What renders.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlenderEngine {
    #[default]
    Cycles,
    Eevee,
    EeveeNext,
}

/// The files that come of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlenderFormat {
    #[default]
    Png,
    Jpg,
    Exr,
    Bmp,
    Tiff,
}

/// Rendering. Frames are Blender's, which ends at 1048574.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BlenderRequest {
    /// Where the miner gets the scene: http, https or ipfs.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub blend_file_url: String,
    /// What renders.
    #[serde(default)]
    pub engine: BlenderEngine,
    /// The files that come of it.
    #[serde(default)]
    pub format: BlenderFormat,
    /// Width of an image.
    #[serde(default = "whole::<1920>")]
    #[schemars(range(min = 1, max = 65_536))]
    pub resolution_x: u32,
    /// Height of an image.
    #[serde(default = "whole::<1080>")]
    #[schemars(range(min = 1, max = 65_536))]
    pub resolution_y: u32,
    /// Of that width and height.
    #[serde(default = "whole::<100>")]
    #[schemars(range(min = 1, max = 100))]
    pub resolution_percentage: u32,
    /// Samples a pixel.
    #[serde(default = "whole::<128>")]
    #[schemars(range(min = 1, max = 10_000))]
    pub samples: u32,
    /// The first frame.
    #[serde(default = "whole::<1>")]
    #[schemars(range(min = 1, max = 1_048_574))]
    pub frame_start: u32,
    /// The last frame.
    #[serde(default = "whole::<1>")]
    #[schemars(range(min = 1, max = 1_048_574))]
    pub frame_end: u32,
    /// From one frame to the next.
    #[serde(default = "whole::<1>")]
    #[schemars(range(min = 1, max = 1_048_574))]
    pub frame_step: u32,
    /// Take the noise out.
    #[serde(default = "yes")]
    pub denoise: bool,
    /// No background.
    #[serde(default)]
    pub transparent: bool,
    /// More arguments, of a list that docs/SERVICES.md has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 500)))]
    pub custom_args: Option<Vec<String>>,
}

impl Hazards for BlenderRequest {
    fn hazards(&self, private: bool) -> Vec<Fault> {
        let mut faults: Vec<Fault> =
            address::fault("blend_file_url", &self.blend_file_url, private).into_iter().collect();
        if self.frame_end < self.frame_start {
            faults.push(Fault::value([Place::from("frame_end")], "Should not be before frame_start"));
        }
        faults.extend(args::faults(args::BLENDER, self.custom_args.as_deref().unwrap_or_default()));
        faults
    }
}

shown!(BlenderRequest);
