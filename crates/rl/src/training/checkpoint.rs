//! Complete state of a trainer: numeric arrays, and everything else as JSON, in one safetensors file.

use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use super::{TrainingError, device_tensors::tensor_numbers};

/// Key of the JSON in the file's metadata.
const STATE_KEY: &str = "state";

/// Named arrays and named JSON values.
#[derive(Debug, Default)]
pub struct TrainerCheckpoint {
    /// 32-bit floats with their exact bits, so that NaN and -0 are preserved.
    arrays: BTreeMap<String, Vec<f32>>,
    state: Map<String, Value>,
}

impl TrainerCheckpoint {
    /// Serialize to a safetensors file.
    ///
    /// # Errors
    /// When libtorch or safetensors refuse, which does not happen in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainingError> {
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .arrays
            .iter()
            .map(|(name, numbers)| (name, numbers.iter().flat_map(|number| number.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, bytes)| Ok((*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let metadata = HashMap::from([(STATE_KEY.to_owned(), serde_json::to_string(&self.state)?)]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Parse a safetensors file.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when it is not a checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainingError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let state = metadata.metadata().as_ref().and_then(|metadata| metadata.get(STATE_KEY));
        let state = state.ok_or_else(|| TrainingError::Checkpoint("it has no state".into()))?;
        let numbers = |view: &TensorView| {
            let (words, rest) = view.data().as_chunks();
            if view.dtype() != Dtype::F32 || !rest.is_empty() {
                return Err(TrainingError::Checkpoint("an array is not of 32-bit floats".into()));
            }
            Ok(words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        let file = SafeTensors::deserialize(bytes)?;
        let arrays = file.iter().map(|(name, view)| Ok((name.to_owned(), numbers(&view)?)));
        Ok(Self { arrays: arrays.collect::<Result<_, TrainingError>>()?, state: serde_json::from_str(state)? })
    }

    pub(super) fn put(&mut self, name: &str, tensor: &Tensor) -> Result<(), TrainingError> {
        self.arrays.insert(name.to_owned(), tensor_numbers(tensor)?);
        Ok(())
    }

    pub(super) fn get(&self, name: &str, into: &mut Tensor) -> Result<(), TrainingError> {
        let numbers = self.array(name)?;
        if numbers.len() != into.numel() {
            return Err(TrainingError::Checkpoint(format!(
                "'{name}' has {} numbers, not {}",
                numbers.len(),
                into.numel()
            )));
        }
        let from = Tensor::f_from_slice(numbers)?.f_view(&into.size()[..])?.f_to_kind(Kind::Float)?;
        into.f_copy_(&from)?;
        Ok(())
    }

    pub(super) fn put_array(&mut self, name: &str, numbers: Vec<f32>) {
        self.arrays.insert(name.to_owned(), numbers);
    }

    pub(super) fn array(&self, name: &str) -> Result<&[f32], TrainingError> {
        let array = self.arrays.get(name);
        Ok(array.ok_or_else(|| TrainingError::Checkpoint(format!("'{name}' is missing")))?)
    }

    pub(crate) fn put_state(&mut self, name: &str, value: &impl Serialize) -> Result<(), TrainingError> {
        self.state.insert(name.to_owned(), serde_json::to_value(value)?);
        Ok(())
    }

    pub(crate) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<T, TrainingError> {
        let value = self.state.get(name).ok_or_else(|| TrainingError::Checkpoint(format!("'{name}' is missing")))?;
        T::deserialize(value).map_err(|error| TrainingError::Checkpoint(format!("'{name}': {error}")))
    }
}
