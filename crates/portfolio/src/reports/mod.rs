//! What a portfolio earned, by which tokens, and at what risk. Every figure is computed from what was recorded; one that can't be is null
//! with a reason.

mod history;
mod kept_performance;
mod performance;
mod period;
mod risk;

pub(crate) use self::history::{
    AlignedPrices, PERIODS_PER_YEAR, RiskHistory, held_rating, read_days, read_history, risk_after,
};
pub(crate) use self::kept_performance::{KeptPeriod, kept_periods};
pub(crate) use self::risk::{KeptRisk, kept_risk};
pub use self::{
    performance::{AssetAttribution, AttributionReport, PerformanceReport},
    period::ReportPeriod,
    risk::{RiskQuery, RiskReport, StressReport, StressRequest, StressShock},
};
