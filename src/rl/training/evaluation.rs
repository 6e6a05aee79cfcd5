//! How good a policy is: whole episodes without exploring.

use serde::{Deserialize, Serialize};

use super::{Chosen, Error, Trainer};
use crate::rl::environments::VectorEnv;

/// Returns of whole episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// How many there were.
    pub episodes: usize,
    /// The mean of their sums of rewards.
    pub mean: f64,
    /// The standard deviation of these.
    pub deviation: f64,
    /// The least and the most.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// The mean of their lengths, in steps.
    pub length: f64,
}

/// What `trainer`'s policy reaches in the first `episodes` episodes, spread evenly over `environments`, which are reset
/// with `seed`.
///
/// As many from each environment, so that short episodes don't crowd out long ones.
///
/// # Errors
/// When libtorch or the environments refuse.
pub fn evaluate(
    trainer: &dyn Trainer,
    environments: &mut VectorEnv,
    episodes: usize,
    seed: u64,
) -> Result<Evaluated, Error> {
    environments.reset(seed);
    let each = episodes.div_ceil(environments.len());
    let mut counts = vec![0; environments.len()];
    let (mut totals, mut steps) = (Vec::with_capacity(episodes), 0f64);
    let mut chosen = Chosen::Discrete(Vec::new());
    while counts.iter().any(|count| *count < each) {
        trainer.greedy(environments.observations(), &mut chosen)?;
        environments.step(chosen.actions())?;
        for ended in environments.ended() {
            if counts[ended.index] < each {
                counts[ended.index] += 1;
                totals.push(ended.total);
                steps += f64::from(ended.length);
            }
        }
    }
    let count = totals.len() as f64;
    let mean = totals.iter().sum::<f64>() / count;
    let deviation = (totals.iter().map(|total| (total - mean).powi(2)).sum::<f64>() / count).sqrt();
    let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
    let most = totals.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(Evaluated { episodes: totals.len(), mean, deviation, least, most, length: steps / count })
}
