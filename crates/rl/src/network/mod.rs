//! Policy networks of all algorithms: loaded from safetensors with PyTorch's parameter names, evaluated in 32-bit
//! floats.

mod action_layers;
mod error;
mod file;
mod forward;
mod layers;
mod policy;
mod policy_spec;
mod row_outputs;
#[cfg(test)]
pub(super) mod tests;

use std::{sync::LazyLock, thread};

use tch::{Kind, TchError, Tensor, no_grad_guard};

pub use self::{
    action_layers::{ActionLayer, ActionLayers, action_layers},
    error::LoadError,
    policy::with_support,
    policy_spec::{PolicyActions, PolicySpec},
};
pub(super) use self::{
    file::serialize,
    forward::{ForwardConstants, MAX_NORMALISED},
    layers::{DeviationSource, LinearLayer, NetworkBody, NetworkLayers, TensorRole, WeightArray},
    policy::ParsedPolicy,
    policy_spec::{NetworkAction, NetworkOutput},
    row_outputs::normalise,
};

/// Number of states per forward pass in exact mode. Measured through 9-256-256-4: 16 take 34 µs, eight 30 µs, since
/// reading the weights dominates; 32 take 56 µs.
const EXACT_ROWS: usize = 16;
/// Maximum number of states per forward pass otherwise. Measured, actor and critic on one core: 128 per pass give 400
/// 000 states a second, 512 give 560 000, 1024 give 610 000.
const MAX_BATCH_ROWS: usize = 1024;
/// Number of states from which a second thread evaluates half of them.
const PARALLEL_MIN_ROWS: usize = 512;
/// Number of matrices with which a kernel is tested for treating all rows alike.
const PROBE_COUNT: usize = 8;

/// Number of available cores; read once, because it comes from files of the control group.
static CORE_COUNT: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// A policy's network, ready for evaluation.
#[derive(Debug)]
pub(super) struct PolicyNetwork {
    form: PolicySpec,
    layers: NetworkLayers<Tensor>,
    /// Number of states per forward pass in exact mode; missing ones are filled up with zeros.
    ///
    /// libtorch's matrix product adds in another order for another number of rows (measured: of 64 states evaluated
    /// together, 55 differ from the same states evaluated alone, by up to 2e-7), so the number is always the same.
    rows: usize,
}

impl PolicyNetwork {
    /// Load a safetensors file in the contract's form ('RL policies') or a trainer's. Dimensions are taken from the
    /// tensors.
    ///
    /// Without an algorithm in the metadata, the tensors' names determine it. Rainbow's support is the tensor
    /// `support`, or evenly spaced from the metadata's `v_min` to its `v_max`, by default -10 to 10.
    pub(super) fn from_safetensors(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::new(ParsedPolicy::read(bytes)?)
    }

    /// Build the network of a parsed file.
    pub(super) fn new(ParsedPolicy { form, layers }: ParsedPolicy) -> Result<Self, LoadError> {
        let layers = layers.map(|array, part| {
            array
                .to_tensor()
                .and_then(|tensor| match part {
                    TensorRole::Weight => tensor.f_transpose(0, 1)?.f_contiguous(),
                    TensorRole::Bias => Ok(tensor),
                })
                .map_err(|error| LoadError::Torch { tensor: array.name.clone(), reason: error.to_string() })
        })?;
        Ok(Self::from_layers(form, layers))
    }

    /// Build a network from tensors in main memory; weights are inputs x outputs.
    pub(super) fn from_layers(form: PolicySpec, layers: NetworkLayers<Tensor>) -> Self {
        Self { form, layers, rows: EXACT_ROWS }
    }

    /// Return the tensors; weights are inputs x outputs.
    pub(super) fn layers(&self) -> &NetworkLayers<Tensor> {
        &self.layers
    }

    /// Return the network's properties.
    pub(super) fn form(&self) -> &PolicySpec {
        &self.form
    }

    /// Memory of the parameters, in bytes.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.form.parameters).map_or(usize::MAX, |count| count.saturating_mul(size_of::<f32>()))
    }

    /// Evaluate each of `states`, which are concatenated, have the network's length and are finite.
    ///
    /// With `exact`, a fixed number of states per pass, so that a state gets the same bits in any batch (see
    /// [`PolicyNetwork::settle`]). Otherwise at most [`MAX_BATCH_ROWS`] per pass, and large batches on two threads.
    pub(super) fn evaluate(&self, states: &[f32], exact: bool) -> Result<Vec<NetworkOutput>, TchError> {
        let rows = states.len() / self.form.state_length;
        if exact || rows < PARALLEL_MIN_ROWS || *CORE_COUNT < 2 {
            return self.evaluate_on_thread(states, exact);
        }
        let (mine, others) = states.split_at(rows / 2 * self.form.state_length);
        let layers = self.layers.map(|tensor, _| Ok::<_, TchError>(tensor.shallow_clone()))?;
        let other = Self { form: self.form.clone(), layers, rows: self.rows };
        thread::scope(|scope| {
            let second = scope.spawn(move || {
                tch::set_num_threads(1);
                other.evaluate_on_thread(others, exact)
            });
            let mut all = self.evaluate_on_thread(mine, exact)?;
            let panicked = |_| Err(TchError::Torch("the second thread panicked".to_owned()));
            all.extend(second.join().unwrap_or_else(panicked)?);
            Ok(all)
        })
    }

    /// Evaluate on the current thread.
    fn evaluate_on_thread(&self, states: &[f32], exact: bool) -> Result<Vec<NetworkOutput>, TchError> {
        let _guard = no_grad_guard();
        let length = self.form.state_length;
        let most = if exact { self.rows } else { MAX_BATCH_ROWS };
        let mut evaluations = Vec::with_capacity(states.len() / length);
        for some in states.chunks(most * length) {
            let mut rows = some.to_vec();
            if exact {
                rows.resize(most * length, 0.0);
            }
            normalise(self.layers.normalisation.as_ref(), &mut rows);
            let all = self.evaluate_rows(&rows)?;
            evaluations.extend(all.into_iter().take(some.len() / length));
        }
        Ok(evaluations)
    }

    /// Evaluate normalised rows in one pass.
    fn evaluate_rows(&self, rows: &[f32]) -> Result<Vec<NetworkOutput>, TchError> {
        let (body, length, actions) = (&self.layers.body, self.form.state_length, self.form.actions.count());
        let input = matrix(rows, length)?;
        Ok(match body {
            NetworkBody::ActorCritic { .. } => {
                let [logits, values] = body.actor_critic(&input)?;
                let probabilities = tensor_numbers(&logits.f_softmax(-1, Kind::Float)?)?;
                let rows = probabilities.chunks(actions).map(<[f32]>::to_vec).zip(tensor_numbers(&values)?);
                rows.map(|(probabilities, value)| NetworkOutput::Probabilities { probabilities, value }).collect()
            }
            NetworkBody::Values { dueling, support, .. } => {
                let [value, advantage] = body.streams(&input)?;
                let atoms = self.form.atoms.unwrap_or(1);
                let (value, advantage) = (tensor_numbers(&value)?, tensor_numbers(&advantage)?);
                let rows = value.chunks(atoms).zip(advantage.chunks(actions * atoms));
                rows.map(|(value, advantage)| NetworkOutput::Values {
                    q: row_outputs::q_values(*dueling, support.as_ref(), value, advantage),
                })
                .collect()
            }
            NetworkBody::Gaussian { deviation, .. } => {
                let (means, heads) = body.gaussian(&input)?;
                let (means, heads) = (tensor_numbers(&means)?, heads.as_ref().map(tensor_numbers).transpose()?);
                let taken = matrix(&row_outputs::bound_actions(body, &means), actions)?;
                let [first, second] = body.judged(&input, &taken)?;
                let critics = tensor_numbers(&first)?.into_iter().zip(tensor_numbers(&second)?);
                let of_row = |(row, (mean, (first, second))): (usize, (&[f32], (f32, f32)))| {
                    let head = heads.as_ref().map(|heads| &heads[row * actions..][..actions]);
                    NetworkOutput::from_gaussian(mean, row_outputs::deviations(deviation, head), [first, second])
                };
                means.chunks(actions).zip(critics).enumerate().map(of_row).collect()
            }
        })
    }

    /// Ensure that a state gets the same bits in any batch: if a matrix kernel of this processor treats the rows of a
    /// matrix differently, switch to one state per pass. Returns whether it switched.
    ///
    /// The kernel is chosen by the matrix's shape and the processor, so each layer is tested with some inputs. Call it
    /// on the evaluating thread; it also does the work that libtorch defers to the first forward pass.
    pub(super) fn settle(&mut self) -> Result<bool, TchError> {
        let _guard = no_grad_guard();
        let mut same = true;
        let mut weight = None;
        self.layers.map(|tensor, part| {
            match (part, &weight) {
                (TensorRole::Bias, Some(weight)) if same => same = is_row_invariant(weight, tensor, self.rows)?,
                _ => weight = Some(tensor.shallow_clone()),
            }
            Ok::<_, TchError>(())
        })?;
        self.rows = if same { self.rows } else { 1 };
        self.evaluate(&probe_state(0, self.form.state_length), true)?;
        Ok(!same)
    }
}

/// Check that a layer gives a row the same bits at each of `rows` positions.
///
/// Where positions differ, not all numbers do: 3 in 1000 were seen, all in the last columns. Hence the number of tests.
fn is_row_invariant(weight: &Tensor, bias: &Tensor, rows: usize) -> Result<bool, TchError> {
    let inputs = weight.size()[0] as usize;
    let mut input: Vec<f32> = (0..rows).flat_map(|row| probe_state(row, inputs)).collect();
    for _ in 0..PROBE_COUNT {
        input.iter_mut().for_each(|number| *number = (*number * 7.0).sin() * 2.0);
        let first = tensor_numbers(&bias.f_addmm(&matrix(&input, inputs)?, weight)?)?;
        let width = first.len() / rows;
        for turn in 1..rows {
            input.rotate_left(inputs);
            let mut now = tensor_numbers(&bias.f_addmm(&matrix(&input, inputs)?, weight)?)?;
            now.rotate_right(turn * width);
            if !now.iter().map(|number| number.to_bits()).eq(first.iter().map(|number| number.to_bits())) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl WeightArray {
    /// Convert to a libtorch tensor.
    pub(super) fn to_tensor(&self) -> Result<Tensor, TchError> {
        let shape: Vec<i64> = self.shape.iter().map(|length| *length as i64).collect();
        Tensor::f_from_slice(&self.numbers)?.f_view(&shape[..])
    }
}

/// Build a state of irregular numbers within 2 of 0, different for each `row`.
fn probe_state(row: usize, length: usize) -> Vec<f32> {
    (0..length).map(|column| ((row * length + column) as f32 * 0.7).sin() * 2.0).collect()
}

/// Build a matrix of `width` columns.
pub(super) fn matrix(numbers: &[f32], width: usize) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(numbers)?.f_view([-1, width as i64])
}

/// Read all numbers of a tensor in main memory, in row-major order.
pub(super) fn tensor_numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let mut numbers = vec![0f32; tensor.numel()];
    let count = numbers.len();
    tensor.f_contiguous()?.f_copy_data(&mut numbers, count)?;
    Ok(numbers)
}
