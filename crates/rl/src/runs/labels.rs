//! Names and tags of training runs, and the labels that runs are found by: a tag, or a word of the name.

use std::collections::BTreeSet;

use am_core::validation::{Violations, has_length};
use serde::{Deserialize, Serialize};

/// Maximum length of a name, in characters.
const MAX_NAME_CHARACTERS: usize = 120;
/// Maximum number of tags of a run.
const MAX_TAGS: usize = 20;
/// Maximum length of a tag, in characters.
const MAX_TAG_CHARACTERS: usize = 64;

/// Name and tags of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLabels {
    /// Name of the run; `None`: it has none.
    pub name: Option<String>,
    /// Tags in the order in which they were given, each once.
    pub tags: Vec<String>,
}

/// Changes to a run's name and tags. Members that are `None` stay unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelChange {
    /// New name; `Some(None)`: no name any more.
    pub name: Option<Option<String>>,
    /// All tags, instead of the present ones.
    pub tags: Option<Vec<String>>,
}

/// Whether a text is a tag: it stands in addresses and names of files.
fn is_tag(text: &str) -> bool {
    has_length(text, &(1..=MAX_TAG_CHARACTERS))
        && text.starts_with(char::is_alphanumeric)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '='))
}

/// The words of a text, in lower case.
fn words_of(text: &str) -> impl Iterator<Item = String> + use<'_> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

impl RunLabels {
    /// What is wrong with them: the faults of `name` and `tags`.
    pub fn faults(&self) -> Violations {
        let mut violations = Violations::default();
        if let Some(name) = &self.name {
            let fits = has_length(name, &(1..=MAX_NAME_CHARACTERS)) && !name.chars().any(char::is_control);
            let text = format!("must have 1 to {MAX_NAME_CHARACTERS} characters, none of them a control character");
            violations.require(fits && !name.trim().is_empty(), "name", text);
        }
        violations.require(self.tags.len() <= MAX_TAGS, "tags", format!("at most {MAX_TAGS} tags"));
        let mut seen = BTreeSet::new();
        for (at, tag) in self.tags.iter().enumerate() {
            let path = || am_core::validation::FieldPath::from([at]).within(["tags"]);
            let form = format!(
                "must have 1 to {MAX_TAG_CHARACTERS} letters, digits, '.', '_', '-', ':' or '=', and begin with a letter or a digit"
            );
            violations.require(is_tag(tag), path(), form);
            violations.require(seen.insert(tag), path(), "is named twice");
        }
        violations
    }

    /// The same with a change.
    #[must_use]
    pub fn changed(self, change: LabelChange) -> Self {
        Self { name: change.name.unwrap_or(self.name), tags: change.tags.unwrap_or(self.tags) }
    }

    /// The labels that a run with these is found by.
    pub(super) fn labels(&self) -> BTreeSet<String> {
        wanted_labels(self.name.as_deref(), &self.tags)
    }
}

/// The labels that a run must have to be found by the words of a name and by tags.
pub fn wanted_labels(name: Option<&str>, tags: &[String]) -> BTreeSet<String> {
    let words = name.into_iter().flat_map(words_of).map(|word| format!("word:{word}"));
    words.chain(tags.iter().map(|tag| format!("tag:{tag}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: Option<&str>, tags: &[&str]) -> RunLabels {
        RunLabels { name: name.map(str::to_owned), tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
    }

    #[test]
    fn faults_name_the_member() {
        assert_eq!(
            labels(Some("Größere Netze, 2. Versuch"), &["team:pricing", "größe=8", "v1.2"]).faults(),
            Violations::default()
        );
        let many: Vec<String> = (0..=MAX_TAGS).map(|at| format!("t{at}")).collect();
        let long = "n".repeat(MAX_NAME_CHARACTERS + 1);
        for (wrong, place) in [
            (labels(Some(""), &[]), "name: "),
            (labels(Some("   "), &[]), "name: "),
            (labels(Some("a\nb"), &[]), "name: "),
            (labels(Some(&long), &[]), "name: "),
            (labels(None, &["a", "b c"]), "tags.1: must have"),
            (labels(None, &["../x"]), "tags.0: must have"),
            (labels(None, &["a/b"]), "tags.0: must have"),
            (labels(None, &["a", "b", "a"]), "tags.2: is named twice"),
            (RunLabels { name: None, tags: many }, "tags: at most"),
        ] {
            let found: Vec<_> = wrong.faults().into();
            let text = am_core::validation::join(&found);
            assert!(text.starts_with(place), "{wrong:?}: {text}");
        }
    }

    #[test]
    fn runs_are_found_by_tags_and_by_words_in_any_case() {
        let run = labels(Some("Bigger nets: bigger RATE"), &["Team:a"]);
        let found: Vec<String> = run.labels().into_iter().collect();
        assert_eq!(found, ["tag:Team:a", "word:bigger", "word:nets", "word:rate"]);
        assert!(wanted_labels(Some("rate BIGGER"), &["Team:a".to_owned()]).is_subset(&run.labels()));
        assert!(!wanted_labels(Some("rat"), &[]).is_subset(&run.labels()), "whole words");
        assert!(!wanted_labels(None, &["team:a".to_owned()]).is_subset(&run.labels()), "tags have their case");
        assert!(wanted_labels(Some("--"), &[]).is_empty());
    }

    #[test]
    fn what_is_not_changed_stays() {
        let run = labels(Some("a"), &["x"]);
        assert_eq!(run.clone().changed(LabelChange::default()), run);
        let unnamed = run.clone().changed(LabelChange { name: Some(None), tags: None });
        assert_eq!(unnamed, labels(None, &["x"]));
        assert_eq!(run.changed(LabelChange { name: None, tags: Some(Vec::new()) }), labels(Some("a"), &[]));
    }
}
