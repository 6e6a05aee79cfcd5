//! Lookup of environments by name.

use serde_json::Value;

use super::{
    Environment,
    classic::{acrobot, cart_pole, mountain_car, pendulum},
    identity::{identity_continuous, identity_discrete},
    marketplace::{Negotiations, Portfolio, Prices, Resources, Services, Trading, market},
};

/// Constructor of an environment, with optional parameters.
type Make = fn(Option<&Value>) -> Result<Box<dyn Environment>, String>;

/// All environments, in the order of the listing.
const ENVIRONMENTS: [(&str, Make); 12] = [
    ("CartPole-v1", |parameters| without(parameters, cart_pole)),
    ("Acrobot-v1", |parameters| without(parameters, acrobot)),
    ("Pendulum-v1", |parameters| without(parameters, pendulum)),
    ("MountainCar-v0", |parameters| without(parameters, mountain_car)),
    ("marketplace_trading", market::<4, Trading>),
    ("resource_allocation", market::<5, Resources>),
    ("price_optimization", market::<5, Prices>),
    ("service_selection", market::<5, Services>),
    ("negotiation_strategy", market::<5, Negotiations>),
    ("portfolio_management", market::<5, Portfolio>),
    ("identity-discrete", |parameters| without(parameters, identity_discrete)),
    ("identity-continuous", |parameters| without(parameters, identity_continuous)),
];

fn without(parameters: Option<&Value>, make: fn() -> Box<dyn Environment>) -> Result<Box<dyn Environment>, String> {
    if parameters.is_some() { Err("it takes none".into()) } else { Ok(make()) }
}

/// Error of looking up or stepping environments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
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
    Mixed,
    /// Actions of the wrong kind or number.
    #[error("the environments take {expected}")]
    Actions {
        /// Expected actions, in words.
        expected: String,
    },
    /// An action outside the space: an index out of range, or a number that is not finite.
    #[error("the action at position {position} is not in the space")]
    Action {
        /// Position of the action among the given numbers, from 0.
        position: usize,
    },
}

/// Create the environment called `name`, in an episode started with seed 0.
///
/// # Errors
/// [`Error::Unknown`]; [`Error::Parameters`] when `parameters` do not fit the environment.
pub fn environment(name: &str, parameters: Option<&Value>) -> Result<Box<dyn Environment>, Error> {
    let Some((_, make)) = ENVIRONMENTS.iter().find(|(known, _)| *known == name) else {
        let known = ENVIRONMENTS.iter().map(|(known, _)| (*known).to_owned()).collect();
        return Err(Error::Unknown { name: name.to_owned(), known });
    };
    make(parameters.filter(|value| !value.is_null()))
        .map_err(|reason| Error::Parameters { environment: name.to_owned(), reason })
}

/// Create every environment with its default parameters, in an episode started with seed 0, for a listing.
pub fn environments() -> Vec<Box<dyn Environment>> {
    ENVIRONMENTS.iter().filter_map(|(_, make)| make(None).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_is_made_by_the_name_that_it_says() {
        let listed = environments();
        assert_eq!(listed.len(), ENVIRONMENTS.len());
        for (one, (name, _)) in listed.iter().zip(ENVIRONMENTS) {
            let description = one.description();
            assert_eq!(description.name, name);
            assert_eq!(environment(name, None).unwrap().description(), description);
            assert!(!description.summary.is_empty(), "{name}");
            assert_eq!(description.observations.len(), description.bounds.len(), "{name}");
        }
    }

    #[test]
    fn what_there_is_not_is_named() {
        let message = |name, parameters: Value| environment(name, Some(&parameters)).err().unwrap().to_string();
        assert!(
            message("CartPole", json!(null)).starts_with("there is no environment 'CartPole': there are CartPole-v1, ")
        );
        assert_eq!(message("CartPole-v1", json!({"gravity": 1})), "parameters of 'CartPole-v1': it takes none");
    }
}
