//! Where an environment comes from: built in, tables of its owner, or a process behind a bridge.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Environment, EnvironmentDescription, EnvironmentError, bridge::BridgeSource, registry::make_environment,
    score_actions::with_score_actions, tabular::TabularModel, vector_env::VectorEnv,
};

/// Where the environment of a training comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum EnvironmentSource {
    /// It is built in, and found by its name.
    #[default]
    BuiltIn,
    /// It was sent as tables.
    Tables(Arc<TabularModel>),
    /// It is in another process.
    Bridge(BridgeSource),
}

impl EnvironmentSource {
    /// Create the environment in an episode started with seed 0; `name` and `parameters` are those of a built-in one, and
    /// with `scores` discrete actions are taken as numbers. `None`: it is in another process.
    ///
    /// # Errors
    /// As [`make_environment`]; [`EnvironmentError::Parameters`] for parameters where there are none.
    pub fn simulated(
        &self,
        name: &str,
        parameters: Option<&Value>,
        scores: bool,
    ) -> Result<Option<Box<dyn Environment>>, EnvironmentError> {
        let one = match self {
            Self::BuiltIn => make_environment(name, parameters)?,
            Self::Tables(model) => {
                if parameters.is_some_and(|value| !value.is_null()) {
                    let reason = "it takes none".to_owned();
                    return Err(EnvironmentError::Parameters { environment: name.to_owned(), reason });
                }
                model.environment()
            }
            Self::Bridge(_) => return Ok(None),
        };
        Ok(Some(if scores { with_score_actions(one) } else { one }))
    }

    /// Describe the environment as [`EnvironmentSource::simulated`] creates it.
    ///
    /// # Errors
    /// As [`EnvironmentSource::simulated`].
    pub fn description(
        &self,
        name: &str,
        parameters: Option<&Value>,
        scores: bool,
    ) -> Result<EnvironmentDescription, EnvironmentError> {
        if let Self::Bridge(bridge) = self {
            return Ok(bridge.description().clone());
        }
        let one = self.simulated(name, parameters, scores)?;
        let unknown = || EnvironmentError::Unknown { name: name.to_owned(), known: Vec::new() };
        one.map(|one| one.description().clone()).ok_or_else(unknown)
    }

    /// Create `count` environments that are stepped together.
    ///
    /// # Errors
    /// As [`EnvironmentSource::simulated`]; [`EnvironmentError::BridgeGone`] when their bridge is not connected.
    pub fn vector(
        &self,
        name: &str,
        parameters: Option<&Value>,
        scores: bool,
        count: usize,
    ) -> Result<VectorEnv, EnvironmentError> {
        if let Self::Bridge(bridge) = self {
            return Ok(VectorEnv::bridged(bridge.vectors(count)?));
        }
        let all: Result<Vec<_>, _> = (0..count).map(|_| self.simulated(name, parameters, scores)).collect();
        VectorEnv::new(all?.into_iter().flatten().collect())
    }
}
