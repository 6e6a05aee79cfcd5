//! `ledger/deposits`, `withdrawals`, `transfers` and `entries`: money that moves.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{is_admin, read_owner, usable_owner, visible_entry};
use crate::{
    app::App,
    http::{
        AdminKey, AnyCaller, ApiError, JsonBody, PathParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
    },
};
use am_core::{ids::LedgerEntryId, money::StatedAmount};
use am_db::idempotency::{IdempotencyKey, IdempotentResult};
use am_ledger::{
    AIT, AccountKey, AccountOwner, AccountPurpose, EntryKind, EntryReference, LedgerEntry, LedgerError, MoneyOrder,
};

/// Maximum length of a reference, in bytes.
const MAX_REFERENCE_LEN: usize = 200;

/// Money that comes from outside or goes there.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CashMovement {
    /// Owner of the account: a principal, `agent:ID`, `guild:ID`, `portfolio:ID` or `system`.
    owner: String,
    /// What the account is for. Default `wallet`.
    purpose: Option<AccountPurpose>,
    /// Asset. Default `AIT`.
    asset: Option<String>,
    /// Amount in the asset, more than 0, with at most 8 decimal places.
    amount: StatedAmount,
    /// Reference of the payment elsewhere, at most 200 characters. Default: none.
    reference: Option<String>,
    /// Words for people, at most 500 characters. Default: none.
    note: Option<String>,
}

fn external(asset: &str) -> AccountKey {
    AccountKey::new(AccountOwner::System, asset, AccountPurpose::External)
}

fn payment_reference(reference: Option<String>) -> Result<Option<EntryReference>, ApiError> {
    match reference {
        Some(text) if text.is_empty() || text.len() > MAX_REFERENCE_LEN => {
            let message = format!("Has 1 to {MAX_REFERENCE_LEN} characters");
            Err(ApiError::invalid_field(vec!["body".into(), "reference".into()], message, "value_error"))
        }
        reference => Ok(reference.map(|text| EntryReference::new("payment", text))),
    }
}

/// Move money between an account and the outside.
async fn move_cash(
    app: &App,
    caller: &ApiCaller,
    kind: EntryKind,
    request: IdempotentJson<CashMovement>,
) -> Result<IdempotentCreated<LedgerEntry>, ApiError> {
    let CashMovement { owner, purpose, asset, amount, reference, note } = request.body;
    let owner = read_owner(app, caller, ("body", "owner"), Some(&owner)).await?;
    let asset = asset.as_deref().unwrap_or(AIT);
    let inside = AccountKey::new(owner, asset, purpose.unwrap_or(AccountPurpose::Wallet));
    let (from, to) = match kind {
        EntryKind::Withdrawal => (inside, external(asset)),
        _ => (external(asset), inside),
    };
    let reference = payment_reference(reference)?;
    move_money(app, caller, MoneyOrder { kind, from, to, amount, reference, note }, request.once).await
}

/// Move money, and show what the caller may see of the entry.
async fn move_money(
    app: &App,
    caller: &ApiCaller,
    order: MoneyOrder,
    once: Option<IdempotencyKey>,
) -> Result<IdempotentCreated<LedgerEntry>, ApiError> {
    let IdempotentResult { value, replayed } = app.ledger.move_money(&caller.principal, order, once).await?;
    Ok(IdempotentCreated(IdempotentResult { value: visible_entry(app, caller, value).await?, replayed }))
}

/// Deposit money
///
/// It comes from the account of the outside world, `system`/`external`, whose balance shows how much came in all.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/deposits", operation_id = "ledger_deposit", tag = "ledger",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = CashMovement,
    responses((status = 201, body = LedgerEntry, description = "The entry with its lines"))
)]
pub async fn deposit_money(
    State(app): State<App>,
    AdminKey(principal): AdminKey,
    request: IdempotentJson<CashMovement>,
) -> Result<IdempotentCreated<LedgerEntry>, ApiError> {
    move_cash(&app, &ApiCaller { principal, role: KeyRole::Admin }, EntryKind::Deposit, request).await
}

/// Withdraw money
///
/// It goes to the account of the outside world.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/withdrawals", operation_id = "ledger_withdraw", tag = "ledger",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = CashMovement,
    responses(
        (status = 201, body = LedgerEntry, description = "The entry with its lines"),
        (status = 409, description = "The account has less that is not held (`insufficient_funds`)"),
    )
)]
pub async fn withdraw_money(
    State(app): State<App>,
    AdminKey(principal): AdminKey,
    request: IdempotentJson<CashMovement>,
) -> Result<IdempotentCreated<LedgerEntry>, ApiError> {
    move_cash(&app, &ApiCaller { principal, role: KeyRole::Admin }, EntryKind::Withdrawal, request).await
}

/// Money that goes from one account to another.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TransferCreate {
    /// Owner of the account that it leaves: the caller, or `agent:ID` of one of its agents; an admin may name any. Default: the
    /// caller.
    from_owner: Option<String>,
    /// What that account is for: `wallet`, `escrow`, `earnings`, `fees` or `treasury`. Default `wallet`.
    from_purpose: Option<AccountPurpose>,
    /// Owner of the account that it comes to: a principal, or `agent:ID`; an admin may name any. Default: the caller.
    to_owner: Option<String>,
    /// What that account is for; `costs` pays a tab. Default `wallet`.
    to_purpose: Option<AccountPurpose>,
    /// Asset. Default `AIT`.
    asset: Option<String>,
    /// Amount in the asset, more than 0, with at most 8 decimal places.
    amount: StatedAmount,
    /// Words for people, at most 500 characters. Default: none.
    note: Option<String>,
}

/// Transfer money
///
/// From an account of the caller to another of its own, or to somebody's wallet or tab.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/transfers", operation_id = "ledger_transfer", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = TransferCreate,
    responses(
        (status = 201, body = LedgerEntry, description = "The entry with the lines of accounts that the caller may see"),
        (status = 404, description = "The account that it leaves is another's"),
        (status = 409, description = "The account has less that is not held (`insufficient_funds`)"),
    )
)]
pub async fn transfer_money(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<TransferCreate>,
) -> Result<IdempotentCreated<LedgerEntry>, ApiError> {
    let TransferCreate { from_owner, from_purpose, to_owner, to_purpose, asset, amount, note } = request.body;
    let from = usable_owner(&app, &caller, ("body", "from_owner"), from_owner.as_deref()).await?;
    let to = read_owner(&app, &caller, ("body", "to_owner"), to_owner.as_deref()).await?;
    let from_purpose = from_purpose.unwrap_or(AccountPurpose::Wallet);
    let to_purpose = to_purpose.unwrap_or(AccountPurpose::Wallet);
    let refused = |field: &'static str, message: &str| {
        Err(ApiError::invalid_field(vec!["body".into(), field.into()], message.to_owned(), "value_error"))
    };
    if from_purpose.may_be_negative() && !is_admin(&caller) {
        return refused("from_purpose", "Money does not leave an account that may be below zero");
    }
    if !matches!(to_purpose, AccountPurpose::Wallet | AccountPurpose::Costs) && !is_admin(&caller) {
        return refused("to_purpose", "Should be wallet or costs");
    }
    let asset = asset.as_deref().unwrap_or(AIT);
    let (from, to) = (AccountKey::new(from, asset, from_purpose), AccountKey::new(to, asset, to_purpose));
    let kind = EntryKind::Transfer;
    let order = MoneyOrder { kind, from, to, amount, reference: None, note };
    move_money(&app, &caller, order, request.once).await
}

/// Get an entry
///
/// With the lines of accounts that the caller may see.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/entries/{entry_id}", operation_id = "ledger_get_entry", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("entry_id" = String, Path, description = "Id of the entry")),
    responses(
        (status = 200, body = LedgerEntry, description = "The entry with its lines"),
        (status = 404, description = "There is no such entry, or it has no line that the caller may see"),
    )
)]
pub async fn get_ledger_entry(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerEntryId>,
) -> Result<JsonBody<LedgerEntry>, ApiError> {
    let entry = app.ledger.entry(&id).await?;
    Ok(JsonBody(visible_entry(&app, &caller, entry).await?))
}

/// Why an entry is reversed.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct ReversalCreate {
    /// Words for people, at most 500 characters. Default: none.
    note: Option<String>,
}

/// Reverse an entry
///
/// Posts an entry with the opposite of each of its movements. An entry is reversed once at most; nothing is ever changed or deleted.
#[utoipa::path(
    post, path = "/api/v1/agents/ledger/entries/{entry_id}/reverse", operation_id = "ledger_reverse_entry", tag = "ledger",
    security(("ApiKey" = ["admin"])),
    params(("entry_id" = String, Path, description = "Id of the entry"), IdempotencyHeader),
    request_body = Option<ReversalCreate>,
    responses(
        (status = 201, body = LedgerEntry, description = "The entry that reverses it"),
        (status = 404, description = "There is no such entry"),
        (status = 409, description = "It was reversed before (`already_reversed`), or an account has less by now (`insufficient_funds`)"),
    )
)]
pub async fn reverse_ledger_entry(
    State(app): State<App>,
    AdminKey(principal): AdminKey,
    PathParams(id): PathParams<LedgerEntryId>,
    request: IdempotentJson<Option<ReversalCreate>>,
) -> Result<IdempotentCreated<LedgerEntry>, ApiError> {
    let ReversalCreate { note } = request.body.unwrap_or_default();
    match app.ledger.reverse_entry(&principal, &id, note, request.once).await {
        Err(LedgerError::NotFound(_)) => Err(ApiError::not_found("Ledger entry not found")),
        done => Ok(IdempotentCreated(done?)),
    }
}
