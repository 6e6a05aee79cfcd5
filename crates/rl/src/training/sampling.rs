//! Random draws of training runs. libtorch's generator is not used: its state cannot be saved with a run.

use rand::{Rng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, StandardNormal};

/// Random generator of a training run.
pub(crate) type TrainingRng = Xoshiro256PlusPlus;

/// Draw a number in [0, 1) from 53 random bits.
pub(crate) fn sample_unit(generator: &mut impl Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Draw a number in [`low`, `high`).
pub(crate) fn sample_uniform(generator: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * sample_unit(generator)
}

/// Draw a number below `count`; probabilities differ by less than `count` / 2^64.
pub(crate) fn sample_below(generator: &mut impl Rng, count: usize) -> usize {
    ((u128::from(generator.next_u64()) * count as u128) >> 64) as usize
}

/// Draw a number of the standard normal distribution.
pub(crate) fn sample_normal(generator: &mut impl Rng) -> f32 {
    let number: f64 = StandardNormal.sample(generator);
    number as f32
}

/// Draw an index with these probabilities.
pub(crate) fn sample_categorical(generator: &mut impl Rng, probabilities: &[f32]) -> usize {
    let mut rest = sample_unit(generator);
    for (index, probability) in probabilities.iter().enumerate() {
        rest -= f64::from(*probability);
        if rest < 0.0 {
            return index;
        }
    }
    // Rounding can leave the sum of the probabilities just under 1.
    probabilities.iter().rposition(|probability| *probability > 0.0).unwrap_or(0)
}

/// Shuffle `items` (Fisher, Yates).
pub(crate) fn shuffle<T>(generator: &mut impl Rng, items: &mut [T]) {
    for index in (1..items.len()).rev() {
        items.swap(index, sample_below(generator, index + 1));
    }
}
