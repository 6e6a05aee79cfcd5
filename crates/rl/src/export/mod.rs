//! Policies for other programs: the file as it is stored, TorchScript, ONNX.
//!
//! TorchScript and ONNX hold the network from a state to its outputs, the normalisation of states among it. Both take one
//! tensor, `state`, of 32-bit floats: rows x state, of any number of rows. What they answer, in this order:
//!
//! | | |
//! |---|---|
//! | PPO | `probabilities` rows x actions, `value` rows |
//! | Rainbow, DQN | `q` rows x actions |
//! | SAC | `mean` rows x numbers and `std` rows x numbers, both before squashing or clamping; `value` rows |
//!
//! TorchScript's `forward` answers a tuple of these tensors, of a Q-network the one tensor; `torch.jit.load` reads it.

mod onnx;
#[cfg(test)]
mod tests;
mod torchscript;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::network::{LoadError, Policy};

/// A file format for policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Format {
    /// The tensors, as they are stored.
    Safetensors,
    /// A traced module of PyTorch's.
    Torchscript,
    /// Open Neural Network Exchange, operator set 17.
    Onnx,
}

/// Every format by its name.
const NAMES: [(&str, Format); 4] = [
    ("safetensors", Format::Safetensors),
    ("torchscript", Format::Torchscript),
    ("onnx", Format::Onnx),
    ("torch", Format::Torchscript),
];

/// Why a policy was not exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Pickle is a format that is not written.
    #[error("'pickle' is refused: a pickle can run any code when it is read; there are safetensors, torchscript, onnx")]
    Pickle,
    /// There is no such format.
    #[error("there is no format '{0}': there are safetensors, torchscript, onnx")]
    Format(String),
    /// The policy can't be read.
    #[error("the policy's weights cannot be used: {0}")]
    Load(#[from] LoadError),
    /// libtorch failed, or the file that it writes to.
    #[error("the policy cannot be written: {0}")]
    Write(String),
}

impl FromStr for Format {
    type Err = ExportError;

    /// `torch` is another name for `torchscript`.
    fn from_str(name: &str) -> Result<Self, ExportError> {
        match NAMES.into_iter().find(|(known, _)| *known == name) {
            Some((_, format)) => Ok(format),
            None if matches!(name, "pickle" | "pkl" | "pt") => Err(ExportError::Pickle),
            None => Err(ExportError::Format(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Format {
    type Error = ExportError;

    fn try_from(name: String) -> Result<Self, ExportError> {
        name.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        format.to_string()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.into_iter().find(|(_, format)| format == self).map_or("", |(name, _)| name))
    }
}

impl Format {
    /// What such a file's name ends with, after the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Torchscript => "pt",
            Self::Onnx => "onnx",
        }
    }
}

/// The policy of this safetensors file, in another format. Blocks for some milliseconds: libtorch traces the network.
///
/// # Errors
/// When the weights can't be read, and when libtorch refuses.
pub fn export(weights: &[u8], format: Format) -> Result<Vec<u8>, ExportError> {
    let policy = Policy::read(weights)?;
    match format {
        Format::Safetensors => Ok(weights.to_vec()),
        Format::Torchscript => torchscript::module(policy),
        Format::Onnx => Ok(onnx::model(&policy)),
    }
}
