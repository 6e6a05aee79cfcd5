//! Conversion of the errors of communication to responses.

use std::time::Duration;

use axum::http::StatusCode;

use super::{ApiError, LocationSegment};
use am_communication::{encryption::EncryptionError, transfer::ImportError};

impl From<am_communication::CommunicationError> for ApiError {
    fn from(error: am_communication::CommunicationError) -> Self {
        use am_communication::CommunicationError::{
            Conflict, Db, EncryptionFailed, Forbidden, Invalid, InvalidState, Ledger, LimitReached, NotFound, Refused,
            Stopping,
        };
        match error {
            Ledger(error) => error.into(),
            NotFound(_) => Self::not_found(error.to_string()),
            Invalid(found) => found.into(),
            Refused(refusal) => Self::forbidden(refusal.to_string()).code("message_refused").with(&refusal),
            EncryptionFailed(error) => error.into(),
            Forbidden(text) => Self::forbidden(text),
            InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            Conflict(text) => Self::conflict(text),
            LimitReached(text) => Self::unavailable(text, Duration::from_secs(5)),
            Stopping => Self::unavailable("The service is stopping", Duration::from_secs(1)),
            Db(error) => error.into(),
        }
    }
}

impl From<EncryptionError> for ApiError {
    fn from(error: EncryptionError) -> Self {
        use EncryptionError::{
            CryptoFailed, Db, Invalid, InvalidState, NoMasterKey, NotFound, PlaintextForbidden, Tampered,
            UnknownMasterKey,
        };
        match error {
            Invalid(violation) => vec![violation].into(),
            NotFound(_) => Self::not_found(error.to_string()),
            InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            PlaintextForbidden => Self::forbidden(error.to_string()).code("plaintext_not_allowed"),
            // Only a change of the configuration helps, so no retry time is sent.
            NoMasterKey | UnknownMasterKey(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "message_keys_missing", error.to_string())
            }
            Db(error) => error.into(),
            error @ (Tampered(_) | CryptoFailed(_)) => Self::internal(error),
        }
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Line { line, member, message } => {
                let mut loc: Vec<LocationSegment> = vec!["body".into(), line.into()];
                loc.extend((!member.is_empty()).then(|| LocationSegment::from(member)));
                Self::invalid_field(loc, message, "value_error")
            }
            ImportError::Other(error) => error.into(),
        }
    }
}
