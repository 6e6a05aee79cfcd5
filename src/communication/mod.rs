//! Agents that talk: how what they write is sealed, who may write to whom, and what it costs.

pub mod price;
pub mod relations;
pub mod sealing;
