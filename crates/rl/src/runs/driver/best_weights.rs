//! The best evaluated weights of a run: kept while it goes on, and with its checkpoints.

use crate::training::{TrainerCheckpoint, TrainingError};

/// Name of the weights among a checkpoint's arrays, and of what belongs to them in its state.
const KEY: &str = "best";

/// Weights with their evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BestWeights {
    /// Environment steps after which they were taken.
    pub(super) steps: u64,
    /// Expected or mean return.
    pub(super) score: f64,
    /// Weights as a safetensors file.
    pub(super) weights: Vec<u8>,
}

impl BestWeights {
    /// Put the weights into a checkpoint.
    pub(super) fn put(&self, into: &mut TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let (words, rest) = self.weights.as_chunks::<4>();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let numbers: Vec<f32> = words.iter().chain([&last]).map(|word| f32::from_le_bytes(*word)).collect();
        into.put_array(KEY, numbers);
        into.put_state(KEY, &(self.steps, self.score, self.weights.len()))
    }

    /// Read the weights of a checkpoint; `None`: it has none.
    pub(super) fn get(from: &TrainerCheckpoint<'_>) -> Result<Option<Self>, TrainingError> {
        let Ok(numbers) = from.array(KEY) else { return Ok(None) };
        let (steps, score, length) = from.state::<(u64, f64, usize)>(KEY)?;
        let mut weights: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        if weights.len() < length {
            return Err(TrainingError::Checkpoint(format!("'{KEY}' is not of this size")));
        }
        weights.truncate(length);
        Ok(Some(Self { steps, score, weights }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_any_length_are_kept_to_the_bit() {
        for length in [0, 1, 4, 7, 1000] {
            let weights = (0..length).map(|at| (at * 37 % 256) as u8).collect();
            let best = BestWeights { steps: 7, score: -1.5, weights };
            let mut checkpoint = TrainerCheckpoint::default();
            best.put(&mut checkpoint).unwrap();
            let mut file = Vec::new();
            checkpoint.write_to(&mut file).unwrap();
            let read = TrainerCheckpoint::read_from(&mut file.as_slice(), file.len() as u64).unwrap();
            assert_eq!(BestWeights::get(&read).unwrap(), Some(best));
        }
        assert_eq!(BestWeights::get(&TrainerCheckpoint::default()).unwrap(), None);
    }
}
