//! `/api/v1/agents/security/trust-scores`.

use axum::{extract::State, http::header, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_security::trust::{Entity, Evidence, Explanation, Filter, LONGEST_ID, LONGEST_TYPE, TrustScore};

/// How rows may name this entity. Clients of the monolith name a user by its key, which is never stored or shown.
fn forms(app: &App, id: &str) -> Vec<String> {
    let keyring = &app.shared.keyring;
    keyring.stored_forms(&keyring.shown(id))
}

fn entity(app: &App, (kind, id): (String, String)) -> Result<Entity, ApiError> {
    for (name, text, most) in [("entity_type", &kind, LONGEST_TYPE), ("entity_id", &id, LONGEST_ID)] {
        let letters = text.chars().count();
        if letters == 0 || letters > most || text.chars().any(char::is_control) {
            let message = format!("Has 1 to {most} characters, no control characters");
            return Err(ApiError::field(vec!["path".into(), name.into()], message, "value_error"));
        }
    }
    Ok(Entity { forms: forms(app, &id), kind })
}

fn shown(app: &App, score: TrustScore) -> TrustScore {
    TrustScore { entity_id: app.shared.keyring.shown(&score.entity_id), ..score }
}

/// Which scores to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TrustQuery {
    /// Only of this type.
    entity_type: Option<String>,
    /// Only this entity's.
    entity_id: Option<String>,
    /// The least trust.
    min_score: Option<f64>,
    /// The highest trust.
    max_score: Option<f64>,
}

/// List trust scores
///
/// The newest entities first.
#[utoipa::path(
    get, path = "/api/v1/agents/security/trust-scores", tag = "security", params(TrustQuery, PageQuery),
    responses((status = 200, body = Vec<TrustScore>))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<TrustQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    for (name, bound) in [("min_score", query.min_score), ("max_score", query.max_score)] {
        if bound.is_some_and(|bound| !bound.is_finite()) {
            let loc = vec!["query".into(), name.into()];
            return Err(ApiError::field(loc, "Input should be a finite number", "finite_number"));
        }
    }
    // The links repeat what was asked, and a key is never shown.
    let by_key = query.entity_id.as_ref().is_some_and(|id| app.shared.keyring.shown(id) != *id);
    let filter = Filter {
        entity_type: query.entity_type,
        entity_id: query.entity_id.map(|id| forms(&app, &id)),
        min_score: query.min_score,
        max_score: query.max_score,
    };
    let (scores, total) = app.trust.list(&filter, &page).await?;
    let scores: Vec<TrustScore> = scores.into_iter().map(|score| shown(&app, score)).collect();
    let last = scores.last().map(|score| (score.created_at, score.id.as_str()));
    let mut response = paging.answer(&page, &scores, total.cast_unsigned(), last);
    if by_key {
        response.headers_mut().remove(header::LINK);
    }
    Ok(response)
}

/// The trust score of an entity
///
/// With all that has ended by now. `user` and `workflow` follow the audit log by themselves: executions that ended,
/// verifications, violations, refusals by a policy, breaches of a sandbox.
#[utoipa::path(
    get, path = "/api/v1/agents/security/trust-scores/{entity_type}/{entity_id}", tag = "security",
    params(("entity_type" = String, Path), ("entity_id" = String, Path)),
    responses((status = 200, body = TrustScore), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    _: Admin,
    Path(path): Path<(String, String)>,
) -> Result<Json<TrustScore>, ApiError> {
    let score = app.trust.get(&entity(&app, path)?).await?;
    Ok(Json(shown(&app, score)))
}

/// What was seen of an entity.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UpdateQuery {
    /// Did an execution end well?
    execution_success: bool,
    /// Seconds that it took.
    #[param(minimum = 0)]
    execution_time: Option<f64>,
    /// Was something done that must not be?
    #[serde(default)]
    security_violation: bool,
    /// Did a policy refuse something?
    #[serde(default)]
    policy_violation: bool,
}

/// Update a trust score
///
/// By an execution that was seen elsewhere. What this service does itself it counts itself. An entity that is not known
/// yet begins here.
#[utoipa::path(
    post, path = "/api/v1/agents/security/trust-scores/{entity_type}/{entity_id}/update", tag = "security",
    params(("entity_type" = String, Path), ("entity_id" = String, Path), UpdateQuery),
    responses((status = 200, body = TrustScore))
)]
pub async fn update(
    State(app): State<App>,
    caller: Admin,
    Path(path): Path<(String, String)>,
    Query(query): Query<UpdateQuery>,
    request: KeyedJson<Option<Value>>,
) -> Result<Replayable<Json<TrustScore>>, ApiError> {
    if query.execution_time.is_some_and(|seconds| !seconds.is_finite() || seconds < 0.0) {
        let loc = vec!["query".into(), "execution_time".into()];
        return Err(ApiError::field(loc, "Input should be a number of seconds, 0 or more", "value_error"));
    }
    let mut seen = vec![Evidence::Execution { success: query.execution_success, seconds: query.execution_time }];
    seen.extend(query.security_violation.then_some(Evidence::SecurityViolation));
    seen.extend(query.policy_violation.then_some(Evidence::PolicyViolation));
    let entity = entity(&app, path)?;
    let done = app.trust.update(&(&caller.0).into(), entity, seen, request.once).await?;
    Ok(Replayable(Json(shown(&app, done.value)), done.replayed))
}

/// Explain a trust score
///
/// Term by term, with what each was computed from: as of the last update, which is what is stored, and as of now.
#[utoipa::path(
    get, path = "/api/v1/agents/security/trust-scores/{entity_type}/{entity_id}/explain", tag = "security",
    params(("entity_type" = String, Path), ("entity_id" = String, Path)),
    responses((status = 200, body = Explanation), (status = 404))
)]
pub async fn explain(
    State(app): State<App>,
    _: Admin,
    Path(path): Path<(String, String)>,
) -> Result<Json<Explanation>, ApiError> {
    let explained = app.trust.explain(&entity(&app, path)?).await?;
    Ok(Json(Explanation { stored: shown(&app, explained.stored), ..explained }))
}
