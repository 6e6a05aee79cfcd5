//! Candidates judged: duplicates left out, figures computed, best first.

use super::{
    constraints::{ConstraintResult, IdeaConstraints},
    model::{GeneratedIdea, IdeaLineage},
};
use crate::{
    error::Result,
    judge::{Judge, cosine},
};

/// Weights of novelty, feasibility and relevance in the score.
const WEIGHTS: [f64; 3] = [0.4, 0.4, 0.2];

/// A text to be judged. `demands` is the resource that its principle demands, empty if none; `None`: it is not known.
pub(super) struct UnjudgedIdea {
    pub(super) text: String,
    pub(super) demands: Option<&'static str>,
    pub(super) lineage: IdeaLineage,
}

/// An idea whose novelty is not known yet.
struct HalfJudged {
    idea: UnjudgedIdea,
    vector: Vec<f32>,
    relevance: f64,
    constraints: ConstraintResult,
}

/// The distinct ideas, best first, and how many were left out because another one says the same.
pub(super) fn ranked(
    ideas: Vec<UnjudgedIdea>,
    problem: &str,
    constraints: &IdeaConstraints,
    judge: &dyn Judge,
) -> Result<(Vec<GeneratedIdea>, u32)> {
    let mut texts: Vec<&str> = vec![problem];
    texts.extend(ideas.iter().map(|idea| idea.text.as_str()));
    let mut vectors = judge.vectors(&texts)?.into_iter();
    let problem = vectors.next().unwrap_or_default();
    let half = |(idea, vector): (UnjudgedIdea, Vec<f32>)| HalfJudged {
        relevance: cosine(&vector, &problem).clamp(0.0, 1.0),
        constraints: constraints.check(&idea.text, idea.demands),
        idea,
        vector,
    };
    let mut half: Vec<HalfJudged> = ideas.into_iter().zip(vectors).map(half).collect();
    // Of ideas that say the same, the one stays that satisfies more, then the nearer one, then the earlier one.
    half.sort_by(|left, right| {
        let feasibility = |idea: &HalfJudged| idea.constraints.feasibility().unwrap_or(0.0);
        feasibility(right).total_cmp(&feasibility(left)).then(right.relevance.total_cmp(&left.relevance))
    });
    let before = half.len();
    let same = judge.embedding().same_idea();
    let mut distinct: Vec<HalfJudged> = Vec::new();
    for idea in half {
        if distinct.iter().all(|other| cosine(&other.vector, &idea.vector) < same) {
            distinct.push(idea);
        }
    }
    let duplicates = before - distinct.len();
    let nearest = |at: usize| {
        let others = distinct.iter().enumerate().filter(|(other, _)| *other != at);
        let near = others.map(|(_, other)| cosine(&other.vector, &distinct[at].vector));
        near.chain([distinct[at].relevance]).fold(0.0, f64::max)
    };
    let novelties: Vec<f64> = (0..distinct.len()).map(|at| (1.0 - nearest(at)).clamp(0.0, 1.0)).collect();
    let mut judged: Vec<GeneratedIdea> =
        distinct.into_iter().zip(novelties).map(|(idea, novelty)| whole(idea, novelty)).collect();
    judged.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.text.cmp(&right.text)));
    Ok((judged, u32::try_from(duplicates).unwrap_or(u32::MAX)))
}

fn whole(idea: HalfJudged, novelty: f64) -> GeneratedIdea {
    let HalfJudged { idea, relevance, constraints, .. } = idea;
    let feasibility = constraints.feasibility();
    let parts = [Some(novelty), feasibility, Some(relevance)];
    let known = parts.iter().zip(WEIGHTS).filter_map(|(part, weight)| part.map(|part| (part * weight, weight)));
    let (sum, weights) = known.fold((0.0, 0.0), |(sum, all), (part, weight)| (sum + part, all + weight));
    GeneratedIdea {
        text: idea.text,
        novelty,
        relevance,
        feasibility,
        score: sum / weights,
        satisfied_constraints: constraints.satisfied,
        violated_constraints: constraints.violated,
        lineage: idea.lineage,
    }
}
