//! `/api/v1/agents/portfolios/prices`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::portfolio_caller;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, ClientKey, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{PriceBatch, PriceDraft, PriceRecord, PriceReport};

/// Record a price
///
/// Trades, values and figures are computed from recorded prices, so that admins alone record them. A price is never changed: the same
/// one again is known, another one for the same token and time is refused.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/prices", operation_id = "portfolios_record_price", tag = "portfolios",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = PriceDraft,
    responses(
        (status = 201, body = PriceReport, description = "Whether the price is new"),
        (status = 409, description = "Another price of the token and time is recorded (`price_recorded`)"),
    )
)]
pub async fn record_price(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<PriceDraft>,
) -> Result<IdempotentCreated<PriceReport>, ApiError> {
    let caller = portfolio_caller(&ApiCaller { principal: caller, role: KeyRole::Admin });
    Ok(IdempotentCreated(app.portfolios.record_price(&caller, request.body, request.once).await?))
}

/// Record many prices
///
/// All or none, 5000 at most.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/prices/bulk", operation_id = "portfolios_record_prices", tag = "portfolios",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = PriceBatch,
    responses(
        (status = 201, body = PriceReport, description = "How many prices are new"),
        (status = 409, description = "Another price of a token and time is recorded (`price_recorded`)"),
    )
)]
pub async fn record_prices(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<PriceBatch>,
) -> Result<IdempotentCreated<PriceReport>, ApiError> {
    let caller = portfolio_caller(&ApiCaller { principal: caller, role: KeyRole::Admin });
    Ok(IdempotentCreated(app.portfolios.record_prices(&caller, request.body, request.once).await?))
}

/// Filter of prices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PriceQuery {
    /// Symbol of the token.
    token: String,
}

/// List a token's prices
///
/// The newest first, 100 on a page; `created_after` and `created_before` bound their times.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/prices", operation_id = "portfolios_list_prices", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(PriceQuery, PageQuery),
    responses((status = 200, body = Vec<PriceRecord>, description = "A page of prices, the newest first"))
)]
pub async fn list_prices(
    State(app): State<App>,
    _: ClientKey,
    paging: Paginator<100>,
    QueryParams(query): QueryParams<PriceQuery>,
) -> Result<Response, ApiError> {
    let found = app.portfolios.list_prices(&query.token, &paging.page).await?;
    Ok(paging.answer(found, |price| (price.at, &price.token)))
}

/// Get a token's last price
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/prices/{token}", operation_id = "portfolios_get_price", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(("token" = String, Path, description = "Symbol of the token")),
    responses(
        (status = 200, body = PriceRecord, description = "The last recorded price"),
        (status = 404, description = "No price of the token is recorded"),
    )
)]
pub async fn get_price(
    State(app): State<App>,
    _: ClientKey,
    PathParams(token): PathParams<String>,
) -> Result<JsonBody<PriceRecord>, ApiError> {
    Ok(JsonBody(app.portfolios.latest_price(&token).await?))
}
