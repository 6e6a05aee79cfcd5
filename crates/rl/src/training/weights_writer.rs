//! Writer of a policy's safetensors file, with PyTorch's parameter names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::{TrainingError, device_tensors::tensor_numbers, moments::RunningMoments};

/// Tensors and metadata of a policy.
pub(super) struct WeightsWriter {
    /// Ordered, so that equal policies have equal bytes and hashes.
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl WeightsWriter {
    pub(super) fn new(algorithm: &str) -> Self {
        Self { metadata: BTreeMap::from([("algorithm".to_owned(), algorithm.to_owned())]), tensors: Vec::new() }
    }

    /// Add linear layers with a module between each two, numbered as in `Sequential`: 0, 2, 4.
    pub(super) fn sequential(&mut self, name: &str, layers: &[[Tensor; 2]]) -> Result<(), TrainingError> {
        for (index, layer) in layers.iter().enumerate() {
            self.layer(&format!("{name}.{}", 2 * index), layer)?;
        }
        Ok(())
    }

    /// Add one linear layer.
    pub(super) fn layer(&mut self, name: &str, [weight, bias]: &[Tensor; 2]) -> Result<(), TrainingError> {
        self.add_tensor(&format!("{name}.weight"), weight)?;
        self.add_tensor(&format!("{name}.bias"), bias)
    }

    fn add_tensor(&mut self, name: &str, tensor: &Tensor) -> Result<(), TrainingError> {
        let shape: Vec<usize> = tensor.size().into_iter().map(|length| length as usize).collect();
        self.add(name, shape, &tensor_numbers(tensor)?)
    }

    fn add(&mut self, name: &str, shape: Vec<usize>, numbers: &[f32]) -> Result<(), TrainingError> {
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(TrainingError::Torch(format!("'{name}' is not finite")));
        }
        self.tensors.push((name.to_owned(), shape, numbers.iter().flat_map(|number| number.to_le_bytes()).collect()));
        Ok(())
    }

    /// Add a vector.
    pub(super) fn vector(&mut self, name: &str, numbers: &[f32]) -> Result<(), TrainingError> {
        self.add(name, vec![numbers.len()], numbers)
    }

    /// Add the mean and deviation for normalising observations.
    pub(super) fn normalisation(&mut self, moments: &RunningMoments) -> Result<(), TrainingError> {
        self.vector("observation_mean", &moments.mean())?;
        self.vector("observation_std", &moments.deviation())
    }

    /// Add a metadata text.
    pub(super) fn note(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.to_owned(), value.to_owned());
    }

    /// Serialize the file here: the `safetensors` crate takes metadata as a hash map, whose order changes from call to
    /// call.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, TrainingError> {
        let mut header = Map::from_iter([("__metadata__".to_owned(), json!(self.metadata))]);
        let mut end = 0;
        for (name, shape, bytes) in &self.tensors {
            let begin = end;
            end += bytes.len();
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
            header.insert(name.clone(), entry);
        }
        let mut header = serde_json::to_vec(&Value::Object(header))?;
        // Numbers begin at a multiple of 8.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        self.tensors.iter().for_each(|(_, _, bytes)| file.extend(bytes));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, SafeTensors};

    use super::*;

    #[test]
    fn the_same_policy_is_the_same_bytes() {
        let file = || {
            let mut file = WeightsWriter::new("ppo");
            ["z", "a", "m", "b", "k"].into_iter().for_each(|key| file.note(key, &format!("{key} \"quoted\"")));
            file.layer("actor.0", &[Tensor::from_slice2(&[[1.0f32, 2.0], [3.0, 4.0]]), Tensor::from_slice(&[5.0f32])])
                .unwrap();
            file.vector("a", &[-0.0]).unwrap();
            file.to_bytes().unwrap()
        };
        let bytes = file();
        (0..20).for_each(|_| assert_eq!(file(), bytes));
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let (length, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(length % 8, 0);
        assert_eq!(metadata.metadata().as_ref().unwrap()["z"], "z \"quoted\"");
        assert_eq!(metadata.metadata().as_ref().unwrap()["algorithm"], "ppo");
        let weight = read.tensor("actor.0.weight").unwrap();
        assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[2, 2][..]));
        assert_eq!(weight.data(), [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).as_flattened());
        assert_eq!(read.tensor("a").unwrap().data(), (-0.0f32).to_le_bytes());
        assert_eq!(read.len(), 3);
    }
}
