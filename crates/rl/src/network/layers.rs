//! A policy's tensors in their places. What holds the layers differs: numbers as they are read, or libtorch's tensors.

use super::file::Array;

/// `y = x W^T + b`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Linear<T> {
    /// outputs x inputs, as PyTorch has it.
    pub(crate) weight: T,
    /// outputs.
    pub(crate) bias: T,
}

impl Linear<Array> {
    pub(crate) fn outputs(&self) -> usize {
        self.weight.shape[0]
    }

    pub(crate) fn inputs(&self) -> usize {
        self.weight.shape[1]
    }
}

/// The tensors of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layers<T> {
    /// Mean and standard deviation by which states are brought to 0 and 1 first.
    pub(crate) normalisation: Option<[Array; 2]>,
    pub(crate) body: Body<T>,
}

/// The tensors of a kind of network. There is a ReLU between each two layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body<T> {
    /// PPO's.
    ActorCritic { actor: Vec<Linear<T>>, critic: Vec<Linear<T>> },
    /// Rainbow's and DQN's: two streams stand on the feature layers, the last of which has a ReLU after it too.
    Values {
        feature: Vec<Linear<T>>,
        value: Vec<Linear<T>>,
        /// Actions x atoms outputs.
        advantage: Vec<Linear<T>>,
        actions: usize,
        /// Whether the value stream counts: value + advantage - mean advantage. Otherwise the advantages are the outputs.
        dueling: bool,
        /// The returns that the atoms stand for. Without it a Q is an output itself.
        support: Option<Array>,
    },
    /// SAC's.
    Gaussian {
        /// Up to the means.
        mean: Vec<Linear<T>>,
        deviation: Deviation<T>,
        /// Of state and action side by side.
        critics: [Vec<Linear<T>>; 2],
        /// What an action is before it is scaled to its bounds: squashed by tanh, or clamped to them.
        bounds: Option<[Array; 2]>,
    },
}

/// Where a Gaussian's standard deviations come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deviation<T> {
    /// Their logarithms, the same in each state: 1 x actions.
    Fixed(Array),
    /// A layer beside the means', whose outputs are squashed between bounds of the logarithm.
    Head { layer: Linear<T>, least: f32, most: f32 },
}

/// What a layer's tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A layer's weights.
    Weight,
    /// A layer's biases.
    Bias,
}

impl<T> Linear<T> {
    fn map<U, E>(&self, change: &mut impl FnMut(&T, Part) -> Result<U, E>) -> Result<Linear<U>, E> {
        Ok(Linear { weight: change(&self.weight, Part::Weight)?, bias: change(&self.bias, Part::Bias)? })
    }
}

fn map_all<T, U, E>(
    layers: &[Linear<T>],
    change: &mut impl FnMut(&T, Part) -> Result<U, E>,
) -> Result<Vec<Linear<U>>, E> {
    layers.iter().map(|layer| layer.map(change)).collect()
}

impl<T> Layers<T> {
    /// The same with each layer's tensors changed.
    pub(crate) fn map<U, E>(&self, mut change: impl FnMut(&T, Part) -> Result<U, E>) -> Result<Layers<U>, E> {
        let change = &mut change;
        let body = match &self.body {
            Body::ActorCritic { actor, critic } => {
                Body::ActorCritic { actor: map_all(actor, change)?, critic: map_all(critic, change)? }
            }
            Body::Values { feature, value, advantage, actions, dueling, support } => Body::Values {
                feature: map_all(feature, change)?,
                value: map_all(value, change)?,
                advantage: map_all(advantage, change)?,
                actions: *actions,
                dueling: *dueling,
                support: support.clone(),
            },
            Body::Gaussian { mean, deviation, critics: [first, second], bounds } => Body::Gaussian {
                mean: map_all(mean, change)?,
                deviation: match deviation {
                    Deviation::Fixed(log_std) => Deviation::Fixed(log_std.clone()),
                    Deviation::Head { layer, least, most } => {
                        Deviation::Head { layer: layer.map(change)?, least: *least, most: *most }
                    }
                },
                critics: [map_all(first, change)?, map_all(second, change)?],
                bounds: bounds.clone(),
            },
        };
        Ok(Layers { normalisation: self.normalisation.clone(), body })
    }

    /// What the network's outputs are called, in their order.
    pub(crate) fn output_names(&self) -> &'static [&'static str] {
        match self.body {
            Body::ActorCritic { .. } => &["probabilities", "value"],
            Body::Values { .. } => &["q"],
            Body::Gaussian { .. } => &["mean", "std", "value"],
        }
    }
}

impl<T> Body<T> {
    /// The last layer of each stack; that of a Gaussian's deviations aside.
    pub(crate) fn last_layers(&self) -> Vec<&Linear<T>> {
        let stacks = match self {
            Self::ActorCritic { actor, critic } => vec![actor, critic],
            Self::Values { value, advantage, .. } => vec![value, advantage],
            Self::Gaussian { mean, critics: [first, second], .. } => vec![mean, first, second],
        };
        stacks.into_iter().filter_map(|stack| stack.last()).collect()
    }

    /// The layer of a Gaussian's deviations, where it has one.
    pub(crate) fn deviation_layer(&self) -> Option<&Linear<T>> {
        match self {
            Self::Gaussian { deviation: Deviation::Head { layer, .. }, .. } => Some(layer),
            _ => None,
        }
    }
}
