//! Portfolios, what they hold, deposits and withdrawals.

use axum::{extract::State, response::Response};

use super::{numbered_page, portfolio_caller};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, JsonBody, PathNumbers,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{
    AssetDraft, FlowDocument, FlowRequest, HoldingsReport, PortfolioDocument, PortfolioDraft, PortfolioUpdate,
};

/// Create a portfolio
///
/// One for each agent address. Its books are accounts of the ledger, of the owner `portfolio:ID`, one for each token.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios", operation_id = "portfolios_create", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(IdempotencyHeader),
    request_body = PortfolioDraft,
    responses(
        (status = 201, body = PortfolioDocument, description = "The portfolio, which holds nothing yet"),
        (status = 409, description = "The address has a portfolio (`conflict`)"),
    )
)]
pub async fn create_portfolio(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    request: IdempotentJson<PortfolioDraft>,
) -> Result<IdempotentCreated<PortfolioDocument>, ApiError> {
    let caller = portfolio_caller(&caller);
    Ok(IdempotentCreated(app.portfolios.create_portfolio(&caller, request.body, request.once).await?))
}

/// List portfolios
///
/// The caller's own, for an admin all; the newest first, 50 on a page. An admin's list is not counted.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios", operation_id = "portfolios_list", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(PageQuery),
    responses((status = 200, body = Vec<PortfolioDocument>, description = "A page of portfolios, the newest first"))
)]
pub async fn list_portfolios(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.portfolios.list_portfolios(&portfolio_caller(&caller), &paging.page).await?;
    Ok(numbered_page(&paging, found, |portfolio| (portfolio.created_at, portfolio.id)))
}

/// Get a portfolio
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}", operation_id = "portfolios_get", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio")),
    responses(
        (status = 200, body = PortfolioDocument, description = "The portfolio"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn get_portfolio(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
) -> Result<JsonBody<PortfolioDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(JsonBody(app.portfolios.portfolio(&portfolio_caller(&caller), id).await?))
}

/// Change a portfolio
///
/// What is not named stays.
#[utoipa::path(
    put, path = "/api/v1/agents/portfolios/{portfolio_id}", operation_id = "portfolios_update", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio")),
    request_body = PortfolioUpdate,
    responses(
        (status = 200, body = PortfolioDocument, description = "The portfolio as it is now"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn update_portfolio(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    JsonBody(body): JsonBody<PortfolioUpdate>,
) -> Result<JsonBody<PortfolioDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(JsonBody(app.portfolios.update_portfolio(&portfolio_caller(&caller), id, body).await?))
}

/// Add a token to a portfolio
///
/// Or say the address of its contract. Tokens that are bought or deposited are added by themselves.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/assets", operation_id = "portfolios_add_asset",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = AssetDraft,
    responses(
        (status = 201, body = HoldingsReport, description = "What the portfolio holds"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "The portfolio holds 50 tokens (`too_many_tokens`)"),
    )
)]
pub async fn add_asset(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<AssetDraft>,
) -> Result<IdempotentCreated<HoldingsReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentCreated(app.portfolios.add_asset(&portfolio_caller(&caller), id, request.body, request.once).await?))
}

/// Get what a portfolio holds
///
/// Amounts from the ledger, values from the last recorded prices. Without a price that is young enough the whole has no value, and
/// `reason` says why.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/assets", operation_id = "portfolios_get_holdings",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio")),
    responses(
        (status = 200, body = HoldingsReport, description = "What the portfolio holds"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn get_holdings(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
) -> Result<JsonBody<HoldingsReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(JsonBody(app.portfolios.holdings(&portfolio_caller(&caller), id).await?))
}

/// Deposit into a portfolio
///
/// From the wallet of its owner in the ledger; an admin may attest that it comes from outside. The token needs a price.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/deposits", operation_id = "portfolios_deposit",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = FlowRequest,
    responses(
        (status = 200, body = FlowDocument, description = "The deposit"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "The wallet has too little (`insufficient_funds`), or a price is missing or too old (`price_missing`, `price_too_old`)"),
    )
)]
pub async fn deposit_funds(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<FlowRequest>,
) -> Result<IdempotentOk<FlowDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentOk(app.portfolios.deposit(&portfolio_caller(&caller), id, request.body, request.once).await?))
}

/// Withdraw from a portfolio
///
/// To the wallet of its owner in the ledger; an admin may attest that it goes outside.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/withdrawals", operation_id = "portfolios_withdraw",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = FlowRequest,
    responses(
        (status = 200, body = FlowDocument, description = "The withdrawal"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "The portfolio has too little (`insufficient_funds`), or a price is missing or too old (`price_missing`, `price_too_old`)"),
    )
)]
pub async fn withdraw_funds(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<FlowRequest>,
) -> Result<IdempotentOk<FlowDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentOk(app.portfolios.withdraw(&portfolio_caller(&caller), id, request.body, request.once).await?))
}

/// List deposits and withdrawals
///
/// The newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/flows", operation_id = "portfolios_list_flows",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PageQuery),
    responses(
        (status = 200, body = Vec<FlowDocument>, description = "A page of deposits and withdrawals, the newest first"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn list_flows(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let PathNumbers([id]) = numbers;
    let (rows, total) = app.portfolios.list_flows(&portfolio_caller(&caller), id, &paging.page).await?;
    Ok(numbered_page(&paging, (rows, Some(total)), |flow| (flow.created_at, flow.id)))
}
