//! What judges texts: the interface between the algorithms that make texts and the measures.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Result;

/// The representation of texts as vectors that a measure used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingKind {
    /// The sentence encoder all-MiniLM-L6-v2: 384 numbers, mean of the tokens' vectors, length 1.
    Minilm,
    /// Signed feature hashing of words and of their letter groups: 512 numbers, length 1.
    HashedNgrams,
}

/// Vectors of texts. It computes on the calling thread or waits for another, so it is not called in async code.
pub trait TextEmbedding: Send + Sync {
    /// Which representation it is.
    fn kind(&self) -> EmbeddingKind;

    /// One vector of length 1 for each text, all zeros for a text without a word.
    ///
    /// # Errors
    /// The encoder failed.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;
}

/// Vectors of the texts that originality is measured against.
#[derive(Clone, Debug, Default)]
pub struct ReferenceSet {
    /// One vector of length 1 for each text.
    pub vectors: Vec<Vec<f32>>,
}

/// Measured score of one text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreationScore {
    /// One minus the greatest cosine to a reference, from 0 to 1; null without references.
    #[schema(required = true)]
    pub originality: Option<f64>,
    /// Mean cosine of neighbouring sentences, from 0 to 1; null for a text of one sentence.
    #[schema(required = true)]
    pub coherence: Option<f64>,
    /// Share of distinct content words in the length at which elaboration counts as full, from 0 to 1.
    pub elaboration: f64,
    /// HD-D, from 0 to 1; null below 42 words.
    #[schema(required = true)]
    pub lexical_diversity: Option<f64>,
    /// Weighted mean of those that are known (originality 0.4, coherence 0.3, elaboration 0.15, diversity 0.15),
    /// from 0 to 1.
    pub total: f64,
}

/// What judges texts by measures that can be computed. It is not called in async code.
pub trait Judge: Send + Sync {
    /// The representation that it uses.
    fn embedding(&self) -> EmbeddingKind;

    /// One vector of length 1 for each text, all zeros for a text without a word.
    ///
    /// # Errors
    /// The encoder failed.
    fn vectors(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;

    /// The score of each text against the references.
    ///
    /// # Errors
    /// The encoder failed.
    fn scores(&self, texts: &[&str], references: &ReferenceSet) -> Result<Vec<CreationScore>>;
}

/// The cosine of two vectors of length 1: their scalar product. 0 where one is all zeros.
pub fn cosine(left: &[f32], right: &[f32]) -> f64 {
    f64::from(left.iter().zip(right).map(|(left, right)| left * right).sum::<f32>())
}
