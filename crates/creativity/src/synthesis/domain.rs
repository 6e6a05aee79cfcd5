//! Domains as relations between concepts: from a table, or from the words of the order.

use std::sync::LazyLock;

use super::model::DomainBasis;
use crate::{
    measures::words::{content_words, sentences, words},
    problem_terms::{ProblemTerms, stem},
};

/// Relations that are read from words at most.
const MAX_WORD_RELATIONS: usize = 12;
/// Verbs, by their stems, with the predicate that they say.
const VERB_PREDICATES: [(&str, &[&str]); 14] = [
    ("carries", &["carry", "transport", "deliver", "bring", "move", "send"]),
    ("stores", &["store", "keep", "hold", "save", "collect", "gather"]),
    ("regulates", &["regulate", "control", "manage", "steer", "limit", "guide", "direct", "improve", "optimize"]),
    ("consumes", &["consume", "use", "eat", "spend", "need"]),
    ("produces", &["produce", "make", "create", "build", "generate", "grow", "write"]),
    ("protects", &["protect", "guard", "prevent", "cover", "secure"]),
    ("connects", &["connect", "join", "link", "combine", "bridge"]),
    ("competes with", &["compete", "fight", "rival"]),
    ("signals to", &["signal", "tell", "inform", "warn", "show", "explain"]),
    ("divides", &["divide", "split", "separate", "sort"]),
    ("transforms", &["transform", "change", "turn", "convert", "adapt", "reduce"]),
    ("rewards", &["reward", "pay", "encourage"]),
    ("precedes", &["precede", "prepare", "begin"]),
    ("depends on", &["depend", "require", "rest"]),
];

/// A relation between two concepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DomainRelation {
    pub(super) predicate: String,
    pub(super) first: String,
    pub(super) second: String,
}

/// A domain with its relations.
#[derive(Clone, Debug)]
pub(super) struct DomainSchema {
    pub(super) basis: DomainBasis,
    pub(super) relations: Vec<DomainRelation>,
}

/// A domain of the table.
struct TableDomain {
    /// Stems of the words that name it.
    names: Vec<&'static str>,
    relations: Vec<DomainRelation>,
}

static TABLE: LazyLock<Vec<TableDomain>> = LazyLock::new(|| {
    let lines = include_str!("data/domains.txt").lines().filter(|line| !line.starts_with('#'));
    let domain = |line: &'static str| {
        let (name, rest) = line.split_once('|')?;
        let (aliases, relations) = rest.split_once('|')?;
        Some(TableDomain {
            names: std::iter::once(name).chain(aliases.split(' ')).map(stem).collect(),
            relations: relations.split(';').filter_map(table_relation).collect(),
        })
    };
    lines.filter_map(domain).collect()
});

fn table_relation(text: &str) -> Option<DomainRelation> {
    let (predicate, _) = VERB_PREDICATES.iter().find(|(predicate, _)| text.starts_with(predicate))?;
    let (first, second) = text[predicate.len()..].trim_start().split_once('>')?;
    Some(DomainRelation { predicate: (*predicate).to_owned(), first: first.to_owned(), second: second.to_owned() })
}

/// The domain of this name: that of the table whose names share most words with it, or what the words say.
pub(super) fn domain_schema(name: &str, goal: &str) -> DomainSchema {
    let asked: Vec<String> = words(name).iter().map(|word| stem(word).to_owned()).collect();
    let shared = |domain: &TableDomain| asked.iter().filter(|word| domain.names.contains(&word.as_str())).count();
    // The first of equals: `max_by_key` would take the last.
    let best = TABLE.iter().rev().max_by_key(|domain| shared(domain)).filter(|domain| shared(domain) > 0);
    match best {
        Some(domain) => DomainSchema { basis: DomainBasis::Table, relations: domain.relations.clone() },
        None => DomainSchema { basis: DomainBasis::Words, relations: word_relations(&format!("{name}. {goal}")) },
    }
}

/// The predicate of a verb.
fn predicate(word: &str) -> Option<&'static str> {
    let said = stem(word);
    let says = |(_, verbs): &&(&str, &[&str])| verbs.iter().any(|verb| stem(verb) == said);
    VERB_PREDICATES.iter().find(says).map(|(predicate, _)| *predicate)
}

/// Relations that sentences say as `thing verb thing`, with the nearest content words on both sides.
pub(super) fn word_relations(text: &str) -> Vec<DomainRelation> {
    let mut found = Vec::new();
    for sentence in sentences(text) {
        let said = content_words(sentence);
        for at in 1..said.len().saturating_sub(1) {
            let Some(predicate) = predicate(&said[at]) else { continue };
            let relation = DomainRelation {
                predicate: predicate.to_owned(),
                first: said[at - 1].clone(),
                second: said[at + 1].clone(),
            };
            if !found.contains(&relation) && found.len() < MAX_WORD_RELATIONS {
                found.push(relation);
            }
        }
    }
    found
}

/// The concepts that a goal adds: its things.
pub(super) fn goal_concepts(terms: &ProblemTerms) -> Vec<String> {
    let things = if terms.things.is_empty() { &terms.actions } else { &terms.things };
    things.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        assert_eq!(TABLE.len(), 17);
        for domain in TABLE.iter() {
            assert!(domain.relations.len() >= 9, "{:?}", domain.names);
        }
        let relations: usize = TABLE.iter().map(|domain| domain.relations.len()).sum();
        let written = include_str!("data/domains.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(relations, written.map(|line| line.matches('>').count()).sum::<usize>());
    }

    #[test]
    fn a_domain_is_found_by_its_names_and_an_unknown_one_is_read_from_words() {
        for name in ["music", "Musical composition", "songs"] {
            let found = domain_schema(name, "");
            assert_eq!(found.basis, DomainBasis::Table, "{name}");
            assert!(found.relations.iter().any(|relation| relation.first == "melody"), "{name}");
        }
        let unknown = domain_schema("falconry", "The glove protects the hand. Bells signal position");
        assert_eq!(unknown.basis, DomainBasis::Words);
        let said: Vec<(&str, &str, &str)> = unknown
            .relations
            .iter()
            .map(|relation| (relation.predicate.as_str(), relation.first.as_str(), relation.second.as_str()))
            .collect();
        assert_eq!(said, [("protects", "glove", "hand"), ("signals to", "bells", "position")]);
        assert!(domain_schema("falconry", "").relations.is_empty());
    }
}
