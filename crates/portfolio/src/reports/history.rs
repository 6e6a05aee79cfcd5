//! Daily prices of several tokens, put side by side; the risk of what is held by them.

use std::collections::{BTreeMap, BTreeSet};

use am_db::{Connection, codec::Timestamp};
use am_portfolio_math::{
    DenseMatrix, RiskOptions, RiskRating, asset_returns, measure_risk, portfolio_returns, rate_risk,
};
use chrono::TimeDelta;

use crate::{
    book::PortfolioBook,
    error::{PortfolioError, Result},
    model::is_cash,
    prices::{daily_prices, day_of},
};

/// Days in a year: tokens are traded on each.
pub(crate) const PERIODS_PER_YEAR: f64 = 365.0;
/// Days of prices that the risk of a trade is measured by.
const RISK_DAYS: i64 = 90;
/// Daily returns that a risk is measured by at least.
pub(crate) const MIN_RETURNS: usize = 30;

/// Prices of tokens by day, as far back as a trade's risk is measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct RiskHistory(BTreeMap<String, BTreeMap<String, f64>>);

/// Prices by day for `tokens`.
pub(crate) async fn read_history(conn: &mut Connection, tokens: &[String], now: Timestamp) -> Result<RiskHistory> {
    let from = Timestamp(now.0.checked_sub_signed(TimeDelta::days(RISK_DAYS)).unwrap_or_default());
    read_days(conn, tokens, (&day_of(from), &day_of(now)), RISK_DAYS as usize + 1).await
}

/// Prices by day for `tokens` in a span of days, both included.
pub(crate) async fn read_days(
    conn: &mut Connection,
    tokens: &[String],
    span: (&str, &str),
    most: usize,
) -> Result<RiskHistory> {
    let mut history = RiskHistory::default();
    for token in tokens.iter().filter(|token| !is_cash(token)) {
        let days = daily_prices(conn, token, span, most).await?;
        let days = days.into_iter().map(|day| (day.day, day.price.to_f64())).collect();
        history.0.insert(token.clone(), days);
    }
    Ok(history)
}

/// Prices of some tokens on the days on which all of them have one: a row for each day.
#[derive(Clone, Debug)]
pub(crate) struct AlignedPrices {
    pub days: Vec<String>,
    pub prices: DenseMatrix,
}

impl RiskHistory {
    /// Prices of `tokens` on their common days; `None` where there are fewer than two. AIT is 1 on each.
    pub fn aligned(&self, tokens: &[&str]) -> Result<Option<AlignedPrices>> {
        let columns: Vec<Option<&BTreeMap<String, f64>>> = tokens.iter().map(|token| self.0.get(*token)).collect();
        let mut common: Option<BTreeSet<&String>> = None;
        for (token, column) in tokens.iter().zip(&columns) {
            let days: BTreeSet<&String> = match column {
                Some(days) => days.keys().collect(),
                None if is_cash(token) => continue,
                None => BTreeSet::new(),
            };
            common = Some(common.map_or_else(|| days.clone(), |common| &common & &days));
        }
        let days: Vec<String> = common.unwrap_or_default().into_iter().cloned().collect();
        if days.len() < 2 {
            return Ok(None);
        }
        let price = |day: &String, column: &Option<&BTreeMap<String, f64>>| {
            column.map_or(1.0, |column| column.get(day).copied().unwrap_or(1.0))
        };
        let values = days.iter().flat_map(|day| columns.iter().map(|column| price(day, column))).collect();
        let prices = DenseMatrix::new(days.len(), tokens.len(), values).map_err(PortfolioError::Math)?;
        Ok(Some(AlignedPrices { days, prices }))
    }
}

/// Risk, 0 to 100, of what `book` holds now, had it held that on the days of `history`; `None` where there are too few prices.
pub(crate) fn risk_after(book: &PortfolioBook, history: &RiskHistory) -> Result<Option<f64>> {
    Ok(held_rating(book, history)?.map(|rating| rating.score))
}

/// The rating of what `book` holds now, by the days of `history`.
pub(crate) fn held_rating(book: &PortfolioBook, history: &RiskHistory) -> Result<Option<RiskRating>> {
    let total = book.total()?.to_f64();
    let (mut tokens, mut weights) = (Vec::new(), Vec::new());
    for (token, position) in book.positions.held() {
        let value = position.value().unwrap_or_default().to_f64();
        tokens.push(token.as_str());
        weights.push(if total > 0.0 { value / total } else { 0.0 });
    }
    if tokens.iter().all(|token| is_cash(token)) {
        // What values are counted in has no risk.
        let none =
            RiskRating { score: 0.0, level: am_portfolio_math::RiskLevel::Low, formula: "AIT alone has no risk" };
        return Ok(Some(none));
    }
    let Some(aligned) = history.aligned(&tokens)? else { return Ok(None) };
    if aligned.days.len() <= MIN_RETURNS {
        return Ok(None);
    }
    let returns = portfolio_returns(&asset_returns(&aligned.prices)?, &weights)?;
    let options = RiskOptions { periods_per_year: PERIODS_PER_YEAR, risk_free_per_period: 0.0, benchmark: None };
    Ok(Some(rate_risk(&measure_risk(&returns, &options)?)))
}
