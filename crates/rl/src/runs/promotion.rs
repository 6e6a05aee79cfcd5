//! Whether a new version may take an alias from the version that has it.

use serde::{Deserialize, Serialize};

use super::evaluation::EvaluationScores;
use crate::{
    interval::{SampleSums, difference_interval},
    training::EpisodeStats,
};

/// Condition under which aliases are set to a run's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PromotionGate)]
pub enum PromotionGate {
    /// Better than the version that the alias points to, both evaluated in the same episodes: the 95 % interval of the
    /// difference lies above 0.
    Better,
}

/// What a gate decided on one alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PromotionDecision)]
pub struct PromotionDecision {
    /// Alias that was asked for.
    pub alias: String,
    /// Whether it points to the new version now.
    pub promoted: bool,
    /// Version that it pointed to, `name@version`; null: none.
    pub current: Option<String>,
    /// Expected or mean return of that version; null: it was not evaluated.
    pub current_return: Option<f64>,
    /// The same of the new version.
    pub new_return: Option<f64>,
    /// Their difference; null: it was not evaluated.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end of its 95 % interval.
    pub high: Option<f64>,
    /// The reason, as a sentence.
    pub reason: String,
}

impl PromotionDecision {
    /// A decision without a comparison.
    pub(super) fn uncompared(alias: &str, current: Option<String>, promoted: bool, reason: impl Into<String>) -> Self {
        Self {
            alias: alias.to_owned(),
            promoted,
            current,
            current_return: None,
            new_return: None,
            difference: None,
            low: None,
            high: None,
            reason: reason.into(),
        }
    }

    /// Decide by the evaluations of both versions.
    pub(super) fn compared(alias: &str, current: String, old: &EvaluationScores, new: &EvaluationScores) -> Self {
        let ReturnDifference { old, new, low, high } = ReturnDifference::between(old, new);
        let promoted = low > 0.0;
        let reason = match promoted {
            true => "the 95 % interval of the difference lies above 0",
            false if high < 0.0 => "the new version is worse",
            false => "the difference may be chance: its 95 % interval does not lie above 0",
        };
        Self {
            alias: alias.to_owned(),
            promoted,
            current: Some(current),
            current_return: Some(old),
            new_return: Some(new),
            difference: Some(new - old),
            low: Some(low),
            high: Some(high),
            reason: reason.to_owned(),
        }
    }
}

/// Difference of the returns of two versions, with its 95 % interval.
struct ReturnDifference {
    old: f64,
    new: f64,
    low: f64,
    high: f64,
}

impl ReturnDifference {
    /// Welch's interval of the difference of means, or the difference of exact returns, which has no width.
    fn between(old: &EvaluationScores, new: &EvaluationScores) -> Self {
        if let (Some(old), Some(new)) = (old.expected_return, new.expected_return) {
            return Self { old, new, low: new - old, high: new - old };
        }
        let sums = |stats: &EpisodeStats| SampleSums {
            count: stats.episodes as u64,
            mean: stats.mean,
            squares: stats.deviation.powi(2) * stats.episodes as f64,
        };
        let (one, other) = (sums(&old.episodes), sums(&new.episodes));
        let (low, high) = difference_interval(&one, &other);
        Self { old: one.mean, new: other.mean, low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(mean: f64, deviation: f64, episodes: usize, expected_return: Option<f64>) -> EvaluationScores {
        let episodes = EpisodeStats { episodes, mean, deviation, least: 0.0, most: 0.0, length: 1.0 };
        EvaluationScores { episodes, expected_return, reference: None, share_of_optimum: None }
    }

    fn decided(old: &EvaluationScores, new: &EvaluationScores) -> PromotionDecision {
        PromotionDecision::compared("production", "p@1".into(), old, new)
    }

    #[test]
    fn only_what_is_better_beyond_chance_is_promoted() {
        let old = scores(100.0, 30.0, 20, None);
        assert!(!decided(&old, &scores(110.0, 30.0, 20, None)).promoted, "within chance");
        assert!(decided(&old, &scores(140.0, 30.0, 20, None)).promoted);
        let worse = decided(&old, &scores(50.0, 30.0, 20, None));
        assert_eq!((worse.promoted, worse.reason.as_str()), (false, "the new version is worse"));
        assert!(!decided(&old, &old).promoted);
        // Exact returns need no interval.
        let exact = decided(&scores(1.0, 9.0, 10, Some(5.0)), &scores(0.0, 9.0, 10, Some(5.1)));
        assert!(exact.promoted && exact.low == exact.high);
        assert!(!decided(&scores(1.0, 0.0, 10, None), &scores(1.0, 0.0, 10, None)).promoted, "equal is not better");
    }
}
