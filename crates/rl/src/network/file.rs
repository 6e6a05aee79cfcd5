//! Reading of safetensors files: tensors by name, with checked shapes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};

use super::{
    LoadError,
    layers::{LinearLayer, WeightArray},
};

/// A safetensors file being read.
pub(super) struct WeightsFile<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    read: BTreeSet<String>,
}

impl<'a> WeightsFile<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, LoadError> {
        // A safetensors file begins with the length of its header. These bytes would mean headers of over a megabyte
        // ("PK"), or a length that ends in 0x80 and is followed by the pickle protocol's version, 2 to 5.
        if bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]) && !is_safetensors(bytes) {
            return Err(LoadError::Pickle);
        }
        let format = |error: safetensors::SafeTensorError| LoadError::Format(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
        Ok(Self { tensors, metadata, read: BTreeSet::new() })
    }

    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    pub(super) fn take_metadata(&mut self) -> HashMap<String, String> {
        std::mem::take(&mut self.metadata)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.tensors.names()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// Total number of elements of all tensors.
    pub(super) fn parameters(&self) -> u64 {
        self.tensors.iter().map(|(_, view)| view.shape().iter().product::<usize>() as u64).sum()
    }

    /// Read a tensor of the `expected` shape; `None` means any length of at least 1.
    pub(super) fn array(&mut self, name: &str, expected: &[Option<usize>]) -> Result<WeightArray, LoadError> {
        let tensor = name.to_owned();
        let Ok(view) = self.tensors.tensor(name) else { return Err(LoadError::Missing(tensor)) };
        let shape = view.shape();
        let fits = |(got, wanted): (&usize, &Option<usize>)| *got >= 1 && wanted.is_none_or(|wanted| *got == wanted);
        if shape.len() != expected.len() || !shape.iter().zip(expected).all(fits) {
            return Err(LoadError::Shape { tensor, expected: expected.to_vec(), got: shape.to_vec() });
        }
        let numbers: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F64 => view.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
            other => return Err(LoadError::Type { tensor, dtype: other.to_string() }),
        };
        if let Some(element) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(LoadError::NotFinite { tensor, element });
        }
        self.read.insert(tensor.clone());
        Ok(WeightArray { name: tensor, shape: shape.to_vec(), numbers })
    }

    /// Read a linear layer `name.weight`, `name.bias`.
    pub(super) fn linear(
        &mut self,
        name: &str,
        shape: [Option<usize>; 2],
    ) -> Result<LinearLayer<WeightArray>, LoadError> {
        let weight = self.array(&format!("{name}.weight"), &shape)?;
        let bias = self.array(&format!("{name}.bias"), &[Some(weight.shape[0])])?;
        Ok(LinearLayer { weight, bias })
    }

    /// Read `count` linear layers with a module between each two, numbered as in `Sequential`: 0, 2, 4.
    pub(super) fn sequential(
        &mut self,
        name: &str,
        count: usize,
        mut inputs: Option<usize>,
        outputs: Option<usize>,
    ) -> Result<Vec<LinearLayer<WeightArray>>, LoadError> {
        let mut layers: Vec<LinearLayer<WeightArray>> = Vec::with_capacity(count);
        for index in 0..count {
            let wanted = if index + 1 == count { outputs } else { None };
            let layer = self.linear(&format!("{name}.{}", 2 * index), [wanted, inputs])?;
            inputs = Some(layer.outputs());
            layers.push(layer);
        }
        Ok(layers)
    }

    /// Check that every tensor has been read.
    pub(super) fn finish(self) -> Result<(), LoadError> {
        let mut left: Vec<&str> = self.names().into_iter().filter(|name| !self.read.contains(*name)).collect();
        left.sort_unstable();
        left.first().map_or(Ok(()), |name| Err(LoadError::Unexpected((*name).to_owned())))
    }
}

/// Serialize tensors to a safetensors file whose bytes depend on its content only: the library writes metadata in
/// random order.
///
/// # Errors
/// When the library refuses, which it does for tensors with equal names.
pub(crate) fn serialize<'a>(
    tensors: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, SafeTensorError> {
    let plain = safetensors::serialize(tensors, None)?;
    if metadata.is_empty() {
        return Ok(plain);
    }
    let (length, _) = SafeTensors::read_metadata(&plain)?;
    let data = length + size_of::<u64>();
    let sorted = BTreeMap::from_iter(metadata);
    let sorted = serde_json::to_string(&sorted)?;
    // The header is an object whose first member is the metadata.
    let rest = plain[size_of::<u64>() + 1..data].trim_ascii_end();
    let comma = if rest == b"}" { "" } else { "," };
    let mut header = format!("{{\"__metadata__\":{sorted}{comma}").into_bytes();
    header.extend(rest);
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');
    Ok([&(header.len() as u64).to_le_bytes(), &header[..], &plain[data..]].concat())
}

fn is_safetensors(bytes: &[u8]) -> bool {
    SafeTensors::read_metadata(bytes).is_ok()
}
