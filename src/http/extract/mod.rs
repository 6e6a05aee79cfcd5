//! Extractors whose rejections have the common form of errors and name the invalid field.

mod body_faults;
mod json;
mod path;
mod query;

pub use json::{JsonBody, RawJson, decode_body, read_body, read_json, refuse_coding};
pub use path::{PathNumbers, PathParams};
#[cfg(test)]
pub(crate) use query::parse_query;
pub use query::{QueryParams, empty_as_none, several};
