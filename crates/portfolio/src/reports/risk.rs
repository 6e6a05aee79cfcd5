//! Risk from the daily worth of a unit, correlations of the tokens held, and what shocks would do.

use std::collections::BTreeMap;

use am_core::{
    boxed,
    validation::{FieldPath, Violation, Violations},
};
use am_db::{Connection, codec::Timestamp};
use am_portfolio_math::{
    RiskFigures, RiskOptions, StressScenario, asset_returns, correlation_matrix, measure_risk, rate_risk,
    simple_returns, stress_test,
};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    history::{MIN_RETURNS, PERIODS_PER_YEAR, RiskHistory, read_days},
    period::ReportPeriod,
};
use crate::{
    PortfolioCaller, PortfolioService,
    book::unit_days,
    error::{PortfolioError, Result},
    model::{MAX_TOKENS, SYMBOL_RULE, is_cash, is_symbol},
    prices::day_of,
};

/// Days that are measured at most, the newest.
const MAX_DAYS: usize = 3660;
/// Time over which the risk is measured that the coordinator's table keeps.
const KEPT_SPAN: TimeDelta = TimeDelta::days(365);
/// Scenarios of one stress test.
const MAX_SCENARIOS: usize = 50;

/// What a report on risk is asked for.
#[derive(Clone, Debug, Default)]
pub struct RiskQuery {
    /// Period that is measured.
    pub period: ReportPeriod,
    /// Token that the portfolio is compared with; `None`: none.
    pub benchmark: Option<String>,
    /// Yearly return without risk, 0.01 is one percent; `None`: 0.
    pub risk_free_rate: Option<f64>,
}

/// Daily worth of a unit in a period.
pub(crate) struct MeasuredDays {
    pub(super) days: Vec<String>,
    /// Returns from each day to the next.
    pub(super) returns: Vec<f64>,
    risk_free_per_period: f64,
}

/// Figures of daily returns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioDayFigures)]
pub struct DayFigures {
    /// Number of daily returns that were measured: between the last records of days that have one.
    pub observations: usize,
    /// Standard deviation of the daily returns (with n - 1) times the root of 365; null: see `reasons`.
    pub volatility: Option<f64>,
    /// Deepest fall of a unit from a peak before it, at most 0; null: see `reasons`.
    pub max_drawdown: Option<f64>,
    /// Mean daily return above the risk-free one over its standard deviation, times the root of 365; null: see `reasons`.
    pub sharpe_ratio: Option<f64>,
    /// The same over the downside deviation; null: see `reasons`.
    pub sortino_ratio: Option<f64>,
    /// Yearly return over the deepest fall; null: see `reasons`.
    pub calmar_ratio: Option<f64>,
    /// Share of the daily returns that are above 0; null: see `reasons`.
    pub win_rate: Option<f64>,
    /// Sum of the daily returns above 0 over the sum of those below; null: see `reasons`.
    pub profit_factor: Option<f64>,
}

/// Correlations of tokens' daily returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenCorrelations)]
pub struct CorrelationReport {
    /// Symbols of the tokens, in the order of rows and columns.
    pub tokens: Vec<String>,
    /// Number of daily returns.
    pub observations: usize,
    /// Rows of correlations, -1 to 1; null where a token's price did not vary.
    pub matrix: Vec<Vec<Option<f64>>>,
}

/// The risk of a portfolio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioRisk)]
pub struct RiskReport {
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// First day that was measured; null: there is none.
    pub measured_from: Option<String>,
    /// Last day that was measured; null: there is none.
    pub measured_to: Option<String>,
    /// Periods of a year: days.
    pub periods_per_year: f64,
    /// Figures of the daily returns.
    #[serde(flatten)]
    pub days: DayFigures,
    /// Loss of a day that 95 % of days stay above, as a return (-0.03 is a loss of 3 %), from the recorded returns; null: see `reasons`.
    pub var_95: Option<f64>,
    /// The same for 99 %.
    pub var_99: Option<f64>,
    /// The same for 95 % from a normal distribution of the same mean and deviation; null: see `reasons`.
    pub gaussian_var_95: Option<f64>,
    /// The same for 99 %.
    pub gaussian_var_99: Option<f64>,
    /// Mean of the daily returns that are not above `var_95`; null: see `reasons`.
    pub cvar_95: Option<f64>,
    /// Token of the comparison; null: none was asked for.
    pub benchmark: Option<String>,
    /// Slope of the daily returns over the benchmark's; null: see `reasons`.
    pub beta: Option<f64>,
    /// Yearly return above what beta explains; null: see `reasons`.
    pub alpha: Option<f64>,
    /// Risk, 0 to 100; null: see `reasons`.
    pub overall_risk_score: Option<f64>,
    /// `low`, `medium`, `high` or `critical`; null: see `reasons`.
    pub risk_level: Option<String>,
    /// How score and level are computed; null: they are not.
    pub formula: Option<String>,
    /// Correlations of the tokens held; null: see `reasons`.
    pub correlation_matrix: Option<CorrelationReport>,
    /// Why figures are null, by the name of the figure.
    pub reasons: BTreeMap<String, String>,
}

/// A scenario of a stress test.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioStressShock)]
pub struct StressShock {
    /// Name of the scenario.
    pub name: String,
    /// Change of each token's price, -0.3 is a fall by 30 %; a token that is not named stays.
    pub shocks: BTreeMap<String, f64>,
}

/// A stress test.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioStressRequest)]
pub struct StressRequest {
    /// The scenarios, at most 50.
    pub scenarios: Vec<StressShock>,
}

/// What a scenario would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioStressResult)]
pub struct StressResult {
    /// Name of the scenario.
    pub name: String,
    /// Change of the whole, -0.1 is a loss of 10 %.
    pub portfolio_return: f64,
    /// Change of the whole by each token held.
    pub contributions: BTreeMap<String, f64>,
    /// What the portfolio would be worth in AIT.
    pub value: f64,
}

/// What scenarios would do to a portfolio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioStressReport)]
pub struct StressReport {
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// What it is worth now in AIT.
    #[serde(with = "am_core::money::exact")]
    pub total_value: am_core::money::Money,
    /// The scenarios, in their order.
    pub scenarios: Vec<StressResult>,
}

/// The daily worth of a unit in a period, as returns; `rate` is the yearly one without risk.
pub(crate) async fn measured_days(
    conn: &mut Connection,
    portfolio: i64,
    (from, to): (Timestamp, Timestamp),
    rate: f64,
) -> Result<MeasuredDays> {
    let days = unit_days(conn, portfolio, (&day_of(from), &day_of(to)), MAX_DAYS).await?;
    let (days, units): (Vec<String>, Vec<f64>) = days.into_iter().unzip();
    let returns = if units.len() < 2 { Vec::new() } else { simple_returns(&units)? };
    let risk_free_per_period = (1.0 + rate).powf(1.0 / PERIODS_PER_YEAR) - 1.0;
    Ok(MeasuredDays { days, returns, risk_free_per_period })
}

/// What the coordinator's table keeps of the risk of a portfolio.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptRisk {
    pub volatility: f64,
    pub max_drawdown: f64,
    pub sharpe_ratio: f64,
    pub var_95: f64,
    pub var_99: f64,
    pub score: f64,
    /// Name of the level, as the coordinator stores it.
    pub level: String,
}

/// The risk of a portfolio by the returns of the year before `now`. `None`: there are too few, or a figure is not defined, which the
/// coordinator's table can't say.
pub(crate) async fn kept_risk(conn: &mut Connection, portfolio: i64, now: Timestamp) -> Result<Option<KeptRisk>> {
    let from = Timestamp(now.0.checked_sub_signed(KEPT_SPAN).unwrap_or_default());
    let measured = measured_days(conn, portfolio, (from, now), 0.0).await?;
    if measured.returns.len() < MIN_RETURNS {
        return Ok(None);
    }
    let Some(found) = measured.measured(None)? else { return Ok(None) };
    let (Some(volatility), Some(sharpe_ratio)) = (found.volatility, found.sharpe_ratio) else { return Ok(None) };
    let rating = rate_risk(&found);
    Ok(Some(KeptRisk {
        volatility,
        max_drawdown: found.max_drawdown.depth,
        sharpe_ratio,
        var_95: found.var_95,
        var_99: found.var_99,
        score: rating.score,
        level: rating.level.as_str().to_uppercase(),
    }))
}

impl MeasuredDays {
    fn options<'a>(&self, benchmark: Option<&'a [f64]>) -> RiskOptions<'a> {
        let risk_free_per_period = self.risk_free_per_period;
        RiskOptions { periods_per_year: PERIODS_PER_YEAR, risk_free_per_period, benchmark }
    }

    /// The part from `day` on.
    pub(super) fn since(&self, day: &str) -> Self {
        let first = self.days.partition_point(|one| one.as_str() < day);
        let risk_free_per_period = self.risk_free_per_period;
        let returns = self.returns.get(first..).unwrap_or_default().to_vec();
        Self { days: self.days[first..].to_vec(), returns, risk_free_per_period }
    }

    /// What the returns say about risk, also beside those of a benchmark; `None`: there are fewer than two.
    pub(super) fn measured(&self, benchmark: Option<&[f64]>) -> Result<Option<RiskFigures>> {
        if self.returns.len() < 2 {
            return Ok(None);
        }
        Ok(Some(measure_risk(&self.returns, &self.options(benchmark))?))
    }

    /// The figures; why some are null is added to `reasons`.
    pub fn figures(&self, reasons: &mut BTreeMap<String, String>) -> DayFigures {
        let found = self.measured(None).ok().flatten();
        self.day_figures(found.as_ref(), reasons)
    }

    /// The figures of what was measured; why some are null is added to `reasons`.
    pub(super) fn day_figures(
        &self,
        found: Option<&RiskFigures>,
        reasons: &mut BTreeMap<String, String>,
    ) -> DayFigures {
        let up = self.returns.iter().filter(|change| **change > 0.0);
        let (gains, wins) = (up.clone().sum::<f64>(), up.count());
        let losses: f64 = self.returns.iter().filter(|change| **change < 0.0).map(|change| -change).sum();
        let many = found.is_some();
        let figures = DayFigures {
            observations: self.returns.len(),
            volatility: found.and_then(|found| found.volatility),
            max_drawdown: found.map(|found| found.max_drawdown.depth),
            sharpe_ratio: found.and_then(|found| found.sharpe_ratio),
            sortino_ratio: found.and_then(|found| found.sortino_ratio),
            calmar_ratio: found.and_then(|found| found.calmar_ratio),
            win_rate: many.then(|| wins as f64 / self.returns.len() as f64),
            profit_factor: (many && losses > 0.0).then(|| gains / losses),
        };
        let named = [
            ("volatility", figures.volatility, "It is not defined for these returns"),
            ("max_drawdown", figures.max_drawdown, "It is not defined for these returns"),
            ("sharpe_ratio", figures.sharpe_ratio, "The returns do not vary"),
            ("sortino_ratio", figures.sortino_ratio, "No return is below the risk-free one"),
            ("calmar_ratio", figures.calmar_ratio, "The worth of a unit never fell"),
            ("win_rate", figures.win_rate, "It is not defined for these returns"),
            ("profit_factor", figures.profit_factor, "No return is below 0"),
        ];
        for (name, value, why) in named {
            if value.is_none() {
                let why = if many { why } else { "There are fewer than two daily returns in the period" };
                reasons.insert(name.to_owned(), why.to_owned());
            }
        }
        figures
    }

    /// Daily returns of a token between the same days; `None` where it lacks a price on one.
    fn token_returns(&self, token: &str, history: &RiskHistory) -> Result<Option<Vec<f64>>> {
        let Some(aligned) = history.aligned(&[token])? else { return Ok(None) };
        let prices: BTreeMap<&str, f64> =
            aligned.days.iter().map(String::as_str).zip(aligned.prices.column(0)).collect();
        let own: Option<Vec<f64>> = self.days.iter().map(|day| prices.get(day.as_str()).copied()).collect();
        Ok(match own {
            Some(own) if own.len() > 1 => Some(simple_returns(&own)?),
            _ => None,
        })
    }
}

fn check_query(query: &RiskQuery) -> std::result::Result<(), Vec<Violation>> {
    let mut violations = Violations::default();
    let sound = query.benchmark.as_deref().is_none_or(|token| is_symbol(token) && !is_cash(token));
    violations.require(sound, "benchmark", "must be the symbol of a token other than AIT");
    violations.require_within(query.risk_free_rate, &(-0.5..=10.0), "risk_free_rate");
    violations.finish()
}

impl PortfolioService {
    /// The risk of a portfolio, from recorded returns.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults.
    #[boxed]
    pub async fn risk(&self, caller: &PortfolioCaller, id: i64, query: RiskQuery) -> Result<RiskReport> {
        let (now, mut reasons) = (self.now(), BTreeMap::new());
        let mut conn = self.0.db.read_list().await?;
        let book = self.open_book(&mut conn, caller, id, &[], now).await?;
        check_query(&query).map_err(PortfolioError::Invalid)?;
        let ends = query.period.ends(now)?;
        let measured = measured_days(&mut conn, id, ends, query.risk_free_rate.unwrap_or(0.0)).await?;
        let tokens: Vec<String> = book.positions.held().map(|(token, _)| token.clone()).collect();
        let tokens: Vec<String> = tokens.into_iter().filter(|token| !is_cash(token)).collect();
        let mut read = tokens.clone();
        read.extend(query.benchmark.clone().filter(|token| !tokens.contains(token)));
        let history = read_days(&mut conn, &read, (&day_of(ends.0), &day_of(ends.1)), MAX_DAYS).await?;
        drop(conn);
        let compute = move || {
            let benchmark = match &query.benchmark {
                Some(token) => measured.token_returns(token, &history)?,
                None => None,
            };
            let found = measured.measured(benchmark.as_deref())?;
            let days = measured.day_figures(found.as_ref(), &mut reasons);
            let rating = found.as_ref().filter(|_| measured.returns.len() >= MIN_RETURNS).map(rate_risk);
            if rating.is_none() {
                let why = format!("There are fewer than {MIN_RETURNS} daily returns in the period");
                reasons.insert("overall_risk_score".into(), why.clone());
                reasons.insert("risk_level".into(), why);
            }
            if found.is_none() {
                let why = "There are fewer than two daily returns in the period";
                for figure in ["var_95", "var_99", "gaussian_var_95", "gaussian_var_99", "cvar_95"] {
                    reasons.insert(figure.to_owned(), why.to_owned());
                }
            }
            let (beta, alpha) = found.as_ref().map_or((None, None), |found| (found.beta, found.alpha));
            if beta.is_none() {
                let why = match (&query.benchmark, &benchmark) {
                    (None, _) => "No benchmark was named",
                    (Some(_), None) => "The benchmark lacks a price on one of the days",
                    (Some(_), Some(_)) => "It is not defined for these returns",
                };
                reasons.insert("beta".into(), why.into());
                reasons.insert("alpha".into(), why.into());
            }
            let correlation_matrix = correlations(&tokens, &history)?;
            if correlation_matrix.is_none() {
                let why = "Fewer than two tokens are held that have prices on three days in common";
                reasons.insert("correlation_matrix".into(), why.into());
            }
            Ok(RiskReport {
                portfolio_id: id,
                measured_from: measured.days.first().cloned(),
                measured_to: measured.days.last().cloned(),
                periods_per_year: PERIODS_PER_YEAR,
                days,
                var_95: found.as_ref().map(|found| found.var_95),
                var_99: found.as_ref().map(|found| found.var_99),
                gaussian_var_95: found.as_ref().and_then(|found| found.gaussian_var_95),
                gaussian_var_99: found.as_ref().and_then(|found| found.gaussian_var_99),
                cvar_95: found.as_ref().map(|found| found.cvar_95),
                benchmark: query.benchmark,
                beta,
                alpha,
                overall_risk_score: rating.map(|rating| rating.score),
                risk_level: rating.map(|rating| rating.level.as_str().to_owned()),
                formula: rating.map(|rating| rating.formula.to_owned()),
                correlation_matrix,
                reasons,
            })
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| PortfolioError::Interrupted)?
    }

    /// What shocks of prices would do to a portfolio as it is held now.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where a price is missing
    /// or too old.
    #[boxed]
    pub async fn stress(&self, caller: &PortfolioCaller, id: i64, request: StressRequest) -> Result<StressReport> {
        let mut conn = self.0.db.read().await?;
        let book = self.open_book(&mut conn, caller, id, &[], self.now()).await?;
        drop(conn);
        check_scenarios(&request.scenarios).map_err(PortfolioError::Invalid)?;
        let total = book.total()?;
        let whole = total.to_f64();
        let (mut tokens, mut weights) = (Vec::new(), Vec::new());
        for (token, position) in book.positions.held() {
            tokens.push(token.clone());
            weights.push(position.value().unwrap_or_default().to_f64() / whole.max(f64::MIN_POSITIVE));
        }
        let scenario = |shock: &StressShock| StressScenario {
            name: shock.name.clone(),
            shocks: tokens.iter().map(|token| shock.shocks.get(token).copied().unwrap_or(0.0)).collect(),
        };
        let scenarios: Vec<StressScenario> = request.scenarios.iter().map(scenario).collect();
        // A portfolio that holds nothing loses nothing.
        let outcomes = if tokens.is_empty() { Vec::new() } else { stress_test(&weights, &scenarios)? };
        let scenarios = outcomes.into_iter().map(|outcome| StressResult {
            value: whole * (1.0 + outcome.portfolio_return),
            name: outcome.name,
            portfolio_return: outcome.portfolio_return,
            contributions: tokens.iter().cloned().zip(outcome.contributions).collect(),
        });
        Ok(StressReport { portfolio_id: id, total_value: total, scenarios: scenarios.collect() })
    }
}

fn correlations(tokens: &[String], history: &RiskHistory) -> Result<Option<CorrelationReport>> {
    let names: Vec<&str> = tokens.iter().map(String::as_str).collect();
    if names.len() < 2 {
        return Ok(None);
    }
    let Some(aligned) = history.aligned(&names)?.filter(|aligned| aligned.days.len() > 2) else { return Ok(None) };
    let matrix = correlation_matrix(&asset_returns(&aligned.prices)?)?;
    Ok(Some(CorrelationReport { tokens: tokens.to_vec(), observations: aligned.days.len() - 1, matrix }))
}

fn check_scenarios(scenarios: &[StressShock]) -> std::result::Result<(), Vec<Violation>> {
    let mut violations = Violations::default();
    violations.require(
        (1..=MAX_SCENARIOS).contains(&scenarios.len()),
        "scenarios",
        format!("has 1 to {MAX_SCENARIOS} scenarios"),
    );
    for (at, scenario) in scenarios.iter().take(MAX_SCENARIOS).enumerate() {
        let place = |member: &str| FieldPath::from([member]).within([at]).within(["scenarios"]);
        violations.require(
            (1..=100).contains(&scenario.name.chars().count()),
            place("name"),
            "has 1 to 100 characters",
        );
        violations.require(
            scenario.shocks.len() <= MAX_TOKENS,
            place("shocks"),
            format!("at most {MAX_TOKENS} tokens"),
        );
        for (token, shock) in scenario.shocks.iter().take(MAX_TOKENS) {
            let place = || FieldPath::from([token]).within(["shocks"]).within([at]).within(["scenarios"]);
            violations.require(is_symbol(token), place(), SYMBOL_RULE);
            violations.require((-1.0..=10.0).contains(shock), place(), "must be from -1 to 10");
        }
    }
    violations.finish()
}
