//! The errors that many operations may answer, beside those that an operation states itself.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::http::error::ErrorBody;

/// An error that operations share: its name among the components, its status, its meaning.
type Shared = (&'static str, &'static str, &'static str);

const UNAUTHORIZED: Shared = ("Unauthorized", "401", "The API key is missing or unknown (`unauthorized`)");
const ADMINS_ONLY: Shared = ("AdminsOnly", "403", "The key is no admin key (`insufficient_role`)");
const ADMINS_AND_AGENTS: Shared = (
    "AdminsAndAgents",
    "403",
    "The key is neither an admin's nor an agent's (`insufficient_role`), or it is bound to another agent (`forbidden`)",
);
const CLIENTS_ONLY: Shared = ("ClientsOnly", "403", "The key is a miner's (`insufficient_role`)");
const TOO_LARGE: Shared = ("BodyTooLarge", "413", "The body is larger than `BODY_LIMIT_BYTES` (`body_too_large`)");
const NOT_JSON: Shared = ("NotJson", "415", "The body's Content-Type is not JSON (`unsupported_media_type`)");
const INVALID: Shared =
    ("Invalid", "422", "A parameter or a member of the body is not valid; `detail` names each (`validation_error`)");
const TOO_MANY: Shared = (
    "TooManyRequests",
    "429",
    "The caller sent more requests than `RATE_LIMIT_REQUESTS` allows (`rate_limited`), or has as many executions that have not ended as it may have (`quota_exceeded`)",
);
const UNAVAILABLE: Shared =
    ("Unavailable", "503", "The database is busy or full, or the service is stopping; see Retry-After");
const UNEXPECTED: Shared = ("Unexpected", "default", "Another error, such as 500 `internal` or 504 `timeout`");

const ALL: [Shared; 10] = [
    UNAUTHORIZED,
    ADMINS_ONLY,
    ADMINS_AND_AGENTS,
    CLIENTS_ONLY,
    TOO_LARGE,
    NOT_JSON,
    INVALID,
    TOO_MANY,
    UNAVAILABLE,
    UNEXPECTED,
];

/// The body of every error.
fn content() -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{}", ErrorBody::name())}}})
}

/// The shared errors as components.
pub(super) fn components() -> Value {
    let response = |(name, status, meaning): Shared| {
        let mut response = Map::new();
        response.insert("description".to_owned(), meaning.into());
        response.insert("content".to_owned(), content());
        super::headers::declare_on(status, &mut response, &[]);
        (name.to_owned(), Value::Object(response))
    };
    Value::Object(ALL.into_iter().map(response).collect())
}

/// Adds to an operation the errors that it shares with others, and to its own errors their body.
pub(super) fn add(operation: &mut Map<String, Value>, roles: Option<&[Value]>, limited: bool) {
    for (name, status, meaning) in shared(operation, roles, limited) {
        let responses = operation.entry("responses").or_insert_with(|| json!({}));
        let stated = &mut responses[status];
        match stated["description"].as_str() {
            Some(own) if status == "403" => stated["description"] = format!("{own}. Or: {meaning}").into(),
            Some(_) => {}
            None => *stated = json!({"$ref": format!("#/components/responses/{name}")}),
        }
    }
    for (status, response) in operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(response) = response.as_object_mut().filter(|response| !response.contains_key("$ref")) else {
            continue;
        };
        if status.starts_with(['4', '5']) {
            response.entry("content").or_insert_with(content);
        }
    }
}

fn shared(operation: &Map<String, Value>, roles: Option<&[Value]>, limited: bool) -> Vec<Shared> {
    let mut errors = Vec::new();
    if let Some(roles) = roles {
        errors.push(UNAUTHORIZED);
        let holds = |role: &str| roles.is_empty() || roles.iter().any(|one| one == role);
        match (holds("client"), holds("miner")) {
            (false, _) if holds("agent") => errors.push(ADMINS_AND_AGENTS),
            (false, _) => errors.push(ADMINS_ONLY),
            (true, false) => errors.push(CLIENTS_ONLY),
            (true, true) => {}
        }
    }
    let has = |member: &str| operation.contains_key(member);
    if has("requestBody") {
        errors.push(TOO_LARGE);
    }
    if operation.get("requestBody").is_some_and(|body| body["content"].get("application/json").is_some()) {
        errors.push(NOT_JSON);
    }
    if has("requestBody") || has("parameters") {
        errors.push(INVALID);
    }
    if limited {
        errors.extend([TOO_MANY, UNAVAILABLE]);
    }
    errors.push(UNEXPECTED);
    errors
}
