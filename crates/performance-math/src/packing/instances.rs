//! Problems of the literature, made from a seed: bins of one resource.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

/// Size of a bin of [`triplets`].
pub const TRIPLET_BIN: u64 = 1000;
/// Size of a bin of [`uniform`].
pub const UNIFORM_BIN: u64 = 150;

/// Falkenauer's triplets (Journal of Heuristics 2, 1996): three items for each of `bins` bins of 1000, which they fill to the last
/// unit, so that the optimum is `bins`. The first item is drawn from 380 to 490, the second from 250 to half of what is left, and the
/// third completes the bin; the items are shuffled.
pub fn triplets(bins: usize, seed: u64) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut items = Vec::with_capacity(bins * 3);
    for _ in 0..bins {
        let first = random.random_range(380..=490);
        let left = TRIPLET_BIN - first;
        let second = random.random_range(250..left / 2);
        items.extend([first, second, left - second]);
    }
    items.shuffle(&mut random);
    items
}

/// Falkenauer's uniform class: items drawn from 20 to 100, for bins of 150.
pub fn uniform(items: usize, seed: u64) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..items).map(|_| random.random_range(20..=100)).collect()
}
