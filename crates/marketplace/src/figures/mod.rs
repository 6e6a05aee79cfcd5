//! Figures: kept with each change, so that reading them counts nothing.

mod model;
mod store;

use chrono::{Days, NaiveDate};

pub(crate) use model::AgentCounts;
pub use model::{AnalyticsPeriod, CategoryFigures, DayFigures, MarketAnalytics, TopAgent};
pub(crate) use store::{add_agent, agent as agent_counts};

use am_core::{boxed, money::Money};
use am_db::{bulk_insert::RowBatch, codec::Timestamp};
use am_ledger::{AccountKey, AccountOwner, AccountPurpose};

use crate::{
    Marketplace,
    category::ServiceCategory,
    error::{MarketError, Result},
    rules::growth,
};

/// Longest period of analytics, in days.
const MAX_PERIOD_DAYS: i64 = 366;
/// Days of one side of a trend.
const TREND_DAYS: u64 = 7;
/// Agents that analytics show.
const TOP_AGENTS: i64 = 10;

/// The account of the platform's fees.
pub(crate) fn fee_account() -> AccountKey {
    AccountKey::ait(AccountOwner::System, AccountPurpose::Fees)
}

/// Count services that are offered more or less than before.
pub(crate) fn count_services(rows: &mut RowBatch, category: ServiceCategory, change: i64) {
    if change != 0 {
        store::add_category(rows, category, change, 0, None);
    }
}

/// Count a request that was made.
pub(crate) fn count_created(rows: &mut RowBatch, category: ServiceCategory, now: Timestamp) {
    store::add_category(rows, category, 0, 1, None);
    store::add_day(rows, category, &DayFigures { day: day_of(now), requests: 1, ..Default::default() });
}

/// Count a request that is not open any more.
pub(crate) fn count_closed(rows: &mut RowBatch, category: ServiceCategory) {
    store::add_category(rows, category, 0, -1, None);
}

/// Count a payment.
pub(crate) fn count_paid(rows: &mut RowBatch, category: ServiceCategory, now: Timestamp, paid: Money, fee: Money) {
    store::add_category(rows, category, 0, 0, Some(paid));
    let day = DayFigures { day: day_of(now), requests: 0, settled: 1, volume: paid, fees: fee };
    store::add_day(rows, category, &day);
}

fn day_of(at: Timestamp) -> String {
    at.0.format("%Y-%m-%d").to_string()
}

fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(day)
}

impl Marketplace {
    /// Return all categories with their counts and trends.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn categories(&self) -> Result<Vec<CategoryFigures>> {
        let mut conn = self.0.db.read().await?;
        let today = self.now().0.date_naive();
        let (week, before) = (days_before(today, TREND_DAYS - 1), days_before(today, 2 * TREND_DAYS - 1));
        let counts = store::categories(&mut conn).await?;
        let days = store::category_days(&mut conn, &before.to_string(), &today.to_string()).await?;
        let week = week.to_string();
        let figures = ServiceCategory::ALL.iter().map(|category| {
            let requests = |is_last: bool| -> i64 {
                let own = days.iter().filter(|(of, day, ..)| of == category && (*day >= week) == is_last);
                own.map(|(_, _, requests, ..)| requests).sum()
            };
            let (last, earlier) = (requests(true), requests(false));
            let counts = counts.iter().find(|counts| counts.category == *category);
            CategoryFigures {
                category: *category,
                services: counts.map_or(0, |counts| counts.services),
                open_requests: counts.map_or(0, |counts| counts.open_requests),
                settled: counts.map_or(0, |counts| counts.settled),
                volume: counts.map_or(Money::ZERO, |counts| counts.volume),
                requests_last_week: last,
                requests_week_before: earlier,
                trend: growth(earlier as f64, last as f64),
            }
        });
        Ok(figures.collect())
    }

    /// Return the figures of a period, by default the last thirty days.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] for a period that ends before it begins, or is longer than a year.
    #[boxed]
    pub async fn analytics(
        &self,
        period: Option<AnalyticsPeriod>,
        category: Option<ServiceCategory>,
    ) -> Result<MarketAnalytics> {
        let now = self.now();
        let today = now.0.date_naive();
        let AnalyticsPeriod { first, last } =
            period.unwrap_or(AnalyticsPeriod { first: days_before(today, 29), last: today });
        let length = (last - first).num_days() + 1;
        if !(1..=MAX_PERIOD_DAYS).contains(&length) {
            let message = format!("the period must have 1 to {MAX_PERIOD_DAYS} days");
            return Err(MarketError::field("first_day", message));
        }
        let earlier = days_before(first, length.unsigned_abs());
        let mut conn = self.0.db.read().await?;
        let all = store::days(&mut conn, &earlier.to_string(), &last.to_string(), category).await?;
        let top_agents = store::top_agents(&mut conn, TOP_AGENTS).await?;
        let revenue_total = self.0.ledger.balance(&mut conn, &fee_account()).await?.balance;
        let begin = first.to_string();
        let (days, before): (Vec<DayFigures>, Vec<DayFigures>) = all.into_iter().partition(|day| day.day >= begin);
        let volume = |days: &[DayFigures]| -> Money { days.iter().map(|day| day.volume).sum() };
        let requests = |days: &[DayFigures]| -> i64 { days.iter().map(|day| day.requests).sum() };
        Ok(MarketAnalytics {
            first_day: begin,
            last_day: last.to_string(),
            requests: requests(&days),
            settled: days.iter().map(|day| day.settled).sum(),
            volume: volume(&days),
            revenue: days.iter().map(|day| day.fees).sum(),
            revenue_total,
            volume_growth: growth(volume(&before).to_f64(), volume(&days).to_f64()),
            requests_growth: growth(requests(&before) as f64, requests(&days) as f64),
            days,
            top_agents,
            as_of: now,
        })
    }
}
