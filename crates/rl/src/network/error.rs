//! Reasons for refusing weights.

/// Error of loading weights. Tensors are called by their names in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not in safetensors format.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// The bytes are a pickle, or the zip archive around one that `torch.save` writes.
    #[error(
        "not a safetensors file but a pickle (.pt), which can run any code when it is read: \
         save the state_dict with safetensors.torch.save_file"
    )]
    Pickle,
    /// The metadata name an unknown algorithm.
    #[error("the algorithm '{0}' of the metadata is none of ppo, a2c, rainbow_dqn, dqn, sac")]
    Algorithm(String),
    /// The file contains no tensor of a policy.
    #[error(
        "no tensor is a policy's: there would be actor.* and critic.* of ppo, feature_layer.*, value_stream.* and \
         advantage_stream.* of rainbow_dqn, or actor_mean.*, actor_log_std, qf1.* and qf2.* of sac"
    )]
    UnknownKind,
    /// A parameter of the network is missing.
    #[error("tensor '{0}' is missing")]
    Missing(String),
    /// The file has a tensor that is not a parameter of the network.
    #[error("tensor '{0}' is not a parameter of this network")]
    Unexpected(String),
    /// The element type is not a 32- or 64-bit float.
    #[error("tensor '{tensor}' is of type {dtype}: F32 or F64 is needed")]
    Type {
        /// Name of the tensor.
        tensor: String,
        /// Element type, as safetensors calls it.
        dtype: String,
    },
    /// The shape does not fit the tensors before it; `None` means any length of at least 1.
    #[error("tensor '{tensor}' has shape {got:?}: {} is needed", describe_shape(expected))]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Shape that was expected.
        expected: Vec<Option<usize>>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// An element is NaN, infinite, or too large for an `f32`.
    #[error("tensor '{tensor}' is not finite as 32-bit floats at element {element}")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// Index of the element in row-major order, from 0.
        element: usize,
    },
    /// An element has an impossible value.
    #[error("tensor '{tensor}' at element {element}: {reason}")]
    Value {
        /// Name of the tensor.
        tensor: String,
        /// Index of the element, from 0.
        element: usize,
        /// Reason, as a sentence.
        reason: String,
    },
    /// A metadata text cannot be parsed.
    #[error("the metadata's '{key}': {reason}")]
    Metadata {
        /// Key of the text.
        key: String,
        /// Reason, as a sentence.
        reason: String,
    },
    /// libtorch refused a tensor.
    #[error("libtorch refused tensor '{tensor}': {reason}")]
    Torch {
        /// Name of the tensor.
        tensor: String,
        /// Message of libtorch.
        reason: String,
    },
}

fn describe_shape(shape: &[Option<usize>]) -> String {
    let lengths: Vec<_> = shape.iter().map(|n| n.map_or("n".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}
