//! Rainbow DQN (Hessel et al. 2018, arXiv:1710.02298): double Q-learning, prioritised replay, dueling heads, noisy
//! layers, distributional returns and n-step returns. Each can be switched off.

mod distribution;
mod judge;
mod network;
mod prioritized;
mod settings;
mod window;

use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, no_grad_guard};

pub use self::settings::RainbowSettings;
use self::{
    distribution::{Head, Support, softmax},
    judge::{Judge, Lesson},
    network::{Layers, Network, Shapes},
    prioritized::Priorities,
    window::Window,
};
use super::{
    Checkpoint, Chosen, Error, Measure, Progress, Trainer, discrete,
    mlp::{Shape, matrix, numbers},
    parameters::Adam,
    random::{Generator, below, unit},
    replay::{Replay, Transition},
    weights::Weights,
};
use crate::environments::{Actions, VectorEnv};

/// Epsilon of Adam, as in Rainbow.
const EPSILON: f64 = 1.5e-4;
/// Environment steps per advance.
const STRIDE: usize = 64;

/// Rainbow trainer, for environments with discrete actions.
pub struct Rainbow {
    settings: RainbowSettings,
    /// A vector of one environment.
    environment: VectorEnv,
    device: Device,
    judge: Judge,
    online: Network,
    target: Network,
    adam: Adam,
    replay: Replay,
    priorities: Option<Priorities>,
    total: u64,
    present: Present,
}

#[derive(Serialize, Deserialize)]
struct Present {
    generator: Generator,
    steps: u64,
    window: Window,
}

/// Sums over the updates of an advance.
#[derive(Default)]
struct Sums {
    updates: u32,
    loss: f64,
    q: f64,
    norm: f64,
}

impl Rainbow {
    /// Create a run of `total` steps in `environment`, a vector of one, which is reset.
    ///
    /// # Errors
    /// [`Error::Setting`] for settings out of range, or actions that are not discrete.
    pub fn new(
        settings: RainbowSettings,
        mut environment: VectorEnv,
        total: u64,
        seed: u64,
        device: Device,
    ) -> Result<Self, Error> {
        settings.validate()?;
        super::within("environments", environment.len(), 1, 1)?;
        let actions = discrete("Rainbow DQN", environment.description())?.len();
        let atoms = if settings.distributional { settings.atoms } else { 1 };
        let head = Head { actions, atoms, dueling: settings.dueling };
        let support = Support { least: settings.v_min as f32, most: settings.v_max as f32, atoms: settings.atoms };
        let (width, [first, second]) = (environment.observation_length(), settings.hidden);
        let shapes = Shapes {
            feature: Shape::new(width, &[first], second),
            value: Shape::new(second, &[settings.stream], atoms),
            advantage: Shape::new(second, &[settings.stream], head.actions * atoms),
        };
        let mut generator = Generator::seed_from_u64(seed);
        let values = shapes.draw(&mut generator, settings.noisy.then_some(settings.noise as f32));
        environment.reset(seed);
        let mut online = Network::new(&values, &shapes, settings.noisy, device)?;
        let mut target = Network::new(&values, &shapes, settings.noisy, device)?;
        online.resample(&mut generator)?;
        target.resample(&mut generator)?;
        let capacity = settings.replay.min(usize::try_from(total).unwrap_or(usize::MAX)).max(1);
        Ok(Self {
            adam: Adam::new(&online.learned, EPSILON)?,
            judge: Judge { head, support, distributional: settings.distributional },
            replay: Replay::new(capacity, width, 1),
            priorities: settings.prioritized.then(|| Priorities::new(capacity, settings.priority as f32)),
            present: Present { generator, steps: 0, window: Window::new(settings.steps, settings.gamma as f32) },
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
    fn outputs(&self, layers: &Layers, observations: &[f32]) -> Result<Vec<Vec<f32>>, Error> {
        let input = matrix(observations, self.environment.observation_length(), self.device)?;
        let passed = layers.forward(&input)?;
        let (value, advantage) = (numbers(&passed.value.output)?, numbers(&passed.advantage.output)?);
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

    fn choose(&mut self) -> Result<usize, Error> {
        let fall = self.part() / self.settings.epsilon_fraction;
        let epsilon = 1.0 + (self.settings.epsilon - 1.0) * fall.min(1.0);
        let random = self.present.steps < self.settings.warmup || unit(&mut self.present.generator) < epsilon;
        if !self.settings.noisy && random {
            return Ok(below(&mut self.present.generator, self.judge.head.actions));
        }
        let outputs = self.outputs(self.online.layers(), self.environment.observations())?;
        Ok(self.judge.best(&outputs[0]))
    }

    /// Do one step and store the transitions that it completes.
    fn explore(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let action = self.choose()?;
        let before = self.environment.observations().to_vec();
        self.environment.step(Actions::Discrete(&[action as i64]))?;
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
    fn update(&mut self, sums: &mut Sums) -> Result<(), Error> {
        self.online.resample(&mut self.present.generator)?;
        self.target.resample(&mut self.present.generator)?;
        let beta = prioritized::beta(self.settings.importance, self.part());
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
        let (value, advantage) = (numbers(&passed.value.output)?, numbers(&passed.advantage.output)?);
        let outputs = self.heads(&value, &advantage);
        let (mut by_value, mut by_advantage) = (vec![0f32; value.len()], vec![0f32; advantage.len()]);
        let head = self.judge.head;
        let (atoms, wide) = (head.atoms, head.atoms * head.actions);
        let mut errors = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let action = row.action[0] as usize;
            let said = &outputs[at][action * atoms..][..atoms];
            let follows = self.judge.follows(&choosers.as_ref().unwrap_or(&judged)[at], &judged[at]);
            let Lesson { loss, error, mut by_outputs } = self.judge.learn(said, follows, row);
            let weight = weights[at] / rows.len() as f32;
            by_outputs.iter_mut().for_each(|by| *by *= weight);
            let (by_value, by_advantage) =
                (&mut by_value[at * atoms..][..atoms], &mut by_advantage[at * wide..][..wide]);
            head.backward(action, &by_outputs, by_value, by_advantage);
            errors.push(error);
            sums.loss += f64::from(loss * weight);
            sums.q += f64::from(self.judge.worths(said)[0]) / rows.len() as f64;
        }
        if !sums.loss.is_finite() {
            return Err(Error::Diverged { step: self.present.steps, what: "the loss" });
        }
        if let Some(priorities) = &mut self.priorities {
            places.iter().zip(errors).for_each(|(place, error)| priorities.set(*place, error));
        }
        let (by_value, by_advantage) =
            (matrix(&by_value, atoms, self.device)?, matrix(&by_advantage, wide, self.device)?);
        self.online.backward(&passed, &by_value, &by_advantage)?;
        sums.norm += self.online.learned.clip(self.settings.gradient)?;
        let left = if self.settings.anneal { 1.0 - self.part() } else { 1.0 };
        self.adam.step(&mut self.online.learned, self.settings.learning_rate * left)?;
        self.online.refresh()?;
        sums.updates += 1;
        Ok(())
    }
}

impl Trainer for Rainbow {
    fn advance(&mut self) -> Result<Progress, Error> {
        let _guard = no_grad_guard();
        let (mut progress, mut sums) = (Progress::default(), Sums::default());
        for _ in 0..STRIDE {
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
            let measures: [Measure; 3] =
                [("loss", mean(sums.loss)), ("q_value", mean(sums.q)), ("gradient_norm", mean(sums.norm))];
            progress.measures = measures.into();
        }
        Ok(progress)
    }

    fn steps(&self) -> u64 {
        self.present.steps
    }

    fn total_steps(&self) -> u64 {
        self.total
    }

    fn save(&self) -> Result<Checkpoint, Error> {
        let mut checkpoint = Checkpoint::default();
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

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let _guard = no_grad_guard();
        for (name, network) in [("online", &mut self.online), ("target", &mut self.target)] {
            checkpoint.get(name, &mut network.learned.values)?;
            if let Some(noise) = network.noise_mut() {
                checkpoint.get(&format!("{name}.noise"), noise)?;
            }
            network.refresh()?;
        }
        self.adam.restore("online", checkpoint)?;
        self.replay.restore(checkpoint)?;
        if let Some(priorities) = &mut self.priorities {
            priorities.restore(checkpoint)?;
        }
        self.present = checkpoint.state("rainbow")?;
        self.environment.restore(&checkpoint.state("environment")?)?;
        Ok(())
    }

    fn weights(&self) -> Result<Vec<u8>, Error> {
        let mut file = Weights::of(if self.settings.distributional { "rainbow_dqn" } else { "dqn" });
        let Layers { feature, value, advantage } = &self.online.quiet;
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

    fn greedy(&self, observations: &[f32], chosen: &mut Chosen) -> Result<(), Error> {
        let _guard = no_grad_guard();
        let rows = self.outputs(&self.online.quiet, observations)?;
        *chosen = Chosen::Discrete(rows.iter().map(|row| self.judge.best(row) as i64).collect());
        Ok(())
    }
}
