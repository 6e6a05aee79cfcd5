//! What is asked of a synthesis and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{judge::EmbeddingKind, problem_terms::ProblemTerms};

/// What is to be brought together.
#[derive(Clone, Debug)]
pub struct SynthesisOrder {
    /// The domain in which the goal lies.
    pub primary_domain: String,
    /// The domains whose structure is carried over, from 1 to 10.
    pub secondary_domains: Vec<String>,
    /// What is to be reached, in words.
    pub synthesis_goal: String,
    /// Seed of all choices: the same order with the same seed has the same answer.
    pub seed: u64,
}

/// Where the relations of a domain come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DomainBasis {
    /// The table of domains that the service has.
    Table,
    /// The words of the order alone, because the table does not have the domain.
    Words,
}

/// A relation of one domain beside the same relation of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MatchedRelation {
    /// What the two relations share, such as `regulates`.
    pub relation: String,
    /// First and second concept in the primary domain.
    pub primary: [String; 2],
    /// First and second concept in the secondary domain.
    pub secondary: [String; 2],
}

/// A concept of the primary domain with the one that plays its part in the secondary domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConceptPair {
    /// In the primary domain.
    pub primary: String,
    /// In the secondary domain.
    pub secondary: String,
}

/// The structure that two domains share: relations that match, with each concept standing for one other only
/// (D. Gentner, "Structure-mapping", Cognitive Science 7, 1983).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DomainMapping {
    /// The secondary domain, as it was sent.
    pub domain: String,
    /// Where its relations come from.
    pub basis: DomainBasis,
    /// The relations that match.
    pub shared_structure: Vec<MatchedRelation>,
    /// The concepts that stand for each other.
    pub correspondences: Vec<ConceptPair>,
    /// Matched relations as a share of the relations of the smaller domain, from 0 to 1; null if one of the two has none.
    #[schema(required = true)]
    pub structural_similarity: Option<f64>,
}

/// A proposal for the goal: a relation of a secondary domain carried over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SynthesisProposal {
    /// The proposal in words.
    pub text: String,
    /// The secondary domain that it comes from.
    pub from_domain: String,
    /// The relation that is carried over, such as `regulates`.
    pub relation: String,
    /// The concepts of that relation in the secondary domain.
    pub source_concepts: [String; 2],
    /// What stands in their place in the primary domain.
    pub target_concepts: [String; 2],
    /// The terms of the goal that it takes up.
    pub goal_terms: Vec<String>,
    /// Share of its concepts that the shared structure gives, from 0 to 1; those that it does not give are terms of the goal.
    pub structural_support: f64,
    /// One minus the greatest cosine to the goal and to the other proposals, from 0 to 1.
    pub novelty: f64,
    /// Cosine to the goal, from 0 to 1.
    pub relevance: f64,
    /// Mean of structural support, novelty and relevance, from 0 to 1.
    pub score: f64,
}

/// A synthesis across domains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SynthesisOutcome {
    /// Where the relations of the primary domain come from.
    pub primary_basis: DomainBasis,
    /// What the goal is about, by its words.
    pub goal_terms: ProblemTerms,
    /// The shared structure with each secondary domain, in the order that they were sent in.
    pub mappings: Vec<DomainMapping>,
    /// Proposals, best first, at most 10.
    pub proposals: Vec<SynthesisProposal>,
    /// Mean score of the proposals, from 0 to 1; null without proposals.
    #[schema(required = true)]
    pub synthesis_score: Option<f64>,
    /// The representation of texts that cosines were computed with.
    pub embedding: EmbeddingKind,
    /// The seed of all choices.
    pub seed: u64,
    /// Why a figure is null or a domain was read from words alone, by its name.
    pub reasons: BTreeMap<String, String>,
    /// What the figures do not say.
    pub limits: Vec<String>,
}
