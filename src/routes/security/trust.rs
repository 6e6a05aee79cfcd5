//! `/api/v1/agents/security/trust-scores`.

use axum::{extract::State, http::header, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_security::trust::{
    MAX_ENTITY_ID_LEN, MAX_ENTITY_TYPE_LEN, TrustEntity, TrustEvidence, TrustExplanation, TrustFilter, TrustScore,
};

/// How rows may name this entity. Clients of the monolith name a user by its key, which is never stored or shown.
fn entity_forms(app: &App, id: &str) -> Vec<String> {
    let keyring = &app.shared.keyring;
    keyring.stored_forms(&keyring.shown(id))
}

fn parse_entity(app: &App, (kind, id): (String, String)) -> Result<TrustEntity, ApiError> {
    for (name, text, most) in [("entity_type", &kind, MAX_ENTITY_TYPE_LEN), ("entity_id", &id, MAX_ENTITY_ID_LEN)] {
        let letters = text.chars().count();
        if letters == 0 || letters > most || text.chars().any(char::is_control) {
            let message = format!("Has 1 to {most} characters, no control characters");
            return Err(ApiError::invalid_field(vec!["path".into(), name.into()], message, "value_error"));
        }
    }
    Ok(TrustEntity { forms: entity_forms(app, &id), kind })
}

fn without_secrets(app: &App, score: TrustScore) -> TrustScore {
    TrustScore { entity_id: app.shared.keyring.shown(&score.entity_id), ..score }
}

/// Filter of trust scores.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TrustQuery {
    /// Only entities of this type.
    entity_type: Option<String>,
    /// Only this entity.
    entity_id: Option<String>,
    /// Lowest score, 0 to 100.
    min_score: Option<f64>,
    /// Highest score, 0 to 100.
    max_score: Option<f64>,
}

/// List trust scores
///
/// The newest entities first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/security/trust-scores", operation_id = "trust_scores_list", tag = "trust_scores",
    security(("ApiKey" = ["admin"])),
    params(TrustQuery, PageQuery),
    responses((status = 200, body = Vec<TrustScore>, description = "A page of trust scores, the newest first"))
)]
pub async fn list_trust_scores(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<TrustQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    for (name, bound) in [("min_score", query.min_score), ("max_score", query.max_score)] {
        if bound.is_some_and(|bound| !bound.is_finite()) {
            let loc = vec!["query".into(), name.into()];
            return Err(ApiError::invalid_field(loc, "Input should be a finite number", "finite_number"));
        }
    }
    // The links repeat what was asked, and a key is never shown.
    let by_key = query.entity_id.as_ref().is_some_and(|id| app.shared.keyring.shown(id) != *id);
    let filter = TrustFilter {
        entity_type: query.entity_type,
        entity_id: query.entity_id.map(|id| entity_forms(&app, &id)),
        min_score: query.min_score,
        max_score: query.max_score,
    };
    let found = app.trust.list(&filter, &paging.page).await?;
    let shown = |score| without_secrets(&app, score);
    let mut response = paging.answer_shown(found, |score| (score.created_at, &score.id), shown);
    if by_key {
        response.headers_mut().remove(header::LINK);
    }
    Ok(response)
}

/// Get the trust score of an entity
///
/// Computed as of now. `user` and `workflow` scores follow the audit log: ended executions, verifications,
/// violations, refusals by a policy, breaches of a sandbox.
#[utoipa::path(
    get, path = "/api/v1/agents/security/trust-scores/{entity_type}/{entity_id}", operation_id = "trust_scores_get",
    tag = "trust_scores", security(("ApiKey" = ["admin"])),
    params(
        ("entity_type" = String, Path, description = "Kind of the entity, for example `user`, `workflow` or `agent`; at most 50 characters"),
        ("entity_id" = String, Path, description = "Id of the entity; an API key is answered as its principal"),
    ),
    responses(
        (status = 200, body = TrustScore, description = "The trust score"),
        (status = 404, description = "The entity has no trust score"),
    )
)]
pub async fn get_trust_score(
    State(app): State<App>,
    _: AdminKey,
    PathParams(path): PathParams<(String, String)>,
) -> Result<JsonBody<TrustScore>, ApiError> {
    let score = app.trust.get(&parse_entity(&app, path)?).await?;
    Ok(JsonBody(without_secrets(&app, score)))
}

/// An execution that was seen elsewhere.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TrustUpdateQuery {
    /// Whether the execution completed.
    execution_success: bool,
    /// Duration in seconds, 0 or more; null: unknown.
    #[param(minimum = 0)]
    execution_time: Option<f64>,
    /// Whether something forbidden was done. Default false.
    #[serde(default)]
    security_violation: bool,
    /// Whether a policy refused something. Default false.
    #[serde(default)]
    policy_violation: bool,
}

/// Update a trust score
///
/// By an execution that was seen elsewhere. This service counts its own executions itself. An unknown entity gets its
/// first score.
#[utoipa::path(
    post, path = "/api/v1/agents/security/trust-scores/{entity_type}/{entity_id}/update",
    operation_id = "trust_scores_update", tag = "trust_scores", security(("ApiKey" = ["admin"])),
    params(
        ("entity_type" = String, Path, description = "Kind of the entity, for example `user`, `workflow` or `agent`; at most 50 characters"),
        ("entity_id" = String, Path, description = "Id of the entity; an API key is answered as its principal"),
        TrustUpdateQuery,
        IdempotencyHeader,
    ),
    responses((status = 200, body = TrustScore, description = "The trust score"))
)]
pub async fn update_trust_score(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(path): PathParams<(String, String)>,
    QueryParams(query): QueryParams<TrustUpdateQuery>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<TrustScore>, ApiError> {
    if query.execution_time.is_some_and(|seconds| !seconds.is_finite() || seconds < 0.0) {
        let loc = vec!["query".into(), "execution_time".into()];
        return Err(ApiError::invalid_field(loc, "Input should be a number of seconds, 0 or more", "value_error"));
    }
    let mut seen = vec![TrustEvidence::Execution { success: query.execution_success, seconds: query.execution_time }];
    seen.extend(query.security_violation.then_some(TrustEvidence::SecurityViolation));
    seen.extend(query.policy_violation.then_some(TrustEvidence::PolicyViolation));
    let entity = parse_entity(&app, path)?;
    let done = app.trust.update(&caller, entity, seen, request.once).await?;
    Ok(IdempotentOk(done.map(|score| without_secrets(&app, score))))
}

/// Explain a trust score
///
/// Each term and its inputs, as of the last update, which is stored, and as of now.
#[utoipa::path(
    get, path = "/api/v1/agents/security/trust-scores/{entity_type}/{entity_id}/explain",
    operation_id = "trust_scores_explain", tag = "trust_scores", security(("ApiKey" = ["admin"])),
    params(
        ("entity_type" = String, Path, description = "Kind of the entity, for example `user`, `workflow` or `agent`; at most 50 characters"),
        ("entity_id" = String, Path, description = "Id of the entity; an API key is answered as its principal"),
    ),
    responses(
        (status = 200, body = TrustExplanation, description = "Each term of the score"),
        (status = 404, description = "The entity has no trust score"),
    )
)]
pub async fn explain_trust_score(
    State(app): State<App>,
    _: AdminKey,
    PathParams(path): PathParams<(String, String)>,
) -> Result<JsonBody<TrustExplanation>, ApiError> {
    let explained = app.trust.explain(&parse_entity(&app, path)?).await?;
    Ok(JsonBody(TrustExplanation { stored: without_secrets(&app, explained.stored), ..explained }))
}
