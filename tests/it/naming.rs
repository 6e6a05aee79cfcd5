//! The rules for names and doc comments (docs/ARCHITECTURE.md) that a program can check.

use std::collections::BTreeMap;

use crate::sources::sources;

/// Names of constants that say nothing of what they bound.
const BANNED_CONSTANTS: [&str; 9] =
    ["MOST", "LONGEST", "LOOK", "AT_ONCE", "TOGETHER", "PATIENCE", "ENOUGH", "GOOD", "DEEPEST"];
/// Names that a module may give a type of its own: the alias that each error module has.
const SHARED_TYPES: [&str; 1] = ["Result"];

/// The line without `pub`, `pub(crate)` and the like.
fn without_visibility(line: &str) -> &str {
    let line = line.trim_start();
    let Some(rest) = line.strip_prefix("pub") else { return line };
    let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
    rest.trim_start()
}

/// The name that follows one of `keywords` at the beginning of an item.
fn item_name<'a>(line: &'a str, keywords: &[&str]) -> Option<&'a str> {
    let line = without_visibility(line);
    let rest = keywords.iter().find_map(|keyword| line.strip_prefix(keyword)?.strip_prefix(' '))?;
    Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn type_names_have_two_words_or_are_unique() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        for line in source.text.lines() {
            // Items of a module, and those that stand in a macro's braces; what is deeper belongs to a function or an impl.
            let indent = line.len() - line.trim_start().len();
            let keywords: &[&str] =
                if indent == 0 { &["struct", "enum", "trait", "union", "type"] } else { &["struct", "enum", "trait"] };
            if let Some(name) = item_name(line, keywords).filter(|_| indent <= 4) {
                places.entry(name.to_owned()).or_default().push(source.file.clone());
            }
        }
    }
    let is_one_word = |name: &str| name.chars().filter(|c| c.is_uppercase()).count() < 2;
    let shared: Vec<String> = places
        .iter()
        .filter(|(name, places)| places.len() > 1 && !SHARED_TYPES.contains(&name.as_str()) && is_one_word(name))
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert!(shared.is_empty(), "one word, and several types:\n{}", shared.join("\n"));
    let one_word = places.keys().filter(|name| is_one_word(name)).count();
    assert!(one_word * 10 < places.len(), "{one_word} of {} type names have one word", places.len());
}

#[test]
fn constants_say_what_they_bound() {
    let mut found = Vec::new();
    for source in sources() {
        for line in source.text.lines() {
            if let Some(name) = item_name(line, &["const", "static"]).filter(|name| BANNED_CONSTANTS.contains(name)) {
                found.push(format!("{}: {name}", source.file));
            }
        }
    }
    assert!(found.is_empty(), "name what they bound:\n{}", found.join("\n"));
}

#[test]
fn doc_comments_are_more_than_two_words() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        let is_doc = |at: usize| lines.get(at).is_some_and(|line| line.trim_start().starts_with("///"));
        for (at, line) in lines.iter().enumerate() {
            let Some(text) = line.trim_start().strip_prefix("/// ") else { continue };
            let alone = (at == 0 || !is_doc(at - 1)) && !is_doc(at + 1);
            if alone && text.ends_with('.') && text.split_whitespace().count() <= 2 {
                found.push(format!("{}:{}: {text}", source.file, at + 1));
            }
        }
    }
    assert!(found.is_empty(), "say what it is, in which unit, and what null means:\n{}", found.join("\n"));
}
