//! Computation of a state's outputs from the layers' outputs, in plain arithmetic.
//!
//! libtorch's vectorised loops treat a number by its position in memory (the tail of a vector takes another path), so
//! its results for a state would depend on the states beside it. Only whole matrix products and exactly rounded
//! operations are left to libtorch.

use super::{
    NetworkOutput,
    forward::MAX_NORMALISED,
    layers::{DeviationSource, NetworkBody, WeightArray},
};

/// Normalise states to mean 0 and variance 1, clamped to within [`MAX_NORMALISED`] of 0.
pub(crate) fn normalise(normalisation: Option<&[WeightArray; 2]>, states: &mut [f32]) {
    let Some([mean, deviation]) = normalisation else { return };
    for row in states.chunks_mut(mean.numbers.len()) {
        for ((number, mean), deviation) in row.iter_mut().zip(&mean.numbers).zip(&deviation.numbers) {
            *number = ((*number - mean) / deviation).clamp(-MAX_NORMALISED, MAX_NORMALISED);
        }
    }
}

/// Q-values of all actions, from the streams' outputs.
pub(super) fn q_values(dueling: bool, support: Option<&WeightArray>, value: &[f32], advantage: &[f32]) -> Vec<f32> {
    let atoms = value.len();
    let actions = advantage.chunks(atoms);
    let count = actions.len() as f32;
    let base: Vec<f32> = match dueling {
        true => {
            (0..atoms).map(|at| value[at] - advantage.iter().skip(at).step_by(atoms).sum::<f32>() / count).collect()
        }
        false => vec![0.0; atoms],
    };
    let q = |advantage: &[f32]| {
        let outputs: Vec<f32> = advantage.iter().zip(&base).map(|(advantage, base)| advantage + base).collect();
        support.map_or(outputs[0], |support| expectation(&outputs, &support.numbers))
    };
    actions.map(q).collect()
}

/// Mean of `support` under the softmax of `logits`.
fn expectation(logits: &[f32], support: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (logit, atom) in logits.iter().zip(support) {
        let power = (logit - most).exp();
        sum += power;
        weighted += power * atom;
    }
    weighted / sum
}

/// SAC's standard deviations, from the outputs of their layer if there is one.
pub(super) fn deviations<T>(deviation: &DeviationSource<T>, head: Option<&[f32]>) -> Vec<f32> {
    match (deviation, head) {
        (DeviationSource::Head { least, most, .. }, Some(outputs)) => {
            outputs.iter().map(|output| (least + 0.5 * (most - least) * (output.tanh() + 1.0)).exp()).collect()
        }
        (DeviationSource::Fixed(log_std), _) => log_std.numbers.iter().map(|logarithm| logarithm.exp()).collect(),
        (DeviationSource::Head { .. }, None) => Vec::new(),
    }
}

/// Gaussians' numbers, row by row, as the critics take them: squashed or clamped.
pub(super) fn bound_actions<T>(body: &NetworkBody<T>, numbers: &[f32]) -> Vec<f32> {
    match body {
        NetworkBody::Gaussian { bounds: Some([low, high]), .. } => {
            let bounds = low.numbers.iter().zip(&high.numbers).cycle();
            numbers.iter().zip(bounds).map(|(number, (low, high))| number.clamp(*low, *high)).collect()
        }
        _ => numbers.iter().map(|number| number.tanh()).collect(),
    }
}

impl NetworkOutput {
    /// Build the output of SAC with the smaller of two critics' Q-values.
    pub(super) fn from_gaussian(mean: &[f32], std: Vec<f32>, critics: [f32; 2]) -> Self {
        // `f32::min` would hide a NaN.
        let value = if critics[0] < critics[1] || critics[0].is_nan() { critics[0] } else { critics[1] };
        Self::Gaussian { mean: mean.to_vec(), std, value }
    }
}
