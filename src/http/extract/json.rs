//! JSON request bodies and responses.

use std::{error::Error as _, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{
    Serialize,
    de::{self, DeserializeOwned},
};
use serde_json::{Value, error::Category};
use tokio::sync::oneshot;

use am_core::{blocking::INLINE_BYTES, json_number::exact_numbers};

use super::body_faults::find_faults;
use crate::http::{
    context::RequestContext,
    error::{ApiError, ErrorDetail, FieldError, LocationSegment},
};

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// JSON body: content type `application/json`, `application/*+json` or none. Members that the operation does not know are
/// refused or reported ([`OperationNames`](crate::http::known_names::OperationNames)); an empty body counts as `null`.
#[derive(Clone, Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let context = RequestContext::from_parts(&parts)?;
        decode_body(read_json(&parts.headers, body, context).await?, context).await.map(Self)
    }
}

impl<T: Serialize> IntoResponse for JsonBody<T> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(512);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => RawJson(body.into()).into_response(),
            Err(error) => ApiError::internal(error).into_response(),
        }
    }
}

/// Response that is already JSON.
#[derive(Clone, Debug)]
pub struct RawJson(pub Bytes);

impl IntoResponse for RawJson {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_JSON);
        response
    }
}

/// Read a JSON body: 413 if it is larger than the limit, 415 if it has another content type. Only a request with a key may
/// have none: a page can send a body without a type to a server of another origin, but no key.
pub async fn read_json(headers: &HeaderMap, body: Body, context: &RequestContext) -> Result<Bytes, ApiError> {
    refuse_coding(headers)?;
    let limit = context.body_limits.bytes;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::too_large(limit));
    }
    let bytes = read_body(body, limit).await?;
    let fits = headers.get(header::CONTENT_TYPE).map_or(context.presented_key.is_given(), is_json);
    match fits {
        false if !bytes.is_empty() => {
            Err(ApiError::unsupported_media("The body must be JSON: Content-Type: application/json"))
        }
        _ => Ok(bytes),
    }
}

/// Refuse a body that is compressed: 415 with the coding that is taken.
pub fn refuse_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let codings = headers.get_all(header::CONTENT_ENCODING).into_iter().map(|value| value.to_str().unwrap_or("?"));
    let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    match codings.flat_map(|list| list.split(',')).map(str::trim).find(|coding| !is_plain(coding)) {
        None => Ok(()),
        Some(coding) => {
            let detail = format!("Content-Encoding: {coding} is not taken; send the body as it is");
            Err(ApiError::unsupported_media(detail).code("unsupported_encoding"))
        }
    }
}

/// Read a body of at most `limit` bytes. Most arrive in one chunk, which is then returned without copying.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut pieces = body.into_data_stream();
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            ApiError::bad_request("The body ended before it was complete").code("incomplete_body").caused_by(error)
        })?;
        if first.len().max(all.len()) + piece.len() > limit {
            return Err(ApiError::too_large(limit));
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.ends_with("+json")
}

/// Return whether a body has more than `limit` JSON values: one for each comma, colon and opening bracket outside strings.
/// A member counts twice, as its name takes memory too.
fn has_more_values(body: &[u8], limit: usize) -> bool {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    body.iter().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
        count > limit
    })
}

/// Parse a body of at most `BODY_VALUE_LIMIT` JSON values (413 if it has more). A large one is parsed on a thread that may
/// block, so that it holds up no other request.
pub async fn decode_body<T: DeserializeOwned + Send + 'static>(
    body: Bytes,
    context: &Arc<RequestContext>,
) -> Result<T, ApiError> {
    if body.len() <= INLINE_BYTES {
        return decode_known(&body, context);
    }
    let (tell, told) = oneshot::channel();
    let context = context.clone();
    // Boxed, so that the pool of threads is compiled once for all bodies.
    let work: Box<dyn FnOnce() + Send> = Box::new(move || drop(tell.send(decode_known(&body, &context))));
    drop(tokio::task::spawn_blocking(work));
    // Nothing is told when the parser panics, or the process stops.
    told.await.map_err(ApiError::internal)?
}

/// Parse a body, and refuse or note members that the operation does not know: faults of both kinds at once.
fn decode_known<T: DeserializeOwned>(body: &[u8], context: &RequestContext) -> Result<T, ApiError> {
    let decoded = decode_bounded(body, context.body_limits.values);
    if decoded.as_ref().is_err_and(|error| !matches!(error.detail, ErrorDetail::Fields(_))) {
        return decoded;
    }
    let checked = context.operation.as_ref().map_or(Ok(Vec::new()), |operation| operation.check_body(body));
    let unknown = checked.map(|ignored| context.note_ignored(ignored)).err();
    match (decoded, unknown) {
        (decoded, None) => decoded,
        (Ok(_), Some(unknown)) => Err(unknown),
        (Err(fault), Some(unknown)) => Err(fault.and(unknown)),
    }
}

fn decode_bounded<T: DeserializeOwned>(body: &[u8], max_values: usize) -> Result<T, ApiError> {
    if body.len() > max_values && has_more_values(body, max_values) {
        return Err(ApiError::too_many_values(max_values));
    }
    decode_json(body)
}

/// Parse a body, or return an error that names the invalid field.
fn decode_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let present = if body.is_empty() { b"null" } else { body };
    if has_nul(present) {
        return Err(nul_error(present));
    }
    let exact = exact_numbers(present).map_err(|number| {
        ApiError::unprocessable(vec![match serde_json::from_slice::<de::IgnoredAny>(present) {
            Ok(_) => FieldError::of("body", number.into()),
            Err(error) => syntax_error(present, &error),
        }])
    })?;
    let present = &*exact;
    // Serde would fill a struct from a list in the order of its fields; no operation takes a list.
    if present.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        return Err(ApiError::unprocessable(vec![match serde_json::from_slice::<de::IgnoredAny>(present) {
            Ok(_) => FieldError::new(vec!["body".into()], "Input should be an object", "dict_type"),
            Err(error) => syntax_error(present, &error),
        }]));
    }
    // Tracking the path costs time, so valid bodies are parsed without it.
    serde_json::from_slice(present).map_err(|_| {
        let mut reader = serde_json::Deserializer::from_slice(present);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            _ if body.is_empty() => ApiError::invalid_field(vec!["body".into()], "Field required", "missing"),
            Err(error) if error.inner().classify() != Category::Data => {
                ApiError::unprocessable(vec![syntax_error(present, error.inner())])
            }
            Err(error) => ApiError::unprocessable(find_faults::<T>(present, error)),
            Ok(_) => match reader.end() {
                Err(error) => ApiError::unprocessable(vec![syntax_error(present, &error)]),
                Ok(()) => ApiError::internal("a body that parses the second time only"),
            },
        }
    })
}

fn syntax_error(body: &[u8], error: &serde_json::Error) -> FieldError {
    let start =
        body.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    let offset = start + error.column().saturating_sub(1);
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    debug_assert!(error.source().is_none() || error.is_io());
    FieldError::new(vec!["body".into(), offset.into()], format!("JSON decode error: {text}"), "json_invalid")
}

/// Return whether a string in the body contains the NUL character, which the coordinator's database does not preserve.
/// A raw NUL byte is invalid JSON; an escaped one follows an odd number of backslashes.
fn has_nul(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

fn nul_error(body: &[u8]) -> ApiError {
    let mut loc: Vec<LocationSegment> = vec!["body".into()];
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => find_nul(&value, &mut loc),
        Err(error) => return ApiError::unprocessable(vec![syntax_error(body, &error)]),
    };
    ApiError::unprocessable(vec![FieldError::invalid_value(loc, "The NUL character is not allowed")])
}

fn find_nul(value: &Value, loc: &mut Vec<LocationSegment>) -> bool {
    let mut below = |step: LocationSegment, value: &Value| {
        loc.push(step);
        find_nul(value, loc) || {
            loc.pop();
            false
        }
    };
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().enumerate().any(|(index, item)| below(index.into(), item)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| name.contains('\0') || below(name.clone().into(), member))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    struct Workflow {
        name: String,
        #[serde(default)]
        steps: BTreeMap<String, Step>,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    struct Step {
        timeout_seconds: u32,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Inference,
    }

    fn refused<T: DeserializeOwned>(body: impl AsRef<[u8]>) -> Value {
        let error = decode_json::<T>(body.as_ref()).err().expect("refused");
        assert_eq!((error.status.as_u16(), error.code), (422, "validation_error"));
        let ErrorDetail::Fields(fields) = error.detail else { panic!("{error}") };
        serde_json::to_value(&fields[0]).unwrap()
    }

    #[test]
    fn the_way_to_the_wrong_field_is_told() {
        let table = [
            (r#"{}"#, json!(["body", "name"]), "missing"),
            (r#"{"name": 5}"#, json!(["body", "name"]), "string_type"),
            (r#"{"name": "x", "tags": ["a", null]}"#, json!(["body", "tags", 1]), "string_type"),
            (r#"{"name": "x", "tags": {}}"#, json!(["body", "tags"]), "list_type"),
            (r#"{"name": "x", "steps": []}"#, json!(["body", "steps"]), "dict_type"),
            (
                r#"{"name": "x", "steps": {"a": {"timeout_seconds": "5"}}}"#,
                json!(["body", "steps", "a", "timeout_seconds"]),
                "int_type",
            ),
            (
                r#"{"name": "x", "steps": {"a": {"timeout_seconds": -5}}}"#,
                json!(["body", "steps", "a", "timeout_seconds"]),
                "value_error",
            ),
            (
                r#"{"name": "x", "steps": {"a": {"timeout_seconds": 5, "kind": "sleep"}}}"#,
                json!(["body", "steps", "a", "kind"]),
                "enum",
            ),
            (r#"{"name": "x", "steps": {"a": {}}}"#, json!(["body", "steps", "a", "timeout_seconds"]), "missing"),
            (r#"[]"#, json!(["body"]), "dict_type"),
            (r#" ["x", {}, []]"#, json!(["body"]), "dict_type"),
            (r#""x""#, json!(["body"]), "dict_type"),
            (r#"{"name": "x", "name": "y"}"#, json!(["body", "name"]), "value_error"),
        ];
        for (body, loc, kind) in table {
            let field = refused::<Workflow>(body);
            assert_eq!((&field["loc"], field["type"].as_str()), (&loc, Some(kind)), "{body}: {field}");
            assert!(!field["msg"].as_str().unwrap().contains("line 1"), "{field}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let body = r#"{"name": 5, "tags": [1, 2], "steps": {"a": {"timeout_seconds": "5", "kind": "inferense"}, "b": {}, "c": 7}}"#;
        let error = decode_json::<Workflow>(body.as_bytes()).expect_err("refused");
        let ErrorDetail::Fields(fields) = error.detail else { panic!("{error}") };
        let found: Vec<Value> = fields.iter().map(|field| serde_json::to_value(&field.loc).unwrap()).collect();
        let expected = [
            json!(["body", "name"]),
            json!(["body", "tags", 0]),
            json!(["body", "steps", "a", "timeout_seconds"]),
            json!(["body", "steps", "a", "kind"]),
            json!(["body", "steps", "b", "timeout_seconds"]),
            json!(["body", "steps", "c"]),
        ];
        assert_eq!(found, expected, "{fields:?}");
        assert_eq!(fields[0].msg, "Should be a string, not the number 5");
        assert!(fields[3].msg.contains("did you mean `inference`?"), "{}", fields[3].msg);
    }

    #[test]
    fn what_is_no_json_is_told_with_its_offset() {
        for (body, offset) in [(r#"{"name": }"#, 9), ("{\n \"name\": x}", 11), ("{} x", 3)] {
            let field = refused::<BTreeMap<String, String>>(body);
            assert_eq!((&field["type"], &field["loc"]), (&json!("json_invalid"), &json!(["body", offset])), "{body:?}");
        }
        for body in [r#"{"name": "\ud800"}"#, r#"{"name": "x"#, "{\"name\": \"\u{1}\"}"] {
            assert_eq!(refused::<Value>(body)["type"], "json_invalid", "{body}");
        }
        assert_eq!(refused::<Value>(b"\"\xff\"")["type"], "json_invalid");
        assert_eq!(refused::<Value>("[".repeat(100_000))["type"], "json_invalid");
    }

    #[test]
    fn the_nul_character_is_named_where_it_stands() {
        let field = refused::<Value>(r#"{"a": {"b": ["x", "y\u0000"]}}"#);
        assert_eq!(field["loc"], json!(["body", "a", "b", 1]));
        assert_eq!(refused::<Value>(r#"{"\u0000": 1}"#)["loc"], json!(["body"]));
        assert_eq!(refused::<Value>(r#"{"a": "\\\u0000"}"#)["loc"], json!(["body", "a"]));
        assert!(decode_json::<Value>(br#"{"a": "\\u0000"}"#).is_ok(), "an escaped backslash and some digits");
    }

    #[test]
    fn a_number_that_would_not_be_kept_is_named_where_it_stands() {
        for (body, loc) in [
            (r#"{"a": {"b": ["x", 18446744073709551616]}}"#, json!(["body", "a", "b", 1])),
            (r#"{"a": 1e400}"#, json!(["body", "a"])),
            ("-9223372036854775809", json!(["body"])),
        ] {
            let field = refused::<Value>(body);
            assert_eq!((&field["loc"], &field["type"]), (&loc, &json!("value_error")), "{body}");
        }
        assert_eq!(refused::<Workflow>(r#"{"name": "x", "unknown": 99999999999999999999}"#)["loc"][1], "unknown");
        assert_eq!(refused::<Value>(r#"{"a": 99999999999999999999, b}"#)["type"], "json_invalid");
        let kept = decode_json::<Value>(br#"{"a": [18446744073709551615, -9223372036854775808, -0]}"#).unwrap();
        assert_eq!(kept.to_string(), r#"{"a":[18446744073709551615,-9223372036854775808,0]}"#);
    }

    #[test]
    fn an_empty_body_is_null_or_missing() {
        assert!(decode_json::<Option<Workflow>>(b"").unwrap().is_none());
        assert_eq!(refused::<Workflow>("")["type"], "missing");
        assert_eq!(refused::<Workflow>("")["loc"], json!(["body"]));
    }

    #[test]
    fn unknown_members_are_ignored() {
        assert!(decode_json::<Workflow>(br#"{"name": "x", "workflow_id": 7, "inputs": {}}"#).is_ok());
    }

    #[test]
    fn json_has_many_names() {
        for good in
            ["application/json", "application/json; charset=utf-8", "application/problem+json", "Application/JSON"]
        {
            assert!(is_json(&HeaderValue::from_static(good)), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", ""] {
            assert!(!is_json(&HeaderValue::from_static(bad)), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together_and_limited() {
        let pieces = |sizes: &[usize]| {
            let pieces: Vec<_> = sizes.iter().map(|size| Ok::<_, std::io::Error>(vec![b'1'; *size])).collect();
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        for (sizes, limit, good) in
            [(&[4, 0, 3, 3][..], 10, true), (&[4, 4, 3], 10, false), (&[11], 10, false), (&[], 10, true)]
        {
            let answer = read_body(pieces(sizes), limit).await;
            match answer {
                Ok(bytes) => assert!(good && bytes == vec![b'1'; sizes.iter().sum()], "{sizes:?}"),
                Err(error) => assert!(!good && error.status == 413, "{sizes:?}: {error}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_body_is_our_fault(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(error) = decode_json::<Workflow>(&body) {
                prop_assert_eq!(error.status, 422);
            }
        }

        #[test]
        fn nul_is_found_exactly_where_serde_finds_it(text in r#"([a-u0\\]|\\u0000|\\\\){0,12}"#) {
            let body = format!("\"{text}\"");
            if let Ok(parsed) = serde_json::from_str::<String>(&body) {
                prop_assert_eq!(has_nul(body.as_bytes()), parsed.contains('\0'));
            }
        }
    }
}
