//! Signals of strategies.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{numbered_page, portfolio_caller};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, PathNumbers, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{FollowRequest, RebalanceReport, SignalRecord};

/// Filter of signals.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SignalQuery {
    /// `true`: only signals that may be followed; `false`: only those that were, have expired, or whose condition is over. Default: all.
    open: Option<bool>,
}

/// List signals
///
/// The newest first, 100 on a page. With each snapshot the rules that the strategy declares (`signal_rules`) are asked: `drift` (a holding
/// is off its target), `momentum` (a price rose or fell), `reversion` (a price is far from its mean). One that stands is made once until
/// it expires, and ends when its condition is over.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/signals", operation_id = "portfolios_list_signals",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), SignalQuery, PageQuery),
    responses(
        (status = 200, body = Vec<SignalRecord>, description = "A page of signals, the newest first"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn list_signals(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    QueryParams(query): QueryParams<SignalQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let PathNumbers([id]) = numbers;
    let (rows, total) = app.portfolios.list_signals(&portfolio_caller(&caller), id, query.open, &paging.page).await?;
    Ok(numbered_page(&paging, (rows, Some(total)), |signal| (signal.created_at, signal.id)))
}

/// Follow a signal by a rebalance
///
/// A signal of rule `drift` leads to the strategy's targets; the others to targets that are moved for their token by `tilt` points, at
/// the others' expense. Each is followed once. `dry_run` only shows the trades.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/signals/{signal_id}/rebalance",
    operation_id = "portfolios_follow_signal", tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(
        ("portfolio_id" = String, Path, description = "Number of the portfolio"),
        ("signal_id" = String, Path, description = "Number of the signal"),
        IdempotencyHeader,
    ),
    request_body = FollowRequest,
    responses(
        (status = 200, body = RebalanceReport, description = "The rebalance, or what it would do"),
        (status = 404, description = "The caller has no such portfolio, or it has no such signal"),
        (status = 409, description = "The signal was followed (`signal_executed`), has expired (`signal_expired`) or is of another strategy (`signal_outdated`), a price is missing or too old (`price_missing`, `price_too_old`), or the portfolio is not active (`portfolio_inactive`)"),
    )
)]
pub async fn follow_signal(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<2>,
    request: IdempotentJson<FollowRequest>,
) -> Result<IdempotentOk<RebalanceReport>, ApiError> {
    let PathNumbers([id, signal]) = numbers;
    let (caller, once) = (portfolio_caller(&caller), request.once);
    Ok(IdempotentOk(app.portfolios.follow_signal(&caller, (id, signal), request.body, once).await?))
}
