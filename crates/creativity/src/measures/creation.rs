//! All measures of one creation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    clusters::cluster_count,
    diversity::{HDD_DRAW, MIN_MTLD_WORDS, hdd, mtld},
    text_judge::{coherence_of, content_word_count, distance_to, elaboration_of},
    words::{sentences, words},
};
use crate::{
    error::Result,
    judge::{EmbeddingKind, Judge},
};

/// Ideas of a creation that are compared.
pub(crate) const MAX_IDEAS: usize = 200;

impl EmbeddingKind {
    /// The cosine from which two texts count as one idea.
    pub fn same_idea(self) -> f64 {
        match self {
            Self::Minilm => 0.8,
            Self::HashedNgrams => 0.7,
        }
    }

    /// The cosine from which two ideas count as of one kind.
    pub fn same_kind(self) -> f64 {
        match self {
            Self::Minilm => 0.4,
            Self::HashedNgrams => 0.2,
        }
    }
}

/// Measures of a creation. Each is computed from the text; none is a judgement of taste.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreationMeasures {
    /// Number of words.
    pub words: u64,
    /// Number of sentences.
    pub sentences: u64,
    /// Mean number of words in which the share of different words stays at 0.72 or above; null below 50 words, or where no
    /// word is said twice.
    #[schema(required = true)]
    pub mtld: Option<f64>,
    /// Expected share of different words among 42 drawn ones, from 0 to 1; null below 42 words.
    #[schema(required = true)]
    pub hd_d: Option<f64>,
    /// Number of different ideas: the sentences, or the listed ideas, without those that are nearly the same.
    pub fluency: u64,
    /// Number of kinds of ideas: groups of ideas that are near each other.
    pub flexibility: u64,
    /// Number of different words that say what the text is about.
    pub content_words: u64,
    /// The same as a share of 100 of them, from 0 to 1.
    pub elaboration: f64,
    /// Mean cosine of neighbouring sentences, from 0 to 1; null for a text of one sentence.
    #[schema(required = true)]
    pub coherence: Option<f64>,
    /// One minus the greatest cosine to a reference, from 0 to 1; null without references.
    #[schema(required = true)]
    pub originality: Option<f64>,
    /// One minus the greatest cosine to an earlier work of the capability, from 0 to 1; null without earlier works.
    #[schema(required = true)]
    pub novelty: Option<f64>,
    /// Number of texts that originality was measured against.
    pub references: u64,
    /// Number of texts that novelty was measured against.
    pub earlier_works: u64,
    /// The representation of texts that cosines were computed with.
    pub embedding: EmbeddingKind,
    /// Why a figure is null, by its name.
    pub reasons: BTreeMap<String, String>,
    /// What each measure does not say, by its name.
    pub limits: BTreeMap<String, String>,
}

/// What is measured.
#[derive(Clone, Debug, Default)]
pub struct CreationText {
    /// The whole text.
    pub text: String,
    /// Its ideas, where they were listed. Empty: its sentences are its ideas.
    pub ideas: Vec<String>,
}

/// Measure a creation against references and earlier works of its capability.
///
/// # Errors
/// The encoder failed.
pub fn measure_creation(
    judge: &dyn Judge,
    creation: &CreationText,
    references: &[String],
    earlier: &[String],
) -> Result<CreationMeasures> {
    let text = creation.text.as_str();
    let parts: Vec<&str> = sentences(text).into_iter().take(MAX_IDEAS).collect();
    let ideas: Vec<&str> = match creation.ideas.as_slice() {
        [] => parts.clone(),
        listed => listed.iter().map(String::as_str).take(MAX_IDEAS).collect(),
    };
    let vector = judge.vectors(&[text])?;
    let part_vectors = judge.vectors(&parts)?;
    let idea_vectors = if creation.ideas.is_empty() { part_vectors.clone() } else { judge.vectors(&ideas)? };
    let against = |others: &[String]| -> Result<Option<f64>> {
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        Ok(distance_to(&vector[0], &judge.vectors(&others)?))
    };
    let embedding = judge.embedding();
    let all_words = words(text);
    let measures = CreationMeasures {
        words: all_words.len() as u64,
        sentences: sentences(text).len() as u64,
        mtld: mtld(&all_words),
        hd_d: hdd(&all_words),
        fluency: cluster_count(&idea_vectors, embedding.same_idea()) as u64,
        flexibility: cluster_count(&idea_vectors, embedding.same_kind()) as u64,
        content_words: content_word_count(text) as u64,
        elaboration: elaboration_of(text),
        coherence: coherence_of(&part_vectors),
        originality: against(references)?,
        novelty: against(earlier)?,
        references: references.len() as u64,
        earlier_works: earlier.len() as u64,
        embedding,
        reasons: BTreeMap::new(),
        limits: limits_of(embedding),
    };
    Ok(CreationMeasures { reasons: reasons_of(&measures), ..measures })
}

/// Why figures are null.
fn reasons_of(measures: &CreationMeasures) -> BTreeMap<String, String> {
    let mtld = if measures.words < MIN_MTLD_WORDS as u64 {
        format!("the text has {} words, and MTLD says nothing below {MIN_MTLD_WORDS}", measures.words)
    } else {
        "no word is said twice, so that no factor is ever complete".to_owned()
    };
    let found = [
        ("mtld", measures.mtld, mtld),
        ("hd_d", measures.hd_d, format!("the text has {} words, and HD-D draws {HDD_DRAW}", measures.words)),
        ("coherence", measures.coherence, "the text has fewer than two sentences".to_owned()),
        (
            "originality",
            measures.originality,
            "there are no references: send `references`, or add texts of the role `reference` to the corpus".to_owned(),
        ),
        ("novelty", measures.novelty, "the capability has no earlier works".to_owned()),
    ];
    let missing = found.into_iter().filter(|(_, figure, _)| figure.is_none());
    missing.map(|(name, _, reason)| (name.to_owned(), reason)).collect()
}

/// What the measures do not say.
fn limits_of(embedding: EmbeddingKind) -> BTreeMap<String, String> {
    let (idea, kind) = (embedding.same_idea(), embedding.same_kind());
    let distance = match embedding {
        EmbeddingKind::Minilm => {
            "distance of meaning as the encoder all-MiniLM-L6-v2 has learned it, of the first 256 tokens, best in English"
        }
        EmbeddingKind::HashedNgrams => {
            "distance of wording: it sees shared words and stems, and not that different words mean the same"
        }
    };
    [
        (
            "mtld",
            "says how varied the words are, and not whether they make sense; unreliable below 100 words".to_owned(),
        ),
        (
            "hd_d",
            "says how varied the words are, and not whether they make sense; depends little on the length".to_owned(),
        ),
        (
            "fluency",
            format!("ideas whose cosine is at least {idea} count once; at most {MAX_IDEAS} ideas are looked at"),
        ),
        ("flexibility", format!("ideas whose cosine is at least {kind} count as of one kind")),
        ("elaboration", "counts words, not their worth; words that say little are an English list".to_owned()),
        ("coherence", format!("repetition raises it; it is a {distance}")),
        ("originality", format!("only as good as the references; it is a {distance}")),
        ("novelty", format!("only against the works that are kept here; it is a {distance}")),
    ]
    .into_iter()
    .map(|(name, limit)| (name.to_owned(), limit))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::TextJudge;

    fn measured(text: &str, ideas: &[&str], references: &[&str], earlier: &[&str]) -> CreationMeasures {
        let owned = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
        let creation = CreationText { text: text.to_owned(), ideas: owned(ideas) };
        measure_creation(&TextJudge::hashed(), &creation, &owned(references), &owned(earlier)).unwrap()
    }

    #[test]
    fn the_same_idea_twice_counts_once() {
        let ideas = [
            "Use the brick as a doorstop",
            "use the brick as a doorstop!",
            "Grind it to pigment",
            "Warm a bed with it",
        ];
        let found = measured(&ideas.join(". "), &ideas, &["A brick builds walls"], &[]);
        assert_eq!((found.fluency, found.earlier_works, found.references), (3, 0, 1));
        assert!(found.flexibility <= found.fluency && found.flexibility >= 1);
        assert!(found.originality.is_some() && found.novelty.is_none());
        let missing: Vec<&str> = found.reasons.keys().map(String::as_str).collect();
        assert_eq!(missing, ["hd_d", "mtld", "novelty"]);
    }

    #[test]
    fn what_was_made_before_is_not_new() {
        let text = "A lamp that dims when nobody speaks.";
        assert!(measured(text, &[], &[], &[text]).novelty.unwrap() < 1e-6);
        assert!(measured(text, &[], &[], &["Seven ways to boil an egg"]).novelty.unwrap() > 0.8);
    }

    #[test]
    fn every_figure_that_is_null_has_a_reason_and_every_measure_its_limits() {
        let found = measured("Word", &[], &[], &[]);
        assert_eq!(found.reasons.len(), 5);
        for name in found.reasons.keys().map(String::as_str).chain(["fluency", "flexibility", "elaboration"]) {
            assert!(found.limits.contains_key(name), "{name}");
        }
    }
}
