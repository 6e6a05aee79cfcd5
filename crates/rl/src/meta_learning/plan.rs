//! What is trained: the algorithm, its settings, and where tasks come from.

use am_core::validation::{Violation, Violations};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    families::{FamilyShape, TaskFamily},
    tasks::{LearningTask, TaskExamples, TaskKind, TaskShape, check_tasks},
};

/// Iterations of a training at most.
const MAX_ITERATIONS: u64 = 200_000;
/// Tasks of one iteration at most.
const MAX_BATCH_TASKS: u64 = 256;
/// Hidden layers at most, and units of each.
const MAX_HIDDEN_LAYERS: usize = 4;
/// Units of a hidden layer at most.
const MAX_UNITS: u64 = 128;
/// Inner steps of the training at most.
const MAX_INNER_STEPS: u64 = 20;
/// Support examples of a drawn task (of each class) at most, and query examples.
const MAX_SHOTS: u64 = 100;
/// Classes or arms of a task at most.
const MAX_WAYS: u64 = 20;

/// Products of an iteration at most: tasks, their examples, parameters and steps; some tenths of a second.
const MAX_ITERATION_PRODUCTS: u64 = 500_000_000;

/// An algorithm of meta-learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetaAlgorithm {
    /// MAML (Finn, Abbeel, Levine 2017, arXiv:1703.03400), with the second derivatives.
    Maml,
    /// MAML without the second derivatives.
    FirstOrderMaml,
    /// Meta-SGD (Li et al. 2017, arXiv:1707.09835): MAML that learns a step size for each parameter too.
    MetaSgd,
    /// Reptile (Nichol, Achiam, Schulman 2018, arXiv:1803.02999): moves to the mean of what inner steps reach. With clients in
    /// place of tasks, this is federated averaging.
    Reptile,
    /// Prototypical networks (Snell, Swersky, Zemel 2017, arXiv:1703.05175): the nearest mean of a class in a learnt space.
    PrototypicalNetworks,
    /// Plain training on the examples of all tasks, as if they were one; it is adapted by gradient steps afterwards. What transfer
    /// learning does, and what the others are compared with.
    Pretraining,
}

impl MetaAlgorithm {
    /// All algorithms that are served.
    pub const ALL: [Self; 6] =
        [Self::Maml, Self::FirstOrderMaml, Self::MetaSgd, Self::Reptile, Self::PrototypicalNetworks, Self::Pretraining];

    /// Its word in requests and files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Maml => "maml",
            Self::FirstOrderMaml => "first_order_maml",
            Self::MetaSgd => "meta_sgd",
            Self::Reptile => "reptile",
            Self::PrototypicalNetworks => "prototypical_networks",
            Self::Pretraining => "pretraining",
        }
    }

    /// The algorithm of a word, in either case, with spaces or hyphens for underscores; the usual short names are known too.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.trim().to_lowercase().replace(['-', ' '], "_");
        let short = match word.as_str() {
            "fomaml" => "first_order_maml",
            "metasgd" => "meta_sgd",
            "prototypical" | "protonet" | "prototypical_network" => "prototypical_networks",
            other => other,
        };
        Self::ALL.into_iter().find(|algorithm| algorithm.word() == short)
    }
}

/// Settings of a training; what is left out has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(default)]
pub struct MetaSettings {
    /// Number of units of each hidden layer, with ReLU between: at most 4 layers of 1 to 128. Default `[40, 40]`.
    pub hidden: Vec<u64>,
    /// Number of meta-iterations, 1 to 200000. Default 10000.
    pub iterations: u64,
    /// Number of tasks of an iteration, 1 to 256. Default 25.
    pub tasks_per_iteration: u64,
    /// Number of gradient steps inside a task while training, 1 to 20. Default 1.
    pub inner_steps: u64,
    /// Step size of the gradient steps inside a task, above 0 to 1. Default 0.01.
    pub inner_rate: f64,
    /// Learning rate of the meta-parameters, above 0 to 1: constant for the first half, then falling to 0 along a cosine. Default
    /// 0.003; 0.1 to 1 is usual for `reptile`.
    pub outer_rate: f64,
    /// Number of support examples of a drawn task (of each class, for classes), 1 to 100. Default 10.
    pub shots: u64,
    /// Number of query examples of a drawn task (of each class, for classes), 1 to 100. Default 10.
    pub queries: u64,
    /// Number of classes or arms of a drawn task, 2 to 20. Default 5.
    pub ways: u64,
    /// Deviation of the classes' means of `gaussian_classification`, in deviations of the classes, 0.1 to 100. Default 4.
    pub separation: f64,
}

impl Default for MetaSettings {
    fn default() -> Self {
        Self {
            hidden: vec![40, 40],
            iterations: 10_000,
            tasks_per_iteration: 25,
            inner_steps: 1,
            inner_rate: 0.01,
            outer_rate: 0.003,
            shots: 10,
            queries: 10,
            ways: 5,
            separation: 4.0,
        }
    }
}

/// Where the tasks come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskSource {
    /// They are drawn from a family.
    Family(TaskFamily),
    /// They were sent: all of one kind and of one size. Every fifth is held out of the training.
    Sent(Vec<LearningTask>),
}

/// A training, written out completely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetaPlan {
    /// The algorithm that trains.
    pub algorithm: MetaAlgorithm,
    /// Its settings, with all defaults.
    pub settings: MetaSettings,
    /// Where tasks come from.
    pub source: TaskSource,
    /// Seed of all that is drawn.
    pub seed: u64,
}

impl MetaPlan {
    /// Check everything at once.
    ///
    /// # Errors
    /// Each fault with its place in a request that has `settings`, `tasks`, `adaptation_targets` and `base_algorithms`.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        let settings = &self.settings;
        let counts = [
            ("iterations", settings.iterations, 1, MAX_ITERATIONS),
            ("tasks_per_iteration", settings.tasks_per_iteration, 1, MAX_BATCH_TASKS),
            ("inner_steps", settings.inner_steps, 1, MAX_INNER_STEPS),
            ("shots", settings.shots, 1, MAX_SHOTS),
            ("queries", settings.queries, 1, MAX_SHOTS),
            ("ways", settings.ways, 2, MAX_WAYS),
        ];
        for (name, value, low, high) in counts {
            violations.require((low..=high).contains(&value), ["settings", name], format!("is {low} to {high}"));
        }
        let hidden = &settings.hidden;
        let sound = hidden.len() <= MAX_HIDDEN_LAYERS && hidden.iter().all(|units| (1..=MAX_UNITS).contains(units));
        let wanted = format!("has at most {MAX_HIDDEN_LAYERS} layers of 1 to {MAX_UNITS} units");
        violations.require(sound, ["settings", "hidden"], wanted);
        for (name, rate) in [("inner_rate", settings.inner_rate), ("outer_rate", settings.outer_rate)] {
            violations.require(rate > 0.0 && rate <= 1.0, ["settings", name], "is above 0 and at most 1");
        }
        let separation = (0.1..=100.0).contains(&settings.separation);
        violations.require(separation, ["settings", "separation"], "is 0.1 to 100");
        if let TaskSource::Sent(tasks) = &self.source {
            check_tasks(tasks, &mut violations);
        }
        let metric = self.algorithm == MetaAlgorithm::PrototypicalNetworks;
        if let Some(kind) = self.kind()
            && metric
            && kind != TaskKind::Classification
        {
            let message = "prototypical_networks learns classes; these tasks have numbers to answer";
            violations.require(false, "base_algorithms", message);
        }
        violations.finish()?;
        let products = self.iteration_products();
        let message = format!(
            "asks for {products} products an iteration (tasks x examples x parameters x (inner steps + 1)), which may have {MAX_ITERATION_PRODUCTS}"
        );
        let mut violations = Violations::default();
        violations.require(products <= MAX_ITERATION_PRODUCTS, "settings", message);
        violations.finish()
    }

    fn iteration_products(&self) -> u64 {
        let (shape, settings) = (self.shape(), &self.settings);
        let examples = match &self.source {
            TaskSource::Family(TaskFamily::GaussianClassification) => {
                settings.ways * (settings.shots + settings.queries)
            }
            TaskSource::Family(family) => settings.shots + family.query_rows(settings.queries),
            TaskSource::Sent(tasks) => {
                tasks.first().map_or(0, |task| task.support.inputs.len() + task.query.inputs.len()) as u64
            }
        };
        let sizes: Vec<u64> =
            [shape.inputs as u64].into_iter().chain(settings.hidden.clone()).chain([shape.outputs as u64]).collect();
        let parameters: u64 = sizes.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum();
        settings.tasks_per_iteration * examples * parameters * (settings.inner_steps + 1)
    }

    /// What its tasks ask for; `None`: there is no task.
    fn kind(&self) -> Option<TaskKind> {
        match &self.source {
            TaskSource::Family(family) => Some(family.kind()),
            TaskSource::Sent(tasks) => Some(tasks.first()?.support.kind()),
        }
    }

    pub(super) fn family_shape(&self) -> FamilyShape {
        let settings = &self.settings;
        FamilyShape {
            shots: settings.shots as usize,
            queries: settings.queries as usize,
            ways: settings.ways as usize,
            separation: settings.separation as f32,
        }
    }

    pub(super) fn shape(&self) -> TaskShape {
        match &self.source {
            TaskSource::Family(family) => family.task_shape(self.settings.ways as usize),
            TaskSource::Sent(tasks) => {
                let first = tasks.first().map(|task| &task.support);
                let inputs = first.and_then(|set| set.inputs.first()).map_or(1, Vec::len);
                let kind = first.map_or(TaskKind::Regression, TaskExamples::kind);
                let classes = tasks.iter().map(LearningTask::classes).max().unwrap_or(1);
                let numbers = first.and_then(|set| set.targets.as_ref()?.first()).map_or(1, Vec::len);
                let outputs = if kind == TaskKind::Classification { classes } else { numbers };
                TaskShape { inputs, outputs, kind }
            }
        }
    }
}
