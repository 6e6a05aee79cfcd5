//! What is asked of ideation and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{judge::EmbeddingKind, problem_terms::ProblemTerms};

/// What ideas are wanted for.
#[derive(Clone, Debug)]
pub struct IdeationOrder {
    /// The problem, in words.
    pub problem_statement: String,
    /// The field that it belongs to.
    pub domain: String,
    /// Name of the technique.
    pub technique: String,
    /// Number of ideas wanted, from 1 to 20.
    pub num_ideas: u32,
    /// Constraints: names with a text, a list of texts, a number or a truth value.
    pub constraints: Map<String, Value>,
    /// Seed of all choices: the same order with the same seed has the same answer.
    pub seed: u64,
}

/// Where an idea's words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdeaSource {
    /// A prompt of the technique, instantiated on the problem's terms.
    Template,
    /// A language model, asked with the technique's prompts.
    LanguageModel,
}

/// How an idea came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdeaLineage {
    /// Name of the technique.
    pub technique: String,
    /// The principle of the technique; null for a text of a language model, which may mix several.
    #[schema(required = true)]
    pub principle: Option<String>,
    /// Why this principle: the cell of the contradiction matrix, the words an organism was chosen by, or the place in the technique's list.
    pub basis: String,
    /// The terms of the problem that the idea was made of.
    pub source_terms: Vec<String>,
    /// Where the words come from.
    pub source: IdeaSource,
}

/// An idea with its figures, which are computed from its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GeneratedIdea {
    /// The idea in words.
    pub text: String,
    /// One minus the greatest cosine to the problem and to the other distinct ideas of this call, from 0 to 1.
    pub novelty: f64,
    /// Cosine to the problem, from 0 to 1.
    pub relevance: f64,
    /// Share of the constraints that can be judged by words and that the idea satisfies, from 0 to 1; null where there is none.
    #[schema(required = true)]
    pub feasibility: Option<f64>,
    /// Weighted mean of those that are known: novelty 0.4, feasibility 0.4, relevance 0.2; from 0 to 1.
    pub score: f64,
    /// Names of the constraints that it satisfies.
    pub satisfied_constraints: Vec<String>,
    /// Names of the constraints that it breaks.
    pub violated_constraints: Vec<String>,
    /// How it came about.
    pub lineage: IdeaLineage,
}

/// Ideas for a problem, best first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IdeationOutcome {
    /// Name of the technique.
    pub technique: String,
    /// What the problem is about, by its words.
    pub terms: ProblemTerms,
    /// The ideas, best first. Fewer than wanted if no more distinct ones were found.
    pub ideas: Vec<GeneratedIdea>,
    /// Number of ideas that were made before duplicates were left out.
    pub candidates: u32,
    /// Number of candidates that were left out, because another one says the same.
    pub duplicates: u32,
    /// Constraints that words can't decide on, such as numbers without a resource that a principle is known to demand.
    pub unjudged_constraints: Vec<String>,
    /// The representation of texts that cosines were computed with.
    pub embedding: EmbeddingKind,
    /// The seed of all choices.
    pub seed: u64,
    /// Why a figure is null or less was found than asked for, by its name.
    pub reasons: BTreeMap<String, String>,
    /// What the figures do not say.
    pub limits: Vec<String>,
}
