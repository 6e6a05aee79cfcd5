//! `ledger/budgets`: limits of what is spent.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::is_admin;
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::{
    ids::{BudgetId, PrincipalId},
    money::StatedAmount,
};
use am_db::owner::is_principal;
use am_ledger::{Budget, BudgetChange, BudgetDraft, BudgetPeriod, BudgetScope, ExceedAction};

/// A budget to make.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BudgetCreate {
    /// Name, 1 to 100 characters, which no other budget of the caller has.
    name: String,
    /// What it limits the spending on. Default `principal`.
    scope: Option<BudgetScope>,
    /// Id of the agent, or of the workflow, network or plan; left out with the scope `principal`.
    subject: Option<String>,
    /// Principal whose spending it limits, for admins. Default: the caller.
    principal: Option<PrincipalId>,
    /// Most that may be spent in a period, in AIT, with at most 8 decimal places.
    limit: StatedAmount,
    /// Period after which it begins anew. Default `total`: it does not.
    period: Option<BudgetPeriod>,
    /// What becomes of an execution for which it has no room. Default `refuse`.
    on_exceed: Option<ExceedAction>,
}

/// Create a budget
///
/// It binds executions that begin from now on: what they can cost is reserved before, and what they cost is taken from that. What was
/// spent in the present period counts.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/budgets", operation_id = "budgets_create", tag = "budgets",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = BudgetCreate,
    responses(
        (status = 201, body = Budget, description = "The budget"),
        (status = 403, description = "Another principal's budget needs an admin key"),
        (status = 409, description = "The caller has a budget of this name (`conflict`)"),
    )
)]
pub async fn create_budget(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<BudgetCreate>,
) -> Result<IdempotentCreated<Budget>, ApiError> {
    let BudgetCreate { name, scope, subject, principal, limit, period, on_exceed } = request.body;
    let principal = match principal {
        Some(named) if !is_principal(&named) => {
            let loc = vec!["body".into(), "principal".into()];
            return Err(ApiError::invalid_field(
                loc,
                "Should be a principal, as `key_` and 20 hex digits",
                "value_error",
            ));
        }
        Some(named) if !is_admin(&caller) && !caller.principal.owns(&named) => {
            return Err(ApiError::forbidden("Another principal's budget needs an admin key"));
        }
        named => named.unwrap_or_else(|| caller.principal.id()),
    };
    let draft = BudgetDraft {
        name,
        scope: scope.unwrap_or(BudgetScope::Principal),
        subject,
        principal,
        limit,
        period: period.unwrap_or(BudgetPeriod::Total),
        on_exceed: on_exceed.unwrap_or(ExceedAction::Refuse),
    };
    Ok(IdempotentCreated(app.ledger.create_budget(&caller.principal, draft, request.once).await?))
}

/// List budgets
///
/// The caller's, for an admin all; the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/budgets", operation_id = "budgets_list", tag = "budgets",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(PageQuery),
    responses((status = 200, body = Vec<Budget>, description = "A page of budgets"))
)]
pub async fn list_budgets(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let owner = (!is_admin(&caller)).then(|| caller.principal.id());
    let found = app.ledger.list_budgets(owner.as_ref(), &paging.page).await?;
    Ok(paging.answer(found, |budget| (budget.created_at, &budget.id)))
}

/// Get a budget
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/budgets/{budget_id}", operation_id = "budgets_get", tag = "budgets",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("budget_id" = String, Path, description = "Id of the budget")),
    responses(
        (status = 200, body = Budget, description = "The budget, with what is spent, reserved and left of it"),
        (status = 404, description = "There is no such budget, or it is another's"),
    )
)]
pub async fn get_budget(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<BudgetId>,
) -> Result<JsonBody<Budget>, ApiError> {
    Ok(JsonBody(app.ledger.budget(&caller.principal, is_admin(&caller), &id).await?))
}

/// A change of a budget. Members that are left out stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BudgetUpdate {
    /// Name, 1 to 100 characters. Default: as it is.
    name: Option<String>,
    /// Most that may be spent in a period, in AIT. Default: as it is.
    limit: Option<StatedAmount>,
    /// What becomes of an execution for which it has no room. Default: as it is.
    on_exceed: Option<ExceedAction>,
}

/// Update a budget
///
/// A higher limit lets in what waits, within a second.
#[utoipa::path(
    put, path = "/api/v1/agents/ledger/budgets/{budget_id}", operation_id = "budgets_update", tag = "budgets",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("budget_id" = String, Path, description = "Id of the budget")),
    request_body = BudgetUpdate,
    responses(
        (status = 200, body = Budget, description = "The budget as it is now"),
        (status = 404, description = "There is no such budget, or it is another's"),
        (status = 409, description = "The caller has a budget of this name (`conflict`)"),
    )
)]
pub async fn update_budget(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<BudgetId>,
    JsonBody(update): JsonBody<BudgetUpdate>,
) -> Result<JsonBody<Budget>, ApiError> {
    let BudgetUpdate { name, limit, on_exceed } = update;
    let change = BudgetChange { name, limit, on_exceed };
    Ok(JsonBody(app.ledger.update_budget(&caller.principal, is_admin(&caller), &id, change).await?))
}

/// Delete a budget
///
/// Executions that it binds go on, and those that wait for it begin unless another budget holds them.
#[utoipa::path(
    delete, path = "/api/v1/agents/ledger/budgets/{budget_id}", operation_id = "budgets_delete", tag = "budgets",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("budget_id" = String, Path, description = "Id of the budget")),
    responses(
        (status = 204, description = "The budget is deleted"),
        (status = 404, description = "There is no such budget, or it is another's"),
    )
)]
pub async fn delete_budget(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<BudgetId>,
) -> Result<StatusCode, ApiError> {
    app.ledger.delete_budget(&caller.principal, is_admin(&caller), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
