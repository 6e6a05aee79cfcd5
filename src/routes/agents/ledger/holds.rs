//! `ledger/holds`: parts of balances that are kept for something.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{may_use, read_owner, usable_owner, visible_account};
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        auth::ApiCaller,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::{
    ids::{LedgerAccountId, LedgerHoldId},
    money::StatedAmount,
};
use am_db::codec::Timestamp;
use am_ledger::{
    AIT, AccountKey, AccountOwner, AccountPurpose, CaptureOrder, EntryReference, HoldRequest, HoldState, LedgerError,
    LedgerHold,
};

/// A hold to make.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HoldCreate {
    /// Owner of the account: the caller, or `agent:ID` of one of its agents; an admin may name any. Default: the caller.
    owner: Option<String>,
    /// What the account is for. Default `wallet`.
    purpose: Option<AccountPurpose>,
    /// Asset. Default `AIT`.
    asset: Option<String>,
    /// Amount in the asset, more than 0, with at most 8 decimal places.
    amount: StatedAmount,
    /// What it is for, 1 to 200 characters.
    reference: String,
    /// Time at which it ends by itself. Default: it does not.
    expires_at: Option<Timestamp>,
}

/// Make a hold
///
/// The amount stays in the account and can't be spent otherwise, until it is captured or released, or the hold expires.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/holds", operation_id = "ledger_create_hold", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = HoldCreate,
    responses(
        (status = 201, body = LedgerHold, description = "The hold"),
        (status = 404, description = "The account is another's"),
        (status = 409, description = "The account has less that is not held (`insufficient_funds`)"),
    )
)]
pub async fn create_hold(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<HoldCreate>,
) -> Result<IdempotentCreated<LedgerHold>, ApiError> {
    let HoldCreate { owner, purpose, asset, amount, reference, expires_at } = request.body;
    let owner = usable_owner(&app, &caller, ("body", "owner"), owner.as_deref()).await?;
    if reference.is_empty() || reference.chars().count() > 200 {
        let loc = vec!["body".into(), "reference".into()];
        return Err(ApiError::invalid_field(loc, "Has 1 to 200 characters", "value_error"));
    }
    let purpose = purpose.unwrap_or(AccountPurpose::Wallet);
    if purpose.may_be_negative() {
        let loc = vec!["body".into(), "purpose".into()];
        return Err(ApiError::invalid_field(loc, "An account that may be below zero keeps nothing", "value_error"));
    }
    let account = AccountKey::new(owner, asset.as_deref().unwrap_or(AIT), purpose);
    let reference = EntryReference::new("hold", reference);
    let hold = HoldRequest { account, amount, reference, expires_at };
    Ok(IdempotentCreated(app.ledger.place_hold(&caller.principal, hold, request.once).await?))
}

/// Filter of holds.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HoldsQuery {
    /// Only holds in this state.
    state: Option<HoldState>,
}

/// List the holds on an account
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts/{account_id}/holds", operation_id = "ledger_list_holds", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("account_id" = String, Path, description = "Id of the account"), HoldsQuery, PageQuery),
    responses(
        (status = 200, body = Vec<LedgerHold>, description = "A page of holds"),
        (status = 404, description = "There is no such account, or it is another's"),
    )
)]
pub async fn list_account_holds(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerAccountId>,
    QueryParams(query): QueryParams<HoldsQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    visible_account(&app, &caller, &id).await?;
    let found = app.ledger.list_holds(&id, query.state, &paging.page).await?;
    Ok(paging.answer(found, |hold| (hold.created_at, &hold.id)))
}

/// A hold on an account that the caller may use; another's is as one that never was.
async fn usable_hold(app: &App, caller: &ApiCaller, id: &LedgerHoldId) -> Result<(LedgerHold, AccountOwner), ApiError> {
    let found = app.ledger.find_hold(&mut *app.db.read().await?, id).await?;
    let hold = found.ok_or(LedgerError::NotFound("Hold"))?;
    let account = app.ledger.account(&hold.account_id).await?;
    let owner = AccountOwner::from_stored(&account.owner);
    match may_use(app, caller, &owner).await? {
        true => Ok((hold, owner)),
        false => Err(LedgerError::NotFound("Hold").into()),
    }
}

/// Holds that something else than this group of routes made end with it.
fn check_kind(hold: &LedgerHold) -> Result<(), ApiError> {
    match hold.reference.kind.as_str() {
        "hold" => Ok(()),
        other => Err(ApiError::conflict(format!("The hold belongs to a {other}, which ends it")).code("hold_in_use")),
    }
}

/// Get a hold
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/holds/{hold_id}", operation_id = "ledger_get_hold", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("hold_id" = String, Path, description = "Id of the hold")),
    responses(
        (status = 200, body = LedgerHold, description = "The hold"),
        (status = 404, description = "There is no such hold, or its account is another's"),
    )
)]
pub async fn get_hold(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerHoldId>,
) -> Result<JsonBody<LedgerHold>, ApiError> {
    Ok(JsonBody(usable_hold(&app, &caller, &id).await?.0))
}

/// What is taken of a hold.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HoldCaptureCreate {
    /// Owner of the wallet that it goes to: a principal, or `agent:ID`; an admin may name any.
    to_owner: String,
    /// Amount, more than 0, with at most 8 decimal places. Default: all that is left.
    amount: Option<StatedAmount>,
    /// Whether the rest is set free. Default true.
    release_rest: Option<bool>,
    /// Words for people, at most 500 characters. Default: none.
    note: Option<String>,
}

/// Capture a hold
///
/// Moves a part of what is held, or all of it, to somebody's wallet.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/holds/{hold_id}/capture", operation_id = "ledger_capture_hold", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("hold_id" = String, Path, description = "Id of the hold"), IdempotencyHeader),
    request_body = HoldCaptureCreate,
    responses(
        (status = 200, body = LedgerHold, description = "The hold as it is now"),
        (status = 404, description = "There is no such hold, or its account is another's"),
        (status = 409, description = "It has ended (`hold_ended`), less is left (`hold_overdrawn`), or it belongs to something else (`hold_in_use`)"),
    )
)]
pub async fn capture_hold(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerHoldId>,
    request: IdempotentJson<HoldCaptureCreate>,
) -> Result<IdempotentOk<LedgerHold>, ApiError> {
    let (hold, _) = usable_hold(&app, &caller, &id).await?;
    check_kind(&hold)?;
    let HoldCaptureCreate { to_owner, amount, release_rest, note } = request.body;
    let to = read_owner(&app, &caller, ("body", "to_owner"), Some(&to_owner)).await?;
    let asset = app.ledger.account(&hold.account_id).await?.asset;
    let to = AccountKey::new(to, &asset, AccountPurpose::Wallet);
    let order = CaptureOrder { to, amount, note, release_rest: release_rest.unwrap_or(true) };
    Ok(IdempotentOk(app.ledger.capture_hold(&caller.principal, &id, order, request.once).await?))
}

/// Release a hold
///
/// What is left of it can be spent again.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/holds/{hold_id}/release", operation_id = "ledger_release_hold", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("hold_id" = String, Path, description = "Id of the hold"), IdempotencyHeader),
    responses(
        (status = 200, body = LedgerHold, description = "The hold as it is now"),
        (status = 404, description = "There is no such hold, or its account is another's"),
        (status = 409, description = "It has ended (`hold_ended`), or belongs to something else (`hold_in_use`)"),
    )
)]
pub async fn release_hold(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerHoldId>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<LedgerHold>, ApiError> {
    let (hold, _) = usable_hold(&app, &caller, &id).await?;
    check_kind(&hold)?;
    Ok(IdempotentOk(app.ledger.release_hold(&caller.principal, &id, request.once).await?))
}
