//! Figures of sweeps: scores of runs, the best trial and its margin, and the trials as a table.

use std::{collections::BTreeSet, fmt::Write as _};

use am_performance_math::interval::mean_interval;
use am_rl::runs::TrainingRun;
use serde_json::Value;

use super::model::{SweepGoal, SweepMargin, SweepReport, TrialDocument, TrialRecord};
use crate::sample_spread::sample_spread;

/// The goal's figure of a run that has ended; `None`: it has none.
pub(super) fn score_of(goal: SweepGoal, run: &TrainingRun) -> Option<f64> {
    let scored = |name: &str| run.scores.as_ref()?.get(name)?.as_f64();
    let found = match goal {
        SweepGoal::Evaluation => scored("expected_return").or_else(|| scored("mean")),
        SweepGoal::MeanReturn => scored("mean"),
        SweepGoal::LearningSpeed => {
            let returns: Vec<f64> = run.curve.iter().flatten().filter_map(|point| point.mean_return).collect();
            (!returns.is_empty()).then(|| sample_spread(&returns).0)
        }
    };
    found.filter(|score| score.is_finite())
}

/// The trial with the highest score, the first of several; `None`: none has a score.
pub(super) fn best_trial(trials: &[TrialRecord]) -> Option<i64> {
    let scored = trials.iter().filter_map(|trial| Some((trial.score?, trial.trial)));
    scored.max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1))).map(|(_, trial)| trial)
}

/// Highest score after each trial that has ended.
pub(super) fn best_scores(trials: &[TrialDocument]) -> Vec<Option<f64>> {
    let mut best: Option<f64> = None;
    let ended = trials.iter().filter(|trial| trial.ended_at.is_some());
    ended
        .map(|trial| {
            best = best.into_iter().chain(trial.score).reduce(f64::max);
            best
        })
        .collect()
}

/// The best trial beside the second; `None`: fewer than two have a score.
pub(super) fn margin(trials: &[TrialDocument]) -> Option<SweepMargin> {
    let mut scored: Vec<(f64, &TrialDocument)> =
        trials.iter().filter_map(|trial| Some((trial.score?, trial))).collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.trial.cmp(&other.1.trial)));
    let [(_, best), (_, second), ..] = scored[..] else { return None };
    // Runs stand in the order of the sweep's seeds.
    let pairs = best.runs.iter().zip(&second.runs);
    let differences: Vec<f64> = pairs.filter_map(|(one, other)| Some(one.score? - other.score?)).collect();
    let (difference, deviation, count) = sample_spread(&differences);
    let interval = mean_interval(difference, deviation, count).filter(|_| deviation > 0.0);
    Some(SweepMargin {
        best: best.trial,
        second: second.trial,
        difference,
        low: interval.map(|found| found.low),
        high: interval.map(|found| found.high),
        excludes_zero: interval.map(|found| found.low > 0.0),
    })
}

/// A cell of a table: a text with a comma, a quotation mark or a line break stands in quotation marks (RFC 4180).
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The trials as CSV: `trial`, `state`, each searched setting, `score`, `low`, `high`, and the score of each seed. What is null is an
/// empty cell; settings that are no numbers or texts are JSON.
pub fn sweep_csv(report: &SweepReport) -> String {
    let names: BTreeSet<&str> =
        report.trials.iter().flat_map(|trial| trial.settings.keys().map(String::as_str)).collect();
    let seeds: BTreeSet<u64> = report.trials.iter().flat_map(|trial| trial.runs.iter().map(|run| run.seed)).collect();
    let mut text = "trial,state".to_owned();
    for name in &names {
        text.push(',');
        text.push_str(&cell(name));
    }
    text.push_str(",score,low,high");
    for seed in &seeds {
        // Writing to a text does not fail.
        let _ = write!(text, ",seed_{seed}");
    }
    text.push('\n');
    let figure = |figure: Option<f64>| figure.map(|figure| figure.to_string()).unwrap_or_default();
    for trial in &report.trials {
        let mut cells = vec![trial.trial.to_string(), trial.state.to_string()];
        cells.extend(names.iter().map(|name| match trial.settings.get(*name) {
            None => String::new(),
            Some(Value::String(word)) => cell(word),
            Some(value) => cell(&value.to_string()),
        }));
        cells.extend([trial.score, trial.low, trial.high].map(figure));
        let scored = |seed: &u64| trial.runs.iter().find(|run| run.seed == *seed).and_then(|run| run.score);
        cells.extend(seeds.iter().map(|seed| figure(scored(seed))));
        let _ = writeln!(text, "{}", cells.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_core::ids::SweepId;
    use serde_json::json;

    fn trial(number: i64, scores: &[f64]) -> TrialDocument {
        let runs = (0..).zip(scores);
        let runs: Vec<Value> = runs
            .map(|(seed, score): (u64, &f64)| json!({"seed": seed, "run_id": "r", "status": "completed", "reference": null, "score": score}))
            .collect();
        let score = (!scores.is_empty()).then(|| sample_spread(scores).0);
        let state = if score.is_some() { "measured" } else { "failed" };
        serde_json::from_value(json!({"trial": number, "state": state, "settings": {"hidden": [8, 8], "rate": 0.5},
            "score": score, "low": null, "high": null, "runs": runs, "reason": null,
            "created_at": "2027-01-15T08:00:00Z", "ended_at": "2027-01-15T09:00:00Z"}))
        .unwrap()
    }

    #[test]
    fn the_margin_is_that_of_the_same_seeds() {
        // The seeds differ by far more than the trials do, and in the same way.
        let trials =
            [trial(1, &[10.0, 50.0, 90.0]), trial(2, &[]), trial(3, &[12.0, 53.0, 92.0]), trial(4, &[0.0, 0.0, 0.0])];
        let found = margin(&trials).unwrap();
        assert_eq!((found.best, found.second, found.excludes_zero), (3, 1, Some(true)));
        assert!((found.difference - 7.0 / 3.0).abs() < 1e-9 && found.low.unwrap() > 0.8, "{found:?}");
        assert_eq!(best_scores(&trials), [Some(50.0), Some(50.0), Some(157.0 / 3.0), Some(157.0 / 3.0)]);
        assert_eq!(margin(&trials[..2]), None);
        let same = margin(&[trial(1, &[1.0, 2.0]), trial(2, &[2.0, 3.0])]).unwrap();
        assert_eq!((same.difference, same.low, same.excludes_zero), (1.0, None, None));
        assert_eq!(margin(&[trial(1, &[1.0]), trial(2, &[2.0])]).unwrap().low, None, "one seed has no interval");
    }

    #[test]
    fn a_table_has_a_line_for_each_trial() {
        let trials = vec![trial(1, &[1.0, 2.0]), trial(2, &[])];
        let report = SweepReport {
            sweep_id: SweepId::from("sweep_1"),
            goal: SweepGoal::Evaluation,
            best_scores: best_scores(&trials),
            margin: None,
            trials,
        };
        let wanted = "trial,state,hidden,rate,score,low,high,seed_0,seed_1\n\
                      1,measured,\"[8,8]\",0.5,1.5,,,1,2\n2,failed,\"[8,8]\",0.5,,,,,\n";
        assert_eq!(sweep_csv(&report), wanted);
    }
}
