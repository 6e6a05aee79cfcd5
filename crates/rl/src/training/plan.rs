//! Plan of a training run: algorithm with settings, environment, number of steps, seed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tch::Device;

use super::{
    PpoSettings, PpoTrainer, RainbowSettings, RainbowTrainer, SacSettings, SacTrainer, Trainer, TrainingError,
    check_range, discrete_action_names,
};
use crate::environments::{ActionSpace, Environment, EnvironmentDescription, EnvironmentSource, VectorEnv};

/// A training algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    /// Proximal policy optimisation.
    Ppo,
    /// Advantage actor-critic: PPO with other settings.
    A2c,
    /// Rainbow deep Q-network.
    RainbowDqn,
    /// DQN: Rainbow with its extensions off.
    Dqn,
    /// Soft actor-critic (SAC).
    Sac,
}

/// Algorithms by name.
const ALGORITHM_NAMES: [(&str, Algorithm); 5] = [
    ("ppo", Algorithm::Ppo),
    ("a2c", Algorithm::A2c),
    ("rainbow_dqn", Algorithm::RainbowDqn),
    ("dqn", Algorithm::Dqn),
    ("sac", Algorithm::Sac),
];

impl utoipa::PartialSchema for Algorithm {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let words = ALGORITHM_NAMES.map(|(name, _)| name);
        utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String).enum_values(Some(words)).into()
    }
}

impl utoipa::ToSchema for Algorithm {}

/// Algorithm names that the monolith accepts and this service does not implement.
const UNSUPPORTED_ALGORITHMS: [&str; 3] = ["td3", "impala", "muzero"];

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some((_, algorithm)) = ALGORITHM_NAMES.into_iter().find(|(known, _)| *known == name) {
            return Ok(algorithm);
        }
        let known = ALGORITHM_NAMES.map(|(known, _)| known).join(", ");
        match UNSUPPORTED_ALGORITHMS.contains(&name) {
            true => Err(format!("'{name}' is not implemented: there are {known}")),
            false => Err(format!("there is no algorithm '{name}': there are {known}")),
        }
    }
}

impl TryFrom<String> for Algorithm {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.to_string()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALGORITHM_NAMES.into_iter().find(|(_, algorithm)| algorithm == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Complete settings of an algorithm.
#[derive(Debug, Clone, PartialEq)]
enum AlgorithmSettings {
    Ppo(PpoSettings),
    Rainbow(RainbowSettings),
    Sac(SacSettings),
}

/// Plan of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPlan {
    /// Name of the environment.
    pub environment: String,
    /// Parameters of the environment; null: all defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Name of the algorithm.
    pub algorithm: Algorithm,
    /// Settings of the algorithm; those left out keep their default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
    /// Number of environment steps: 1 to 100 000 000.
    pub steps: u64,
    /// Seed. Equal plans and seeds give equal policies on processors of the same kind.
    #[serde(default)]
    pub seed: u64,
    /// Where the environment comes from; no part of what is written.
    #[serde(skip)]
    pub source: EnvironmentSource,
}

impl TrainingPlan {
    /// Create the trainer.
    ///
    /// # Errors
    /// When a name, parameter or setting is unknown or out of range.
    pub fn make_trainer(&self, device: Device) -> Result<Box<dyn Trainer>, TrainingError> {
        let settings = self.checked_settings()?;
        Ok(match settings {
            AlgorithmSettings::Ppo(settings) => {
                let environments = self.environments(settings.environments)?;
                Box::new(PpoTrainer::new(settings, environments, self.steps, self.seed, device)?)
            }
            AlgorithmSettings::Rainbow(settings) => {
                Box::new(RainbowTrainer::new(settings, self.environments(1)?, self.steps, self.seed, device)?)
            }
            AlgorithmSettings::Sac(settings) => {
                let actions = self.world()?.actions;
                let sac = SacTrainer::new(settings, self.environments(1)?, self.steps, self.seed, device)?;
                Box::new(sac.with_score_actions(matches!(actions, ActionSpace::Discrete { .. })))
            }
        })
    }

    /// Validate the plan as [`TrainingPlan::make_trainer`] does, without creating the networks, which takes seconds.
    ///
    /// # Errors
    /// As [`TrainingPlan::make_trainer`].
    pub fn check(&self) -> Result<(), TrainingError> {
        self.checked_settings().map(drop)
    }

    /// Return the settings, checked alone, against the environment, and against the number of steps.
    fn checked_settings(&self) -> Result<AlgorithmSettings, TrainingError> {
        check_range("steps", self.steps, 1, 100_000_000)?;
        let described = self.description()?;
        let settings = self.settings()?;
        match &settings {
            AlgorithmSettings::Ppo(settings) => {
                settings.validate()?;
                discrete_action_names("PPO", &described)?;
                if let EnvironmentSource::Bridge(bridge) = &self.source {
                    bridge.check_count(settings.environments)?;
                }
            }
            AlgorithmSettings::Rainbow(settings) => {
                settings.validate()?;
                discrete_action_names("Rainbow DQN", &described)?;
                settings.check_learns(self.steps)?;
            }
            AlgorithmSettings::Sac(settings) => {
                settings.validate()?;
                settings.check_learns(self.steps)?;
                // Elsewhere discrete actions are taken as scores.
                if matches!(described.actions, ActionSpace::Discrete { .. }) {
                    let reason =
                        "SAC takes continuous actions through a bridge; PPO and Rainbow DQN take discrete ones";
                    return Err(TrainingError::Setting { name: "algorithm", reason: reason.to_owned() });
                }
            }
        }
        Ok(settings)
    }

    /// Whether actions are numbers, one for each discrete action of the environment.
    fn scores(&self) -> bool {
        self.algorithm == Algorithm::Sac
    }

    /// Create one environment, as the policy sees it: SAC acts in discrete ones through [`crate::environments::with_score_actions`]. `None`:
    /// the environment is in another process.
    ///
    /// # Errors
    /// When the name or a parameter is unknown.
    pub fn environment(&self) -> Result<Option<Box<dyn Environment>>, TrainingError> {
        Ok(self.source.simulated(&self.environment, self.parameters.as_ref(), self.scores())?)
    }

    /// Describe the environment as the policy sees it.
    ///
    /// # Errors
    /// When the name or a parameter is unknown.
    pub fn description(&self) -> Result<EnvironmentDescription, TrainingError> {
        Ok(self.source.description(&self.environment, self.parameters.as_ref(), self.scores())?)
    }

    /// Describe the environment with its own actions.
    ///
    /// # Errors
    /// When the name or a parameter is unknown.
    pub fn world(&self) -> Result<EnvironmentDescription, TrainingError> {
        Ok(self.source.description(&self.environment, self.parameters.as_ref(), false)?)
    }

    /// Create several environments, as the policy sees them.
    ///
    /// # Errors
    /// When the name or a parameter is unknown, or a bridge is not connected.
    pub fn environments(&self, count: usize) -> Result<VectorEnv, TrainingError> {
        Ok(self.source.vector(&self.environment, self.parameters.as_ref(), self.scores(), count)?)
    }

    fn settings(&self) -> Result<AlgorithmSettings, TrainingError> {
        Ok(match self.algorithm {
            Algorithm::Ppo => AlgorithmSettings::Ppo(self.over(&PpoSettings::default())?),
            Algorithm::A2c => AlgorithmSettings::Ppo(self.over(&PpoSettings::a2c())?),
            Algorithm::RainbowDqn => AlgorithmSettings::Rainbow(self.over(&RainbowSettings::default())?),
            Algorithm::Dqn => AlgorithmSettings::Rainbow(self.over(&RainbowSettings::dqn())?),
            Algorithm::Sac => AlgorithmSettings::Sac(self.over(&SacSettings::default())?),
        })
    }

    /// Return the plan with every setting filled in.
    ///
    /// # Errors
    /// As [`TrainingPlan::make_trainer`].
    pub fn whole(&self) -> Result<Self, TrainingError> {
        let settings = match self.settings()? {
            AlgorithmSettings::Ppo(settings) => serde_json::to_value(settings),
            AlgorithmSettings::Rainbow(settings) => serde_json::to_value(settings),
            AlgorithmSettings::Sac(settings) => serde_json::to_value(settings),
        };
        Ok(Self { settings: Some(settings?), ..self.clone() })
    }

    /// Merge the given settings into `default`.
    fn over<S: Serialize + DeserializeOwned>(&self, default: &S) -> Result<S, TrainingError> {
        let mut all = serde_json::to_value(default)?;
        match (&self.settings, &mut all) {
            (Some(Value::Object(given)), Value::Object(all)) => {
                all.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            (None | Some(Value::Null), _) => {}
            _ => return Err(TrainingError::Setting { name: "settings", reason: "an object is needed".into() }),
        }
        let refused = |error: serde_path_to_error::Error<serde_json::Error>| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            TrainingError::Setting { name: "settings", reason: format!("{path}: {inner}") }
        };
        serde_path_to_error::deserialize(all).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(value: Value) -> TrainingPlan {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn settings_lie_over_the_algorithms_own() {
        let a2c =
            plan(json!({"environment": "CartPole-v1", "algorithm": "a2c", "steps": 10, "settings": {"gamma": 0.9}}));
        let whole = a2c.whole().unwrap();
        let settings = whole.settings.unwrap();
        assert_eq!(
            (&settings["gamma"], &settings["epochs"], &settings["rollout"]),
            (&json!(0.9), &json!(1), &json!(5))
        );
        assert!(a2c.make_trainer(Device::Cpu).is_ok());
        let dqn = plan(json!({"environment": "CartPole-v1", "algorithm": "dqn", "steps": 10})).whole().unwrap();
        let ingredients = ["double", "dueling", "noisy", "distributional", "prioritized"];
        assert!(ingredients.iter().all(|name| dqn.settings.as_ref().unwrap()[name] == false));
    }

    #[test]
    fn runs_that_would_never_learn_are_refused() {
        let refusal = |algorithm: &str, steps: u64, settings: Value| {
            let value =
                json!({"environment": "CartPole-v1", "algorithm": algorithm, "steps": steps, "settings": settings});
            let plan = plan(value);
            let refused = plan.check().err().map(|error| error.to_string());
            assert_eq!(plan.make_trainer(Device::Cpu).err().map(|error| error.to_string()), refused);
            refused
        };
        let of = |algorithm: &str, steps: u64, settings: Value| refusal(algorithm, steps, settings).unwrap_or_default();
        let late = of("sac", 100, json!({}));
        assert_eq!(late, "warmup: 100 is not below the 100 steps of the run: it would end before learning begins");
        assert!(of("dqn", 1000, json!({})).starts_with("warmup: 1000 is not below the 1000 steps"));
        assert!(of("dqn", 50, json!({"warmup": u64::MAX})).starts_with("warmup: "));
        let rare = of("rainbow_dqn", 1999, json!({"every": 1000}));
        assert_eq!(rare, "every: no multiple of 1000 lies after the warmup of 1000 within the 1999 steps of the run");
        assert!(of("dqn", 1999, json!({"every": u64::MAX})).starts_with("every: "));
        let many = of("sac", 200, json!({}));
        assert_eq!(many, "batch: 256 is more than the 200 transitions that the run collects");
        assert!(
            of("rainbow_dqn", 60, json!({"warmup": 1, "steps": 61})).starts_with("settings: steps: 61 is more than")
        );
        let small = json!({"hidden": [4, 4], "stream": 4, "warmup": 999, "every": 1000});
        assert_eq!(refusal("rainbow_dqn", 1000, small), None);
        assert_eq!(refusal("sac", 256, json!({"hidden": [4, 4]})), None);
        assert_eq!(refusal("ppo", 1, json!({"hidden": [4, 4]})), None, "whole rollouts are made");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refusal = |environment: &str, algorithm: &str, settings: Value| {
            let value = json!({"environment": environment, "algorithm": algorithm, "steps": 10, "settings": settings});
            let plan = plan(value);
            let refused = plan.make_trainer(Device::Cpu).err().map(|error| error.to_string());
            assert_eq!(plan.check().err().map(|error| error.to_string()), refused, "without networks likewise");
            refused.unwrap()
        };
        let wrong = refusal("CartPole-v1", "ppo", json!({"gama": 0.9}));
        assert!(wrong.starts_with("settings: gama: unknown field `gama`, expected one of `environments`"), "{wrong}");
        let wrong = refusal("CartPole-v1", "ppo", json!({"batch": "many"}));
        assert!(wrong.starts_with("settings: batch: invalid type"), "{wrong}");
        assert_eq!(refusal("CartPole-v1", "ppo", json!({"gamma": 1.5})), "gamma: 1.5 is not from 0 to 1");
        assert_eq!(
            refusal("CartPole-v1", "ppo", json!({"batch": 2000})),
            "batch: 2000 is not from 1 to 1024, the samples of a rollout: environments (8) x rollout (128)"
        );
        let few = refusal("CartPole-v1", "a2c", json!({"environments": 4}));
        assert_eq!(few, "batch: 40 is not from 1 to 20, the samples of a rollout: environments (4) x rollout (5)");
        assert_eq!(refusal("CartPole-v1", "sac", json!([])), "settings: an object is needed");
        assert!(refusal("Pendulum-v1", "rainbow_dqn", json!({})).contains("SAC takes continuous"));
        assert!(refusal("Tetris", "ppo", json!({})).starts_with("there is no environment 'Tetris'"));
        let algorithm = |name: &str| name.parse::<Algorithm>().unwrap_err();
        assert_eq!(algorithm("td3"), "'td3' is not implemented: there are ppo, a2c, rainbow_dqn, dqn, sac");
        assert_eq!(algorithm("x"), "there is no algorithm 'x': there are ppo, a2c, rainbow_dqn, dqn, sac");
    }
}
