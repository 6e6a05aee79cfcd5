//! What is asked of a new model, checked.

use am_core::validation::{PathSegment, Violations, has_length};
use am_rl::meta_learning::{MetaAlgorithm, MetaPlan, TaskFamily, TaskSource};

use super::model::{LearningStrategy, MetaModelDraft, TrainingOutline};
use crate::error::{PerformanceError, Result};

/// Length of a model's name in characters.
const NAME_LENGTH: std::ops::RangeInclusive<usize> = 1..=100;
/// Names of targets at most, where tasks are sent.
const MAX_TARGETS: usize = 20;
/// Length of a target's name in characters.
const TARGET_LENGTH: std::ops::RangeInclusive<usize> = 1..=100;
/// Length of an alias in characters.
const ALIAS_LENGTH: std::ops::RangeInclusive<usize> = 1..=50;

/// A checked model.
pub(super) struct CheckedModel {
    pub(super) name: String,
    pub(super) base_algorithms: Vec<String>,
    pub(super) meta_strategy: LearningStrategy,
    pub(super) adaptation_targets: Vec<String>,
    pub(super) plan: MetaPlan,
}

/// Whether a text can be an alias; numbers are versions.
pub fn is_alias(text: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    has_length(text, &ALIAS_LENGTH)
        && text.chars().all(letter)
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// The name of a model, without spaces around; no '@', which stands before a version.
pub(super) fn checked_name(name: &str, member: &str, violations: &mut Violations) -> String {
    let name = name.trim();
    let sound =
        has_length(name, &NAME_LENGTH) && !name.chars().any(|letter| letter.is_control() || "@/".contains(letter));
    violations.require(sound, member, "has 1 to 100 characters, no control characters, '@' or '/'");
    name.to_owned()
}

fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn checked_algorithm(draft: &MetaModelDraft, violations: &mut Violations) -> Option<MetaAlgorithm> {
    let allowed = draft.meta_strategy.algorithms();
    if allowed.is_empty() {
        let text = "unsupervised_learning is not served: all algorithms here learn from wanted outputs";
        violations.add("meta_strategy", text);
        return None;
    }
    let words = listed(allowed.iter().map(|algorithm| algorithm.word()));
    match &draft.base_algorithms[..] {
        [] => allowed.first().copied(),
        [word] => {
            let found = MetaAlgorithm::parse(word).filter(|algorithm| allowed.contains(algorithm));
            if found.is_none() {
                let place = [PathSegment::from("base_algorithms"), 0.into()];
                violations.add(place, format!("is one of those that {} has: {words}", draft.meta_strategy));
            }
            found
        }
        _ => {
            violations.add("base_algorithms", format!("names one algorithm, since a model is trained by one: {words}"));
            None
        }
    }
}

fn checked_family(draft: &MetaModelDraft, violations: &mut Violations) -> Option<TaskFamily> {
    let known = listed(TaskFamily::ALL.map(TaskFamily::word));
    let mut families = Vec::new();
    for (index, target) in draft.adaptation_targets.iter().take(MAX_TARGETS).enumerate() {
        let place = [PathSegment::from("adaptation_targets"), index.into()];
        match TaskFamily::parse(target) {
            Some(family) => families.push(family),
            None => violations.add(place, format!("is none of the families of tasks: {known}; or send tasks")),
        }
    }
    families.dedup();
    let one = families.len() == 1 && draft.adaptation_targets.len() <= MAX_TARGETS;
    let text = format!("names one family, since a model has inputs of one kind: {known}");
    violations.require(one || families.is_empty() && !draft.adaptation_targets.is_empty(), "adaptation_targets", text);
    families.first().copied()
}

fn check_target_names(draft: &MetaModelDraft, violations: &mut Violations) {
    violations.require(draft.adaptation_targets.len() <= MAX_TARGETS, "adaptation_targets", "has at most 20 names");
    for (index, target) in draft.adaptation_targets.iter().take(MAX_TARGETS).enumerate() {
        let sound = has_length(target.trim(), &TARGET_LENGTH) && !target.chars().any(char::is_control);
        let place = [PathSegment::from("adaptation_targets"), index.into()];
        violations.require(sound, place, "has 1 to 100 characters, no control characters");
    }
}

/// Check everything that was asked.
pub(super) fn checked(mut draft: MetaModelDraft) -> Result<CheckedModel> {
    let mut violations = Violations::default();
    let name = checked_name(&draft.model_name, "model_name", &mut violations);
    let algorithm = checked_algorithm(&draft, &mut violations);
    let source = match draft.tasks.take() {
        Some(tasks) => {
            check_target_names(&draft, &mut violations);
            Some(TaskSource::Sent(tasks))
        }
        None => checked_family(&draft, &mut violations).map(TaskSource::Family),
    };
    if draft.meta_strategy == LearningStrategy::ReinforcementLearning
        && source.as_ref().is_some_and(|source| !matches!(source, TaskSource::Family(family) if family.is_of_choices()))
    {
        violations
            .add("adaptation_targets", "is bandits or an environment of the marketplace for reinforcement_learning");
    }
    let settings = draft.settings.take().unwrap_or_default();
    // Faults of settings and tasks are told beside those above, with an algorithm that fits any task in place of an unknown one.
    let plan = MetaPlan {
        algorithm: algorithm.unwrap_or(MetaAlgorithm::Maml),
        settings: settings.complete(algorithm.unwrap_or(MetaAlgorithm::Maml)),
        source: source.unwrap_or(TaskSource::Family(TaskFamily::SinusoidRegression)),
        seed: draft.seed.unwrap_or(0),
    };
    violations.take(plan.check());
    violations.finish().map_err(PerformanceError::Invalid)?;
    let MetaModelDraft { base_algorithms, meta_strategy, adaptation_targets, .. } = draft;
    Ok(CheckedModel { name, base_algorithms, meta_strategy, adaptation_targets, plan })
}

/// A plan without the tasks that were sent.
pub(super) fn outline(plan: &MetaPlan) -> TrainingOutline {
    let (family, sent_tasks) = match &plan.source {
        TaskSource::Family(family) => (Some(*family), None),
        TaskSource::Sent(tasks) => (None, Some(tasks.len() as u64)),
    };
    let (algorithm, settings, seed) = (plan.algorithm, plan.settings.clone(), plan.seed);
    TrainingOutline { algorithm, settings, family, sent_tasks, seed }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(more: Value) -> Vec<String> {
        let mut body = json!({
            "model_name": "m", "base_algorithms": [], "meta_strategy": "meta_learning", "adaptation_targets": ["bandits"],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match checked(serde_json::from_value(body).unwrap()) {
            Ok(_) => Vec::new(),
            Err(PerformanceError::Invalid(found)) => found.iter().map(|one| one.path.to_string()).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_fault_names_its_place() {
        assert!(faults(json!({})).is_empty());
        let market = json!({"meta_strategy": "reinforcement_learning", "adaptation_targets": ["price-optimization"]});
        assert!(faults(market).is_empty());
        assert_eq!(faults(json!({"model_name": " a@b "})), ["model_name"]);
        assert_eq!(faults(json!({"adaptation_targets": ["bandits", "weather"]})), ["adaptation_targets.1"]);
        assert_eq!(faults(json!({"adaptation_targets": ["bandits", "regression"]})), ["adaptation_targets"]);
        assert_eq!(faults(json!({"adaptation_targets": []})), ["adaptation_targets"]);
        assert_eq!(faults(json!({"base_algorithms": ["magic"]})), ["base_algorithms.0"]);
        assert_eq!(faults(json!({"base_algorithms": ["maml", "reptile"]})), ["base_algorithms"]);
        assert_eq!(faults(json!({"base_algorithms": ["prototypical"]})), ["base_algorithms"]);
        assert_eq!(faults(json!({"meta_strategy": "unsupervised_learning"})), ["meta_strategy"]);
        assert_eq!(
            faults(json!({"meta_strategy": "reinforcement_learning", "adaptation_targets": ["regression"]})),
            ["adaptation_targets"]
        );
        let settings = json!({"iterations": 0, "inner_rate": 0, "hidden": [0], "ways": 1, "separation": -1});
        let places =
            ["iterations", "ways", "hidden", "inner_rate", "separation"].map(|name| format!("settings.{name}"));
        assert_eq!(faults(json!({"settings": settings})), places);
    }

    #[test]
    fn tasks_of_other_shapes_are_told_with_their_place() {
        let set = |inputs: Value, targets: Value| json!({"inputs": inputs, "targets": targets});
        let good = set(json!([[1.0], [2.0]]), json!([[1.0], [4.0]]));
        let task = |support: &Value, query: &Value| json!({"support": support, "query": query});
        let with =
            |second: Value| faults(json!({"tasks": [task(&good, &good), second], "adaptation_targets": ["squares"]}));
        assert!(with(task(&good, &good)).is_empty());
        let wide = set(json!([[1.0, 1.0], [2.0, 2.0]]), json!([[1.0], [4.0]]));
        assert_eq!(with(task(&wide, &good)), ["tasks.1.support.inputs"]);
        let ragged = set(json!([[1.0], [2.0, 2.0]]), json!([[1.0], [4.0]]));
        assert_eq!(with(task(&good, &ragged)), ["tasks.1.query.inputs.1"]);
        let short = set(json!([[1.0], [2.0]]), json!([[1.0]]));
        assert_eq!(with(task(&short, &good)), ["tasks.1.support.targets"]);
        let huge = set(json!([[1.0], [1e300]]), json!([[1.0], [4.0]]));
        assert_eq!(with(task(&huge, &good)), ["tasks.1.support.inputs.1.0"]);
        let classes = json!({"inputs": [[1.0], [2.0]], "labels": [0, 1]});
        assert_eq!(with(task(&classes, &good)).first().unwrap(), "tasks.1.support.labels");
        assert_eq!(faults(json!({"tasks": [task(&good, &good)]})), ["tasks"]);
    }
}
