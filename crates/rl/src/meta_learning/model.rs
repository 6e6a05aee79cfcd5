//! A trained model: its file, and its adaptation to a task.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::{
    evaluation::{Adaptable, AdaptationCurve},
    families::{FamilyPart, TaskFamily},
    learner::{StepSizes, prototype_scores},
    network::TaskNetwork,
    plan::{MetaAlgorithm, MetaPlan, TaskSource},
    tasks::{LearningTask, TaskBatch, TaskKind},
};
use crate::{
    network::{serialize, tensor_numbers},
    training::TrainingError,
};

/// Key of the model's description in the file's metadata.
const DESCRIPTION_KEY: &str = "meta_learning";
/// First word of the tensors' names.
const NETWORK: &str = "network";
/// First word of the names of learnt step sizes.
const STEP_SIZES: &str = "step_sizes";

/// What a file says of itself, beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ModelDescription {
    algorithm: MetaAlgorithm,
    kind: TaskKind,
    inputs: usize,
    outputs: usize,
    sizes: Vec<i64>,
    inner_rate: f64,
    /// Family that its tasks were drawn from, and its sizes; `None`: they were sent.
    family: Option<(TaskFamily, usize, usize, usize, f64)>,
}

/// A trained model.
pub struct MetaModel {
    description: ModelDescription,
    network: TaskNetwork,
    /// Parameters, and learnt step sizes behind them.
    values: Vec<f32>,
}

/// What an adaptation reached.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskAdaptation {
    /// Loss and score before and after each step; for prototypes one of each.
    pub curve: AdaptationCurve,
    /// The adapted model as a file.
    pub weights: Vec<u8>,
}

impl MetaModel {
    /// The model of a plan with these parameters, and learnt step sizes behind them.
    pub(super) fn new(plan: &MetaPlan, values: Vec<f32>) -> Self {
        let (shape, settings) = (plan.shape(), &plan.settings);
        let network = TaskNetwork::of(plan);
        let family = match plan.source {
            TaskSource::Family(family) => {
                let [shots, queries, ways] = [settings.shots, settings.queries, settings.ways].map(|n| n as usize);
                Some((family, shots, queries, ways, settings.separation))
            }
            TaskSource::Sent(_) => None,
        };
        let description = ModelDescription {
            algorithm: plan.algorithm,
            kind: shape.kind,
            inputs: shape.inputs,
            outputs: shape.outputs,
            sizes: network.sizes.clone(),
            inner_rate: settings.inner_rate,
            family,
        };
        Self { description, network, values }
    }

    /// Read a model's file.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when it is not one.
    pub fn read(file: &[u8]) -> Result<Self, TrainingError> {
        let fault = |text: &str| TrainingError::Checkpoint(text.to_owned());
        let (_, header) = SafeTensors::read_metadata(file)?;
        let description = header.metadata().as_ref().and_then(|metadata| metadata.get(DESCRIPTION_KEY));
        let description = description.ok_or_else(|| fault("it is no model of meta-learning"))?;
        let description: ModelDescription = serde_json::from_str(description)?;
        let network = TaskNetwork { sizes: description.sizes.clone() };
        let tensors = SafeTensors::deserialize(file)?;
        let mut values = Vec::new();
        for (name, shape) in tensor_names(&network, description.algorithm) {
            let view = tensors.tensor(&name)?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                return Err(fault("a tensor has another shape than its layer"));
            }
            values.extend(view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
        Ok(Self { description, network, values })
    }

    /// The model as a safetensors file, with PyTorch's names: `network.0.weight`, `network.0.bias`, `network.2.weight` ...; learnt
    /// step sizes are `step_sizes.0.weight` and so on. Equal models have equal bytes.
    ///
    /// # Errors
    /// When it is not finite.
    pub fn file(&self) -> Result<Vec<u8>, TrainingError> {
        if self.values.iter().any(|number| !number.is_finite()) {
            return Err(TrainingError::Diverged { step: 0, what: "a parameter" });
        }
        let mut at = 0;
        let mut tensors = Vec::new();
        for (name, shape) in tensor_names(&self.network, self.description.algorithm) {
            let count: usize = shape.iter().product();
            let numbers = self.values.get(at..at + count).unwrap_or_default();
            tensors.push((name, shape, numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>()));
            at += count;
        }
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let description = serde_json::to_string(&self.description)?;
        Ok(serialize(views, HashMap::from([(DESCRIPTION_KEY.to_owned(), description)]))?)
    }

    /// Numbers of an input, numbers or classes of an output, and what is learnt.
    pub fn shape(&self) -> (usize, usize, TaskKind) {
        (self.description.inputs, self.description.outputs, self.description.kind)
    }

    /// The algorithm that it was trained by.
    pub fn algorithm(&self) -> MetaAlgorithm {
        self.description.algorithm
    }

    /// The family that its tasks were drawn from; `None`: they were sent.
    pub fn family(&self) -> Option<TaskFamily> {
        self.description.family.map(|(family, ..)| family)
    }

    fn adaptable(&self) -> Result<Adaptable<'_>, TchError> {
        let all = Tensor::f_from_slice(&self.values)?;
        let count = self.network.parameters() as i64;
        let learnt = self.description.algorithm == MetaAlgorithm::MetaSgd;
        let sizes = match learnt {
            true => StepSizes::Each(all.f_narrow(0, count, count)?),
            false => StepSizes::One(self.description.inner_rate),
        };
        Ok(Adaptable {
            algorithm: self.description.algorithm,
            network: &self.network,
            start: all.f_narrow(0, 0, count)?,
            sizes,
            kind: self.description.kind,
            classes: self.description.outputs as i64,
        })
    }

    /// Measure it on tasks.
    pub(super) fn measure(&self, batch: &TaskBatch, steps: u64) -> Result<AdaptationCurve, TchError> {
        Ok(self.adaptable()?.adapt(batch, steps)?.0)
    }

    /// The loss of each task after `steps` steps.
    pub(super) fn losses(&self, batch: &TaskBatch, steps: u64) -> Result<Vec<f64>, TchError> {
        let adaptable = self.adaptable()?;
        let outputs = match adaptable.algorithm {
            MetaAlgorithm::PrototypicalNetworks => {
                prototype_scores(&self.network, &adaptable.start, batch, adaptable.classes)?
            }
            _ => {
                let (_, adapted) = adaptable.adapt(batch, steps)?;
                self.network.forward(&adapted, &batch.query.inputs)?
            }
        };
        Ok(tensor_numbers(&batch.query.losses(&outputs)?)?.into_iter().map(f64::from).collect())
    }

    /// Adapt to a task that was sent and checked; without query examples the support measures too.
    ///
    /// # Errors
    /// When libtorch refuses, or the steps diverge.
    pub fn adapt_to(&self, task: &LearningTask, steps: u64) -> Result<TaskAdaptation, TrainingError> {
        let (inputs, outputs, _) = self.shape();
        self.adapt(&TaskBatch::sent(&[task], inputs, outputs)?, steps)
    }

    /// Adapt to a task of the model's own family, drawn from this seed; `None`: it has none.
    ///
    /// # Errors
    /// When libtorch refuses, or the steps diverge.
    pub fn adapt_to_drawn(&self, seed: u64, steps: u64) -> Result<Option<TaskAdaptation>, TrainingError> {
        let Some((family, shots, queries, ways, separation)) = self.description.family else { return Ok(None) };
        let shape = super::families::FamilyShape { shots, queries, ways, separation: separation as f32 };
        self.adapt(&family.draw(1, &shape, FamilyPart::Usual, seed)?, steps).map(Some)
    }

    fn adapt(&self, batch: &TaskBatch, steps: u64) -> Result<TaskAdaptation, TrainingError> {
        let (curve, adapted) = self.adaptable()?.adapt(batch, steps)?;
        let taken = if self.description.algorithm == MetaAlgorithm::PrototypicalNetworks { 0 } else { steps };
        if (curve.losses.len() as u64) <= taken {
            return Err(TrainingError::Diverged { step: curve.losses.len() as u64, what: "the loss" });
        }
        let mut values = tensor_numbers(&adapted.f_select(0, 0)?)?;
        values.extend(&self.values[values.len()..]);
        let adapted = Self { description: self.description.clone(), network: self.network.clone(), values };
        Ok(TaskAdaptation { curve, weights: adapted.file()? })
    }
}

/// Names and shapes of the tensors, in the order of the parameters.
fn tensor_names(network: &TaskNetwork, algorithm: MetaAlgorithm) -> Vec<(String, Vec<usize>)> {
    let parts: &[&'static str] = if algorithm == MetaAlgorithm::MetaSgd { &[NETWORK, STEP_SIZES] } else { &[NETWORK] };
    let layers = |part: &'static str| {
        network.layers().enumerate().flat_map(move |(index, (inputs, outputs))| {
            let (inputs, outputs) = (inputs as usize, outputs as usize);
            [
                (format!("{part}.{}.weight", 2 * index), vec![outputs, inputs]),
                (format!("{part}.{}.bias", 2 * index), vec![outputs]),
            ]
        })
    };
    parts.iter().flat_map(|part| layers(part)).collect()
}
