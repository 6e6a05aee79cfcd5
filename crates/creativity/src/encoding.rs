//! Vectors of texts by the sentence encoder.

use am_rl::text_encoder::TextEncoder;

use crate::{
    error::{CreativityError, Result},
    judge::{EmbeddingKind, TextEmbedding},
};

/// The sentence encoder as an embedding.
pub(crate) struct EncodedTexts(pub(crate) TextEncoder);

impl TextEmbedding for EncodedTexts {
    fn kind(&self) -> EmbeddingKind {
        EmbeddingKind::Minilm
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let encoded = self.0.encode(texts);
        encoded.map_err(|error| {
            tracing::warn!(%error, "texts could not be encoded");
            CreativityError::Unavailable(error.to_string())
        })
    }
}
