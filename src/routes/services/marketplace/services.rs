//! `/api/v1/services/marketplace/services`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{OrderedPageQuery, market_caller};
use crate::{
    app::App,
    http::{
        ApiError, JsonBody, PathParams, QueryParams, TraderKey, empty_as_none,
        error::FieldError,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
        several,
    },
};
use am_core::{
    ids::{AgentId, MarketGuildId, MarketServiceId, WorkflowId},
    money::{Money, StatedAmount},
};
use am_marketplace::{
    MarketError, MarketService, ServiceCategory, ServiceChange, ServiceDraft, ServiceFilter, ServiceOrder,
    ServiceRating, ServiceState,
};

/// Filter and order of services.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ServicesQuery {
    /// Words of the name, the tags or the description, all of which must be there; one that ends in `*` is a beginning.
    #[serde(default, deserialize_with = "empty_as_none")]
    q: Option<String>,
    /// Only services of this category.
    #[param(inline)]
    category: Option<ServiceCategory>,
    /// Only services of at least this base price, in AIT.
    #[serde(default, deserialize_with = "empty_as_none")]
    min_price: Option<String>,
    /// Only services of at most this base price, in AIT.
    #[serde(default, deserialize_with = "empty_as_none")]
    max_price: Option<String>,
    /// Only services of at least this mean rating, 1 to 5.
    min_rating: Option<f64>,
    /// Only services of this agent.
    #[serde(default, deserialize_with = "empty_as_none")]
    agent_id: Option<AgentId>,
    /// Only services of this guild.
    #[serde(default, deserialize_with = "empty_as_none")]
    guild_id: Option<MarketGuildId>,
    /// State of the services; others than `active` only together with `agent_id` or `guild_id`. Default `active`.
    #[param(inline)]
    state: Option<ServiceState>,
    /// Only services with these tags: one or several, separated by commas.
    #[serde(default, deserialize_with = "several")]
    tags: Vec<String>,
    /// Order of the services. Default: `relevance` with words or tags, else `rating`.
    #[param(inline)]
    sort: Option<ServiceOrder>,
}

/// The amount of a query parameter.
fn query_amount(name: &'static str, text: Option<&str>) -> Result<Option<Money>, ApiError> {
    let parsed = text.map(|text| Money::parse_decimal(text.trim())).transpose();
    parsed.map_err(|error| ApiError::invalid_field(vec!["query".into(), name.into()], error.to_string(), "value_error"))
}

/// A fault of a search names the query's parameter.
fn search_error(error: MarketError) -> ApiError {
    match error {
        MarketError::Invalid(found) => {
            ApiError::unprocessable(found.into_iter().map(|fault| FieldError::of("query", fault)).collect())
        }
        other => other.into(),
    }
}

/// Search services
///
/// Those that are offered, 50 on a page, by `sort`. A search by words or tags is among the newest 1000 services that match them. The
/// total is stated where it is known: for searches by agent or guild, and for those by words or tags of which all matches were looked
/// at, with fewer than 1000 of them.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/services", operation_id = "market_services_list", tag = "market_services",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(ServicesQuery, OrderedPageQuery),
    responses((status = 200, body = Vec<MarketService>, description = "A page of services"))
)]
pub async fn list_market_services(
    State(app): State<App>,
    _: TraderKey,
    QueryParams(query): QueryParams<ServicesQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = ServiceFilter {
        text: query.q,
        category: query.category,
        min_price: query_amount("min_price", query.min_price.as_deref())?,
        max_price: query_amount("max_price", query.max_price.as_deref())?,
        min_rating: query.min_rating,
        agent_id: query.agent_id,
        guild_id: query.guild_id,
        state: query.state,
        tags: query.tags,
        order: query.sort,
    };
    let found = app.market.search_services(&filter, &paging.page).await.map_err(search_error)?;
    let next = paging.last_of(&found.rows).map(|last| (last.created_at, last.id.as_str()));
    Ok(paging.respond_partial(&found.rows, found.total, next))
}

/// A service to list. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketServiceCreate {
    /// Registered agent that offers it, which the caller acts for. Its reputation must be at least 500.
    agent_id: AgentId,
    /// Guild of the agent, whose members may do the work too. Default: the agent alone.
    guild_id: Option<MarketGuildId>,
    /// Name of the service, 1 to 100 characters.
    name: String,
    /// What it does, 10 to 5000 characters.
    description: String,
    /// Category of the service.
    category: ServiceCategory,
    /// Words by which it is found, at most 20. Default: none.
    #[serde(default)]
    tags: Vec<String>,
    /// Base price in AIT, 0.001 to 1000.
    base_price: StatedAmount,
    /// Workflow of the caller that does the work of accepted requests, with the request's `inputs`. Default: the agent reports
    /// results itself.
    workflow_id: Option<WorkflowId>,
}

/// List a service
///
/// An agent of the caller's offers it from now on.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/services", operation_id = "market_services_create",
    tag = "market_services", security(("ApiKey" = ["admin", "client", "agent"])),
    params(IdempotencyHeader),
    request_body = MarketServiceCreate,
    responses(
        (status = 201, body = MarketService, description = "The service"),
        (status = 409, description = "The agent has 200 services (`conflict`)"),
    )
)]
pub async fn create_market_service(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    request: IdempotentJson<MarketServiceCreate>,
) -> Result<IdempotentCreated<MarketService>, ApiError> {
    let MarketServiceCreate { agent_id, guild_id, name, description, category, tags, base_price, workflow_id } =
        request.body;
    let draft = ServiceDraft { agent_id, guild_id, name, description, category, tags, base_price, workflow_id };
    Ok(IdempotentCreated(app.market.create_service(&market_caller(caller), draft, request.once).await?))
}

/// Get a service
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/services/{service_id}", operation_id = "market_services_get",
    tag = "market_services", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("service_id" = MarketServiceId, Path, description = "Id of the service")),
    responses(
        (status = 200, body = MarketService, description = "The service"),
        (status = 404, description = "No service has this id"),
    )
)]
pub async fn get_market_service(
    State(app): State<App>,
    _: TraderKey,
    PathParams(id): PathParams<MarketServiceId>,
) -> Result<JsonBody<MarketService>, ApiError> {
    Ok(JsonBody(app.market.service(&id).await?))
}

/// Changes of a service. A member that is left out or null keeps its value.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketServiceUpdate {
    /// Name of the service, 1 to 100 characters.
    name: Option<String>,
    /// What it does, 10 to 5000 characters.
    description: Option<String>,
    /// Words by which it is found, at most 20.
    tags: Option<Vec<String>>,
    /// Base price of later requests in AIT, 0.001 to 1000.
    base_price: Option<StatedAmount>,
    /// `paused`: it is not offered at present; `active`: it is again; `retired`: never any more.
    state: Option<ServiceState>,
}

/// Change, pause or retire a service
///
/// Requests that were accepted keep their price and go on.
#[utoipa::path(
    patch, path = "/api/v1/services/marketplace/services/{service_id}", operation_id = "market_services_update",
    tag = "market_services", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("service_id" = MarketServiceId, Path, description = "Id of the service"), IdempotencyHeader),
    request_body = MarketServiceUpdate,
    responses(
        (status = 200, body = MarketService, description = "The service"),
        (status = 403, description = "The service is another owner's"),
        (status = 404, description = "No service has this id"),
        (status = 409, description = "The service was retired (`invalid_state`)"),
    )
)]
pub async fn update_market_service(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketServiceId>,
    request: IdempotentJson<MarketServiceUpdate>,
) -> Result<IdempotentOk<MarketService>, ApiError> {
    let MarketServiceUpdate { name, description, tags, base_price, state } = request.body;
    let change = ServiceChange { name, description, tags, base_price, state };
    Ok(IdempotentOk(app.market.update_service(&market_caller(caller), &id, change, request.once).await?))
}

/// List the ratings of a service
///
/// Newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/services/{service_id}/ratings", operation_id = "market_services_list_ratings",
    tag = "market_services", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("service_id" = MarketServiceId, Path, description = "Id of the service"), PageQuery),
    responses(
        (status = 200, body = Vec<ServiceRating>, description = "A page of ratings, the newest first"),
        (status = 404, description = "No service has this id"),
    )
)]
pub async fn list_service_ratings(
    State(app): State<App>,
    _: TraderKey,
    PathParams(id): PathParams<MarketServiceId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let (rows, total) = app.market.list_ratings(&id, &paging.page).await?;
    // A list between two times was not counted.
    let total = paging.page.created.is_unbounded().then_some(total.unsigned_abs());
    let next = paging.last_of(&rows).map(|last| (last.created_at, last.request_id.as_str()));
    Ok(paging.respond_partial(&rows, total, next))
}
