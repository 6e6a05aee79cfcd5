//! Enhancement: algorithms that make new texts of an agent's own and keep what raises the measured score.

mod algorithm;
mod model;
mod recombination;
mod run;
#[cfg(test)]
mod tests;
mod text_parts;

pub use algorithm::EnhancementAlgorithm;
pub use model::{CreationLineage, EnhancedCreation, EnhancementOutcome};
pub use run::EnhancementRun;
