//! Why weights are refused.

/// Why weights were refused. A tensor is called by its name in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not in the safetensors format.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// The bytes are a pickle, or the zip archive around one that `torch.save` writes.
    #[error(
        "not a safetensors file but a pickle (.pt), which can run any code when it is read: \
         save the state_dict with safetensors.torch.save_file"
    )]
    Pickle,
    /// The file's metadata name an algorithm that there is not.
    #[error("the algorithm '{0}' of the metadata is none of ppo, a2c, rainbow_dqn, dqn, sac")]
    Algorithm(String),
    /// No tensor is one of a policy.
    #[error(
        "no tensor is a policy's: there would be actor.* and critic.* of ppo, feature_layer.*, value_stream.* and \
         advantage_stream.* of rainbow_dqn, or actor_mean.*, actor_log_std, qf1.* and qf2.* of sac"
    )]
    Kind,
    /// A parameter of the network is not in the file.
    #[error("tensor '{0}' is missing")]
    Missing(String),
    /// The file has a tensor that is no parameter of the network.
    #[error("tensor '{0}' is not a parameter of this network")]
    Unexpected(String),
    /// Weights are 32- or 64-bit floats.
    #[error("tensor '{tensor}' is of type {dtype}: F32 or F64 is needed")]
    Type {
        /// The tensor.
        tensor: String,
        /// Its element type, as safetensors calls it.
        dtype: String,
    },
    /// The tensor does not fit those before it; `None` is any length of at least 1.
    #[error("tensor '{tensor}' has shape {got:?}: {} is needed", describe_shape(expected))]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape that fits.
        expected: Vec<Option<usize>>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// An element is NaN, infinite, or too large for an `f32`.
    #[error("tensor '{tensor}' is not finite as 32-bit floats at element {element}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The element's place in row-major order, from 0.
        element: usize,
    },
    /// An element can't be what it stands for.
    #[error("tensor '{tensor}' at element {element}: {reason}")]
    Value {
        /// The tensor.
        tensor: String,
        /// The element's place, from 0.
        element: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A text among the file's metadata can't be read.
    #[error("the metadata's '{key}': {reason}")]
    Metadata {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// libtorch would not take it.
    #[error("libtorch refused tensor '{tensor}': {reason}")]
    Torch {
        /// The tensor.
        tensor: String,
        /// What libtorch said.
        reason: String,
    },
}

fn describe_shape(shape: &[Option<usize>]) -> String {
    let lengths: Vec<_> = shape.iter().map(|n| n.map_or("n".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}
