//! Complete state of a trainer: numeric arrays, and everything else as JSON, in one safetensors file.
//!
//! A replay buffer is most of it. It is written from where it is and read to where it stays, a piece at a time, so that a
//! checkpoint needs no memory of its size.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Read, Write},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::{TrainingError, device_tensors::tensor_numbers};

/// Key of the JSON in the file's metadata.
const STATE_KEY: &str = "state";
/// Key of the metadata in a safetensors header.
const METADATA_KEY: &str = "__metadata__";
/// Numbers that are converted at once.
const PIECE_NUMBERS: usize = 16_384;
/// Largest header that is read, in bytes.
const MAX_HEADER_BYTES: u64 = 256 << 20;
/// The type word of 32-bit floats in a safetensors header.
const FLOATS: &str = "F32";

/// Named arrays and named JSON values. Arrays may be borrowed from the trainer.
#[derive(Debug, Default)]
pub struct TrainerCheckpoint<'a> {
    /// 32-bit floats with their exact bits, so that NaN and -0 are preserved.
    arrays: BTreeMap<String, Cow<'a, [f32]>>,
    state: Map<String, Value>,
}

/// An entry of a safetensors header.
#[derive(Serialize, Deserialize)]
struct ArrayEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'a> TrainerCheckpoint<'a> {
    /// Write a safetensors file.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut header = Map::new();
        header.insert(METADATA_KEY.to_owned(), json!({STATE_KEY: serde_json::to_string(&self.state)?}));
        let mut from = 0;
        for (name, numbers) in &self.arrays {
            let to = from + 4 * numbers.len() as u64;
            let entry =
                ArrayEntry { dtype: FLOATS.to_owned(), shape: vec![numbers.len() as u64], data_offsets: [from, to] };
            header.insert(name.clone(), serde_json::to_value(entry)?);
            from = to;
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut piece = Vec::with_capacity(4 * PIECE_NUMBERS);
        for numbers in self.arrays.values().flat_map(|numbers| numbers.chunks(PIECE_NUMBERS)) {
            piece.clear();
            piece.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            out.write_all(&piece)?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, name: &str, tensor: &Tensor) -> Result<(), TrainingError> {
        self.arrays.insert(name.to_owned(), tensor_numbers(tensor)?.into());
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

    pub(crate) fn put_array(&mut self, name: &str, numbers: impl Into<Cow<'a, [f32]>>) {
        self.arrays.insert(name.to_owned(), numbers.into());
    }

    pub(crate) fn array(&self, name: &str) -> Result<&[f32], TrainingError> {
        let array = self.arrays.get(name);
        Ok(array.ok_or_else(|| TrainingError::Checkpoint(format!("'{name}' is missing")))?)
    }

    /// Move an array out of the checkpoint.
    pub(super) fn take_array(&mut self, name: &str) -> Result<Vec<f32>, TrainingError> {
        let array = self.arrays.remove(name);
        Ok(array.ok_or_else(|| TrainingError::Checkpoint(format!("'{name}' is missing")))?.into_owned())
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

impl TrainerCheckpoint<'static> {
    /// Read a safetensors file of `size` bytes.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when it is not a checkpoint, or cannot be read.
    pub fn read_from(from: &mut impl Read, size: u64) -> Result<Self, TrainingError> {
        let mut length = [0; 8];
        from.read_exact(&mut length).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > size.saturating_sub(8) {
            return Err(TrainingError::Checkpoint("its header is longer than the file".into()));
        }
        let mut header = vec![0; length as usize];
        from.read_exact(&mut header).map_err(unreadable)?;
        let mut header: Map<String, Value> = serde_json::from_slice(&header)?;
        let state =
            header.remove(METADATA_KEY).and_then(|metadata| Some(metadata.get(STATE_KEY)?.as_str()?.to_owned()));
        let state = state.ok_or_else(|| TrainingError::Checkpoint("it has no state".into()))?;
        let entries = header.into_iter().map(|(name, entry)| Ok((name, serde_json::from_value::<ArrayEntry>(entry)?)));
        let mut entries = entries.collect::<Result<Vec<_>, TrainingError>>()?;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let (mut arrays, mut at) = (BTreeMap::new(), 0);
        for (name, entry) in entries {
            let [begin, end] = entry.data_offsets;
            if entry.dtype != FLOATS || begin != at || end < begin || (end - begin) % 4 != 0 || end > size - 8 - length
            {
                return Err(TrainingError::Checkpoint(format!(
                    "'{name}' is not an array of 32-bit floats in its place"
                )));
            }
            arrays.insert(name, Cow::Owned(read_numbers(from, ((end - begin) / 4) as usize)?));
            at = end;
        }
        if at != size - 8 - length {
            return Err(TrainingError::Checkpoint("it has bytes that belong to no array".into()));
        }
        Ok(Self { arrays, state: serde_json::from_str(&state)? })
    }
}

fn read_numbers(from: &mut impl Read, count: usize) -> Result<Vec<f32>, TrainingError> {
    let mut numbers = Vec::with_capacity(count);
    let mut piece = vec![0; 4 * PIECE_NUMBERS.min(count)];
    while numbers.len() < count {
        let bytes = &mut piece[..4 * PIECE_NUMBERS.min(count - numbers.len())];
        from.read_exact(bytes).map_err(unreadable)?;
        let (words, _) = bytes.as_chunks();
        numbers.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
    }
    Ok(numbers)
}

fn unreadable(error: io::Error) -> TrainingError {
    TrainingError::Checkpoint(error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The bytes of a checkpoint.
    pub(in super::super) fn bytes(checkpoint: &TrainerCheckpoint<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        checkpoint.write_to(&mut out).unwrap();
        out
    }

    /// A checkpoint as it is read again.
    pub(in super::super) fn reread(checkpoint: &TrainerCheckpoint<'_>) -> TrainerCheckpoint<'static> {
        let bytes = bytes(checkpoint);
        TrainerCheckpoint::read_from(&mut bytes.as_slice(), bytes.len() as u64).unwrap()
    }

    fn sample(numbers: &[f32]) -> TrainerCheckpoint<'_> {
        let mut checkpoint = TrainerCheckpoint::default();
        checkpoint.put_array("replay", numbers);
        checkpoint.put_array("empty", Vec::<f32>::new());
        checkpoint.put_array("priorities", vec![f32::NAN, -0.0, 1.5]);
        checkpoint.put_state("rainbow", &json!({"steps": 7, "text": "ä"})).unwrap();
        checkpoint
    }

    #[test]
    fn what_is_written_is_safetensors_and_is_read_to_the_bit() {
        let numbers: Vec<f32> = (0..3 * PIECE_NUMBERS + 5).map(|number| number as f32).collect();
        let written = sample(&numbers);
        let file = bytes(&written);
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
        assert!(metadata.metadata().as_ref().unwrap()[STATE_KEY].contains("steps"));
        let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(parsed.tensor("replay").unwrap().shape(), [numbers.len()]);
        let mut read = reread(&written);
        assert_eq!(bytes(&read), file);
        assert!(read.array("priorities").unwrap()[0].is_nan());
        assert_eq!(read.state::<Value>("rainbow").unwrap()["steps"], 7);
        assert_eq!(read.take_array("replay").unwrap(), numbers);
        assert!(read.array("replay").is_err());
    }

    #[test]
    fn files_that_are_cut_or_changed_are_refused() {
        let file = bytes(&sample(&[1.0, 2.0]));
        for end in 0..file.len() {
            assert!(TrainerCheckpoint::read_from(&mut &file[..end], end as u64).is_err(), "{end}");
        }
        let mut longer = file.clone();
        longer.push(0);
        assert!(TrainerCheckpoint::read_from(&mut longer.as_slice(), longer.len() as u64).is_err());
        assert!(TrainerCheckpoint::read_from(&mut &b"PK\x03\x04"[..], 4).is_err());
        let mut huge = u64::MAX.to_le_bytes().to_vec();
        huge.extend(b"{}");
        assert!(TrainerCheckpoint::read_from(&mut huge.as_slice(), huge.len() as u64).is_err());
    }
}
