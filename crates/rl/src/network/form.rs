//! What a network is, and what it makes of a state.

use serde::{Deserialize, Serialize};

/// What a network is, read from its tensors and the file's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// `ppo`, `sac`, `rainbow_dqn` or `dqn`.
    pub algorithm: String,
    /// The length of a state.
    pub state_length: usize,
    /// What it can do.
    pub actions: Actions,
    /// The widths of the hidden layers through which a state goes to an action.
    pub hidden: Vec<usize>,
    /// Rainbow's: of how many atoms a return's distribution is.
    pub atoms: Option<usize>,
    /// How many numbers all tensors have.
    pub parameters: u64,
    /// Whether states are brought to mean 0 and variance 1 before they go in, by numbers in the file.
    pub normalized: bool,
}

/// What a policy can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actions {
    /// One of some actions.
    Discrete {
        /// How many there are.
        count: usize,
    },
    /// A vector of numbers within bounds.
    Continuous {
        /// The least of each.
        low: Vec<f32>,
        /// The most of each.
        high: Vec<f32>,
        /// Whether the Gaussian's numbers are squashed between the bounds by tanh; otherwise they are clamped.
        squashed: bool,
    },
    /// One of some actions, by a Gaussian's number for each: that of the highest is done.
    Scores {
        /// How many there are.
        count: usize,
    },
}

/// What a policy does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// The action of this index.
    Discrete(usize),
    /// These numbers, within the bounds.
    Continuous(Vec<f32>),
}

/// What the network makes of one state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Evaluation {
    /// PPO's.
    Probabilities {
        /// The softmax of the actor's outputs, one for each action.
        probabilities: Vec<f32>,
        /// The critic's output.
        value: f32,
    },
    /// Rainbow's and DQN's.
    Values {
        /// The Q of each action: of Rainbow the expectation over its support.
        q: Vec<f32>,
    },
    /// SAC's.
    Gaussian {
        /// The means, before they are squashed or clamped.
        mean: Vec<f32>,
        /// The standard deviations, likewise.
        std: Vec<f32>,
        /// The smaller of both critics' Q of the greedy action.
        value: f32,
    },
}

impl Form {
    /// What the policy does without exploring; the lowest index of equals.
    pub(crate) fn greedy(&self, evaluation: &Evaluation) -> Act {
        match evaluation {
            Evaluation::Probabilities { probabilities: numbers, .. } | Evaluation::Values { q: numbers } => {
                Act::Discrete(highest(numbers))
            }
            Evaluation::Gaussian { mean, .. } => self.actions.of_gaussian(mean),
        }
    }
}

impl Actions {
    /// What a Gaussian's numbers, its means or drawn ones, stand for.
    pub(crate) fn of_gaussian(&self, numbers: &[f32]) -> Act {
        let bounded = |low: f32, high: f32, squashed: bool, number: f32| match squashed {
            true => low + 0.5 * (number.tanh() + 1.0) * (high - low),
            false => number.clamp(low, high),
        };
        match self {
            Self::Continuous { low, high, squashed } => {
                let bounds = low.iter().zip(high).zip(numbers);
                Act::Continuous(bounds.map(|((low, high), number)| bounded(*low, *high, *squashed, *number)).collect())
            }
            // Squashed as in training, where what rounds to the same number is a tie.
            Self::Discrete { .. } | Self::Scores { .. } => {
                let scores: Vec<f32> = numbers.iter().map(|number| bounded(-1.0, 1.0, true, *number)).collect();
                Act::Discrete(highest(&scores))
            }
        }
    }

    /// How many actions there are, or numbers of one.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Discrete { count } | Self::Scores { count } => *count,
            Self::Continuous { low, .. } => low.len(),
        }
    }
}

impl Evaluation {
    /// Whether every number is finite.
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

/// The index of the highest number, the lowest index of equals.
fn highest(numbers: &[f32]) -> usize {
    (1..numbers.len()).fold(0, |best, index| if numbers[index] > numbers[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_equals_is_greedy() {
        let form = Form {
            algorithm: "ppo".into(),
            state_length: 1,
            actions: Actions::Discrete { count: 4 },
            hidden: vec![],
            atoms: None,
            parameters: 0,
            normalized: false,
        };
        let greedy = |probabilities: &[f32]| {
            form.greedy(&Evaluation::Probabilities { probabilities: probabilities.to_vec(), value: 0.0 })
        };
        assert_eq!(greedy(&[0.1, 0.4, 0.4, 0.1]), Act::Discrete(1));
        assert_eq!(greedy(&[0.25; 4]), Act::Discrete(0));
        assert_eq!(form.greedy(&Evaluation::Values { q: vec![-2.0, -3.0, -1.0] }), Act::Discrete(2));
    }

    #[test]
    fn a_gaussians_numbers_are_squashed_or_clamped() {
        let (low, high) = (vec![-2.0, 0.0], vec![2.0, 4.0]);
        let clamped = Actions::Continuous { low: low.clone(), high: high.clone(), squashed: false };
        assert_eq!(clamped.of_gaussian(&[-3.0, 0.5]), Act::Continuous(vec![-2.0, 0.5]));
        // tanh(ln 3 / 2) = 1/2: three quarters of the way from low to high.
        let squashed = Actions::Continuous { low, high, squashed: true };
        let Act::Continuous(action) = squashed.of_gaussian(&[0.5 * 3f32.ln(), 0.0]) else { panic!() };
        assert!((action[0] - 1.0).abs() < 1e-6 && action[1] == 2.0, "{action:?}");
        let scores = Actions::Scores { count: 3 };
        assert_eq!(scores.of_gaussian(&[0.1, 7.0, 0.3]), Act::Discrete(1));
        assert_eq!(scores.of_gaussian(&[0.1, 70.0, 80.0]), Act::Discrete(1), "both are 1 when squashed");
        assert_eq!((scores.count(), squashed.count()), (3, 2));
    }

    #[test]
    fn forms_are_tagged_in_json() {
        let actions = Actions::Continuous { low: vec![-1.0], high: vec![1.0], squashed: false };
        let text = r#"{"type":"continuous","low":[-1.0],"high":[1.0],"squashed":false}"#;
        assert_eq!(serde_json::to_string(&actions).unwrap(), text);
        assert_eq!(serde_json::from_str::<Actions>(text).unwrap(), actions);
    }
}
