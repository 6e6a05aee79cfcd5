//! Meta-learning: networks whose weights are a good start for tasks that they have not seen, and that learn such a task from a few
//! examples.
//!
//! The tasks of an iteration, or of an evaluation, are one batch: each has a copy of the parameters along a first dimension, so that
//! a layer is one product for all of them, and an inner step is one gradient. Tasks are drawn from the seed and the number of the
//! iteration: so a training that is resumed from its [`MetaTrainer::save`] ends with the same bits as one that was not
//! interrupted.

mod evaluation;
mod families;
mod learner;
mod model;
mod network;
mod plan;
mod tasks;
#[cfg(test)]
mod tests;
mod trainer;

pub use self::{
    evaluation::AdaptationCurve,
    families::TaskFamily,
    model::{MetaModel, TaskAdaptation},
    plan::{MetaAlgorithm, MetaPlan, MetaSettings, TaskSource},
    tasks::{LearningTask, TaskExamples, TaskKind, check_support, check_tasks},
    trainer::{MetaCurvePoint, MetaMeasures, MetaTrainer, TrainedModel},
};
