//! The judge that the measures make.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use super::{
    diversity::hdd,
    hashed_ngrams::HashedNgrams,
    words::{content_words, sentences, words},
};
use crate::{
    error::Result,
    judge::{CreationScore, EmbeddingKind, Judge, ReferenceSet, TextEmbedding, cosine},
};

/// Different content words at which elaboration counts as full.
const FULL_ELABORATION: f64 = 100.0;
/// Sentences whose neighbours are compared; those behind them are not looked at.
const MAX_SENTENCES: usize = 200;
/// Weights of the parts of the total.
const WEIGHTS: [f64; 4] = [0.4, 0.3, 0.15, 0.15];

/// A judge over one representation of texts.
#[derive(Clone)]
pub struct TextJudge(Arc<dyn TextEmbedding>);

impl TextJudge {
    /// Over this representation.
    pub fn new(embedding: Arc<dyn TextEmbedding>) -> Self {
        Self(embedding)
    }

    /// Over hashed n-grams, which need no file.
    pub fn hashed() -> Self {
        Self::new(Arc::new(HashedNgrams))
    }
}

/// One minus the greatest cosine to a vector of the set, from 0 to 1; `None` for an empty set.
pub(crate) fn distance_to(vector: &[f32], references: &[Vec<f32>]) -> Option<f64> {
    let nearest = references.iter().map(|other| cosine(vector, other)).max_by(f64::total_cmp);
    nearest.map(|nearest| (1.0 - nearest).clamp(0.0, 1.0))
}

/// Mean cosine of neighbours, each at least 0; `None` below two vectors.
pub(crate) fn coherence_of(vectors: &[Vec<f32>]) -> Option<f64> {
    let near: Vec<f64> = vectors.windows(2).map(|pair| cosine(&pair[0], &pair[1]).clamp(0.0, 1.0)).collect();
    (!near.is_empty()).then(|| near.iter().sum::<f64>() / near.len() as f64)
}

/// Number of different content words.
pub(crate) fn content_word_count(text: &str) -> usize {
    content_words(text).into_iter().collect::<BTreeSet<String>>().len()
}

/// Elaboration of a text, from 0 to 1.
pub(crate) fn elaboration_of(text: &str) -> f64 {
    (content_word_count(text) as f64 / FULL_ELABORATION).min(1.0)
}

/// The weighted mean of those parts that are known, from 0 to 1.
fn total_of(parts: [Option<f64>; 4]) -> f64 {
    let known = parts.iter().zip(WEIGHTS).filter_map(|(part, weight)| part.map(|part| (part, weight)));
    let (sum, weights) = known.fold((0.0, 0.0), |(sum, all), (part, weight)| (sum + part * weight, all + weight));
    if weights > 0.0 { sum / weights } else { 0.0 }
}

impl Judge for TextJudge {
    fn embedding(&self) -> EmbeddingKind {
        self.0.kind()
    }

    fn vectors(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        if texts.is_empty() { Ok(Vec::new()) } else { self.0.embed(texts) }
    }

    fn scores(&self, texts: &[&str], references: &ReferenceSet) -> Result<Vec<CreationScore>> {
        // Everything that needs a vector, in one batch: the texts, then their sentences.
        let mut asked: Vec<&str> = texts.to_vec();
        let mut parts: Vec<Range<usize>> = Vec::with_capacity(texts.len());
        for text in texts {
            let found = sentences(text);
            let from = asked.len();
            if found.len() > 1 {
                asked.extend(found.into_iter().take(MAX_SENTENCES));
            }
            parts.push(from..asked.len());
        }
        let vectors = self.vectors(&asked)?;
        let score = |(at, text): (usize, &&str)| {
            let originality = distance_to(&vectors[at], &references.vectors);
            let coherence = coherence_of(&vectors[parts[at].clone()]);
            let elaboration = elaboration_of(text);
            let lexical_diversity = hdd(&words(text));
            let total = total_of([originality, coherence, Some(elaboration), lexical_diversity]);
            CreationScore { originality, coherence, elaboration, lexical_diversity, total }
        };
        Ok(texts.iter().enumerate().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copy_is_not_original_and_a_wordless_text_scores_nothing() {
        let judge = TextJudge::hashed();
        let text = "Wind turns the mill. The mill grinds corn.";
        let references = ReferenceSet { vectors: judge.vectors(&[text]).unwrap() };
        let scores = judge.scores(&[text, "Glass sings when a wet finger circles it.", "?"], &references).unwrap();
        assert!(scores[0].originality.unwrap() < 1e-6 && scores[1].originality.unwrap() > 0.7, "{scores:?}");
        assert!(scores[0].coherence.unwrap() > 0.0 && scores[1].coherence.is_none() && scores[1].elaboration > 0.0);
        assert_eq!((scores[2].elaboration, scores[2].lexical_diversity), (0.0, None));
        let bare = judge.scores(&[text], &ReferenceSet::default()).unwrap();
        assert_eq!(bare[0].originality, None);
    }

    #[test]
    fn the_total_weighs_what_is_known() {
        assert!((total_of([Some(1.0), Some(0.0), Some(0.0), None]) - 0.4 / 0.85).abs() < 1e-12);
        assert!((total_of([None, None, None, None])).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn scores_stay_between_zero_and_one(texts in proptest::collection::vec("(\\PC{0,40}[.! ]){0,9}", 1..5)) {
            let judge = TextJudge::hashed();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let references = ReferenceSet { vectors: judge.vectors(&["a river", "the tax of a bakery"]).unwrap() };
            for score in judge.scores(&texts, &references).unwrap() {
                let parts = [score.originality, score.coherence, Some(score.elaboration), score.lexical_diversity];
                for part in parts.into_iter().flatten().chain([score.total]) {
                    prop_assert!((0.0..=1.0 + 1e-12).contains(&part), "{:?}", score);
                }
            }
        }
    }
}
