//! PPO's loss of a batch and its gradients by the networks' outputs (Schulman et al. 2017, arXiv:1707.06347).

/// Batch of experience with the networks' present outputs. Slices are ordered by sample.
pub(super) struct PpoBatch<'a> {
    /// Actor's outputs, before the softmax.
    pub(super) logits: &'a [f32],
    /// Outputs of the critic.
    pub(super) values: &'a [f32],
    pub(super) actions: &'a [i64],
    /// Logarithms of the probabilities with which the actions were taken.
    pub(super) old_log_probabilities: &'a [f32],
    /// Critic's values when the actions were taken.
    pub(super) old_values: &'a [f32],
    pub(super) advantages: &'a [f32],
    /// Target values of the critic.
    pub(super) returns: &'a [f32],
}

pub(super) struct LossWeights {
    pub(super) clip: f32,
    pub(super) clip_value: bool,
    pub(super) entropy: f32,
    pub(super) critic: f32,
}

/// Parts of the loss, means over the batch, and the gradients of the total loss.
#[derive(Debug, Default)]
pub(super) struct PpoLoss {
    pub(super) policy: f64,
    pub(super) value: f64,
    pub(super) entropy: f64,
    /// Estimate of the KL divergence of the new policy from the old: mean of `(r - 1) - log r` (Schulman,
    /// "Approximating KL Divergence", 2020).
    pub(super) kl: f64,
    /// Share of samples whose ratio is outside the clip range.
    pub(super) clipped: f64,
    pub(super) by_logits: Vec<f32>,
    pub(super) by_values: Vec<f32>,
}

impl PpoLoss {
    pub(super) fn compute(batch: &PpoBatch<'_>, weights: &LossWeights) -> Self {
        let count = batch.values.len();
        let width = batch.logits.len() / count;
        let share = 1.0 / count as f32;
        let mut loss =
            Self { by_logits: vec![0.0; batch.logits.len()], by_values: Vec::with_capacity(count), ..Self::default() };
        let mut logarithms = vec![0f32; width];
        for sample in 0..count {
            log_softmax(&batch.logits[sample * width..][..width], &mut logarithms);
            let by_logits = &mut loss.by_logits[sample * width..][..width];
            let (action, advantage) = (batch.actions[sample] as usize, batch.advantages[sample]);

            let log_ratio = logarithms[action] - batch.old_log_probabilities[sample];
            let ratio = log_ratio.exp();
            let within = ratio.clamp(1.0 - weights.clip, 1.0 + weights.clip);
            let (free, bound) = (ratio * advantage, within * advantage);
            loss.policy -= f64::from(free.min(bound));
            loss.kl += f64::from(ratio - 1.0 - log_ratio);
            loss.clipped += f64::from((ratio - 1.0).abs() > weights.clip);
            // If the clipped term is smaller, the ratio has no gradient.
            let by_log = if free <= bound { -free * share } else { 0.0 };

            let entropy: f32 = -logarithms.iter().map(|log| log.exp() * log).sum::<f32>();
            loss.entropy += f64::from(entropy);
            for (index, (by, log)) in by_logits.iter_mut().zip(&logarithms).enumerate() {
                let probability = log.exp();
                let taken = if index == action { 1.0 } else { 0.0 };
                *by = by_log * (taken - probability) + weights.entropy * share * probability * (log + entropy);
            }

            let (error, by_value) = value_error(batch, sample, weights);
            loss.value += 0.5 * f64::from(error);
            loss.by_values.push(weights.critic * share * by_value);
        }
        let mean = f64::from(share);
        for part in [&mut loss.policy, &mut loss.value, &mut loss.entropy, &mut loss.kl, &mut loss.clipped] {
            *part *= mean;
        }
        loss
    }

    /// Check that every number is finite.
    pub(super) fn is_finite(&self) -> bool {
        (self.policy + self.value + self.entropy).is_finite()
    }
}

/// Return the larger of the squared errors of the value and the clipped value, and half its derivative.
fn value_error(batch: &PpoBatch<'_>, sample: usize, weights: &LossWeights) -> (f32, f32) {
    let (value, old, wanted) = (batch.values[sample], batch.old_values[sample], batch.returns[sample]);
    let free = value - wanted;
    if !weights.clip_value {
        return (free * free, free);
    }
    let bound = old + (value - old).clamp(-weights.clip, weights.clip) - wanted;
    if free * free >= bound * bound {
        return (free * free, free);
    }
    (bound * bound, if (value - old).abs() < weights.clip { bound } else { 0.0 })
}

/// Logarithms of the softmax of `logits`.
pub(super) fn log_softmax(logits: &[f32], out: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    let whole = most + sum.ln();
    out.iter_mut().zip(logits).for_each(|(out, logit)| *out = logit - whole);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tch::{Kind, Tensor};

    use super::{super::super::sampling, *};

    const WIDTH: usize = 3;

    /// The loss as it is usually written down, for libtorch to differentiate.
    fn reference(batch: &PpoBatch<'_>, weights: &LossWeights) -> (Tensor, Tensor, Tensor) {
        let column = |numbers: &[f32]| Tensor::from_slice(numbers);
        let logits = column(batch.logits).view([-1, WIDTH as i64]).set_requires_grad(true);
        let values = column(batch.values).set_requires_grad(true);
        let (advantages, returns, old) = (column(batch.advantages), column(batch.returns), column(batch.old_values));
        let log = logits.log_softmax(-1, Kind::Float);
        let taken = log.gather(1, &Tensor::from_slice(batch.actions).unsqueeze(1), false).squeeze_dim(1);
        let ratio = (taken - column(batch.old_log_probabilities)).exp();
        let clip = f64::from(weights.clip);
        let policy =
            -(&ratio * &advantages).minimum(&(ratio.clamp(1.0 - clip, 1.0 + clip) * &advantages)).mean(Kind::Float);
        let entropy = -(log.exp() * &log).sum_dim_intlist(&[-1i64][..], false, Kind::Float).mean(Kind::Float);
        let free = (&values - &returns).square();
        let value = if weights.clip_value {
            free.maximum(&(&old + (&values - &old).clamp(-clip, clip) - &returns).square())
        } else {
            free
        };
        let value = value.mean(Kind::Float) * 0.5;
        let loss = policy - entropy * f64::from(weights.entropy) + value * f64::from(weights.critic);
        loss.backward();
        (loss.detach(), logits.grad(), values.grad())
    }

    fn close(ours: &[f32], theirs: &Tensor) {
        let theirs: Vec<f32> = theirs.flatten(0, -1).try_into().unwrap();
        for (at, (one, other)) in ours.iter().zip(&theirs).enumerate() {
            assert!((one - other).abs() < 1e-6 + 1e-5 * other.abs(), "{at}: {one} is not {other}");
        }
    }

    #[test]
    fn gradients_are_libtorchs() {
        for seed in 0..20 {
            let mut generator = sampling::TrainingRng::seed_from_u64(seed);
            let count = 17;
            let mut normal = |scale: f32, count: usize| -> Vec<f32> {
                (0..count).map(|_| scale * sampling::sample_normal(&mut generator)).collect()
            };
            let (logits, values) = (normal(1.0, count * WIDTH), normal(1.0, count));
            let (old_values, advantages, returns) = (normal(1.0, count), normal(1.0, count), normal(2.0, count));
            let actions: Vec<i64> = (0..count as i64).map(|sample| sample % WIDTH as i64).collect();
            let shifts = normal(0.3, count);
            let old_log_probabilities: Vec<f32> = (0..count)
                .map(|sample| {
                    let mut out = [0.0; WIDTH];
                    log_softmax(&logits[sample * WIDTH..][..WIDTH], &mut out);
                    out[actions[sample] as usize] + shifts[sample]
                })
                .collect();
            let batch = PpoBatch {
                logits: &logits,
                values: &values,
                actions: &actions,
                old_log_probabilities: &old_log_probabilities,
                old_values: &old_values,
                advantages: &advantages,
                returns: &returns,
            };
            let weights = LossWeights { clip: 0.2, clip_value: seed % 2 == 0, entropy: 0.05, critic: 0.5 };
            let ours = PpoLoss::compute(&batch, &weights);
            let (loss, by_logits, by_values) = reference(&batch, &weights);
            let whole =
                ours.policy - f64::from(weights.entropy) * ours.entropy + f64::from(weights.critic) * ours.value;
            assert!((whole - f64::try_from(&loss).unwrap()).abs() < 1e-5, "seed {seed}: {whole}");
            close(&ours.by_logits, &by_logits);
            close(&ours.by_values, &by_values);
            assert!(ours.clipped > 0.0 && ours.clipped < 1.0, "seed {seed} tries both sides of the clip");
        }
    }

    #[test]
    fn one_sample_is_as_computed_by_hand() {
        let half = 0.5f32.ln();
        let batch = PpoBatch {
            logits: &[0.0, 0.0],
            values: &[3.0],
            actions: &[1],
            // The action has become 1.25 times as probable: beyond the clip, and the advantage is positive.
            old_log_probabilities: &[half - 1.25f32.ln()],
            old_values: &[1.0],
            advantages: &[2.0],
            returns: &[2.0],
        };
        let loss = PpoLoss::compute(&batch, &LossWeights { clip: 0.2, clip_value: true, entropy: 0.0, critic: 1.0 });
        assert!((loss.policy + 2.4).abs() < 1e-6, "-min(1.25, 1.2) * 2");
        assert_eq!(loss.by_logits, [0.0, 0.0]);
        // (3 - 2)^2 = 1 is more than (1.2 - 2)^2.
        assert_eq!((loss.value, &loss.by_values[..]), (0.5, &[1.0][..]));
        assert!((loss.entropy - 2f64.ln()).abs() < 1e-6);
        assert!((loss.kl - (0.25 - 1.25f64.ln())).abs() < 1e-6);
        assert_eq!(loss.clipped, 1.0);
    }
}
