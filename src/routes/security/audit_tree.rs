//! `/api/v1/agents/security/audit-tree`: signed heads and proofs.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{AdminKey, ApiError, JsonBody, PathParams, QueryParams, pagination::row_limit},
};
use am_audit::{ConsistencyProof, HeadCosignature, InclusionProof, LogKey, SignedTreeHead};
use am_core::ids::AuditId;

/// The last signed head of the audit log, and the key to check it with.
#[derive(Serialize, ToSchema)]
#[schema(as = SignedAuditHead)]
pub struct SignedHead {
    /// The signed head of the log.
    #[serde(flatten)]
    head: SignedTreeHead,
    /// Ed25519 public key of the heads, in hexadecimal digits, for `agent-management verify-audit`. Keep it
    /// elsewhere: a key that comes with the log proves nothing.
    public_key: String,
    /// The same key as verifiers of signed notes (C2SP) take it.
    verifier_key: String,
    /// Cosignatures of witnesses over this head, which are lines of the checkpoint too; empty when none came yet.
    cosignatures: Vec<HeadCosignature>,
}

/// Get the last signed head of the audit log
///
/// A C2SP checkpoint; with `Accept: text/plain` the checkpoint alone. Keep some elsewhere: only a kept head can show
/// that the end of the log was cut off, or that all of it was rewritten. Witnesses, if some are configured, cosign a head within
/// seconds.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/head", operation_id = "audit_get_head", tag = "audit",
    security(("ApiKey" = ["admin"])),
    responses(
        (status = 200, content((SignedHead = "application/json"), (String = "text/plain")), description = "The signed head; with `Accept: text/plain` the checkpoint alone"),
        (status = 404, description = "No head was signed yet"),
    )
)]
pub async fn get_audit_head(State(app): State<App>, _: AdminKey, headers: HeaderMap) -> Result<Response, ApiError> {
    let (head, cosignatures) = app.audit.head().await?.ok_or_else(|| ApiError::not_found("No head was signed yet"))?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.starts_with("text/plain") {
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], head.checkpoint).into_response());
    }
    let (public_key, verifier_key) = (app.audit.public_key_hex(), app.audit.verifier_key());
    Ok(JsonBody(SignedHead { head, public_key, verifier_key, cosignatures }).into_response())
}

/// Which heads to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HeadsQuery {
    /// Only heads over more entries than this. Default 0.
    after: Option<u64>,
    /// Number of heads at most, 1 to 500. Default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// List signed heads
///
/// The smallest first.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/heads", operation_id = "audit_list_heads", tag = "audit",
    security(("ApiKey" = ["admin"])),
    params(HeadsQuery),
    responses((status = 200, body = Vec<SignedTreeHead>, description = "Signed heads, the smallest first"))
)]
pub async fn list_audit_heads(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<HeadsQuery>,
) -> Result<JsonBody<Vec<SignedTreeHead>>, ApiError> {
    let limit = row_limit(query.limit, 100)?;
    Ok(JsonBody(app.audit.heads(query.after.unwrap_or(0), limit).await?))
}

/// List the keys of the audit log
///
/// Each with the size of the first head that it signs, oldest first. A `rotated` key is connected with the one before by
/// an entry that both signed.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/keys", operation_id = "audit_list_keys", tag = "audit",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = Vec<LogKey>, description = "Keys that signed heads, oldest first"))
)]
pub async fn list_audit_keys(State(app): State<App>, _: AdminKey) -> Result<JsonBody<Vec<LogKey>>, ApiError> {
    Ok(JsonBody(app.audit.keys().await?))
}

/// The tree of an inclusion proof.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InclusionQuery {
    /// Number of entries below the head that the proof leads to. Default: the last head's.
    size: Option<u64>,
}

/// Prove that an entry is in the audit log
///
/// The hashes from its leaf to a signed head's root (RFC 6962).
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/inclusion/{audit_id}", operation_id = "audit_prove_inclusion",
    tag = "audit", security(("ApiKey" = ["admin"])),
    params(
        ("audit_id" = AuditId, Path, description = "Id of the audit entry: `audit_` and hexadecimal digits"),
        InclusionQuery,
    ),
    responses(
        (status = 200, body = InclusionProof, description = "The proof"),
        (status = 404, description = "No audit entry has this id, or no head is over so many entries"),
        (status = 409, description = "No head is signed over the entry yet; see Retry-After"),
    )
)]
pub async fn get_inclusion_proof(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AuditId>,
    QueryParams(query): QueryParams<InclusionQuery>,
) -> Result<JsonBody<InclusionProof>, ApiError> {
    Ok(JsonBody(app.audit.inclusion(&id, query.size).await?))
}

/// The heads of a consistency proof.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConsistencyQuery {
    /// Number of entries below the smaller head, from 1.
    #[param(minimum = 1)]
    from: u64,
    /// Number of entries below the larger head. Default: the last head's.
    to: Option<u64>,
}

/// Prove that one head's log is the beginning of another's
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/consistency", operation_id = "audit_prove_consistency",
    tag = "audit", security(("ApiKey" = ["admin"])),
    params(ConsistencyQuery),
    responses(
        (status = 200, body = ConsistencyProof, description = "The proof"),
        (status = 404, description = "There is no head over so many entries"),
    )
)]
pub async fn get_consistency_proof(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<ConsistencyQuery>,
) -> Result<JsonBody<ConsistencyProof>, ApiError> {
    if query.to.is_some_and(|to| to < query.from) {
        let loc = vec!["query".into(), "to".into()];
        return Err(ApiError::invalid_field(loc, "Input should not be less than from", "value_error"));
    }
    Ok(JsonBody(app.audit.consistency(query.from, query.to).await?))
}
