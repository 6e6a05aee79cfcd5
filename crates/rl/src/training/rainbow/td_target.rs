//! Temporal-difference targets: values of actions, bootstrap values, and losses.

use super::{
    super::{argmax, replay::Transition},
    distribution::{DuelingHead, ReturnSupport},
};

/// Interpretation of the networks' outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct TdTarget {
    pub(super) head: DuelingHead,
    pub(super) support: ReturnSupport,
    /// Whether outputs are probabilities of the support's atoms; otherwise an output is the action's value.
    pub(super) distributional: bool,
}

/// Loss of one transition.
#[derive(Debug, PartialEq)]
pub(super) struct TransitionLoss {
    pub(super) loss: f32,
    /// Error from which its priority is computed.
    pub(super) error: f32,
    /// Loss's gradient by the outputs of the action taken, before the softmax if there is one.
    pub(super) by_outputs: Vec<f32>,
    /// Share of the target's distribution that lies beyond the support; 0 without distributions.
    pub(super) clipped: f32,
}

impl TdTarget {
    /// Values of all actions, from their outputs.
    pub(super) fn worths(&self, outputs: &[f32]) -> Vec<f32> {
        if self.distributional {
            outputs.chunks(self.head.atoms).map(|probabilities| self.support.mean(probabilities)).collect()
        } else {
            outputs.to_vec()
        }
    }

    pub(super) fn best(&self, outputs: &[f32]) -> usize {
        argmax(&self.worths(outputs))
    }

    /// Return the target network's outputs of the action that is best by `chooser`: the target network's own outputs,
    /// or in double Q-learning (van Hasselt et al. 2016, arXiv:1509.06461) those of the learning network.
    pub(super) fn bootstrap<'a>(&self, chooser: &[f32], target: &'a [f32]) -> &'a [f32] {
        &target[self.best(chooser) * self.head.atoms..][..self.head.atoms]
    }

    /// Compute the loss of the outputs `said` of the action taken, given the target network's outputs `follows` for the
    /// next state.
    pub(super) fn learn(&self, said: &[f32], follows: &[f32], row: &Transition<'_>) -> TransitionLoss {
        if !self.distributional {
            // Huber's loss of the temporal difference.
            let error = said[0] - (row.reward + row.discount * follows[0]);
            let loss = if error.abs() < 1.0 { 0.5 * error * error } else { error.abs() - 0.5 };
            return TransitionLoss { loss, error, by_outputs: vec![error.clamp(-1.0, 1.0)], clipped: 0.0 };
        }
        let wanted = self.support.project(row.reward, row.discount, follows);
        // Cross-entropy; its gradient before the softmax is the difference of the distributions. Minus the entropy of
        // the target it is the Kullback-Leibler divergence, Rainbow's priority.
        let (mut loss, mut entropy) = (0.0, 0.0);
        for (said, wanted) in said.iter().zip(&wanted) {
            loss -= wanted * said.max(f32::MIN_POSITIVE).ln();
            entropy -= if *wanted > 0.0 { wanted * wanted.ln() } else { 0.0 };
        }
        let by_outputs = said.iter().zip(&wanted).map(|(said, wanted)| said - wanted).collect();
        let clipped = self.support.clipped_mass(row.reward, row.discount, follows);
        TransitionLoss { loss, error: (loss - entropy).max(0.0), by_outputs, clipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two actions; atoms at 0, 1 and 2.
    const JUDGE: TdTarget = TdTarget {
        head: DuelingHead { actions: 2, atoms: 3, dueling: true },
        support: ReturnSupport { least: 0.0, most: 2.0, atoms: 3 },
        distributional: true,
    };
    const PLAIN: TdTarget =
        TdTarget { head: DuelingHead { actions: 2, atoms: 1, dueling: false }, distributional: false, ..JUDGE };

    fn row(reward: f32, discount: f32) -> Transition<'static> {
        Transition { observation: &[], action: &[1.0], reward, next: &[], discount }
    }

    #[test]
    fn double_learning_chooses_by_one_network_and_judges_by_the_other() {
        // The network that learns: 0.5 * 1 + 0.5 * 2 = 1.5 and 1; the target network: 0.25 and 1.75.
        let (learns, target) = ([0.0, 0.5, 0.5, 0.5, 0.0, 0.5], [0.75, 0.25, 0.0, 0.0, 0.25, 0.75]);
        assert_eq!((JUDGE.worths(&learns), JUDGE.worths(&target)), (vec![1.5, 1.0], vec![0.25, 1.75]));
        assert_eq!(JUDGE.bootstrap(&learns, &target), [0.75, 0.25, 0.0], "action 0, as the target network sees it");
        assert_eq!(JUDGE.bootstrap(&target, &target), [0.0, 0.25, 0.75], "without double learning: action 1");
        // Values: double learning wants 1 + 0.5 * 2 = 2 of the action, not 1 + 0.5 * 6 = 4.
        let (learns, target) = ([5.0, 3.0], [2.0, 6.0]);
        let lesson = |chooser: &[f32]| PLAIN.learn(&[2.5], PLAIN.bootstrap(chooser, &target), &row(1.0, 0.5));
        assert_eq!(lesson(&learns), TransitionLoss { loss: 0.125, error: 0.5, by_outputs: vec![0.5], clipped: 0.0 });
        assert_eq!(lesson(&target), TransitionLoss { loss: 1.0, error: -1.5, by_outputs: vec![-1.0], clipped: 0.0 });
    }

    #[test]
    fn a_distributions_lesson_is_as_computed_by_hand() {
        // All of what follows at 1: 0.5 + 0.5 * 1 = 1 is wanted for sure; a quarter was said of it.
        let lesson = JUDGE.learn(&[0.5, 0.25, 0.25], &[0.0, 1.0, 0.0], &row(0.5, 0.5));
        assert_eq!(lesson.by_outputs, [0.5, -0.75, 0.25]);
        assert!((lesson.loss - 4f32.ln()).abs() < 1e-6 && (lesson.error - 4f32.ln()).abs() < 1e-6);
        // 0.5 after an end: half at 0, half at 1, which was said: nothing to learn, though the cross-entropy is ln 2.
        let lesson = JUDGE.learn(&[0.5, 0.5, 0.0], &[0.0, 0.0, 1.0], &row(0.5, 0.0));
        assert_eq!(lesson.by_outputs, [0.0; 3]);
        assert!((lesson.loss - 2f32.ln()).abs() < 1e-6 && lesson.error < 1e-6);
    }
}
