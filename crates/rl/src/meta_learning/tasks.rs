//! Tasks: a set of examples to learn from, and one to be measured by.

use am_core::validation::{FieldPath, PathSegment, Violations};
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};
use utoipa::ToSchema;

/// Tasks of a request at most.
const MAX_TASKS: usize = 500;
/// Fewest tasks of a request: one of them is held out.
const MIN_TASKS: usize = 2;
/// Examples of a set at most.
const MAX_EXAMPLES: usize = 500;
/// Numbers of an example at most.
const MAX_NUMBERS: usize = 256;
/// Classes of a task at most.
const MAX_CLASSES: u32 = 50;
/// Numbers of all tasks of a request at most.
const MAX_ALL_NUMBERS: usize = 40_000;
/// Largest number, whose square is exact enough in 32 bits.
const MAX_NUMBER: f64 = 1e6;

/// What is learnt from examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Numbers; the loss is the mean squared error.
    Regression,
    /// Classes; the loss is the cross entropy.
    Classification,
    /// Arms of a bandit and what they pay; the loss is the mean squared error.
    Bandits,
    /// Actions in states of a market and what they pay at once; the loss is the mean squared error.
    MarketActions,
}

/// Sizes of a network and its tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TaskShape {
    /// Numbers of an example.
    pub(super) inputs: usize,
    /// Numbers that are answered, or classes.
    pub(super) outputs: usize,
    /// What is learnt.
    pub(super) kind: TaskKind,
}

/// Examples: inputs, and either numbers or a class for each of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskExamples {
    /// One row of numbers for each example, all of one length, 1 to 256; at most 500 examples.
    pub inputs: Vec<Vec<f64>>,
    /// One row of wanted numbers for each example, all of one length; null for classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<Vec<f64>>>,
    /// The class of each example, counted from 0, at most 50 classes; null for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<u32>>,
}

/// A task: what is learnt from, and what is measured by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LearningTask {
    /// The examples that are learnt from.
    pub support: TaskExamples,
    /// Other examples of the same task, which tell how well it was learnt.
    pub query: TaskExamples,
}

impl TaskExamples {
    pub(super) fn kind(&self) -> TaskKind {
        if self.labels.is_some() { TaskKind::Classification } else { TaskKind::Regression }
    }

    fn width(&self) -> usize {
        self.inputs.first().map_or(0, Vec::len)
    }

    fn target_width(&self) -> Option<usize> {
        self.targets.as_ref().and_then(|rows| rows.first()).map(Vec::len)
    }

    fn classes(&self) -> u32 {
        self.labels.iter().flatten().max().map_or(0, |most| most.saturating_add(1))
    }

    /// Check the set by itself; places are told from `place`.
    fn check(&self, place: &[PathSegment], violations: &mut Violations) {
        let at = |rest: &[PathSegment]| place.iter().chain(rest).cloned().collect::<FieldPath>();
        let count = self.inputs.len();
        violations.require((1..=MAX_EXAMPLES).contains(&count), at(&["inputs".into()]), "has 1 to 500 examples");
        check_rows(&self.inputs, self.width(), "inputs", place, violations);
        match (&self.targets, &self.labels) {
            (Some(rows), None) => {
                let message = format!("has {} rows for {count} inputs", rows.len());
                violations.require(rows.len() == count, at(&["targets".into()]), message);
                check_rows(rows, self.target_width().unwrap_or(0), "targets", place, violations);
            }
            (None, Some(labels)) => {
                let message = format!("has {} classes for {count} inputs", labels.len());
                violations.require(labels.len() == count, at(&["labels".into()]), message);
                if let Some(row) = labels.iter().position(|label| *label >= MAX_CLASSES) {
                    violations.add(at(&["labels".into(), row.into()]), "is below 50");
                }
            }
            (Some(_), Some(_)) => violations.add(at(&["labels".into()]), "stands beside targets: send one of the two"),
            (None, None) => violations.add(at(&["targets".into()]), "is missing: send targets or labels"),
        }
    }
}

/// Check that rows are of one width and have finite numbers; the first fault is told.
fn check_rows(rows: &[Vec<f64>], width: usize, name: &str, place: &[PathSegment], violations: &mut Violations) {
    let at = |row: usize| place.iter().cloned().chain([name.into(), row.into()]);
    if let Some(row) = rows.iter().position(|row| row.len() != width || !(1..=MAX_NUMBERS).contains(&row.len())) {
        let message = format!("has {} numbers, where the first row has {width}; 1 to 256 are taken", rows[row].len());
        violations.add(at(row).collect::<FieldPath>(), message);
        return;
    }
    let wrong = rows.iter().enumerate().find_map(|(row, numbers)| {
        let column = numbers.iter().position(|number| !number.is_finite() || number.abs() > MAX_NUMBER)?;
        Some((row, column))
    });
    if let Some((row, column)) = wrong {
        violations.add(at(row).chain([column.into()]).collect::<FieldPath>(), "is finite, -1000000 to 1000000");
    }
}

impl LearningTask {
    pub(super) fn classes(&self) -> usize {
        self.support.classes().max(self.query.classes()) as usize
    }

    fn numbers(&self) -> usize {
        [&self.support, &self.query]
            .map(|set| set.inputs.len() * (set.width() + set.target_width().unwrap_or(1)))
            .iter()
            .sum()
    }
}

/// Check tasks that were sent as `tasks`: each by itself, and that all are of the size of the first.
pub fn check_tasks(tasks: &[LearningTask], violations: &mut Violations) {
    violations.require(
        (MIN_TASKS..=MAX_TASKS).contains(&tasks.len()),
        "tasks",
        "has 2 to 500 tasks, since some are held out of the training",
    );
    let numbers: usize = tasks.iter().map(LearningTask::numbers).sum();
    violations.require(numbers <= MAX_ALL_NUMBERS, "tasks", "has at most 40000 numbers");
    let Some(first) = tasks.first() else { return };
    for (index, task) in tasks.iter().enumerate() {
        for (name, set, wanted) in [("support", &task.support, &first.support), ("query", &task.query, &first.query)] {
            let place: [PathSegment; 3] = ["tasks".into(), index.into(), name.into()];
            set.check(&place, violations);
            check_same_shape(set, (&first.support, wanted.inputs.len()), &place, violations);
        }
        check_classes(&task.support, task.classes(), first.classes(), &["tasks".into(), index.into()], violations);
    }
}

/// Check that a set has the width, kind and number of examples of another.
fn check_same_shape(
    set: &TaskExamples,
    (wanted, count): (&TaskExamples, usize),
    place: &[PathSegment],
    violations: &mut Violations,
) {
    let at = |name: &str| place.iter().cloned().chain([name.into()]).collect::<FieldPath>();
    let (width, expected) = (set.width(), wanted.width());
    violations.require(width == expected, at("inputs"), format!("has {width} numbers an example, not {expected}"));
    violations.require(set.inputs.len() == count, at("inputs"), format!("has {count} examples in each task"));
    violations.require(set.kind() == wanted.kind(), at("labels"), "is sent by all sets or by none");
    let (width, expected) = (set.target_width(), wanted.target_width());
    violations.require(width == expected, at("targets"), "has as many numbers a row as those of the first task");
}

/// Check that each class has an example to learn from.
fn check_classes(
    support: &TaskExamples,
    classes: usize,
    expected: usize,
    place: &[PathSegment],
    violations: &mut Violations,
) {
    let Some(labels) = &support.labels else { return };
    let at = place.iter().cloned().chain(["support".into(), "labels".into()]).collect::<FieldPath>();
    if classes != expected {
        return violations.add(at, format!("has {classes} classes, where the first task has {expected}"));
    }
    if let Some(missing) = (0..classes as u32).find(|class| !labels.contains(class)) {
        violations.add(at, format!("has no example of class {missing}"));
    }
}

/// Check the sets of one task for a network of this many inputs and outputs.
pub fn check_support(
    task: &LearningTask,
    with_query: bool,
    (inputs, outputs, kind): (usize, usize, TaskKind),
    violations: &mut Violations,
) {
    let classes = kind == TaskKind::Classification;
    for (name, set) in [("support", &task.support), ("query", &task.query)] {
        if name == "query" && !with_query {
            continue;
        }
        let place: [PathSegment; 1] = [name.into()];
        set.check(&place, violations);
        let width = set.width();
        violations.require(width == inputs, [name, "inputs"], format!("has {width} numbers an example, not {inputs}"));
        violations.require(set.labels.is_some() == classes, [name, "labels"], "is sent for classes, and only then");
        if classes {
            let message = format!("has classes from 0 to {}", outputs.saturating_sub(1));
            violations.require(set.classes() as usize <= outputs, [name, "labels"], message);
        } else {
            let message = format!("has {outputs} numbers a row");
            violations.require(set.target_width() == Some(outputs), [name, "targets"], message);
        }
    }
    check_classes(&task.support, outputs.max(task.classes()), outputs, &[], violations);
}

/// What is wanted of a batch of tasks.
pub(super) enum WantedOutputs {
    /// Numbers, tasks x examples x outputs.
    Numbers(Tensor),
    /// Classes, tasks x examples.
    Classes(Tensor),
}

/// One set of each task of a batch.
pub(super) struct ExampleBatch {
    /// Tasks x examples x inputs.
    pub(super) inputs: Tensor,
    pub(super) wanted: WantedOutputs,
}

/// Several tasks of one shape.
pub(super) struct TaskBatch {
    pub(super) support: ExampleBatch,
    pub(super) query: ExampleBatch,
    /// Share of the query examples that the best rule gets right, which knows what the tasks were drawn from; `None`: there is none
    /// to compute.
    pub(super) best_share: Option<f64>,
}

/// Numbers of a set of several tasks, one after the other.
#[derive(Default)]
pub(super) struct ExampleNumbers {
    pub(super) inputs: Vec<f32>,
    pub(super) numbers: Vec<f32>,
    pub(super) classes: Vec<i64>,
}

impl ExampleNumbers {
    /// The tensors of `tasks` tasks with `width` numbers an example and `outputs` wanted ones.
    pub(super) fn batch(&self, tasks: usize, width: usize, outputs: usize) -> Result<ExampleBatch, TchError> {
        let tasks = tasks as i64;
        let inputs = Tensor::f_from_slice(&self.inputs)?.f_view([tasks, -1, width as i64])?;
        let wanted = if self.classes.is_empty() {
            WantedOutputs::Numbers(Tensor::f_from_slice(&self.numbers)?.f_view([tasks, -1, outputs as i64])?)
        } else {
            WantedOutputs::Classes(Tensor::f_from_slice(&self.classes)?.f_view([tasks, -1])?)
        };
        Ok(ExampleBatch { inputs, wanted })
    }

    fn add(&mut self, set: &TaskExamples) {
        self.inputs.extend(set.inputs.iter().flatten().map(|number| *number as f32));
        self.numbers.extend(set.targets.iter().flatten().flatten().map(|number| *number as f32));
        self.classes.extend(set.labels.iter().flatten().map(|label| i64::from(*label)));
    }
}

impl TaskBatch {
    /// The batch of some tasks that were sent; their sets have one shape. A task without query examples is measured by its support.
    pub(super) fn sent(tasks: &[&LearningTask], width: usize, outputs: usize) -> Result<Self, TchError> {
        let (mut support, mut query) = (ExampleNumbers::default(), ExampleNumbers::default());
        for task in tasks {
            support.add(&task.support);
            query.add(if task.query.inputs.is_empty() { &task.support } else { &task.query });
        }
        let count = tasks.len();
        let (support, query) = (support.batch(count, width, outputs)?, query.batch(count, width, outputs)?);
        Ok(Self { support, query, best_share: None })
    }
}

impl ExampleBatch {
    pub(super) fn tasks(&self) -> i64 {
        self.inputs.size()[0]
    }

    /// Both sets of each task as one.
    pub(super) fn joined(&self, other: &Self) -> Result<Self, TchError> {
        let inputs = Tensor::f_cat(&[&self.inputs, &other.inputs], 1)?;
        let wanted = match (&self.wanted, &other.wanted) {
            (WantedOutputs::Numbers(one), WantedOutputs::Numbers(other)) => {
                WantedOutputs::Numbers(Tensor::f_cat(&[one, other], 1)?)
            }
            (WantedOutputs::Classes(one), WantedOutputs::Classes(other)) => {
                WantedOutputs::Classes(Tensor::f_cat(&[one, other], 1)?)
            }
            _ => return Err(TchError::Torch("numbers and classes in one task".to_owned())),
        };
        Ok(Self { inputs, wanted })
    }

    /// The loss of each task: mean squared error, or cross entropy.
    pub(super) fn losses(&self, outputs: &Tensor) -> Result<Tensor, TchError> {
        match &self.wanted {
            WantedOutputs::Numbers(wanted) => {
                outputs.f_sub(wanted)?.f_square()?.f_mean_dim(&[1i64, 2][..], false, None)
            }
            WantedOutputs::Classes(classes) => {
                let each = outputs.f_log_softmax(-1, None)?.f_gather(-1, &classes.f_unsqueeze(-1)?, false)?;
                each.f_mean_dim(&[1i64, 2][..], false, None)?.f_neg()
            }
        }
    }
}
