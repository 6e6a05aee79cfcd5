//! Types of models of meta-learning, as they are asked for, stored and shown.

use std::collections::BTreeMap;

use am_core::ids::{BackgroundTaskId, PrincipalId};
use am_db::codec::Timestamp;
use am_rl::meta_learning::{
    AdaptationCurve, LearningTask, MetaAlgorithm, MetaMeasures, MetaSettings, TaskExamples, TaskFamily,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

am_db::stored_enum! {
    /// How a model learns to learn.
    pub enum LearningStrategy {
        /// Meta-learning: `maml` (default), `first_order_maml`, `meta_sgd`, `reptile` or `prototypical_networks`.
        MetaLearning = "META_LEARNING" / "meta_learning",
        /// Plain training on all tasks, whose result is adapted by gradient steps: `pretraining`.
        TransferLearning = "TRANSFER_LEARNING" / "transfer_learning",
        /// Gradient-based meta-learning over `bandits` or an environment of the marketplace: `maml` (default), `first_order_maml`, `meta_sgd` or `reptile`.
        ReinforcementLearning = "REINFORCEMENT_LEARNING" / "reinforcement_learning",
        /// Classes from labelled examples: `prototypical_networks`.
        SupervisedLearning = "SUPERVISED_LEARNING" / "supervised_learning",
        /// Refused: all algorithms here learn from wanted outputs.
        UnsupervisedLearning = "UNSUPERVISED_LEARNING" / "unsupervised_learning",
        /// Federated averaging over tasks as clients, which is what `reptile` computes.
        FederatedLearning = "FEDERATED_LEARNING" / "federated_learning",
    }
}

impl LearningStrategy {
    /// The algorithms that serve it; the first is its default.
    pub(super) fn algorithms(self) -> &'static [MetaAlgorithm] {
        use MetaAlgorithm::{FirstOrderMaml, Maml, MetaSgd, Pretraining, PrototypicalNetworks, Reptile};
        match self {
            Self::MetaLearning => &[Maml, FirstOrderMaml, MetaSgd, Reptile, PrototypicalNetworks],
            Self::TransferLearning => &[Pretraining],
            Self::ReinforcementLearning => &[Maml, FirstOrderMaml, MetaSgd, Reptile],
            Self::SupervisedLearning => &[PrototypicalNetworks],
            Self::UnsupervisedLearning => &[],
            Self::FederatedLearning => &[Reptile],
        }
    }
}

am_db::stored_enum! {
    /// Status of a model of meta-learning.
    pub enum MetaModelStatus {
        /// Its training waits or goes on; `task_id` follows it.
        Training = "training" / "training",
        /// It can be adapted and exported.
        Ready = "ready" / "ready",
        /// Its training failed.
        Failed = "failed" / "failed",
        /// Its training was cancelled.
        Cancelled = "cancelled" / "cancelled",
    }
}

/// Settings of a training that differ from the algorithm's defaults.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = MetaSettingsDraft)]
pub struct SettingsDraft {
    /// Number of units of each hidden layer: at most 4 layers of 1 to 128. Default `[40, 40]`, for `prototypical_networks` `[64, 32]`.
    pub hidden: Option<Vec<u64>>,
    /// Number of meta-iterations, 1 to 200000. Default 10000, for `prototypical_networks` 1000.
    pub iterations: Option<u64>,
    /// Number of tasks of an iteration, 1 to 256. Default 25.
    pub tasks_per_iteration: Option<u64>,
    /// Number of gradient steps inside a task while training, 1 to 20. Default 1, for `reptile` 10.
    pub inner_steps: Option<u64>,
    /// Step size inside a task, above 0 to 1. Default 0.01, for `reptile` 0.005.
    pub inner_rate: Option<f64>,
    /// Learning rate of the meta-parameters, above 0 to 1. Default 0.003, for `reptile` 1.
    pub outer_rate: Option<f64>,
    /// Number of support examples of a drawn task (of each class, for classes), 1 to 100. Default 10, for `prototypical_networks` 5.
    pub shots: Option<u64>,
    /// Number of query examples of a drawn task (of each class, for classes), 1 to 100. Default 10.
    pub queries: Option<u64>,
    /// Number of classes or arms of a drawn task, 2 to 20. Default 5.
    pub ways: Option<u64>,
    /// Deviation of the classes' means of `gaussian_classification`, 0.1 to 100. Default 4.
    pub separation: Option<f64>,
}

impl SettingsDraft {
    /// The settings, with the algorithm's defaults.
    pub(super) fn complete(self, algorithm: MetaAlgorithm) -> MetaSettings {
        let usual = MetaSettings::default();
        let defaults = match algorithm {
            MetaAlgorithm::Reptile => MetaSettings { inner_steps: 10, inner_rate: 0.005, outer_rate: 1.0, ..usual },
            MetaAlgorithm::PrototypicalNetworks => {
                MetaSettings { hidden: vec![64, 32], iterations: 1_000, shots: 5, ..usual }
            }
            _ => usual,
        };
        MetaSettings {
            hidden: self.hidden.unwrap_or(defaults.hidden),
            iterations: self.iterations.unwrap_or(defaults.iterations),
            tasks_per_iteration: self.tasks_per_iteration.unwrap_or(defaults.tasks_per_iteration),
            inner_steps: self.inner_steps.unwrap_or(defaults.inner_steps),
            inner_rate: self.inner_rate.unwrap_or(defaults.inner_rate),
            outer_rate: self.outer_rate.unwrap_or(defaults.outer_rate),
            shots: self.shots.unwrap_or(defaults.shots),
            queries: self.queries.unwrap_or(defaults.queries),
            ways: self.ways.unwrap_or(defaults.ways),
            separation: self.separation.unwrap_or(defaults.separation),
        }
    }
}

/// A model to train.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = MetaLearningRequest)]
pub struct MetaModelDraft {
    /// Name, 1 to 100 characters. A name that the caller has used before gets its next version.
    #[schema(example = "sinusoids")]
    pub model_name: String,
    /// The algorithm: `maml`, `first_order_maml`, `meta_sgd`, `reptile`, `prototypical_networks` or `pretraining`, as the strategy
    /// allows. Empty: the strategy's default. A model is trained by one.
    #[schema(example = json!(["maml"]))]
    pub base_algorithms: Vec<String>,
    /// The strategy, which says which algorithms there are.
    pub meta_strategy: LearningStrategy,
    /// The family of tasks: `sinusoid_regression`, `gaussian_classification`, `bandits`, or an environment of the marketplace with drawn
    /// parameters (`marketplace_trading`, `resource_allocation`, `price_optimization`, `service_selection`, `negotiation_strategy`,
    /// `portfolio_management`). With `tasks`: names of the caller's choice,
    /// at most 20.
    #[schema(example = json!(["sinusoid_regression"]))]
    pub adaptation_targets: Vec<String>,
    /// Settings. Default: the algorithm's.
    pub settings: Option<SettingsDraft>,
    /// Tasks to learn from in place of a family, 2 to 500 of one shape. Every fifth and the last are held out of the training.
    pub tasks: Option<Vec<LearningTask>>,
    /// Seed of all that is drawn. Default 0.
    pub seed: Option<u64>,
}

/// What a model was trained by, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MetaTrainingPlan)]
pub struct TrainingOutline {
    /// The algorithm that trains it.
    pub algorithm: MetaAlgorithm,
    /// Its settings, with all defaults.
    pub settings: MetaSettings,
    /// The family of the tasks; null where they were sent.
    pub family: Option<TaskFamily>,
    /// Number of tasks that were sent; null where they are drawn.
    pub sent_tasks: Option<u64>,
    /// Seed of all that is drawn.
    pub seed: u64,
}

/// A model of meta-learning as it is stored.
#[derive(Clone, Debug)]
pub(super) struct MetaModelRecord {
    pub(super) id: String,
    pub(super) owner_id: PrincipalId,
    pub(super) name: String,
    pub(super) version: i64,
    pub(super) meta_strategy: LearningStrategy,
    pub(super) status: MetaModelStatus,
    pub(super) base_algorithms: Vec<String>,
    pub(super) adaptation_targets: Vec<String>,
    pub(super) plan: TrainingOutline,
    pub(super) task_id: Option<BackgroundTaskId>,
    pub(super) origin_id: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) measures: Option<MetaMeasures>,
    pub(super) training_time: Option<f64>,
    pub(super) error: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) trained_at: Option<Timestamp>,
}

/// A model of meta-learning.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MetaLearningResponse)]
pub struct MetaModelDocument {
    /// Id of the model: `meta_` and 12 hexadecimal digits.
    #[schema(example = "meta_0123456789ab")]
    pub model_id: String,
    /// Name of the model, which its versions share.
    pub model_name: String,
    /// Always the word `meta_learning`.
    pub model_type: String,
    /// Number of this version of the owner's name, from 1.
    pub version: i64,
    /// Aliases that name this version; `name@alias` stands for it in paths.
    pub aliases: Vec<String>,
    /// The strategy as it was asked for.
    pub meta_strategy: LearningStrategy,
    /// Algorithms as they were asked for.
    pub base_algorithms: Vec<String>,
    /// Targets as they were asked for.
    pub adaptation_targets: Vec<String>,
    /// Score on held-out tasks after adaptation, 0 to 1; null before the training has ended, and where none can be computed.
    pub meta_accuracy: Option<f64>,
    /// Share of the decrease of the loss within ten steps that the first step reaches, 0 to 1; null as `meta_accuracy`.
    pub adaptation_speed: Option<f64>,
    /// Score on harder tasks as a share of `meta_accuracy`, 0 to 1; null as `meta_accuracy`.
    pub generalization_ability: Option<f64>,
    /// Seconds that the training ran; null before its end.
    pub training_time: Option<f64>,
    /// Seconds of processor time of the training; null before its end.
    pub computational_cost: Option<f64>,
    /// MB (10^6 bytes) of the parameters, gradients, moments and copies of the training; null before its end.
    pub memory_requirement: Option<f64>,
    /// Why figures are null: a sentence for each, under its name.
    pub reasons: BTreeMap<String, String>,
    /// Status of its training.
    pub status: MetaModelStatus,
    /// Why the training failed; null otherwise.
    pub error: Option<String>,
    /// What it is trained by.
    pub plan: TrainingOutline,
    /// The background task of its training, at `/api/v1/agents/performance/tasks/{task_id}`; null for an adapted model.
    pub task_id: Option<BackgroundTaskId>,
    /// The model that it was adapted from; null for a trained one.
    pub origin_id: Option<String>,
    /// SHA-256 of its file; null before its training has ended.
    pub sha256: Option<String>,
    /// All that it was measured by; null before its training has ended, and for an adapted model.
    pub measures: Option<MetaMeasures>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its training ended; null before.
    pub trained_at: Option<Timestamp>,
}

/// A figure of the measures.
type MeasuredFigure = fn(&MetaMeasures) -> Option<f64>;

impl MetaModelDocument {
    pub(super) fn of(record: MetaModelRecord, aliases: Vec<String>) -> Self {
        let mut reasons = BTreeMap::new();
        let measures = record.measures.as_ref();
        let missing = match (record.status, &record.origin_id) {
            (MetaModelStatus::Training, _) => "The training has not ended",
            (MetaModelStatus::Failed, _) => "The training failed",
            (MetaModelStatus::Cancelled, _) => "The training was cancelled",
            (MetaModelStatus::Ready, Some(_)) => "An adapted model is not measured on other tasks",
            (MetaModelStatus::Ready, None) => "It can't be computed from the held-out tasks: see measures",
        };
        let mut figure = |name: &str, found: Option<f64>| {
            if found.is_none() {
                reasons.insert(name.to_owned(), missing.to_owned());
            }
            found
        };
        let of = |read: MeasuredFigure| measures.and_then(read);
        let meta_accuracy = figure("meta_accuracy", of(|measures| measures.meta_accuracy));
        let adaptation_speed = figure("adaptation_speed", of(|measures| measures.adaptation_speed));
        let generalization_ability = figure("generalization_ability", of(|measures| measures.generalization_ability));
        let training_time = figure("training_time", record.training_time);
        let computational_cost = figure("computational_cost", of(|measures| Some(measures.processor_seconds)));
        let memory_requirement = figure("memory_requirement", of(|measures| Some(measures.memory_bytes as f64 / 1e6)));
        Self {
            model_id: record.id,
            model_name: record.name,
            model_type: MODEL_TYPE.to_owned(),
            version: record.version,
            aliases,
            meta_strategy: record.meta_strategy,
            base_algorithms: record.base_algorithms,
            adaptation_targets: record.adaptation_targets,
            meta_accuracy,
            adaptation_speed,
            generalization_ability,
            training_time,
            computational_cost,
            memory_requirement,
            reasons,
            status: record.status,
            error: record.error,
            plan: record.plan,
            task_id: record.task_id,
            origin_id: record.origin_id,
            sha256: record.sha256,
            measures: record.measures,
            created_at: record.created_at,
            trained_at: record.trained_at,
        }
    }
}

/// The coordinator's word for the type of these models.
pub(super) const MODEL_TYPE: &str = "meta_learning";

/// Which models are listed.
#[derive(Clone, Debug, Default)]
pub struct MetaModelFilter {
    /// Only those of this status.
    pub status: Option<MetaModelStatus>,
    /// Only those of this strategy.
    pub meta_strategy: Option<LearningStrategy>,
    /// Only those of this name.
    pub name: Option<String>,
}

/// A task to adapt to: either a support set, or `draw`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = MetaAdaptationRequest)]
pub struct AdaptationRequest {
    /// Examples to learn from; null with `draw`.
    pub support: Option<TaskExamples>,
    /// Other examples of the task, which measure; null: the support measures too, and the answer says so.
    pub query: Option<TaskExamples>,
    /// Seed of a task that is drawn from the model's own family; null with `support`.
    pub draw: Option<u64>,
    /// Name under which the adapted model is kept as a model of its own, 1 to 100 characters. Default: it is not kept.
    pub save_as: Option<String>,
}

/// What an adaptation reached.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MetaAdaptationReport)]
pub struct AdaptationReport {
    /// The model that was adapted; it stays as it is.
    pub model_id: String,
    /// Number of gradient steps that were taken; 0 for prototypes, which take none.
    pub adaptation_steps: u64,
    /// Loss before the first step; null for prototypes, which answer nothing before they have seen examples.
    pub loss_before: Option<f64>,
    /// Loss after the last step: mean squared error, or cross entropy in nats.
    pub loss_after: f64,
    /// Score before the first step, 0 to 1; null as `loss_before`, and where the wanted numbers are all equal.
    pub score_before: Option<f64>,
    /// Score after the last step, 0 to 1; null where the wanted numbers are all equal.
    pub score_after: Option<f64>,
    /// `loss_before` less `loss_after`; null as `loss_before`.
    pub improvement: Option<f64>,
    /// Whether the loss was measured on the support examples, because no others were sent: it then says nothing of other examples.
    pub measured_on_support: bool,
    /// Loss and score before the first step and after each.
    pub curve: AdaptationCurve,
    /// Why figures are null.
    pub reasons: BTreeMap<String, String>,
    /// SHA-256 of the adapted model's file.
    pub adapted_sha256: String,
    /// The model that was kept; null: none was asked for.
    pub saved: Option<MetaModelDocument>,
}
