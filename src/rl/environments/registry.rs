//! Environments by name.

use serde_json::Value;

use super::{
    Environment,
    classic::cart_pole,
    identity::{identity_continuous, identity_discrete},
};

/// Why there is no such environment, or why several can't be stepped together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No environment is called so.
    #[error("there is no environment '{name}': there are {}", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The parameters don't fit the environment.
    #[error("parameters of '{environment}': {reason}")]
    Parameters {
        /// The environment.
        environment: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A vector of none, or of different ones.
    #[error("environments are stepped together when there is at least one and all have the same description")]
    Mixed,
    /// Actions of the other kind of space, or of another number.
    #[error("the environments take {expected}")]
    Actions {
        /// What they take.
        expected: String,
    },
    /// An action that is not in the space: an index out of range, or a number that is not finite.
    #[error("the action at position {position} is not in the space")]
    Action {
        /// Its position among the numbers given, from 0.
        position: usize,
    },
}

/// Make the environment called `name`, in an episode begun with seed 0.
///
/// # Errors
/// [`Error::Unknown`], and [`Error::Parameters`] when `parameters` are not the environment's.
pub fn environment(name: &str, parameters: Option<&Value>) -> Result<Box<dyn Environment>, Error> {
    let made = match name {
        "CartPole-v1" => cart_pole(),
        "identity-discrete" => identity_discrete(),
        "identity-continuous" => identity_continuous(),
        _ => {
            let known = ["CartPole-v1", "identity-discrete", "identity-continuous"].map(str::to_owned).into();
            return Err(Error::Unknown { name: name.to_owned(), known });
        }
    };
    match parameters {
        None | Some(Value::Null) => Ok(made),
        Some(_) => Err(Error::Parameters { environment: name.to_owned(), reason: "it takes none".into() }),
    }
}
