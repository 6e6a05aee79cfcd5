//! Signals as they are shown, and what is asked of them.

use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{SignalKind, SignalSide};

/// A signal of a strategy for a portfolio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = StrategySignal)]
pub struct SignalRecord {
    /// Number of the signal.
    pub id: i64,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// Number of the strategy whose rule found it.
    pub strategy_id: i64,
    /// Kind of the rule.
    pub rule: SignalKind,
    /// What it says of the token.
    pub signal_type: SignalSide,
    /// Symbol of the token.
    pub token_symbol: String,
    /// What was found: points off the target (`drift`), percent of change (`momentum`), or standard deviations from the mean
    /// (`reversion`); below 0: under it, or down.
    pub measured: f64,
    /// From where on the rule signals, in the same unit.
    pub threshold: f64,
    /// `measured` over twice the threshold, without its sign, at most 1.
    pub strength: f64,
    /// 0 to 1. `drift`: 1 less the age of the price over the greatest that is taken; `momentum`: Kaufman's efficiency ratio of the prices,
    /// which is 1 where they go one way; `reversion`: 1 less that ratio.
    pub confidence: f64,
    /// Price in AIT that the rule expects: at which the holding is at its target (`drift`), after the same change a day until it expires
    /// (`momentum`), the mean (`reversion`).
    pub price_target: f64,
    /// Price in AIT at which the condition is over, all else unchanged.
    pub stop_loss: f64,
    /// Time for which it was made, as `1d`.
    pub time_horizon: String,
    /// What was found, for people.
    pub reasoning: String,
    /// Points by which a rebalance that follows it moves the token's target, below 0 down; 0: it goes to the targets.
    pub tilt: f64,
    /// Whether a rebalance followed it.
    pub is_executed: bool,
    /// When that was; null: none did.
    #[serde(default)]
    pub executed_at: Option<Timestamp>,
    /// Number of that rebalance; null: none followed it.
    #[serde(default)]
    pub rebalance_id: Option<i64>,
    /// When it expires, or its condition was over.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How a signal is followed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = SignalFollowing)]
pub struct FollowRequest {
    /// Only show the trades; nothing is changed. Default false.
    pub dry_run: Option<bool>,
    /// Percent of the whole that is sold at most, above 0 to 100. Default: the strategy's limit.
    pub max_turnover: Option<f64>,
}
