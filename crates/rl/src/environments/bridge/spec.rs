//! What the environments behind a bridge are like, as the parameters of a run say it and as the bridge says it again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{ActionSpace, EnvironmentDescription};
use am_core::validation::{FieldPath, PathSegment, Violation, Violations, has_length};

/// Name of the environment of runs whose environments are behind a bridge.
pub const BRIDGE_ENVIRONMENT: &str = "bridge";
/// Most numbers of an observation.
const MAX_OBSERVATIONS: usize = 4096;
/// Most discrete actions, and most numbers of a continuous one.
const MAX_ACTIONS: usize = 1024;
/// Most steps of an episode.
const MAX_HORIZON: u32 = 1_000_000;
/// Longest name of an environment, in characters.
const MAX_NAME_CHARS: usize = 100;

fn default_horizon() -> u32 {
    1000
}

/// Actions that the environments behind a bridge take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum BridgeActions {
    /// One of `count`, by index.
    Discrete { count: usize },
    /// Vector of numbers with these bounds.
    Continuous { low: Vec<f64>, high: Vec<f64> },
}

/// Relative difference of two bounds that are the same one after they went through JSON.
const BOUND_TOLERANCE: f64 = 1e-6;

impl BridgeActions {
    fn is_like(&self, other: &Self) -> bool {
        let same = |one: &[f64], other: &[f64]| {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| (one - other).abs() <= BOUND_TOLERANCE * (1.0 + one.abs()))
        };
        match (self, other) {
            (Self::Discrete { count }, Self::Discrete { count: other }) => count == other,
            (Self::Continuous { low, high }, Self::Continuous { low: other_low, high: other_high }) => {
                same(low, other_low) && same(high, other_high)
            }
            _ => false,
        }
    }
}

/// The environments behind a bridge: parameters of a run with the environment [`BRIDGE_ENVIRONMENT`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSpec {
    /// Name of the environment, for people; the bridge says the same one.
    environment: String,
    /// Numbers of an observation, 1 to 4096.
    observations: usize,
    /// What actions are: one of several, or numbers.
    actions: BridgeActions,
    /// Steps within which every episode ends, 1 to 1 000 000. Default 1000.
    #[serde(default = "default_horizon")]
    horizon: u32,
}

impl BridgeSpec {
    /// Read the parameters of a run.
    ///
    /// # Errors
    /// Where they are not as they must be; all faults at once where they could be read.
    pub fn read(parameters: Option<&Value>) -> Result<Self, Vec<Violation>> {
        let why = "must describe the bridge's environments: `environment`, `observations`, `actions`, `horizon`";
        let missing = || vec![Violation::new(FieldPath::default(), why)];
        let parameters = parameters.filter(|value| value.is_object()).ok_or_else(missing)?;
        let spec: Self =
            serde_path_to_error::deserialize(parameters).map_err(|error| vec![Violation::unreadable(&error)])?;
        let mut violations = Violations::default();
        let named = has_length(&spec.environment, &(1..=MAX_NAME_CHARS));
        violations.require(named, "environment", format!("must have 1 to {MAX_NAME_CHARS} characters"));
        violations.require_within(Some(spec.observations), &(1..=MAX_OBSERVATIONS), "observations");
        violations.require_within(Some(spec.horizon), &(1..=MAX_HORIZON), "horizon");
        match &spec.actions {
            BridgeActions::Discrete { count } => {
                violations.require_within(Some(*count), &(1..=MAX_ACTIONS), ["actions", "count"]);
            }
            BridgeActions::Continuous { low, high } => {
                violations.require_within(Some(low.len()), &(1..=MAX_ACTIONS), ["actions", "low"]);
                let same = low.len() == high.len();
                violations.require(same, ["actions", "high"], "must have as many numbers as low");
                for (at, (low, high)) in low.iter().zip(high).enumerate() {
                    let fits = low < high && (*low as f32).is_finite() && (*high as f32).is_finite();
                    let path = [PathSegment::from("actions"), "high".into(), at.into()];
                    violations.require(fits, path, "must be above the number of low, both finite as 32-bit floats");
                }
            }
        }
        violations.finish_with(Some(spec))
    }

    /// Describe the environments as training sees them.
    pub(super) fn description(&self) -> EnvironmentDescription {
        let numbers = |all: &[f64]| all.iter().map(|number| *number as f32).collect();
        EnvironmentDescription {
            name: BRIDGE_ENVIRONMENT.to_owned(),
            summary: format!("{}, in another process behind a bridge.", self.environment),
            observations: (0..self.observations).map(|at| format!("observation_{at}")).collect(),
            bounds: vec![(None, None); self.observations],
            actions: match &self.actions {
                BridgeActions::Discrete { count } => {
                    ActionSpace::Discrete { names: (0..*count).map(|at| format!("action_{at}")).collect() }
                }
                BridgeActions::Continuous { low, high } => {
                    ActionSpace::Continuous { low: numbers(low), high: numbers(high) }
                }
            },
            horizon: self.horizon,
        }
    }

    /// Whether a bridge with the environments `other` is one of these; the reason if it is not.
    ///
    /// # Errors
    /// The first member that differs, in words.
    pub fn check_same(&self, other: &Self) -> Result<(), String> {
        let members = [
            ("environment", self.environment == other.environment),
            ("observations", self.observations == other.observations),
            ("actions", self.actions.is_like(&other.actions)),
            ("horizon", self.horizon == other.horizon),
        ];
        match members.into_iter().find(|(_, same)| !same) {
            Some((member, _)) => Err(format!("{member} is not what the run says")),
            None => Ok(()),
        }
    }
}
