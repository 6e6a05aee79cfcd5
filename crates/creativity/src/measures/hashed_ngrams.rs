//! Vectors of texts without a trained model: signed feature hashing.
//!
//! K. Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009.

use std::collections::BTreeMap;

use super::words::{is_stop_word, words};
use crate::{
    error::Result,
    judge::{EmbeddingKind, TextEmbedding},
};

/// Numbers of a vector.
const DIMENSIONS: usize = 512;
/// Letters of a group inside a word.
const GROUP_LETTERS: usize = 4;
/// Weights of a word, of a word that says little, of two words that follow each other, and of a group of letters.
const WORD_WEIGHT: f64 = 1.0;
const STOP_WEIGHT: f64 = 0.1;
const PAIR_WEIGHT: f64 = 0.5;
const GROUP_WEIGHT: f64 = 0.4;

/// Signed feature hashing: words, pairs of words, and groups of four letters inside words (with a mark before and after the word)
/// each add to one of 512 numbers, with a sign that the hash decides too. The weight of what occurs several times grows with the
/// logarithm of how often. It sees that texts share words or stems, and not that different words mean the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashedNgrams;

/// FNV-1a over the kind and the text, then the finalizer of MurmurHash3: its low bits decide the place.
fn hash_feature(kind: u8, parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(kind);
    for part in parts {
        part.bytes().for_each(&mut mix);
        mix(0xff);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The vector of one text, of length 1, or all zeros without a word.
fn vector(text: &str) -> Vec<f32> {
    let words = words(text);
    let mut features: BTreeMap<u64, (f64, u32)> = BTreeMap::new();
    let mut add = |feature: u64, weight: f64| features.entry(feature).or_insert((weight, 0)).1 += 1;
    for word in &words {
        if is_stop_word(word) {
            add(hash_feature(b'w', &[word]), STOP_WEIGHT);
            continue;
        }
        add(hash_feature(b'w', &[word]), WORD_WEIGHT);
        let letters: Vec<char> = std::iter::once('<').chain(word.chars()).chain(['>']).collect();
        for group in letters.windows(GROUP_LETTERS) {
            let group: String = group.iter().collect();
            add(hash_feature(b'g', &[&group]), GROUP_WEIGHT);
        }
    }
    let content: Vec<&String> = words.iter().filter(|word| !is_stop_word(word)).collect();
    for pair in content.windows(2) {
        add(hash_feature(b'p', &[pair[0], pair[1]]), PAIR_WEIGHT);
    }
    let mut sums = vec![0.0_f64; DIMENSIONS];
    for (feature, (weight, count)) in features {
        let sign = if feature >> 63 == 0 { 1.0 } else { -1.0 };
        sums[(feature % DIMENSIONS as u64) as usize] += sign * weight * (1.0 + f64::from(count).ln());
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    sums.into_iter().map(|sum| (sum * scale) as f32).collect()
}

impl TextEmbedding for HashedNgrams {
    fn kind(&self) -> EmbeddingKind {
        EmbeddingKind::HashedNgrams
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        Ok(texts.iter().map(|text| vector(text)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::cosine;

    #[test]
    fn texts_that_share_words_are_near() {
        let near = cosine(&vector("A bridge of steel cables"), &vector("Steel cables carry the bridge"));
        let stem = cosine(&vector("bridges"), &vector("bridge"));
        let far = cosine(&vector("A bridge of steel cables"), &vector("Tax law for bakeries"));
        assert!(near > 0.5 && stem > 0.25 && far.abs() < 0.25, "{near} {stem} {far}");
        assert!(vector("... !").iter().all(|number| *number == 0.0));
    }

    proptest! {
        #[test]
        fn a_vector_has_length_one_or_none(text in "\\PC{0,120}") {
            let vector = vector(&text);
            let length = cosine(&vector, &vector);
            prop_assert!(vector.len() == DIMENSIONS && (length == 0.0 || (length - 1.0).abs() < 1e-5), "{}", length);
            prop_assert_eq!(length == 0.0, !text.chars().any(char::is_alphanumeric));
        }
    }
}
