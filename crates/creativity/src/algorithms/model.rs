//! What enhancement answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::algorithm::EnhancementAlgorithm;
use crate::judge::{CreationScore, EmbeddingKind};

/// What a new text was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreationLineage {
    /// The cycle in which it was made, from 1.
    pub cycle: u32,
    /// What was done to the text that it was made of.
    pub operation: String,
    /// Indexes, from 0 in the order of the corpus, of the agent's texts that it took from.
    pub source_texts: Vec<u32>,
    /// Terms that joined its parts or entered, at most 5.
    pub terms: Vec<String>,
    /// The text that it was made of directly.
    pub parent: String,
}

/// A new text with its measured score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnhancedCreation {
    /// The text that was made.
    pub text: String,
    /// Its score against the held-out texts, which had no part in its making or choice.
    pub score: CreationScore,
    /// What it was made of.
    pub lineage: CreationLineage,
}

/// Result of an enhancement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnhancementOutcome {
    /// The algorithm that ran.
    pub algorithm: EnhancementAlgorithm,
    /// Number of cycles that it ran.
    pub cycles: u32,
    /// Number of texts that were made and scored.
    pub candidates: u64,
    /// Number of them that were kept when they were made, because they raised a score.
    pub accepted: u64,
    /// Mean score of the agent's own best texts, from 0 to 1, against the held-out texts.
    pub score_before: f64,
    /// Mean score of as many texts after the cycles, new ones among them, against the same held-out texts.
    pub score_after: f64,
    /// What the cycles gained: the difference of the two scores; 0 if they gained nothing.
    pub gain: f64,
    /// The new texts that are among the best, best first, at most 10. Empty if nothing better was made.
    pub creations: Vec<EnhancedCreation>,
    /// The best score after each cycle, as the choice sees it (against the texts that are worked with and that a text was not
    /// made of). It never falls.
    pub best_scores: Vec<f64>,
    /// Number of the agent's texts that were worked with.
    pub working_texts: u32,
    /// Number of the agent's texts that were held out.
    pub held_out_texts: u32,
    /// The representation of texts that was used.
    pub embedding: EmbeddingKind,
    /// The seed of all choices.
    pub seed: u64,
    /// Why the gain is 0 or there are no creations, by the field's name.
    pub reasons: BTreeMap<String, String>,
}
