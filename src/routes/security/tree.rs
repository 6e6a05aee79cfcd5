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
    http::{Admin, ApiError, Json, Path, Query, page::rows},
};
use am_audit::{Consistency, Head, Inclusion};

/// The last signed head, and what it is checked with.
#[derive(Serialize, ToSchema)]
pub struct SignedHead {
    /// The head.
    #[serde(flatten)]
    head: Head,
    /// The key of the heads, for `agent-management verify-audit`: the Ed25519 public key in hex. Keep it elsewhere: one that
    /// comes with the log proves nothing.
    public_key: String,
    /// The same as verifiers of signed notes take it (C2SP).
    verifier_key: String,
}

/// The last signed head
///
/// A C2SP checkpoint; with `Accept: text/plain` it alone is answered. Keep some elsewhere: only a head that was kept can
/// show that the end of the log was cut off, or all of it written anew.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/head", tag = "security",
    responses((status = 200, body = SignedHead), (status = 404, description = "Nothing was written yet"))
)]
pub async fn head(State(app): State<App>, _: Admin, headers: HeaderMap) -> Result<Response, ApiError> {
    let head = app.audit.head().await?.ok_or_else(|| ApiError::not_found("No head was signed yet"))?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.starts_with("text/plain") {
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], head.checkpoint).into_response());
    }
    let (public_key, verifier_key) = (app.audit.public_key_hex(), app.audit.verifier_key());
    Ok(Json(SignedHead { head, public_key, verifier_key }).into_response())
}

/// Which heads.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HeadsQuery {
    /// Only heads over more entries than this.
    after: Option<u64>,
    /// At most so many, 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Signed heads, the smallest first
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/heads", tag = "security", params(HeadsQuery),
    responses((status = 200, body = Vec<Head>))
)]
pub async fn heads(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<HeadsQuery>,
) -> Result<Json<Vec<Head>>, ApiError> {
    let limit = rows(query.limit, 100)?;
    Ok(Json(app.audit.heads(query.after.unwrap_or(0), limit).await?))
}

/// In which tree.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InclusionQuery {
    /// That of the head over so many entries; by default the last.
    size: Option<u64>,
}

/// Proof that an entry is in the log
///
/// The hashes from its leaf to a signed head's root (RFC 6962).
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/inclusion/{audit_id}", tag = "security",
    params(("audit_id" = String, Path), InclusionQuery),
    responses((status = 200, body = Inclusion), (status = 404), (status = 409, description = "Not below a head yet"))
)]
pub async fn inclusion(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    Query(query): Query<InclusionQuery>,
) -> Result<Json<Inclusion>, ApiError> {
    Ok(Json(app.audit.inclusion(&id, query.size).await?))
}

/// Between which heads.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConsistencyQuery {
    /// Entries of the smaller head.
    #[param(minimum = 1)]
    from: u64,
    /// Entries of the larger; by default the last.
    to: Option<u64>,
}

/// Proof that one head's log is the beginning of another's
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-tree/consistency", tag = "security", params(ConsistencyQuery),
    responses((status = 200, body = Consistency), (status = 404, description = "No such head"))
)]
pub async fn consistency(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<ConsistencyQuery>,
) -> Result<Json<Consistency>, ApiError> {
    if query.to.is_some_and(|to| to < query.from) {
        let loc = vec!["query".into(), "to".into()];
        return Err(ApiError::field(loc, "Input should not be less than from", "value_error"));
    }
    Ok(Json(app.audit.consistency(query.from, query.to).await?))
}
