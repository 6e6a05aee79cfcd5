//! Texts of errors for people.

use std::error::Error;

/// The text of an error with those of all its causes, the outermost first.
pub fn error_with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
