//! Conversion of the errors of communication to responses.

use std::time::Duration;

use axum::http::StatusCode;

use super::{ApiError, Loc};
use am_communication::{sealing::SealError, transfer::ImportError};

impl From<am_communication::Error> for ApiError {
    fn from(error: am_communication::Error) -> Self {
        use am_communication::Error::{
            Busy, Conflict, Db, Forbidden, Invalid, NotFound, Refused, Seal, State, Stopping,
        };
        match error {
            NotFound(_) => Self::not_found(error.to_string()),
            Invalid(found) => found.into(),
            Refused(refusal) => Self::forbidden(refusal.to_string()).code("message_refused").with(&refusal),
            Seal(error) => error.into(),
            Forbidden(text) => Self::forbidden(text),
            State(text) => Self::bad_request(text).code("invalid_state"),
            Conflict(text) => Self::conflict(text),
            Busy(text) => Self::unavailable(text, Duration::from_secs(5)),
            Stopping => Self::unavailable("The service is stopping", Duration::from_secs(1)),
            Db(error) => error.into(),
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        use SealError::{Crypto, Db, Invalid, NoMaster, NotFound, Plaintext, State, Tampered, UnknownMaster};
        match error {
            Invalid(violation) => vec![violation].into(),
            NotFound(_) => Self::not_found(error.to_string()),
            State(text) => Self::bad_request(text).code("invalid_state"),
            Plaintext => Self::forbidden(error.to_string()).code("plaintext_not_allowed"),
            // Only a change of the configuration helps, so no retry time is sent.
            NoMaster | UnknownMaster(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "message_keys_missing", error.to_string())
            }
            Db(error) => error.into(),
            error @ (Tampered(_) | Crypto(_)) => Self::internal(error),
        }
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Line { line, member, message } => {
                let mut loc: Vec<Loc> = vec!["body".into(), line.into()];
                loc.extend((!member.is_empty()).then(|| Loc::from(member)));
                Self::field(loc, message, "value_error")
            }
            ImportError::Other(error) => error.into(),
        }
    }
}
