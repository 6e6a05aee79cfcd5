//! Figures of the marketplace, trust in agents, and recommendations.

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{OrderedPageQuery, market_caller};
use crate::{
    app::App,
    http::{
        ApiError, JsonBody, PathParams, QueryParams, TraderKey,
        error::FieldError,
        pagination::{Paginator, row_limit},
    },
    routes::agents::check_agent_path,
};
use am_core::ids::AgentId;
use am_db::codec::Timestamp;
use am_marketplace::{
    AgentTrustAnswer, AnalyticsPeriod, CategoryFigures, MarketAnalytics, MarketError, ServiceCategory, SuggestedService,
};

/// Services that are recommended by default.
const SUGGESTIONS: u32 = 10;

/// List the categories of services
///
/// All twenty, with what they have now and how the requests of the last week compare with the week before.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/categories", operation_id = "market_list_categories", tag = "market",
    security(("ApiKey" = ["admin", "client", "agent"])),
    responses((status = 200, body = Vec<CategoryFigures>, description = "The categories"))
)]
pub async fn list_market_categories(
    State(app): State<App>,
    _: TraderKey,
) -> Result<JsonBody<Vec<CategoryFigures>>, ApiError> {
    Ok(JsonBody(app.market.categories().await?))
}

/// Period of figures.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AnalyticsQuery {
    /// First day in UTC, as `2026-12-01`. Default: 29 days before the last.
    #[param(value_type = Option<String>, format = Date)]
    first_day: Option<NaiveDate>,
    /// Last day in UTC; the period has at most 366 days. Default: today.
    #[param(value_type = Option<String>, format = Date)]
    last_day: Option<NaiveDate>,
    /// Only this category. Default: all.
    #[param(inline)]
    category: Option<ServiceCategory>,
}

/// Get figures of the marketplace
///
/// Volume, revenue by day, growth against the period of the same length before, and the agents that earned most.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/analytics", operation_id = "market_get_analytics", tag = "market",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(AnalyticsQuery),
    responses((status = 200, body = MarketAnalytics, description = "The figures"))
)]
pub async fn get_market_analytics(
    State(app): State<App>,
    _: TraderKey,
    QueryParams(query): QueryParams<AnalyticsQuery>,
) -> Result<JsonBody<MarketAnalytics>, ApiError> {
    let today = app.clock.now().date_naive();
    let last = query.last_day.unwrap_or(today);
    let first = query.first_day.unwrap_or_else(|| last.checked_sub_days(chrono::Days::new(29)).unwrap_or(last));
    let found = app.market.analytics(Some(AnalyticsPeriod { first, last }), query.category).await;
    Ok(JsonBody(found.map_err(query_error)?))
}

/// A fault of a query names its parameter.
fn query_error(error: MarketError) -> ApiError {
    match error {
        MarketError::Invalid(found) => {
            ApiError::unprocessable(found.into_iter().map(|fault| FieldError::of("query", fault)).collect())
        }
        other => other.into(),
    }
}

/// How many services are recommended.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SuggestionsQuery {
    /// Number of services, 1 to 500. Default 10.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Recommend services
///
/// Such as go with what the caller paid for, each with the reason; where nothing is known of that, those that most clients paid for.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/recommendations", operation_id = "market_list_recommendations", tag = "market",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(SuggestionsQuery),
    responses((status = 200, body = Vec<SuggestedService>, description = "The services, the best first"))
)]
pub async fn list_market_suggestions(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    QueryParams(query): QueryParams<SuggestionsQuery>,
) -> Result<JsonBody<Vec<SuggestedService>>, ApiError> {
    let limit = row_limit(query.limit, SUGGESTIONS)? as usize;
    Ok(JsonBody(app.market.suggest_services(&market_caller(caller), limit).await?))
}

/// List agents by trust
///
/// The most trusted first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/trust", operation_id = "market_trust_list", tag = "market_trust",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(OrderedPageQuery),
    responses((status = 200, body = Vec<AgentTrustAnswer>, description = "A page of agents"))
)]
pub async fn list_trusted_agents(
    State(app): State<App>,
    _: TraderKey,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.market.trust_ranking(&paging.page).await.map_err(query_error)?;
    let place = |row: &AgentTrustAnswer| row.computed_at.unwrap_or(Timestamp(chrono::DateTime::UNIX_EPOCH));
    let next = paging.last_of(&found.rows).map(|last| (place(last), last.agent_id.as_str()));
    Ok(paging.respond_partial(&found.rows, Some(found.total), next))
}

/// Explain the trust in an agent
///
/// Its EigenTrust score over ratings of paid requests, and which raters contributed what: the parts are the score. It is computed at
/// intervals (`MARKET_TRUST_SECONDS`), so that later ratings are not in it.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/trust/{agent_id}", operation_id = "market_trust_explain", tag = "market_trust",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(("agent_id" = AgentId, Path, description = "Name of the agent")),
    responses((status = 200, body = AgentTrustAnswer, description = "The score and its parts, or why there is none"))
)]
pub async fn get_agent_trust(
    State(app): State<App>,
    _: TraderKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<AgentTrustAnswer>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    Ok(JsonBody(app.market.agent_trust(&agent).await?))
}
