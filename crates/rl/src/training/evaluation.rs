//! Evaluation of a policy over whole episodes, without exploration.

use serde::{Deserialize, Serialize};

use super::{ChosenActions, Trainer, TrainingError};
use crate::environments::VectorEnv;

/// Statistics of whole episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EpisodeReturns)]
pub struct EpisodeStats {
    /// Number of episodes.
    pub episodes: usize,
    /// Mean of the returns.
    pub mean: f64,
    /// Standard deviation of the returns.
    pub deviation: f64,
    /// Smallest of the returns.
    pub least: f64,
    /// Largest of the returns.
    pub most: f64,
    /// Mean length, in steps.
    pub length: f64,
}

/// Evaluate the present policy of `trainer`; see [`evaluate_episodes`].
///
/// # Errors
/// When libtorch or the environments refuse.
pub fn evaluate_trainer(
    trainer: &dyn Trainer,
    environments: &mut VectorEnv,
    count: usize,
    seed: u64,
) -> Result<EpisodeStats, TrainingError> {
    evaluate_episodes(&|observations, chosen| trainer.greedy(observations, chosen), environments, count, seed)
}

/// Policy that chooses an action for each row of observations.
pub type GreedyPolicy<'a> = dyn Fn(&[f32], &mut ChosenActions) -> Result<(), TrainingError> + 'a;

/// Evaluate a policy in the first `count` episodes, spread evenly over `environments`, which are reset with `seed`.
///
/// Every environment contributes the same number, so that short episodes do not displace long ones.
///
/// # Errors
/// When `greedy` fails, or the environments refuse its actions.
pub fn evaluate_episodes(
    greedy: &GreedyPolicy<'_>,
    environments: &mut VectorEnv,
    count: usize,
    seed: u64,
) -> Result<EpisodeStats, TrainingError> {
    environments.reset(seed)?;
    let each = count.div_ceil(environments.len());
    let mut counts = vec![0; environments.len()];
    let (mut totals, mut steps) = (Vec::with_capacity(count), 0f64);
    let mut chosen = ChosenActions::Discrete(Vec::new());
    while counts.iter().any(|count| *count < each) {
        greedy(environments.observations(), &mut chosen)?;
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
    Ok(EpisodeStats { episodes: totals.len(), mean, deviation, least, most, length: steps / count })
}
