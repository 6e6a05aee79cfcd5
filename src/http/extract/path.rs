//! Extractor for path parameters.

use axum::{
    extract::{FromRequestParts, MatchedPath, path::ErrorKind, rejection::PathRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::http::error::{ApiError, FieldError, LocationSegment};

/// Path parameters as `T`: one value, a tuple, or a struct with their names.
#[derive(Clone, Debug)]
pub struct PathParams<T>(pub T);

impl<S, T> FromRequestParts<S> for PathParams<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if parts.uri.path().contains("%00") {
            return Err(ApiError::invalid_field(
                vec!["path".into()],
                "The NUL character is not allowed",
                "value_error",
            ));
        }
        #[expect(clippy::disallowed_types, reason = "the one place that turns its rejection into the house's")]
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|path| Self(path.0)).map_err(|rejection| path_error(parts, rejection))
    }
}

fn path_error(parts: &Parts, rejection: PathRejection) -> ApiError {
    let PathRejection::FailedToDeserializePathParams(failure) = rejection else {
        return ApiError::internal(rejection);
    };
    let kind = failure.kind();
    let name = match kind {
        ErrorKind::ParseErrorAtKey { key, .. }
        | ErrorKind::DeserializeError { key, .. }
        | ErrorKind::InvalidUtf8InPathParam { key } => Some(key.clone()),
        ErrorKind::ParseErrorAtIndex { index, .. } => parameter_name(parts, *index),
        ErrorKind::ParseError { .. } | ErrorKind::Message(_) => parameter_name(parts, 0),
        _ => return ApiError::internal(failure),
    };
    let mut loc: Vec<LocationSegment> = vec!["path".into()];
    loc.extend(name.map(LocationSegment::from));
    ApiError::unprocessable(vec![FieldError::invalid_value(loc, kind.to_string())])
}

/// Return the name of the nth parameter of the route.
fn parameter_name(parts: &Parts, index: usize) -> Option<String> {
    let route = parts.extensions.get::<MatchedPath>()?;
    let name = route.as_str().split('{').nth(index + 1)?.split('}').next()?;
    Some(name.trim_start_matches('*').to_owned())
}
