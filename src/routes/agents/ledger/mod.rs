//! `/api/v1/agents/ledger`: accounts, entries, holds, spending and budgets. A principal sees and uses its own accounts and those
//! of its agents; an admin all.

mod accounts;
mod budgets;
mod entries;
mod holds;
mod spending;

use std::collections::BTreeMap;

use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        ApiError,
        auth::{ApiCaller, KeyRole},
        openapi::routes,
    },
};
use am_core::ids::LedgerAccountId;
use am_db::owner::is_principal;
use am_ledger::{AccountOwner, LedgerAccount, LedgerEntry, LedgerError};
use am_orchestration::error::OrchestrationError;

/// The routes of the ledger.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(accounts::list_accounts))
        .routes(routes!(accounts::get_account))
        .routes(routes!(accounts::get_account_balance))
        .routes(routes!(accounts::get_account_periods))
        .routes(routes!(accounts::get_account_statement))
        .routes(routes!(accounts::export_account_statement))
        .routes(routes!(holds::list_account_holds))
        .routes(routes!(entries::deposit_money))
        .routes(routes!(entries::withdraw_money))
        .routes(routes!(entries::transfer_money))
        .routes(routes!(entries::get_ledger_entry))
        .routes(routes!(entries::reverse_ledger_entry))
        .routes(routes!(holds::create_hold))
        .routes(routes!(holds::get_hold))
        .routes(routes!(holds::capture_hold))
        .routes(routes!(holds::release_hold))
        .routes(routes!(spending::get_spending))
        .routes(routes!(budgets::create_budget, budgets::list_budgets))
        .routes(routes!(budgets::get_budget, budgets::update_budget, budgets::delete_budget))
}

fn is_admin(caller: &ApiCaller) -> bool {
    caller.role == KeyRole::Admin
}

/// Read the owner that a request names as `field`: a principal, `agent:ID` of a registered agent, and from admins also
/// `guild:ID`, `portfolio:ID` and `system`. Without one it is the caller.
async fn read_owner(
    app: &App,
    caller: &ApiCaller,
    (place, field): (&'static str, &'static str),
    text: Option<&str>,
) -> Result<AccountOwner, ApiError> {
    let Some(text) = text else { return Ok(AccountOwner::Principal(caller.principal.id())) };
    let refused = |message: &str| {
        Err(ApiError::invalid_field(vec![place.into(), field.into()], message.to_owned(), "value_error"))
    };
    match AccountOwner::from_stored(text) {
        AccountOwner::Agent(id) => match app.registry.get(&id).await {
            Err(OrchestrationError::NotFound(_)) => refused("No registered agent has this id"),
            found => found.map(|_| AccountOwner::Agent(id)).map_err(ApiError::from),
        },
        // A key would be stored otherwise.
        AccountOwner::Principal(_) if !is_principal(text) => {
            refused("Should be a principal, as `key_` and 20 hex digits, or `agent:` and an agent's id")
        }
        owner @ AccountOwner::Principal(_) => Ok(owner),
        owner if is_admin(caller) => Ok(owner),
        _ => refused("Only an admin names this kind of owner"),
    }
}

/// Whether the caller may see and use the accounts of an owner.
async fn may_use(app: &App, caller: &ApiCaller, owner: &AccountOwner) -> Result<bool, ApiError> {
    if is_admin(caller) {
        return Ok(true);
    }
    match owner {
        AccountOwner::Principal(principal) => Ok(caller.principal.owns(principal)),
        AccountOwner::Agent(id) => match app.registry.get(id).await {
            Err(OrchestrationError::NotFound(_)) => Ok(false),
            found => Ok(found.map(|known| caller.principal.owns(&known.agent.owner_id))?),
        },
        _ => Ok(false),
    }
}

/// The owner that a request names as `field`, whose accounts the caller may use.
async fn usable_owner(
    app: &App,
    caller: &ApiCaller,
    field: (&'static str, &'static str),
    text: Option<&str>,
) -> Result<AccountOwner, ApiError> {
    let owner = read_owner(app, caller, field, text).await?;
    match may_use(app, caller, &owner).await? {
        true => Ok(owner),
        false => Err(LedgerError::NotFound("Account").into()),
    }
}

/// An account that the caller may see; another's is as one that never was.
async fn visible_account(app: &App, caller: &ApiCaller, id: &LedgerAccountId) -> Result<LedgerAccount, ApiError> {
    let account = app.ledger.account(id).await?;
    match may_use(app, caller, &AccountOwner::from_stored(&account.owner)).await? {
        true => Ok(account),
        false => Err(LedgerError::NotFound("Account").into()),
    }
}

/// The entry with the lines that the caller may see: of others' accounts nobody else learns the balances.
async fn visible_entry(app: &App, caller: &ApiCaller, mut entry: LedgerEntry) -> Result<LedgerEntry, ApiError> {
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for line in &entry.lines {
        if !seen.contains_key(&line.owner) {
            let owner = AccountOwner::from_stored(&line.owner);
            seen.insert(line.owner.clone(), may_use(app, caller, &owner).await?);
        }
    }
    entry.lines.retain(|line| seen.get(&line.owner).copied().unwrap_or(false));
    match entry.lines.is_empty() {
        true => Err(LedgerError::NotFound("Ledger entry").into()),
        false => Ok(entry),
    }
}
