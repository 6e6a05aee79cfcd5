//! Snapshots and alerts.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{numbered_page, portfolio_caller};
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, PathNumbers, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{AlertRecord, SnapshotRecord};

/// Write a snapshot now
///
/// A worker writes one every `PORTFOLIO_SNAPSHOT_SECONDS`; performance is measured between them. Alerts are raised and resolved with it.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/snapshots", operation_id = "portfolios_create_snapshot",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    responses(
        (status = 201, body = SnapshotRecord, description = "The snapshot"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "A price is missing or too old (`price_missing`, `price_too_old`)"),
    )
)]
pub async fn create_snapshot(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentCreated<SnapshotRecord>, ApiError> {
    let PathNumbers([id]) = numbers;
    Ok(IdempotentCreated(app.portfolios.snapshot(&portfolio_caller(&caller), id, request.once).await?))
}

/// List snapshots
///
/// The newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/snapshots", operation_id = "portfolios_list_snapshots",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PageQuery),
    responses(
        (status = 200, body = Vec<SnapshotRecord>, description = "A page of snapshots, the newest first"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn list_snapshots(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let PathNumbers([id]) = numbers;
    let (rows, total) = app.portfolios.list_snapshots(&portfolio_caller(&caller), id, &paging.page).await?;
    Ok(numbered_page(&paging, (rows, Some(total)), |snapshot| (snapshot.created_at, snapshot.id)))
}

/// Filter of alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AlertQuery {
    /// `true`: only alerts whose condition holds; `false`: only those whose condition is over. Default: all.
    open: Option<bool>,
}

/// List alerts
///
/// The newest first, 100 on a page: `drawdown` (a unit is too far below its peak), `loss` (it lost too much in 24 hours), `drift` (a
/// holding is over five points off its target), `price_age` (a price is missing or too old).
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/alerts", operation_id = "portfolios_list_alerts",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), AlertQuery, PageQuery),
    responses(
        (status = 200, body = Vec<AlertRecord>, description = "A page of alerts, the newest first"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn list_alerts(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    QueryParams(query): QueryParams<AlertQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let PathNumbers([id]) = numbers;
    let (rows, total) = app.portfolios.list_alerts(&portfolio_caller(&caller), id, query.open, &paging.page).await?;
    Ok(numbered_page(&paging, (rows, Some(total)), |alert| (alert.created_at, alert.id)))
}

/// Acknowledge an alert
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/alerts/{alert_id}/acknowledge",
    operation_id = "portfolios_acknowledge_alert", tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(
        ("portfolio_id" = String, Path, description = "Number of the portfolio"),
        ("alert_id" = String, Path, description = "Number of the alert"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = AlertRecord, description = "The alert"),
        (status = 404, description = "The caller has no such portfolio, or it has no such alert"),
    )
)]
pub async fn acknowledge_alert(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<2>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<AlertRecord>, ApiError> {
    let PathNumbers([id, alert]) = numbers;
    Ok(IdempotentOk(app.portfolios.acknowledge_alert(&portfolio_caller(&caller), (id, alert), request.once).await?))
}
