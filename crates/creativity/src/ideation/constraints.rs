//! Constraints of an order, and what an idea's words say about them.
//!
//! A text asks for its words: it is satisfied where at least half of its content words occur in the idea, in any form; under a
//! name such as `must_not`, `avoid` or `exclude` it is broken where all of them do. A number, a text with a number or `false` under the
//! name of a resource (`budget`, `deadline`, `staff`) is broken by ideas of a principle that demands that resource. Nothing else
//! can be judged by words.

use serde_json::{Map, Value};

use crate::{
    measures::words::{content_words, words},
    problem_terms::stem,
};

/// Words in a constraint's name that turn it round.
const NEGATIONS: [&str; 9] =
    ["avoid", "exclude", "excluded", "forbidden", "no", "not", "prohibited", "without", "banned"];
/// Resources with the words that name them.
const RESOURCES: [(&str, &[&str]); 7] = [
    ("money", &["budget", "cost", "costs", "money", "price", "investment"]),
    ("time", &["time", "deadline", "duration", "days", "weeks", "months"]),
    ("people", &["staff", "people", "team", "headcount", "personnel"]),
    ("equipment", &["equipment", "machine", "machines", "tools", "hardware"]),
    ("material", &["material", "materials"]),
    ("software", &["software", "code", "computers"]),
    ("space", &["space", "area", "room"]),
];

/// What a constraint asks of an idea.
enum ConstraintDemand {
    /// These texts, each as stems of its content words.
    Words(Vec<Vec<String>>),
    /// Not these texts.
    NotWords(Vec<Vec<String>>),
    /// No principle that demands the resource.
    Resource(&'static str),
}

/// The constraints of an order.
pub(super) struct IdeaConstraints {
    judged: Vec<(String, ConstraintDemand)>,
    /// Names of those that words can't decide on.
    pub(super) unjudged: Vec<String>,
    /// Texts that are asked for, which ideas are made of.
    pub(super) wanted: Vec<String>,
}

/// Which constraints an idea satisfies and which it breaks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConstraintResult {
    pub(super) satisfied: Vec<String>,
    pub(super) violated: Vec<String>,
}

impl ConstraintResult {
    /// Share of those that were judged; `None` if none was.
    pub(super) fn feasibility(&self) -> Option<f64> {
        let judged = self.satisfied.len() + self.violated.len();
        (judged > 0).then(|| self.satisfied.len() as f64 / judged as f64)
    }
}

fn stems(text: &str) -> Vec<String> {
    content_words(text).iter().map(|word| stem(word).to_owned()).collect()
}

/// The texts of a value; `None` if it is neither a text nor a list with one.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => {
            let found: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            (!found.is_empty()).then_some(found)
        }
        _ => None,
    }
}

/// The resource that a name says, if the value bounds it.
fn bounded_resource(name: &[String], value: &Value) -> Option<&'static str> {
    let bounds = match value {
        Value::Number(_) | Value::Bool(false) => true,
        Value::String(text) => text.chars().any(|letter| letter.is_ascii_digit()),
        _ => false,
    };
    let named = |(_, words): &&(&str, &[&str])| name.iter().any(|word| words.contains(&word.as_str()));
    RESOURCES.iter().find(named).filter(|_| bounds).map(|(resource, _)| *resource)
}

impl IdeaConstraints {
    pub(super) fn of(constraints: &Map<String, Value>) -> Self {
        let mut found = Self { judged: Vec::new(), unjudged: Vec::new(), wanted: Vec::new() };
        for (name, value) in constraints {
            let words = words(&name.replace('_', " "));
            if let Some(resource) = bounded_resource(&words, value) {
                found.judged.push((name.clone(), ConstraintDemand::Resource(resource)));
                continue;
            }
            let texts = texts(value).unwrap_or_default();
            let stems: Vec<Vec<String>> =
                texts.iter().map(|text| stems(text)).filter(|stems| !stems.is_empty()).collect();
            if stems.is_empty() {
                found.unjudged.push(name.clone());
            } else if words.iter().any(|word| NEGATIONS.contains(&word.as_str())) {
                found.judged.push((name.clone(), ConstraintDemand::NotWords(stems)));
            } else {
                found.wanted.extend(texts.iter().map(|text| content_words(text).join(" ")));
                found.judged.push((name.clone(), ConstraintDemand::Words(stems)));
            }
        }
        found.wanted.retain(|text| !text.is_empty());
        found
    }

    /// Judge an idea. `demands` is the resource that its principle demands, empty if none; `None`: it is not known.
    pub(super) fn check(&self, idea: &str, demands: Option<&str>) -> ConstraintResult {
        let stems = stems(idea);
        let share =
            |text: &[String]| text.iter().filter(|stem| stems.contains(stem)).count() as f64 / text.len() as f64;
        let mut result = ConstraintResult::default();
        for (name, demand) in &self.judged {
            let holds = match demand {
                ConstraintDemand::Words(texts) => texts.iter().all(|text| share(text) >= 0.5),
                ConstraintDemand::NotWords(texts) => texts.iter().all(|text| share(text) < 1.0),
                ConstraintDemand::Resource(resource) => match demands {
                    Some(demanded) => demanded != *resource,
                    None => continue,
                },
            };
            if holds { &mut result.satisfied } else { &mut result.violated }.push(name.clone());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn constraints(value: Value) -> IdeaConstraints {
        IdeaConstraints::of(value.as_object().unwrap())
    }

    #[test]
    fn words_are_asked_for_or_forbidden() {
        let found = constraints(json!({"must_use": ["cardboard boxes"], "must_not": "loud fans", "mood": 3, "x": {}}));
        assert_eq!((found.unjudged.len(), found.wanted.len()), (2, 1));
        let good = found.check("A box of cardboard with a fan", Some(""));
        assert_eq!((good.satisfied.len(), good.feasibility()), (2, Some(1.0)));
        let bad = found.check("The fan is loud", Some(""));
        assert_eq!((bad.violated.len(), bad.feasibility()), (2, Some(0.0)));
    }

    #[test]
    fn a_bounded_resource_is_broken_by_what_demands_it() {
        let found =
            constraints(json!({"max_budget": 500, "deadline": "3 days", "new_software": false, "materials": ["wood"]}));
        let result = found.check("Wood", Some("money"));
        assert_eq!((result.satisfied.len(), result.violated), (3, vec!["max_budget".to_owned()]));
        // What a language model wrote has no principle whose demands are known.
        assert_eq!(found.check("Wood", None).satisfied, ["materials"]);
        assert_eq!(constraints(json!({"n": 1})).check("Wood", None).feasibility(), None);
    }
}
