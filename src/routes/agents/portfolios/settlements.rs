//! Settlements of portfolios in the contract.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::portfolio_caller;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, ClientKey, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_portfolio::{SettlementFilter, SettlementRecord, SettlementStatus};

/// Filter of settlements.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SettlementQuery {
    /// Only those in this state. Default: all.
    status: Option<SettlementStatus>,
    /// Only those of the portfolio with this number. Default: all.
    portfolio_id: Option<i64>,
}

/// List settlements
///
/// What is written to the contract of the caller's portfolios, for an admin of all; the newest first, 100 on a page. An admin's list is
/// not counted. Without a contract (`PORTFOLIO_SETTLEMENT=ledger`) nothing is added to it.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/settlements", operation_id = "portfolios_list_settlements",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(SettlementQuery, PageQuery),
    responses((status = 200, body = Vec<SettlementRecord>, description = "A page of settlements, the newest first"))
)]
pub async fn list_settlements(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    QueryParams(query): QueryParams<SettlementQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let filter = SettlementFilter { status: query.status, portfolio_id: query.portfolio_id };
    let (rows, total) = app.portfolios.list_settlements(&portfolio_caller(&caller), filter, &paging.page).await?;
    let next = paging.last_of(&rows).map(|last| (last.created_at, last.id.as_str()));
    Ok(paging.respond_partial(&rows, total.map(i64::cast_unsigned), next))
}

/// Get a settlement
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/settlements/{settlement_id}", operation_id = "portfolios_get_settlement",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("settlement_id" = String, Path, description = "Id of the settlement")),
    responses(
        (status = 200, body = SettlementRecord, description = "The settlement"),
        (status = 404, description = "The caller has no such settlement"),
    )
)]
pub async fn get_settlement(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<SettlementRecord>, ApiError> {
    Ok(JsonBody(app.portfolios.settlement(&portfolio_caller(&caller), &id).await?))
}

/// Try a settlement again
///
/// For admins. One that the contract refused, or whose number another transaction took, is signed anew with a new number; the contract
/// takes each settlement once. One that is under way (`sent`, `unknown`) is replaced by a transaction with the same number that pays
/// more, so that one of the two can happen.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/settlements/{settlement_id}/retry",
    operation_id = "portfolios_retry_settlement", tag = "portfolios", security(("ApiKey" = ["admin"])),
    params(("settlement_id" = String, Path, description = "Id of the settlement"), IdempotencyHeader),
    responses(
        (status = 200, body = SettlementRecord, description = "The settlement, which is tried again"),
        (status = 404, description = "There is no such settlement"),
        (status = 409, description = "It waits already, or has ended (`settlement_state`)"),
    )
)]
pub async fn retry_settlement(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<SettlementRecord>, ApiError> {
    let caller = portfolio_caller(&ApiCaller { principal: caller, role: KeyRole::Admin });
    Ok(IdempotentOk(app.portfolios.retry_settlement(&caller, &id, request.once).await?))
}

/// Give up a settlement
///
/// For admins. Only one of which no transaction can happen: it waits, the contract refused it, or its number is taken. The ledger keeps
/// the change; the contract does not get it.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/settlements/{settlement_id}/abandon",
    operation_id = "portfolios_abandon_settlement", tag = "portfolios", security(("ApiKey" = ["admin"])),
    params(("settlement_id" = String, Path, description = "Id of the settlement"), IdempotencyHeader),
    responses(
        (status = 200, body = SettlementRecord, description = "The settlement, which is given up"),
        (status = 404, description = "There is no such settlement"),
        (status = 409, description = "It may yet happen, or has ended (`settlement_state`)"),
    )
)]
pub async fn abandon_settlement(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<SettlementRecord>, ApiError> {
    let caller = portfolio_caller(&ApiCaller { principal: caller, role: KeyRole::Admin });
    Ok(IdempotentOk(app.portfolios.abandon_settlement(&caller, &id, request.once).await?))
}
