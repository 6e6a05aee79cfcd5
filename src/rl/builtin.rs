//! The policy that is always there: an untrained PPO network, made from a seed and kept in the tree.
//!
//! The draws and the orthogonalisation use additions, multiplications, divisions and square roots only, which IEEE 754
//! rounds the same everywhere; so the recipe gives the same bytes on every machine.

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use safetensors::{Dtype, SafeTensorError, tensor::TensorView};

use super::state::{ACTIONS, FEATURES};

/// The built-in policy's name.
pub const BUILTIN_NAME: &str = "marketplace-ppo";
/// The built-in policy's version.
pub const BUILTIN_VERSION: u32 = 1;
/// The SHA-256 of the built-in policy's file, 64 hex digits.
pub const BUILTIN_SHA256: &str = include_str!("../../assets/policies/marketplace-ppo.sha256").trim_ascii_end();

/// The built-in policy's file.
pub(super) const BYTES: &[u8] = include_bytes!("../../assets/policies/marketplace-ppo.safetensors");

/// Fixed for good: another seed would be another version.
const SEED: u64 = 8012;
/// The width of both hidden layers.
const HIDDEN: usize = 256;

/// Makes the built-in policy's safetensors file.
///
/// PPO's actor (9-256-256-4) and critic (9-256-256-1) as the wire contract names their parameters. Weights are orthogonal,
/// with gain sqrt(2) before a ReLU, 0.01 at the actor's and 1 at the critic's output; biases are 0 (Huang et al.,
/// "The 37 Implementation Details of Proximal Policy Optimization", 2022, detail 2).
pub fn builtin_weights() -> Result<Vec<u8>, SafeTensorError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let hidden_gain = 2f64.sqrt();
    let mut tensors = Vec::new();
    for (network, outputs, output_gain) in [("actor", ACTIONS.len(), 0.01), ("critic", 1, 1.0)] {
        let layers = [
            (0, HIDDEN, FEATURES.len(), hidden_gain),
            (2, HIDDEN, HIDDEN, hidden_gain),
            (4, outputs, HIDDEN, output_gain),
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

/// A `rows` x `columns` matrix, row by row, whose shorter side is orthogonal, each vector of length `gain`.
///
/// As `torch.nn.init.orthogonal_`: the Q of a normal matrix's QR decomposition, with the signs that make R's diagonal
/// positive (Saxe et al. 2013, arXiv:1312.6120). Gram-Schmidt gives those signs by itself.
fn orthogonal(rng: &mut Xoshiro256PlusPlus, rows: usize, columns: usize, gain: f64) -> Vec<f64> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut vector: Vec<f64> = (0..length).map(|_| near_normal(rng)).collect();
        // Twice is enough for orthogonality to the last digits (Giraud et al. 2005).
        for _ in 0..2 {
            for earlier in &basis {
                let along = dot(&vector, earlier);
                vector.iter_mut().zip(earlier).for_each(|(x, e)| *x -= along * e);
            }
        }
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        basis.push(vector);
    }
    let entry = |row: usize, column: usize| if rows <= columns { basis[row][column] } else { basis[column][row] };
    (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| gain * entry(r, c)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Mean 0, variance 1, and nearly normal: the sum of twelve uniform draws, less 6. Needs no logarithm, whose last digit
/// differs from one C library to another.
fn near_normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_file_in_the_tree_is_the_one_recorded_and_the_recipes() {
        assert_eq!(hex::encode(Sha256::digest(BYTES)), BUILTIN_SHA256);
        assert!(
            builtin_weights().unwrap() == BYTES,
            "run `cargo run --example builtin_policy` and read the difference"
        );
    }

    #[test]
    fn the_shorter_side_is_orthogonal() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for (rows, columns, gain) in [(12, 5, 2f64.sqrt()), (16, 16, 1.0), (3, 20, 0.01)] {
            let weight = orthogonal(&mut rng, rows, columns, gain);
            let row = |r: usize| weight[r * columns..(r + 1) * columns].to_vec();
            let column = |c: usize| (0..rows).map(|r| weight[r * columns + c]).collect::<Vec<_>>();
            let vectors: Vec<_> =
                if rows <= columns { (0..rows).map(row).collect() } else { (0..columns).map(column).collect() };
            for (i, a) in vectors.iter().enumerate() {
                for (j, b) in vectors.iter().enumerate() {
                    let expected = if i == j { gain * gain } else { 0.0 };
                    assert!((dot(a, b) - expected).abs() < 1e-12, "{rows}x{columns}: {i}, {j}");
                }
            }
        }
    }
}
