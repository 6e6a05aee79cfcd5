//! JSON Schema, draft 2020-12 unless a schema names another. References stay within the schema: nothing is fetched.
//!
//! A crate of its own, because `jsonschema` is generic over the kind of JSON: each crate that compiles or applies a schema
//! generates code for all keywords, which takes a minute in a release build.

use std::sync::Arc;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Maximum number of reported violations.
const MAX_VIOLATIONS: usize = 10;
/// Maximum length of a violation's message, in characters: it quotes the instance.
const MAX_MESSAGE_LEN: usize = 300;

/// Error of compiling a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at `{path}`: {message}")]
pub struct SchemaError {
    /// JSON Pointer to the place in the schema; empty: the whole.
    pub path: String,
    /// Description of the error.
    pub message: String,
}

/// A violation of a schema by an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaViolation {
    /// JSON Pointer to the place in the instance; empty: the whole.
    pub path: String,
    /// Description of the violation.
    pub message: String,
}

impl std::fmt::Display for SchemaViolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at `{}`: {}", self.path, self.message)
    }
}

/// A compiled schema. Clones share it.
#[derive(Clone, Debug)]
pub struct CompiledSchema(Arc<Validator>);

impl CompiledSchema {
    /// Validate `schema` by its draft's metaschema and compile it. Patterns match in time linear in the text, so they
    /// have neither back-references nor look-around; formats are annotations, as in the draft.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let options = jsonschema::options().offline().with_pattern_options(PatternOptions::regex());
        match options.build(schema) {
            Ok(validator) => Ok(Self(Arc::new(validator))),
            Err(error) => Err(SchemaError {
                path: error.instance_path().to_string(),
                message: truncate_message(error.to_string()),
            }),
        }
    }

    /// Compile a schema from JSON text.
    pub fn parse(schema: &str) -> Result<Self, SchemaError> {
        let not_json = |error: serde_json::Error| SchemaError { path: String::new(), message: error.to_string() };
        Self::compile(&serde_json::from_str(schema).map_err(not_json)?)
    }

    /// Return the first `limit` violations as jsonschema describes them, none if `instance` fits.
    pub fn errors<'a>(&'a self, instance: &'a Value, limit: usize) -> Vec<ValidationError<'a>> {
        self.0.iter_errors(instance).take(limit).collect()
    }

    /// Return the first ten violations, if there are any. A schema can take time exponential in its length, so it is only
    /// used in a worker process with a time limit.
    pub fn validate(&self, instance: &Value) -> Result<(), Vec<SchemaViolation>> {
        if self.0.is_valid(instance) {
            return Ok(());
        }
        let violations = self.errors(instance, MAX_VIOLATIONS).into_iter().map(|error| SchemaViolation {
            path: error.instance_path().to_string(),
            message: truncate_message(error.to_string()),
        });
        Err(violations.collect())
    }
}

fn truncate_message(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_LEN) {
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violations(schema: Value, instance: Value) -> Vec<(String, String)> {
        let outcome = CompiledSchema::compile(&schema).unwrap().validate(&instance);
        outcome.err().unwrap_or_default().into_iter().map(|violation| (violation.path, violation.message)).collect()
    }

    #[test]
    fn says_where_an_instance_is_wrong() {
        let schema = json!({
            "type": "object",
            "required": ["id"],
            "properties": {"score": {"type": "number", "maximum": 1}, "tags": {"items": {"type": "string"}}},
        });
        assert_eq!(violations(schema.clone(), json!({"id": 1, "score": 0.5, "tags": ["a"]})), []);
        let found = violations(schema, json!({"score": 2, "tags": ["a", 3]}));
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["", "/score", "/tags/1"]);
        assert_eq!(found[0].1, "\"id\" is a required property");
    }

    #[test]
    fn tells_ten_and_not_at_length() {
        let schema = json!({"items": {"type": "string"}});
        assert_eq!(violations(schema.clone(), json!(vec![1; 100])).len(), 10);
        let found = violations(schema, json!([{"x": "y".repeat(10_000)}]));
        assert!(found[0].1.chars().count() <= MAX_MESSAGE_LEN + 1);
    }

    #[test]
    fn a_wrong_schema_is_told_with_its_place() {
        let error = CompiledSchema::compile(&json!({"properties": {"a": {"type": "strin"}}})).unwrap_err();
        assert_eq!(error.path, "/properties/a/type");
        assert!(CompiledSchema::compile(&json!({"pattern": "("})).is_err());
        assert!(CompiledSchema::compile(&json!(7)).is_err());
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in ["https://example.com/a.json", "file:///etc/hostname", "other.json"] {
            assert!(CompiledSchema::compile(&json!({"$ref": reference})).is_err(), "{reference}");
        }
        assert!(CompiledSchema::compile(&json!({"$schema": "https://example.com/own-draft"})).is_err());
    }

    #[test]
    fn patterns_run_in_linear_time() {
        let schema = json!({"pattern": "^(a+)+$"});
        assert_eq!(violations(schema, json!("a".repeat(50_000) + "b")).len(), 1);
        assert!(CompiledSchema::compile(&json!({"pattern": "(a)\\1"})).is_err());
    }

    #[test]
    fn references_in_circles_end() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        ] {
            assert_eq!(violations(schema, json!(1)), []);
        }
    }
}
