//! What a problem is about, by its words alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::measures::words::{is_stop_word, sentences, words};

/// Terms of one kind that are kept.
const MAX_TERMS: usize = 12;
/// Words of one thing at most.
const MAX_PHRASE_WORDS: usize = 3;
/// Letters of a word at most: what is longer is no word that people use.
const MAX_WORD_LETTERS: usize = 40;
/// Verbs that are common in problems, in their base form, in order.
const VERBS: [&str; 116] = [
    "accept",
    "achieve",
    "act",
    "adapt",
    "add",
    "allow",
    "answer",
    "attach",
    "attract",
    "avoid",
    "break",
    "bring",
    "build",
    "buy",
    "carry",
    "catch",
    "change",
    "check",
    "choose",
    "clean",
    "collect",
    "combine",
    "compare",
    "connect",
    "control",
    "cook",
    "cool",
    "cover",
    "create",
    "cut",
    "decide",
    "deliver",
    "design",
    "detect",
    "develop",
    "direct",
    "drive",
    "eliminate",
    "enable",
    "encourage",
    "ensure",
    "explain",
    "fill",
    "find",
    "fix",
    "follow",
    "gather",
    "get",
    "give",
    "grow",
    "guide",
    "heat",
    "help",
    "hold",
    "improve",
    "increase",
    "inform",
    "invite",
    "join",
    "keep",
    "learn",
    "lift",
    "limit",
    "lower",
    "make",
    "manage",
    "measure",
    "mix",
    "move",
    "offer",
    "open",
    "pay",
    "plan",
    "prepare",
    "prevent",
    "produce",
    "protect",
    "prove",
    "provide",
    "pull",
    "push",
    "reach",
    "read",
    "recover",
    "recycle",
    "reduce",
    "remove",
    "repair",
    "replace",
    "reuse",
    "run",
    "save",
    "see",
    "sell",
    "send",
    "separate",
    "serve",
    "share",
    "shorten",
    "solve",
    "sort",
    "speed",
    "split",
    "spread",
    "stop",
    "store",
    "support",
    "take",
    "teach",
    "transport",
    "treat",
    "trust",
    "use",
    "warn",
    "wash",
    "write",
];
/// Words behind which a thing does something: the next listed verb is one, whatever stands before it.
const MODALS: [&str; 9] = ["can", "could", "may", "might", "must", "shall", "should", "will", "would"];
/// Words that end a thing, beside those that say little.
const BREAK_WORDS: [&str; 12] = [
    "although", "among", "around", "despite", "however", "instead", "toward", "towards", "unless", "whereas",
    "without", "yet",
];
/// Words that follow a verb rather than a thing.
const DETERMINERS: [&str; 9] = ["a", "an", "each", "every", "her", "his", "its", "our", "the"];
/// Endings of verbs that were made from other words.
const VERB_ENDINGS: [&str; 4] = ["ize", "ise", "ify", "ulate"];
/// Endings of words that tell a quality.
const QUALITY_ENDINGS: [&str; 7] = ["able", "ible", "ful", "less", "ive", "ous", "ical"];

/// What a problem is about, by its words: stop words, a list of common verbs and endings decide, so that a verb outside the list may be
/// taken for a thing. The rules are English; of other languages each word that is not in the lists counts as a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemTerms {
    /// Things: up to three words that stand together, most frequent first, at most 12.
    pub things: Vec<String>,
    /// What is to be done: verbs, most frequent first, at most 12.
    pub actions: Vec<String>,
    /// Qualities that are named, most frequent first, at most 12.
    pub qualities: Vec<String>,
}

/// Whether a word is a verb by the list or its ending.
pub(crate) fn is_verb(word: &str) -> bool {
    VERBS.binary_search(&word).is_ok() || (word.len() > 5 && VERB_ENDINGS.iter().any(|ending| word.ends_with(ending)))
}

/// The word without the ending of a plural, of a participle or of `-ing`, so that forms of a word are equal.
pub(crate) fn stem(word: &str) -> &str {
    let is_long = word.chars().count() > 4;
    let endings: &[&str] = if is_long { &["ings", "ing", "ies", "ed", "es", "s", "e", "y"] } else { &["s"] };
    for ending in endings {
        if let Some(start) = word.strip_suffix(*ending)
            && start.chars().count() >= 3
            && !start.ends_with('s')
        {
            return start;
        }
    }
    word
}

/// Terms with how often they occur and where first.
#[derive(Default)]
struct TermCounts(BTreeMap<String, (usize, usize)>);

impl TermCounts {
    fn add(&mut self, term: String, at: usize) {
        self.0.entry(term).or_insert((0, at)).0 += 1;
    }

    fn most_frequent(self) -> Vec<String> {
        let mut terms: Vec<(String, (usize, usize))> = self.0.into_iter().collect();
        terms.sort_by(|(_, left), (_, right)| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
        terms.into_iter().take(MAX_TERMS).map(|(term, _)| term).collect()
    }
}

impl ProblemTerms {
    /// The terms of a text, in time that grows with its length alone.
    pub fn of(text: &str) -> Self {
        let (mut things, mut actions, mut qualities) =
            (TermCounts::default(), TermCounts::default(), TermCounts::default());
        let mut at = 0;
        for sentence in sentences(text) {
            for part in sentence.split([',', ';', ':', '(', ')']) {
                let mut phrase: Vec<String> = Vec::new();
                let mut expects_verb = false;
                let mut said = words(part).into_iter().peekable();
                while let Some(word) = said.next() {
                    at += 1;
                    let follows = said.peek().is_some_and(|next| DETERMINERS.contains(&next.as_str()));
                    let third_person = word.strip_suffix('s').filter(|base| follows && is_verb(base));
                    if ends_phrase(&word) {
                        expects_verb |= MODALS.contains(&word.as_str());
                        end_phrase(&mut phrase, &mut things, at);
                    } else if let Some(base) = third_person {
                        end_phrase(&mut phrase, &mut things, at);
                        actions.add(base.to_owned(), at);
                    } else if is_verb(&word) && (phrase.is_empty() || expects_verb) {
                        expects_verb = false;
                        end_phrase(&mut phrase, &mut things, at);
                        actions.add(word, at);
                    } else {
                        if is_quality(&word) {
                            qualities.add(word.clone(), at);
                        }
                        phrase.push(word);
                    }
                }
                end_phrase(&mut phrase, &mut things, at);
            }
        }
        Self { things: things.most_frequent(), actions: actions.most_frequent(), qualities: qualities.most_frequent() }
    }

    /// Whether the text named nothing.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty() && self.actions.is_empty()
    }
}

/// Whether no thing goes on with this word.
fn ends_phrase(word: &str) -> bool {
    word.chars().count() > MAX_WORD_LETTERS || is_stop_word(word) || BREAK_WORDS.contains(&word)
}

/// Whether a word's ending tells a quality.
fn is_quality(word: &str) -> bool {
    QUALITY_ENDINGS.iter().any(|ending| word.len() > ending.len() + 2 && word.ends_with(ending))
}

/// Count the words that stand together as one thing: the last of them, where they are many, because English names the thing last.
/// A quality that stands alone is no thing.
fn end_phrase(phrase: &mut Vec<String>, things: &mut TermCounts, at: usize) {
    phrase.pop_if(|word| is_quality(word));
    if !phrase.is_empty() {
        let first = phrase.len().saturating_sub(MAX_PHRASE_WORDS);
        things.add(phrase[first..].join(" "), at);
    }
    phrase.clear();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_of_a_problem() {
        let found = ProblemTerms::of(
            "How can we reduce the waiting time at the city library? The library must be affordable, and visitors want to find books.",
        );
        assert_eq!(found.actions, ["reduce", "find"]);
        assert_eq!(found.things[..3], ["waiting time", "city library", "library"]);
        assert!(found.things.contains(&"books".to_owned()), "{found:?}");
        assert_eq!(found.qualities, ["affordable"]);
        assert!(ProblemTerms::of("?! the of").is_empty());
        let found = ProblemTerms::of(
            "How can the city library reduce its queue without new books? The falcon protects the field.",
        );
        assert_eq!(found.things, ["city library", "queue", "new books", "falcon", "field"]);
        assert_eq!(found.actions, ["reduce", "protect"]);
    }

    #[test]
    fn verbs_are_in_order_and_stems_join_forms() {
        assert!(VERBS.is_sorted());
        for (form, other) in [("bridges", "bridge"), ("heating", "heated"), ("batteries", "battery"), ("cats", "cat")] {
            assert_eq!(stem(form), stem(other), "{form}");
        }
        assert_eq!((stem("glass"), stem("gas"), stem("is")), ("glass", "gas", "is"));
    }

    proptest! {
        #[test]
        fn any_text_has_bounded_terms(text in "\\PC{0,300}") {
            let found = ProblemTerms::of(&text);
            for terms in [&found.things, &found.actions, &found.qualities] {
                prop_assert!(terms.len() <= MAX_TERMS && terms.iter().all(|term| !term.trim().is_empty()));
            }
            prop_assert_eq!(found, ProblemTerms::of(&text));
        }
    }
}
