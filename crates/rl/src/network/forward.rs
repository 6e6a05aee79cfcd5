//! Forward passes through a network.

use tch::{Device, Kind, TchError, Tensor, utils::has_mkldnn};

use super::{
    file::Array,
    layers::{Body, Deviation, Layers, Linear},
};

/// Number of multiplications from which oneDNN is faster than MKL: 64 rows through 256 x 256.
const LARGE: i64 = 1 << 22;

/// Limit of normalised numbers: they are clamped to within this of 0.
pub(crate) const MOST: f32 = 10.0;

/// Constants of a pass as libtorch tensors. Created before the pass: a trace does not record them then.
pub(crate) struct Constants {
    normalisation: Option<[Tensor; 2]>,
    support: Option<Tensor>,
    log_std: Option<Tensor>,
    bounds: Option<[Tensor; 2]>,
}

impl Constants {
    pub(crate) fn of<T>(layers: &Layers<T>, device: Device) -> Result<Self, TchError> {
        let there = |array: &Array| array.to_tensor()?.f_to_device(device);
        let pair = |pair: &Option<[Array; 2]>| -> Result<Option<[Tensor; 2]>, TchError> {
            pair.as_ref().map(|[first, second]| Ok([there(first)?, there(second)?])).transpose()
        };
        let (support, log_std, bounds) = match &layers.body {
            Body::ActorCritic { .. } => (None, None, None),
            Body::Values { support, .. } => (support.as_ref(), None, None),
            Body::Gaussian { deviation: Deviation::Fixed(log_std), bounds, .. } => {
                (None, Some(log_std), bounds.as_ref())
            }
            Body::Gaussian { bounds, .. } => (None, None, bounds.as_ref()),
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
fn through(layers: &[Linear<Tensor>], input: &Tensor) -> Result<Tensor, TchError> {
    let mut present = input.shallow_clone();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            present = present.f_relu_()?;
        }
        present = layer.apply(&present)?;
    }
    Ok(present)
}

impl Linear<Tensor> {
    /// Weights are transposed here: inputs x outputs.
    fn apply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let multiplications = input.size()[0] * self.weight.numel() as i64;
        if multiplications < LARGE || self.weight.device() != Device::Cpu || !has_mkldnn() {
            return self.bias.f_addmm(input, &self.weight);
        }
        let weight = self.weight.f_transpose(0, 1)?;
        input.f_to_mkldnn(None)?.f_mkldnn_linear(&weight, Some(&self.bias))?.f_to_dense(None, false)
    }
}

/// Weights are stored as inputs x outputs, which is a third faster than PyTorch's order.
impl Layers<Tensor> {
    /// Return the outputs for `states`, rows x state: rows x actions each, and values as rows numbers.
    ///
    /// Computed by libtorch, for its graphs. Bits may depend on a row's position: see [`super::rows`].
    pub(crate) fn outputs(&self, states: &Tensor, constants: &Constants) -> Result<Vec<Tensor>, TchError> {
        let input = match &constants.normalisation {
            Some([mean, deviation]) => {
                states.f_sub(mean)?.f_div(deviation)?.f_clamp(-f64::from(MOST), f64::from(MOST))?
            }
            None => states.shallow_clone(),
        };
        match &self.body {
            Body::ActorCritic { .. } => {
                let [logits, value] = self.body.actor_critic(&input)?;
                Ok(vec![logits.f_softmax(-1, Kind::Float)?, value])
            }
            Body::Values { .. } => Ok(vec![worths(&self.body.atoms(&input)?, constants)?]),
            Body::Gaussian { .. } => {
                let (mean, head) = self.body.gaussian(&input)?;
                let deviation = self.body.log_deviation(head, constants)?.f_expand_as(&mean)?.f_exp()?;
                let [first, second] = self.body.judged(&input, &bounded(&mean, constants)?)?;
                Ok(vec![mean, deviation, first.f_minimum(&second)?])
            }
        }
    }
}

/// Parts of a pass. `input` is normalised; a part that the network's kind does not have is an error.
impl Body<Tensor> {
    /// PPO's actor outputs before the softmax, rows x actions, and critic outputs, rows.
    pub(crate) fn actor_critic(&self, input: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::ActorCritic { actor, critic } = self else { return Err(refusal("actor and critic")) };
        Ok([through(actor, input)?, through(critic, input)?.f_squeeze_dim(-1)?])
    }

    /// Rainbow's and DQN's streams: rows x atoms and rows x (actions x atoms).
    pub(super) fn streams(&self, input: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::Values { feature, value, advantage, .. } = self else { return Err(refusal("streams")) };
        let inner = through(feature, input)?.f_relu()?;
        Ok([through(value, &inner)?, through(advantage, &inner)?])
    }

    /// Rainbow's outputs before the softmax, rows x actions x atoms; DQN has one atom, the Q-value itself.
    pub(crate) fn atoms(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let Self::Values { actions, dueling, .. } = self else { return Err(refusal("streams")) };
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
        let Self::Gaussian { mean, deviation, .. } = self else { return Err(refusal("Gaussian")) };
        let [hidden @ .., last] = &mean[..] else { return Err(refusal("means")) };
        let inner = through(hidden, input)?.f_relu()?;
        let head = match deviation {
            Deviation::Head { layer, .. } => Some(layer.apply(&inner)?),
            Deviation::Fixed(_) => None,
        };
        Ok((last.apply(&inner)?, head))
    }

    /// Logarithms of SAC's standard deviations: rows x actions, or 1 x actions.
    fn log_deviation(&self, head: Option<Tensor>, constants: &Constants) -> Result<Tensor, TchError> {
        match (self, head, &constants.log_std) {
            (_, None, Some(log_std)) => Ok(log_std.shallow_clone()),
            (Self::Gaussian { deviation: Deviation::Head { least, most, .. }, .. }, Some(head), _) => {
                let half = 0.5 * f64::from(most - least);
                head.f_tanh()?.f_add_scalar(1.0)?.f_mul_scalar(half)?.f_add_scalar(f64::from(*least))
            }
            _ => Err(refusal("deviations")),
        }
    }

    /// Q-values of SAC's two critics for an action, rows each.
    pub(crate) fn judged(&self, input: &Tensor, action: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::Gaussian { critics: [first, second], .. } = self else { return Err(refusal("two critics")) };
        let both = Tensor::f_cat(&[input, action], 1)?;
        Ok([through(first, &both)?.f_squeeze_dim(-1)?, through(second, &both)?.f_squeeze_dim(-1)?])
    }
}

/// Q-values of all actions, rows x actions, from [`Body::atoms`].
fn worths(atoms: &Tensor, constants: &Constants) -> Result<Tensor, TchError> {
    let Some(support) = &constants.support else { return atoms.f_squeeze_dim(-1) };
    let expected = atoms.f_softmax(-1, Kind::Float)?.f_mul(support)?;
    expected.f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)
}

/// A Gaussian's numbers as the critics take them: squashed or clamped.
pub(crate) fn bounded(numbers: &Tensor, constants: &Constants) -> Result<Tensor, TchError> {
    match &constants.bounds {
        Some([low, high]) => numbers.f_maximum(low)?.f_minimum(high),
        None => numbers.f_tanh(),
    }
}

fn refusal(what: &str) -> TchError {
    TchError::Torch(format!("this kind of network has no {what}"))
}
