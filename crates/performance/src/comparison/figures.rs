//! Scores of versions, the intervals of their differences, and what they say.

use am_performance_math::interval::{MeasuredInterval, mean_interval, welch_difference};
use am_rl::runs::EvaluationScores;

use serde_json::Value;

use super::model::{
    ComparedMeasure, ComparedVersion, ComparisonMethod, ComparisonVerdict, SeedScore, VersionComparison,
    VersionDifference,
};
use crate::sample_spread::sample_spread;

/// What is known of a version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KnownScores {
    /// The version, `name@version`.
    pub(super) reference: String,
    /// Its own evaluation; `None`: `reason` says why there is none.
    pub(super) own: Option<EvaluationScores>,
    /// Evaluations with each seed, two or more: of versions that were trained alike, or of itself in other episodes. Empty: there is
    /// one evaluation.
    pub(super) seeds: Vec<(u64, String, EvaluationScores)>,
    /// Whether the seeds are those of episodes, the same for all versions.
    pub(super) is_paired: bool,
    /// Why it has no evaluation here.
    pub(super) reason: Option<String>,
}

/// Mean, standard deviation of a sample and count of an evaluation's episodes, whose stored deviation divides by their number.
fn episode_spread(scores: &EvaluationScores) -> (f64, f64, u64) {
    let count = scores.episodes.episodes as f64;
    let deviation = scores.episodes.deviation * (count / (count - 1.0).max(1.0)).sqrt();
    (scores.episodes.mean, deviation, scores.episodes.episodes as u64)
}

fn score_by(measure: ComparedMeasure, scores: &EvaluationScores) -> Option<f64> {
    match measure {
        ComparedMeasure::ExpectedReturn => scores.expected_return,
        ComparedMeasure::MeanReturn => Some(scores.episodes.mean),
    }
}

/// What can be compared: exact returns where all evaluations have them. `None`: there is no evaluation.
fn common_measure(versions: &[KnownScores]) -> Option<ComparedMeasure> {
    let own = versions.iter().filter_map(|version| version.own.as_ref());
    let seeds = versions.iter().flat_map(|version| version.seeds.iter().map(|(_, _, scores)| scores));
    let mut all = own.chain(seeds).peekable();
    all.peek()?;
    let exact = all.all(|scores| scores.expected_return.is_some());
    Some(if exact { ComparedMeasure::ExpectedReturn } else { ComparedMeasure::MeanReturn })
}

impl KnownScores {
    fn seed_scores(&self, measure: ComparedMeasure) -> Vec<f64> {
        self.seeds.iter().filter_map(|(_, _, scores)| score_by(measure, scores)).collect()
    }

    fn seed_method(&self) -> ComparisonMethod {
        if self.is_paired { ComparisonMethod::EvaluationSeeds } else { ComparisonMethod::TrainingSeeds }
    }

    /// As it is answered.
    fn compared(&self, measure: Option<ComparedMeasure>) -> ComparedVersion {
        let none = ComparedVersion {
            reference: self.reference.clone(),
            score: None,
            low: None,
            high: None,
            method: None,
            episodes: None,
            seeds: Vec::new(),
            reason: self.reason.clone(),
        };
        let (Some(measure), Some(own)) = (measure, &self.own) else { return none };
        let values = self.seed_scores(measure);
        let (score, interval, method) = if values.len() > 1 {
            let (mean, deviation, count) = sample_spread(&values);
            (Some(mean), mean_interval(mean, deviation, count), self.seed_method())
        } else if measure == ComparedMeasure::ExpectedReturn {
            let interval = own.expected_return.map(|exact| MeasuredInterval { low: exact, high: exact });
            (own.expected_return, interval, ComparisonMethod::Exact)
        } else {
            let (mean, deviation, count) = episode_spread(own);
            (Some(mean), mean_interval(mean, deviation, count), ComparisonMethod::Episodes)
        };
        let seeds = self.seeds.iter().filter_map(|(seed, reference, scores)| {
            let score = score_by(measure, scores)?;
            Some(SeedScore { seed: *seed, reference: reference.clone(), score })
        });
        ComparedVersion {
            score,
            low: interval.map(|found| found.low),
            high: interval.map(|found| found.high),
            method: Some(method),
            episodes: Some(own.episodes.episodes as u64),
            seeds: seeds.collect(),
            reason: None,
            ..none
        }
    }

    /// The difference of this version to another, with its interval and what that is made of. Seeds are compared where both have
    /// several; otherwise the two versions themselves are.
    fn difference(
        &self,
        other: &Self,
        measure: ComparedMeasure,
    ) -> Option<(f64, Option<MeasuredInterval>, ComparisonMethod)> {
        let (own, others) = (self.own.as_ref()?, other.own.as_ref()?);
        if self.is_paired && other.is_paired {
            let pairs = self.seeds.iter().zip(&other.seeds);
            let differences: Option<Vec<f64>> =
                pairs.map(|(one, two)| Some(score_by(measure, &one.2)? - score_by(measure, &two.2)?)).collect();
            let (mean, deviation, count) = sample_spread(&differences?);
            return Some((mean, mean_interval(mean, deviation, count), ComparisonMethod::EvaluationSeeds));
        }
        let (one, two) = (self.seed_scores(measure), other.seed_scores(measure));
        if one.len() > 1 && two.len() > 1 {
            let (one, two) = (sample_spread(&one), sample_spread(&two));
            return Some((one.0 - two.0, welch_difference(two, one), ComparisonMethod::TrainingSeeds));
        }
        let difference = score_by(measure, own)? - score_by(measure, others)?;
        if measure == ComparedMeasure::ExpectedReturn {
            let interval = MeasuredInterval { low: difference, high: difference };
            return Some((difference, Some(interval), ComparisonMethod::Exact));
        }
        let interval = welch_difference(episode_spread(others), episode_spread(own));
        Some((difference, interval, ComparisonMethod::Episodes))
    }

    /// This version beside another, in numbers and in words.
    fn beside(&self, other: &Self, measure: Option<ComparedMeasure>) -> VersionDifference {
        let found = measure.and_then(|measure| self.difference(other, measure));
        let interval = found.and_then(|(_, interval, _)| interval);
        let verdict = match (found, interval) {
            (None, _) => ComparisonVerdict::Unknown,
            (_, Some(interval)) if interval.low > 0.0 => ComparisonVerdict::Better,
            (_, Some(interval)) if interval.high < 0.0 => ComparisonVerdict::Worse,
            _ => ComparisonVerdict::Unclear,
        };
        let (one, two) = (&self.reference, &other.reference);
        let by = match (found, interval) {
            (Some((difference, ..)), Some(MeasuredInterval { low, high })) if low < high => {
                format!("the difference is {difference:.4}, with a 95 % interval from {low:.4} to {high:.4}")
            }
            (Some((difference, ..)), Some(_)) => format!("the difference is {difference:.4}"),
            (Some((difference, ..)), None) => format!("the difference is {difference:.4}, without an interval"),
            (None, _) => "there is no difference to tell".to_owned(),
        };
        let summary = match verdict {
            ComparisonVerdict::Better => format!("{one} is better than {two}: {by}, which excludes 0"),
            ComparisonVerdict::Worse => format!("{one} is worse than {two}: {by}, which excludes 0"),
            ComparisonVerdict::Unclear => {
                format!("which of {one} and {two} is better is not clear: {by}, which does not exclude 0")
            }
            ComparisonVerdict::Unknown => format!("{one} and {two} can't be compared: one of them has no score"),
        };
        VersionDifference {
            version: one.clone(),
            against: two.clone(),
            difference: found.map(|(difference, ..)| difference),
            low: interval.map(|found| found.low),
            high: interval.map(|found| found.high),
            method: found.map(|(_, _, method)| method),
            excludes_zero: interval.map(|found| found.low > 0.0 || found.high < 0.0),
            verdict,
            summary,
        }
    }
}

/// The version that is better than each other, beyond chance, and a sentence about it.
fn best_of(versions: &[KnownScores], measure: Option<ComparedMeasure>) -> (Option<String>, String) {
    let scored = versions.iter().filter(|version| version.compared(measure).score.is_some()).count();
    if scored < 2 {
        return (None, format!("{scored} of {} versions have a score: there is nothing to compare", versions.len()));
    }
    let is_better = |one: &KnownScores| {
        let mut others = versions.iter().filter(|other| other.reference != one.reference);
        others.all(|other| one.beside(other, measure).verdict == ComparisonVerdict::Better)
    };
    match versions.iter().find(|version| is_better(version)) {
        Some(best) => {
            let reference = best.reference.clone();
            (Some(reference.clone()), format!("{reference} is better than each other version, beyond chance"))
        }
        None => (None, "no version is better than each other one beyond chance".to_owned()),
    }
}

/// The comparison of what is known of versions: each other one beside the first.
pub(super) fn report_of(
    known: &[KnownScores],
    environment: Option<String>,
    parameters: Option<Value>,
) -> VersionComparison {
    let measure = common_measure(known);
    let differences = match known {
        [first, others @ ..] => others.iter().map(|other| other.beside(first, measure)).collect(),
        [] => Vec::new(),
    };
    let (best, summary) = best_of(known, measure);
    VersionComparison {
        environment,
        parameters,
        measure,
        versions: known.iter().map(|version| version.compared(measure)).collect(),
        differences,
        best,
        summary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scores(mean: f64, deviation: f64, episodes: u64, exact: Option<f64>) -> EvaluationScores {
        serde_json::from_value(
            json!({"episodes": episodes, "mean": mean, "deviation": deviation, "least": 0.0, "most": 0.0,
            "length": 1.0, "expected_return": exact, "reference": null, "share_of_optimum": null}),
        )
        .unwrap()
    }

    fn known(reference: &str, own: Option<EvaluationScores>, seeds: &[f64], is_paired: bool) -> KnownScores {
        let seeds =
            (0..).zip(seeds).map(|(seed, mean)| (seed, format!("{reference}-{seed}"), scores(*mean, 1.0, 20, None)));
        let reason = own.is_none().then(|| "it was uploaded".to_owned());
        KnownScores { reference: reference.to_owned(), own, seeds: seeds.collect(), is_paired, reason }
    }

    const MEAN: Option<ComparedMeasure> = Some(ComparedMeasure::MeanReturn);

    #[test]
    fn one_evaluation_each_is_compared_by_its_episodes() {
        let (old, new) = (
            known("p@1", Some(scores(100.0, 30.0, 20, None)), &[], false),
            known("p@2", Some(scores(140.0, 30.0, 20, None)), &[], false),
        );
        let found = new.beside(&old, MEAN);
        assert_eq!(
            (found.verdict, found.method, found.excludes_zero),
            (ComparisonVerdict::Better, Some(ComparisonMethod::Episodes), Some(true))
        );
        // Welch by hand: deviations of samples 30.779, 38 degrees of freedom, t = 2.0244, standard error 9.7333.
        assert!(
            (found.low.unwrap() - (40.0 - 19.704)).abs() < 0.01 && (found.high.unwrap() - 59.704).abs() < 0.01,
            "{found:?}"
        );
        assert!(found.summary.starts_with("p@2 is better than p@1: the difference is 40.0000"), "{}", found.summary);
        assert_eq!(old.beside(&new, MEAN).verdict, ComparisonVerdict::Worse);
        let near = known("p@3", Some(scores(105.0, 30.0, 20, None)), &[], false);
        let unclear = near.beside(&old, MEAN);
        assert!(
            unclear.verdict == ComparisonVerdict::Unclear && unclear.summary.contains("does not exclude 0"),
            "{unclear:?}"
        );
        let one = new.compared(MEAN);
        assert!(
            one.low.unwrap() < 140.0 && one.high.unwrap() > 140.0 && one.method == Some(ComparisonMethod::Episodes)
        );
        assert_eq!(best_of(&[old.clone(), new.clone()], MEAN).0.as_deref(), Some("p@2"));
        assert_eq!(best_of(&[old, near], MEAN).0, None);
    }

    #[test]
    fn trainings_with_several_seeds_are_compared_by_them() {
        // One training of the second is the best of all, but its seeds differ too much to say so of such trainings.
        let steady = known("p@1", Some(scores(50.0, 1.0, 20, None)), &[49.0, 50.0, 51.0], false);
        let lucky = known("p@4", Some(scores(90.0, 1.0, 20, None)), &[10.0, 90.0, 60.0], false);
        let found = lucky.beside(&steady, MEAN);
        assert_eq!((found.verdict, found.method), (ComparisonVerdict::Unclear, Some(ComparisonMethod::TrainingSeeds)));
        assert!((found.difference.unwrap() - 10.0 / 3.0).abs() < 1e-9);
        let shown = steady.compared(MEAN);
        assert_eq!(
            (shown.score, shown.method, shown.seeds.len()),
            (Some(50.0), Some(ComparisonMethod::TrainingSeeds), 3)
        );
        // Student: 50 ± 4.303 / sqrt(3).
        assert!((shown.low.unwrap() - (50.0 - 2.484)).abs() < 0.01, "{shown:?}");
        // Where the other has one evaluation, the two versions themselves are compared.
        let alone = known("q@1", Some(scores(60.0, 1.0, 20, None)), &[], false);
        assert_eq!(alone.beside(&steady, MEAN).method, Some(ComparisonMethod::Episodes));
    }

    #[test]
    fn the_same_episodes_are_compared_pair_by_pair() {
        let old = known("p@1", Some(scores(0.0, 1.0, 20, None)), &[10.0, 50.0, 90.0], true);
        let new = known("p@2", Some(scores(0.0, 1.0, 20, None)), &[12.0, 53.0, 92.0], true);
        let found = new.beside(&old, MEAN);
        assert_eq!((found.verdict, found.method), (ComparisonVerdict::Better, Some(ComparisonMethod::EvaluationSeeds)));
        assert!((found.difference.unwrap() - 7.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn exact_returns_have_no_width_and_need_all_versions() {
        let exact = [
            known("p@1", Some(scores(1.0, 9.0, 10, Some(5.0))), &[], false),
            known("p@2", Some(scores(0.0, 9.0, 10, Some(5.1))), &[], false),
        ];
        let measure = common_measure(&exact);
        assert_eq!(measure, Some(ComparedMeasure::ExpectedReturn));
        let found = exact[1].beside(&exact[0], measure);
        assert_eq!(
            (found.verdict, found.method, found.low == found.high),
            (ComparisonVerdict::Better, Some(ComparisonMethod::Exact), true)
        );
        let same = exact[0].beside(&exact[0], measure);
        assert_eq!(same.verdict, ComparisonVerdict::Unclear, "equal is not better");
        let mixed = [exact[0].clone(), known("q@1", Some(scores(1.0, 1.0, 10, None)), &[], false)];
        assert_eq!(common_measure(&mixed), MEAN);
        let unknown = known("u@1", None, &[], false);
        assert_eq!(common_measure(std::slice::from_ref(&unknown)), None);
        let shown = unknown.compared(MEAN);
        assert_eq!((shown.score, shown.reason.as_deref()), (None, Some("it was uploaded")));
        let beside = unknown.beside(&exact[0], MEAN);
        assert_eq!((beside.verdict, beside.difference, beside.excludes_zero), (ComparisonVerdict::Unknown, None, None));
        assert!(best_of(&[unknown, exact[0].clone()], MEAN).1.contains("1 of 2 versions have a score"));
    }
}
