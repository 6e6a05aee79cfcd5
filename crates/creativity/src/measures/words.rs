//! Words and sentences of a text.

/// English words that say little about what a text is about.
const STOP_WORDS: [&str; 131] = [
    "a", "about", "after", "again", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been",
    "before", "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "down",
    "during", "each", "else", "ever", "every", "few", "for", "from", "further", "had", "has", "have", "having", "he",
    "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "itself", "just", "let",
    "like", "many", "may", "me", "might", "more", "most", "much", "must", "my", "no", "nor", "not", "now", "of", "off",
    "on", "once", "one", "only", "or", "other", "our", "ours", "out", "over", "own", "per", "same", "shall", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "through", "to", "too", "under", "until", "up", "upon", "us", "very", "was", "we", "were", "what", "when",
    "where", "which", "while", "who", "whom", "why", "will", "with", "would", "you", "your", "yours",
];

/// The words of a text in small letters: runs of letters and digits, with apostrophes inside them.
pub fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        } else if matches!(letter, '\'' | '\u{2019}')
            && !word.is_empty()
            && letters.peek().is_some_and(|next| next.is_alphanumeric())
        {
            word.push('\'');
        } else if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// Whether a word, in small letters, says little about what a text is about. The list is English.
pub fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// The words of a text that say what it is about.
pub fn content_words(text: &str) -> Vec<String> {
    words(text).into_iter().filter(|word| !is_stop_word(word)).collect()
}

/// The sentences of a text, without those that have no word: they end at a line's end, and at `.`, `!`, `?` or their Chinese
/// forms where white space follows.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        let (mut start, mut letters) = (0, line.char_indices().peekable());
        while let Some((at, letter)) = letters.next() {
            let follows = letters.peek().map(|(_, next)| *next);
            let ends = match letter {
                '.' | '!' | '?' | '\u{2026}' => follows.is_none_or(char::is_whitespace),
                '\u{3002}' | '\u{ff01}' | '\u{ff1f}' => true,
                _ => false,
            };
            if ends {
                let end = at + letter.len_utf8();
                found.push(line[start..end].trim());
                start = end;
            }
        }
        found.push(line[start..].trim());
    }
    found.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stop_words_are_in_order() {
        assert!(STOP_WORDS.is_sorted() && is_stop_word("the") && !is_stop_word("river"));
    }

    #[test]
    fn words_and_sentences_of_a_text() {
        assert_eq!(words("Don\u{2019}t PANIC, 3.5 'x'"), ["don't", "panic", "3", "5", "x"]);
        assert_eq!(content_words("The river of the north"), ["river", "north"]);
        assert_eq!(sentences("One. Two 3.5 ones!\n\n- \nThree? "), ["One.", "Two 3.5 ones!", "Three?"]);
        assert_eq!(sentences("\u{6c34}\u{3002}\u{706b}\u{ff01}"), ["\u{6c34}\u{3002}", "\u{706b}\u{ff01}"]);
        assert!(sentences(" ... ").is_empty() && words("").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_has_words_and_sentences(text in "\\PC{0,200}") {
            let all = words(&text).len();
            let parts: usize = sentences(&text).iter().map(|sentence| words(sentence).len()).sum();
            prop_assert!(parts >= all, "{} of {}", parts, all);
        }
    }
}
