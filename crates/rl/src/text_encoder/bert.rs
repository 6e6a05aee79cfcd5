//! The forward pass of a BERT encoder with six layers of 384 numbers, the mean of its outputs, scaled to length 1.
//!
//! J. Devlin et al., "BERT: Pre-training of deep bidirectional transformers", 2019; N. Reimers, I. Gurevych, "Sentence-BERT",
//! 2019; W. Wang et al., "MiniLM", 2020.

use std::{collections::HashMap, path::Path};

use tch::{Kind, TchError, Tensor, no_grad_guard};
use tokenizers::Tokenizer;

use super::EncoderError;

/// The file of weights.
pub(super) const WEIGHTS_FILE: &str = "model.safetensors";
/// The file of the tokenizer.
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
/// Numbers of a vector.
const WIDTH: i64 = 384;
const HEADS: i64 = 12;
const LAYERS: usize = 6;
/// Tokens of a text that are read, its two marks included.
const MAX_TOKENS: usize = 256;
/// What LayerNorm adds to the variance.
const EPSILON: f64 = 1e-12;

/// Weights and biases of a linear layer, or scale and shift of a normalisation.
struct WeightPair {
    weight: Tensor,
    bias: Tensor,
}

impl WeightPair {
    fn apply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_linear(&self.weight, Some(&self.bias))
    }

    fn normalise(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_layer_norm([WIDTH], Some(&self.weight), Some(&self.bias), EPSILON, false)
    }
}

/// One layer: attention and a feed-forward network, each added to its input and normalised.
struct EncoderLayer {
    query: WeightPair,
    key: WeightPair,
    value: WeightPair,
    attended: WeightPair,
    attended_norm: WeightPair,
    inner: WeightPair,
    outer: WeightPair,
    outer_norm: WeightPair,
}

impl EncoderLayer {
    fn apply(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let length = input.size()[0];
        let size = WIDTH / HEADS;
        let heads = |pair: &WeightPair| pair.apply(input)?.f_view([length, HEADS, size])?.f_transpose(0, 1);
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let near = query.f_matmul(&key.f_transpose(1, 2)?)?.f_div_scalar((size as f64).sqrt())?;
        let mixed = near.f_softmax(-1, Kind::Float)?.f_matmul(&value)?;
        let mixed = mixed.f_transpose(0, 1)?.f_reshape([length, WIDTH])?;
        let attended = self.attended_norm.normalise(&self.attended.apply(&mixed)?.f_add(input)?)?;
        let inner = self.inner.apply(&attended)?.f_gelu("none")?;
        self.outer_norm.normalise(&self.outer.apply(&inner)?.f_add(&attended)?)
    }
}

/// A loaded encoder.
pub(super) struct BertEncoder {
    tokenizer: Tokenizer,
    words: Tensor,
    positions: Tensor,
    /// What is added to each token: all are of the first kind.
    token_kind: Tensor,
    norm: WeightPair,
    layers: Vec<EncoderLayer>,
}

/// The tensors of a file, each taken once.
struct NamedTensors(HashMap<String, Tensor>);

impl NamedTensors {
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, EncoderError> {
        let load = |message: String| EncoderError::Load(format!("{WEIGHTS_FILE}: {name}: {message}"));
        let tensor = self.0.remove(name).ok_or_else(|| load("is missing".to_owned()))?;
        let fits = tensor.dim() == shape.len()
            && tensor.size().iter().zip(shape).all(|(found, wanted)| *wanted == 0 || found == wanted);
        if !fits {
            return Err(load(format!("has the shape {:?}, not {shape:?}", tensor.size())));
        }
        tensor.f_to_kind(Kind::Float).map_err(|error| load(error.to_string()))
    }

    fn linear(&mut self, name: &str, outputs: i64, inputs: i64) -> Result<WeightPair, EncoderError> {
        let weight = self.take(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(WeightPair { weight, bias: self.take(&format!("{name}.bias"), &[outputs])? })
    }

    fn norm(&mut self, name: &str) -> Result<WeightPair, EncoderError> {
        let weight = self.take(&format!("{name}.weight"), &[WIDTH])?;
        Ok(WeightPair { weight, bias: self.take(&format!("{name}.bias"), &[WIDTH])? })
    }

    fn layer(&mut self, index: usize) -> Result<EncoderLayer, EncoderError> {
        let at = |part: &str| format!("encoder.layer.{index}.{part}");
        let inside = 4 * WIDTH;
        Ok(EncoderLayer {
            query: self.linear(&at("attention.self.query"), WIDTH, WIDTH)?,
            key: self.linear(&at("attention.self.key"), WIDTH, WIDTH)?,
            value: self.linear(&at("attention.self.value"), WIDTH, WIDTH)?,
            attended: self.linear(&at("attention.output.dense"), WIDTH, WIDTH)?,
            attended_norm: self.norm(&at("attention.output.LayerNorm"))?,
            inner: self.linear(&at("intermediate.dense"), inside, WIDTH)?,
            outer: self.linear(&at("output.dense"), WIDTH, inside)?,
            outer_norm: self.norm(&at("output.LayerNorm"))?,
        })
    }
}

impl BertEncoder {
    /// Read the files of a directory.
    pub(super) fn load(directory: &Path) -> Result<Self, EncoderError> {
        let load = |error: &dyn std::fmt::Display| EncoderError::Load(error.to_string());
        let mut tokenizer = Tokenizer::from_file(directory.join(TOKENIZER_FILE)).map_err(|error| load(&error))?;
        // Cut here, so that a text has no padding, which the pass would have to mask.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| load(&error))?;
        let found = Tensor::read_safetensors(directory.join(WEIGHTS_FILE)).map_err(|error| load(&error))?;
        let mut tensors = NamedTensors(found.into_iter().collect());
        let words = tensors.take("embeddings.word_embeddings.weight", &[0, WIDTH])?;
        let positions = tensors.take("embeddings.position_embeddings.weight", &[0, WIDTH])?;
        let kinds = tensors.take("embeddings.token_type_embeddings.weight", &[0, WIDTH])?;
        let token_kind = kinds.f_select(0, 0).map_err(|error| load(&error))?;
        let norm = tensors.norm("embeddings.LayerNorm")?;
        let layers = (0..LAYERS).map(|index| tensors.layer(index)).collect::<Result<_, _>>()?;
        if tokenizer.get_vocab_size(true) as i64 > words.size()[0] || (positions.size()[0] as usize) < MAX_TOKENS {
            return Err(EncoderError::Load("the tokenizer has more words than the weights".to_owned()));
        }
        Ok(Self { tokenizer, words, positions, token_kind, norm, layers })
    }

    /// The vector of a text; all zeros for one without a token.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<f32>, EncoderError> {
        let encoded = self.tokenizer.encode(text, true).map_err(|error| EncoderError::Pass(error.to_string()))?;
        let mut ids: Vec<i64> = encoded.get_ids().iter().map(|id| i64::from(*id)).collect();
        // Only the two marks: nothing is said.
        if ids.len() <= 2 {
            return Ok(vec![0.0; WIDTH as usize]);
        }
        if ids.len() > MAX_TOKENS {
            // The last token is the mark at the end, which stays there.
            let last = ids.last().copied();
            ids.truncate(MAX_TOKENS - 1);
            ids.extend(last);
        }
        self.pass(&ids).map_err(|error| EncoderError::Pass(error.to_string()))
    }

    fn pass(&self, ids: &[i64]) -> Result<Vec<f32>, TchError> {
        let _guard = no_grad_guard();
        let words = self.words.f_index_select(0, &Tensor::f_from_slice(ids)?)?;
        let places = self.positions.f_narrow(0, 0, ids.len() as i64)?;
        let mut state = self.norm.normalise(&words.f_add(&places)?.f_add(&self.token_kind)?)?;
        for layer in &self.layers {
            state = layer.apply(&state)?;
        }
        let mean = state.f_mean_dim(&[0i64][..], false, Kind::Float)?;
        let mut numbers = vec![0_f32; WIDTH as usize];
        mean.f_contiguous()?.f_copy_data(&mut numbers, WIDTH as usize)?;
        let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt().max(1e-12);
        numbers.iter_mut().for_each(|number| *number = (f64::from(*number) / length) as f32);
        Ok(numbers)
    }
}
