//! Rainbow DQN (Hessel et al. 2018, arXiv:1710.02298): double Q-learning, prioritised replay, dueling heads, noisy
//! layers, distributional returns and n-step returns. Each can be switched off.

mod distribution;
mod n_step;
mod network;
mod prioritized;
mod settings;
mod td_target;

use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, no_grad_guard};

pub use self::settings::RainbowSettings;
use self::{
    distribution::{DuelingHead, softmax},
    n_step::NStepWindow,
    network::{RainbowLayers, RainbowNetwork, RainbowShapes},
    prioritized::ReplayPriorities,
    td_target::{TdTarget, TransitionLoss},
};
use super::{
    ChosenActions, Trainer, TrainerCheckpoint, TrainingError, TrainingMeasure, TrainingProgress,
    device_tensors::{matrix, tensor_numbers},
    discrete_action_names,
    mlp::MlpShape,
    parameters::Adam,
    replay::{ReplayBuffer, Transition},
    sampling::{TrainingRng, sample_below, sample_unit},
    weights_writer::WeightsWriter,
};
use crate::environments::{ActionBatch, VectorEnv};

/// Epsilon of Adam, as in Rainbow.
const ADAM_EPSILON: f64 = 1.5e-4;
/// Environment steps per advance.
const STEPS_PER_ADVANCE: usize = 64;

/// Rainbow trainer, for environments with discrete actions.
pub struct RainbowTrainer {
    settings: RainbowSettings,
    /// A vector of one environment.
    environment: VectorEnv,
    device: Device,
    judge: TdTarget,
    online: RainbowNetwork,
    target: RainbowNetwork,
    adam: Adam,
    replay: ReplayBuffer,
    priorities: Option<ReplayPriorities>,
    total: u64,
    present: RainbowState,
}

#[derive(Serialize, Deserialize)]
struct RainbowState {
    generator: TrainingRng,
    steps: u64,
    window: NStepWindow,
}

/// Sums over the updates of an advance.
#[derive(Default)]
struct RainbowSums {
    updates: u32,
    loss: f64,
    q: f64,
    norm: f64,
    /// Mass of the targets beyond the support.
    clipped: f64,
}

impl RainbowTrainer {
    /// Create a run of `total` steps in `environment`, a vector of one, which is reset.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for settings out of range, or actions that are not discrete.
    pub fn new(
        settings: RainbowSettings,
        mut environment: VectorEnv,
        total: u64,
        seed: u64,
        device: Device,
    ) -> Result<Self, TrainingError> {
        settings.validate()?;
        super::check_range("environments", environment.len(), 1, 1)?;
        let actions = discrete_action_names("Rainbow DQN", environment.description())?.len();
        let atoms = if settings.distributional { settings.atoms } else { 1 };
        let head = DuelingHead { actions, atoms, dueling: settings.dueling };
        let support = settings.support();
        let (width, [first, second]) = (environment.observation_length(), settings.hidden);
        let shapes = RainbowShapes {
            feature: MlpShape::new(width, &[first], second),
            value: MlpShape::new(second, &[settings.stream], atoms),
            advantage: MlpShape::new(second, &[settings.stream], head.actions * atoms),
        };
        let mut generator = TrainingRng::seed_from_u64(seed);
        let values = shapes.draw(&mut generator, settings.noisy.then_some(settings.noise as f32));
        environment.reset(seed)?;
        let mut online = RainbowNetwork::new(&values, &shapes, settings.noisy, device)?;
        let mut target = RainbowNetwork::new(&values, &shapes, settings.noisy, device)?;
        online.resample(&mut generator)?;
        target.resample(&mut generator)?;
        let capacity = settings.replay.min(usize::try_from(total).unwrap_or(usize::MAX)).max(1);
        Ok(Self {
            adam: Adam::new(&online.learned, ADAM_EPSILON)?,
            judge: TdTarget { head, support, distributional: settings.distributional },
            replay: ReplayBuffer::new(capacity, width, 1),
            priorities: settings.prioritized.then(|| ReplayPriorities::new(capacity, settings.priority as f32)),
            present: RainbowState {
                generator,
                steps: 0,
                window: NStepWindow::new(settings.steps, settings.gamma as f32),
            },
            settings,
            environment,
            device,
            online,
            target,
            total,
        })
    }

    /// Fraction of the run that is done.
    fn part(&self) -> f64 {
        (self.present.steps as f64 / self.total as f64).min(1.0)
    }

    /// Outputs of each action for each row: probabilities of the atoms for distributional returns, otherwise the value.
    fn outputs(&self, layers: &RainbowLayers, observations: &[f32]) -> Result<Vec<Vec<f32>>, TrainingError> {
        let input = matrix(observations, self.environment.observation_length(), self.device)?;
        let passed = layers.forward(&input)?;
        let (value, advantage) = (tensor_numbers(&passed.value.output)?, tensor_numbers(&passed.advantage.output)?);
        Ok(self.heads(&value, &advantage))
    }

    fn heads(&self, value: &[f32], advantage: &[f32]) -> Vec<Vec<f32>> {
        let atoms = self.judge.head.atoms;
        let rows = value.chunks(atoms).zip(advantage.chunks(self.judge.head.actions * atoms));
        rows.map(|(value, advantage)| {
            let mut outputs = self.judge.head.outputs(value, advantage);
            if self.settings.distributional {
                outputs.chunks_mut(atoms).for_each(softmax);
            }
            outputs
        })
        .collect()
    }

    fn choose(&mut self) -> Result<usize, TrainingError> {
        let fall = self.part() / self.settings.epsilon_fraction;
        let epsilon = 1.0 + (self.settings.epsilon - 1.0) * fall.min(1.0);
        let random = self.present.steps < self.settings.warmup || sample_unit(&mut self.present.generator) < epsilon;
        if !self.settings.noisy && random {
            return Ok(sample_below(&mut self.present.generator, self.judge.head.actions));
        }
        let outputs = self.outputs(self.online.layers(), self.environment.observations())?;
        Ok(self.judge.best(&outputs[0]))
    }

    /// Do one step and store the transitions that it completes.
    fn explore(&mut self, progress: &mut TrainingProgress) -> Result<(), TrainingError> {
        let action = self.choose()?;
        let before = self.environment.observations().to_vec();
        self.environment.step(ActionBatch::Discrete(&[action as i64]))?;
        let (terminated, truncated) = (self.environment.terminated()[0], self.environment.truncated()[0]);
        let reward = self.environment.rewards()[0] * self.settings.reward_scale as f32;
        let ended = terminated || truncated;
        let next = if ended { self.environment.final_observations() } else { self.environment.observations() };
        let (replay, priorities) = (&mut self.replay, &mut self.priorities);
        self.present.window.add(before, action, reward, next, terminated, truncated, |transition| {
            let place = replay.add(transition);
            if let Some(priorities) = priorities {
                priorities.add(place);
            }
        });
        progress.ended.extend(self.environment.ended());
        self.present.steps += 1;
        Ok(())
    }

    /// Do one gradient step.
    fn update(&mut self, sums: &mut RainbowSums) -> Result<(), TrainingError> {
        self.online.resample(&mut self.present.generator)?;
        self.target.resample(&mut self.present.generator)?;
        let beta = prioritized::importance_exponent(self.settings.importance, self.part());
        let (places, weights) = match &self.priorities {
            Some(priorities) => priorities.draw(&mut self.present.generator, self.settings.batch, beta),
            None => {
                (self.replay.draw(&mut self.present.generator, self.settings.batch), vec![1.0; self.settings.batch])
            }
        };
        let rows: Vec<Transition<'_>> = places.iter().map(|place| self.replay.get(*place)).collect();
        let next: Vec<f32> = rows.iter().flat_map(|row| row.next).copied().collect();
        let judged = self.outputs(self.target.layers(), &next)?;
        let choosers = if self.settings.double { Some(self.outputs(self.online.layers(), &next)?) } else { None };

        let seen: Vec<f32> = rows.iter().flat_map(|row| row.observation).copied().collect();
        let passed = self.online.layers().forward(&matrix(&seen, rows[0].observation.len(), self.device)?)?;
        let (value, advantage) = (tensor_numbers(&passed.value.output)?, tensor_numbers(&passed.advantage.output)?);
        let outputs = self.heads(&value, &advantage);
        let (mut by_value, mut by_advantage) = (vec![0f32; value.len()], vec![0f32; advantage.len()]);
        let head = self.judge.head;
        let (atoms, wide) = (head.atoms, head.atoms * head.actions);
        let mut errors = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let action = row.action[0] as usize;
            let said = &outputs[at][action * atoms..][..atoms];
            let follows = self.judge.bootstrap(&choosers.as_ref().unwrap_or(&judged)[at], &judged[at]);
            let TransitionLoss { loss, error, mut by_outputs, clipped } = self.judge.learn(said, follows, row);
            let weight = weights[at] / rows.len() as f32;
            by_outputs.iter_mut().for_each(|by| *by *= weight);
            let (by_value, by_advantage) =
                (&mut by_value[at * atoms..][..atoms], &mut by_advantage[at * wide..][..wide]);
            head.backward(action, &by_outputs, by_value, by_advantage);
            errors.push(error);
            sums.loss += f64::from(loss * weight);
            sums.clipped += f64::from(clipped) / rows.len() as f64;
            sums.q += f64::from(self.judge.worths(said)[0]) / rows.len() as f64;
        }
        if !sums.loss.is_finite() {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the loss" });
        }
        if let Some(priorities) = &mut self.priorities {
            places.iter().zip(errors).for_each(|(place, error)| priorities.set(*place, error));
        }
        let (by_value, by_advantage) =
            (matrix(&by_value, atoms, self.device)?, matrix(&by_advantage, wide, self.device)?);
        self.online.backward(&passed, &by_value, &by_advantage)?;
        let norm = self.online.learned.clip(self.settings.gradient)?;
        if !norm.is_finite() {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the gradient" });
        }
        sums.norm += norm;
        let left = if self.settings.anneal { 1.0 - self.part() } else { 1.0 };
        self.adam.step(&mut self.online.learned, self.settings.learning_rate * left)?;
        self.online.refresh()?;
        sums.updates += 1;
        Ok(())
    }
}

impl Trainer for RainbowTrainer {
    fn advance(&mut self) -> Result<TrainingProgress, TrainingError> {
        let _guard = no_grad_guard();
        let (mut progress, mut sums) = (TrainingProgress::default(), RainbowSums::default());
        for _ in 0..STEPS_PER_ADVANCE {
            self.explore(&mut progress)?;
            let steps = self.present.steps;
            if steps.is_multiple_of(self.settings.every) {
                if steps > self.settings.warmup && self.replay.len() > 0 {
                    self.update(&mut sums)?;
                } else {
                    // Before learning starts, exploration uses fresh noise too.
                    self.online.resample(&mut self.present.generator)?;
                }
            }
            if steps.is_multiple_of(self.settings.target_every) {
                self.target.learned.follow(&self.online.learned, 1.0)?;
                self.target.refresh()?;
            }
            if steps >= self.total {
                break;
            }
        }
        if sums.updates > 0 {
            let mean = |sum: f64| sum / f64::from(sums.updates);
            let measures: [TrainingMeasure; 3] =
                [("loss", mean(sums.loss)), ("q_value", mean(sums.q)), ("gradient_norm", mean(sums.norm))];
            progress.updates = u64::from(sums.updates);
            progress.measures = measures.into();
            if self.settings.distributional {
                progress.measures.push(("clipped_mass", mean(sums.clipped)));
            }
        }
        Ok(progress)
    }

    fn steps(&self) -> u64 {
        self.present.steps
    }

    fn total_steps(&self) -> u64 {
        self.total
    }

    fn save(&self) -> Result<TrainerCheckpoint<'_>, TrainingError> {
        let mut checkpoint = TrainerCheckpoint::default();
        for (name, network) in [("online", &self.online), ("target", &self.target)] {
            checkpoint.put(name, &network.learned.values)?;
            if let Some(noise) = network.noise() {
                checkpoint.put(&format!("{name}.noise"), noise)?;
            }
        }
        self.adam.save("online", &mut checkpoint)?;
        self.replay.save(&mut checkpoint)?;
        if let Some(priorities) = &self.priorities {
            priorities.save(&mut checkpoint)?;
        }
        checkpoint.put_state("rainbow", &self.present)?;
        checkpoint.put_state("environment", &self.environment.snapshot()?)?;
        Ok(checkpoint)
    }

    fn restore(&mut self, mut checkpoint: TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        for (name, network) in [("online", &mut self.online), ("target", &mut self.target)] {
            checkpoint.get(name, &mut network.learned.values)?;
            if let Some(noise) = network.noise_mut() {
                checkpoint.get(&format!("{name}.noise"), noise)?;
            }
            network.refresh()?;
        }
        self.adam.restore("online", &checkpoint)?;
        self.replay.restore(&mut checkpoint)?;
        if let Some(priorities) = &mut self.priorities {
            priorities.restore(&checkpoint)?;
        }
        self.present = checkpoint.state("rainbow")?;
        self.environment.restore(&checkpoint.state("environment")?)?;
        if self.environment.forgets_its_state() {
            self.present.window.clear();
        }
        Ok(())
    }

    fn weights(&self) -> Result<Vec<u8>, TrainingError> {
        let mut file = WeightsWriter::new(if self.settings.distributional { "rainbow_dqn" } else { "dqn" });
        let RainbowLayers { feature, value, advantage } = &self.online.quiet;
        for (name, part) in [("feature_layer", feature), ("value_stream", value), ("advantage_stream", advantage)] {
            file.sequential(name, &part.tensors(0)?)?;
        }
        if self.settings.distributional {
            let atoms: Vec<f32> = (0..self.judge.support.atoms).map(|index| self.judge.support.atom(index)).collect();
            file.vector("support", &atoms)?;
        }
        file.note("dueling", if self.settings.dueling { "true" } else { "false" });
        file.to_bytes()
    }

    fn greedy(&self, observations: &[f32], chosen: &mut ChosenActions) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        let rows = self.outputs(&self.online.quiet, observations)?;
        *chosen = ChosenActions::Discrete(rows.iter().map(|row| self.judge.best(row) as i64).collect());
        Ok(())
    }
}
