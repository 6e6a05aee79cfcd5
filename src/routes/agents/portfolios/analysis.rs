//! Performance, attribution, risk and stress tests.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::portfolio_caller;
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, JsonBody, PathNumbers, QueryParams,
        error::FieldError,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        time_query::time_span,
    },
    routes::recorded_response::record_response,
};
use am_db::{codec::Timestamp, moment::QueryMoment};
use am_portfolio::{
    AttributionReport, PerformanceReport, PortfolioError, ReportPeriod, RiskQuery, RiskReport, StressReport,
    StressRequest,
};

/// Period of a report.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PeriodQuery {
    /// First moment: a time, or how long ago (`90s`, `30m`, `12h`, `7d`, `4w`). Default: the first record.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<QueryMoment>,
    /// Last moment, in the same forms. Default: now.
    #[param(value_type = Option<String>, example = "2026-05-12T14:29:30Z")]
    to: Option<QueryMoment>,
}

impl PeriodQuery {
    fn period(&self, app: &App) -> ReportPeriod {
        let span = time_span(self.from, self.to, Timestamp(app.clock.now()));
        ReportPeriod { from: span.after, to: span.before }
    }
}

/// What a report on risk is about.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RiskParameters {
    /// Symbol of the token that the portfolio is compared with. Default: none.
    benchmark: Option<String>,
    /// Yearly return without risk, 0.01 is one percent. Default 0.
    risk_free_rate: Option<f64>,
}

/// The faults of a report's question stand in its query.
fn query_fault(error: PortfolioError) -> ApiError {
    match error {
        PortfolioError::Invalid(found) => {
            ApiError::unprocessable(found.into_iter().map(|violation| FieldError::of("query", violation)).collect())
        }
        error => error.into(),
    }
}

/// Get the performance of a portfolio
///
/// Between two records of its value (snapshots, deposits, withdrawals), time- and money-weighted. A figure that can't be computed is null,
/// and `reasons` says why.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/performance", operation_id = "portfolios_get_performance",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PeriodQuery),
    responses(
        (status = 200, body = PerformanceReport, description = "The performance"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn get_performance(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    QueryParams(query): QueryParams<PeriodQuery>,
) -> Result<JsonBody<PerformanceReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    let found = app.portfolios.performance(&portfolio_caller(&caller), id, query.period(&app)).await;
    Ok(JsonBody(found.map_err(query_fault)?))
}

/// Get the gain of a portfolio by token
///
/// Between two records of its value. The tokens' gains less the costs are the gain of the whole, to the last unit.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/attribution", operation_id = "portfolios_get_attribution",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PeriodQuery),
    responses(
        (status = 200, body = AttributionReport, description = "The gain by token"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn get_attribution(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    QueryParams(query): QueryParams<PeriodQuery>,
) -> Result<JsonBody<AttributionReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    let found = app.portfolios.attribution(&portfolio_caller(&caller), id, query.period(&app)).await;
    Ok(JsonBody(found.map_err(query_fault)?))
}

/// Get the risk of a portfolio
///
/// From the worth of a unit at the last record of each day (UTC), at most the newest 3660 days; years have 365 of them. Correlations are
/// those of the tokens that it holds now. A figure that can't be computed is null, and `reasons` says why.
#[utoipa::path(
    get, path = "/api/v1/agents/portfolios/{portfolio_id}/risk", operation_id = "portfolios_get_risk",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), PeriodQuery, RiskParameters),
    responses(
        (status = 200, body = RiskReport, description = "The risk"),
        (status = 404, description = "The caller has no such portfolio"),
    )
)]
pub async fn get_risk(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    QueryParams(period): QueryParams<PeriodQuery>,
    QueryParams(query): QueryParams<RiskParameters>,
) -> Result<JsonBody<RiskReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    let RiskParameters { benchmark, risk_free_rate } = query;
    let query = RiskQuery { period: period.period(&app), benchmark, risk_free_rate };
    let found = app.portfolios.risk(&portfolio_caller(&caller), id, query).await;
    Ok(JsonBody(found.map_err(query_fault)?))
}

/// Test a portfolio under stress
///
/// What given changes of prices would do to it as it is held now. Nothing is changed.
#[utoipa::path(
    post, path = "/api/v1/agents/portfolios/{portfolio_id}/stress", operation_id = "portfolios_stress_test",
    tag = "portfolios", security(("ApiKey" = ["admin", "client"])),
    params(("portfolio_id" = String, Path, description = "Number of the portfolio"), IdempotencyHeader),
    request_body = StressRequest,
    responses(
        (status = 200, body = StressReport, description = "What the scenarios would do"),
        (status = 404, description = "The caller has no such portfolio"),
        (status = 409, description = "A price is missing or too old (`price_missing`, `price_too_old`)"),
    )
)]
pub async fn run_stress_test(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    numbers: PathNumbers<1>,
    request: IdempotentJson<StressRequest>,
) -> Result<IdempotentOk<StressReport>, ApiError> {
    let PathNumbers([id]) = numbers;
    let report = app.portfolios.stress(&portfolio_caller(&caller), id, request.body).await?;
    Ok(IdempotentOk(record_response(&app, request.once, report).await?))
}
