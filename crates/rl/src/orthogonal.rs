//! Orthogonal weights that are equal on every machine: additions, multiplications, divisions and square roots are
//! rounded alike by IEEE 754.

use rand::Rng;

/// Draw a `rows` x `columns` matrix, in row-major order, whose vectors along the shorter side are orthogonal and of
/// length `gain`.
///
/// Like `torch.nn.init.orthogonal_`: the Q of a normal matrix's QR decomposition, with the signs that make R's diagonal
/// positive (Saxe et al. 2013, arXiv:1312.6120). Gram-Schmidt yields those signs.
pub(super) fn orthogonal(rng: &mut impl Rng, rows: usize, columns: usize, gain: f64) -> Vec<f64> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut vector: Vec<f64> = (0..length).map(|_| near_normal(rng)).collect();
        // Two passes are enough for orthogonality to the last digits (Giraud et al. 2005).
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

/// Draw a nearly normal number with mean 0 and variance 1: the sum of twelve uniform draws, minus 6. A logarithm is
/// avoided because its last digit differs between C libraries.
fn near_normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;

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
