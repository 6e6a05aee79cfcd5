//! Ideas for a problem: a technique's prompts, instantiated on the terms of the problem, judged by words and vectors.
//!
//! The same order with the same seed has the same answer. What a language model wrote is judged in the same way.

mod constraints;
mod contradiction;
mod generation;
mod model;
mod prompts;
mod ranking;
mod technique;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::model::{GeneratedIdea, IdeaLineage, IdeaSource, IdeationOrder, IdeationOutcome};
use self::{constraints::IdeaConstraints, ranking::UnjudgedIdea, technique::IdeationTechnique};
use crate::{
    error::{CreativityError, Result},
    judge::Judge,
    problem_terms::ProblemTerms,
};

/// Ideas at most in one answer.
const MAX_IDEAS: u32 = 20;
/// Texts of a language model that are judged, and letters of each.
const MAX_TEXTS: usize = 100;
const MAX_TEXT_LETTERS: usize = 2_000;

/// An order that was checked.
struct CheckedOrder {
    technique: IdeationTechnique,
    terms: ProblemTerms,
    constraints: IdeaConstraints,
}

impl CheckedOrder {
    fn of(order: &IdeationOrder) -> Result<Self> {
        let technique = IdeationTechnique::parse(&order.technique)?;
        if !(1..=MAX_IDEAS).contains(&order.num_ideas) {
            return Err(CreativityError::field("num_ideas", format!("must be from 1 to {MAX_IDEAS}")));
        }
        let terms = ProblemTerms::of(&order.problem_statement);
        if terms.is_empty() {
            return Err(CreativityError::field("problem_statement", "has no word that names a thing or an action"));
        }
        Ok(Self { technique, terms, constraints: IdeaConstraints::of(&order.constraints) })
    }

    fn outcome(self, order: &IdeationOrder, ideas: Vec<UnjudgedIdea>, judge: &dyn Judge) -> Result<IdeationOutcome> {
        let candidates = u32::try_from(ideas.len()).unwrap_or(u32::MAX);
        let (mut ideas, duplicates) = ranking::ranked(ideas, &order.problem_statement, &self.constraints, judge)?;
        ideas.truncate(order.num_ideas as usize);
        let mut reasons = BTreeMap::new();
        if ideas.iter().any(|idea| idea.feasibility.is_none()) {
            let reason = "no constraint was sent that can be judged by words";
            reasons.insert("feasibility".to_owned(), reason.to_owned());
        }
        if ideas.len() < order.num_ideas as usize {
            let reason = format!("of {candidates} candidates only {} were distinct", ideas.len());
            reasons.insert("ideas".to_owned(), reason);
        }
        Ok(IdeationOutcome {
            technique: self.technique.name().to_owned(),
            terms: self.terms,
            ideas,
            candidates,
            duplicates,
            unjudged_constraints: self.constraints.unjudged,
            embedding: judge.embedding(),
            seed: order.seed,
            reasons,
            limits: LIMITS.iter().map(|limit| (*limit).to_owned()).collect(),
        })
    }
}

/// What the figures do not say.
const LIMITS: [&str; 3] = [
    "novelty is distance from the problem's words and from the other ideas of this call; it does not know what exists elsewhere",
    "feasibility judges constraints by words and by the resources that a principle demands; it is no estimate of effort",
    "terms are found by English stop words, a list of verbs and endings",
];

/// Make ideas for a problem by a technique.
///
/// # Errors
/// An unknown technique, a number of ideas outside 1 to 20, a problem without words, or a failed encoder.
pub fn generate_ideas(order: &IdeationOrder, judge: &dyn Judge) -> Result<IdeationOutcome> {
    let checked = CheckedOrder::of(order)?;
    let (candidates, repeated) = generation::candidates(order, checked.technique, &checked.terms, &checked.constraints);
    let unjudged = |candidate: generation::IdeaCandidate| UnjudgedIdea {
        text: candidate.text,
        demands: Some(candidate.demands),
        lineage: candidate.lineage,
    };
    let mut outcome = checked.outcome(order, candidates.into_iter().map(unjudged).collect(), judge)?;
    outcome.candidates += repeated;
    outcome.duplicates += repeated;
    Ok(outcome)
}

/// Judge ideas that a language model wrote, a text each, as those of the templates are judged.
///
/// # Errors
/// As of [`generate_ideas`]; `Unavailable` if no text has a word.
pub fn judge_ideas(order: &IdeationOrder, texts: Vec<String>, judge: &dyn Judge) -> Result<IdeationOutcome> {
    let checked = CheckedOrder::of(order)?;
    let has_word = |text: &&String| text.chars().any(char::is_alphanumeric);
    let unjudged = |text: &String| UnjudgedIdea {
        text: text.trim().chars().take(MAX_TEXT_LETTERS).collect(),
        demands: None,
        lineage: IdeaLineage {
            technique: checked.technique.name().to_owned(),
            principle: None,
            basis: "written by a language model that was given the technique's prompts".to_owned(),
            source_terms: source_terms(text, &checked.terms),
            source: IdeaSource::LanguageModel,
        },
    };
    let ideas: Vec<UnjudgedIdea> = texts.iter().filter(has_word).take(MAX_TEXTS).map(unjudged).collect();
    if ideas.is_empty() {
        return Err(CreativityError::Unavailable("The language model's answer has no idea".to_owned()));
    }
    checked.outcome(order, ideas, judge)
}

/// The terms of the problem that a text takes up.
fn source_terms(text: &str, terms: &ProblemTerms) -> Vec<String> {
    let text = text.to_lowercase();
    terms.things.iter().chain(&terms.actions).filter(|term| text.contains(term.as_str())).cloned().collect()
}

/// The instructions for a language model: the problem, its constraints, and the technique's prompts with the problem's terms.
///
/// # Errors
/// As of [`generate_ideas`].
pub fn technique_prompt(order: &IdeationOrder) -> Result<String> {
    let checked = CheckedOrder::of(order)?;
    let prompts = generation::instructions(order, checked.technique, &checked.terms, &checked.constraints);
    let constraints: Vec<String> = order.constraints.iter().map(|(name, value)| format!("- {name}: {value}")).collect();
    let constraints = if constraints.is_empty() { "- none".to_owned() } else { constraints.join("\n") };
    Ok(format!(
        "Problem: {}\nDomain: {}\nConstraints:\n{constraints}\n\nTechnique: {}. Let these prompts guide you:\n- {}\n\n\
         Write {} different ideas that solve the problem within the constraints. Write one idea per line, without numbers, \
         headings or remarks.",
        order.problem_statement.trim(),
        order.domain.trim(),
        checked.technique.name(),
        prompts.join("\n- "),
        order.num_ideas
    ))
}
