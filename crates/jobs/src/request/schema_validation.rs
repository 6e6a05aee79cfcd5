//! Validation of a request body against the schema of its type.

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
    sync::OnceLock,
};

use am_json_schema::CompiledSchema;
use jsonschema::{error::ValidationErrorKind, paths::LocationSegment};
use parking_lot::Mutex;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Number, Value};
use utoipa::openapi::{RefOr, schema::Schema};

use super::SafetyRules;
use am_core::validation::{FieldPath, PathSegment, Violation};

/// Largest number of faults that are reported.
const MAX_REPORTED_FAULTS: usize = 20;

struct CompiledRequestSchema {
    schema: Value,
    /// Compiled schema; `None` when the schema is invalid, so that every request is refused.
    validator: Option<CompiledSchema>,
}

/// Schema of `T`, generated once and cached.
fn compiled_schema<T: JsonSchema + 'static>() -> &'static CompiledRequestSchema {
    static SCHEMA_CACHE: OnceLock<Mutex<HashMap<TypeId, &'static CompiledRequestSchema>>> = OnceLock::new();
    let mut all = SCHEMA_CACHE.get_or_init(Mutex::default).lock();
    all.entry(TypeId::of::<T>()).or_insert_with(|| {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        let validator = CompiledSchema::compile(&schema);
        if let Err(error) = &validator {
            tracing::error!(request = type_name::<T>(), %error, "a request's schema can't be used");
        }
        Box::leak(Box::new(CompiledRequestSchema { validator: validator.ok(), schema }))
    })
}

/// Schema of `T`.
pub(super) fn request_schema<T: JsonSchema + 'static>() -> &'static Value {
    &compiled_schema::<T>().schema
}

/// Schema of `T` for the OpenAPI document.
pub(super) fn openapi_schema<T: JsonSchema + 'static>() -> RefOr<Schema> {
    let mut schema = request_schema::<T>().clone();
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    join_words(&mut schema);
    let read = serde_json::from_value(schema);
    read.map_or_else(|_| RefOr::T(Schema::Object(utoipa::openapi::Object::new())), RefOr::T)
}

/// Makes one enumeration of alternatives that are one word each, as schemars writes an enumeration whose members have
/// descriptions: utoipa knows no `const`, and without it each alternative is any text.
fn join_words(schema: &mut Value) {
    let words = schema["oneOf"].as_array().and_then(|alternatives| {
        let listed = alternatives.iter().map(|one| match (&one["const"], &one["enum"]) {
            (Value::Null, Value::Array(words)) => Some(words.clone()),
            (Value::String(_), _) => Some(vec![one["const"].clone()]),
            _ => None,
        });
        listed.collect::<Option<Vec<_>>>().map(|words| words.concat())
    });
    match schema {
        Value::Object(members) => {
            if let Some(words) = words {
                members.remove("oneOf");
                members.insert("type".to_owned(), "string".into());
                members.insert("enum".to_owned(), words.into());
            }
            members.values_mut().for_each(join_words);
        }
        Value::Array(items) => items.iter_mut().for_each(join_words),
        _ => {}
    }
}

/// Parse the body as `T` with its defaults, or return its faults.
pub(super) fn validate_request<T>(body: Value, private: bool) -> Result<Value, Vec<Violation>>
where
    T: JsonSchema + Serialize + DeserializeOwned + SafetyRules + 'static,
{
    let known = compiled_schema::<T>();
    let whole = |message: String| vec![Violation::new(FieldPath::default(), message)];
    let Some(validator) = &known.validator else { return Err(whole("This service has no usable schema".to_owned())) };
    let faults: Vec<Violation> = validator.errors(&body, MAX_REPORTED_FAULTS).iter().map(fault_from_error).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let request: T = serde_json::from_value(normalize_integers(body)).map_err(|error| whole(error.to_string()))?;
    let faults = request.hazards(private);
    if !faults.is_empty() {
        return Err(faults);
    }
    serde_json::to_value(&request).map_err(|error| whole(error.to_string()))
}

/// Convert floats without a fraction to integers: JSON Schema accepts 5.0 as an integer, serde does not.
fn normalize_integers(value: Value) -> Value {
    const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            let float = number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < MAX_EXACT_INTEGER);
            Value::Number(float.map_or(number, |float| Number::from(float as i64)))
        }
        Value::Array(items) => items.into_iter().map(normalize_integers).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, member)| (name, normalize_integers(member)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// Describe a fault in own words, because the validator's messages quote the value, however long.
fn fault_from_error(error: &jsonschema::ValidationError<'_>) -> Violation {
    let mut path: FieldPath = error
        .instance_path()
        .iter()
        .map(|segment| match segment {
            LocationSegment::Property(name) => PathSegment::Member(name.to_string()),
            LocationSegment::Index(index) => PathSegment::Item(index),
        })
        .collect();
    let characters = |limit: u64, word: &str| format!("Should have at {word} {limit} characters");
    let (message, kind) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            path.push(property.as_str().unwrap_or_default());
            ("Field required".to_owned(), "missing")
        }
        ValidationErrorKind::Type { kind } => type_fault(kind),
        ValidationErrorKind::Enum { options } => (format!("Input should be one of {options}"), "enum"),
        ValidationErrorKind::Minimum { limit } => {
            (format!("Input should be greater than or equal to {limit}"), "greater_than_equal")
        }
        ValidationErrorKind::Maximum { limit } => {
            (format!("Input should be less than or equal to {limit}"), "less_than_equal")
        }
        ValidationErrorKind::MinLength { limit } => (characters(*limit, "least"), "string_too_short"),
        ValidationErrorKind::MaxLength { limit } => (characters(*limit, "most"), "string_too_long"),
        ValidationErrorKind::MaxItems { limit } => (format!("Should have at most {limit} items"), "too_long"),
        ValidationErrorKind::Pattern { pattern } => (format!("Should match {pattern}"), "string_pattern_mismatch"),
        other => (format!("Does not fit the schema ({})", other.keyword()), "value_error"),
    };
    Violation { path, message, kind }
}

fn type_fault(wanted: &jsonschema::error::TypeKind) -> (String, &'static str) {
    use jsonschema::{JsonType, error::TypeKind};
    let first = match wanted {
        TypeKind::Single(one) => Some(*one),
        TypeKind::Multiple(several) => several.iter().find(|one| *one != JsonType::Null),
    };
    let (name, kind) = match first {
        Some(JsonType::String) => ("string", "string_type"),
        Some(JsonType::Integer) => ("integer", "int_type"),
        Some(JsonType::Number) => ("number", "float_type"),
        Some(JsonType::Boolean) => ("boolean", "bool_type"),
        Some(JsonType::Array) => ("list", "list_type"),
        Some(JsonType::Object) => ("object", "dict_type"),
        Some(JsonType::Null) | None => ("value of another type", "type_error"),
    };
    (format!("Input should be a valid {name}"), kind)
}
