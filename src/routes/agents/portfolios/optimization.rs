//! Optimisers and backtests over recorded prices.

use axum::extract::State;

use crate::{
    app::App,
    http::{
        ApiError, ClientKey,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
    routes::recorded_response::record_response,
};
use am_portfolio::{AllocationRequest, AllocationResult, BacktestRequest, BacktestResult};

/// Find weights for tokens
///
/// From their recorded daily prices; tokens times days are at most 500 000. Nothing is changed: a strategy or a rebalance takes the weights.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/optimize", operation_id = "portfolios_optimize", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(IdempotencyHeader),
    request_body = AllocationRequest,
    responses(
        (status = 200, body = AllocationResult, description = "The weights, what they promise, and why the optimiser stopped"),
        (status = 409, description = "Recorded prices are missing (`price_missing`), or no solution was found (`not_solved`)"),
    )
)]
pub async fn optimize_portfolio(
    State(app): State<App>,
    _: ClientKey,
    request: IdempotentJson<AllocationRequest>,
) -> Result<IdempotentOk<AllocationResult>, ApiError> {
    let found = app.portfolios.optimise(request.body).await?;
    Ok(IdempotentOk(record_response(&app, request.once, found).await?))
}

/// Test a strategy over recorded prices
///
/// With fixed weights, or with weights that a method chooses again and again from the days before (walk-forward), with the fee and the
/// slippage of trades. Nothing is changed.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/backtest", operation_id = "portfolios_backtest", tag = "portfolios",
    security(("ApiKey" = ["admin", "client"])),
    params(IdempotencyHeader),
    request_body = BacktestRequest,
    responses(
        (status = 200, body = BacktestResult, description = "What the strategy would have done"),
        (status = 409, description = "Recorded prices are missing (`price_missing`), or no solution was found (`not_solved`)"),
    )
)]
pub async fn backtest_portfolio(
    State(app): State<App>,
    _: ClientKey,
    request: IdempotentJson<BacktestRequest>,
) -> Result<IdempotentOk<BacktestResult>, ApiError> {
    let found = app.portfolios.backtest(request.body).await?;
    Ok(IdempotentOk(record_response(&app, request.once, found).await?))
}
