//! Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905): twin critics with target networks, a tanh-squashed
//! Gaussian actor, and a temperature that keeps the entropy at its target.

mod gaussian;
mod sac_targets;
mod settings;

use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, no_grad_guard};

use self::gaussian::{ActionSample, LOG_STD_BOUNDS};
pub use self::settings::SacSettings;
use super::{
    ChosenActions, Trainer, TrainerCheckpoint, TrainingError, TrainingMeasure, TrainingProgress,
    device_tensors::{matrix, tensor_numbers},
    mlp::{Mlp, MlpShape},
    parameters::{Adam, NetworkParameters},
    replay::{ReplayBuffer, Transition},
    sampling::{TrainingRng, sample_normal, sample_uniform},
    weights_writer::WeightsWriter,
};
use crate::environments::{ActionBatch, ActionSpace, VectorEnv};

/// Epsilon of Adam.
const ADAM_EPSILON: f64 = 1e-8;
/// Environment steps per advance.
const STEPS_PER_ADVANCE: usize = 32;

/// SAC trainer, for environments with continuous actions.
pub struct SacTrainer {
    settings: SacSettings,
    /// A vector of one environment.
    environment: VectorEnv,
    /// Smallest values of the action's numbers.
    low: Vec<f32>,
    high: Vec<f32>,
    /// Whether an action's numbers are scores of discrete actions.
    scores: bool,
    device: Device,
    actor: SacNetwork,
    critics: SacNetwork,
    targets: SacNetwork,
    temperature: NetworkParameters,
    temperature_adam: Adam,
    replay: ReplayBuffer,
    total: u64,
    present: SacState,
}

struct SacNetwork {
    parameters: NetworkParameters,
    mlp: Mlp,
    adam: Adam,
}

impl SacNetwork {
    fn new(values: &[f32], shape: &MlpShape, device: Device) -> Result<Self, TrainingError> {
        let parameters = NetworkParameters::new(values, device)?;
        Ok(Self { mlp: Mlp::at(&parameters, &mut 0, shape)?, adam: Adam::new(&parameters, ADAM_EPSILON)?, parameters })
    }
}

#[derive(Serialize, Deserialize)]
struct SacState {
    generator: TrainingRng,
    steps: u64,
}

/// Sums over the updates of an advance.
#[derive(Default)]
struct SacSums {
    updates: u32,
    critic: f64,
    actor: f64,
    q: f64,
    entropy: f64,
}

impl SacTrainer {
    /// Create a run of `total` steps in `environment`, a vector of one, which is reset.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for settings out of range, or actions that are not continuous.
    pub fn new(
        settings: SacSettings,
        mut environment: VectorEnv,
        total: u64,
        seed: u64,
        device: Device,
    ) -> Result<Self, TrainingError> {
        settings.validate()?;
        super::check_range("environments", environment.len(), 1, 1)?;
        let ActionSpace::Continuous { low, high } = environment.description().actions.clone() else {
            let reason = "SAC takes continuous actions; PPO and Rainbow DQN take discrete ones".to_owned();
            return Err(TrainingError::Setting { name: "algorithm", reason });
        };
        let (width, actions) = (environment.observation_length(), low.len());
        let mut generator = TrainingRng::seed_from_u64(seed);
        let actor = MlpShape::new(width, &settings.hidden, 2 * actions);
        let critics = MlpShape { copies: 2, ..MlpShape::new(width + actions, &settings.hidden, 1) };
        let actor = SacNetwork::new(&actor.uniform(&mut generator), &actor, device)?;
        let values = critics.uniform(&mut generator);
        environment.reset(seed)?;
        let temperature = NetworkParameters::new(&[settings.temperature.ln() as f32], Device::Cpu)?;
        let capacity = settings.replay.min(usize::try_from(total).unwrap_or(usize::MAX)).max(1);
        Ok(Self {
            critics: SacNetwork::new(&values, &critics, device)?,
            targets: SacNetwork::new(&values, &critics, device)?,
            temperature_adam: Adam::new(&temperature, ADAM_EPSILON)?,
            replay: ReplayBuffer::new(capacity, width, actions),
            present: SacState { generator, steps: 0 },
            settings,
            environment,
            low,
            high,
            scores: false,
            device,
            actor,
            temperature,
            total,
        })
    }

    /// Declare that an action's numbers are scores of discrete actions, so that the serving side takes the highest.
    #[must_use]
    pub fn with_score_actions(self, scores: bool) -> Self {
        Self { scores, ..self }
    }

    /// Scale an action in (-1, 1) to the environment's bounds.
    fn scale_action(&self, squashed: &[f32]) -> Vec<f32> {
        let bounds = self.low.iter().zip(&self.high).cycle();
        squashed.iter().zip(bounds).map(|(action, (low, high))| low + 0.5 * (action + 1.0) * (high - low)).collect()
    }

    fn observation_matrix(&self, observations: &[f32]) -> Result<Tensor, TrainingError> {
        Ok(matrix(observations, self.environment.observation_length(), self.device)?)
    }

    /// Do one step and store its transition.
    fn explore(&mut self, progress: &mut TrainingProgress) -> Result<(), TrainingError> {
        let before = self.environment.observations().to_vec();
        let generator = &mut self.present.generator;
        let squashed: Vec<f32> = if self.present.steps < self.settings.warmup {
            self.low.iter().map(|_| sample_uniform(generator, -1.0, 1.0) as f32).collect()
        } else {
            let input = matrix(&before, before.len(), self.device)?;
            let output = tensor_numbers(&self.actor.mlp.forward(&input)?.output)?;
            let (means, others) = output.split_at(self.low.len());
            means
                .iter()
                .zip(others)
                .map(|(mean, other)| ActionSample::new(*mean, *other, sample_normal(generator)).action)
                .collect()
        };
        if squashed.iter().any(|number| !number.is_finite()) {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the action" });
        }
        self.environment.step(ActionBatch::Continuous(&self.scale_action(&squashed)))?;
        let ended = self.environment.terminated()[0] || self.environment.truncated()[0];
        self.replay.add(&Transition {
            observation: &before,
            action: &squashed,
            reward: self.environment.rewards()[0] * self.settings.reward_scale as f32,
            next: if ended { self.environment.final_observations() } else { self.environment.observations() },
            discount: if self.environment.terminated()[0] { 0.0 } else { self.settings.gamma as f32 },
        });
        progress.ended.extend(self.environment.ended());
        self.present.steps += 1;
        Ok(())
    }

    /// Do one gradient step of critics, actor and temperature.
    fn update(&mut self, sums: &mut SacSums) -> Result<(), TrainingError> {
        let places = self.replay.draw(&mut self.present.generator, self.settings.batch);
        let rows: Vec<Transition<'_>> = places.iter().map(|place| self.replay.get(*place)).collect();
        let (count, actions) = (rows.len(), self.low.len());
        let alpha = tensor_numbers(&self.temperature.values)?[0].exp();

        // Evaluate the actor in the sampled states and their next states, in one pass.
        let seen = rows.iter().flat_map(|row| row.observation);
        let both: Vec<f32> = seen.chain(rows.iter().flat_map(|row| row.next)).copied().collect();
        let acting = self.actor.mlp.forward(&matrix(&both, rows[0].observation.len(), self.device)?)?;
        let generator = &mut self.present.generator;
        let draw = |row: &[f32]| {
            let (means, others) = row.split_at(actions);
            means
                .iter()
                .zip(others)
                .map(|(mean, other)| ActionSample::new(*mean, *other, sample_normal(generator)))
                .collect()
        };
        let draws: Vec<Vec<ActionSample>> = tensor_numbers(&acting.output)?.chunks(2 * actions).map(draw).collect();
        let log_density = |draws: &[ActionSample]| draws.iter().map(|draw| draw.log_density).sum::<f32>();

        let states = rows.iter().map(|row| row.next).zip(&draws[count..]);
        let next = self.with_actions(states.map(|(state, draws)| (state, draws.iter().map(|draw| draw.action))))?;
        let q_next = tensor_numbers(&self.targets.mlp.forward(&next)?.output)?;
        let q_next = |at: usize| [q_next[at], q_next[count + at]];
        let wanted: Vec<f32> = rows
            .iter()
            .zip(&draws[count..])
            .enumerate()
            .map(|(at, (row, draws))| {
                sac_targets::critic_target(row.reward, row.discount, q_next(at), alpha, log_density(draws))
            })
            .collect();

        let taken = self.with_actions(rows.iter().map(|row| (row.observation, row.action.iter().copied())))?;
        let judged = self.critics.mlp.forward(&taken)?;
        let q = tensor_numbers(&judged.output)?;
        let errors: Vec<f32> = q.iter().zip(wanted.iter().cycle()).map(|(q, wanted)| q - wanted).collect();
        let critic = errors.iter().map(|error| f64::from(error * error)).sum::<f64>() / (2 * count) as f64;
        if !critic.is_finite() {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the critics' loss" });
        }
        let share = 1.0 / count as f32;
        let by_q: Vec<f32> = errors.iter().map(|error| error * share).collect();
        let by_q = matrix(&by_q, 1, self.device)?.f_view([2, count as i64, 1])?;

        let states = rows.iter().map(|row| row.observation).zip(&draws[..count]);
        let chosen = self.with_actions(states.map(|(state, draws)| (state, draws.iter().map(|draw| draw.action))))?;
        let surprise = draws[..count].iter().map(|draws| f64::from(log_density(draws))).sum::<f64>() / count as f64;

        if !surprise.is_finite() {
            return Err(TrainingError::Diverged { step: self.present.steps, what: "the policy's entropy" });
        }
        self.critics.mlp.backward(&judged, &by_q)?;
        self.critics.adam.step(&mut self.critics.parameters, self.settings.learning_rate)?;
        let actor = self.improve_actor(&acting, &draws[..count], &chosen, alpha)?;
        self.adjust_temperature(surprise)?;
        self.targets.parameters.follow(&self.critics.parameters, self.settings.tau)?;

        sums.updates += 1;
        sums.critic += critic;
        sums.actor += actor + f64::from(alpha) * surprise;
        sums.q += q.iter().map(|q| f64::from(*q)).sum::<f64>() / (2 * count) as f64;
        sums.entropy -= surprise;
        Ok(())
    }

    /// Concatenate states and actions: the critics' input.
    fn with_actions<'a, A: Iterator<Item = f32>>(
        &self,
        rows: impl Iterator<Item = (&'a [f32], A)>,
    ) -> Result<Tensor, TrainingError> {
        let all: Vec<f32> = rows.flat_map(|(state, action)| state.iter().copied().chain(action)).collect();
        Ok(matrix(&all, self.environment.observation_length() + self.low.len(), self.device)?)
    }

    /// Do a gradient step of the actor on `mean(alpha log pi - min Q)`; returns the mean of the second term.
    fn improve_actor(
        &mut self,
        acting: &super::mlp::ForwardPass,
        draws: &[Vec<ActionSample>],
        chosen: &Tensor,
        alpha: f32,
    ) -> Result<f64, TrainingError> {
        let (count, actions) = (draws.len(), self.low.len());
        let share = 1.0 / count as f32;
        let judged = self.critics.mlp.forward(chosen)?;
        let q = tensor_numbers(&judged.output)?;
        // Each row's gradient goes through the critic with the smaller value.
        let mut by_q = vec![0f32; 2 * count];
        for at in 0..count {
            by_q[if q[at] <= q[count + at] { at } else { count + at }] = -share;
        }
        let by_q = matrix(&by_q, 1, self.device)?.f_view([2, count as i64, 1])?;
        let by_input = self.critics.mlp.input_gradient(&judged, &by_q)?.f_sum_dim_intlist(&[0i64][..], false, None)?;
        let width = self.environment.observation_length() + actions;
        let by_input = tensor_numbers(&by_input)?;
        let mut by_output = Vec::with_capacity(2 * actions * count);
        for (draws, by_input) in draws.iter().zip(by_input.chunks(width)) {
            let by_action = &by_input[width - actions..];
            let both: Vec<[f32; 2]> =
                draws.iter().zip(by_action).map(|(draw, by)| draw.backward(*by, alpha * share)).collect();
            by_output.extend(both.iter().map(|pair| pair[0]));
            by_output.extend(both.iter().map(|pair| pair[1]));
        }
        let acting = acting.first(count)?;
        self.actor.mlp.backward(&acting, &matrix(&by_output, 2 * actions, self.device)?)?;
        self.actor.adam.step(&mut self.actor.parameters, self.settings.learning_rate)?;
        let least = (0..count).map(|at| f64::from(q[at].min(q[count + at])));
        Ok(-least.sum::<f64>() / count as f64)
    }

    /// Do a gradient step of the temperature's logarithm on `-log alpha (log pi + target)`.
    fn adjust_temperature(&mut self, log_density: f64) -> Result<(), TrainingError> {
        let entropy = self.settings.target_entropy.unwrap_or(-(self.low.len() as f64));
        let _ = self.temperature.gradients.f_fill_(sac_targets::temperature_gradient(log_density, entropy))?;
        Ok(self.temperature_adam.step(&mut self.temperature, self.settings.learning_rate)?)
    }

    fn measures(&self, sums: &SacSums) -> Result<Vec<TrainingMeasure>, TrainingError> {
        if sums.updates == 0 {
            return Ok(Vec::new());
        }
        let mean = |sum: f64| sum / f64::from(sums.updates);
        Ok(vec![
            ("critic_loss", mean(sums.critic)),
            ("actor_loss", mean(sums.actor)),
            ("q_value", mean(sums.q)),
            ("entropy", mean(sums.entropy)),
            ("temperature", f64::from(tensor_numbers(&self.temperature.values)?[0].exp())),
        ])
    }
}

impl Trainer for SacTrainer {
    fn advance(&mut self) -> Result<TrainingProgress, TrainingError> {
        let _guard = no_grad_guard();
        let (mut progress, mut sums) = (TrainingProgress::default(), SacSums::default());
        for _ in 0..STEPS_PER_ADVANCE {
            self.explore(&mut progress)?;
            if self.present.steps > self.settings.warmup {
                self.update(&mut sums)?;
            }
            if self.present.steps >= self.total {
                break;
            }
        }
        progress.updates = u64::from(sums.updates);
        progress.measures = self.measures(&sums)?;
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
        for (name, network) in [("actor", &self.actor), ("critics", &self.critics), ("targets", &self.targets)] {
            checkpoint.put(name, &network.parameters.values)?;
            network.adam.save(name, &mut checkpoint)?;
        }
        checkpoint.put("temperature", &self.temperature.values)?;
        self.temperature_adam.save("temperature", &mut checkpoint)?;
        self.replay.save(&mut checkpoint)?;
        checkpoint.put_state("sac", &self.present)?;
        checkpoint.put_state("environment", &self.environment.snapshot()?)?;
        Ok(checkpoint)
    }

    fn restore(&mut self, mut checkpoint: TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        let networks = [("actor", &mut self.actor), ("critics", &mut self.critics), ("targets", &mut self.targets)];
        for (name, network) in networks {
            checkpoint.get(name, &mut network.parameters.values)?;
            network.adam.restore(name, &checkpoint)?;
        }
        checkpoint.get("temperature", &mut self.temperature.values)?;
        self.temperature_adam.restore("temperature", &checkpoint)?;
        self.replay.restore(&mut checkpoint)?;
        self.present = checkpoint.state("sac")?;
        self.environment.restore(&checkpoint.state("environment")?)?;
        Ok(())
    }

    /// Tensors: `actor` is the two hidden layers, followed by `actor_mean` and `actor_log_std`; the action is
    /// `tanh(mean)`, scaled to [`action_low`, `action_high`].
    fn weights(&self) -> Result<Vec<u8>, TrainingError> {
        let mut file = WeightsWriter::new("sac");
        let layers = self.actor.mlp.tensors(0)?;
        let (hidden, [weight, bias]) = (&layers[..2], &layers[2]);
        file.sequential("actor", hidden)?;
        for (name, at) in [("actor_mean", 0), ("actor_log_std", self.low.len() as i64)] {
            let part = |tensor: &Tensor| tensor.f_narrow(0, at, self.low.len() as i64);
            file.layer(name, &[part(weight)?, part(bias)?])?;
        }
        file.sequential("qf1", &self.critics.mlp.tensors(0)?)?;
        file.sequential("qf2", &self.critics.mlp.tensors(1)?)?;
        file.vector("action_low", &self.low)?;
        file.vector("action_high", &self.high)?;
        if self.scores {
            file.note("actions", "scores");
        }
        file.note("log_std_bounds", &format!("{:?}", LOG_STD_BOUNDS));
        file.to_bytes()
    }

    fn greedy(&self, observations: &[f32], chosen: &mut ChosenActions) -> Result<(), TrainingError> {
        let _guard = no_grad_guard();
        let output = tensor_numbers(&self.actor.mlp.forward(&self.observation_matrix(observations)?)?.output)?;
        let actions = self.low.len();
        let means = output.chunks(2 * actions).flat_map(|row| &row[..actions]);
        let squashed: Vec<f32> = means.map(|mean| mean.tanh()).collect();
        *chosen = ChosenActions::Continuous(self.scale_action(&squashed));
        Ok(())
    }
}
