//! The common form of errors: `{"detail": ..., "code": "...", "request_id": "..."}`.
//!
//! A handler returns an [`ApiError`], which is stored in the response without a body. The middleware, which knows the
//! request id, writes the body, and logs internal errors once.

mod background;
mod communication;
mod creativity;
mod deployments;
mod learning;
mod ledger;
mod marketplace;
mod performance;
mod portfolios;
mod proofs;
mod retention;

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{Array, Object, OneOfBuilder, Ref, Schema, Type},
};

use am_core::validation::{PathSegment, Violation};
use am_security::{policies, trust};

/// Error of a request.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status of the response.
    pub status: StatusCode,
    /// Stable code for programs.
    pub code: &'static str,
    /// Description for people.
    pub detail: ErrorDetail,
    /// Time after which to retry; sent as `Retry-After` in whole seconds.
    pub retry_after: Option<Duration>,
    /// Additional members of the body.
    members: Option<Box<Map<String, Value>>>,
    /// Internal cause: logged, never sent.
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// A sentence, or one entry per invalid field.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ErrorDetail {
    /// Description as a sentence.
    Text(Cow<'static, str>),
    /// List of invalid fields.
    Fields(Vec<FieldError>),
}

/// What is shown in the place of a name that is an API key.
pub const HIDDEN_NAME: &str = "(an API key)";

/// Error of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field: `["body", "steps", "a", "timeout_seconds"]`.
    pub loc: Vec<LocationSegment>,
    /// Description of the error.
    pub msg: String,
    /// Stable code: `missing`, `string_type`, `int_parsing`, `value_error`, ...
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
}

/// Segment of a field's path: a name or an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ErrorLocation)]
pub enum LocationSegment {
    /// Name of a member.
    Name(Cow<'static, str>),
    /// Index in a list, or offset in the body.
    Index(usize),
}

impl From<&'static str> for LocationSegment {
    fn from(name: &'static str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl From<String> for LocationSegment {
    fn from(name: String) -> Self {
        Self::Name(Cow::Owned(name))
    }
}

impl From<usize> for LocationSegment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl FieldError {
    /// Create an error of a field: path, description, stable code.
    pub fn new(loc: Vec<LocationSegment>, msg: impl Into<String>, kind: impl Into<Cow<'static, str>>) -> Self {
        Self { loc, msg: msg.into(), kind: kind.into() }
    }

    /// A violation in the part of the request that `part` names: `body`, `query`.
    pub fn of(part: &'static str, violation: Violation) -> Self {
        let segment = |segment| match segment {
            PathSegment::Member(name) => LocationSegment::from(name),
            PathSegment::Item(index) => LocationSegment::from(index),
        };
        let loc = std::iter::once(LocationSegment::from(part)).chain(violation.path.into_iter().map(segment)).collect();
        Self::new(loc, violation.message, violation.kind)
    }

    /// Create an error of a value that has the right type but is invalid.
    pub fn invalid_value(loc: Vec<LocationSegment>, msg: impl Into<String>) -> Self {
        Self::new(loc, msg, "value_error")
    }
}

/// Body of every error, for the OpenAPI document.
#[derive(ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// Description: a sentence, or for an invalid request (422) one entry per field.
    #[schema(schema_with = detail_schema)]
    pub detail: ErrorDetail,
    /// Stable code for programs.
    pub code: String,
    /// Id of the request, which also appears in the logs.
    pub request_id: String,
}

fn detail_schema() -> Schema {
    let sentence = Object::with_type(Type::String);
    let fields = Array::new(Ref::from_schema_name(FieldError::name()));
    let description =
        "A sentence; for a request that does not validate (422) an entry for each invalid parameter or member.";
    OneOfBuilder::new().description(Some(description)).item(sentence).item(fields).into()
}

type ErrorText = Cow<'static, str>;

impl ApiError {
    /// Create an error with a status, a stable code and a sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<ErrorText>) -> Self {
        Self { status, code, detail: ErrorDetail::Text(detail.into()), retry_after: None, members: None, source: None }
    }

    /// 400 `bad_request`: the state does not allow the action, or the request is meaningless.
    pub fn bad_request(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 401 `unauthorized`: the key is missing or unknown.
    pub fn unauthorized(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403 `forbidden`: the caller may see it, and not do this: it belongs to another owner.
    pub fn forbidden(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404 `not_found`: it does not exist.
    pub fn not_found(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 409 `conflict`: it conflicts with other data.
    pub fn conflict(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 412 `precondition_failed`: `If-Match` names another version.
    pub fn precondition_failed(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail)
    }

    /// 413 `body_too_large`, with the limit in bytes.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("The body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// 413 `body_too_large`, with the limit in JSON values.
    pub fn too_many_values(limit: usize) -> Self {
        let detail = format!("The body has more than {limit} values (BODY_VALUE_LIMIT)");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// 415 `unsupported_media_type`: the content type is not accepted.
    pub fn unsupported_media(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 422 `validation_error`: names each invalid field.
    pub fn unprocessable(fields: Vec<FieldError>) -> Self {
        let detail = ErrorDetail::Fields(fields);
        Self { detail, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_error", "") }
    }

    /// 422 `validation_error` for one field.
    pub fn invalid_field(loc: Vec<LocationSegment>, msg: impl Into<String>, kind: &'static str) -> Self {
        Self::unprocessable(vec![FieldError::new(loc, msg, kind)])
    }

    /// 429 `rate_limited`: the caller has sent too many requests.
    pub fn too_many(retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests").retry_after(retry_after)
    }

    /// 429 `quota_exceeded`: the caller has as much as it may have; `detail` names the limit.
    pub fn quota(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", detail)
    }

    /// 501 `not_implemented`: the operation is not available.
    pub fn not_implemented(detail: impl Into<ErrorText>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)
    }

    /// 503 `unavailable`: overloaded or stopping; the same request may succeed later.
    pub fn unavailable(detail: impl Into<ErrorText>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(retry_after)
    }

    /// 504 `timeout`: the request exceeded the service's time limit.
    pub fn timeout(limit: Duration) -> Self {
        let detail = format!("The request took longer than {} s", limit.as_secs_f64());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
    }

    /// 500 `internal`: the client gets only the request id; `source` is logged.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error").caused_by(source)
    }

    /// Return the error with another stable code.
    pub fn code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    /// Return the error with a time after which to retry.
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Return the error with additional members in its body, those of `members` as JSON.
    pub fn with(self, members: &impl Serialize) -> Self {
        match serde_json::to_value(members) {
            Ok(Value::Object(members)) => Self { members: Some(Box::new(members)), ..self },
            _ => self,
        }
    }

    /// Return the error with the fields of another one after its own.
    pub fn and(mut self, other: Self) -> Self {
        if let (ErrorDetail::Fields(mine), ErrorDetail::Fields(theirs)) = (&mut self.detail, other.detail) {
            mine.extend(theirs);
        }
        self
    }

    /// Return the error with its internal cause, for the log.
    pub fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(Arc::from(source.into())), ..self }
    }

    /// Return the body with `request_id`.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct RenderedBody<'a> {
            detail: &'a ErrorDetail,
            code: &'static str,
            request_id: &'a str,
            #[serde(flatten)]
            members: Option<&'a Map<String, Value>>,
        }
        let opaque = ErrorDetail::Text(Cow::Borrowed("Internal server error"));
        let detail = if self.status == StatusCode::INTERNAL_SERVER_ERROR { &opaque } else { &self.detail };
        let mut body = Vec::with_capacity(160);
        // Writing strings and integers into memory cannot fail.
        let written = serde_json::to_writer(
            &mut body,
            &RenderedBody { detail, code: self.code, request_id, members: self.members.as_deref() },
        );
        debug_assert!(written.is_ok());
        body
    }

    /// Return all internal causes, outermost first.
    pub fn causes(&self) -> Option<String> {
        let mut next = self.source.as_deref().map(|source| source as &dyn StdError);
        let mut chain = String::new();
        while let Some(cause) = next {
            if !chain.is_empty() {
                chain.push_str(": ");
            }
            chain.push_str(&cause.to_string());
            next = cause.source();
        }
        (!chain.is_empty()).then_some(chain)
    }

    /// Hide the names of invalid fields that are keys: a client may have sent a key in the place of a name.
    pub(super) fn hide_keys(&mut self, is_key: impl Fn(&str) -> bool) {
        let ErrorDetail::Fields(fields) = &mut self.detail else { return };
        for segment in fields.iter_mut().flat_map(|field| &mut field.loc) {
            if matches!(segment, LocationSegment::Name(name) if is_key(name)) {
                *segment = HIDDEN_NAME.into();
            }
        }
    }

    /// Write the status, headers and body of the error into a response.
    pub(super) fn render(&self, response: &mut Response, request_id: &str) {
        *response.body_mut() = Body::from(self.body(request_id));
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey"));
        }
        if self.code == "unsupported_encoding" {
            // RFC 9110, 12.5.3: what the client may send instead.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            ErrorDetail::Text(text) => write!(f, "{} {}: {text}", self.status.as_u16(), self.code),
            ErrorDetail::Fields(fields) => {
                write!(f, "{} {}:", self.status.as_u16(), self.code)?;
                fields.iter().try_for_each(|field| write!(f, " {:?} {};", field.loc, field.msg))
            }
        }
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

// Conversion of the domain crates' errors to responses: one `From` per crate, all in this module.

impl From<am_db::DatabaseError> for ApiError {
    fn from(error: am_db::DatabaseError) -> Self {
        use am_db::DatabaseError::{
            Busy, DiskFull, Duplicate, IdempotencyKeyReused, InvalidValue, TimedOut, WriterStopped,
        };
        const SHORT_RETRY_AFTER: Duration = Duration::from_secs(1);
        const LONG_RETRY_AFTER: Duration = Duration::from_secs(30);
        match error {
            Busy => Self::unavailable("The database is busy", SHORT_RETRY_AFTER).code("database_busy"),
            TimedOut => Self::unavailable("The database took too long to answer", LONG_RETRY_AFTER)
                .code("database_timeout")
                .caused_by(error),
            DiskFull => Self::unavailable("The disk of the database is full", LONG_RETRY_AFTER)
                .code("storage_full")
                .caused_by(error),
            WriterStopped => Self::unavailable("The service is stopping", SHORT_RETRY_AFTER),
            IdempotencyKeyReused => {
                let loc = vec!["header".into(), "Idempotency-Key".into()];
                let error = Self::invalid_field(loc, "Was used for another request", "value_error");
                error.code("idempotency_key_reused")
            }
            Duplicate(_) => Self::conflict("It exists already").caused_by(error),
            InvalidValue(_) => {
                let detail = "What is stored can't be read; the log has the cause under the request id";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable_row", detail).caused_by(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<am_audit::AuditError> for ApiError {
    fn from(error: am_audit::AuditError) -> Self {
        match error {
            am_audit::AuditError::Db(error) => error.into(),
            am_audit::AuditError::NotFound(_) => Self::not_found("Audit entry not found"),
            am_audit::AuditError::HeadNotFound(_) => Self::not_found(error.to_string()),
            am_audit::AuditError::NotSealed(_) => Self::conflict(error.to_string()).retry_after(Duration::from_secs(5)),
        }
    }
}

impl From<policies::SecurityPolicyError> for ApiError {
    fn from(error: policies::SecurityPolicyError) -> Self {
        match error {
            policies::SecurityPolicyError::NotFound(_) => Self::not_found("Security policy not found"),
            policies::SecurityPolicyError::NameTaken(_) => Self::conflict(error.to_string()),
            policies::SecurityPolicyError::Db(error) => error.into(),
        }
    }
}

impl From<trust::TrustError> for ApiError {
    fn from(error: trust::TrustError) -> Self {
        match error {
            trust::TrustError::Db(error) => error.into(),
            trust::TrustError::Audit(error) => error.into(),
            trust::TrustError::NotFound(_) => Self::not_found(error.to_string()),
        }
    }
}

impl From<am_orchestration::error::OrchestrationError> for ApiError {
    fn from(error: am_orchestration::error::OrchestrationError) -> Self {
        use am_orchestration::error::OrchestrationError::{
            Conflict, Db, Forbidden, Invalid, InvalidState, LeaseLost, Ledger, NotFound, QuotaReached, Refused,
            Stopping, Unavailable, VersionMismatch,
        };
        match error {
            QuotaReached { .. } => Self::quota(error.to_string()).retry_after(Duration::from_secs(10)),
            NotFound(_) => Self::not_found(error.to_string()),
            Forbidden => Self::forbidden(error.to_string()),
            Invalid(found) => found.into(),
            Refused(refusal) => Self::forbidden(refusal.to_string()).code("policy_violation").with(&refusal),
            InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            Conflict(text) => Self::conflict(text),
            VersionMismatch => Self::precondition_failed(error.to_string()),
            LeaseLost => {
                Self::conflict("The execution changed at the same moment; try again").code("changed_meanwhile")
            }
            Stopping => Self::unavailable("The service is stopping", Duration::from_secs(1)),
            Unavailable(text) => Self::unavailable(text, Duration::from_secs(1)),
            Ledger(error) => error.into(),
            Db(error) => error.into(),
        }
    }
}

impl From<am_webhooks::WebhookError> for ApiError {
    fn from(error: am_webhooks::WebhookError) -> Self {
        match error {
            am_webhooks::WebhookError::NotFound(text) => Self::not_found(text),
            am_webhooks::WebhookError::Invalid(found) => found.into(),
            am_webhooks::WebhookError::Conflict(text) => Self::conflict(text),
            am_webhooks::WebhookError::InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            am_webhooks::WebhookError::Db(error) => error.into(),
            // Reported at startup, when the configuration is read.
            error @ (am_webhooks::WebhookError::InvalidAddress(..)
            | am_webhooks::WebhookError::InvalidSecret(_)
            | am_webhooks::WebhookError::SecretFile(_)
            | am_webhooks::WebhookError::Client(_)) => Self::internal(error),
        }
    }
}

impl From<Vec<Violation>> for ApiError {
    fn from(violations: Vec<Violation>) -> Self {
        Self::unprocessable(violations.into_iter().map(|violation| FieldError::of("body", violation)).collect())
    }
}

mod services;
#[cfg(test)]
mod tests;
