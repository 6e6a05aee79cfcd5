//! What the errors of jobs mean to a client.

use super::{ApiError, FieldError, Loc};

impl From<am_jobs::Error> for ApiError {
    fn from(error: am_jobs::Error) -> Self {
        match error {
            am_jobs::Error::NotFound => Self::not_found(error.to_string()),
            am_jobs::Error::Forbidden => Self::forbidden(error.to_string()),
            am_jobs::Error::State(text) => Self::bad_request(text).code("invalid_state"),
            am_jobs::Error::Invalid(faults) => Self::unprocessable(faults.into_iter().map(FieldError::from).collect()),
            am_jobs::Error::Db(error) => error.into(),
        }
    }
}

impl From<am_jobs::Fault> for FieldError {
    fn from(fault: am_jobs::Fault) -> Self {
        let part = |place| match place {
            am_jobs::Place::Member(name) => Loc::from(name),
            am_jobs::Place::Item(index) => Loc::from(index),
        };
        let loc = std::iter::once(Loc::from("body")).chain(fault.path.into_iter().map(part)).collect();
        Self::new(loc, fault.message, fault.kind)
    }
}
