//! How well tasks are learnt from their support examples, measured on their query examples.

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};
use utoipa::ToSchema;

use super::{
    learner::{StepMemory, StepSizes, copies, prototype_scores, step},
    network::TaskNetwork,
    plan::MetaAlgorithm,
    tasks::{ExampleBatch, TaskBatch, TaskKind, WantedOutputs},
};
use crate::{ACTION_NAMES, network::tensor_numbers};

/// Loss and score on query examples before the first step, and after each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdaptationCurve {
    /// Mean loss of the tasks: squared error, or cross entropy in nats. One number before the first step and one after each, up to
    /// where the steps diverge.
    pub losses: Vec<f64>,
    /// Score, 0 to 1. Classes: share of the examples that are right. Numbers: 1 - squared error / variance of the wanted numbers, 0
    /// where that is below 0; null in the place of a set whose wanted numbers are all equal. Bandits: what the arm that is believed
    /// best pays, between the mean of the arms (0) and the best arm (1).
    pub scores: Vec<Option<f64>>,
}

/// What adapts, with its parameters.
pub(super) struct Adaptable<'a> {
    pub(super) algorithm: MetaAlgorithm,
    pub(super) network: &'a TaskNetwork,
    /// The start of all tasks.
    pub(super) start: Tensor,
    pub(super) sizes: StepSizes,
    pub(super) kind: TaskKind,
    /// Classes, for prototypes.
    pub(super) classes: i64,
}

impl Adaptable<'_> {
    /// Take `steps` steps in each task, and measure before the first and after each. Prototypes are made at once: one measurement. Where
    /// steps diverge, the curve ends before. Also returns the parameters after the last step, tasks x parameters.
    pub(super) fn adapt(&self, batch: &TaskBatch, steps: u64) -> Result<(AdaptationCurve, Tensor), TchError> {
        let mut curve = AdaptationCurve::default();
        let mut at = copies(&self.start, batch.support.tasks())?.f_contiguous()?;
        if self.algorithm == MetaAlgorithm::PrototypicalNetworks {
            let outputs = prototype_scores(self.network, &self.start, batch, self.classes)?;
            curve.add(&batch.query, &outputs, self.kind)?;
            return Ok((curve, at));
        }
        curve.add(&batch.query, &self.network.forward(&at, &batch.query.inputs)?, self.kind)?;
        for _ in 0..steps {
            at = step(self.network, &at, &batch.support, &self.sizes, StepMemory::Nothing)?;
            curve.add(&batch.query, &self.network.forward(&at, &batch.query.inputs)?, self.kind)?;
            if !curve.losses.last().is_some_and(|loss| loss.is_finite()) {
                // What follows would not be finite either, and is no figure.
                curve.losses.pop();
                curve.scores.pop();
                break;
            }
        }
        Ok((curve, at))
    }
}

impl AdaptationCurve {
    fn add(&mut self, query: &ExampleBatch, outputs: &Tensor, kind: TaskKind) -> Result<(), TchError> {
        self.losses.push(number(&query.losses(outputs)?.f_mean(Kind::Double)?)?);
        self.scores.push(score(query, outputs, kind)?);
        Ok(())
    }

    /// The score after the last step; `None`: there is none to compute.
    pub(super) fn last_score(&self) -> Option<f64> {
        self.scores.last().copied().flatten()
    }

    /// The share of the whole decrease of the loss that the first step reached; `None`: no step decreased it.
    pub fn first_step_share(&self) -> Option<f64> {
        let (first, second) = (*self.losses.first()?, *self.losses.get(1)?);
        let least = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        (least < first).then(|| ((first - second) / (first - least)).clamp(0.0, 1.0))
    }
}

fn number(tensor: &Tensor) -> Result<f64, TchError> {
    f64::try_from(tensor)
}

fn score(query: &ExampleBatch, outputs: &Tensor, kind: TaskKind) -> Result<Option<f64>, TchError> {
    match &query.wanted {
        WantedOutputs::Classes(classes) => {
            let right = outputs.f_argmax(-1, false)?.f_eq_tensor(classes)?;
            number(&right.f_to_kind(Kind::Double)?.f_mean(Kind::Double)?).map(Some)
        }
        WantedOutputs::Numbers(wanted) if kind == TaskKind::Bandits => {
            let arms = query.inputs.size()[1] as usize;
            Ok(paid_share(&tensor_numbers(outputs)?, &tensor_numbers(wanted)?, arms))
        }
        // All actions in a state stand together.
        WantedOutputs::Numbers(wanted) if kind == TaskKind::MarketActions => {
            Ok(paid_share(&tensor_numbers(outputs)?, &tensor_numbers(wanted)?, ACTION_NAMES.len()))
        }
        WantedOutputs::Numbers(wanted) => Ok(explained_share(&tensor_numbers(outputs)?, &tensor_numbers(wanted)?)),
    }
}

/// 1 - squared error / squared deviations of the wanted numbers from their mean, at least 0; `None`: they do not deviate.
fn explained_share(outputs: &[f32], wanted: &[f32]) -> Option<f64> {
    let mean = wanted.iter().map(|number| f64::from(*number)).sum::<f64>() / wanted.len().max(1) as f64;
    let spread: f64 = wanted.iter().map(|number| (f64::from(*number) - mean).powi(2)).sum();
    let error: f64 = outputs.iter().zip(wanted).map(|(one, other)| f64::from(one - other).powi(2)).sum();
    (spread > 0.0).then(|| (1.0 - error / spread).max(0.0))
}

/// What the arms that are believed best pay more than the arms' mean, of what the best arms pay more; at least 0. `None`: all arms
/// of all tasks pay the same.
fn paid_share(outputs: &[f32], wanted: &[f32], arms: usize) -> Option<f64> {
    let (mut gained, mut possible) = (0.0, 0.0);
    for (believed, pays) in outputs.chunks_exact(arms.max(1)).zip(wanted.chunks_exact(arms.max(1))) {
        let mean = pays.iter().map(|pay| f64::from(*pay)).sum::<f64>() / pays.len() as f64;
        let chosen = (1..pays.len()).fold(0, |best, arm| if believed[arm] > believed[best] { arm } else { best });
        let best = pays.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        gained += f64::from(pays[chosen]) - mean;
        possible += f64::from(best) - mean;
    }
    (possible > 0.0).then(|| (gained / possible).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_as_computed_by_hand() {
        assert_eq!(explained_share(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), Some(1.0));
        assert_eq!(explained_share(&[2.0, 2.0, 2.0], &[1.0, 2.0, 3.0]), Some(0.0));
        assert_eq!(explained_share(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0]), Some(0.5));
        assert_eq!(explained_share(&[1.0], &[1.0]), None);
        // The second task's choice pays its mean, the first one's is the best: 1 of 1 + 1.
        assert_eq!(paid_share(&[0.0, 9.0, 0.0, 0.0, 1.0, 0.0], &[-1.0, 1.0, 0.0, -1.0, 0.0, 1.0], 3), Some(0.5));
        assert_eq!(paid_share(&[0.0, 1.0], &[2.0, 2.0], 2), None);
    }

    #[test]
    fn the_first_steps_share_is_of_the_best_reached() {
        let curve = |losses: &[f64]| AdaptationCurve { losses: losses.to_vec(), scores: Vec::new() };
        assert_eq!(curve(&[4.0, 2.0, 0.0, 1.0]).first_step_share(), Some(0.5));
        assert_eq!(curve(&[4.0, 5.0, 3.0]).first_step_share(), Some(0.0));
        assert_eq!(curve(&[4.0, 5.0]).first_step_share(), None);
        assert_eq!(curve(&[4.0]).first_step_share(), None);
    }
}
