//! Export of policies as safetensors, TorchScript and ONNX.
//!
//! TorchScript and ONNX contain the network from a state to its outputs, including the normalisation of states. Both
//! take one tensor, `state`, of 32-bit floats: rows x state, with any number of rows. Their outputs, in this order:
//!
//! | | |
//! |---|---|
//! | PPO | `probabilities` rows x actions, `value` rows |
//! | Rainbow, DQN | `q` rows x actions |
//! | SAC | `mean` rows x numbers and `std` rows x numbers, both before squashing or clamping; `value` rows |
//!
//! TorchScript's `forward` returns a tuple of these tensors, or the one tensor of a Q-network; `torch.jit.load` reads
//! the file.

mod onnx;
#[cfg(test)]
mod tests;
mod torchscript;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::network::{LoadError, ParsedPolicy};

/// File format of an exported policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExportFormat {
    /// Safetensors, as stored.
    Safetensors,
    /// Traced PyTorch module.
    Torchscript,
    /// Open Neural Network Exchange, operator set 17.
    Onnx,
}

/// Formats by name.
const FORMAT_NAMES: [(&str, ExportFormat); 4] = [
    ("safetensors", ExportFormat::Safetensors),
    ("torchscript", ExportFormat::Torchscript),
    ("onnx", ExportFormat::Onnx),
    ("torch", ExportFormat::Torchscript),
];

/// Error of an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Pickle is refused.
    #[error("'pickle' is refused: a pickle can run any code when it is read; there are safetensors, torchscript, onnx")]
    Pickle,
    /// The format is unknown.
    #[error("there is no format '{0}': there are safetensors, torchscript, onnx")]
    Format(String),
    /// The policy cannot be read.
    #[error("the policy's weights cannot be used: {0}")]
    Load(#[from] LoadError),
    /// libtorch failed, or its output file could not be written.
    #[error("the policy cannot be written: {0}")]
    Write(String),
}

impl FromStr for ExportFormat {
    type Err = ExportError;

    /// `torch` is an alias of `torchscript`.
    fn from_str(name: &str) -> Result<Self, ExportError> {
        match FORMAT_NAMES.into_iter().find(|(known, _)| *known == name) {
            Some((_, format)) => Ok(format),
            None if matches!(name, "pickle" | "pkl" | "pt") => Err(ExportError::Pickle),
            None => Err(ExportError::Format(name.to_owned())),
        }
    }
}

impl TryFrom<String> for ExportFormat {
    type Error = ExportError;

    fn try_from(name: String) -> Result<Self, ExportError> {
        name.parse()
    }
}

impl From<ExportFormat> for String {
    fn from(format: ExportFormat) -> Self {
        format.to_string()
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMAT_NAMES.into_iter().find(|(_, format)| format == self).map_or("", |(name, _)| name))
    }
}

impl ExportFormat {
    /// File name extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Torchscript => "pt",
            Self::Onnx => "onnx",
        }
    }
}

/// Convert a safetensors policy to another format. Blocks for some milliseconds while libtorch traces the network.
///
/// # Errors
/// When the weights cannot be read, or libtorch refuses.
pub fn export_policy(weights: &[u8], format: ExportFormat) -> Result<Vec<u8>, ExportError> {
    let policy = ParsedPolicy::read(weights)?;
    match format {
        ExportFormat::Safetensors => Ok(weights.to_vec()),
        ExportFormat::Torchscript => torchscript::build_module(policy),
        ExportFormat::Onnx => Ok(onnx::build_model(&policy)),
    }
}
