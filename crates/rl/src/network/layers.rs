//! Structure of a policy's tensors, generic over their storage: numbers as read, or libtorch's tensors.

use super::file::Array;

/// Linear layer `y = x W^T + b`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Linear<T> {
    /// Weights, outputs x inputs as in PyTorch.
    pub(crate) weight: T,
    /// Biases, one per output.
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

/// Tensors of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layers<T> {
    /// Mean and standard deviation for normalising states.
    pub(crate) normalisation: Option<[Array; 2]>,
    pub(crate) body: Body<T>,
}

/// Tensors of one kind of network. There is a ReLU between each two layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body<T> {
    /// Tensors of PPO.
    ActorCritic { actor: Vec<Linear<T>>, critic: Vec<Linear<T>> },
    /// Tensors of Rainbow and DQN: two streams after the feature layers, the last of which is followed by a ReLU too.
    Values {
        feature: Vec<Linear<T>>,
        value: Vec<Linear<T>>,
        /// Advantage stream, with actions x atoms outputs.
        advantage: Vec<Linear<T>>,
        actions: usize,
        /// Whether the value stream is used: value + advantage - mean advantage. Otherwise the advantages are the
        /// outputs.
        dueling: bool,
        /// Returns that the atoms stand for. `None`: an output is a Q-value.
        support: Option<Array>,
    },
    /// Tensors of SAC.
    Gaussian {
        /// Layers up to the means.
        mean: Vec<Linear<T>>,
        deviation: Deviation<T>,
        /// Critics, whose input is state and action concatenated.
        critics: [Vec<Linear<T>>; 2],
        /// Bounds of the action; numbers are squashed by tanh and scaled to them, or clamped.
        bounds: Option<[Array; 2]>,
    },
}

/// Source of a Gaussian's standard deviations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deviation<T> {
    /// Logarithms that are the same in each state: 1 x actions.
    Fixed(Array),
    /// A layer beside that of the means; its outputs are squashed between bounds of the logarithm.
    Head { layer: Linear<T>, least: f32, most: f32 },
}

/// Role of a tensor in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Weights of a layer.
    Weight,
    /// Biases of a layer.
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
    /// Transform every layer's tensors.
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

    /// Names of the network's outputs, in order.
    pub(crate) fn output_names(&self) -> &'static [&'static str] {
        match self.body {
            Body::ActorCritic { .. } => &["probabilities", "value"],
            Body::Values { .. } => &["q"],
            Body::Gaussian { .. } => &["mean", "std", "value"],
        }
    }
}

impl<T> Body<T> {
    /// Return the last layer of each stack, without that of a Gaussian's deviations.
    pub(crate) fn last_layers(&self) -> Vec<&Linear<T>> {
        let stacks = match self {
            Self::ActorCritic { actor, critic } => vec![actor, critic],
            Self::Values { value, advantage, .. } => vec![value, advantage],
            Self::Gaussian { mean, critics: [first, second], .. } => vec![mean, first, second],
        };
        stacks.into_iter().filter_map(|stack| stack.last()).collect()
    }

    /// Return the layer of a Gaussian's deviations, where it has one.
    pub(crate) fn deviation_layer(&self) -> Option<&Linear<T>> {
        match self {
            Self::Gaussian { deviation: Deviation::Head { layer, .. }, .. } => Some(layer),
            _ => None,
        }
    }
}
