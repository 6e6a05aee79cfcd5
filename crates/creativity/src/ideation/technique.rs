//! The techniques by which ideas are made.

use crate::error::{CreativityError, Result};

/// A technique by which ideas are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdeationTechnique {
    /// Substitute, combine, adapt, modify, put to another use, eliminate, reverse (B. Eberle, 1971, after A. Osborn).
    Scamper,
    /// Inventive principles by the matrix of contradictions (G. Altshuller).
    Triz,
    /// Six points of view (E. de Bono, 1985).
    SixHats,
    /// What must be so, apart from what is only habit.
    FirstPrinciples,
    /// Strategies of organisms.
    Biomimicry,
    /// Combinations of values of parameters (F. Zwicky, 1969).
    Morphological,
}

/// Each technique with its names, its own first.
const NAMES: [(IdeationTechnique, &[&str]); 6] = [
    (IdeationTechnique::Scamper, &["scamper"]),
    (IdeationTechnique::Triz, &["triz"]),
    (IdeationTechnique::SixHats, &["six_hats", "six_thinking_hats"]),
    (IdeationTechnique::FirstPrinciples, &["first_principles"]),
    (IdeationTechnique::Biomimicry, &["biomimicry"]),
    (IdeationTechnique::Morphological, &["morphological", "morphological_analysis", "morphological_box"]),
];

impl IdeationTechnique {
    pub(super) fn parse(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, names)| names.contains(&name));
        found.map(|(technique, _)| *technique).ok_or_else(|| {
            let known: Vec<&str> = NAMES.iter().filter_map(|(_, names)| names.first().copied()).collect();
            CreativityError::field("technique", format!("must be one of {}", known.join(", ")))
        })
    }

    pub(super) fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(technique, _)| *technique == self);
        found.and_then(|(_, names)| names.first()).copied().unwrap_or_default()
    }
}
