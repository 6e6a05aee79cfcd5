//! Forward passes through a network.

use tch::{Device, Kind, TchError, Tensor, utils::has_mkldnn};

use super::layers::{DeviationSource, LinearLayer, NetworkBody, NetworkLayers, WeightArray};

/// Number of multiplications from which oneDNN is faster than MKL: 64 rows through 256 x 256.
const ONEDNN_MIN_MULTIPLICATIONS: i64 = 1 << 22;

/// Limit of normalised numbers: they are clamped to within this of 0.
pub(crate) const MAX_NORMALISED: f32 = 10.0;

/// Constants of a pass as libtorch tensors. Created before the pass: a trace does not record them then.
pub(crate) struct ForwardConstants {
    normalisation: Option<[Tensor; 2]>,
    support: Option<Tensor>,
    log_std: Option<Tensor>,
    bounds: Option<[Tensor; 2]>,
}

impl ForwardConstants {
    pub(crate) fn new<T>(layers: &NetworkLayers<T>, device: Device) -> Result<Self, TchError> {
        let there = |array: &WeightArray| array.to_tensor()?.f_to_device(device);
        let pair = |pair: &Option<[WeightArray; 2]>| -> Result<Option<[Tensor; 2]>, TchError> {
            pair.as_ref().map(|[first, second]| Ok([there(first)?, there(second)?])).transpose()
        };
        let (support, log_std, bounds) = match &layers.body {
            NetworkBody::ActorCritic { .. } => (None, None, None),
            NetworkBody::Values { support, .. } => (support.as_ref(), None, None),
            NetworkBody::Gaussian { deviation: DeviationSource::Fixed(log_std), bounds, .. } => {
                (None, Some(log_std), bounds.as_ref())
            }
            NetworkBody::Gaussian { bounds, .. } => (None, None, bounds.as_ref()),
        };
        Ok(Self {
            normalisation: pair(&layers.normalisation)?,
            support: support.map(there).transpose()?,
            log_std: log_std.map(there).transpose()?,
            bounds: pair(&bounds.cloned())?,
        })
    }
}

/// Pass `input`, rows x inputs, through `layers` with a ReLU between each two.
fn forward_layers(layers: &[LinearLayer<Tensor>], input: &Tensor) -> Result<Tensor, TchError> {
    let mut present = input.shallow_clone();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            present = present.f_relu_()?;
        }
        present = layer.apply(&present)?;
    }
    Ok(present)
}

impl LinearLayer<Tensor> {
    /// Weights are transposed here: inputs x outputs.
    fn apply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let multiplications = input.size()[0] * self.weight.numel() as i64;
        if multiplications < ONEDNN_MIN_MULTIPLICATIONS || self.weight.device() != Device::Cpu || !has_mkldnn() {
            return self.bias.f_addmm(input, &self.weight);
        }
        let weight = self.weight.f_transpose(0, 1)?;
        input.f_to_mkldnn(None)?.f_mkldnn_linear(&weight, Some(&self.bias))?.f_to_dense(None, false)
    }
}

/// Weights are stored as inputs x outputs, which is a third faster than PyTorch's order.
impl NetworkLayers<Tensor> {
    /// Return the outputs for `states`, rows x state: rows x actions each, and values as rows numbers.
    ///
    /// Computed by libtorch, for its graphs. Bits may depend on a row's position: see [`super::row_outputs`].
    pub(crate) fn outputs(&self, states: &Tensor, constants: &ForwardConstants) -> Result<Vec<Tensor>, TchError> {
        let input = match &constants.normalisation {
            Some([mean, deviation]) => {
                states.f_sub(mean)?.f_div(deviation)?.f_clamp(-f64::from(MAX_NORMALISED), f64::from(MAX_NORMALISED))?
            }
            None => states.shallow_clone(),
        };
        match &self.body {
            NetworkBody::ActorCritic { .. } => {
                let [logits, value] = self.body.actor_critic(&input)?;
                Ok(vec![logits.f_softmax(-1, Kind::Float)?, value])
            }
            NetworkBody::Values { .. } => Ok(vec![q_values(&self.body.atoms(&input)?, constants)?]),
            NetworkBody::Gaussian { .. } => {
                let (mean, head) = self.body.gaussian(&input)?;
                let deviation = self.body.log_std(head, constants)?.f_expand_as(&mean)?.f_exp()?;
                let [first, second] = self.body.judged(&input, &bound_actions(&mean, constants)?)?;
                Ok(vec![mean, deviation, first.f_minimum(&second)?])
            }
        }
    }
}

/// Parts of a pass. `input` is normalised; a part that the network's kind does not have is an error.
impl NetworkBody<Tensor> {
    /// PPO's actor outputs before the softmax, rows x actions, and critic outputs, rows.
    pub(crate) fn actor_critic(&self, input: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::ActorCritic { actor, critic } = self else { return Err(unsupported_error("actor and critic")) };
        Ok([forward_layers(actor, input)?, forward_layers(critic, input)?.f_squeeze_dim(-1)?])
    }

    /// Rainbow's and DQN's streams: rows x atoms and rows x (actions x atoms).
    pub(super) fn streams(&self, input: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::Values { feature, value, advantage, .. } = self else { return Err(unsupported_error("streams")) };
        let inner = forward_layers(feature, input)?.f_relu()?;
        Ok([forward_layers(value, &inner)?, forward_layers(advantage, &inner)?])
    }

    /// Rainbow's outputs before the softmax, rows x actions x atoms; DQN has one atom, the Q-value itself.
    pub(crate) fn atoms(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let Self::Values { actions, dueling, .. } = self else { return Err(unsupported_error("streams")) };
        let [value, advantage] = self.streams(input)?;
        let atoms = value.size().last().copied().unwrap_or(1);
        let advantage = advantage.f_view([-1, *actions as i64, atoms])?;
        if !dueling {
            return Ok(advantage);
        }
        let mean = advantage.f_mean_dim(&[1i64][..], true, Kind::Float)?;
        value.f_view([-1, 1, atoms])?.f_add(&advantage)?.f_sub(&mean)
    }

    /// SAC's means, rows x actions; and, where standard deviations depend on the state, the outputs that their
    /// logarithms are computed from.
    pub(crate) fn gaussian(&self, input: &Tensor) -> Result<(Tensor, Option<Tensor>), TchError> {
        let Self::Gaussian { mean, deviation, .. } = self else { return Err(unsupported_error("Gaussian")) };
        let [hidden @ .., last] = &mean[..] else { return Err(unsupported_error("means")) };
        let inner = forward_layers(hidden, input)?.f_relu()?;
        let head = match deviation {
            DeviationSource::Head { layer, .. } => Some(layer.apply(&inner)?),
            DeviationSource::Fixed(_) => None,
        };
        Ok((last.apply(&inner)?, head))
    }

    /// Logarithms of SAC's standard deviations: rows x actions, or 1 x actions.
    fn log_std(&self, head: Option<Tensor>, constants: &ForwardConstants) -> Result<Tensor, TchError> {
        match (self, head, &constants.log_std) {
            (_, None, Some(log_std)) => Ok(log_std.shallow_clone()),
            (Self::Gaussian { deviation: DeviationSource::Head { least, most, .. }, .. }, Some(head), _) => {
                let half = 0.5 * f64::from(most - least);
                head.f_tanh()?.f_add_scalar(1.0)?.f_mul_scalar(half)?.f_add_scalar(f64::from(*least))
            }
            _ => Err(unsupported_error("deviations")),
        }
    }

    /// Q-values of SAC's two critics for an action, rows each.
    pub(crate) fn judged(&self, input: &Tensor, action: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::Gaussian { critics: [first, second], .. } = self else {
            return Err(unsupported_error("two critics"));
        };
        let both = Tensor::f_cat(&[input, action], 1)?;
        Ok([forward_layers(first, &both)?.f_squeeze_dim(-1)?, forward_layers(second, &both)?.f_squeeze_dim(-1)?])
    }
}

/// Q-values of all actions, rows x actions, from [`NetworkBody::atoms`].
fn q_values(atoms: &Tensor, constants: &ForwardConstants) -> Result<Tensor, TchError> {
    let Some(support) = &constants.support else { return atoms.f_squeeze_dim(-1) };
    let expected = atoms.f_softmax(-1, Kind::Float)?.f_mul(support)?;
    expected.f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)
}

/// A Gaussian's numbers as the critics take them: squashed or clamped.
fn bound_actions(numbers: &Tensor, constants: &ForwardConstants) -> Result<Tensor, TchError> {
    match &constants.bounds {
        Some([low, high]) => numbers.f_maximum(low)?.f_minimum(high),
        None => numbers.f_tanh(),
    }
}

fn unsupported_error(what: &str) -> TchError {
    TchError::Torch(format!("this kind of network has no {what}"))
}
