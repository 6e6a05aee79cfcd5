//! Lexical diversity: MTLD and HD-D of a list of words.
//!
//! P. M. McCarthy, S. Jarvis, "MTLD, vocd-D, and HD-D: A validation study of sophisticated approaches to lexical diversity
//! assessment", Behavior Research Methods 42 (2010).

use std::collections::{HashMap, HashSet};

/// The share of different words at which a factor of MTLD is complete.
const FACTOR_SHARE: f64 = 0.72;
/// The least number of words for which MTLD is computed.
pub(crate) const MIN_MTLD_WORDS: usize = 50;
/// The number of words that HD-D draws, below which it has no value.
pub(crate) const HDD_DRAW: usize = 42;

/// The measure of textual lexical diversity: the mean number of words in which the share of different words stays at 0.72 or
/// above, over the text read forwards and backwards. `None` below 50 words, and where no word is said twice.
pub fn mtld(words: &[String]) -> Option<f64> {
    if words.len() < MIN_MTLD_WORDS {
        return None;
    }
    let forwards = factors(words.iter());
    let backwards = factors(words.iter().rev());
    let mean = |factors: f64| words.len() as f64 / factors;
    (forwards > 0.0 && backwards > 0.0).then(|| f64::midpoint(mean(forwards), mean(backwards)))
}

/// The number of factors of words in this order, the last one in part.
fn factors<'a>(words: impl Iterator<Item = &'a String>) -> f64 {
    let (mut complete, mut seen, mut length) = (0.0, HashSet::new(), 0_usize);
    let mut share = 1.0;
    for word in words {
        seen.insert(word.as_str());
        length += 1;
        share = seen.len() as f64 / length as f64;
        if share < FACTOR_SHARE {
            complete += 1.0;
            seen.clear();
            (length, share) = (0, 1.0);
        }
    }
    complete + (1.0 - share) / (1.0 - FACTOR_SHARE)
}

/// HD-D: the expected share of different words among 42 that are drawn from the text without putting them back (the
/// hypergeometric distribution), from 0 to 1. `None` below 42 words.
pub fn hdd(words: &[String]) -> Option<f64> {
    if words.len() < HDD_DRAW {
        return None;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    // Words of one frequency count alike; summed by frequency, the order of the map does not show in the last digits.
    let mut by_count: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    for count in counts.into_values() {
        *by_count.entry(count).or_default() += 1;
    }
    let total = words.len();
    let missed = |count: usize| -> f64 {
        (0..HDD_DRAW).map(|drawn| total.saturating_sub(count + drawn) as f64 / (total - drawn) as f64).product()
    };
    let drawn: f64 = by_count.into_iter().map(|(count, types)| types as f64 * (1.0 - missed(count))).sum();
    Some(drawn / HDD_DRAW as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::words::words;

    /// The figures that `tests/fixtures/diversity.py` computes in another way.
    #[test]
    fn figures_are_those_of_another_program() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/fixtures/diversity.json")).unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let words = words(case["text"].as_str().unwrap());
            assert_eq!(words.len() as u64, case["words"].as_u64().unwrap(), "{}", case["name"]);
            for (name, found) in [("mtld", mtld(&words)), ("hdd", hdd(&words))] {
                let expected = case[name].as_f64();
                let near = match (found, expected) {
                    (Some(found), Some(expected)) => (found - expected).abs() < 1e-9 * expected,
                    (found, expected) => found == expected,
                };
                assert!(near, "{} {name}: {found:?}, not {expected:?}", case["name"]);
            }
        }
    }

    #[test]
    fn bounds_are_kept() {
        let same = vec!["a".to_owned(); 60];
        let all: Vec<String> = (0..60).map(|at| format!("w{at}")).collect();
        // Two equal words complete a factor: their share of different ones is a half.
        assert_eq!((mtld(&same), mtld(&all)), (Some(2.0), None));
        assert!((hdd(&all).unwrap() - 1.0).abs() < 1e-12 && (hdd(&same).unwrap() - 1.0 / 42.0).abs() < 1e-12);
        assert_eq!((mtld(&all[..49]), hdd(&all[..41])), (None, None));
    }
}
