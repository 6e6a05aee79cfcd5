//! Figures of the marketplace as clients see them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::category::ServiceCategory;
use am_core::{ids::AgentId, money::Money};
use am_db::codec::Timestamp;

/// What an agent did and earned, or what is added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentCounts {
    /// Requests that it was paid for.
    pub jobs: i64,
    /// Requests that it accepted and did not end well: given up, expired, or decided against it.
    pub failed: i64,
    /// What it earned, before fees.
    pub earned: Money,
    /// Number of its ratings.
    pub rating_count: i64,
    /// Sum of its ratings.
    pub rating_sum: i64,
}

/// Counts of a category since the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoryCounts {
    pub category: ServiceCategory,
    pub services: i64,
    pub open_requests: i64,
    pub settled: i64,
    pub volume: Money,
}

/// A category with its counts and its trend.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MarketCategory)]
pub struct CategoryFigures {
    /// Category of services.
    pub category: ServiceCategory,
    /// Services that are offered now.
    pub services: i64,
    /// Requests that nobody has accepted yet.
    pub open_requests: i64,
    /// Requests that were paid since the beginning.
    pub settled: i64,
    /// What was paid since the beginning, in AIT.
    pub volume: Money,
    /// Requests of the last seven days, today included.
    pub requests_last_week: i64,
    /// Requests of the seven days before those.
    pub requests_week_before: i64,
    /// Relative change between the two weeks: 0.5 is half more; null where there was none before.
    pub trend: Option<f64>,
}

/// Figures of a day in UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = MarketDay)]
pub struct DayFigures {
    /// The date in UTC, as `2026-12-01`.
    pub day: String,
    /// Requests that were made.
    pub requests: i64,
    /// Requests that were paid.
    pub settled: i64,
    /// What was paid, in AIT, before fees.
    pub volume: Money,
    /// Fees of the platform, in AIT.
    pub fees: Money,
}

/// An agent with what it earned.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MarketTopAgent)]
pub struct TopAgent {
    /// Agent that earned it.
    pub agent_id: AgentId,
    /// Requests that it was paid for.
    pub jobs: i64,
    /// Requests that it accepted and did not end well.
    pub failed: i64,
    /// What it earned since the beginning, in AIT, before fees.
    pub earned: Money,
    /// Mean rating, 1 to 5; null without one.
    pub rating: Option<f64>,
    /// Number of its ratings.
    pub rating_count: i64,
}

/// Days that analytics are about, in UTC, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyticsPeriod {
    /// First day of the period.
    pub first: chrono::NaiveDate,
    /// Last day of the period.
    pub last: chrono::NaiveDate,
}

/// Figures of the marketplace over a period.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MarketAnalytics {
    /// First day of the period in UTC.
    pub first_day: String,
    /// Last day of the period in UTC.
    pub last_day: String,
    /// Requests that were made in the period.
    pub requests: i64,
    /// Requests that were paid in the period.
    pub settled: i64,
    /// What was paid in the period, in AIT, before fees.
    pub volume: Money,
    /// Fees of the platform in the period, in AIT: its revenue.
    pub revenue: Money,
    /// Fees of the platform since the beginning, as the ledger has them, in AIT.
    pub revenue_total: Money,
    /// Relative change of the volume against the period of the same length before; null where there was none.
    pub volume_growth: Option<f64>,
    /// Relative change of the requests against the period of the same length before; null where there was none.
    pub requests_growth: Option<f64>,
    /// The days of the period on which something happened.
    pub days: Vec<DayFigures>,
    /// The agents that earned most since the beginning.
    pub top_agents: Vec<TopAgent>,
    /// When it was read.
    pub as_of: Timestamp,
}
