//! `ledger/spending`: what was spent, by whom, on what, when.

use axum::extract::State;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::is_admin;
use crate::{
    app::App,
    http::{AnyCaller, ApiError, JsonBody, QueryParams, time_query::time_span},
};
use am_core::{ids::PrincipalId, money::Money};
use am_db::{codec::Timestamp, moment::QueryMoment, owner::is_principal};
use am_ledger::{AIT, SpendingGroup, SpendingSum};

/// Days that a report has where the request does not say.
const DEFAULT_DAYS: i64 = 30;
/// Groups that a report shows; it says how many there are.
const MAX_GROUPS: usize = 1000;

/// Which spending, and how it is grouped.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SpendingQuery {
    /// By `principal`, `agent`, `workflow` or `day`. Default `day`.
    #[param(inline)]
    by: Option<SpendingGroup>,
    /// Only what this principal spent. Default: the caller, of an admin everybody.
    principal: Option<PrincipalId>,
    /// From this time on, rounded down to the hour: a time, or how long ago. Default: 30 days ago.
    #[param(value_type = Option<String>, example = "7d")]
    from: Option<QueryMoment>,
    /// Before this time, rounded down to the hour. Default: to the last entry.
    #[param(value_type = Option<String>, example = "2026-05-12T14:00:00Z")]
    to: Option<QueryMoment>,
}

/// What was spent in a time.
#[derive(Debug, Serialize, ToSchema)]
pub struct SpendingReport {
    /// How it is grouped.
    by: SpendingGroup,
    /// Begin of the time.
    from: Timestamp,
    /// Its end; null: it has the last entry.
    to: Option<Timestamp>,
    /// Asset of the amounts.
    asset: &'static str,
    /// Sum of all groups.
    total: Money,
    /// Number of groups.
    groups: usize,
    /// The groups: days in their order, others by amount, the largest first; at most 1000 of them.
    spending: Vec<SpendingSum>,
}

/// Get what was spent
///
/// Costs of runs, jobs and messages, pay of agents, and payments for services, from sums that are kept by the hour. A run's cost counts
/// for its workflow; what of it an agent was paid, and the prices of messages, count for the agent.
#[utoipa::path(
    get, path = "/api/v1/agents/ledger/spending", operation_id = "ledger_get_spending", tag = "ledger",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(SpendingQuery),
    responses(
        (status = 200, body = SpendingReport, description = "The report"),
        (status = 403, description = "Another principal's spending needs an admin key"),
        (status = 422, description = "`to` is not later than `from`, or `principal` is none"),
    )
)]
pub async fn get_spending(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    QueryParams(query): QueryParams<SpendingQuery>,
) -> Result<JsonBody<SpendingReport>, ApiError> {
    let principal = match (query.principal, is_admin(&caller)) {
        (Some(named), _) if !is_principal(&named) => {
            let loc = vec!["query".into(), "principal".into()];
            return Err(ApiError::invalid_field(
                loc,
                "Should be a principal, as `key_` and 20 hex digits",
                "value_error",
            ));
        }
        (Some(named), true) => Some(named),
        (Some(named), false) if !caller.principal.owns(&named) => {
            return Err(ApiError::forbidden("Another principal's spending needs an admin key"));
        }
        (None, true) => None,
        (Some(_) | None, false) => Some(caller.principal.id()),
    };
    let by = query.by.unwrap_or(SpendingGroup::Day);
    let now = Timestamp(app.clock.now());
    let span = time_span(query.from, query.to, now);
    let from = span.after.unwrap_or(Timestamp(now.0 - TimeDelta::days(DEFAULT_DAYS)));
    let mut spending = app.ledger.spending(by, principal.as_ref(), Some(from), span.before).await?;
    let (total, groups) = (spending.iter().map(|sum| sum.amount).sum(), spending.len());
    if by != SpendingGroup::Day {
        spending.sort_by_key(|sum| std::cmp::Reverse(sum.amount));
    }
    spending.truncate(MAX_GROUPS);
    Ok(JsonBody(SpendingReport { by, from, to: span.before, asset: AIT, total, groups, spending }))
}
