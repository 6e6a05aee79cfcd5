//! Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), with the details that CleanRL documents
//! (Huang et al., "The 37 Implementation Details of Proximal Policy Optimization", 2022).

mod loss;
mod settings;

use std::ops::Range;

use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, no_grad_guard};

use self::loss::{LossWeights, PpoBatch, PpoLoss, log_softmax};
pub use self::settings::PpoSettings;
use super::{
    ChosenActions, Trainer, TrainerCheckpoint, TrainingError, TrainingMeasure, TrainingProgress, argmax,
    device_tensors::{matrix, tensor_numbers},
    discrete_action_names,
    gae::GaeRollout,
    mlp::{Mlp, MlpShape},
    moments::RunningMoments,
    parameters::{Adam, NetworkParameters},
    sampling::{TrainingRng, sample_categorical, shuffle},
    weights_writer::WeightsWriter as File,
};
use crate::environments::{ActionBatch, VectorEnv};

/// Epsilon of Adam, as in CleanRL.
const ADAM_EPSILON: f64 = 1e-5;
/// Maximum number of states that the critic evaluates at once.
const VALUED_STATES: usize = 8192;

/// PPO trainer, for environments with discrete actions.
pub struct PpoTrainer {
    settings: PpoSettings,
    environments: VectorEnv,
    device: Device,
    parameters: NetworkParameters,
    actor: Mlp,
    critic: Mlp,
    adam: Adam,
    total: u64,
    present: PpoState,
    rollout: PpoRollout,
}

/// State other than tensors and environments.
#[derive(Serialize, Deserialize)]
struct PpoState {
    generator: TrainingRng,
    moments: Option<RunningMoments>,
    steps: u64,
}

/// Experience since the last update, ordered by step and within a step by environment.
#[derive(Default)]
struct PpoRollout {
    observations: Vec<f32>,
    actions: Vec<i64>,
    log_probabilities: Vec<f32>,
    /// The critic's, once all steps are done.
    values: Vec<f32>,
    rewards: Vec<f32>,
    ends: Vec<bool>,
}

impl PpoRollout {
    /// Make room for `count` steps with observations of `width` numbers, apart from values.
    fn make_room(&mut self, count: usize, width: usize) {
        self.observations.resize(count * width, 0.0);
        self.actions.resize(count, 0);
        self.ends.resize(count, false);
        self.log_probabilities.resize(count, 0.0);
        self.rewards.resize(count, 0.0);
    }
}

impl PpoTrainer {
    /// Create a run of `total` steps in `environments`, which are reset.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for settings out of range, or actions that are not discrete.
    pub fn new(
        settings: PpoSettings,
        mut environments: VectorEnv,
        total: u64,
        seed: u64,
        device: Device,
    ) -> Result<Self, TrainingError> {
        settings.validate()?;
        let actions = discrete_action_names("PPO", environments.description())?.len();
        let width = environments.observation_length();
        let shapes = [MlpShape::new(width, &settings.hidden, actions), MlpShape::new(width, &settings.hidden, 1)];
        let mut generator = TrainingRng::seed_from_u64(seed);
        let mut values = shapes[0].orthogonal(&mut generator, 0.01);
        values.extend(shapes[1].orthogonal(&mut generator, 1.0));
        environments.reset(seed)?;
        let parameters = NetworkParameters::new(&values, device)?;
        let mut offset = 0;
        Ok(Self {
            actor: Mlp::at(&parameters, &mut offset, &shapes[0])?,
            critic: Mlp::at(&parameters, &mut offset, &shapes[1])?,
            adam: Adam::new(&parameters, ADAM_EPSILON)?,
            present: PpoState {
                generator,
                moments: settings.normalize_observations.then(|| RunningMoments::new(width)),
                steps: 0,
            },
            rollout: PpoRollout::default(),
            settings,
            environments,
            device,
            parameters,
            total,
        })
    }

    /// Evaluate actor and critic on normalised observations.
    fn values(&self, observations: &[f32]) -> Result<Vec<f32>, TrainingError> {
        let input = matrix(observations, self.environments.observation_length(), self.device)?;
        Ok(tensor_numbers(&self.critic.forward(&input)?.output)?)
    }

    fn normalised(&self, observations: &[f32]) -> Vec<f32> {
        let mut rows = observations.to_vec();
        if let Some(moments) = &self.present.moments {
            moments.normalise(&mut rows);
        }
        rows
    }

    /// Collect a rollout and return the critic's values of the states after it. The environments' parts are stepped in turn: while one
    /// is stepped elsewhere, actions are chosen for the other.
    fn explore(&mut self, progress: &mut TrainingProgress) -> Result<Vec<f32>, TrainingError> {
        let parts = self.environments.parts().to_vec();
        self.rollout.make_room(self.settings.rollout * self.environments.len(), self.environments.observation_length());
        for step in 0..self.settings.rollout {
            for (part, environments) in parts.iter().enumerate() {
                if step > 0 {
                    self.end_step(step - 1, (part, environments), progress)?;
                }
                self.begin_step(step, (part, environments))?;
            }
        }
        for (part, environments) in parts.iter().enumerate() {
            self.end_step(self.settings.rollout - 1, (part, environments), progress)?;
        }
        // All states at once: the critic does not change meanwhile, and a network costs a few states as much as many.
        let rows = self.environments.observation_length() * VALUED_STATES;
        let mut values = Vec::with_capacity(self.rollout.actions.len());
        for observations in self.rollout.observations.chunks(rows) {
            values.extend(self.values(observations)?);
        }
        self.rollout.values = values;
        let last = self.normalised(self.environments.observations());
        self.values(&last)
    }

    /// Choose the actions of a part's environments and begin to do them.
    fn begin_step(&mut self, step: usize, (part, environments): (usize, &Range<usize>)) -> Result<(), TrainingError> {
        let width = self.environments.observation_length();
        let rows = environments.start * width..environments.end * width;
        if let Some(moments) = &mut self.present.moments {
            moments.add(&self.environments.observations()[rows.clone()]);
        }
        let observations = self.normalised(&self.environments.observations()[rows]);
        let input = matrix(&observations, width, self.device)?;
        let logits = tensor_numbers(&self.actor.forward(&input)?.output)?;
        let mut logarithms = vec![0f32; logits.len() / environments.len()];
        let from = step * self.environments.len();
        for (at, logits) in (from + environments.start..).zip(logits.chunks(logarithms.len())) {
            log_softmax(logits, &mut logarithms);
            let probabilities: Vec<f32> = logarithms.iter().map(|log| log.exp()).collect();
            let action = sample_categorical(&mut self.present.generator, &probabilities);
            self.rollout.actions[at] = action as i64;
            self.rollout.log_probabilities[at] = logarithms[action];
        }
        let places = from + environments.start..from + environments.end;
        self.environments.begin(part, ActionBatch::Discrete(&self.rollout.actions[places.clone()]))?;
        self.rollout.observations[places.start * width..places.end * width].copy_from_slice(&observations);
        Ok(())
    }

    /// Take in what a part's step resulted in.
    fn end_step(
        &mut self,
        step: usize,
        (part, environments): (usize, &Range<usize>),
        progress: &mut TrainingProgress,
    ) -> Result<(), TrainingError> {
        self.environments.finish(part)?;
        let reward_scale = self.settings.reward_scale as f32;
        let mut rewards: Vec<f32> =
            self.environments.rewards()[environments.clone()].iter().map(|reward| reward * reward_scale).collect();
        self.bootstrap_truncated(environments, &mut rewards)?;
        let from = step * self.environments.len();
        self.rollout.rewards[from + environments.start..from + environments.end].copy_from_slice(&rewards);
        let (terminated, truncated) = (self.environments.terminated(), self.environments.truncated());
        for index in environments.clone() {
            self.rollout.ends[from + index] = terminated[index] || truncated[index];
        }
        progress.ended.extend(self.environments.ended());
        self.present.steps += environments.len() as u64;
        Ok(())
    }

    /// Add to the reward of a truncated episode the critic's value of its last state (Pardo et al. 2018,
    /// arXiv:1712.00378). `rewards` are those of these environments.
    fn bootstrap_truncated(&self, environments: &Range<usize>, rewards: &mut [f32]) -> Result<(), TrainingError> {
        let cut = |index: &usize| self.environments.truncated()[*index] && !self.environments.terminated()[*index];
        let cut: Vec<usize> = environments.clone().filter(cut).collect();
        if !cut.is_empty() {
            let width = self.environments.observation_length();
            let rows = &self.environments.final_observations()[environments.start * width..environments.end * width];
            let values = self.values(&self.normalised(rows))?;
            for index in cut.into_iter().map(|index| index - environments.start) {
                rewards[index] += self.settings.gamma as f32 * values[index];
            }
        }
        Ok(())
    }

    /// Update the networks from the rollout; returns the number of gradient steps with the measures.
    fn learn(&mut self, advantages: &[f32], learning_rate: f64) -> Result<(u64, Vec<TrainingMeasure>), TrainingError> {
        let returns: Vec<f32> = advantages.iter().zip(&self.rollout.values).map(|(a, v)| a + v).collect();
        let unexplained = variance(advantages);
        let spread = variance(&returns);
        let mut order: Vec<usize> = (0..advantages.len()).collect();
        let (mut sums, mut updates) = ([0f64; 6], 0u32);
        'passes: for _ in 0..self.settings.epochs {
            shuffle(&mut self.present.generator, &mut order);
            for samples in order.chunks(self.settings.batch) {
                let (loss, norm) = self.update(samples, advantages, &returns, learning_rate)?;
                let parts = [loss.policy, loss.value, loss.entropy, loss.kl, loss.clipped, norm];
                sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
                updates += 1;
                if self.settings.kl.is_some_and(|most| loss.kl > most) {
                    break 'passes;
                }
            }
        }
        let names = ["policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "gradient_norm"];
        let mut measures: Vec<TrainingMeasure> =
            names.into_iter().zip(sums).map(|(name, sum)| (name, sum / f64::from(updates))).collect();
        measures.push(("learning_rate", learning_rate));
        if spread > 0.0 {
            measures.push(("explained_variance", 1.0 - unexplained / spread));
        }
        Ok((u64::from(updates), measures))
    }

    /// Do one gradient step on these samples.
    fn update(
        &mut self,
        samples: &[usize],
        advantages: &[f32],
        returns: &[f32],
        learning_rate: f64,
    ) -> Result<(PpoLoss, f64), TrainingError> {
        let width = self.environments.observation_length();
        let observations: Vec<f32> =
            samples.iter().flat_map(|at| &self.rollout.observations[at * width..][..width]).copied().collect();
        let of = |numbers: &[f32]| samples.iter().map(|at| numbers[*at]).collect::<Vec<f32>>();
        let mut advantages = of(advantages);
        if self.settings.normalize_advantages && advantages.len() > 1 {
            normalise(&mut advantages);
        }
        let input = matrix(&observations, width, self.device)?;
        let (actor, critic) = (self.actor.forward(&input)?, self.critic.forward(&input)?);
        let (logits, values) = (tensor_numbers(&actor.output)?, tensor_numbers(&critic.output)?);
        let batch = PpoBatch {
            logits: &logits,
            values: &values,
            actions: &samples.iter().map(|at| self.rollout.actions[*at]).collect::<Vec<_>>(),
            old_log_probabilities: &of(&self.rollout.log_probabilities),
            old_values: &of(&self.rollout.values),
            advantages: &advantages,
            returns: &of(returns),
        };
        let PpoSettings { clip, clip_value, entropy, critic: of_critic, .. } = self.settings;
        let weights = LossWeights { clip: clip as f32, clip_value, entropy: entropy as f32, critic: of_critic as f32 };
        let loss = PpoLoss::compute(&batch, &weights);
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the loss" });
        }
        self.actor.backward(&actor, &matrix(&loss.by_logits, logits.len() / samples.len(), self.device)?)?;
        self.critic.backward(&critic, &matrix(&loss.by_values, 1, self.device)?)?;
        let norm = self.parameters.clip(self.settings.gradient)?;
        if !norm.is_finite() {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the gradient" });
        }
        self.adam.step(&mut self.parameters, learning_rate)?;
        Ok((loss, norm))
    }
}

impl Trainer for PpoTrainer {
    fn advance(&mut self) -> Result<TrainingProgress, TrainingError> {
        let _guard = no_grad_guard();
        let mut progress = TrainingProgress::default();
        let left = 1.0 - self.present.steps as f64 / self.total as f64;
        let learning_rate = self.settings.learning_rate * if self.settings.anneal { left.max(0.0) } else { 1.0 };
        let last_values = self.explore(&mut progress)?;
        let PpoRollout { rewards, values, ends, .. } = &self.rollout;
        let experience = GaeRollout { rewards, values, ends, last_values: &last_values };
        let advantages = experience.advantages(self.settings.gamma as f32, self.settings.lambda as f32);
        (progress.updates, progress.measures) = self.learn(&advantages, learning_rate)?;
        Ok(progress)
    }

    fn steps(&self) -> u64 {
        self.present.steps
    }

    fn total_steps(&self) -> u64 {
        self.total
    }

    fn save(&self) -> Result<TrainerCheckpoint<'_>, TrainingError> {
        // Between advances nothing of a rollout is needed.
        let mut checkpoint = TrainerCheckpoint::default();
        checkpoint.put("parameters", &self.parameters.values)?;
        self.adam.save("adam", &mut checkpoint)?;
        checkpoint.put_state("ppo", &self.present)?;
        checkpoint.put_state("environments", &self.environments.snapshot()?)?;
        Ok(checkpoint)
    }

    fn restore(&mut self, checkpoint: TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        checkpoint.get("parameters", &mut self.parameters.values)?;
        self.adam.restore("adam", &checkpoint)?;
        self.present = checkpoint.state("ppo")?;
        self.environments.restore(&checkpoint.state("environments")?)?;
        Ok(())
    }

    fn weights(&self) -> Result<Vec<u8>, TrainingError> {
        let mut file = File::new("ppo");
        file.sequential("actor", &self.actor.tensors(0)?)?;
        file.sequential("critic", &self.critic.tensors(0)?)?;
        if let Some(moments) = &self.present.moments {
            file.normalisation(moments)?;
        }
        file.to_bytes()
    }

    fn greedy(&self, observations: &[f32], chosen: &mut ChosenActions) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        let rows = self.normalised(observations);
        let input = matrix(&rows, self.environments.observation_length(), self.device)?;
        let logits = self.actor.forward(&input)?.output;
        let width = logits.size()[1] as usize;
        *chosen =
            ChosenActions::Discrete(tensor_numbers(&logits)?.chunks(width).map(|row| argmax(row) as i64).collect());
        Ok(())
    }
}

fn mean_and_variance(numbers: &[f32]) -> (f64, f64) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().map(|number| f64::from(*number)).sum::<f64>() / count;
    (mean, numbers.iter().map(|number| (f64::from(*number) - mean).powi(2)).sum::<f64>() / count)
}

fn variance(numbers: &[f32]) -> f64 {
    mean_and_variance(numbers).1
}

/// Normalise to mean 0 and variance 1.
fn normalise(numbers: &mut [f32]) {
    let (mean, variance) = mean_and_variance(numbers);
    let root = variance.sqrt() + 1e-8;
    numbers.iter_mut().for_each(|number| *number = ((f64::from(*number) - mean) / root) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environments::make_environment;

    fn made(name: &str) -> PpoTrainer {
        let environments = VectorEnv::new((0..2).map(|_| make_environment(name, None).unwrap()).collect()).unwrap();
        let settings = PpoSettings { hidden: [8, 8], gamma: 0.5, batch: 10, ..PpoSettings::default() };
        PpoTrainer::new(settings, environments, 1000, 5, Device::Cpu).unwrap()
    }

    /// Do action 0 until an episode ends.
    fn end(ppo: &mut PpoTrainer) {
        while ppo.environments.ended().is_empty() {
            ppo.environments.step(ActionBatch::Discrete(&[0, 0])).unwrap();
        }
    }

    #[test]
    fn what_follows_counts_where_an_episode_was_cut_short() {
        let mut ppo = made("identity-discrete");
        end(&mut ppo);
        assert_eq!((ppo.environments.truncated(), ppo.environments.terminated()), (&[true; 2][..], &[false; 2][..]));
        let values = ppo.values(ppo.environments.final_observations()).unwrap();
        let mut rewards = [1.0, 2.0];
        ppo.bootstrap_truncated(&(0..2), &mut rewards).unwrap();
        assert!(values.iter().all(|value| *value != 0.0));
        assert_eq!(rewards, [1.0 + 0.5 * values[0], 2.0 + 0.5 * values[1]]);
    }

    #[test]
    fn nothing_follows_an_end() {
        let mut ppo = made("CartPole-v1");
        end(&mut ppo);
        assert!(ppo.environments.terminated().contains(&true) && !ppo.environments.truncated().contains(&true));
        let mut rewards = [1.0, 2.0];
        ppo.bootstrap_truncated(&(0..2), &mut rewards).unwrap();
        assert_eq!(rewards, [1.0, 2.0]);
    }
}
