//! `ledger/accounts`: lists, balances, statements.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{is_admin, usable_owner, visible_account};
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        pagination::{PageQuery, Paginator},
        time_query::time_span,
    },
};
use am_core::{ids::LedgerAccountId, money::Money};
use am_db::{codec::Timestamp, moment::QueryMoment};
use am_ledger::{
    AccountFilter, AccountPurpose, LedgerAccount, PeriodBalance, PeriodLength, StatementFormat, StatementLine,
};

/// Filter of accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AccountsQuery {
    /// Only accounts of this owner: a principal, or `agent:ID`; an admin may name any. Default: the caller, of an admin all.
    owner: Option<String>,
    /// Only accounts in this asset.
    asset: Option<String>,
    /// Only accounts for this.
    purpose: Option<AccountPurpose>,
}

/// List accounts
///
/// Those of the caller or of one of its agents, for an admin all; the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts", operation_id = "ledger_list_accounts", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(AccountsQuery, PageQuery),
    responses(
        (status = 200, body = Vec<LedgerAccount>, description = "A page of accounts"),
        (status = 404, description = "The owner is another's"),
    )
)]
pub async fn list_accounts(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    QueryParams(query): QueryParams<AccountsQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let owner = match (&query.owner, is_admin(&caller)) {
        (None, true) => None,
        (named, _) => Some(usable_owner(&app, &caller, ("query", "owner"), named.as_deref()).await?),
    };
    let filter = AccountFilter { owner, asset: query.asset, purpose: query.purpose };
    let found = app.ledger.list_accounts(&filter, &paging.page).await?;
    Ok(paging.answer(found, |account| (account.created_at, &account.id)))
}

/// Get an account
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts/{account_id}", operation_id = "ledger_get_account", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("account_id" = String, Path, description = "Id of the account")),
    responses(
        (status = 200, body = LedgerAccount, description = "The account"),
        (status = 404, description = "There is no such account, or it is another's"),
    )
)]
pub async fn get_account(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerAccountId>,
) -> Result<JsonBody<LedgerAccount>, ApiError> {
    Ok(JsonBody(visible_account(&app, &caller, &id).await?))
}

/// When a balance is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BalanceQuery {
    /// A time, or how long ago (`90s`, `30m`, `12h`, `7d`, `4w`): all lines up to it count. Default: now.
    #[param(value_type = Option<String>, example = "7d")]
    at: Option<QueryMoment>,
}

/// Balance of an account at a time.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerBalance {
    /// Id of the account.
    account_id: LedgerAccountId,
    /// Asset of the account.
    asset: String,
    /// Time that the balance is of.
    at: Timestamp,
    /// Balance in the asset, with up to 8 decimal places.
    balance: Money,
    /// The part that holds keep; null for another time than now.
    held: Option<Money>,
    /// The rest; null for another time than now.
    available: Option<Money>,
}

/// Get the balance of an account at a time
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts/{account_id}/balance", operation_id = "ledger_get_balance", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("account_id" = String, Path, description = "Id of the account"), BalanceQuery),
    responses(
        (status = 200, body = LedgerBalance, description = "The balance"),
        (status = 404, description = "There is no such account, or it is another's"),
    )
)]
pub async fn get_account_balance(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerAccountId>,
    QueryParams(query): QueryParams<BalanceQuery>,
) -> Result<JsonBody<LedgerBalance>, ApiError> {
    let account = visible_account(&app, &caller, &id).await?;
    let now = Timestamp(app.clock.now());
    let (at, balance, held, available) = match time_span(query.at, None, now).after {
        Some(at) => (at, app.ledger.account_balance_at(&id, at).await?, None, None),
        None => (now, account.balance, Some(account.held), Some(account.available)),
    };
    Ok(JsonBody(LedgerBalance { account_id: id, asset: account.asset, at, balance, held, available }))
}

/// Which periods of an account.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PeriodsQuery {
    /// Length of the periods, in UTC. Default `day`.
    #[param(inline)]
    period: Option<PeriodLength>,
    /// A time in the first period, or how long ago. Default: the time of the account's first line.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<QueryMoment>,
    /// A time in the last period, or how long ago. Default: now.
    #[param(value_type = Option<String>, example = "1d")]
    to: Option<QueryMoment>,
}

/// Get the balances of an account by period
///
/// Opening and closing balance, change and number of lines of each hour, day, week or month: at most 1000 of them.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts/{account_id}/periods", operation_id = "ledger_get_periods", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("account_id" = String, Path, description = "Id of the account"), PeriodsQuery),
    responses(
        (status = 200, body = Vec<PeriodBalance>, description = "The periods, the first one first"),
        (status = 404, description = "There is no such account, or it is another's"),
        (status = 422, description = "`from` is later than `to`, or over 1000 periods before it"),
    )
)]
pub async fn get_account_periods(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerAccountId>,
    QueryParams(query): QueryParams<PeriodsQuery>,
) -> Result<JsonBody<Vec<PeriodBalance>>, ApiError> {
    let account = visible_account(&app, &caller, &id).await?;
    let now = Timestamp(app.clock.now());
    let span = time_span(query.from, query.to, now);
    let (from, to) = (span.after.unwrap_or(account.created_at), span.before.unwrap_or(now));
    let periods = app.ledger.periods(&id, query.period.unwrap_or(PeriodLength::Day), from, to).await?;
    Ok(JsonBody(periods))
}

/// Get the statement of an account
///
/// Its lines, the newest first, 50 on a page. Each names its entry, the other account and the balance after it; `created_after` and
/// `created_before` are about when lines were posted.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts/{account_id}/statement", operation_id = "ledger_get_statement", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("account_id" = String, Path, description = "Id of the account"), PageQuery),
    responses(
        (status = 200, body = Vec<StatementLine>, description = "A page of lines"),
        (status = 404, description = "There is no such account, or it is another's"),
    )
)]
pub async fn get_account_statement(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerAccountId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    visible_account(&app, &caller, &id).await?;
    let found = app.ledger.statement(&id, &paging.page).await?;
    Ok(paging.answer(found, |line: &StatementLine| (line.posted_at, &line.place)))
}

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatementFileFormat {
    /// Comma-separated values with a line of names.
    Csv,
    /// A JSON document on each line.
    Jsonl,
}

/// Which lines are exported, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatementExportQuery {
    /// `csv` or `jsonl`. Default `csv`.
    #[param(inline)]
    format: Option<StatementFileFormat>,
    /// Only lines later than this: a time, or how long ago. Default: from the first.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<QueryMoment>,
    /// Only lines earlier than this. Default: to the last.
    #[param(value_type = Option<String>, example = "2026-05-12T14:29:30Z")]
    to: Option<QueryMoment>,
}

/// Export the statement of an account
///
/// All lines of a span of time, the oldest first, as CSV or JSON lines. Amounts have all their digits.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/accounts/{account_id}/export", operation_id = "ledger_export_statement", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("account_id" = String, Path, description = "Id of the account"), StatementExportQuery),
    responses(
        (status = 200, body = String, content_type = "text/csv", description = "The lines; `application/x-ndjson` with `format=jsonl`"),
        (status = 404, description = "There is no such account, or it is another's"),
    )
)]
pub async fn export_account_statement(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<LedgerAccountId>,
    QueryParams(query): QueryParams<StatementExportQuery>,
) -> Result<Response, ApiError> {
    visible_account(&app, &caller, &id).await?;
    let (format, content_type) = match query.format.unwrap_or(StatementFileFormat::Csv) {
        StatementFileFormat::Csv => (StatementFormat::Csv, "text/csv; charset=utf-8"),
        StatementFileFormat::Jsonl => (StatementFormat::JsonLines, "application/x-ndjson"),
    };
    let span = time_span(query.from, query.to, Timestamp(app.clock.now()));
    let export = app.ledger.export_statement(id, format, span);
    let lines = stream::try_unfold(export, async |mut export| {
        // An answer that breaks off is not whole, and the client's HTTP library says so.
        export.next().await.map(|lines| lines.map(|lines| (Bytes::from(lines), export)))
    });
    let content_type = HeaderValue::from_static(content_type);
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(lines)).into_response())
}
