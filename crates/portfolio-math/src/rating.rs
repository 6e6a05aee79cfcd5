//! A risk level and score from the figures.

use crate::risk::RiskFigures;

/// How risky a portfolio is, by its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RiskLevel {
    /// A score below 25.
    Low,
    /// A score from 25, below 50.
    Medium,
    /// A score from 50, below 75.
    High,
    /// A score from 75.
    Critical,
}

impl RiskLevel {
    /// The word that the coordinator's table has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A score with its level and the formula that it follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskRating {
    /// From 0, no risk measured, to 100.
    pub score: f64,
    /// The level that the score belongs to.
    pub level: RiskLevel,
    /// How the score is computed, in words that can be shown.
    pub formula: &'static str,
}

/// A year's volatility at which its part of the score is full.
const FULL_VOLATILITY: f64 = 0.80;
/// The fall at which its part of the score is full.
const FULL_DRAWDOWN: f64 = 0.50;
/// A period's loss beyond the 95 % confidence at which its part of the score is full.
const FULL_TAIL_LOSS: f64 = 0.10;

/// The formula of `rate_risk`.
const SCORE_FORMULA: &str = "100 * (0.4 * min(1, volatility / 0.80) + 0.4 * min(1, -max_drawdown / 0.50) + \
    0.2 * min(1, max(0, -cvar_95) / 0.10)); low below 25, medium below 50, high below 75, else critical";

/// The rating of a series: four tenths each from volatility and the deepest fall, two from the loss of the worst 5 % of
/// periods, each measured against a full mark. A volatility that is not defined counts as 0.
pub fn rate_risk(figures: &RiskFigures) -> RiskRating {
    let part = |value: f64, full: f64| (value / full).clamp(0.0, 1.0);
    let score = 100.0
        * (0.4 * part(figures.volatility.unwrap_or(0.0), FULL_VOLATILITY)
            + 0.4 * part(-figures.max_drawdown.depth, FULL_DRAWDOWN)
            + 0.2 * part(-figures.cvar_95, FULL_TAIL_LOSS));
    let level = match score {
        score if score < 25.0 => RiskLevel::Low,
        score if score < 50.0 => RiskLevel::Medium,
        score if score < 75.0 => RiskLevel::High,
        _ => RiskLevel::Critical,
    };
    RiskRating { score, level, formula: SCORE_FORMULA }
}
