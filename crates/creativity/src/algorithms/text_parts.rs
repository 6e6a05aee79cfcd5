//! Texts as lists of sentences, and the exchange of terms in them.

use std::collections::BTreeSet;

use crate::{
    measures::words::{content_words, sentences},
    problem_terms::stem,
};

/// Sentences of a creation at most.
pub(super) const MAX_SENTENCES: usize = 12;
/// Letters of a sentence at most: what is longer is cut, so that creations stay bounded.
const MAX_SENTENCE_LETTERS: usize = 400;

/// A text as its sentences, at most 12, each at most 400 letters long.
pub(super) fn parts(text: &str) -> Vec<String> {
    let cut = |sentence: &str| sentence.chars().take(MAX_SENTENCE_LETTERS).collect();
    sentences(text).into_iter().take(MAX_SENTENCES).map(cut).collect()
}

/// The text of sentences: a mark is set where a sentence has none at its end, so that it can be divided again.
pub(super) fn joined(parts: &[String]) -> String {
    let ended = parts.iter().map(|part| {
        let ends = part.ends_with(['.', '!', '?', '\u{2026}', '\u{3002}', '\u{ff01}', '\u{ff1f}']);
        if ends { part.clone() } else { format!("{part}.") }
    });
    ended.collect::<Vec<String>>().join(" ")
}

/// Stems of the words that say what a text is about.
pub(super) fn stems(text: &str) -> BTreeSet<String> {
    content_words(text).iter().map(|word| stem(word).to_owned()).collect()
}

/// The sentence with each occurrence of the word `from` (in small letters) replaced by `to`.
pub(super) fn exchanged(sentence: &str, from: &str, to: &str) -> String {
    let (mut made, mut word) = (String::new(), String::new());
    let flush = |word: &mut String, made: &mut String| {
        if !word.is_empty() {
            made.push_str(if word.to_lowercase() == from { to } else { word });
            word.clear();
        }
    };
    for letter in sentence.chars() {
        if letter.is_alphanumeric() || letter == '\'' {
            word.push(letter);
        } else {
            flush(&mut word, &mut made);
            made.push(letter);
        }
    }
    flush(&mut word, &mut made);
    made.chars().take(MAX_SENTENCE_LETTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_divided_and_joined_again() {
        let found = parts("The river rises! Who knows why?\nNobody");
        assert_eq!(found, ["The river rises!", "Who knows why?", "Nobody"]);
        assert_eq!(joined(&found), "The river rises! Who knows why? Nobody.");
        assert_eq!(parts(&joined(&found)).len(), 3);
        assert_eq!(parts(&"\u{e9}".repeat(1_000))[0].chars().count(), MAX_SENTENCE_LETTERS);
    }

    #[test]
    fn whole_words_are_exchanged() {
        assert_eq!(exchanged("River, riverbed and RIVER.", "river", "clock"), "clock, riverbed and clock.");
        assert_eq!(exchanged("\u{dc}ber \u{3c9}", "\u{fc}ber", "unter"), "unter \u{3c9}");
        assert!(stems("The rivers of the north").contains("river"));
    }
}
