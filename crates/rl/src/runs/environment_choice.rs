//! The environment that a run or an evaluation names: built in, sent as tables, or behind a bridge.

use serde_json::{Value, json};

use super::{TrainingRuns, model::TrainingSpec};
use crate::{
    environments::{BRIDGE_ENVIRONMENT, BridgeSource, BridgeSpec, EnvironmentSource, is_built_in},
    error::{Result, RlError},
    training::{Algorithm, TrainingPlan},
};
use am_core::{boxed, validation::within};

/// Setting of every algorithm that an environment's discount is the default of.
const DISCOUNT_SETTING: &str = "gamma";

impl TrainingRuns {
    /// Find the environment that `work` names, and write its version into it. A name that nothing has is left, for the
    /// validation to refuse.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for parameters of a bridge that describe none.
    #[boxed]
    pub async fn choose_environment(&self, work: TrainingSpec) -> Result<(TrainingSpec, EnvironmentSource)> {
        if work.environment == BRIDGE_ENVIRONMENT {
            let spec = BridgeSpec::read(work.parameters.as_ref());
            let spec = spec.map_err(|found| RlError::Invalid(within("parameters", found)))?;
            return Ok((work, EnvironmentSource::Bridge(BridgeSource::described(spec))));
        }
        if is_built_in(&work.environment) {
            return Ok((work, EnvironmentSource::BuiltIn));
        }
        let Some((found, model)) = self.0.environments.model(&work.environment).await? else {
            return Ok((work, EnvironmentSource::BuiltIn));
        };
        let work = TrainingSpec {
            environment: found.version.id.clone(),
            settings: with_discount(work.settings, model.discount()),
            environment_sha256: Some(found.version.sha256.clone()),
            optimal_return: Some(found.version.solution.returns.optimum),
            ..work
        };
        Ok((work, EnvironmentSource::Tables(model)))
    }

    /// The plan of an evaluation in the environment of this name, and the name with its version.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for a bridge.
    #[boxed]
    pub async fn evaluation_plan(
        &self,
        environment: String,
        parameters: Option<Value>,
        seed: u64,
    ) -> Result<(String, TrainingPlan)> {
        if environment == BRIDGE_ENVIRONMENT {
            let why = "is behind a bridge, which only a training run has: its version has the scores of the run's end";
            return Err(RlError::invalid("environment", why));
        }
        let (environment, source) = match self.0.environments.model(&environment).await? {
            Some((found, model)) if !is_built_in(&environment) => (found.version.id, EnvironmentSource::Tables(model)),
            _ => (environment, EnvironmentSource::BuiltIn),
        };
        // The algorithm only determines the form of actions, which are the environment's own.
        let algorithm = Algorithm::Ppo;
        let named = environment.clone();
        let plan = TrainingPlan { environment: named, parameters, algorithm, settings: None, steps: 1, seed, source };
        Ok((environment, plan))
    }
}

/// The settings, with an environment's discount where they say none.
fn with_discount(settings: Option<Value>, discount: f64) -> Option<Value> {
    match settings {
        Some(Value::Object(mut members)) => {
            members.entry(DISCOUNT_SETTING).or_insert_with(|| json!(discount));
            Some(Value::Object(members))
        }
        None | Some(Value::Null) => Some(json!({DISCOUNT_SETTING: discount})),
        // No settings at all: the validation says so.
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environments_discount_is_a_default() {
        assert_eq!(with_discount(None, 0.5), Some(json!({"gamma": 0.5})));
        assert_eq!(with_discount(Some(json!({"batch": 2})), 0.5), Some(json!({"batch": 2, "gamma": 0.5})));
        assert_eq!(with_discount(Some(json!({"gamma": 0.9})), 0.5), Some(json!({"gamma": 0.9})));
        assert_eq!(with_discount(Some(json!(7)), 0.5), Some(json!(7)));
    }
}
