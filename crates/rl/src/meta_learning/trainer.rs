//! A training: iterations, its state, and what it is measured by at the end.

use std::{f64::consts::PI, time::Duration};

use rand::SeedableRng;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};
use utoipa::ToSchema;

use super::{
    evaluation::AdaptationCurve,
    families::FamilyPart,
    learner::{StepMemory, StepSizes, copies, gradient, prototype_scores, step},
    model::MetaModel,
    network::TaskNetwork,
    plan::{MetaAlgorithm, MetaPlan, TaskSource},
    tasks::{LearningTask, TaskBatch, TaskShape},
};
use crate::{
    network::tensor_numbers,
    training::{
        TrainerCheckpoint, TrainingError,
        parameters::{Adam, NetworkParameters},
        sampling::{TrainingRng, sample_below},
    },
};

/// Tasks of a family that a model is measured on, which the training never sees.
const HELD_OUT_TASKS: usize = 200;
/// Of sent tasks, each of this number is held out.
const HELD_OUT_EVERY: usize = 5;
/// Steps of the measured adaptation.
const MEASURED_STEPS: u64 = 10;
/// Points of the training's curve at most.
const CURVE_POINTS: u64 = 100;
/// Added to the root of Adam's variance.
const EPSILON: f64 = 1e-8;
/// What seeds of different uses differ by; the golden ratio's bits (Steele, Lea, Flood 2014: SplitMix).
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Uses of random numbers.
#[derive(Clone, Copy)]
enum SeedUse {
    Parameters = 1,
    HeldOut = 2,
    Harder = 3,
    Iterations = 4,
}

/// A training. It stays on one thread, like all of libtorch's tensors here.
pub struct MetaTrainer {
    plan: MetaPlan,
    shape: TaskShape,
    network: TaskNetwork,
    /// Parameters, and the step sizes that Meta-SGD learns behind them.
    parameters: NetworkParameters,
    adam: Adam,
    record: TrainingRecord,
}

/// What a checkpoint keeps beside the tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct TrainingRecord {
    done: u64,
    curve: Vec<MetaCurvePoint>,
    sum: f64,
    count: u64,
    processor_seconds: f64,
}

/// A point of a training's curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetaCurvePoint {
    /// Number of meta-iterations done.
    pub iteration: u64,
    /// Mean loss on the query examples of the tasks since the point before.
    pub loss: f64,
}

/// What a training is measured by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetaMeasures {
    /// Score on held-out tasks after as many steps as the training takes inside a task, 0 to 1 (see `adaptation.scores`); null where
    /// no score can be computed.
    pub meta_accuracy: Option<f64>,
    /// Share, 0 to 1, of the decrease of the held-out tasks' loss within ten steps that the first step reaches; null where no step
    /// decreases it, and for prototypes, which take no steps.
    pub adaptation_speed: Option<f64>,
    /// Score on tasks that are harder than those of the training, divided by `meta_accuracy`, at most 1. For sent tasks: the score on
    /// the held-out ones divided by that on those trained with. Null where the divisor is 0.
    pub generalization_ability: Option<f64>,
    /// Mean loss of the held-out tasks after as many steps as the training takes inside a task.
    pub held_out_loss: f64,
    /// Half the width of the 95 % interval of `held_out_loss` over the held-out tasks (normal approximation); null with fewer than two.
    pub held_out_loss_margin: Option<f64>,
    /// Number of held-out tasks.
    pub held_out_tasks: u64,
    /// Share of the held-out query examples that the best rule gets right, which knows the classes' distributions; null where there
    /// is none to compute.
    pub best_possible_accuracy: Option<f64>,
    /// Seconds of processor time that the training took; in all processes that worked on it, up to their last checkpoints.
    pub processor_seconds: f64,
    /// Bytes of the parameters, their gradients, the optimiser's two moments, and the copies of the tasks of one iteration.
    pub memory_bytes: u64,
    /// Number of parameters, with learnt step sizes.
    pub parameters: u64,
    /// The held-out tasks' loss and score before the first step and after each of ten.
    pub adaptation: AdaptationCurve,
    /// The losses of the training, at most 101 points.
    pub training_curve: Vec<MetaCurvePoint>,
}

/// What a training made.
pub struct TrainedModel {
    /// The model as a safetensors file.
    pub weights: Vec<u8>,
    /// What it was measured by.
    pub measures: MetaMeasures,
}

impl MetaTrainer {
    /// Begin the training of a checked plan.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn new(plan: MetaPlan) -> Result<Self, TrainingError> {
        let (shape, network) = (plan.shape(), TaskNetwork::of(&plan));
        let mut generator = TrainingRng::seed_from_u64(seed_of(plan.seed, SeedUse::Parameters, 0));
        let mut values = network.draw(&mut generator);
        if plan.algorithm == MetaAlgorithm::MetaSgd {
            values.extend(vec![plan.settings.inner_rate as f32; network.parameters()]);
        }
        let parameters = NetworkParameters::new(&values, Device::Cpu)?;
        let adam = Adam::new(&parameters, EPSILON)?;
        Ok(Self { plan, shape, network, parameters, adam, record: TrainingRecord::default() })
    }

    /// Continue a training of the same plan from what [`MetaTrainer::save`] returned.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`].
    pub fn restored(plan: MetaPlan, file: &[u8]) -> Result<Self, TrainingError> {
        let checkpoint = TrainerCheckpoint::read_from(&mut &*file, file.len() as u64)?;
        let mut trainer = Self::new(plan)?;
        let values = checkpoint.array("parameters")?;
        if values.len() != trainer.parameters.values.numel() {
            return Err(TrainingError::Checkpoint("it is of another network".to_owned()));
        }
        trainer.parameters.values = Tensor::f_from_slice(values)?;
        trainer.adam.restore("adam", &checkpoint)?;
        trainer.record = checkpoint.state("record")?;
        Ok(trainer)
    }

    /// The complete state as a file.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn save(&self) -> Result<Vec<u8>, TrainingError> {
        let mut checkpoint = TrainerCheckpoint::default();
        checkpoint.put_array("parameters", tensor_numbers(&self.parameters.values)?);
        self.adam.save("adam", &mut checkpoint)?;
        checkpoint.put_state("record", &self.record)?;
        let mut file = Vec::new();
        checkpoint.write_to(&mut file).map_err(|error| TrainingError::Checkpoint(error.to_string()))?;
        Ok(file)
    }

    /// Number of iterations done.
    pub fn done(&self) -> u64 {
        self.record.done
    }

    /// Number of iterations of the whole training.
    pub fn total(&self) -> u64 {
        self.plan.settings.iterations
    }

    /// The last point of the training's curve.
    pub fn last_point(&self) -> Option<MetaCurvePoint> {
        self.record.curve.last().copied()
    }

    /// Go on for at most this many iterations.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`], or when libtorch refuses.
    pub fn advance(&mut self, iterations: u64) -> Result<(), TrainingError> {
        tch::set_num_threads(1);
        let begun = processor_time();
        let until = self.total().min(self.done() + iterations);
        let every = self.total().div_ceil(CURVE_POINTS);
        while self.done() < until {
            let batch = self.training_batch()?;
            let (loss, by) = self.meta_gradient(&batch)?;
            if !loss.is_finite() {
                return Err(TrainingError::Diverged { step: self.done(), what: "the loss" });
            }
            self.update(&by)?;
            let record = &mut self.record;
            record.done += 1;
            record.sum += loss;
            record.count += 1;
            if record.done.is_multiple_of(every) || record.done == until && until == self.plan.settings.iterations {
                record.curve.push(MetaCurvePoint { iteration: record.done, loss: record.sum / record.count as f64 });
                (record.sum, record.count) = (0.0, 0);
            }
        }
        self.record.processor_seconds += processor_time().saturating_sub(begun).as_secs_f64();
        Ok(())
    }

    /// Move the parameters: Reptile by a share of the way, the others by Adam.
    fn update(&mut self, by: &Tensor) -> Result<(), TchError> {
        let done = self.record.done as f64 / self.total() as f64;
        let falling = if done < 0.5 { 1.0 } else { 0.5 * (1.0 + (2.0 * PI * (done - 0.5)).cos()) };
        let rate = self.plan.settings.outer_rate * falling;
        if self.plan.algorithm == MetaAlgorithm::Reptile {
            self.parameters.values = self.parameters.values.f_sub(&by.f_mul_scalar(rate)?)?;
            return Ok(());
        }
        self.parameters.gradients.f_copy_(by)?;
        self.adam.step(&mut self.parameters, rate)
    }

    fn training_batch(&self) -> Result<TaskBatch, TchError> {
        let count = self.plan.settings.tasks_per_iteration as usize;
        let seed = seed_of(self.plan.seed, SeedUse::Iterations, self.done());
        match &self.plan.source {
            TaskSource::Family(family) => family.draw(count, &self.plan.family_shape(), FamilyPart::Usual, seed),
            TaskSource::Sent(tasks) => {
                let [taught, _] = divided(tasks);
                let mut generator = TrainingRng::seed_from_u64(seed);
                let drawn: Vec<_> =
                    (0..count.min(taught.len())).map(|_| taught[sample_below(&mut generator, taught.len())]).collect();
                TaskBatch::sent(&drawn, self.shape.inputs, self.shape.outputs)
            }
        }
    }

    /// The mean loss on the query examples, and its gradient by the parameters, as the algorithm defines it.
    fn meta_gradient(&self, batch: &TaskBatch) -> Result<(f64, Tensor), TchError> {
        let (network, steps) = (&self.network, self.plan.settings.inner_steps);
        let leaf = self.parameters.values.f_detach()?.f_set_requires_grad(true)?;
        let count = network.parameters() as i64;
        let tasks = batch.support.tasks();
        let one = StepSizes::One(self.plan.settings.inner_rate);
        let memory = match self.plan.algorithm {
            MetaAlgorithm::PrototypicalNetworks => {
                let scores = prototype_scores(network, &leaf, batch, self.shape.outputs as i64)?;
                return with_gradient(&batch.query.losses(&scores)?, &leaf);
            }
            MetaAlgorithm::Pretraining => {
                let all = batch.support.joined(&batch.query)?;
                let outputs = network.forward(&copies(&leaf, tasks)?, &all.inputs)?;
                return with_gradient(&all.losses(&outputs)?, &leaf);
            }
            MetaAlgorithm::Reptile => {
                let all = batch.support.joined(&batch.query)?;
                let mut at = copies(&self.parameters.values, tasks)?.f_contiguous()?;
                for _ in 0..steps {
                    at = step(network, &at, &all, &one, StepMemory::Nothing)?;
                }
                let loss = batch.query.losses(&network.forward(&at, &batch.query.inputs)?)?;
                let mean = at.f_mean_dim(&[0i64][..], false, Kind::Float)?;
                return Ok((f64::try_from(loss.f_mean(Kind::Double)?)?, self.parameters.values.f_sub(&mean)?));
            }
            MetaAlgorithm::FirstOrderMaml => StepMemory::First,
            MetaAlgorithm::Maml | MetaAlgorithm::MetaSgd => StepMemory::Second,
        };
        let sizes = match self.plan.algorithm {
            MetaAlgorithm::MetaSgd => StepSizes::Each(leaf.f_narrow(0, count, count)?),
            _ => one,
        };
        let mut at = copies(&leaf.f_narrow(0, 0, count)?, tasks)?;
        for _ in 0..steps {
            at = step(network, &at, &batch.support, &sizes, memory)?;
        }
        with_gradient(&batch.query.losses(&network.forward(&at, &batch.query.inputs)?)?, &leaf)
    }

    /// Measure the model on held-out tasks, and write its file.
    ///
    /// # Errors
    /// When libtorch refuses, or a parameter is not finite.
    pub fn finish(&self) -> Result<TrainedModel, TrainingError> {
        tch::set_num_threads(1);
        let model = MetaModel::new(&self.plan, tensor_numbers(&self.parameters.values)?);
        let steps = self.plan.settings.inner_steps;
        let held_out = self.held_out_batch()?;
        let adaptation = model.measure(&held_out, steps.max(MEASURED_STEPS))?;
        let at = usize::try_from(steps).unwrap_or_default().min(adaptation.scores.len().saturating_sub(1));
        let meta_accuracy = adaptation.scores.get(at).copied().flatten();
        let other = model.measure(&self.other_batch()?, steps)?.last_score();
        let losses = model.losses(&held_out, steps)?;
        if losses.iter().any(|loss| !loss.is_finite()) {
            return Err(TrainingError::Diverged { step: self.done(), what: "the loss of a held-out task" });
        }
        let (held_out_loss, held_out_loss_margin) = mean_and_margin(&losses);
        let ratio = |part: Option<f64>, whole: Option<f64>| {
            let (part, whole) = (part?, whole?);
            (whole > 0.0).then(|| (part / whole).min(1.0))
        };
        let generalization_ability = match self.plan.source {
            TaskSource::Family(_) => ratio(other, meta_accuracy),
            TaskSource::Sent(_) => ratio(meta_accuracy, other),
        };
        let parameters = self.parameters.values.numel() as u64;
        let copied = self.network.parameters() as u64 * self.plan.settings.tasks_per_iteration;
        let measures = MetaMeasures {
            meta_accuracy,
            adaptation_speed: adaptation.first_step_share(),
            generalization_ability,
            held_out_loss,
            held_out_loss_margin,
            held_out_tasks: losses.len() as u64,
            best_possible_accuracy: held_out.best_share,
            processor_seconds: self.record.processor_seconds,
            memory_bytes: size_of::<f32>() as u64 * (4 * parameters + copied),
            parameters,
            adaptation,
            training_curve: self.record.curve.clone(),
        };
        Ok(TrainedModel { weights: model.file()?, measures })
    }

    fn held_out_batch(&self) -> Result<TaskBatch, TchError> {
        match &self.plan.source {
            TaskSource::Family(family) => {
                let seed = seed_of(self.plan.seed, SeedUse::HeldOut, 0);
                family.draw(HELD_OUT_TASKS, &self.plan.family_shape(), FamilyPart::Usual, seed)
            }
            TaskSource::Sent(tasks) => {
                let [_, held_out] = divided(tasks);
                TaskBatch::sent(&held_out, self.shape.inputs, self.shape.outputs)
            }
        }
    }

    /// The tasks that the held-out ones are compared with: harder ones of a family, or those that were trained with.
    fn other_batch(&self) -> Result<TaskBatch, TchError> {
        match &self.plan.source {
            TaskSource::Family(family) => {
                let seed = seed_of(self.plan.seed, SeedUse::Harder, 0);
                family.draw(HELD_OUT_TASKS, &self.plan.family_shape(), FamilyPart::Harder, seed)
            }
            TaskSource::Sent(tasks) => {
                let [taught, _] = divided(tasks);
                TaskBatch::sent(&taught, self.shape.inputs, self.shape.outputs)
            }
        }
    }
}

/// The mean of losses of tasks, and its gradient.
fn with_gradient(losses: &Tensor, by: &Tensor) -> Result<(f64, Tensor), TchError> {
    let mean = losses.f_mean(Kind::Float)?;
    let gradient = gradient(&mean, by, StepMemory::Nothing)?;
    Ok((f64::try_from(mean.f_detach()?)?, gradient))
}

/// The tasks that are trained with, and those held out: the last of each five, and the last of all.
fn divided(tasks: &[LearningTask]) -> [Vec<&LearningTask>; 2] {
    let is_held_out = |index: usize| index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 || index + 1 == tasks.len();
    let part = |held_out: bool| {
        let chosen = tasks.iter().enumerate().filter(|(index, _)| is_held_out(*index) == held_out);
        chosen.map(|(_, task)| task).collect()
    };
    [part(false), part(true)]
}

fn seed_of(seed: u64, used_for: SeedUse, number: u64) -> u64 {
    // Generators mix their seed, so that neighbouring ones do not begin alike.
    let place = (number << 3) | used_for as u64;
    seed.wrapping_add(SEED_STEP.wrapping_mul(place.wrapping_add(1)))
}

fn mean_and_margin(numbers: &[f64]) -> (f64, Option<f64>) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    let margin = (numbers.len() > 1).then(|| 1.96 * (squares / (count - 1.0) / count).sqrt());
    (mean, margin)
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
