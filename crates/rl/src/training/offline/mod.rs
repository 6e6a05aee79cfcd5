//! Learning from feedback (actions and their rewards) without an environment. The input is a policy of any algorithm,
//! the output the changed policy.
//!
//! Policies with an actor imitate actions that were better than expected (advantage-weighted regression: Peng et al.
//! 2019, arXiv:1910.00177); Rainbow and DQN learn the reward as the value of the action. Rewards are learned in standard
//! deviations from their mean, so that their unit and offset change nothing.

mod advantages;
mod feedback_rows;
mod loss;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use rand::SeedableRng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, TchError, Tensor, no_grad_guard};

pub use self::settings::{FeedbackAction, FeedbackSample, LearningMode, OfflineSettings};
use self::{feedback_rows::FeedbackRows, loss::FeedbackBatch};
use super::{
    ChosenActions, Trainer, TrainerCheckpoint, TrainingError, TrainingMeasure, TrainingProgress,
    device_tensors::tensor_numbers,
    parameters::{Adam, NetworkParameters},
    sampling::{TrainingRng, shuffle},
};
use crate::network::{
    LinearLayer, LoadError, NetworkAction, NetworkBody, NetworkLayers, NetworkOutput, ParsedPolicy, PolicyActions,
    PolicyNetwork, PolicySpec, TensorRole, WeightArray, normalise, serialize,
};

/// Epsilon of Adam.
const ADAM_EPSILON: f64 = 1e-8;

/// A training run on feedback. One step is one epoch.
pub struct OfflineTrainer {
    settings: OfflineSettings,
    file: Vec<u8>,
    form: PolicySpec,
    slots: NetworkLayers<TensorSlot>,
    learned: NetworkParameters,
    adam: Adam,
    rows: FeedbackRows,
    /// Normalised states of all rows.
    states: Vec<f32>,
    /// Indices of the rows on which agreement is measured.
    best: Vec<usize>,
    device: Device,
    present: OfflineState,
}

/// Location of a layer's tensor.
enum TensorSlot {
    /// Trained: begins at this offset of the trained parameters.
    Learned { name: String, offset: i64, shape: Vec<i64> },
    /// Unchanged during training.
    Fixed(Tensor),
}

#[derive(Serialize, Deserialize)]
struct OfflineState {
    generator: TrainingRng,
    epochs: u64,
    /// Agreement of the initial policy with the best rows of the feedback.
    agreement_before: f64,
}

/// Sums over the updates of an epoch.
#[derive(Default)]
struct OfflineSums {
    updates: u32,
    loss: f64,
    weight: Option<f64>,
}

impl OfflineTrainer {
    /// Create a run that starts with the policy of this safetensors file.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for settings out of range, unreadable weights, and feedback that does not fit the policy.
    pub fn new(
        weights: &[u8],
        feedback: &[FeedbackSample],
        settings: OfflineSettings,
        device: Device,
    ) -> Result<Self, TrainingError> {
        settings.validate()?;
        let refused = |error: LoadError| TrainingError::Setting { name: "weights", reason: error.to_string() };
        let ParsedPolicy { form, layers } = ParsedPolicy::read(weights).map_err(refused)?;
        let rows = FeedbackRows::from_feedback(feedback, &form, &settings)?;
        if settings.mode == LearningMode::Meta {
            super::check_range("tasks", settings.tasks, 1, rows.len())?;
        }
        let mut states = rows.states.clone();
        normalise(layers.normalisation.as_ref(), &mut states);
        let changing = trainable_tensors(&layers.body, settings.mode);
        let mut values = Vec::new();
        let slots = layers.map(|array, _| {
            if !changing(&array.name) {
                return Ok::<_, TchError>(TensorSlot::Fixed(array.to_tensor()?.f_to_device(device)?));
            }
            let offset = values.len() as i64;
            values.extend(&array.numbers);
            let shape = array.shape.iter().map(|length| *length as i64).collect();
            Ok(TensorSlot::Learned { name: array.name.clone(), offset, shape })
        })?;
        let learned = NetworkParameters::new(&values, device)?;
        let mut offline = Self {
            adam: Adam::new(&learned, ADAM_EPSILON)?,
            present: OfflineState {
                generator: TrainingRng::seed_from_u64(settings.seed),
                epochs: 0,
                agreement_before: 0.0,
            },
            best: rows.best(),
            file: weights.to_vec(),
            settings,
            form,
            slots,
            learned,
            rows,
            states,
            device,
        };
        offline.present.agreement_before = offline.agreement()?;
        Ok(offline)
    }

    /// Build the layers over these values of the trained parameters.
    fn layers(&self, values: &Tensor, device: Device) -> Result<NetworkLayers<Tensor>, TchError> {
        self.slots.map(|slot, part| {
            let tensor = match slot {
                TensorSlot::Fixed(tensor) => tensor.f_to_device(device)?,
                TensorSlot::Learned { offset, shape, .. } => {
                    values.f_narrow(0, *offset, shape.iter().product())?.f_view(&shape[..])?
                }
            };
            if part == TensorRole::Weight { tensor.f_transpose(0, 1) } else { Ok(tensor) }
        })
    }

    fn network(&self) -> Result<PolicyNetwork, TchError> {
        let values = self.learned.values.f_to_device(Device::Cpu)?;
        Ok(PolicyNetwork::from_layers(self.form.clone(), self.layers(&values, Device::Cpu)?))
    }

    /// Do gradient steps on these rows, in random order.
    fn learn(
        &mut self,
        mut some: Vec<usize>,
        adam: Option<&mut Adam>,
        sums: &mut OfflineSums,
    ) -> Result<(), TrainingError> {
        shuffle(&mut self.present.generator, &mut some);
        let mut other = adam;
        for batch in some.chunks(self.settings.batch) {
            let values = self.learned.values.f_detach()?.f_set_requires_grad(true)?;
            let layers = self.layers(&values, self.device)?;
            let batch = FeedbackBatch::from_rows(&self.rows, &self.states, batch, &layers.body, self.device)?;
            let loss = batch.loss(&layers.body, &self.form.actions)?;
            let total = f64::try_from(&loss.total)?;
            if !total.is_finite() {
                return Err(TrainingError::Diverged { step: self.present.epochs, what: "the loss" });
            }
            let gradient = Tensor::f_run_backward(&[&loss.total], &[&values], false, false)?;
            let _guard = no_grad_guard();
            self.learned.gradients.f_copy_(&gradient[0])?;
            let adam = other.as_deref_mut().unwrap_or(&mut self.adam);
            adam.step(&mut self.learned, self.settings.learning_rate)?;
            sums.updates += 1;
            sums.loss += total;
            if let Some(weight) = &loss.weight {
                *sums.weight.get_or_insert(0.0) += f64::try_from(weight)?;
            }
        }
        Ok(())
    }

    /// For each part of the feedback, train on it from the present weights and move a share of the way there (Reptile,
    /// algorithm 1).
    fn learn_parts(&mut self, sums: &mut OfflineSums) -> Result<(), TrainingError> {
        let (count, tasks) = (self.rows.len(), self.settings.tasks);
        let mut parts: Vec<usize> = (0..tasks).collect();
        shuffle(&mut self.present.generator, &mut parts);
        for part in parts {
            let before = self.learned.values.f_detach_copy()?;
            let mut adam = Adam::new(&self.learned, ADAM_EPSILON)?;
            for _ in 0..self.settings.inner_epochs {
                let rows = part * count / tasks..(part + 1) * count / tasks;
                self.learn(rows.collect(), Some(&mut adam), sums)?;
            }
            let _guard = no_grad_guard();
            let there = before.f_lerp(&self.learned.values, self.settings.outer_rate)?;
            self.learned.values.f_copy_(&there)?;
        }
        Ok(())
    }

    /// Return the share of the feedback's best rows in which the policy chooses the action done.
    fn agreement(&self) -> Result<f64, TrainingError> {
        let states: Vec<f32> = self.best.iter().flat_map(|at| self.rows.state(*at)).copied().collect();
        let evaluations = self.network()?.evaluate(&states, false)?;
        let agrees = |(at, evaluation): &(&usize, &NetworkOutput)| {
            self.rows.agrees(**at, &self.form.greedy(evaluation), &self.form.actions)
        };
        let agreeing = self.best.iter().zip(&evaluations).filter(agrees).count();
        Ok(agreeing as f64 / self.best.len() as f64)
    }
}

/// Names of the tensors of these layers.
fn tensor_names(layers: &[&LinearLayer<WeightArray>]) -> BTreeSet<String> {
    layers.iter().flat_map(|layer| [layer.weight.name.clone(), layer.bias.name.clone()]).collect()
}

/// Select the tensors to train. A Gaussian's deviations are never trained: feedback says nothing about exploration.
fn trainable_tensors(body: &NetworkBody<WeightArray>, mode: LearningMode) -> impl Fn(&str) -> bool + use<> {
    let last = (mode == LearningMode::Transfer).then(|| tensor_names(&body.last_layers()));
    let fixed = tensor_names(&body.deviation_layer().into_iter().collect::<Vec<_>>());
    move |name| last.as_ref().is_none_or(|last| last.contains(name)) && !fixed.contains(name)
}

impl Trainer for OfflineTrainer {
    fn advance(&mut self) -> Result<TrainingProgress, TrainingError> {
        let mut sums = OfflineSums::default();
        match self.settings.mode {
            LearningMode::Meta => self.learn_parts(&mut sums)?,
            LearningMode::Reinforcement | LearningMode::Transfer => {
                self.learn((0..self.rows.len()).collect(), None, &mut sums)?
            }
        }
        self.present.epochs += 1;
        let mean = |sum: f64| sum / f64::from(sums.updates);
        let mut measures: Vec<TrainingMeasure> = vec![("loss", mean(sums.loss))];
        if let Some(weight) = sums.weight {
            measures.push(("mean_weight", mean(weight)));
            measures.push(("effective_samples", advantages::effective_samples(&self.rows.weights)));
        }
        let [reward_mean, reward_deviation] = self.rows.given;
        measures.extend([("reward_mean", reward_mean), ("reward_deviation", reward_deviation)]);
        measures.push(("agreement_before", self.present.agreement_before));
        measures.push(("agreement", self.agreement()?));
        Ok(TrainingProgress { ended: Vec::new(), updates: u64::from(sums.updates), measures })
    }

    /// Number of epochs done.
    fn steps(&self) -> u64 {
        self.present.epochs
    }

    fn total_steps(&self) -> u64 {
        self.settings.epochs
    }

    fn save(&self) -> Result<TrainerCheckpoint<'_>, TrainingError> {
        let mut checkpoint = TrainerCheckpoint::default();
        checkpoint.put("parameters", &self.learned.values)?;
        self.adam.save("adam", &mut checkpoint)?;
        checkpoint.put_state("offline", &self.present)?;
        Ok(checkpoint)
    }

    fn restore(&mut self, checkpoint: TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        checkpoint.get("parameters", &mut self.learned.values)?;
        self.adam.restore("adam", &checkpoint)?;
        self.present = checkpoint.state("offline")?;
        Ok(())
    }

    /// Return the initial file with the trained tensors replaced.
    fn weights(&self) -> Result<Vec<u8>, TrainingError> {
        let learned = tensor_numbers(&self.learned.values)?;
        if learned.iter().any(|number| !number.is_finite()) {
            return Err(TrainingError::Diverged { step: self.present.epochs, what: "a weight" });
        }
        let mut changed: HashMap<String, Vec<u8>> = HashMap::new();
        self.slots.map(|slot, _| {
            if let TensorSlot::Learned { name, offset, shape } = slot {
                let (from, count) = (*offset as usize, shape.iter().product::<i64>() as usize);
                changed
                    .insert(name.clone(), learned[from..from + count].iter().flat_map(|n| n.to_le_bytes()).collect());
            }
            Ok::<_, TrainingError>(())
        })?;
        let (_, header) = SafeTensors::read_metadata(&self.file)?;
        let file = SafeTensors::deserialize(&self.file)?;
        let views = file.iter().map(|(name, view)| {
            let view = match changed.get(name) {
                Some(bytes) => TensorView::new(Dtype::F32, view.shape().to_vec(), bytes)?,
                None => view,
            };
            Ok((name, view))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(serialize(views, header.metadata().clone().unwrap_or_default())?)
    }

    fn greedy(&self, observations: &[f32], chosen: &mut ChosenActions) -> Result<(), TrainingError> {
        let evaluations = self.network()?.evaluate(observations, false)?;
        let (mut indices, mut vectors) = (Vec::new(), Vec::new());
        for evaluation in &evaluations {
            match (self.form.greedy(evaluation), &self.form.actions) {
                // An environment takes scores, of which the highest determines the action.
                (NetworkAction::Discrete(index), PolicyActions::Scores { count }) => {
                    vectors.extend((0..*count).map(|at| if at == index { 1.0 } else { -1.0 }));
                }
                (NetworkAction::Discrete(index), _) => indices.push(index as i64),
                (NetworkAction::Continuous(action), _) => vectors.extend(action),
            }
        }
        *chosen =
            if vectors.is_empty() { ChosenActions::Discrete(indices) } else { ChosenActions::Continuous(vectors) };
        Ok(())
    }
}
