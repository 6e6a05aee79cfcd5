//! Request headers that several operations take, and the response headers that follow from them.

use serde_json::{Map, Value, json};
use utoipa::IntoParams;

/// The versions that a change may be made to.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `IfMatch` reads")]
pub struct IfMatchHeader {
    /// Entity tags (RFC 9110), or `*`: the change is made only if one of them is the present version's `ETag`. Without the
    /// header it is made to any version.
    #[param(rename = "If-Match", value_type = String, required = false)]
    tags: Option<String>,
}

/// The versions that the client has already.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `IfNoneMatch` reads")]
pub struct IfNoneMatchHeader {
    /// Entity tags (RFC 9110), or `*`: if one of them is the present version's `ETag`, the answer is 304 without a body.
    #[param(rename = "If-None-Match", value_type = String, required = false)]
    tags: Option<String>,
}

/// Where an event stream is taken up.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header that `Resume` reads")]
pub struct LastEventIdHeader {
    /// Number of the last event that the client has; the stream goes on after it. Overrides the query's `after`.
    #[param(rename = "Last-Event-ID", value_type = u64, required = false)]
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
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let taken: Vec<String> = parameters.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect();
    for (status, response) in operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(response) = response.as_object_mut().filter(|response| !response.contains_key("$ref")) {
            declare_on(status, response, &taken);
        }
    }
}

/// Declares the headers of one response, which follow from its status and from the parameters that the operation takes.
pub(super) fn declare_on(status: &str, response: &mut Map<String, Value>, taken: &[String]) {
    let takes = |name: &str| taken.iter().any(|one| one == name);
    let success = status.starts_with('2');
    let names = [
        ("X-Request-Id", true),
        ("Traceparent", true),
        ("Retry-After", matches!(status, "429" | "503")),
        ("WWW-Authenticate", status == "401"),
        ("Idempotency-Replayed", success && takes("Idempotency-Key")),
        ("X-Total-Count", success && takes("cursor")),
        ("Link", success && takes("cursor")),
        ("ETag", takes("If-None-Match") && (success || status == "304")),
    ];
    let headers = response.entry("headers").or_insert_with(|| json!({}));
    for (name, _) in names.into_iter().filter(|(_, declared)| *declared) {
        headers[name] = json!({"$ref": format!("#/components/headers/{name}")});
    }
}
