//! Measures of texts that can be computed, with what they do not say.

mod clusters;
mod creation;
mod diversity;
mod hashed_ngrams;
mod text_judge;
/// Words and sentences of a text.
pub mod words;

pub use clusters::{cluster_count, clusters};
pub use creation::{CreationMeasures, CreationText, measure_creation};
pub use diversity::{hdd, mtld};
pub use hashed_ngrams::HashedNgrams;
pub use text_judge::TextJudge;
