//! Synthesis across domains: what relations two domains share, and what of one can be carried over to the other.

mod domain;
mod mapping;
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::model::{
    ConceptPair, DomainBasis, DomainMapping, MatchedRelation, SynthesisOrder, SynthesisOutcome, SynthesisProposal,
};
use self::{
    domain::{DomainRelation, DomainSchema, domain_schema, goal_concepts},
    mapping::{StructureMapping, shared_structure},
};
use crate::{
    error::{CreativityError, Result},
    judge::{Judge, cosine},
    problem_terms::ProblemTerms,
    seeded_choice::SeededChoice,
};

/// Secondary domains at most.
const MAX_DOMAINS: usize = 10;
/// Proposals that are answered.
const MAX_PROPOSALS: usize = 10;
/// Letters of a name inside a proposal.
const MAX_NAME_LETTERS: usize = 60;
/// What the figures do not say.
const LIMITS: [&str; 3] = [
    "domains of the table have 10 to 13 relations each; what they leave out can't be carried over",
    "structural similarity compares relations by name; it does not weigh how deep they are",
    "novelty is distance from the goal's words and from the other proposals; it does not know what exists elsewhere",
];

/// A proposal before it is judged.
struct DraftProposal {
    text: String,
    from_domain: String,
    relation: DomainRelation,
    targets: [String; 2],
    goal_terms: Vec<String>,
    support: f64,
}

/// Carry the structure of other domains over to a goal.
///
/// # Errors
/// A goal without words, no secondary domain or more than 10, or a failed encoder.
pub fn synthesise(order: &SynthesisOrder, judge: &dyn Judge) -> Result<SynthesisOutcome> {
    if !(1..=MAX_DOMAINS).contains(&order.secondary_domains.len()) {
        return Err(CreativityError::field("secondary_domains", format!("must have from 1 to {MAX_DOMAINS} domains")));
    }
    let goal_terms = ProblemTerms::of(&order.synthesis_goal);
    if goal_terms.is_empty() {
        return Err(CreativityError::field("synthesis_goal", "has no word that names a thing or an action"));
    }
    let primary = domain_schema(&order.primary_domain, &order.synthesis_goal);
    let mut choice = SeededChoice::new(order.seed);
    let mut reasons = BTreeMap::new();
    if primary.basis == DomainBasis::Words {
        reasons.insert("primary_domain".to_owned(), words_reason(&order.primary_domain, &primary));
    }
    let (mut mappings, mut drafts) = (Vec::new(), Vec::new());
    for (at, name) in order.secondary_domains.iter().enumerate() {
        let secondary = domain_schema(name, "");
        let place = format!("secondary_domains.{at}");
        if secondary.basis == DomainBasis::Words {
            reasons.insert(place, words_reason(name, &secondary));
        } else if primary.relations == secondary.relations {
            let reason = "the same domain as the primary one: there is nothing to carry over";
            reasons.insert(place, reason.to_owned());
        }
        let mapping = shared_structure(&primary, &secondary);
        let smaller = primary.relations.len().min(secondary.relations.len());
        let structural_similarity = (smaller > 0).then(|| mapping.matched.len() as f64 / smaller as f64);
        if structural_similarity.is_none() {
            let reason = "no relation is known of one of the two domains";
            reasons.insert(format!("mappings.{at}.structural_similarity"), reason.to_owned());
        }
        drafts.extend(carried_over(name, &primary, &secondary, &mapping, &goal_terms, &mut choice));
        mappings.push(DomainMapping {
            domain: name.clone(),
            basis: secondary.basis,
            shared_structure: mapping.matched,
            correspondences: mapping.pairs,
            structural_similarity,
        });
    }
    let proposals = judged(drafts, &order.synthesis_goal, judge)?;
    let scores = proposals.iter().map(|proposal| proposal.score);
    let synthesis_score = (!proposals.is_empty()).then(|| scores.sum::<f64>() / proposals.len() as f64);
    if synthesis_score.is_none() {
        let reason = "no relation could be carried over, so there is no proposal to score";
        reasons.insert("synthesis_score".to_owned(), reason.to_owned());
    }
    Ok(SynthesisOutcome {
        primary_basis: primary.basis,
        goal_terms,
        mappings,
        proposals,
        synthesis_score,
        embedding: judge.embedding(),
        seed: order.seed,
        reasons,
        limits: LIMITS.iter().map(|limit| (*limit).to_owned()).collect(),
    })
}

fn words_reason(name: &str, schema: &DomainSchema) -> String {
    let found = schema.relations.len();
    format!("no table of the domain `{}`: {found} relations were read from words alone", shortened(name))
}

fn shortened(text: &str) -> String {
    text.trim().chars().take(MAX_NAME_LETTERS).collect()
}

/// Relations of the secondary domain that the primary one does not have, with its concepts in place of the other's. A concept
/// without a counterpart gives its place to a term of the goal.
fn carried_over(
    name: &str,
    primary: &DomainSchema,
    secondary: &DomainSchema,
    mapping: &StructureMapping,
    goal: &ProblemTerms,
    choice: &mut SeededChoice,
) -> Vec<DraftProposal> {
    let concepts = goal_concepts(goal);
    let is_new = |relation: &&DomainRelation| {
        let matched = mapping.matched.iter().any(|matched| {
            matched.relation == relation.predicate
                && matched.secondary == [relation.first.as_str(), relation.second.as_str()]
        });
        !matched && !primary.relations.contains(relation)
    };
    let mut drafts = Vec::new();
    for relation in secondary.relations.iter().filter(is_new) {
        let mut supported = 0_u8;
        let mut goal_terms: Vec<String> = Vec::new();
        let mut target = |concept: &str, taken: Option<&str>| {
            if let Some(found) = mapping.primary_of(concept) {
                supported += 1;
                return found.to_owned();
            }
            let free: Vec<&String> = concepts.iter().filter(|term| Some(term.as_str()) != taken).collect();
            let term = choice.pick(&free).map_or_else(|| concept.to_owned(), |term| (*term).clone());
            if concepts.contains(&term) && !goal_terms.contains(&term) {
                goal_terms.push(term.clone());
            }
            term
        };
        let first = target(&relation.first, None);
        let second = if relation.second == relation.first {
            first.clone()
        } else {
            target(&relation.second, Some(first.as_str()))
        };
        let aim = choice.pick(&goal.actions).or_else(|| choice.pick(&concepts)).cloned().unwrap_or_default();
        let second_words = if first == second { "others of its kind" } else { second.as_str() };
        let text = format!(
            "Let {first} be what {predicate} {second_words}, as {} {predicate} {} in {}, to serve the goal: {aim}.",
            relation.first,
            relation.second,
            shortened(name),
            predicate = relation.predicate,
        );
        if !goal_terms.contains(&aim) {
            goal_terms.push(aim);
        }
        drafts.push(DraftProposal {
            text,
            from_domain: name.to_owned(),
            relation: relation.clone(),
            targets: [first, second],
            goal_terms,
            support: f64::from(supported) / 2.0,
        });
    }
    drafts
}

/// The proposals with their figures, best first.
fn judged(drafts: Vec<DraftProposal>, goal: &str, judge: &dyn Judge) -> Result<Vec<SynthesisProposal>> {
    let mut texts: Vec<&str> = vec![goal];
    texts.extend(drafts.iter().map(|draft| draft.text.as_str()));
    let vectors = judge.vectors(&texts)?;
    let novelty = |at: usize| {
        let others = vectors.iter().enumerate().filter(|(other, _)| *other != at);
        let nearest = others.map(|(_, other)| cosine(other, &vectors[at])).fold(0.0, f64::max);
        (1.0 - nearest).clamp(0.0, 1.0)
    };
    let whole = |(at, draft): (usize, DraftProposal)| {
        let (novelty, relevance) = (novelty(at + 1), cosine(&vectors[0], &vectors[at + 1]).clamp(0.0, 1.0));
        SynthesisProposal {
            text: draft.text,
            from_domain: draft.from_domain,
            relation: draft.relation.predicate,
            source_concepts: [draft.relation.first, draft.relation.second],
            target_concepts: draft.targets,
            goal_terms: draft.goal_terms,
            structural_support: draft.support,
            novelty,
            relevance,
            score: (draft.support + novelty + relevance) / 3.0,
        }
    };
    let mut proposals: Vec<SynthesisProposal> = drafts.into_iter().enumerate().map(whole).collect();
    proposals.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.text.cmp(&right.text)));
    proposals.truncate(MAX_PROPOSALS);
    Ok(proposals)
}
