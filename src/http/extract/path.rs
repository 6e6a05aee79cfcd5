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

/// The numbers that a path names, in its order. What is no number is 0, the number of nothing: so it is 404, after all that the body
/// is refused for.
#[derive(Clone, Copy, Debug)]
pub struct PathNumbers<const N: usize>(pub [i64; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for PathNumbers<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let PathParams(found) = PathParams::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        let numbers: Vec<i64> = found.iter().map(|(_, text)| path_number(text)).collect();
        let numbers = numbers.try_into().map_err(|_| ApiError::internal("a route with other parameters"))?;
        Ok(Self(numbers))
    }
}

/// The number that a text is, written as numbers are; 0 for what is none.
fn path_number(text: &str) -> i64 {
    text.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == text).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_names_nothing() {
        assert_eq!(path_number("12"), 12);
        for text in ["0", "-1", "+1", "01", "1.0", "x", "", "9223372036854775808"] {
            assert_eq!(path_number(text), 0, "{text}");
        }
    }
}
