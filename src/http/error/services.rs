//! What the errors of jobs mean to a client.

use super::{ApiError, FieldError, Loc};
use crate::jobs;

impl From<jobs::Error> for ApiError {
    fn from(error: jobs::Error) -> Self {
        match error {
            jobs::Error::NotFound => Self::not_found(error.to_string()),
            jobs::Error::Forbidden => Self::forbidden(error.to_string()),
            jobs::Error::State(text) => Self::bad_request(text).code("invalid_state"),
            jobs::Error::Invalid(faults) => Self::unprocessable(faults.into_iter().map(FieldError::from).collect()),
            jobs::Error::Db(error) => error.into(),
        }
    }
}

impl From<jobs::Fault> for FieldError {
    fn from(fault: jobs::Fault) -> Self {
        let part = |place| match place {
            jobs::Place::Member(name) => Loc::from(name),
            jobs::Place::Item(index) => Loc::from(index),
        };
        let loc = std::iter::once(Loc::from("body")).chain(fault.path.into_iter().map(part)).collect();
        Self::new(loc, fault.message, fault.kind)
    }
}
