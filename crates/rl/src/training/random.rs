//! Draws of the training runs. libtorch's own generator stays out: its state could not be kept with a run.

use rand::{Rng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, StandardNormal};

/// The generator of a training run.
pub(super) type Generator = Xoshiro256PlusPlus;

/// A number in [0, 1), of 53 random bits.
pub(super) fn unit(generator: &mut impl Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number in [`low`, `high`).
pub(super) fn uniform(generator: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(generator)
}

/// A number below `count`, each as probable as another but for less than `count` / 2^64.
pub(super) fn below(generator: &mut impl Rng, count: usize) -> usize {
    ((u128::from(generator.next_u64()) * count as u128) >> 64) as usize
}

/// A number of the standard normal distribution.
pub(super) fn normal(generator: &mut impl Rng) -> f32 {
    let number: f64 = StandardNormal.sample(generator);
    number as f32
}

/// An index, drawn by these probabilities.
pub(super) fn categorical(generator: &mut impl Rng, probabilities: &[f32]) -> usize {
    let mut rest = unit(generator);
    for (index, probability) in probabilities.iter().enumerate() {
        rest -= f64::from(*probability);
        if rest < 0.0 {
            return index;
        }
    }
    // Probabilities that sum to a little less than 1.
    probabilities.iter().rposition(|probability| *probability > 0.0).unwrap_or(0)
}

/// Put `items` into a random order (Fisher, Yates).
pub(super) fn shuffle<T>(generator: &mut impl Rng, items: &mut [T]) {
    for index in (1..items.len()).rev() {
        items.swap(index, below(generator, index + 1));
    }
}
