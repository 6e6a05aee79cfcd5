//! A policy's safetensors file, in PyTorch's parameter names.

use std::collections::HashMap;

use safetensors::{Dtype, tensor::TensorView};
use tch::Tensor;

use super::{Error, mlp::numbers, moments::Moments};

/// Tensors and metadata of a policy.
pub(super) struct Weights {
    metadata: HashMap<String, String>,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl Weights {
    pub(super) fn of(algorithm: &str) -> Self {
        Self { metadata: HashMap::from([("algorithm".to_owned(), algorithm.to_owned())]), tensors: Vec::new() }
    }

    /// Linear layers with something between each two, as `Sequential` numbers them: 0, 2, 4.
    pub(super) fn sequential(&mut self, name: &str, layers: &[[Tensor; 2]]) -> Result<(), Error> {
        for (index, layer) in layers.iter().enumerate() {
            self.layer(&format!("{name}.{}", 2 * index), layer)?;
        }
        Ok(())
    }

    /// One linear layer.
    pub(super) fn layer(&mut self, name: &str, [weight, bias]: &[Tensor; 2]) -> Result<(), Error> {
        self.tensor(&format!("{name}.weight"), weight)?;
        self.tensor(&format!("{name}.bias"), bias)
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<(), Error> {
        let shape: Vec<usize> = tensor.size().into_iter().map(|length| length as usize).collect();
        self.add(name, shape, &numbers(tensor)?)
    }

    fn add(&mut self, name: &str, shape: Vec<usize>, numbers: &[f32]) -> Result<(), Error> {
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(Error::Torch(format!("'{name}' is not finite")));
        }
        self.tensors.push((name.to_owned(), shape, numbers.iter().flat_map(|number| number.to_le_bytes()).collect()));
        Ok(())
    }

    /// A vector that is no layer's.
    pub(super) fn vector(&mut self, name: &str, numbers: &[f32]) -> Result<(), Error> {
        self.add(name, vec![numbers.len()], numbers)
    }

    /// By what observations are brought to mean 0 and variance 1 before they go in.
    pub(super) fn normalisation(&mut self, moments: &Moments) -> Result<(), Error> {
        self.vector("observation_mean", &moments.mean())?;
        self.vector("observation_std", &moments.deviation())
    }

    /// Say something of the network that its tensors don't.
    pub(super) fn note(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.to_owned(), value.to_owned());
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let views = self
            .tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(safetensors::serialize(views, Some(self.metadata.clone()))?)
    }
}
