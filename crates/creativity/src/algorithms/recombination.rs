//! What each algorithm does in one step: a new text of the agent's texts.

use std::collections::BTreeSet;

use super::{
    algorithm::EnhancementAlgorithm,
    text_parts::{exchanged, joined, stems},
};
use crate::{judge::cosine, measures::words::content_words, seeded_choice::SeededChoice};

/// Terms that a lineage names.
const MAX_NAMED_TERMS: usize = 5;

/// A new text with what it was made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recombination {
    pub(super) text: String,
    /// What was done.
    pub(super) operation: &'static str,
    /// Indexes of the agent's texts that it took from.
    pub(super) sources: Vec<usize>,
    /// Terms that joined or entered.
    pub(super) terms: Vec<String>,
}

/// What a step works on.
pub(super) struct StepMaterial<'a> {
    /// The agent's texts as sentences; none is empty.
    pub(super) texts: &'a [Vec<String>],
    /// A vector for each of them.
    pub(super) vectors: &'a [Vec<f32>],
    /// The text that is to be raised, as sentences, and what it was made of.
    pub(super) parent: &'a [String],
    pub(super) parent_sources: &'a [usize],
    /// Sentences of a new text at most: those of the agent's longest text, so that length alone raises no score.
    pub(super) max_sentences: usize,
}

/// Sentences with what was done to them.
struct MadeParts {
    parts: Vec<String>,
    operation: &'static str,
    sources: Vec<usize>,
    terms: Vec<String>,
}

/// A new text; `None` if the texts drawn gave none.
pub(super) fn recombine(
    algorithm: EnhancementAlgorithm,
    material: &StepMaterial<'_>,
    choice: &mut SeededChoice,
) -> Option<Recombination> {
    let made = match algorithm {
        EnhancementAlgorithm::DivergentThinking => vary(material, choice),
        EnhancementAlgorithm::ConceptualBlending => blend(material, choice),
        EnhancementAlgorithm::MorphologicalAnalysis => combine(material, choice),
        EnhancementAlgorithm::LateralThinking => provoke(material, choice),
        EnhancementAlgorithm::Bisociation => bisociate(material, choice),
    }?;
    let MadeParts { parts, operation, mut sources, mut terms } = made;
    let mut seen = BTreeSet::new();
    let parts: Vec<String> =
        parts.into_iter().filter(|part| seen.insert(part.to_lowercase())).take(material.max_sentences).collect();
    if parts.is_empty() || parts == material.parent {
        return None;
    }
    sources.sort_unstable();
    sources.dedup();
    // What an earlier step took and this one gave up is no source any more.
    let made_of: Vec<BTreeSet<String>> = parts.iter().map(|part| stems(part)).collect();
    sources.retain(|source| material.texts[*source].iter().any(|sentence| stands_in(sentence, &made_of)));
    terms.truncate(MAX_NAMED_TERMS);
    Some(Recombination { text: joined(&parts), operation, sources, terms })
}

/// Whether a sentence stands in a text, as it is or with some words exchanged: half of its stems stand in one of the text's parts.
fn stands_in(sentence: &str, parts: &[BTreeSet<String>]) -> bool {
    let wanted = stems(sentence);
    parts.iter().any(|part| wanted.intersection(part).count() * 2 >= wanted.len().max(1))
}

/// A sentence of one of the texts.
fn any_sentence<'a>(material: &StepMaterial<'a>, choice: &mut SeededChoice) -> Option<(usize, &'a String)> {
    let at = choice.below(material.texts.len());
    Some((at, choice.pick(material.texts.get(at)?)?))
}

/// Divergent thinking: exchange, insert, remove or append a sentence of the parent.
fn vary(material: &StepMaterial<'_>, choice: &mut SeededChoice) -> Option<MadeParts> {
    let mut parts = material.parent.to_vec();
    let mut sources = material.parent_sources.to_vec();
    let (from, sentence) = any_sentence(material, choice)?;
    let at = choice.below(parts.len());
    let operation = match choice.below(4) {
        0 => {
            parts[at] = sentence.clone();
            "sentence exchanged"
        }
        1 => {
            parts.insert(at, sentence.clone());
            "sentence inserted"
        }
        2 if parts.len() > 1 => {
            parts.remove(at);
            return Some(MadeParts { parts, operation: "sentence removed", sources, terms: Vec::new() });
        }
        _ => {
            parts.push(sentence.clone());
            "sentence appended"
        }
    };
    sources.push(from);
    Some(MadeParts { parts, operation, sources, terms: Vec::new() })
}

/// Conceptual blending: the parent and another text; their generic space is the stems that both have. Sentences of either
/// that touch it alternate; without any, a term of the other text enters the parent's first sentence (projection).
fn blend(material: &StepMaterial<'_>, choice: &mut SeededChoice) -> Option<MadeParts> {
    let other_at = choice.below(material.texts.len());
    let other = material.texts.get(other_at)?;
    let generic: BTreeSet<String> =
        stems(&material.parent.join(" ")).intersection(&stems(&other.join(" "))).cloned().collect();
    let mut sources = material.parent_sources.to_vec();
    sources.push(other_at);
    if generic.is_empty() {
        let (parts, term) = with_random_entry(material.parent, other, choice)?;
        return Some(MadeParts { parts, operation: "term projected", sources, terms: vec![term] });
    }
    let touches = |sentence: &&String| !stems(sentence).is_disjoint(&generic);
    let mut left = material.parent.iter();
    let mut right = other.iter().filter(touches);
    let mut parts = Vec::new();
    let keeps = choice.below(2) == 0;
    loop {
        let (one, two) = (left.next(), right.next());
        if one.is_none() && two.is_none() {
            break;
        }
        let one = one.filter(|sentence| keeps || touches(sentence));
        parts.extend(one.into_iter().chain(two).cloned());
    }
    Some(MadeParts { parts, operation: "blended along shared terms", sources, terms: generic.into_iter().collect() })
}

/// Morphological analysis: opening, middle and ending are parameters, the texts' sentences in those places their values. One
/// of the parent's values is exchanged, or all three are drawn.
fn combine(material: &StepMaterial<'_>, choice: &mut SeededChoice) -> Option<MadeParts> {
    let third = |parts: &[String], place: usize| -> Vec<String> {
        let count = parts.len();
        parts[place * count / 3..(place + 1) * count / 3].to_vec()
    };
    let exchanged_place = choice.below(4);
    let (mut parts, mut sources) = (Vec::new(), Vec::new());
    for place in 0..3 {
        if exchanged_place == 3 || exchanged_place == place {
            let at = choice.below(material.texts.len());
            let value = third(material.texts.get(at)?, place);
            sources.push(at);
            parts.extend(value);
        } else {
            parts.extend(third(material.parent, place));
            sources.extend_from_slice(material.parent_sources);
        }
    }
    let operation = ["opening exchanged", "middle exchanged", "ending exchanged", "all places drawn"][exchanged_place];
    Some(MadeParts { parts, operation, sources, terms: Vec::new() })
}

/// The parent with one of its words replaced by a word of the other text, and the word that entered.
fn with_random_entry(parent: &[String], other: &[String], choice: &mut SeededChoice) -> Option<(Vec<String>, String)> {
    let own = content_words(&parent.join(" "));
    let foreign: Vec<String> = content_words(&other.join(" ")).into_iter().filter(|word| !own.contains(word)).collect();
    let (leaves, enters) = (choice.pick(&own)?, choice.pick(&foreign)?);
    Some((parent.iter().map(|part| exchanged(part, leaves, enters)).collect(), enters.clone()))
}

/// Lateral thinking: escape (leave out what the parent says most often), reversal (its order), random entry (a foreign word).
fn provoke(material: &StepMaterial<'_>, choice: &mut SeededChoice) -> Option<MadeParts> {
    let mut sources = material.parent_sources.to_vec();
    match choice.below(3) {
        0 => {
            // Escape from the sentence that is most like the others, and look elsewhere instead.
            let all = stems(&material.parent.join(" "));
            let dominant = |part: &&String| stems(part).intersection(&all).count();
            let leaves = material.parent.iter().max_by_key(dominant)?;
            let (from, enters) = any_sentence(material, choice)?;
            sources.push(from);
            let kept = material.parent.iter().map(|part| if part == leaves { enters.clone() } else { part.clone() });
            Some(MadeParts { parts: kept.collect(), operation: "escape", sources, terms: Vec::new() })
        }
        1 => {
            let mut parts: Vec<String> = material.parent.iter().rev().cloned().collect();
            let (from, entry) = any_sentence(material, choice)?;
            parts.push(entry.clone());
            sources.push(from);
            Some(MadeParts { parts, operation: "reversal", sources, terms: Vec::new() })
        }
        _ => {
            let at = choice.below(material.texts.len());
            let (parts, term) = with_random_entry(material.parent, material.texts.get(at)?, choice)?;
            sources.push(at);
            Some(MadeParts { parts, operation: "random entry", sources, terms: vec![term] })
        }
    }
}

/// Bisociation: behind a sentence of the parent, the sentence of the most distant text that shares a stem with it; without such a
/// text, a sentence of the most distant one.
fn bisociate(material: &StepMaterial<'_>, choice: &mut SeededChoice) -> Option<MadeParts> {
    let at = choice.below(material.parent.len());
    let own = stems(material.parent.get(at)?);
    let home = choice.pick(material.parent_sources).copied().unwrap_or_default();
    let near = |other: usize| cosine(&material.vectors[home], &material.vectors[other]);
    let mut distant: Vec<usize> = (0..material.texts.len()).filter(|other| *other != home).collect();
    distant.sort_by(|left, right| near(*left).total_cmp(&near(*right)).then(left.cmp(right)));
    // Among the more distant half one is drawn, so that cycles differ.
    let half = distant.len().div_ceil(2);
    let first = choice.below(half);
    let candidates = distant.iter().cycle().skip(first).take(half);
    let bridge = candidates.copied().find_map(|other| {
        let shares = |sentence: &&String| !stems(sentence).is_disjoint(&own);
        material.texts[other].iter().find(shares).map(|sentence| (other, sentence.clone(), true))
    });
    let (other, sentence, bridged) = match bridge {
        Some(found) => found,
        None => {
            let other = *distant.get(first)?;
            (other, choice.pick(&material.texts[other])?.clone(), false)
        }
    };
    let terms: Vec<String> = stems(&sentence).intersection(&own).cloned().collect();
    let mut parts = material.parent.to_vec();
    // A full text gives up the sentence behind, so that it can go on to change.
    if parts.len() >= material.max_sentences {
        parts.remove((at + 1) % material.parent.len());
    }
    let behind = (at + 1).min(parts.len());
    parts.insert(behind, sentence);
    let mut sources = material.parent_sources.to_vec();
    sources.push(other);
    let operation = if bridged { "bridged by a shared term" } else { "set beside a distant text" };
    Some(MadeParts { parts, operation, sources, terms })
}
