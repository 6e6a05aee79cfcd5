//! Forward passes through a network's layers.

use tch::{Device, Kind, TchError, Tensor, utils::has_mkldnn};

use super::{
    file::Array,
    layers::{Body, Deviation, Layers, Linear},
};

/// Multiplications from which oneDNN is quicker than MKL: 64 rows through 256 x 256.
const LARGE: i64 = 1 << 22;

/// Normalised numbers are kept within this of 0.
pub(crate) const MOST: f32 = 10.0;

/// What stands in no layer, as libtorch takes it. Made before a pass: what is made in one is not recorded by a trace.
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

/// Through `layers` with a ReLU between each two. `input` is rows x inputs.
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
    /// The weights are transposed here: inputs x outputs.
    fn apply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let multiplications = input.size()[0] * self.weight.numel() as i64;
        if multiplications < LARGE || self.weight.device() != Device::Cpu || !has_mkldnn() {
            return self.bias.f_addmm(input, &self.weight);
        }
        let weight = self.weight.f_transpose(0, 1)?;
        input.f_to_mkldnn(None)?.f_mkldnn_linear(&weight, Some(&self.bias))?.f_to_dense(None, false)
    }
}

/// The tensors' weights are inputs x outputs, which is a third faster than PyTorch's order.
impl Layers<Tensor> {
    /// The outputs for `states`, rows x state: rows x actions each, and the values of rows numbers.
    ///
    /// As libtorch computes them, for its graphs. Bits may depend on a row's place: see [`super::rows`].
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

/// Parts of a pass. `input` is normalised; what is asked of another kind of network is refused.
impl Body<Tensor> {
    /// PPO's outputs of the actor before the softmax, rows x actions, and of the critic, rows.
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

    /// Rainbow's outputs before the softmax, rows x actions x atoms; DQN's have one atom, the Q itself.
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

    /// SAC's means, rows x actions; and where the standard deviations differ by state, what their logarithms are made of.
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

    /// The logarithms of SAC's standard deviations: rows x actions, or 1 x actions.
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

    /// What SAC's two critics say of an action, rows each.
    pub(crate) fn judged(&self, input: &Tensor, action: &Tensor) -> Result<[Tensor; 2], TchError> {
        let Self::Gaussian { critics: [first, second], .. } = self else { return Err(refusal("two critics")) };
        let both = Tensor::f_cat(&[input, action], 1)?;
        Ok([through(first, &both)?.f_squeeze_dim(-1)?, through(second, &both)?.f_squeeze_dim(-1)?])
    }
}

/// The Q of each action, rows x actions, from [`Body::atoms`].
fn worths(atoms: &Tensor, constants: &Constants) -> Result<Tensor, TchError> {
    let Some(support) = &constants.support else { return atoms.f_squeeze_dim(-1) };
    let expected = atoms.f_softmax(-1, Kind::Float)?.f_mul(support)?;
    expected.f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)
}

/// A Gaussian's numbers as the critics take them: squashed, or clamped.
pub(crate) fn bounded(numbers: &Tensor, constants: &Constants) -> Result<Tensor, TchError> {
    match &constants.bounds {
        Some([low, high]) => numbers.f_maximum(low)?.f_minimum(high),
        None => numbers.f_tanh(),
    }
}

fn refusal(what: &str) -> TchError {
    TchError::Torch(format!("this kind of network has no {what}"))
}
