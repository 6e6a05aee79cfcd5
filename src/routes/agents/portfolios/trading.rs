//! Quotes, trades and rebalances.

use axum::{extract::State, response::Response};

use super::{numbered_page, portfolio_caller};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, PathNumbers,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{
    QuoteDocument, QuoteRequest, RebalanceRecord, RebalanceReport, RebalanceRequest, TradeDocument, TradeRequest,
};

/// Price a trade
///
/// The quote holds for `PORTFOLIO_QUOTE_SECONDS`; a trade may name it, once.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/quotes", operation_id = "portfolios_create_quote",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = QuoteRequest,
    responses(
        (status = 201, body = QuoteDocument, description = "The quote"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "A price is missing or too old (`price_missing`, `price_too_old`)"),
    )
)]
pub async fn create_quote(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<QuoteRequest>,
) -> Result<IdempotentCreated<QuoteDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentCreated(app.portfolios.quote(&portfolio_caller(&caller), id, request.body, request.once).await?))
}

/// Trade
///
/// At the recorded prices, or those of a quote: what is bought is the amount sold times its price over the other price, less slippage;
/// the fee is taken of what is bought. It is one entry of the ledger. A trade needs the token it sells, at least `min_buy_amount`, and a
/// risk within the portfolio's tolerance (unless it does not raise the risk).
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/trades", operation_id = "portfolios_create_trade",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = TradeRequest,
    responses(
        (status = 201, body = TradeDocument, description = "The trade"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "Too little is held (`insufficient_funds`) or would be received (`below_minimum`), a price is missing or too old (`price_missing`, `price_too_old`), the quote is over or taken (`quote_expired`, `quote_used`), the risk would be too high (`risk_too_high`), or the portfolio is not active (`portfolio_inactive`)"),
    )
)]
pub async fn create_trade(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<TradeRequest>,
) -> Result<IdempotentCreated<TradeDocument>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentCreated(app.portfolios.trade(&portfolio_caller(&caller), id, request.body, request.once).await?))
}

/// List trades
///
/// The newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/trades", operation_id = "portfolios_list_trades",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PageQuery),
    responses(
        (status = 200, body = Vec<TradeDocument>, description = "A page of trades, the newest first"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn list_trades(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let PathNumbers([id]) = numbers;
    let (rows, total) = app.portfolios.list_trades(&portfolio_caller(&caller), id, &paging.page).await?;
    Ok(numbered_page(&paging, (rows, Some(total)), |trade| (trade.created_at, trade.id)))
}

/// Rebalance a portfolio
///
/// From what it holds to what its strategy aims at: all trades or none. It is due `rebalance_frequency` seconds after the last one, or
/// when a holding is more than five points off its target; `force` makes one all the same, `dry_run` only shows the trades. Trades of
/// less than a point are left out; targets are shares of what remains after the costs.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/rebalances", operation_id = "portfolios_rebalance",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = RebalanceRequest,
    responses(
        (status = 200, body = RebalanceReport, description = "The rebalance, or what it would do"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "It is not due (`not_due`), a price is missing or too old (`price_missing`, `price_too_old`), or the portfolio is not active (`portfolio_inactive`)"),
    )
)]
pub async fn rebalance_portfolio(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<RebalanceRequest>,
) -> Result<IdempotentOk<RebalanceReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentOk(app.portfolios.rebalance(&portfolio_caller(&caller), id, request.body, request.once).await?))
}

/// List rebalances
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/rebalances", operation_id = "portfolios_list_rebalances",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PageQuery),
    responses(
        (status = 200, body = Vec<RebalanceRecord>, description = "A page of rebalances, the newest first"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn list_rebalances(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let PathNumbers([id]) = numbers;
    let (rows, total) = app.portfolios.list_rebalances(&portfolio_caller(&caller), id, &paging.page).await?;
    Ok(numbered_page(&paging, (rows, Some(total)), |rebalance| (rebalance.created_at, rebalance.id)))
}
