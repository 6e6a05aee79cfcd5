//! What the security policies say of workflows beforehand.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::rows,
    },
    routes::kept::kept,
};
use am_orchestration::review::{Bindings, Scan};

/// What the policies say of a workflow
///
/// `violations` with `enforced: true` are those for which it would be refused now; `valid` is false with any. It says
/// what it warns of, recommends, the level that its verification asks for, and which policies bind it.
#[utoipa::path(
    post, path = "/api/v1/agents/security/validate-workflow/{workflow_id}", tag = "security",
    params(("workflow_id" = String, Path)),
    responses((status = 200, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn validate(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let verdict = app.reviews.validate(&(&caller.0).into(), &id).await?;
    let done = kept(&app, request.once, verdict).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// Which part of a scan.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScanQuery {
    /// Workflows and runs to look at; default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Those to leave out.
    offset: Option<u32>,
}

/// What breaks an active policy
///
/// Of the workflows that the caller may see, and of the caller's executions under way, newest first. `next_offset` leads
/// to the next page.
#[utoipa::path(
    get, path = "/api/v1/agents/security/scan", tag = "security", params(ScanQuery),
    responses((status = 200, body = Object), (status = 422))
)]
pub async fn scan(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<ScanQuery>,
) -> Result<Json<Scan>, ApiError> {
    let limit = rows(query.limit, 100)?;
    Ok(Json(app.reviews.scan(&(&caller.0).into(), limit, query.offset.unwrap_or(0)).await?))
}

/// Which policies bind a workflow
///
/// Every policy, whether it binds and why, and its rules one by one: what each allows, what the workflow asks for, and
/// which steps break it.
#[utoipa::path(
    get, path = "/api/v1/agents/security/policies/binding/{workflow_id}", tag = "security",
    params(("workflow_id" = String, Path)),
    responses((status = 200, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn binding(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
) -> Result<Json<Bindings>, ApiError> {
    Ok(Json(app.reviews.binding_of(&(&caller.0).into(), &id).await?))
}
