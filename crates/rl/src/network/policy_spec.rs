//! Description of a network and its outputs for a state.

use serde::{Deserialize, Serialize};

/// Properties of a network, read from its tensors and the file's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkForm)]
pub struct PolicySpec {
    /// Algorithm: `ppo`, `sac`, `rainbow_dqn` or `dqn`.
    pub algorithm: String,
    /// Length of a state.
    pub state_length: usize,
    /// Kind and number of actions.
    pub actions: PolicyActions,
    /// Widths of the hidden layers between state and action.
    pub hidden: Vec<usize>,
    /// Number of atoms of a return's distribution; Rainbow only.
    pub atoms: Option<usize>,
    /// Total number of elements of all tensors.
    pub parameters: u64,
    /// Whether states are normalised to mean 0 and variance 1, with figures from the file.
    pub normalized: bool,
}

/// Set of actions of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = NetworkActions)]
pub enum PolicyActions {
    /// One of several actions.
    Discrete {
        /// Number of actions.
        count: usize,
    },
    /// Vector of numbers within bounds.
    Continuous {
        /// Smallest value of each number.
        low: Vec<f32>,
        /// Largest value of each number.
        high: Vec<f32>,
        /// Whether the Gaussian's numbers are squashed into the bounds by tanh; otherwise they are clamped.
        squashed: bool,
    },
    /// One of several actions, by a Gaussian score for each: the action with the highest score is done.
    Scores {
        /// Number of actions.
        count: usize,
    },
}

/// An action as the network's outputs determine it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NetworkAction {
    /// Index of the action.
    Discrete(usize),
    /// Numbers within the bounds.
    Continuous(Vec<f32>),
}

/// Output of the network for one state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NetworkOutput {
    /// Output of PPO.
    Probabilities {
        /// Probability of each action: softmax of the actor's outputs.
        probabilities: Vec<f32>,
        /// Output of the critic.
        value: f32,
    },
    /// Output of Rainbow and DQN.
    Values {
        /// Q-value of each action; for Rainbow the expectation over its support.
        q: Vec<f32>,
    },
    /// Output of SAC.
    Gaussian {
        /// Means, before squashing or clamping.
        mean: Vec<f32>,
        /// Standard deviations, before squashing or clamping.
        std: Vec<f32>,
        /// Smaller of both critics' Q-values of the greedy action.
        value: f32,
    },
}

impl PolicySpec {
    /// Return the action without exploration; the lowest index among equals.
    pub(crate) fn greedy(&self, evaluation: &NetworkOutput) -> NetworkAction {
        match evaluation {
            NetworkOutput::Probabilities { probabilities: numbers, .. } | NetworkOutput::Values { q: numbers } => {
                NetworkAction::Discrete(argmax(numbers))
            }
            NetworkOutput::Gaussian { mean, .. } => self.actions.gaussian_action(mean),
        }
    }
}

impl PolicyActions {
    /// Convert a Gaussian's numbers, means or drawn ones, to an action.
    pub(crate) fn gaussian_action(&self, numbers: &[f32]) -> NetworkAction {
        let bounded = |low: f32, high: f32, squashed: bool, number: f32| match squashed {
            true => low + 0.5 * (number.tanh() + 1.0) * (high - low),
            false => number.clamp(low, high),
        };
        match self {
            Self::Continuous { low, high, squashed } => {
                let bounds = low.iter().zip(high).zip(numbers);
                NetworkAction::Continuous(
                    bounds.map(|((low, high), number)| bounded(*low, *high, *squashed, *number)).collect(),
                )
            }
            // Squashed as in training, where numbers that round to the same value count as equal.
            Self::Discrete { .. } | Self::Scores { .. } => {
                let scores: Vec<f32> = numbers.iter().map(|number| bounded(-1.0, 1.0, true, *number)).collect();
                NetworkAction::Discrete(argmax(&scores))
            }
        }
    }

    /// Number of discrete actions, or length of a continuous one.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Discrete { count } | Self::Scores { count } => *count,
            Self::Continuous { low, .. } => low.len(),
        }
    }
}

impl NetworkOutput {
    /// Return the estimated value of the state; for Q-values the highest.
    pub(crate) fn state_value(&self) -> f32 {
        match self {
            Self::Probabilities { value, .. } | Self::Gaussian { value, .. } => *value,
            Self::Values { q } => q.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        }
    }

    /// Check that every number is finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.numbers().all(f32::is_finite)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = f32> + '_ {
        let (first, second, value): (&[f32], &[f32], _) = match self {
            Self::Probabilities { probabilities, value } => (probabilities, &[], Some(*value)),
            Self::Values { q } => (q, &[], None),
            Self::Gaussian { mean, std, value } => (mean, std, Some(*value)),
        };
        first.iter().chain(second).copied().chain(value)
    }
}

/// Index of the highest number; the lowest index among equals.
fn argmax(numbers: &[f32]) -> usize {
    (1..numbers.len()).fold(0, |best, index| if numbers[index] > numbers[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_equals_is_greedy() {
        let form = PolicySpec {
            algorithm: "ppo".into(),
            state_length: 1,
            actions: PolicyActions::Discrete { count: 4 },
            hidden: vec![],
            atoms: None,
            parameters: 0,
            normalized: false,
        };
        let greedy = |probabilities: &[f32]| {
            form.greedy(&NetworkOutput::Probabilities { probabilities: probabilities.to_vec(), value: 0.0 })
        };
        assert_eq!(greedy(&[0.1, 0.4, 0.4, 0.1]), NetworkAction::Discrete(1));
        assert_eq!(greedy(&[0.25; 4]), NetworkAction::Discrete(0));
        assert_eq!(form.greedy(&NetworkOutput::Values { q: vec![-2.0, -3.0, -1.0] }), NetworkAction::Discrete(2));
    }

    #[test]
    fn a_gaussians_numbers_are_squashed_or_clamped() {
        let (low, high) = (vec![-2.0, 0.0], vec![2.0, 4.0]);
        let clamped = PolicyActions::Continuous { low: low.clone(), high: high.clone(), squashed: false };
        assert_eq!(clamped.gaussian_action(&[-3.0, 0.5]), NetworkAction::Continuous(vec![-2.0, 0.5]));
        // tanh(ln 3 / 2) = 1/2: three quarters of the way from low to high.
        let squashed = PolicyActions::Continuous { low, high, squashed: true };
        let NetworkAction::Continuous(action) = squashed.gaussian_action(&[0.5 * 3f32.ln(), 0.0]) else { panic!() };
        assert!((action[0] - 1.0).abs() < 1e-6 && action[1] == 2.0, "{action:?}");
        let scores = PolicyActions::Scores { count: 3 };
        assert_eq!(scores.gaussian_action(&[0.1, 7.0, 0.3]), NetworkAction::Discrete(1));
        assert_eq!(scores.gaussian_action(&[0.1, 70.0, 80.0]), NetworkAction::Discrete(1), "both are 1 when squashed");
        assert_eq!((scores.count(), squashed.count()), (3, 2));
    }

    #[test]
    fn forms_are_tagged_in_json() {
        let actions = PolicyActions::Continuous { low: vec![-1.0], high: vec![1.0], squashed: false };
        let text = r#"{"type":"continuous","low":[-1.0],"high":[1.0],"squashed":false}"#;
        assert_eq!(serde_json::to_string(&actions).unwrap(), text);
        assert_eq!(serde_json::from_str::<PolicyActions>(text).unwrap(), actions);
    }
}
