//! Policies of every kind: read from safetensors in PyTorch's parameter names, evaluated in 32-bit floats.

mod error;
mod file;
mod form;
mod forward;
mod layers;
mod policy;
mod rows;
#[cfg(test)]
pub(super) mod tests;

use std::{sync::LazyLock, thread};

use tch::{Kind, TchError, Tensor, no_grad_guard};

pub use self::{
    error::LoadError,
    form::{Actions, Form},
    policy::with_support,
};
pub(super) use self::{
    file::{Array, serialize},
    form::{Act, Evaluation},
    forward::{Constants, MOST, bounded},
    layers::{Body, Deviation, Layers, Linear, Part},
    policy::Policy,
    rows::normalise,
};

/// How many states go through the network at a time where bits count. Measured through 9-256-256-4: 16 take 34 µs, eight
/// 30 µs, since the time goes into reading the weights; 32 take 56 µs.
const ROWS: usize = 16;
/// How many go through at a time where they don't. Measured, actor and critic on one core: 128 at a time are 400 000 states
/// a second, 512 are 560 000, 1024 are 610 000.
const MOST_ROWS: usize = 1024;
/// From so many states on, a second thread takes half of them.
const SHARED: usize = 512;
/// How many matrices tell whether a kernel treats rows alike.
const PROBES: usize = 8;

/// How many there are; asked once, since the answer is read from files of the control group's.
static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// A policy's network, ready to be evaluated.
#[derive(Debug)]
pub(super) struct Network {
    form: Form,
    layers: Layers<Tensor>,
    /// How many states go through at a time where bits count; fewer are filled up with zeros.
    ///
    /// libtorch's matrix product adds in another order for another number of rows (measured: of 64 states
    /// together, 55 differ from the same alone, by up to 2e-7), so the number is always the same.
    rows: usize,
}

impl Network {
    /// Reads a file of the contract's ('RL policies'), or one of a trainer's; the dimensions are those of the tensors.
    ///
    /// Where metadata don't name the algorithm, the tensors' names tell. Rainbow's support is the tensor `support`, or
    /// evenly spaced from the metadata's `v_min` to its `v_max`, by default -10 to 10.
    pub(super) fn from_safetensors(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::new(Policy::read(bytes)?)
    }

    /// Of a file that was read.
    pub(super) fn new(Policy { form, layers }: Policy) -> Result<Self, LoadError> {
        let layers = layers.map(|array, part| {
            array
                .to_tensor()
                .and_then(|tensor| match part {
                    Part::Weight => tensor.f_transpose(0, 1)?.f_contiguous(),
                    Part::Bias => Ok(tensor),
                })
                .map_err(|error| LoadError::Torch { tensor: array.name.clone(), reason: error.to_string() })
        })?;
        Ok(Self::of(form, layers))
    }

    /// Of tensors in the processor's memory; weights are inputs x outputs.
    pub(super) fn of(form: Form, layers: Layers<Tensor>) -> Self {
        Self { form, layers, rows: ROWS }
    }

    /// Its tensors; weights are inputs x outputs.
    pub(super) fn layers(&self) -> &Layers<Tensor> {
        &self.layers
    }

    /// What it is.
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// Memory of its parameters, in bytes.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.form.parameters).map_or(usize::MAX, |count| count.saturating_mul(size_of::<f32>()))
    }

    /// One evaluation for each of `states`, which stand one after the other, all of the form's length and finite.
    ///
    /// `exact`: a fixed number of states at a time, so that a state gets the same bits in any company (see
    /// [`Network::settle`]). Otherwise all at once, at most [`MOST_ROWS`], and many by two threads.
    pub(super) fn evaluate(&self, states: &[f32], exact: bool) -> Result<Vec<Evaluation>, TchError> {
        let rows = states.len() / self.form.state_length;
        if exact || rows < SHARED || *CORES < 2 {
            return self.evaluate_here(states, exact);
        }
        let (mine, others) = states.split_at(rows / 2 * self.form.state_length);
        let layers = self.layers.map(|tensor, _| Ok::<_, TchError>(tensor.shallow_clone()))?;
        let other = Self { form: self.form.clone(), layers, rows: self.rows };
        thread::scope(|scope| {
            let second = scope.spawn(move || {
                tch::set_num_threads(1);
                other.evaluate_here(others, exact)
            });
            let mut all = self.evaluate_here(mine, exact)?;
            let panicked = |_| Err(TchError::Torch("the second thread panicked".to_owned()));
            all.extend(second.join().unwrap_or_else(panicked)?);
            Ok(all)
        })
    }

    /// On the present thread.
    fn evaluate_here(&self, states: &[f32], exact: bool) -> Result<Vec<Evaluation>, TchError> {
        let _guard = no_grad_guard();
        let length = self.form.state_length;
        let most = if exact { self.rows } else { MOST_ROWS };
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

    /// All at once, normalised.
    fn evaluate_rows(&self, rows: &[f32]) -> Result<Vec<Evaluation>, TchError> {
        let (body, length, actions) = (&self.layers.body, self.form.state_length, self.form.actions.count());
        let input = matrix(rows, length)?;
        Ok(match body {
            Body::ActorCritic { .. } => {
                let [logits, values] = body.actor_critic(&input)?;
                let probabilities = numbers(&logits.f_softmax(-1, Kind::Float)?)?;
                let rows = probabilities.chunks(actions).map(<[f32]>::to_vec).zip(numbers(&values)?);
                rows.map(|(probabilities, value)| Evaluation::Probabilities { probabilities, value }).collect()
            }
            Body::Values { dueling, support, .. } => {
                let [value, advantage] = body.streams(&input)?;
                let atoms = self.form.atoms.unwrap_or(1);
                let (value, advantage) = (numbers(&value)?, numbers(&advantage)?);
                let rows = value.chunks(atoms).zip(advantage.chunks(actions * atoms));
                rows.map(|(value, advantage)| Evaluation::Values {
                    q: rows::worths(*dueling, support.as_ref(), value, advantage),
                })
                .collect()
            }
            Body::Gaussian { deviation, .. } => {
                let (means, heads) = body.gaussian(&input)?;
                let (means, heads) = (numbers(&means)?, heads.as_ref().map(numbers).transpose()?);
                let taken = matrix(&rows::bounded(body, &means), actions)?;
                let [first, second] = body.judged(&input, &taken)?;
                let critics = numbers(&first)?.into_iter().zip(numbers(&second)?);
                let of_row = |(row, (mean, (first, second))): (usize, (&[f32], (f32, f32)))| {
                    let head = heads.as_ref().map(|heads| &heads[row * actions..][..actions]);
                    Evaluation::gaussian(mean, rows::deviations(deviation, head), [first, second])
                };
                means.chunks(actions).zip(critics).enumerate().map(of_row).collect()
            }
        })
    }

    /// Makes sure that a state gets the same bits in any company, by going over to one state at a time where a matrix
    /// kernel of this processor treats a matrix's rows differently. Returns whether it did.
    ///
    /// The kernel is chosen by the matrix's shape and the processor, so each layer is tried with some inputs. To be called
    /// on the thread that will evaluate; it has then done what libtorch puts off until a first forward pass.
    pub(super) fn settle(&mut self) -> Result<bool, TchError> {
        let _guard = no_grad_guard();
        let mut same = true;
        let mut weight = None;
        self.layers.map(|tensor, part| {
            match (part, &weight) {
                (Part::Bias, Some(weight)) if same => same = rows_are_alike(weight, tensor, self.rows)?,
                _ => weight = Some(tensor.shallow_clone()),
            }
            Ok::<_, TchError>(())
        })?;
        self.rows = if same { self.rows } else { 1 };
        self.evaluate(&probe(0, self.form.state_length), true)?;
        Ok(!same)
    }
}

/// Whether a layer gives a row the same bits in each of `rows` places.
///
/// Where places differ, not all numbers do: seen were 3 in 1000, all in the last columns. Hence so many.
fn rows_are_alike(weight: &Tensor, bias: &Tensor, rows: usize) -> Result<bool, TchError> {
    let inputs = weight.size()[0] as usize;
    let mut input: Vec<f32> = (0..rows).flat_map(|row| probe(row, inputs)).collect();
    for _ in 0..PROBES {
        input.iter_mut().for_each(|number| *number = (*number * 7.0).sin() * 2.0);
        let first = numbers(&bias.f_addmm(&matrix(&input, inputs)?, weight)?)?;
        let width = first.len() / rows;
        for turn in 1..rows {
            input.rotate_left(inputs);
            let mut now = numbers(&bias.f_addmm(&matrix(&input, inputs)?, weight)?)?;
            now.rotate_right(turn * width);
            if !now.iter().map(|number| number.to_bits()).eq(first.iter().map(|number| number.to_bits())) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl Array {
    /// As libtorch's, row by row.
    pub(super) fn to_tensor(&self) -> Result<Tensor, TchError> {
        let shape: Vec<i64> = self.shape.iter().map(|length| *length as i64).collect();
        Tensor::f_from_slice(&self.numbers)?.f_view(&shape[..])
    }
}

/// A state of irregular numbers within 2 of 0, another for each `row`.
fn probe(row: usize, length: usize) -> Vec<f32> {
    (0..length).map(|column| ((row * length + column) as f32 * 0.7).sin() * 2.0).collect()
}

/// A matrix of `width` columns.
pub(super) fn matrix(numbers: &[f32], width: usize) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(numbers)?.f_view([-1, width as i64])
}

/// All numbers of a tensor in main memory, row by row.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let mut numbers = vec![0f32; tensor.numel()];
    let count = numbers.len();
    tensor.f_contiguous()?.f_copy_data(&mut numbers, count)?;
    Ok(numbers)
}
