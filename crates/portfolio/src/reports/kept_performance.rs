//! The performance of a portfolio over fixed periods, as the coordinator's table keeps it.

use std::collections::BTreeMap;

use am_db::{Connection, codec::Timestamp};
use am_portfolio_math::{DenseMatrix, annual_volatility, asset_returns, portfolio_returns, sharpe_ratio};
use chrono::{NaiveDate, NaiveTime, TimeDelta};

use super::{
    history::{MIN_RETURNS, PERIODS_PER_YEAR, RiskHistory, read_days},
    risk::{MeasuredDays, measured_days},
};
use crate::{book::PortfolioBook, error::Result, prices::day_of};

/// Name of the period that is a year, as the risk is measured that is kept.
const YEAR_PERIOD: &str = "1y";
/// The periods that are kept: their name, and their days.
const KEPT_PERIODS: [(&str, i64); 3] = [("30d", 30), ("90d", 90), (YEAR_PERIOD, 365)];
/// Days of the longest of them.
const MAX_PERIOD_DAYS: i64 = 365;

/// What the coordinator's table keeps of a period of a portfolio. Returns are shares, 0.01 is one percent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptPeriod {
    /// `30d`, `90d` or `1y`.
    pub name: &'static str,
    /// Begin of the first day that was measured.
    pub begin: Timestamp,
    pub total_return: f64,
    pub annualized_return: f64,
    pub volatility: f64,
    pub max_drawdown: f64,
    pub win_rate: f64,
    pub profit_factor: f64,
    pub sharpe_ratio: f64,
    pub sortino_ratio: f64,
    pub calmar_ratio: f64,
    pub benchmark_return: f64,
    pub alpha: f64,
    pub beta: f64,
    pub tracking_error: f64,
    pub information_ratio: f64,
}

impl KeptPeriod {
    /// Whether it is the year by which the risk is measured that is kept.
    pub fn is_year(&self) -> bool {
        self.name == YEAR_PERIOD
    }
}

/// The periods of `book` that end now and of which every figure is defined: the coordinator's table can't say that one is not.
pub(crate) async fn kept_periods(conn: &mut Connection, book: &PortfolioBook) -> Result<Vec<KeptPeriod>> {
    let from = days_before(book.now, MAX_PERIOD_DAYS);
    let measured = measured_days(conn, book.id(), (from, book.now), 0.0).await?;
    if measured.returns.len() < MIN_RETURNS {
        return Ok(Vec::new());
    }
    let targets = &book.strategy.target_allocations;
    let tokens: Vec<String> =
        targets.iter().filter(|(_, share)| **share > 0.0).map(|(token, _)| token.clone()).collect();
    let span = (day_of(from), day_of(book.now));
    let history = read_days(conn, &tokens, (&span.0, &span.1), MAX_PERIOD_DAYS as usize + 1).await?;
    let mut kept = Vec::new();
    for (name, days) in KEPT_PERIODS {
        let period = measured.since(&day_of(days_before(book.now, days)));
        if period.returns.len() < MIN_RETURNS {
            continue;
        }
        let Some(benchmark) = target_returns(targets, &history, &period.days)? else { continue };
        kept.extend(kept_period(name, &period, &benchmark)?);
    }
    Ok(kept)
}

fn days_before(now: Timestamp, days: i64) -> Timestamp {
    Timestamp(now.0.checked_sub_signed(TimeDelta::days(days)).unwrap_or_default())
}

/// Begin of a day (UTC) that is written as `2026-05-12`.
fn begin_of(day: &str) -> Option<Timestamp> {
    let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
    Some(Timestamp(day.and_time(NaiveTime::MIN).and_utc()))
}

/// Daily returns of the targets (percent by token), held from day to day at these weights, between `days`. `None`: a token has no price
/// on one of them, or AIT alone is aimed at, which has no return.
fn target_returns(targets: &BTreeMap<String, f64>, history: &RiskHistory, days: &[String]) -> Result<Option<Vec<f64>>> {
    let sum: f64 = targets.values().sum();
    let aimed = targets.iter().filter(|(_, percent)| **percent > 0.0);
    let (tokens, weights): (Vec<&str>, Vec<f64>) =
        aimed.map(|(token, percent)| (token.as_str(), percent / sum)).unzip();
    let Some(aligned) = history.aligned(&tokens)? else { return Ok(None) };
    let places: BTreeMap<&str, usize> = aligned.days.iter().enumerate().map(|(at, day)| (day.as_str(), at)).collect();
    let rows: Option<Vec<Vec<f64>>> =
        days.iter().map(|day| Some(aligned.prices.row(*places.get(day.as_str())?).to_vec())).collect();
    let Some(rows) = rows else { return Ok(None) };
    Ok(Some(portfolio_returns(&asset_returns(&DenseMatrix::from_rows(&rows)?)?, &weights)?))
}

/// Growth over all of `returns`, less 1.
fn compounded(returns: &[f64]) -> f64 {
    returns.iter().fold(1.0, |growth, change| growth * (1.0 + change)) - 1.0
}

/// The figures of a period beside its benchmark's returns; `None` where one is not defined.
fn kept_period(name: &'static str, period: &MeasuredDays, benchmark: &[f64]) -> Result<Option<KeptPeriod>> {
    let Some(found) = period.measured(Some(benchmark))? else { return Ok(None) };
    let days = period.day_figures(Some(&found), &mut BTreeMap::new());
    let active: Vec<f64> = period.returns.iter().zip(benchmark).map(|(own, other)| own - other).collect();
    // A benchmark that more than doubles in a day may leave a difference that no ratio is defined for.
    let tracking_error = annual_volatility(&active, PERIODS_PER_YEAR).ok().flatten();
    let information_ratio = sharpe_ratio(&active, 0.0, PERIODS_PER_YEAR).ok().flatten();
    let kept = || {
        Some(KeptPeriod {
            name,
            begin: begin_of(period.days.first()?)?,
            total_return: compounded(&period.returns),
            annualized_return: found.annual_return,
            volatility: days.volatility?,
            max_drawdown: days.max_drawdown?,
            win_rate: days.win_rate?,
            profit_factor: days.profit_factor?,
            sharpe_ratio: days.sharpe_ratio?,
            sortino_ratio: days.sortino_ratio?,
            calmar_ratio: days.calmar_ratio?,
            benchmark_return: compounded(benchmark),
            alpha: found.alpha?,
            beta: found.beta?,
            tracking_error: tracking_error?,
            information_ratio: information_ratio?,
        })
    };
    Ok(kept())
}
