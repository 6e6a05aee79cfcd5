//! The algorithms of enhancement by name.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{CreativityError, Result};

/// An algorithm that makes new texts of an agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnhancementAlgorithm {
    /// Many variants of a text by exchange, insertion, removal and extension (after J. P. Guilford, 1967).
    DivergentThinking,
    /// Two texts as input spaces, blended along the terms that they share (G. Fauconnier, M. Turner, 2002).
    ConceptualBlending,
    /// Combinations of openings, middles and endings of different texts (F. Zwicky, 1969).
    MorphologicalAnalysis,
    /// Escape, reversal and random entry (E. de Bono, 1970).
    LateralThinking,
    /// A sentence of one text beside the sentence of the most distant text that shares a term with it (A. Koestler, 1964).
    Bisociation,
}

const NAMES: [(EnhancementAlgorithm, &str); 5] = [
    (EnhancementAlgorithm::DivergentThinking, "divergent_thinking"),
    (EnhancementAlgorithm::ConceptualBlending, "conceptual_blending"),
    (EnhancementAlgorithm::MorphologicalAnalysis, "morphological_analysis"),
    (EnhancementAlgorithm::LateralThinking, "lateral_thinking"),
    (EnhancementAlgorithm::Bisociation, "bisociation"),
];

impl EnhancementAlgorithm {
    /// The algorithm of this name.
    ///
    /// # Errors
    /// An unknown name: a fault of the field `algorithm` that lists all.
    pub fn parse(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(algorithm, _)| *algorithm).ok_or_else(|| {
            let known: Vec<&str> = NAMES.iter().map(|(_, known)| *known).collect();
            CreativityError::field("algorithm", format!("must be one of {}", known.join(", ")))
        })
    }

    /// Return the name that requests and answers have.
    pub fn as_str(self) -> &'static str {
        let found = NAMES.iter().find(|(algorithm, _)| *algorithm == self);
        found.map(|(_, name)| *name).unwrap_or_default()
    }
}
