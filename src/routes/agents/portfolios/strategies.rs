//! `/api/v1/agents/portfolios/strategies`.

use axum::{extract::State, response::Response};

use super::{numbered_page, portfolio_caller};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, JsonBody, PathNumbers,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{StrategyDocument, StrategyDraft};

/// Create a strategy
///
/// What portfolios aim at: percent of the whole for each token, which sum to 100.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/strategies", operation_id = "portfolios_create_strategy", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(IdempotencyHeader),
    request_body = StrategyDraft,
    responses((status = 201, body = StrategyDocument, description = "The strategy"))
)]
pub async fn create_strategy(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    request: IdempotentJson<StrategyDraft>,
) -> Result<IdempotentCreated<StrategyDocument>, ApiError> {
    let caller = portfolio_caller(&caller);
    Ok(IdempotentCreated(app.portfolios.create_strategy(&caller, request.body, request.once).await?))
}

/// List strategies
///
/// The caller's own, for an admin all that were made here; the newest first, 50 on a page. An admin's list is not counted.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/strategies", operation_id = "portfolios_list_strategies", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(PageQuery),
    responses((status = 200, body = Vec<StrategyDocument>, description = "A page of strategies, the newest first"))
)]
pub async fn list_strategies(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.portfolios.list_strategies(&portfolio_caller(&caller), &paging.page).await?;
    Ok(numbered_page(&paging, found, |strategy| (strategy.created_at, strategy.id)))
}

/// Get a strategy
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/strategies/{strategy_id}", operation_id = "portfolios_get_strategy",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("strategy_id" = String, Path, description = "Number of the strategy")),
    responses(
        (status = 200, body = StrategyDocument, description = "The strategy"),
        (status = 404, description = "The caller has no such strategy"),
    )
)]
pub async fn get_strategy(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
) -> Result<JsonBody<StrategyDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(JsonBody(app.portfolios.strategy(&portfolio_caller(&caller), id).await?))
}

/// Replace a strategy
///
/// What is not named gets its default. Portfolios with this strategy aim at the new targets from their next rebalance on.
#[utoipa::path(
    put, path = "/api/v1/agents/portfolios/strategies/{strategy_id}", operation_id = "portfolios_update_strategy",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("strategy_id" = String, Path, description = "Number of the strategy")),
    request_body = StrategyDraft,
    responses(
        (status = 200, body = StrategyDocument, description = "The strategy as it is now"),
        (status = 404, description = "The caller has no such strategy"),
        (status = 409, description = "The strategy was made by another service (`conflict`)"),
    )
)]
pub async fn update_strategy(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    JsonBody(body): JsonBody<StrategyDraft>,
) -> Result<JsonBody<StrategyDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(JsonBody(app.portfolios.update_strategy(&portfolio_caller(&caller), id, body).await?))
}
