//! Figures of evaluations: the score with its interval, and the comparison of two.

use std::collections::BTreeMap;

use am_core::ids::EvaluationId;
use am_performance_math::interval::{
    MeasuredInterval, bootstrap_mean, effective_count, mcnemar_exact, weighted_mean, wilson_interval,
};

use super::model::{EvaluationComparison, ResultState};

/// A case that has ended: its score, its weight and whether it passed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScoredCase {
    pub sha256: String,
    pub name: String,
    pub state: ResultState,
    pub score: f64,
    pub weight: f64,
}

/// The score of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SuiteScore {
    pub score: f64,
    pub interval: MeasuredInterval,
    pub method: &'static str,
}

/// The score with its interval: Wilson's at the effective number of cases where all are 0 or 1 (or all alike, of which resampling
/// learns nothing), else by bootstrap. `None`: there is no case.
pub(super) fn suite_score(cases: &[ScoredCase]) -> Option<SuiteScore> {
    let values: Vec<(f64, f64)> = cases.iter().map(|case| (case.score, case.weight)).collect();
    let score = weighted_mean(&values)?.clamp(0.0, 1.0);
    let is_graded = cases.iter().any(|case| case.score != 0.0 && case.score != 1.0);
    if let (true, Some(interval)) = (is_graded, bootstrap_mean(&values)) {
        return Some(SuiteScore { score, interval, method: "bootstrap" });
    }
    let weights: Vec<f64> = cases.iter().map(|case| case.weight).collect();
    let interval = wilson_interval(score, effective_count(&weights))?;
    Some(SuiteScore { score, interval, method: "wilson" })
}

/// Two evaluations compared on the cases that both have: those with the same name, input and check.
pub(super) fn compare(
    (evaluation_id, new): (&EvaluationId, &[ScoredCase]),
    (against, old): (&EvaluationId, &[ScoredCase]),
) -> EvaluationComparison {
    let before: BTreeMap<(&str, &str), &ScoredCase> =
        old.iter().map(|case| ((case.name.as_str(), case.sha256.as_str()), case)).collect();
    let pairs: Vec<(&ScoredCase, &ScoredCase)> =
        new.iter().filter_map(|case| Some((case, *before.get(&(case.name.as_str(), case.sha256.as_str()))?))).collect();
    let passes = |case: &ScoredCase| case.state == ResultState::Passed;
    let count =
        |gain: bool| pairs.iter().filter(|(new, old)| passes(new) == gain && passes(old) != gain).count() as u64;
    let (gained, lost) = (count(true), count(false));
    let differences: Vec<(f64, f64)> = pairs.iter().map(|(new, old)| (new.score - old.score, new.weight)).collect();
    let difference = weighted_mean(&differences);
    let interval = bootstrap_mean(&differences);
    let mut reasons = BTreeMap::new();
    if pairs.is_empty() {
        let text = "no case of the two has the same name, input and check";
        ["difference", "low", "high", "p_value"].into_iter().for_each(|name| {
            reasons.insert(name.to_owned(), text.to_owned());
        });
    } else if interval.is_none() {
        let text = "all differences are the same, so resampling the cases says nothing of chance";
        ["low", "high"].into_iter().for_each(|name| {
            reasons.insert(name.to_owned(), text.to_owned());
        });
    }
    let verdict = match interval {
        Some(found) if found.low > 0.0 => "better",
        Some(found) if found.high < 0.0 => "worse",
        _ => "unclear",
    };
    EvaluationComparison {
        evaluation_id: evaluation_id.clone(),
        against: against.clone(),
        pairs: pairs.len() as i64,
        gained: gained as i64,
        lost: lost as i64,
        difference,
        low: interval.map(|found| found.low),
        high: interval.map(|found| found.high),
        p_value: (!pairs.is_empty()).then(|| mcnemar_exact(gained, lost)),
        verdict: verdict.to_owned(),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(scores: &[f64]) -> Vec<ScoredCase> {
        let case = |(at, score): (usize, &f64)| ScoredCase {
            sha256: at.to_string(),
            name: at.to_string(),
            state: if *score >= 0.5 { ResultState::Passed } else { ResultState::Failed },
            score: *score,
            weight: 1.0,
        };
        scores.iter().enumerate().map(case).collect()
    }

    #[test]
    fn shares_have_wilsons_interval_and_grades_a_resampled_one() {
        let found = suite_score(&cases(&[1.0, 1.0, 1.0, 0.0])).unwrap();
        assert_eq!((found.score, found.method), (0.75, "wilson"));
        assert!(found.interval.low > 0.29 && found.interval.low < 0.31, "{found:?}");
        let graded = suite_score(&cases(&[0.2, 0.9, 0.4, 1.0])).unwrap();
        assert!(graded.method == "bootstrap" && graded.interval.low < graded.score, "{graded:?}");
        assert_eq!(suite_score(&cases(&[0.5, 0.5])).unwrap().method, "wilson", "resampling would have no width");
        assert_eq!(suite_score(&[]), None);
        let mut weighted = cases(&[1.0, 0.0]);
        weighted[0].weight = 3.0;
        assert_eq!(suite_score(&weighted).unwrap().score, 0.75);
    }

    #[test]
    fn pairs_are_the_same_cases() {
        let (one, other) = (EvaluationId::from("eval_1"), EvaluationId::from("eval_2"));
        let old = cases(&[0.0; 8]);
        let mut new = cases(&[1.0; 8]);
        new[7] = ScoredCase { score: 0.0, state: ResultState::Failed, ..new[7].clone() };
        let found = compare((&one, &new), (&other, &old));
        assert_eq!((found.pairs, found.gained, found.lost, found.verdict.as_str()), (8, 7, 0, "better"));
        assert!((found.p_value.unwrap() - 0.015_625).abs() < 1e-12);
        new[0].sha256 = "changed".into();
        assert_eq!(compare((&one, &new), (&other, &old)).pairs, 7);
        let none = compare((&one, &new), (&other, &[]));
        assert!(none.difference.is_none() && none.reasons.contains_key("difference"), "{none:?}");
        let same = compare((&one, &old), (&other, &old));
        assert_eq!(
            (same.difference, same.low, same.p_value, same.verdict.as_str()),
            (Some(0.0), None, Some(1.0), "unclear")
        );
    }
}
