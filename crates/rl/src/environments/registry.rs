//! Lookup of environments by name.

use serde_json::Value;

use super::{
    Environment,
    classic::{acrobot, cart_pole, mountain_car, pendulum},
    identity::{identity_continuous, identity_discrete},
    marketplace::{
        NegotiationMarket, PortfolioMarket, PricingMarket, ResourceMarket, ServiceMarket, TradingMarket, make_market,
    },
};

/// Constructor of an environment, with optional parameters.
type EnvironmentFactory = fn(Option<&Value>) -> Result<Box<dyn Environment>, String>;

/// All environments, in the order of the listing.
const ENVIRONMENTS: [(&str, EnvironmentFactory); 12] = [
    ("CartPole-v1", |parameters| reject_parameters(parameters, cart_pole)),
    ("Acrobot-v1", |parameters| reject_parameters(parameters, acrobot)),
    ("Pendulum-v1", |parameters| reject_parameters(parameters, pendulum)),
    ("MountainCar-v0", |parameters| reject_parameters(parameters, mountain_car)),
    ("marketplace_trading", make_market::<4, TradingMarket>),
    ("resource_allocation", make_market::<5, ResourceMarket>),
    ("price_optimization", make_market::<5, PricingMarket>),
    ("service_selection", make_market::<5, ServiceMarket>),
    ("negotiation_strategy", make_market::<5, NegotiationMarket>),
    ("portfolio_management", make_market::<5, PortfolioMarket>),
    ("identity-discrete", |parameters| reject_parameters(parameters, identity_discrete)),
    ("identity-continuous", |parameters| reject_parameters(parameters, identity_continuous)),
];

fn reject_parameters(
    parameters: Option<&Value>,
    make: fn() -> Box<dyn Environment>,
) -> Result<Box<dyn Environment>, String> {
    if parameters.is_some() { Err("it takes none".into()) } else { Ok(make()) }
}

/// Error of looking up or stepping environments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// The environment's name is unknown.
    #[error("there is no environment '{name}': there are {}", known.join(", "))]
    Unknown {
        /// Name that was requested.
        name: String,
        /// Names of all environments.
        known: Vec<String>,
    },
    /// The parameters do not fit the environment.
    #[error("parameters of '{environment}': {reason}")]
    Parameters {
        /// Name of the environment.
        environment: String,
        /// Reason, as a sentence.
        reason: String,
    },
    /// A vector of no environments, or of different ones.
    #[error("environments are stepped together when there is at least one and all have the same description")]
    MixedDescriptions,
    /// Actions of the wrong kind or number.
    #[error("the environments take {expected}")]
    Actions {
        /// Expected actions, in words.
        expected: String,
    },
    /// The bridge to environments in another process did something wrong; the run ends with these words.
    #[error("the bridge: {0}")]
    Bridge(String),
    /// The bridge is not there, or a trainer that waited for it was asked to stop; the run waits for the bridge.
    #[error("{0}")]
    BridgeGone(String),
    /// An action outside the space: an index out of range, or a number that is not finite.
    #[error("the action at position {position} is not in the space")]
    Action {
        /// Position of the action among the given numbers, from 0.
        position: usize,
    },
}

impl EnvironmentError {
    /// A frame of a bridge that is not as it must be.
    pub(super) fn bridge_sent(what: String) -> Self {
        Self::Bridge(format!("it sent {what}"))
    }
}

/// Whether an environment that is built in has this name.
pub fn is_built_in(name: &str) -> bool {
    ENVIRONMENTS.iter().any(|(known, _)| *known == name)
}

/// Create the environment called `name`, in an episode started with seed 0.
///
/// # Errors
/// [`EnvironmentError::Unknown`]; [`EnvironmentError::Parameters`] when `parameters` do not fit the environment.
pub fn make_environment(name: &str, parameters: Option<&Value>) -> Result<Box<dyn Environment>, EnvironmentError> {
    let Some((_, make)) = ENVIRONMENTS.iter().find(|(known, _)| *known == name) else {
        let known = ENVIRONMENTS.iter().map(|(known, _)| (*known).to_owned()).collect();
        return Err(EnvironmentError::Unknown { name: name.to_owned(), known });
    };
    make(parameters.filter(|value| !value.is_null()))
        .map_err(|reason| EnvironmentError::Parameters { environment: name.to_owned(), reason })
}

/// Create every environment with its default parameters, in an episode started with seed 0, for a listing.
pub fn list_environments() -> Vec<Box<dyn Environment>> {
    ENVIRONMENTS.iter().filter_map(|(_, make)| make(None).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_is_made_by_the_name_that_it_says() {
        let listed = list_environments();
        assert_eq!(listed.len(), ENVIRONMENTS.len());
        for (one, (name, _)) in listed.iter().zip(ENVIRONMENTS) {
            let description = one.description();
            assert_eq!(description.name, name);
            assert_eq!(make_environment(name, None).unwrap().description(), description);
            assert!(!description.summary.is_empty(), "{name}");
            assert_eq!(description.observations.len(), description.bounds.len(), "{name}");
        }
    }

    #[test]
    fn what_there_is_not_is_named() {
        let message = |name, parameters: Value| make_environment(name, Some(&parameters)).err().unwrap().to_string();
        assert!(
            message("CartPole", json!(null)).starts_with("there is no environment 'CartPole': there are CartPole-v1, ")
        );
        assert_eq!(message("CartPole-v1", json!({"gravity": 1})), "parameters of 'CartPole-v1': it takes none");
    }
}
