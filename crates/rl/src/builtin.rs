//! The built-in policy: an untrained PPO network, generated from a fixed seed and stored in the source tree.
//!
//! The generator produces the same bytes on every machine.

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use safetensors::{Dtype, SafeTensorError, tensor::TensorView};

use super::{
    marketplace_state::{ACTION_NAMES, FEATURE_NAMES},
    orthogonal::orthogonal,
};

/// Name of the built-in policy.
pub const BUILTIN_NAME: &str = "marketplace-ppo";
/// Version number of the built-in policy.
pub const BUILTIN_VERSION: u32 = 1;
/// SHA-256 of the built-in policy's file, 64 hex digits.
pub const BUILTIN_SHA256: &str = include_str!("../../../assets/policies/marketplace-ppo.sha256").trim_ascii_end();

/// The built-in policy's safetensors file.
pub(super) const BUILTIN_BYTES: &[u8] = include_bytes!("../../../assets/policies/marketplace-ppo.safetensors");

/// Seed of the weights. Never changed: other weights would need another version number.
const BUILTIN_SEED: u64 = 8012;
/// Width of both hidden layers.
const HIDDEN_WIDTH: usize = 256;

/// Generate the built-in policy's safetensors file.
///
/// The file holds PPO's actor (9-256-256-4) and critic (9-256-256-1) under the parameter names of the wire contract.
/// Weights are orthogonal, with gain sqrt(2) before a ReLU, 0.01 at the actor's output and 1 at the critic's; biases
/// are 0 (Huang et al., "The 37 Implementation Details of Proximal Policy Optimization", 2022, detail 2).
pub fn builtin_weights() -> Result<Vec<u8>, SafeTensorError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(BUILTIN_SEED);
    let hidden_gain = 2f64.sqrt();
    let mut tensors = Vec::new();
    for (network, outputs, output_gain) in [("actor", ACTION_NAMES.len(), 0.01), ("critic", 1, 1.0)] {
        let layers = [
            (0, HIDDEN_WIDTH, FEATURE_NAMES.len(), hidden_gain),
            (2, HIDDEN_WIDTH, HIDDEN_WIDTH, hidden_gain),
            (4, outputs, HIDDEN_WIDTH, output_gain),
        ];
        for (index, rows, columns, gain) in layers {
            let weight = orthogonal(&mut rng, rows, columns, gain);
            tensors.push((format!("{network}.{index}.weight"), vec![rows, columns], little_endian(&weight)));
            tensors.push((format!("{network}.{index}.bias"), vec![rows], little_endian(&vec![0.0; rows])));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, data)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    safetensors::serialize(views, None)
}

fn little_endian(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_core::crypto::sha256_hex;

    #[test]
    fn the_file_in_the_tree_is_the_one_recorded_and_the_recipes() {
        assert_eq!(sha256_hex(BUILTIN_BYTES), BUILTIN_SHA256);
        assert!(
            builtin_weights().unwrap() == BUILTIN_BYTES,
            "run `cargo run --example builtin_policy` and read the difference"
        );
    }
}
