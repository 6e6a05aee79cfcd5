//! Losses on rows of feedback, differentiated by libtorch. An episode is one step: there is no value of a next state.

use tch::{Device, Kind, Reduction, TchError, Tensor};

use super::feedback_rows::FeedbackRows;
use crate::network::{NetworkBody, PolicyActions};

/// Standard deviations of the rewards between the middle and an end of a distribution's atoms.
const SUPPORT_DEVIATIONS: f32 = 4.0;

/// A batch of rows of feedback.
pub(super) struct FeedbackBatch {
    /// Normalised states of the rows.
    states: Tensor,
    /// Indices of the actions, rows x 1.
    indices: Option<Tensor>,
    /// Continuous actions, rows x numbers.
    taken: Option<Tensor>,
    rewards: Tensor,
    /// Weights of the actions.
    weights: Tensor,
    /// Rewards projected on the support of a distribution, rows x atoms.
    distributions: Option<Tensor>,
}

/// Loss, and the mean weight of the actions where they are weighted.
pub(super) struct OfflineLoss {
    pub(super) total: Tensor,
    pub(super) weight: Option<Tensor>,
}

impl FeedbackBatch {
    /// Gather these rows; `states` are the normalised states of all rows.
    pub(super) fn from_rows(
        rows: &FeedbackRows,
        states: &[f32],
        some: &[usize],
        body: &NetworkBody<Tensor>,
        device: Device,
    ) -> Result<Self, TchError> {
        fn chosen<T: Copy>(all: &[T], some: &[usize], width: usize) -> Vec<T> {
            some.iter().flat_map(|at| &all[at * width..][..width]).copied().collect()
        }
        let count = rows.len();
        let matrix = |all: &[f32]| -> Result<Tensor, TchError> {
            let width = all.len() / count;
            Tensor::f_from_slice(&chosen(all, some, width))?.f_view([-1, width as i64])?.f_to_device(device)
        };
        let indices = if rows.indices.is_empty() {
            None
        } else {
            Some(Tensor::f_from_slice(&chosen(&rows.indices, some, 1))?.f_view([-1, 1])?.f_to_device(device)?)
        };
        let rewards = chosen(&rows.rewards, some, 1);
        let distributions = match body {
            NetworkBody::Values { support: Some(support), .. } => {
                let all: Vec<f32> = rewards
                    .iter()
                    .flat_map(|reward| project_reward(on_support(*reward, &support.numbers), &support.numbers))
                    .collect();
                Some(Tensor::f_from_slice(&all)?.f_view([-1, support.numbers.len() as i64])?.f_to_device(device)?)
            }
            _ => None,
        };
        Ok(Self {
            states: matrix(states)?,
            indices,
            taken: if rows.taken.is_empty() { None } else { Some(matrix(&rows.taken)?) },
            rewards: Tensor::f_from_slice(&rewards)?.f_to_device(device)?,
            weights: Tensor::f_from_slice(&chosen(&rows.weights, some, 1))?.f_to_device(device)?,
            distributions,
        })
    }

    /// Compute the loss of a network with these layers.
    pub(super) fn loss(&self, body: &NetworkBody<Tensor>, actions: &PolicyActions) -> Result<OfflineLoss, TchError> {
        match body {
            NetworkBody::ActorCritic { .. } => self.actor_critic(body),
            NetworkBody::Values { .. } => self.values(body),
            NetworkBody::Gaussian { .. } => self.gaussian(body, actions),
        }
    }

    /// Advantage-weighted regression (Peng et al. 2019, arXiv:1910.00177): actions are imitated, each weighted by how
    /// much it exceeded the expectation, and the critic learns the reward.
    fn actor_critic(&self, body: &NetworkBody<Tensor>) -> Result<OfflineLoss, TchError> {
        let [logits, values] = body.actor_critic(&self.states)?;
        let weights = &self.weights;
        let imitated = self.log_probabilities(&logits)?.f_mul(weights)?.f_mean(Kind::Float)?;
        let expected = values.f_mse_loss(&self.rewards, Reduction::Mean)?.f_mul_scalar(0.5)?;
        Ok(OfflineLoss { total: expected.f_sub(&imitated)?, weight: Some(weights.f_mean(Kind::Float)?) })
    }

    /// Move the Q-value of the action done towards the reward: by cross-entropy for distributions, otherwise by Huber's
    /// loss.
    fn values(&self, body: &NetworkBody<Tensor>) -> Result<OfflineLoss, TchError> {
        let outputs = body.atoms(&self.states)?;
        let size = outputs.size();
        let index = self.index()?.f_unsqueeze(-1)?.f_expand([size[0], 1, size[2]], false)?;
        let done = outputs.f_gather(1, &index, false)?.f_squeeze_dim(1)?;
        let total = match &self.distributions {
            Some(wanted) => {
                let each = done.f_log_softmax(-1, Kind::Float)?.f_mul(wanted)?;
                each.f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)?.f_mean(Kind::Float)?.f_neg()?
            }
            None => done.f_squeeze_dim(-1)?.f_smooth_l1_loss(&self.rewards, Reduction::Mean, 1.0)?,
        };
        Ok(OfflineLoss { total, weight: None })
    }

    /// Move both critics towards the reward, and the mean towards the action done, weighted as in advantage-weighted
    /// regression.
    fn gaussian(&self, body: &NetworkBody<Tensor>, actions: &PolicyActions) -> Result<OfflineLoss, TchError> {
        let Some(taken) = &self.taken else { return Err(TchError::Torch("actions are missing".to_owned())) };
        let (mean, _) = body.gaussian(&self.states)?;
        let weights = &self.weights;
        let far = match actions {
            PolicyActions::Scores { .. } => self.log_probabilities(&mean)?.f_neg()?,
            // For clamped actions the loss uses the number before clamping, which always has a gradient.
            PolicyActions::Continuous { squashed: false, .. } => squared_distances(&mean, taken)?,
            _ => squared_distances(&mean.f_tanh()?, taken)?,
        };
        let imitated = far.f_mul(weights)?.f_mean(Kind::Float)?;
        let [first, second] = body.judged(&self.states, taken)?;
        let expected = first
            .f_mse_loss(&self.rewards, Reduction::Mean)?
            .f_add(&second.f_mse_loss(&self.rewards, Reduction::Mean)?)?
            .f_mul_scalar(0.5)?;
        Ok(OfflineLoss { total: imitated.f_add(&expected)?, weight: Some(weights.f_mean(Kind::Float)?) })
    }

    fn log_probabilities(&self, logits: &Tensor) -> Result<Tensor, TchError> {
        logits.f_log_softmax(-1, Kind::Float)?.f_gather(1, self.index()?, false)?.f_squeeze_dim(1)
    }

    fn index(&self) -> Result<&Tensor, TchError> {
        self.indices.as_ref().ok_or_else(|| TchError::Torch("indices are missing".to_owned()))
    }
}

/// Squared distances of rows.
fn squared_distances(one: &Tensor, other: &Tensor) -> Result<Tensor, TchError> {
    one.f_sub(other)?.f_square()?.f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)
}

/// Place a reward, in standard deviations, on ascending atoms: the mean at their middle, and `SUPPORT_DEVIATIONS` of them
/// at their ends. The atoms' own unit is that of another task.
fn on_support(reward: f32, support: &[f32]) -> f32 {
    match support {
        [first, .., last] => 0.5 * (first + last) + reward * 0.5 * (last - first) / SUPPORT_DEVIATIONS,
        _ => reward,
    }
}

/// Project all mass at `reward` on ascending atoms: C51's projection (Bellemare et al. 2017, arXiv:1707.06887) with
/// discount 0. A reward beyond an end goes to that end.
fn project_reward(reward: f32, support: &[f32]) -> Vec<f32> {
    let mut masses = vec![0.0; support.len()];
    let above = support.partition_point(|atom| *atom <= reward);
    if above == 0 || above == support.len() {
        masses[above.saturating_sub(1)] = 1.0;
    } else {
        let share = (reward - support[above - 1]) / (support[above] - support[above - 1]);
        (masses[above - 1], masses[above]) = (1.0 - share, share);
    }
    masses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_is_as_computed_by_hand() {
        let support = [-2.0, -1.0, 0.0, 1.0, 3.0];
        assert_eq!(project_reward(0.25, &support), [0.0, 0.0, 0.75, 0.25, 0.0]);
        assert_eq!(project_reward(1.5, &support), [0.0, 0.0, 0.0, 0.75, 0.25]);
        assert_eq!(project_reward(-1.0, &support), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(project_reward(9.0, &support), [0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(project_reward(-9.0, &support), [1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
