//! Decomposition of a task into sub-tasks.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{DecompositionStrategy, PlanDraft, SplitBy, SubTask, SubTaskDraft};
use crate::{agents::TaskType, dag};
use am_core::validation::{FieldPath, PathSegment, Violation, Violations, has_length};

/// Maximum number of sub-tasks of a plan.
const MAX_SUB_TASKS: usize = 100;

/// A decomposed task.
#[derive(Clone, Debug)]
pub struct TaskSplit {
    pub strategy: DecompositionStrategy,
    pub by: SplitBy,
    pub sub_tasks: Vec<SubTask>,
    /// Dependencies: for each sub-task the indices of those it depends on.
    pub depends_on: Vec<Vec<usize>>,
}

impl TaskSplit {
    /// Return the confidence in the decomposition before plans of its strategy have ended: given dependencies are
    /// right, named types are right, words of a description may mislead.
    pub fn assumed_confidence(&self) -> f64 {
        match (self.by, self.strategy) {
            (_, DecompositionStrategy::Given) => 0.95,
            (SplitBy::SubTasks, _) => 0.9,
            (SplitBy::TaskTypes, _) => 0.85,
            (SplitBy::Description, _) => 0.6,
        }
    }

    /// Return the sub-tasks by stage: those of a stage depend only on earlier ones.
    pub fn stages(&self) -> Vec<Vec<usize>> {
        let mut stage_of = vec![0usize; self.depends_on.len()];
        for at in dag::topological_order(&self.depends_on) {
            stage_of[at] = self.depends_on[at].iter().map(|other| stage_of[*other] + 1).max().unwrap_or(0);
        }
        let mut stages = vec![Vec::new(); stage_of.iter().max().map_or(0, |last| last + 1)];
        for (at, stage) in stage_of.iter().enumerate() {
            stages[*stage].push(at);
        }
        stages
    }
}

/// Prefixes of words, with the task type that they hint at.
const TYPE_HINTS: [(TaskType, &[&str]); 9] = [
    (TaskType::TextProcessing, &["text", "document", "translat", "summar", "article", "sentence", "writ"]),
    (TaskType::ImageProcessing, &["image", "photo", "picture", "thumbnail"]),
    (TaskType::AudioProcessing, &["audio", "speech", "sound", "transcri", "music"]),
    (TaskType::VideoProcessing, &["video", "film", "clip", "footage"]),
    (TaskType::DataAnalysis, &["data", "analy", "statisti", "csv", "chart"]),
    (TaskType::ModelInference, &["infer", "predict", "classif", "generat", "prompt"]),
    (TaskType::ModelTraining, &["train", "finetun", "fine-tun", "retrain"]),
    (TaskType::ComputeIntensive, &["simulat", "comput", "render", "optimi"]),
    (TaskType::IoBound, &["download", "upload", "fetch", "crawl", "copy"]),
];

/// Return the types that a description hints at, in their order of appearance; without a hint, the mixed type.
pub fn hinted_types(description: &str) -> Vec<TaskType> {
    let mut found = Vec::new();
    let text = description.to_lowercase();
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '-') {
        let hints = TYPE_HINTS.iter().filter(|(_, starts)| starts.iter().any(|start| word.starts_with(start)));
        for (task_type, _) in hints {
            if !found.contains(task_type) {
                found.push(*task_type);
            }
        }
    }
    if found.is_empty() { vec![TaskType::MixedModal] } else { found }
}

/// Return the phase of a type in the adaptive strategy.
fn adaptive_phase(task_type: TaskType) -> usize {
    match task_type {
        TaskType::IoBound => 0,
        TaskType::TextProcessing
        | TaskType::ImageProcessing
        | TaskType::AudioProcessing
        | TaskType::VideoProcessing => 1,
        TaskType::DataAnalysis | TaskType::ComputeIntensive => 2,
        TaskType::ModelTraining => 3,
        TaskType::ModelInference => 4,
        TaskType::MixedModal => 5,
    }
}

/// Return the dependencies: for each of `types` the indices of those it depends on.
pub fn dependency_order(strategy: DecompositionStrategy, types: &[TaskType]) -> Vec<Vec<usize>> {
    let count = types.len();
    let chain = || (0..count).map(|at| at.checked_sub(1).into_iter().collect()).collect();
    match strategy {
        DecompositionStrategy::Given | DecompositionStrategy::Parallel => vec![Vec::new(); count],
        DecompositionStrategy::Sequential | DecompositionStrategy::Pipeline => chain(),
        DecompositionStrategy::Hierarchical if count < 3 => chain(),
        DecompositionStrategy::Hierarchical => (0..count)
            .map(|at| match at {
                0 => Vec::new(),
                last if last == count - 1 => (1..last).collect(),
                _ => vec![0],
            })
            .collect(),
        DecompositionStrategy::Adaptive => {
            let mut phases = BTreeMap::<usize, Vec<usize>>::new();
            for (at, task_type) in types.iter().enumerate() {
                phases.entry(adaptive_phase(*task_type)).or_default().push(at);
            }
            let mut waits_for = vec![Vec::new(); count];
            let mut before: Vec<usize> = Vec::new();
            for members in phases.into_values() {
                for at in &members {
                    waits_for[*at].clone_from(&before);
                }
                before = members;
            }
            waits_for
        }
    }
}

/// Decompose the task of `draft`.
///
/// # Errors
/// Every fault that was found.
pub fn split_task(draft: &PlanDraft) -> Result<TaskSplit, Vec<Violation>> {
    let fault = |path: &'static str, message: String| vec![Violation::new([path], message)];
    if !draft.sub_tasks.is_empty() && !draft.task_types.is_empty() {
        return Err(fault("task_types", "give sub_tasks or task_types, not both".into()));
    }
    let (by, drafts) = if !draft.sub_tasks.is_empty() {
        (SplitBy::SubTasks, draft.sub_tasks.clone())
    } else if !draft.task_types.is_empty() {
        (SplitBy::TaskTypes, draft.task_types.iter().map(|one| draft_of_type(*one)).collect())
    } else {
        if draft.description.trim().is_empty() {
            return Err(fault("sub_tasks", "a task needs sub_tasks, task_types or a description".into()));
        }
        (SplitBy::Description, hinted_types(&draft.description).into_iter().map(draft_of_type).collect())
    };
    if drafts.len() > MAX_SUB_TASKS {
        return Err(fault(
            if by == SplitBy::SubTasks { "sub_tasks" } else { "task_types" },
            format!("at most {MAX_SUB_TASKS}"),
        ));
    }
    let ordered = drafts.iter().any(|one| one.depends_on.is_some());
    let strategy = match (draft.strategy, ordered) {
        (None | Some(DecompositionStrategy::Given), true) => DecompositionStrategy::Given,
        (Some(_), true) => {
            let why = "sub-tasks with depends_on have no other strategy: leave out the strategy, or depends_on";
            return Err(fault("strategy", why.into()));
        }
        (chosen, false) => chosen.unwrap_or(DecompositionStrategy::Adaptive),
    };
    let (sub_tasks, mut depends_on) = read_drafts(drafts)?;
    if !ordered {
        let types: Vec<TaskType> = sub_tasks.iter().map(|one| one.task_type).collect();
        depends_on = dependency_order(strategy, &types);
    }
    if let Some(cycle) = dag::find_cycle(&depends_on) {
        let keys: Vec<&str> = cycle.iter().map(|at| sub_tasks[*at].key.as_str()).collect();
        return Err(fault("sub_tasks", format!("depend on each other in a cycle: {}", keys.join(" -> "))));
    }
    let keys: Vec<String> = sub_tasks.iter().map(|one| one.key.clone()).collect();
    let named = sub_tasks
        .into_iter()
        .zip(&depends_on)
        .map(|(one, waits_for)| SubTask { depends_on: waits_for.iter().map(|at| keys[*at].clone()).collect(), ..one });
    Ok(TaskSplit { strategy, by, sub_tasks: named.collect(), depends_on })
}

fn draft_of_type(task_type: TaskType) -> SubTaskDraft {
    SubTaskDraft { task_type: Some(task_type), ..SubTaskDraft::default() }
}

/// Characters of a sub-task's key.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 1..=100;

/// Dependencies: for each sub-task the indices of those it depends on.
type DependencyOrder = Vec<Vec<usize>>;

/// Read the sub-tasks with their names and dependencies.
fn read_drafts(drafts: Vec<SubTaskDraft>) -> Result<(Vec<SubTask>, DependencyOrder), Vec<Violation>> {
    let mut violations = Violations::default();
    let keys = assign_keys(&drafts, &mut violations);
    let mut sub_tasks = Vec::with_capacity(drafts.len());
    let mut depends_on = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.into_iter().enumerate() {
        let mut bad = |member: &str, message: String| violations.add(in_sub_task(at, member), message);
        let Some(task_type) = draft.task_type else {
            bad("task_type", "is missing".into());
            continue;
        };
        let mut waits_for = Vec::new();
        for other in draft.depends_on.iter().flatten() {
            match keys.iter().position(|key| key == other) {
                Some(place) if waits_for.contains(&place) => {}
                Some(place) => waits_for.push(place),
                None => bad("depends_on", format!("there is no sub-task {other:?}")),
            }
        }
        let key = keys[at].clone();
        sub_tasks.push(SubTask {
            name: draft.name.unwrap_or_else(|| key.clone()),
            key,
            task_type,
            gpu_tier: draft.gpu_tier,
            agent_type: draft.agent_type,
            payload: draft.payload,
            depends_on: Vec::new(),
            estimated_seconds: draft.estimated_seconds,
            max_price: draft.max_price,
            timeout_seconds: draft.timeout_seconds.unwrap_or(300),
        });
        depends_on.push(waits_for);
    }
    violations.finish_with(Some((sub_tasks, depends_on)))
}

fn in_sub_task(at: usize, member: &str) -> FieldPath {
    [PathSegment::from("sub_tasks"), at.into(), member.into()].into()
}

/// Assign a key to each: the one sent, or its type, with a number where that is in use.
fn assign_keys(drafts: &[SubTaskDraft], violations: &mut Violations) -> Vec<String> {
    let mut taken: BTreeSet<String> = drafts.iter().filter_map(|draft| draft.key.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut keys = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.iter().enumerate() {
        let key = match &draft.key {
            Some(key) => {
                if !has_length(key, &KEY_LENGTH) {
                    violations.add(in_sub_task(at, "key"), "must have 1 to 100 characters");
                } else if !seen.insert(key.clone()) {
                    violations.add(in_sub_task(at, "key"), format!("{key:?} is there twice"));
                }
                key.clone()
            }
            None => {
                let kind = draft.task_type.map_or("sub_task", TaskType::value);
                let free = |key: &String| !taken.contains(key);
                let numbered = (2..).map(|number| format!("{kind}_{number}"));
                let key = std::iter::once(kind.to_owned()).chain(numbered).find(free).unwrap_or_default();
                taken.insert(key.clone());
                key
            }
        };
        keys.push(key);
    }
    keys
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;
    use crate::plans::model::{DecompositionStrategy, PlanPriority};
    use am_core::money::Money;

    pub fn draft() -> PlanDraft {
        PlanDraft {
            name: "n".into(),
            description: String::new(),
            strategy: None,
            sub_tasks: Vec::new(),
            task_types: Vec::new(),
            inputs: Map::new(),
            priority: PlanPriority::Normal,
            max_cost_budget: Money::ZERO,
            deadline: None,
        }
    }

    #[test]
    fn a_description_hints_at_types_in_its_order() {
        use TaskType::{AudioProcessing, DataAnalysis, IoBound, MixedModal, TextProcessing};
        let found = hinted_types("Download the recordings, transcribe them; then summarise and analyse the data.");
        assert_eq!(found, [IoBound, AudioProcessing, TextProcessing, DataAnalysis]);
        assert_eq!(hinted_types("Cook a dinner"), [MixedModal]);
    }

    #[test]
    fn strategies_put_sub_tasks_in_order() {
        use TaskType::{DataAnalysis, IoBound, ModelInference, TextProcessing};
        let types = [TextProcessing, IoBound, DataAnalysis, ModelInference];
        assert_eq!(dependency_order(DecompositionStrategy::Parallel, &types), vec![Vec::<usize>::new(); 4]);
        assert_eq!(dependency_order(DecompositionStrategy::Pipeline, &types), [vec![], vec![0], vec![1], vec![2]]);
        assert_eq!(
            dependency_order(DecompositionStrategy::Hierarchical, &types),
            [vec![], vec![0], vec![0], vec![1, 2]]
        );
        assert_eq!(dependency_order(DecompositionStrategy::Hierarchical, &types[..2]), [vec![], vec![0]]);
        assert_eq!(dependency_order(DecompositionStrategy::Adaptive, &types), [vec![1], vec![], vec![0], vec![2]]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let sub = |key: &str, depends_on: &[&str]| SubTaskDraft {
            key: Some(key.into()),
            task_type: Some(TaskType::IoBound),
            depends_on: Some(depends_on.iter().map(|other| (*other).to_owned()).collect()),
            ..SubTaskDraft::default()
        };
        let places = |draft: PlanDraft| -> Vec<String> {
            split_task(&draft).unwrap_err().iter().map(|one| one.path.to_string()).collect()
        };
        let with = |sub_tasks: Vec<SubTaskDraft>| PlanDraft { sub_tasks, ..draft() };
        assert_eq!(places(draft()), ["sub_tasks"]);
        assert_eq!(places(with(vec![sub("a", &["b"]), sub("b", &["a"])])), ["sub_tasks"]);
        assert_eq!(places(with(vec![sub("a", &["x"]), sub("a", &[])])), ["sub_tasks.1.key", "sub_tasks.0.depends_on"]);
        assert_eq!(places(with(vec![SubTaskDraft::default()])), ["sub_tasks.0.task_type"]);
        let both = PlanDraft { strategy: Some(DecompositionStrategy::Parallel), ..with(vec![sub("a", &[])]) };
        assert_eq!(places(both), ["strategy"]);
        let both = PlanDraft { task_types: vec![TaskType::IoBound], ..with(vec![sub("a", &[])]) };
        assert_eq!(places(both), ["task_types"]);
    }

    proptest! {
        #[test]
        fn whatever_is_split_is_whole_and_has_no_circle(
            which in prop::sample::select(DecompositionStrategy::ALL.to_vec()),
            types in prop::collection::vec(prop::sample::select(TaskType::ALL.to_vec()), 1..40),
            edges in prop::collection::vec((0usize..40, 0usize..40), 0..80),
        ) {
            let given = which == DecompositionStrategy::Given;
            let sub_tasks: Vec<SubTaskDraft> = types.iter().enumerate().map(|(at, task_type)| SubTaskDraft {
                key: given.then(|| format!("k{at}")),
                depends_on: given.then(|| edges.iter().filter(|(a, b)| *a == at && *b < at).map(|(_, b)| format!("k{b}")).collect()),
                ..draft_of_type(*task_type)
            }).collect();
            let strategy = (!given).then_some(which);
            let split = split_task(&PlanDraft { sub_tasks, strategy, ..draft() }).unwrap();
            prop_assert_eq!(split.strategy, which);
            prop_assert_eq!(split.sub_tasks.len(), types.len(), "none is lost");
            let keys: BTreeSet<&str> = split.sub_tasks.iter().map(|one| one.key.as_str()).collect();
            prop_assert_eq!(keys.len(), types.len(), "each has a key of its own");
            prop_assert_eq!(dag::find_cycle(&split.depends_on), None);
            let stages = split.stages();
            let mut covered: Vec<usize> = stages.concat();
            covered.sort_unstable();
            prop_assert_eq!(covered, (0..types.len()).collect::<Vec<_>>(), "each is in one stage");
            let stage_of = |at: usize| stages.iter().position(|stage| stage.contains(&at)).unwrap();
            for (at, waits_for) in split.depends_on.iter().enumerate() {
                prop_assert!(waits_for.iter().all(|other| stage_of(*other) < stage_of(at)));
                prop_assert_eq!(&split.sub_tasks[at].depends_on.len(), &waits_for.len());
            }
        }
    }
}
