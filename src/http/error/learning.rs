//! Answers to the errors of policies and their training.

use std::time::Duration;

use super::{ApiError, LocationSegment};

impl From<am_rl::ActError> for ApiError {
    fn from(error: am_rl::ActError) -> Self {
        use am_rl::ActError::{
            Count, Dimension, Load, NoDistribution, NotFinite, Overflow, Overloaded, Runtime, Stopped, Storage,
            UnknownAlias, UnknownPolicy, UnknownVersion,
        };
        let body =
            |members: Vec<LocationSegment>| std::iter::once(LocationSegment::from("body")).chain(members).collect();
        match &error {
            UnknownPolicy(_) | UnknownVersion { .. } | UnknownAlias { .. } => Self::not_found(error.to_string()),
            Dimension { row, .. } => {
                Self::invalid_field(body(vec!["states".into(), (*row).into()]), error.to_string(), "value_error")
            }
            NotFinite { row, position } => {
                let loc = body(vec!["states".into(), (*row).into(), (*position).into()]);
                Self::invalid_field(loc, error.to_string(), "finite_number")
            }
            Count { .. } | Overflow => {
                Self::invalid_field(body(vec!["states".into()]), error.to_string(), "value_error")
            }
            NoDistribution(_) => Self::invalid_field(body(vec!["mode".into()]), error.to_string(), "value_error"),
            Load(_) => Self::invalid_field(body(Vec::new()), error.to_string(), "weights"),
            Overloaded => Self::unavailable(error.to_string(), Duration::from_secs(1)).code("policy_overloaded"),
            Stopped => Self::unavailable("The service is stopping", Duration::from_secs(1)),
            Storage(_) | Runtime(_) => Self::internal(error),
        }
    }
}

impl From<am_rl::RlError> for ApiError {
    fn from(error: am_rl::RlError) -> Self {
        match error {
            am_rl::RlError::NotFound(text) => Self::not_found(text),
            am_rl::RlError::Forbidden(text) => Self::forbidden(text),
            am_rl::RlError::Invalid(found) => found.into(),
            am_rl::RlError::InUse(text) => Self::conflict(text).code("in_use"),
            am_rl::RlError::InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            am_rl::RlError::Quota(text) => Self::quota(text),
            am_rl::RlError::Act(error) => error.into(),
            am_rl::RlError::Db(error) => error.into(),
            error @ (am_rl::RlError::Training(_) | am_rl::RlError::Storage(..)) => Self::internal(error),
        }
    }
}
