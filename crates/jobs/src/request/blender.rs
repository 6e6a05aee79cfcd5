//! Requests for rendering with Blender.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SafetyRules, address, command_arguments, default_integer, default_true, impl_openapi_schema};
use am_core::validation::Violation;

/// Render engine of Blender.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlenderEngine {
    #[default]
    Cycles,
    Eevee,
    EeveeNext,
}

/// Format of the rendered images.
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

/// Request for rendering a Blender scene. Frame numbers end at 1048574, Blender's highest.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BlenderRequest {
    /// Address of the scene file: http, https or ipfs.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(?i:https?|ipfs)://"))]
    pub blend_file_url: String,
    /// Render engine, default cycles.
    #[serde(default)]
    pub engine: BlenderEngine,
    /// Format of the rendered images, default png.
    #[serde(default)]
    pub format: BlenderFormat,
    /// Width of an image in pixels, default 1920.
    #[serde(default = "default_integer::<1920>")]
    #[schemars(range(min = 1, max = 65_536))]
    pub resolution_x: u32,
    /// Height of an image in pixels, default 1080.
    #[serde(default = "default_integer::<1080>")]
    #[schemars(range(min = 1, max = 65_536))]
    pub resolution_y: u32,
    /// Percentage of width and height that is rendered, default 100.
    #[serde(default = "default_integer::<100>")]
    #[schemars(range(min = 1, max = 100))]
    pub resolution_percentage: u32,
    /// Samples per pixel, default 128.
    #[serde(default = "default_integer::<128>")]
    #[schemars(range(min = 1, max = 10_000))]
    pub samples: u32,
    /// First frame, default 1.
    #[serde(default = "default_integer::<1>")]
    #[schemars(range(min = 1, max = 1_048_574))]
    pub frame_start: u32,
    /// Last frame, default 1.
    #[serde(default = "default_integer::<1>")]
    #[schemars(range(min = 1, max = 1_048_574))]
    pub frame_end: u32,
    /// Step from one frame to the next, default 1.
    #[serde(default = "default_integer::<1>")]
    #[schemars(range(min = 1, max = 1_048_574))]
    pub frame_step: u32,
    /// Whether noise is removed, default true.
    #[serde(default = "default_true")]
    pub denoise: bool,
    /// Whether the background is transparent, default false.
    #[serde(default)]
    pub transparent: bool,
    /// Further command line arguments, from the list in docs/SERVICES.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 500)))]
    pub custom_args: Option<Vec<String>>,
}

impl SafetyRules for BlenderRequest {
    fn hazards(&self, private: bool) -> Vec<Violation> {
        let mut faults: Vec<Violation> =
            address::address_fault("blend_file_url", &self.blend_file_url, private).into_iter().collect();
        if self.frame_end < self.frame_start {
            faults.push(Violation::new("frame_end", "Should not be before frame_start"));
        }
        faults.extend(command_arguments::argument_faults(
            command_arguments::BLENDER_FLAGS,
            self.custom_args.as_deref().unwrap_or_default(),
        ));
        faults
    }
}

impl_openapi_schema!(BlenderRequest);
