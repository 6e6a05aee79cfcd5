//! Performance and attribution over a period, between two records of the portfolio's value.

use std::collections::BTreeMap;

use am_core::{boxed, money::Money};
use am_db::codec::Timestamp;
use am_portfolio_math::{CashFlow, money_weighted_return};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    period::ReportPeriod,
    risk::{DayFigures, measured_days},
};
use crate::{
    PortfolioCaller, PortfolioService,
    book::{ValueRecord, flows_between, period_records},
    error::{PortfolioError, Result},
    portfolios::visible_portfolio,
};

/// Flows that a period is measured with.
const MAX_FLOWS: usize = 10_000;
/// Seconds of a year of 365 days.
const YEAR_SECONDS: f64 = 365.0 * 86_400.0;
/// Seconds that a period has at least whose return is given for a year.
const MIN_ANNUAL_SECONDS: f64 = 86_400.0;

/// How a portfolio performed in a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioPerformance)]
pub struct PerformanceReport {
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// The record that the period begins with: the last one not later than `from`, else the first; null: there are too few.
    pub measured_from: Option<Timestamp>,
    /// The record that it ends with: the last one not later than `to`; null: there are too few.
    pub measured_to: Option<Timestamp>,
    /// What it was worth in AIT at the begin, with what came in at that moment; null: there are too few records.
    #[serde(with = "am_core::money::exact_option", default)]
    pub begin_value: Option<Money>,
    /// What it was worth in AIT at the end, without what came in at that moment; null: there are too few records.
    #[serde(with = "am_core::money::exact_option", default)]
    pub end_value: Option<Money>,
    /// Deposits less withdrawals in between, in AIT; null: there are too few records.
    #[serde(with = "am_core::money::exact_option", default)]
    pub net_flow: Option<Money>,
    /// `end_value` less `begin_value` and `net_flow`; null: there are too few records.
    #[serde(with = "am_core::money::exact_option", default)]
    pub gain: Option<Money>,
    /// Fees and slippage in between, in AIT, which have lowered the gain; null: there are too few records.
    #[serde(with = "am_core::money::exact_option", default)]
    pub costs: Option<Money>,
    /// Time-weighted return, 0.01 is one percent: growth between flows, multiplied; null: there are too few records.
    pub total_return: Option<f64>,
    /// The same for a year of 365 days; null: see `reasons`.
    pub annualized_return: Option<f64>,
    /// Money-weighted return for a year of 365 days: the rate at which all flows and the end are worth nothing at the begin; null: see
    /// `reasons`.
    pub money_weighted_return: Option<f64>,
    /// Figures of the daily returns.
    #[serde(flatten)]
    pub days: DayFigures,
    /// Why figures are null, by the name of the figure.
    pub reasons: BTreeMap<String, String>,
}

/// What a token contributed in a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioAssetAttribution)]
pub struct AssetAttribution {
    /// Symbol of the token.
    pub token: String,
    /// Value in AIT at the begin, before what came in at that moment.
    #[serde(with = "am_core::money::exact")]
    pub begin_value: Money,
    /// Value in AIT at the end, before what came in at that moment.
    #[serde(with = "am_core::money::exact")]
    pub end_value: Money,
    /// What came in by deposits and purchases, less withdrawals and sales, each at its price then, in AIT.
    #[serde(with = "am_core::money::exact")]
    pub net_invested: Money,
    /// Gain in AIT: `end_value` less `begin_value` and `net_invested`.
    #[serde(with = "am_core::money::exact")]
    pub gain: Money,
    /// Gain over the average capital of the portfolio; null: there was none.
    pub contribution: Option<f64>,
}

/// The gain of a period by token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioAttribution)]
pub struct AttributionReport {
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// The record that the period begins with; null: see `reason`.
    pub measured_from: Option<Timestamp>,
    /// The record that it ends with; null: see `reason`.
    pub measured_to: Option<Timestamp>,
    /// Gain in AIT: that of all tokens less `costs`; null: see `reason`.
    #[serde(with = "am_core::money::exact_option", default)]
    pub gain: Option<Money>,
    /// Fees and slippage in AIT; null: see `reason`.
    #[serde(with = "am_core::money::exact_option", default)]
    pub costs: Option<Money>,
    /// Begin value and each flow times the share of the period that it was there for, in AIT; null: see `reason`.
    pub average_capital: Option<f64>,
    /// The tokens, in the order of their symbols.
    pub assets: Vec<AssetAttribution>,
    /// How contributions are computed.
    pub formula: String,
    /// Why there are no figures; null: there are.
    pub reason: Option<String>,
}

/// How contributions are computed, in words.
const CONTRIBUTION_FORMULA: &str =
    "gain / (begin value + sum of flow * share of the period after it): modified Dietz (1966), by token";
/// Why nothing is measured.
const TOO_FEW_RECORDS: &str = "There are fewer than two records of the portfolio's value in the period";

/// Two records and the flows after the first and before the second.
struct MeasuredPeriod {
    begin: ValueRecord,
    end: ValueRecord,
    flows: Vec<(Timestamp, Money)>,
}

impl MeasuredPeriod {
    fn begin_value(&self) -> Money {
        self.begin.value + self.begin.flow
    }

    fn net_flow(&self) -> Money {
        self.flows.iter().map(|(_, flow)| *flow).sum()
    }

    fn seconds(&self) -> f64 {
        self.end.created_at.seconds_since(self.begin.created_at)
    }

    /// Begin value, and each flow times the share of the period after it.
    fn average_capital(&self) -> f64 {
        let (whole, begin) = (self.seconds(), self.begin_value().to_f64());
        let weighted = |(at, flow): &(Timestamp, Money)| {
            let after = self.end.created_at.seconds_since(*at);
            if whole > 0.0 { flow.to_f64() * after / whole } else { 0.0 }
        };
        begin + self.flows.iter().map(weighted).sum::<f64>()
    }

    /// The flows from the investor's side, in years after the begin.
    fn cash_flows(&self) -> Vec<CashFlow> {
        let years = |at: Timestamp| at.seconds_since(self.begin.created_at) / YEAR_SECONDS;
        let mut flows = vec![CashFlow { years: 0.0, amount: -self.begin_value().to_f64() }];
        flows.extend(self.flows.iter().map(|(at, flow)| CashFlow { years: years(*at), amount: -flow.to_f64() }));
        flows.push(CashFlow { years: years(self.end.created_at), amount: self.end.value.to_f64() });
        flows
    }
}

impl PortfolioService {
    async fn measured_period(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        period: ReportPeriod,
    ) -> Result<Option<MeasuredPeriod>> {
        let ends = period.ends(self.now())?;
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        let Some((begin, end)) = period_records(&mut conn, id, ends).await? else { return Ok(None) };
        let flows = flows_between(&mut conn, id, (&begin, &end), MAX_FLOWS + 1).await?;
        if flows.len() > MAX_FLOWS {
            let text = format!("the period has more than {MAX_FLOWS} deposits and withdrawals: ask for a shorter one");
            return Err(PortfolioError::invalid("from", text));
        }
        Ok(Some(MeasuredPeriod { begin, end, flows }))
    }

    /// How a portfolio performed.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] for a period that is none or has too many flows.
    #[boxed]
    pub async fn performance(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        period: ReportPeriod,
    ) -> Result<PerformanceReport> {
        let found = self.measured_period(caller, id, period).await?;
        let mut reasons = BTreeMap::new();
        let ends = period.ends(self.now())?;
        let mut conn = self.0.db.read_list().await?;
        let days = measured_days(&mut conn, id, ends, 0.0).await?.figures(&mut reasons);
        drop(conn);
        let Some(found) = found else {
            for figure in ["total_return", "annualized_return", "money_weighted_return", "gain"] {
                reasons.insert(figure.to_owned(), TOO_FEW_RECORDS.to_owned());
            }
            return Ok(PerformanceReport {
                portfolio_id: id,
                measured_from: None,
                measured_to: None,
                begin_value: None,
                end_value: None,
                net_flow: None,
                gain: None,
                costs: None,
                total_return: None,
                annualized_return: None,
                money_weighted_return: None,
                days,
                reasons,
            });
        };
        let total_return = found.end.unit_value / found.begin.unit_value - 1.0;
        let annualized_return = if found.seconds() < MIN_ANNUAL_SECONDS {
            reasons.insert("annualized_return".into(), "The period is shorter than a day".into());
            None
        } else if total_return <= -1.0 {
            reasons.insert("annualized_return".into(), "All was lost".into());
            None
        } else {
            Some((1.0 + total_return).powf(YEAR_SECONDS / found.seconds()) - 1.0)
        };
        let money_weighted = if found.seconds() < MIN_ANNUAL_SECONDS {
            Err("The period is shorter than a day".to_owned())
        } else {
            money_weighted_return(&found.cash_flows()).map_err(|error| error.to_string())
        };
        let money_weighted_return = match money_weighted {
            Ok(found) => Some(found.rate),
            Err(reason) => {
                reasons.insert("money_weighted_return".into(), reason);
                None
            }
        };
        let net_flow = found.net_flow();
        Ok(PerformanceReport {
            portfolio_id: id,
            measured_from: Some(found.begin.created_at),
            measured_to: Some(found.end.created_at),
            begin_value: Some(found.begin_value()),
            end_value: Some(found.end.value),
            net_flow: Some(net_flow),
            gain: Some(found.end.value - found.begin_value() - net_flow),
            costs: Some(found.end.costs - found.begin.costs),
            total_return: Some(total_return),
            annualized_return,
            money_weighted_return,
            days,
            reasons,
        })
    }

    /// The gain of a period by token.
    ///
    /// # Errors
    /// As [`PortfolioService::performance`].
    #[boxed]
    pub async fn attribution(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        period: ReportPeriod,
    ) -> Result<AttributionReport> {
        let found = self.measured_period(caller, id, period).await?;
        let formula = CONTRIBUTION_FORMULA.to_owned();
        let Some(found) = found else {
            return Ok(AttributionReport {
                portfolio_id: id,
                measured_from: None,
                measured_to: None,
                gain: None,
                costs: None,
                average_capital: None,
                assets: Vec::new(),
                formula,
                reason: Some(TOO_FEW_RECORDS.to_owned()),
            });
        };
        let capital = found.average_capital();
        let costs = found.end.costs - found.begin.costs;
        let assets = attributed(&found.begin, &found.end, capital);
        let gain = assets.iter().map(|asset| asset.gain).sum::<Money>() - costs;
        Ok(AttributionReport {
            portfolio_id: id,
            measured_from: Some(found.begin.created_at),
            measured_to: Some(found.end.created_at),
            gain: Some(gain),
            costs: Some(costs),
            average_capital: Some(capital),
            assets,
            formula,
            reason: None,
        })
    }
}

/// The tokens' gains between two records. What came in at the begin's moment is in both, value and net investment, and falls out.
fn attributed(begin: &ValueRecord, end: &ValueRecord, capital: f64) -> Vec<AssetAttribution> {
    let mut ends: BTreeMap<&str, [(Money, Money); 2]> = BTreeMap::new();
    for (at, record) in [begin, end].into_iter().enumerate() {
        for held in &record.holdings {
            ends.entry(&held.token).or_default()[at] = (held.value, held.net_invested);
        }
    }
    let asset = |(token, [(begin_value, before), (end_value, after)]): (&str, [(Money, Money); 2])| {
        let net_invested = after - before;
        let gain = end_value - begin_value - net_invested;
        let contribution = (capital > 0.0).then(|| gain.to_f64() / capital);
        AssetAttribution { token: token.to_owned(), begin_value, end_value, net_invested, gain, contribution }
    };
    ends.into_iter().map(asset).collect()
}
