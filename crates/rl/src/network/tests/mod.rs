//! Files made up for tests, and what they should give, computed in double precision without libtorch.

mod refusals;
mod trained;
mod vectors;

use std::collections::HashMap;

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::*;

pub(crate) const PPO: &[u8] = include_bytes!("../../../../../tests/fixtures/vectors/ppo.safetensors");
pub(crate) const SAC: &[u8] = include_bytes!("../../../../../tests/fixtures/vectors/sac.safetensors");
pub(crate) const RAINBOW: &[u8] = include_bytes!("../../../../../tests/fixtures/vectors/rainbow_dqn.safetensors");

/// A tensor of a file: its name, shape and numbers.
type Named = (String, Vec<usize>, Vec<f32>);

/// A safetensors file.
pub(crate) fn file(tensors: &[Named], notes: &[(&str, &str)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, _, numbers)| little_endian(numbers)).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    let notes: HashMap<String, String> = notes.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect();
    safetensors::serialize(views, (!notes.is_empty()).then_some(notes)).unwrap()
}

pub(crate) fn little_endian(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Numbers drawn evenly within `bound` of 0.
pub(crate) fn drawn(seed: u64, count: usize, bound: f32) -> Vec<f32> {
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..count).map(|_| ((generator.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0) * bound).collect()
}

/// Layers `prefix.0`, `prefix.2`, ... of these widths, as PyTorch draws them.
fn sequential(prefix: &str, widths: &[usize], seed: u64) -> Vec<Named> {
    let layers = widths.windows(2).enumerate();
    layers.flat_map(|(at, pair)| linear(&format!("{prefix}.{}", 2 * at), pair[0], pair[1], seed + at as u64)).collect()
}

fn linear(name: &str, inputs: usize, outputs: usize, seed: u64) -> [Named; 2] {
    let bound = 1.0 / (inputs as f32).sqrt();
    let all = drawn(seed, (inputs + 1) * outputs, bound);
    let (weight, bias) = all.split_at(inputs * outputs);
    [
        (format!("{name}.weight"), vec![outputs, inputs], weight.to_vec()),
        (format!("{name}.bias"), vec![outputs], bias.to_vec()),
    ]
}

/// The contract's networks at these widths.
pub(crate) fn ppo(states: usize, hidden: usize, actions: usize) -> Vec<Named> {
    let mut all = sequential("actor", &[states, hidden, hidden, actions], 1);
    all.extend(sequential("critic", &[states, hidden, hidden, 1], 11));
    all
}

pub(crate) fn rainbow(states: usize, hidden: usize, actions: usize, atoms: usize) -> Vec<Named> {
    let mut all = sequential("feature_layer", &[states, hidden, hidden], 21);
    all.extend(sequential("value_stream", &[hidden, hidden / 2, atoms], 31));
    all.extend(sequential("advantage_stream", &[hidden, hidden / 2, actions * atoms], 41));
    all
}

pub(crate) fn sac(states: usize, hidden: usize, actions: usize) -> Vec<Named> {
    let mut all = sequential("actor_mean", &[states, hidden, hidden, actions], 51);
    all.push(("actor_log_std".to_owned(), vec![1, actions], drawn(61, actions, 1.0)));
    all.extend(sequential("qf1", &[states + actions, hidden, hidden, 1], 71));
    all.extend(sequential("qf2", &[states + actions, hidden, hidden, 1], 81));
    all
}

/// SAC as it is trained here: two heads on one trunk, an action in [-2, 3], normalised states.
pub(crate) fn squashed_sac(states: usize, hidden: usize, actions: usize) -> Vec<Named> {
    let mut all = sequential("actor", &[states, hidden, hidden], 91);
    all.extend(linear("actor_mean", hidden, actions, 101));
    all.extend(linear("actor_log_std", hidden, actions, 111));
    all.extend(sequential("qf1", &[states + actions, hidden, hidden, 1], 121));
    all.extend(sequential("qf2", &[states + actions, hidden, hidden, 1], 131));
    all.push(("action_low".to_owned(), vec![actions], vec![-2.0; actions]));
    all.push(("action_high".to_owned(), vec![actions], vec![3.0; actions]));
    all.extend(normalisation(states));
    all
}

pub(crate) fn normalisation(states: usize) -> [Named; 2] {
    let deviation = drawn(142, states, 0.5).into_iter().map(|number| number + 1.0).collect();
    [
        ("observation_mean".to_owned(), vec![states], drawn(141, states, 1.0)),
        ("observation_std".to_owned(), vec![states], deviation),
    ]
}

/// Double precision, by the formulas of the contract.
struct Reference<'a>(SafeTensors<'a>);

impl<'a> Reference<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self(SafeTensors::deserialize(bytes).unwrap())
    }

    fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let view = self.0.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect()
    }

    fn linear(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let weight = self.numbers(&format!("{name}.weight"));
        let rows = weight.chunks(input.len()).zip(self.numbers(&format!("{name}.bias")));
        rows.map(|(row, bias)| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>() + bias).collect()
    }

    /// Linear layers 0, 2, ... with ReLU between them.
    fn sequential(&self, prefix: &str, input: &[f64]) -> Vec<f64> {
        let mut present = input.to_vec();
        let mut at = 0;
        while self.has(&format!("{prefix}.{at}.weight")) {
            if at > 0 {
                present = relu(present);
            }
            present = self.linear(&format!("{prefix}.{at}"), &present);
            at += 2;
        }
        present
    }

    fn normalised(&self, state: &[f32]) -> Vec<f64> {
        let state: Vec<f64> = state.iter().map(|number| f64::from(*number)).collect();
        if !self.has("observation_mean") {
            return state;
        }
        let moments = self.numbers("observation_mean").into_iter().zip(self.numbers("observation_std"));
        state.iter().zip(moments).map(|(number, (mean, std))| ((number - mean) / std).clamp(-10.0, 10.0)).collect()
    }

    /// Probabilities, then the value.
    fn ppo(&self, state: &[f32]) -> Vec<f64> {
        let state = self.normalised(state);
        let mut all = softmax(&self.sequential("actor", &state));
        all.extend(self.sequential("critic", &state));
        all
    }

    /// The Q of each action.
    fn rainbow(&self, state: &[f32], support: &[f64]) -> Vec<f64> {
        let inner = relu(self.sequential("feature_layer", &self.normalised(state)));
        let (value, advantage) = (self.sequential("value_stream", &inner), self.sequential("advantage_stream", &inner));
        let (atoms, actions) = (support.len(), advantage.len() / support.len());
        let atom = |action: usize, at: usize| {
            let mean = (0..actions).map(|other| advantage[other * atoms + at]).sum::<f64>() / actions as f64;
            value[at] + advantage[action * atoms + at] - mean
        };
        let q = |action: usize| {
            let logits: Vec<f64> = (0..atoms).map(|at| atom(action, at)).collect();
            if atoms == 1 { logits[0] } else { softmax(&logits).iter().zip(support).map(|(p, z)| p * z).sum() }
        };
        (0..actions).map(q).collect()
    }

    /// Means, then standard deviations, then the smaller Q.
    fn sac(&self, state: &[f32]) -> Vec<f64> {
        let state = self.normalised(state);
        let squashed = self.has("actor_mean.weight");
        let (mean, log_std): (Vec<f64>, Vec<f64>) = if squashed {
            let inner = relu(self.sequential("actor", &state));
            let log_std = self.linear("actor_log_std", &inner);
            (self.linear("actor_mean", &inner), log_std.iter().map(|x| -5.0 + 3.5 * (x.tanh() + 1.0)).collect())
        } else {
            (self.sequential("actor_mean", &state), self.numbers("actor_log_std"))
        };
        let action = mean.iter().map(|mean| if squashed { mean.tanh() } else { mean.clamp(-1.0, 1.0) });
        let both: Vec<f64> = state.iter().copied().chain(action).collect();
        let value = self.sequential("qf1", &both)[0].min(self.sequential("qf2", &both)[0]);
        mean.iter().copied().chain(log_std.iter().map(|log| log.exp())).chain([value]).collect()
    }
}

fn relu(numbers: Vec<f64>) -> Vec<f64> {
    numbers.into_iter().map(|number| number.max(0.0)).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Evenly spaced.
fn spaced(least: f64, most: f64, atoms: usize) -> Vec<f64> {
    (0..atoms).map(|at| least + (most - least) * at as f64 / (atoms - 1) as f64).collect()
}

fn same_bits(one: &NetworkOutput, other: &NetworkOutput) -> bool {
    one.numbers().map(f32::to_bits).eq(other.numbers().map(f32::to_bits))
}

/// To 1e-5, in every way of evaluating.
fn agrees(what: &str, bytes: &[u8], states: &[f32], wanted: impl Fn(&[f32]) -> Vec<f64>) {
    let mut network = PolicyNetwork::from_safetensors(bytes).unwrap();
    let length = network.form.state_length;
    let wanted: Vec<Vec<f64>> = states.chunks(length).map(wanted).collect();
    let close = |way: &str, rows: Vec<Vec<f32>>| {
        assert_eq!(rows.len(), wanted.len());
        for (row, (got, wanted)) in rows.iter().zip(&wanted).enumerate() {
            assert_eq!(got.len(), wanted.len());
            for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                let off = (f64::from(*got) - wanted).abs();
                assert!(off < 1e-5, "{what} {way}, state {row}, number {at}: {got} is not {wanted}");
            }
        }
    };
    for (exact, rows) in [(true, 1), (true, EXACT_ROWS), (false, EXACT_ROWS)] {
        network.rows = rows;
        let evaluations = network.evaluate(states, exact).unwrap();
        close("evaluated", evaluations.iter().map(|evaluation| evaluation.numbers().collect()).collect());
    }
    // libtorch's graph, which is what is exported.
    let constants = ForwardConstants::new(&network.layers, tch::Device::Cpu).unwrap();
    let outputs = network.layers.outputs(&matrix(states, length).unwrap(), &constants).unwrap();
    let outputs: Vec<Vec<f32>> = outputs.iter().map(|output| tensor_numbers(output).unwrap()).collect();
    let count = states.len() / length;
    let row = |row: usize| outputs.iter().flat_map(move |all| all.chunks(all.len() / count).nth(row).unwrap()).copied();
    close("as a graph", (0..count).map(|at| row(at).collect()).collect());
}
