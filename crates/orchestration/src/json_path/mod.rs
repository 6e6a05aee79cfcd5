//! JSONPath (RFC 9535) without regular expressions. Integers are compared with all their digits, and the work of a query
//! is bounded, since paths come from clients and are evaluated in the service's own process.

mod evaluate;
mod functions;
mod parser;
mod syntax;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use self::evaluate::TooManyNodes;
use self::{parser::PathParser, syntax::PathSegment};

/// Maximum length of a path, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;

/// Path that has been parsed.
#[derive(Clone, Debug)]
pub struct JsonPath(Vec<PathSegment>);

impl JsonPath {
    /// Parse `text`, which begins with `$`.
    ///
    /// # Errors
    /// The first error in the text, with its place.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH_BYTES {
            return Err(format!("a path has at most {MAX_PATH_BYTES} bytes"));
        }
        PathParser::parse(text).map(Self).map_err(|error| format!("{text:?} {error}"))
    }

    /// Remove the first segment and return its name; `None` if it is not the name of one member.
    pub fn take_name(&mut self) -> Option<String> {
        match self.0.first()?.step()? {
            syntax::PathStep::Name(name) => {
                let name = name.clone();
                self.0.remove(0);
                Some(name)
            }
            syntax::PathStep::Index(_) => None,
        }
    }

    /// Return whether the path can match only one value.
    pub fn is_singular(&self) -> bool {
        self.0.iter().all(|segment| segment.step().is_some())
    }

    /// Return the values that the path matches below `root`, in the order of RFC 9535.
    ///
    /// # Errors
    /// Fails when the query would visit too many values.
    pub fn query<'a>(&self, root: &'a Value) -> Result<Vec<&'a Value>, TooManyNodes> {
        evaluate::find_values(&self.0, root)
    }
}
