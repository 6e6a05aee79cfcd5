//! Request headers that several operations take, and the response headers that follow from them.

use serde_json::{Map, Value, json};
use utoipa::IntoParams;

/// The key under which a request takes effect once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `KeyedJson` and `KeyedBytes` read")]
pub struct IdempotencyHeader {
    /// Makes the request take effect once: 1 to 255 visible ASCII characters. The same key with the same request is answered
    /// from the first result, with the header `Idempotency-Replayed`; with another request it is refused with 422
    /// `idempotency_key_reused`. Keys are kept for each caller.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    key: Option<String>,
}

/// The versions that a change may be made to.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `IfMatch` reads")]
pub struct IfMatchHeader {
    /// Entity tags (RFC 9110), or `*`: the change is made only if one of them is the present version's `ETag`. Without the
    /// header it is made to any version.
    #[param(rename = "If-Match")]
    tags: Option<String>,
}

/// The versions that the client has already.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `IfNoneMatch` reads")]
pub struct IfNoneMatchHeader {
    /// Entity tags (RFC 9110), or `*`: if one of them is the present version's `ETag`, the answer is 304 without a body.
    #[param(rename = "If-None-Match")]
    tags: Option<String>,
}

/// Where an event stream is taken up.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `Resume` reads")]
pub struct LastEventIdHeader {
    /// Number of the last event that the client has; the stream goes on after it. Overrides the query's `after`.
    #[param(rename = "Last-Event-ID")]
    id: Option<u64>,
}

/// The response headers that operations share: name, type, description.
const SHARED: [(&str, &str, &str); 8] = [
    (
        "X-Request-Id",
        "string",
        "Id of the request in the service's log: the client's own X-Request-Id, or the trace id",
    ),
    ("Traceparent", "string", "W3C trace context of the request"),
    ("Retry-After", "integer", "Seconds after which the same request may succeed"),
    ("WWW-Authenticate", "string", "`ApiKey`"),
    (
        "Idempotency-Replayed",
        "boolean",
        "`true` where the answer is the first result of this Idempotency-Key; else absent",
    ),
    ("X-Total-Count", "integer", "Number of all matching rows; absent where they are not counted"),
    ("Link", "string", "Pages (RFC 8288): `first`, and where they exist `prev` and `next`"),
    ("ETag", "string", "Version of the resource, for If-Match and If-None-Match"),
];

/// The shared response headers as components.
pub(super) fn components() -> Value {
    let header = |(name, kind, description): (&str, &str, &str)| {
        (name.to_owned(), json!({"description": description, "schema": {"type": kind}}))
    };
    Value::Object(SHARED.into_iter().map(header).collect())
}

/// Declares the headers of each response of `operation`.
pub(super) fn declare(operation: &mut Map<String, Value>) {
    let takes = |name: &str| {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        parameters.is_some_and(|all| all.iter().any(|parameter| parameter["name"] == name))
    };
    let (keyed, paged) = (takes("Idempotency-Key"), takes("cursor"));
    let versioned = takes("If-None-Match");
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, response) in responses {
        let Some(response) = response.as_object_mut() else { continue };
        let success = status.starts_with('2');
        let names = [
            ("X-Request-Id", true),
            ("Traceparent", true),
            ("Retry-After", matches!(status.as_str(), "429" | "503")),
            ("WWW-Authenticate", status == "401"),
            ("Idempotency-Replayed", keyed && success),
            ("X-Total-Count", paged && success),
            ("Link", paged && success),
            ("ETag", versioned && (success || status == "304")),
        ];
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        for (name, _) in names.into_iter().filter(|(_, declared)| *declared) {
            headers[name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
}
