//! PPO's actor-critic: loaded from safetensors in PyTorch's parameter names, run in 32-bit floats.

use safetensors::{Dtype, SafeTensors};
use tch::{Kind, TchError, Tensor, no_grad_guard};

/// Why weights were refused. A tensor is called by its name in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not in the safetensors format.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// A parameter of the network is not in the file.
    #[error("tensor '{0}' is missing")]
    Missing(String),
    /// The file has a tensor that is no parameter of the network.
    #[error("tensor '{0}' is not a parameter of this network")]
    Unexpected(String),
    /// Weights are 32- or 64-bit floats.
    #[error("tensor '{tensor}' is of type {dtype}: F32 or F64 is needed")]
    Type {
        /// The tensor.
        tensor: String,
        /// Its element type, as safetensors calls it.
        dtype: String,
    },
    /// The tensor does not fit those before it; `None` is any length of at least 1.
    #[error("tensor '{tensor}' has shape {got:?}: {} is needed", describe_shape(expected))]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape that fits.
        expected: Vec<Option<usize>>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// An element is NaN, infinite, or too large for an `f32`.
    #[error("tensor '{tensor}' is not finite as 32-bit floats at element {element}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The element's place in row-major order, from 0.
        element: usize,
    },
    /// libtorch would not take it.
    #[error("libtorch refused tensor '{tensor}': {reason}")]
    Torch {
        /// The tensor.
        tensor: String,
        /// What libtorch said.
        reason: String,
    },
}

fn describe_shape(shape: &[Option<usize>]) -> String {
    let lengths: Vec<_> = shape.iter().map(|n| n.map_or("n".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}

/// How many states go through the network at a time. Measured: eight cost less than twice as much as one, whose time
/// goes into reading the weights.
const ROWS: usize = 8;

/// What the network makes of one state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evaluation {
    /// The softmax of the actor's outputs, one for each action.
    pub probabilities: Vec<f32>,
    /// The critic's output.
    pub value: f32,
}

impl Evaluation {
    /// The index of the highest probability, the lowest index of equals.
    pub(super) fn greedy(&self) -> usize {
        let p = &self.probabilities;
        (1..p.len()).fold(0, |best, index| if p[index] > p[best] { index } else { best })
    }

    /// Whether every number is finite.
    pub(super) fn is_finite(&self) -> bool {
        self.value.is_finite() && self.probabilities.iter().all(|p| p.is_finite())
    }

    fn same_bits(&self, other: &Self) -> bool {
        let bits = |e: &Self| (e.probabilities.iter().map(|p| p.to_bits()).collect::<Vec<_>>(), e.value.to_bits());
        bits(self) == bits(other)
    }
}

/// An actor S-H-H-A with softmax and a critic S-H-H-1, ReLU between layers.
#[derive(Debug)]
pub(super) struct ActorCritic {
    actor: Perceptron,
    critic: Perceptron,
    /// How many states go through at a time; fewer are filled up with zeros.
    ///
    /// libtorch's matrix product adds in another order for another number of rows (measured: of 64 states
    /// together, 55 differ from the same alone, by up to 2e-7), so the number is always the same.
    rows: usize,
}

impl ActorCritic {
    /// Reads `actor.{0,2,4}.{weight,bias}` and `critic.{0,2,4}.{weight,bias}`; the dimensions are those of the tensors.
    pub(super) fn from_safetensors(bytes: &[u8]) -> Result<Self, LoadError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| LoadError::Format(error.to_string()))?;
        let actor = Perceptron::load(&file, "actor", None, None)?;
        let critic = Perceptron::load(&file, "critic", Some(actor.inputs), Some(1))?;
        let mut names: Vec<_> = file.names().into_iter().filter(|name| !is_parameter(name)).collect();
        names.sort_unstable();
        match names.first() {
            Some(name) => Err(LoadError::Unexpected((*name).to_owned())),
            None => Ok(Self { actor, critic, rows: ROWS }),
        }
    }

    /// The length of a state.
    pub(super) fn state_length(&self) -> usize {
        self.actor.inputs
    }

    /// The number of actions.
    pub(super) fn actions(&self) -> usize {
        self.actor.outputs
    }

    /// Evaluates each of `states`, which are all of [`ActorCritic::state_length`], [`ActorCritic::rows`] at a time.
    pub(super) fn evaluate(&self, states: &[Vec<f32>]) -> Result<Vec<Evaluation>, TchError> {
        let _guard = no_grad_guard();
        let mut evaluations = Vec::with_capacity(states.len());
        for some in states.chunks(self.rows) {
            let mut input = some.concat();
            input.resize(self.rows * self.state_length(), 0.0);
            let input = Tensor::f_from_slice(&input)?.f_view([self.rows as i64, self.state_length() as i64])?;
            let probabilities = self.actor.forward(&input)?.f_softmax(-1, Kind::Float)?;
            let probabilities = read(&probabilities, self.rows * self.actions())?;
            let values = read(&self.critic.forward(&input)?, self.rows)?;
            let rows = probabilities.chunks(self.actions()).map(<[f32]>::to_vec).zip(values);
            evaluations.extend(rows.take(some.len()).map(|(probabilities, value)| Evaluation { probabilities, value }));
        }
        Ok(evaluations)
    }

    /// Makes sure that a state gets the same bits in any company, by going over to one state at a time where the matrix
    /// kernel of this processor treats a matrix's rows differently. Returns whether it did.
    ///
    /// The kernel is chosen by the matrix's shape and the processor, not by the numbers, so a few states tell. To be called
    /// on the thread that will evaluate; it has then done what libtorch puts off until a first forward pass.
    pub(super) fn settle(&mut self) -> Result<bool, TchError> {
        let states: Vec<Vec<f32>> = (0..self.rows).map(|row| probe(row, self.state_length())).collect();
        let mut turned = states.clone();
        let first = self.evaluate(&states)?;
        for turn in 1..self.rows {
            turned.rotate_left(1);
            let evaluations = self.evaluate(&turned)?;
            if !evaluations.iter().zip(first.iter().cycle().skip(turn)).all(|(now, then)| now.same_bits(then)) {
                self.rows = 1;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A state of irregular numbers within 2 of 0, another for each `row`.
fn probe(row: usize, length: usize) -> Vec<f32> {
    (0..length).map(|column| ((row * length + column) as f32 * 0.7).sin() * 2.0).collect()
}

fn read(tensor: &Tensor, length: usize) -> Result<Vec<f32>, TchError> {
    let mut numbers = vec![0f32; length];
    tensor.f_copy_data(&mut numbers, length)?;
    Ok(numbers)
}

fn is_parameter(name: &str) -> bool {
    let layers = name.strip_prefix("actor.").or_else(|| name.strip_prefix("critic."));
    matches!(layers, Some("0.weight" | "0.bias" | "2.weight" | "2.bias" | "4.weight" | "4.bias"))
}

/// Three linear layers with ReLU between them, as PyTorch's `Sequential` numbers them: 0, 2, 4.
#[derive(Debug)]
struct Perceptron {
    /// Weight (inputs x outputs, so transposed: a third faster than PyTorch's order here) and bias (outputs) of each layer.
    layers: [(Tensor, Tensor); 3],
    inputs: usize,
    outputs: usize,
}

impl Perceptron {
    fn load(file: &SafeTensors, name: &str, inputs: Option<usize>, outputs: Option<usize>) -> Result<Self, LoadError> {
        let (first, [hidden, inputs]) = layer(file, name, 0, [None, inputs])?;
        let (second, [hidden, _]) = layer(file, name, 2, [None, Some(hidden)])?;
        let (third, [outputs, _]) = layer(file, name, 4, [outputs, Some(hidden)])?;
        Ok(Self { layers: [first, second, third], inputs, outputs })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let [first, second, third] = &self.layers;
        let hidden = first.1.f_addmm(input, &first.0)?.f_relu_()?;
        let hidden = second.1.f_addmm(&hidden, &second.0)?.f_relu_()?;
        third.1.f_addmm(&hidden, &third.0)
    }
}

type Layer = ((Tensor, Tensor), [usize; 2]);

fn layer(file: &SafeTensors, network: &str, index: usize, shape: [Option<usize>; 2]) -> Result<Layer, LoadError> {
    let (weight, shape) = parameter(file, format!("{network}.{index}.weight"), shape)?;
    let (bias, _) = parameter(file, format!("{network}.{index}.bias"), [Some(shape[0])])?;
    let torch =
        |error: TchError| LoadError::Torch { tensor: format!("{network}.{index}.weight"), reason: error.to_string() };
    let weight = weight.f_transpose(0, 1).and_then(|weight| weight.f_contiguous()).map_err(torch)?;
    Ok(((weight, bias), shape))
}

fn parameter<const N: usize>(
    file: &SafeTensors,
    tensor: String,
    expected: [Option<usize>; N],
) -> Result<(Tensor, [usize; N]), LoadError> {
    let Ok(view) = file.tensor(&tensor) else { return Err(LoadError::Missing(tensor)) };
    let fits = |shape: &[usize; N]| shape.iter().zip(expected).all(|(got, n)| *got >= 1 && n.is_none_or(|n| *got == n));
    let Some(shape) = <[usize; N]>::try_from(view.shape()).ok().filter(fits) else {
        return Err(LoadError::Shape { tensor, expected: expected.to_vec(), got: view.shape().to_vec() });
    };
    let numbers: Vec<f32> = match view.dtype() {
        Dtype::F32 => view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F64 => view.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        other => return Err(LoadError::Type { tensor, dtype: other.to_string() }),
    };
    if let Some(element) = numbers.iter().position(|number| !number.is_finite()) {
        return Err(LoadError::NotFinite { tensor, element });
    }
    let size = shape.map(|length| length as i64);
    match Tensor::f_from_slice(&numbers).and_then(|flat| flat.f_view(&size[..])) {
        Ok(values) => Ok((values, shape)),
        Err(error) => Err(LoadError::Torch { tensor, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;
    use serde::Deserialize;

    use super::*;

    const PPO: &[u8] = include_bytes!("../../tests/fixtures/vectors/ppo.safetensors");

    #[derive(Deserialize)]
    struct Expected {
        states: Vec<Vec<f32>>,
        action_probs: Vec<Vec<f32>>,
        values: Vec<f32>,
        greedy_actions: Vec<usize>,
    }

    fn expected() -> Expected {
        serde_json::from_str(include_str!("../../tests/fixtures/vectors/ppo.json")).unwrap()
    }

    /// The file with each of its tensors put through `change`, which may drop it or turn it into several.
    fn changed(
        mut change: impl FnMut(&str, Vec<usize>, Vec<u8>) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
    ) -> Vec<u8> {
        let file = SafeTensors::deserialize(PPO).unwrap();
        let tensors: Vec<_> =
            file.iter().flat_map(|(name, view)| change(name, view.shape().to_vec(), view.data().to_vec())).collect();
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    /// The file with `shape` and `data` in place of one tensor's.
    fn replaced(tensor: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Vec<u8> {
        changed(|name, old_shape, old_data| {
            let old = (name.to_owned(), Dtype::F32, old_shape, old_data);
            vec![if name == tensor { (old.0, dtype, shape.to_vec(), data.to_vec()) } else { old }]
        })
    }

    fn refusal(bytes: &[u8]) -> String {
        ActorCritic::from_safetensors(bytes).unwrap_err().to_string()
    }

    #[test]
    fn outputs_agree_with_the_reference_to_1e_5() {
        let mut network = ActorCritic::from_safetensors(PPO).unwrap();
        assert_eq!((network.state_length(), network.actions()), (9, 4));
        let expected = expected();
        for rows in [1, ROWS] {
            network.rows = rows;
            let evaluations = network.evaluate(&expected.states).unwrap();
            assert_eq!(evaluations.len(), 8);
            for (row, evaluation) in evaluations.iter().enumerate() {
                assert!((evaluation.value - expected.values[row]).abs() < 1e-5, "value of state {row}");
                assert_eq!(evaluation.probabilities.len(), 4);
                for (got, wanted) in evaluation.probabilities.iter().zip(&expected.action_probs[row]) {
                    assert!((got - wanted).abs() < 1e-5, "probabilities of state {row}");
                }
                assert_eq!(evaluation.greedy(), expected.greedy_actions[row], "action of state {row}");
            }
        }
    }

    #[test]
    fn a_state_gets_the_same_bits_in_any_company() {
        tch::set_num_threads(1);
        let mut states: Vec<Vec<f32>> = (0..64).map(|row| probe(row, 9)).collect();
        states[20] = vec![f32::MAX; 9];
        states[40] = vec![0.0; 9];
        // Whatever number of rows it begins with: with some it keeps to it, with some it must go over to one.
        for rows in [1, 3, 5, 7, ROWS, 13] {
            let mut network = ActorCritic::from_safetensors(crate::rl::builtin::BYTES).unwrap();
            network.rows = rows;
            let fell_back = network.settle().unwrap();
            assert_eq!(network.rows, if fell_back { 1 } else { rows });
            let one = |state| network.evaluate(std::slice::from_ref(state)).unwrap();
            let alone: Vec<_> = states.iter().flat_map(one).collect();
            for count in [2, 3, 5, 7, 8, 9, 15, 17, 31, 64] {
                for first in [0, 64 - count] {
                    let together = network.evaluate(&states[first..first + count]).unwrap();
                    assert_eq!(together.len(), count);
                    for (row, (now, then)) in together.iter().zip(&alone[first..]).enumerate() {
                        assert!(now.same_bits(then), "{rows} rows: state {row} of {count} from {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_lowest_of_equals_is_greedy() {
        let greedy = |probabilities: &[f32]| Evaluation { probabilities: probabilities.to_vec(), value: 0.0 }.greedy();
        assert_eq!(greedy(&[0.1, 0.4, 0.4, 0.1]), 1);
        assert_eq!(greedy(&[0.25; 4]), 0);
        assert_eq!(greedy(&[0.2, 0.1, 0.7]), 2);
    }

    #[test]
    fn doubles_are_taken_too() {
        let widened = changed(|name, shape, data| {
            let double = |b: &[u8; 4]| f64::from(f32::from_le_bytes(*b)).to_le_bytes();
            vec![(name.to_owned(), Dtype::F64, shape, data.as_chunks().0.iter().flat_map(double).collect())]
        });
        let states = expected().states;
        let (single, double) =
            (ActorCritic::from_safetensors(PPO).unwrap(), ActorCritic::from_safetensors(&widened).unwrap());
        assert_eq!(single.evaluate(&states).unwrap(), double.evaluate(&states).unwrap());
    }

    #[test]
    fn a_refusal_names_the_tensor() {
        assert!(refusal(b"PK\x03\x04 a pickle").starts_with("not a safetensors file"));
        let without = changed(|name, shape, data| match name {
            "critic.2.bias" => vec![],
            _ => vec![(name.to_owned(), Dtype::F32, shape, data)],
        });
        assert_eq!(refusal(&without), "tensor 'critic.2.bias' is missing");
        let with = changed(|name, shape, data| {
            let copy = (format!("{name}.copy"), Dtype::F32, shape.clone(), data.clone());
            let original = (name.to_owned(), Dtype::F32, shape, data);
            if name == "actor.0.bias" { vec![original, copy] } else { vec![original] }
        });
        assert_eq!(refusal(&with), "tensor 'actor.0.bias.copy' is not a parameter of this network");
        let half = replaced("actor.4.bias", Dtype::F16, &[4], &[0; 8]);
        assert_eq!(refusal(&half), "tensor 'actor.4.bias' is of type F16: F32 or F64 is needed");
        let narrow = replaced("actor.2.weight", Dtype::F32, &[32, 31], &[0; 32 * 31 * 4]);
        assert_eq!(refusal(&narrow), "tensor 'actor.2.weight' has shape [32, 31]: [n, 32] is needed");
        let flat = replaced("actor.0.weight", Dtype::F32, &[288], &[0; 288 * 4]);
        assert_eq!(refusal(&flat), "tensor 'actor.0.weight' has shape [288]: [n, n] is needed");
        let empty = replaced("actor.0.weight", Dtype::F32, &[32, 0], &[]);
        assert_eq!(refusal(&empty), "tensor 'actor.0.weight' has shape [32, 0]: [n, n] is needed");
        let other_state = replaced("critic.0.weight", Dtype::F32, &[32, 8], &[0; 32 * 8 * 4]);
        assert_eq!(refusal(&other_state), "tensor 'critic.0.weight' has shape [32, 8]: [n, 9] is needed");
        let two_values = replaced("critic.4.weight", Dtype::F32, &[2, 32], &[0; 2 * 32 * 4]);
        assert_eq!(refusal(&two_values), "tensor 'critic.4.weight' has shape [2, 32]: [1, 32] is needed");
        let nan: Vec<u8> = [0.0, 1.0, f32::NAN, 2.0].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
        let not_finite = replaced("actor.4.bias", Dtype::F32, &[4], &nan);
        assert_eq!(refusal(&not_finite), "tensor 'actor.4.bias' is not finite as 32-bit floats at element 2");
    }
}
