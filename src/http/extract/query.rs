//! Extractor for query parameters, with the monolith's rules: a list is a repeated parameter, of any other parameter
//! the last value counts, and booleans have several spellings.

use std::{borrow::Cow, collections::HashMap, fmt};

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::{
    Deserialize as _,
    de::{
        self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer, StrDeserializer},
    },
};
use serde_path_to_error::Segment;

use crate::http::{
    error::{ApiError, FieldError, LocationSegment},
    known_names::MAX_QUERY_PARAMETERS,
};

/// Query parameters as `T`, a struct. An operation may have several such structs; parameters that it does not know at all are
/// refused before ([`OperationNames`](crate::http::known_names::OperationNames)).
#[derive(Clone, Debug)]
pub struct QueryParams<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Read a text filter of a query; the empty text filters nothing, as clients of the monolith mean it. For
/// `#[serde(default, deserialize_with)]`.
pub fn empty_as_none<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()).map(T::from))
}

/// Read several words of a query, with commas between them or as a repeated parameter; the empty text is none. For
/// `#[serde(default, deserialize_with)]`.
pub fn several<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let texts = Vec::<String>::deserialize(from)?;
    let words = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| T::deserialize(StrDeserializer::new(word))).collect()
}

/// Parse a query string without its question mark.
pub(crate) fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    if query.bytes().filter(|byte| *byte == b'&').count() >= MAX_QUERY_PARAMETERS {
        let message = format!("At most {MAX_QUERY_PARAMETERS} parameters are taken");
        return Err(ApiError::invalid_field(vec!["query".into()], message, "too_long"));
    }
    let pairs: Vec<(Cow<str>, Cow<str>)> = serde_urlencoded::from_str(query)
        .map_err(|error| ApiError::invalid_field(vec!["query".into()], error.to_string(), "value_error"))?;
    let mut values: Vec<(Cow<str>, ParameterValues)> = Vec::with_capacity(pairs.len());
    let mut places: HashMap<Cow<str>, usize> = HashMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        if name.contains('\0') || value.contains('\0') {
            let loc = vec!["query".into(), name.replace('\0', "").into()];
            return Err(ApiError::invalid_field(loc, "The NUL character is not allowed", "value_error"));
        }
        match places.get(&name).and_then(|place| values.get_mut(*place)) {
            Some((_, ParameterValues(several))) => several.push(value),
            None => {
                places.insert(name.clone(), values.len());
                values.push((name, ParameterValues(vec![value])));
            }
        }
    }
    serde_path_to_error::deserialize(MapDeserializer::new(values.into_iter())).map_err(query_error)
}

fn query_error(error: serde_path_to_error::Error<QueryError>) -> ApiError {
    let mut loc: Vec<LocationSegment> = vec!["query".into()];
    loc.extend(error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(LocationSegment::from(*index)),
        Segment::Map { key } => Some(key.clone().into()),
        Segment::Enum { .. } | Segment::Unknown => None,
    }));
    let field = match error.into_inner() {
        QueryError::Missing(name) => {
            loc.push(name.into());
            FieldError::new(loc, "Field required", "missing")
        }
        QueryError::Integer => FieldError::new(loc, "Input should be a valid integer", "int_parsing"),
        QueryError::Number => FieldError::new(loc, "Input should be a valid number", "float_parsing"),
        QueryError::Bool => FieldError::new(loc, "Input should be a valid boolean", "bool_parsing"),
        QueryError::Variant(msg) => FieldError::new(loc, msg, "enum"),
        QueryError::Other(msg) => FieldError::invalid_value(loc, msg),
    };
    ApiError::unprocessable(vec![field])
}

/// Error of a query parameter.
#[derive(Debug)]
enum QueryError {
    Missing(&'static str),
    Integer,
    Number,
    Bool,
    Variant(String),
    Other(String),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for QueryError {}

impl de::Error for QueryError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::Variant(format!("Input should be one of {}, not {variant:?}", expected.join(", ")))
    }
}

/// Values of a parameter, in order; never empty.
struct ParameterValues<'a>(Vec<Cow<'a, str>>);

impl ParameterValues<'_> {
    fn last(&self) -> &str {
        self.0.last().map_or("", |value| value)
    }
}

impl<'a> IntoDeserializer<'a, QueryError> for ParameterValues<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
            visitor.$visit(self.last().trim().parse().map_err(|_| QueryError::Integer)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for ParameterValues<'de> {
    type Error = QueryError;

    integers! {
        deserialize_i8 visit_i8
        deserialize_i16 visit_i16
        deserialize_i32 visit_i32
        deserialize_i64 visit_i64
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
    }

    /// Infinities and NaN are refused: neither the database nor JSON can represent them.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        let number = self.last().trim().parse().ok().filter(|number: &f64| number.is_finite());
        visitor.visit_f64(number.ok_or(QueryError::Number)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_string(self.0.pop().unwrap_or_default().into_owned())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        match self.last().to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "yes" | "t" | "y" => visitor.visit_bool(true),
            "false" | "0" | "off" | "no" | "f" | "n" => visitor.visit_bool(false),
            _ => Err(QueryError::Bool),
        }
    }

    /// Clients of the monolith send each filter that they know; the empty ones filter nothing.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        if self.last().is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter().map(|value| ParameterValues(vec![value]))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, QueryError> {
        visitor.visit_enum(StrDeserializer::new(self.last()))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::error::ErrorDetail;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Filter {
        owner_id: Option<String>,
        is_public: Option<bool>,
        limit: Option<u32>,
        min_score: Option<f64>,
        #[serde(default)]
        agent_ids: Vec<String>,
        level: Option<Level>,
        #[serde(default, deserialize_with = "several")]
        levels: Vec<Level>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Level {
        Basic,
        ZeroKnowledge,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Needed {
        target_instances: i64,
    }

    fn refused<T: DeserializeOwned>(query: &str) -> Value {
        let error = parse_query::<T>(query).err().expect("refused");
        let ErrorDetail::Fields(fields) = error.detail else { panic!("{error}") };
        serde_json::to_value(&fields[0]).unwrap()
    }

    #[test]
    fn every_kind_of_parameter_is_read() {
        let query =
            "owner_id=a%20b+c&is_public=True&limit=7&min_score=1.5&agent_ids=x&agent_ids=y&level=zero-knowledge&z=1";
        let filter = Filter {
            owner_id: Some("a b c".into()),
            is_public: Some(true),
            limit: Some(7),
            min_score: Some(1.5),
            agent_ids: vec!["x".into(), "y".into()],
            level: Some(Level::ZeroKnowledge),
            levels: Vec::new(),
        };
        assert_eq!(parse_query::<Filter>(query).unwrap(), filter);
        assert_eq!(parse_query::<Filter>("").unwrap(), Filter::default());
        let empty = "owner_id=&is_public=&limit=&min_score=&level=&levels=";
        assert_eq!(parse_query::<Filter>(empty).unwrap(), Filter::default(), "what is empty filters nothing");
        assert_eq!(refused::<Needed>("target_instances=")["type"], "int_parsing");
        assert_eq!(parse_query::<Filter>("limit=1&limit=2").unwrap().limit, Some(2));
        for query in
            ["levels=zero-knowledge,basic", "levels=zero-knowledge&levels=basic", "levels=,zero-knowledge,%20basic"]
        {
            assert_eq!(parse_query::<Filter>(query).unwrap().levels, [Level::ZeroKnowledge, Level::Basic], "{query}");
        }
    }

    #[test]
    fn the_wrong_parameter_is_named() {
        let table = [
            ("limit=-1", "limit", "int_parsing"),
            ("limit=5000000000", "limit", "int_parsing"),
            ("limit=+", "limit", "int_parsing"),
            ("min_score=x", "min_score", "float_parsing"),
            ("min_score=nan", "min_score", "float_parsing"),
            ("is_public=maybe", "is_public", "bool_parsing"),
            ("level=full", "level", "enum"),
            ("levels=basic,full", "levels", "enum"),
            ("owner_id=a%00b", "owner_id", "value_error"),
        ];
        for (query, name, kind) in table {
            let field = refused::<Filter>(query);
            assert_eq!((&field["loc"], &field["type"]), (&json!(["query", name]), &json!(kind)), "{query}: {field}");
        }
        assert_eq!(refused::<Needed>("x=1")["loc"], json!(["query", "target_instances"]));
        assert_eq!(refused::<Needed>("x=1")["type"], "missing");
    }

    #[test]
    fn parameters_are_bounded_before_they_are_read() {
        let query = |count: usize| (0..count).map(|n| format!("x{n}=1")).collect::<Vec<_>>().join("&");
        assert!(parse_query::<Filter>(&query(MAX_QUERY_PARAMETERS)).is_ok());
        let field = refused::<Filter>(&query(MAX_QUERY_PARAMETERS + 1));
        assert_eq!((&field["loc"], &field["type"]), (&json!(["query"]), &json!("too_long")));
    }

    proptest! {
        #[test]
        fn no_query_is_our_fault(query in "[ -~]{0,80}") {
            if let Err(error) = parse_query::<Filter>(&query) {
                prop_assert_eq!(error.status, 422);
            }
        }
    }
}
