//! Structure of a policy's tensors, generic over their storage: numbers as read, or libtorch's tensors.

/// Elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightArray {
    /// Name in the file.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) numbers: Vec<f32>,
}

/// Linear layer `y = x W^T + b`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearLayer<T> {
    /// Weights, outputs x inputs as in PyTorch.
    pub(crate) weight: T,
    /// Biases, one per output.
    pub(crate) bias: T,
}

impl LinearLayer<WeightArray> {
    pub(crate) fn outputs(&self) -> usize {
        self.weight.shape[0]
    }

    pub(crate) fn inputs(&self) -> usize {
        self.weight.shape[1]
    }
}

/// Tensors of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkLayers<T> {
    /// Mean and standard deviation for normalising states.
    pub(crate) normalisation: Option<[WeightArray; 2]>,
    pub(crate) body: NetworkBody<T>,
}

/// Tensors of one kind of network. There is a ReLU between each two layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NetworkBody<T> {
    /// Tensors of PPO.
    ActorCritic { actor: Vec<LinearLayer<T>>, critic: Vec<LinearLayer<T>> },
    /// Tensors of Rainbow and DQN: two streams after the feature layers, the last of which is followed by a ReLU too.
    Values {
        feature: Vec<LinearLayer<T>>,
        value: Vec<LinearLayer<T>>,
        /// Advantage stream, with actions x atoms outputs.
        advantage: Vec<LinearLayer<T>>,
        actions: usize,
        /// Whether the value stream is used: value + advantage - mean advantage. Otherwise the advantages are the
        /// outputs.
        dueling: bool,
        /// Returns that the atoms stand for. `None`: an output is a Q-value.
        support: Option<WeightArray>,
    },
    /// Tensors of SAC.
    Gaussian {
        /// Layers up to the means.
        mean: Vec<LinearLayer<T>>,
        deviation: DeviationSource<T>,
        /// Critics, whose input is state and action concatenated.
        critics: [Vec<LinearLayer<T>>; 2],
        /// Bounds of the action; numbers are squashed by tanh and scaled to them, or clamped.
        bounds: Option<[WeightArray; 2]>,
    },
}

/// Source of a Gaussian's standard deviations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeviationSource<T> {
    /// Logarithms that are the same in each state: 1 x actions.
    Fixed(WeightArray),
    /// A layer beside that of the means; its outputs are squashed between bounds of the logarithm.
    Head { layer: LinearLayer<T>, least: f32, most: f32 },
}

/// Role of a tensor in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorRole {
    /// Weights of a layer.
    Weight,
    /// Biases of a layer.
    Bias,
}

impl<T> LinearLayer<T> {
    fn map<U, E>(&self, change: &mut impl FnMut(&T, TensorRole) -> Result<U, E>) -> Result<LinearLayer<U>, E> {
        Ok(LinearLayer {
            weight: change(&self.weight, TensorRole::Weight)?,
            bias: change(&self.bias, TensorRole::Bias)?,
        })
    }
}

fn map_all<T, U, E>(
    layers: &[LinearLayer<T>],
    change: &mut impl FnMut(&T, TensorRole) -> Result<U, E>,
) -> Result<Vec<LinearLayer<U>>, E> {
    layers.iter().map(|layer| layer.map(change)).collect()
}

impl<T> NetworkLayers<T> {
    /// Transform every layer's tensors.
    pub(crate) fn map<U, E>(
        &self,
        mut change: impl FnMut(&T, TensorRole) -> Result<U, E>,
    ) -> Result<NetworkLayers<U>, E> {
        let change = &mut change;
        let body = match &self.body {
            NetworkBody::ActorCritic { actor, critic } => {
                NetworkBody::ActorCritic { actor: map_all(actor, change)?, critic: map_all(critic, change)? }
            }
            NetworkBody::Values { feature, value, advantage, actions, dueling, support } => NetworkBody::Values {
                feature: map_all(feature, change)?,
                value: map_all(value, change)?,
                advantage: map_all(advantage, change)?,
                actions: *actions,
                dueling: *dueling,
                support: support.clone(),
            },
            NetworkBody::Gaussian { mean, deviation, critics: [first, second], bounds } => NetworkBody::Gaussian {
                mean: map_all(mean, change)?,
                deviation: match deviation {
                    DeviationSource::Fixed(log_std) => DeviationSource::Fixed(log_std.clone()),
                    DeviationSource::Head { layer, least, most } => {
                        DeviationSource::Head { layer: layer.map(change)?, least: *least, most: *most }
                    }
                },
                critics: [map_all(first, change)?, map_all(second, change)?],
                bounds: bounds.clone(),
            },
        };
        Ok(NetworkLayers { normalisation: self.normalisation.clone(), body })
    }

    /// Names of the network's outputs, in order.
    pub(crate) fn output_names(&self) -> &'static [&'static str] {
        match self.body {
            NetworkBody::ActorCritic { .. } => &["probabilities", "value"],
            NetworkBody::Values { .. } => &["q"],
            NetworkBody::Gaussian { .. } => &["mean", "std", "value"],
        }
    }
}

impl<T> NetworkBody<T> {
    /// Return the last layer of each stack, without that of a Gaussian's deviations.
    pub(crate) fn last_layers(&self) -> Vec<&LinearLayer<T>> {
        let stacks = match self {
            Self::ActorCritic { actor, critic } => vec![actor, critic],
            Self::Values { value, advantage, .. } => vec![value, advantage],
            Self::Gaussian { mean, critics: [first, second], .. } => vec![mean, first, second],
        };
        stacks.into_iter().filter_map(|stack| stack.last()).collect()
    }

    /// Return the layer of a Gaussian's deviations, where it has one.
    pub(crate) fn deviation_layer(&self) -> Option<&LinearLayer<T>> {
        match self {
            Self::Gaussian { deviation: DeviationSource::Head { layer, .. }, .. } => Some(layer),
            _ => None,
        }
    }
}
