//! Formula of a score, term by term: the stored and the explained score are the same sum.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::model::TrustScore;
use am_db::codec::Timestamp;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// A term of a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ScoreTerm)]
pub struct ScoreTerm {
    /// Name of the term.
    pub name: String,
    /// Formula of the term.
    pub formula: String,
    /// Inputs of the formula.
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    /// Contribution to the score.
    pub value: f64,
}

/// A score as the sum of its terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ScoreSum)]
pub struct ScoreSum {
    /// Terms of the sum.
    pub terms: Vec<ScoreTerm>,
    /// Sum of all terms.
    pub sum: f64,
    /// Sum, clamped to the range from 0 to 100.
    pub score: f64,
}

fn score_term(name: &str, formula: &str, inputs: &[(&str, Value)], value: f64) -> ScoreTerm {
    let inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    ScoreTerm { name: name.to_owned(), formula: formula.to_owned(), inputs, value }
}

fn sum_terms(terms: Vec<ScoreTerm>) -> ScoreSum {
    let sum: f64 = terms.iter().map(|term| term.value).sum();
    ScoreSum { sum, score: sum.clamp(0.0, 100.0), terms }
}

/// Share of executions that succeeded; `None` without executions.
pub fn success_rate(of: &TrustScore) -> Option<f64> {
    (of.total_executions > 0).then(|| of.successful_executions as f64 / of.total_executions as f64)
}

fn base_term() -> ScoreTerm {
    score_term("base", "50", &[], 50.0)
}

/// Trust score of an entity at `now`.
pub fn trust_score(of: &TrustScore, now: Timestamp) -> ScoreSum {
    let rate = success_rate(of);
    let days = of.last_execution.map(|last| now.seconds_since(last) / SECONDS_PER_DAY);
    let recency = match days {
        Some(days) if days < 7.0 => 5.0,
        Some(days) if days > 30.0 => -10.0,
        _ => 0.0,
    };
    sum_terms(vec![
        base_term(),
        score_term(
            "success_rate",
            "(success_rate - 0.5) * 40; 0 without an execution",
            &[
                ("successful_executions", json!(of.successful_executions)),
                ("total_executions", json!(of.total_executions)),
                ("success_rate", json!(rate)),
            ],
            rate.map_or(0.0, |rate| (rate - 0.5) * 40.0),
        ),
        score_term(
            "security_violations",
            "-10 * security_violations",
            &[("security_violations", json!(of.security_violations))],
            0.0 - 10.0 * of.security_violations as f64,
        ),
        score_term(
            "policy_violations",
            "-5 * policy_violations",
            &[("policy_violations", json!(of.policy_violations))],
            0.0 - 5.0 * of.policy_violations as f64,
        ),
        score_term(
            "recency",
            "5 if the last execution is less than 7 days ago, -10 if more than 30",
            &[("last_execution", json!(of.last_execution)), ("days", json!(days))],
            recency,
        ),
    ])
}

/// Reputation score of an entity. Does not depend on the time.
pub fn reputation_score(of: &TrustScore) -> ScoreSum {
    let rate = success_rate(of);
    let violations = of.security_violations + of.policy_violations;
    let enough = of.total_executions >= 10;
    sum_terms(vec![
        base_term(),
        score_term(
            "success_rate",
            "(success_rate - 0.5) * 30 from 10 executions on",
            &[("success_rate", json!(rate)), ("total_executions", json!(of.total_executions))],
            rate.filter(|_| enough).map_or(0.0, |rate| (rate - 0.5) * 30.0),
        ),
        score_term(
            "volume",
            "min(total_executions / 100, 10)",
            &[("total_executions", json!(of.total_executions))],
            (of.total_executions as f64 / 100.0).min(10.0),
        ),
        score_term(
            "record",
            "10 without a violation, else -2 * violations",
            &[
                ("security_violations", json!(of.security_violations)),
                ("policy_violations", json!(of.policy_violations)),
            ],
            if violations == 0 { 10.0 } else { -2.0 * violations as f64 },
        ),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::scoring::tests::{at, sample_score};

    fn of(good: i64, all: i64, security: i64, policy: i64, days: Option<i64>) -> TrustScore {
        TrustScore {
            total_executions: all,
            successful_executions: good,
            failed_executions: all - good,
            security_violations: security,
            policy_violations: policy,
            last_execution: days.map(|days| Timestamp(at(0).0 - chrono::Duration::days(days))),
            ..sample_score("workflow", "w")
        }
    }

    #[test]
    fn scores_are_those_computed_by_hand() {
        // good, all, security and policy violations, days since the last execution; trust, reputation.
        let cases = [
            (0, 0, 0, 0, None, 50.0, 60.0),
            (1, 1, 0, 0, Some(0), 75.0, 60.01),
            (0, 1, 0, 0, Some(0), 35.0, 60.01),
            (7, 10, 0, 0, Some(0), 63.0, 66.1),
            (7, 10, 1, 0, Some(0), 53.0, 54.1),
            (7, 10, 0, 2, Some(8), 48.0, 52.1),
            (7, 10, 0, 0, Some(31), 48.0, 66.1),
            (7, 10, 0, 0, Some(7), 58.0, 66.1),
            (7, 10, 0, 0, Some(30), 58.0, 66.1),
            (2000, 2000, 0, 0, Some(1), 75.0, 85.0),
            (0, 20, 9, 9, Some(1), 0.0, 0.0),
        ];
        for (good, all, security, policy, days, trusted, reputed) in cases {
            let record = of(good, all, security, policy, days);
            let (trusts, reputes) = (trust_score(&record, at(0)).score, reputation_score(&record).score);
            assert!((trusts - trusted).abs() < 1e-9, "{record:?}: {trusts}");
            assert!((reputes - reputed).abs() < 1e-9, "{record:?}: {reputes}");
        }
    }

    prop_compose! {
        fn records()(all in 0i64..5000, security in 0i64..20, policy in 0i64..20, days in proptest::option::of(0i64..60))
            (good in 0..=all, all in Just(all), security in Just(security), policy in Just(policy), days in Just(days))
            -> TrustScore { of(good, all, security, policy, days) }
    }

    proptest! {
        #[test]
        fn scores_keep_within_bounds_and_are_the_sums_of_their_terms(record in records()) {
            for sum in [trust_score(&record, at(0)), reputation_score(&record)] {
                prop_assert!((0.0..=100.0).contains(&sum.score));
                let added: f64 = sum.terms.iter().map(|term| term.value).sum();
                prop_assert_eq!(added.clamp(0.0, 100.0), sum.score);
            }
        }

        #[test]
        fn a_violation_or_a_failure_never_raises_trust(record in records()) {
            let before = trust_score(&record, at(0)).score;
            let mut worse = record.clone();
            worse.security_violations += 1;
            prop_assert!(trust_score(&worse, at(0)).score <= before);
            prop_assert!(reputation_score(&worse).score <= reputation_score(&record).score);
            let mut worse = record.clone();
            worse.policy_violations += 1;
            prop_assert!(trust_score(&worse, at(0)).score <= before);
            if record.total_executions > 0 && record.successful_executions > 0 {
                let failed = TrustScore { successful_executions: record.successful_executions - 1, ..record.clone() };
                prop_assert!(trust_score(&failed, at(0)).score <= before);
            }
        }
    }
}
