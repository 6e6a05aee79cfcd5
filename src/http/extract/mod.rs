//! Extractors whose rejections have the common form of errors and name the invalid field.

mod json;
mod path;
mod query;

pub use json::{Json, Raw, decode, read_body, read_json};
pub use path::Path;
pub use query::Query;
#[cfg(test)]
pub(crate) use query::parse as parse_query;
