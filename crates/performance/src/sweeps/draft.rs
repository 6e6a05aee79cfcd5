//! A sweep that is asked for, checked: every fault at once, and every default filled in.

use std::{collections::BTreeMap, ops::RangeInclusive};

use am_core::{
    ids::SweepId,
    validation::{FieldPath, PathSegment, Violation, Violations},
};
use am_rl::{
    RlError,
    environments::EnvironmentSource,
    runs::{RunLabels, TrainingCaller, TrainingRuns, TrainingSpec},
};
use serde_json::{Map, Value};

use super::{
    model::{SweepDimension, SweepDraft, SweepMethod, SweepPlan},
    points::{grid_size, grid_values},
};
use crate::error::{PerformanceError, Result};

/// Settings that are tried.
const DIMENSIONS: RangeInclusive<usize> = 1..=12;
/// Values of one setting at most.
const MAX_VALUES: usize = 50;
/// Values that a range is divided into.
const POINTS: RangeInclusive<u32> = 2..=50;
/// Trials of a sweep.
const TRIALS: RangeInclusive<u32> = 1..=200;
/// Trials by default of a sweep that is no grid.
const DEFAULT_TRIALS: u32 = 12;
/// Seeds of a trial.
const SEEDS: RangeInclusive<usize> = 1..=10;
/// Tags of a sweep at most: a run of it has two besides.
const MAX_TAGS: usize = 18;
/// Characters of a value that a fault shows.
const SHOWN_CHARACTERS: usize = 100;
/// Largest whole number that is a bound.
const MAX_WHOLE: f64 = 1e15;

/// Whether a dimension can be a part of a grid.
fn is_listed(dimension: &SweepDimension) -> bool {
    !dimension.values.is_empty() || dimension.points.is_some()
}

/// What is wrong with a dimension itself.
fn check_dimension(dimension: &SweepDimension, method: SweepMethod) -> std::result::Result<(), String> {
    let SweepDimension { values, low, high, log, integer, points } = dimension;
    if !values.is_empty() {
        if values.len() > MAX_VALUES {
            return Err(format!("has at most {MAX_VALUES} values"));
        }
        if values.iter().enumerate().any(|(at, value)| values[..at].contains(value)) {
            return Err("has a value twice".to_owned());
        }
        let is_range = low.is_some() || high.is_some() || *log || *integer || points.is_some();
        return if is_range { Err("has values or a range, not both".to_owned()) } else { Ok(()) };
    }
    let (Some(low), Some(high)) = (*low, *high) else {
        return Err(
            "needs values, or the bounds of a range: {\"low\": 0.0001, \"high\": 0.01, \"log\": true}".to_owned()
        );
    };
    let whole = |bound: f64| bound.fract() == 0.0 && bound.abs() <= MAX_WHOLE;
    match points {
        _ if !(low.is_finite() && high.is_finite() && low <= high) => {
            Err("has finite bounds, the lower one not above the other".to_owned())
        }
        _ if *log && low <= 0.0 => Err("is searched by its logarithm, so its lower bound is above 0".to_owned()),
        _ if *integer && !(whole(low) && whole(high)) => Err("has whole numbers as bounds".to_owned()),
        Some(points) if !POINTS.contains(points) => Err(format!("has {} to {} points", POINTS.start(), POINTS.end())),
        Some(_) if method != SweepMethod::Grid => Err("has points on a grid only".to_owned()),
        None if method == SweepMethod::Grid => Err("needs values or points on a grid".to_owned()),
        _ => Ok(()),
    }
}

/// The values by which a dimension is checked: all that are listed, and the ends of a range.
fn tried_values(dimension: &SweepDimension) -> Vec<Value> {
    if is_listed(dimension) {
        return grid_values(dimension);
    }
    grid_values(&SweepDimension { points: Some(2), ..dimension.clone() })
}

/// Work of a run with some settings instead of the shared ones.
pub(super) fn with_settings(base: &TrainingSpec, settings: &Map<String, Value>) -> TrainingSpec {
    let mut all = base.settings.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    all.extend(settings.iter().map(|(name, value)| (name.clone(), value.clone())));
    TrainingSpec { settings: Some(Value::Object(all)), ..base.clone() }
}

/// The place of a run's fault in the request for a sweep.
fn renamed(violation: Violation) -> Violation {
    let mut path: Vec<PathSegment> = violation.path.clone().into_iter().collect();
    if let Some(first) = path.first_mut().filter(|first| **first == *"steps") {
        *first = "total_timesteps".into();
    }
    Violation { path: path.into_iter().collect::<FieldPath>(), ..violation }
}

/// Check that each value of the space can be trained with the shared settings.
fn check_values(
    space: &BTreeMap<String, SweepDimension>,
    base: &TrainingSpec,
    check: impl Fn(TrainingSpec) -> std::result::Result<TrainingSpec, RlError>,
    violations: &mut Violations,
) -> Result<()> {
    for (name, dimension) in space {
        for value in tried_values(dimension) {
            let shown: String = value.to_string().chars().take(SHOWN_CHARACTERS).collect();
            let settings = Map::from_iter([(name.clone(), value)]);
            match check(with_settings(base, &settings)) {
                Ok(_) => {}
                Err(RlError::Invalid(found)) => {
                    let text = found.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ");
                    violations.add(["space", name.as_str()], format!("{shown} can't be trained: {text}"));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn check_space(draft: &SweepDraft, method: SweepMethod, violations: &mut Violations) {
    let count = draft.space.len();
    let text = format!("has {} to {} settings", DIMENSIONS.start(), DIMENSIONS.end());
    violations.require(DIMENSIONS.contains(&count), "space", text);
    for (name, dimension) in &draft.space {
        if let Err(text) = check_dimension(dimension, method) {
            violations.add(["space", name.as_str()], text);
        }
    }
}

/// Trials at most, once the space is known to be sound.
fn checked_trials(draft: &SweepDraft, method: SweepMethod, violations: &mut Violations) -> u32 {
    let asked = draft.budget.trials;
    violations.require_within(asked, &TRIALS, ["budget", "trials"]);
    if method != SweepMethod::Grid {
        return asked.unwrap_or(DEFAULT_TRIALS);
    }
    let size = grid_size(&draft.space);
    let most = u64::from(asked.unwrap_or(*TRIALS.end()));
    let text = format!("makes {size} combinations, and {} is the most: lessen it, or set budget.trials", TRIALS.end());
    violations.require(asked.is_some() || size <= most, "space", text);
    u32::try_from(size.min(most)).unwrap_or(*TRIALS.end())
}

fn check_budget(draft: &SweepDraft, seeds: &[u64], violations: &mut Violations) {
    let one = draft.total_timesteps.saturating_mul(seeds.len() as u64);
    if let Some(steps) = draft.budget.steps {
        let text =
            format!("is less than the {one} steps of one trial: total_timesteps for each of {} seeds", seeds.len());
        violations.require(steps >= one, ["budget", "steps"], text);
    }
    let sound = draft.budget.max_seconds.is_none_or(|seconds| seconds.is_finite() && seconds > 0.0);
    violations.require(sound, ["budget", "max_seconds"], "must be more than 0");
}

fn checked_seeds(draft: &SweepDraft, most: u64, violations: &mut Violations) -> Vec<u64> {
    let seeds = draft.seeds.clone().unwrap_or_else(|| vec![0, 1, 2]);
    let text = format!("has {} to {} seeds", SEEDS.start(), SEEDS.end());
    violations.require(SEEDS.contains(&seeds.len()), "seeds", text);
    let text = format!("has more seeds than the {most} runs that you may have at a time (TRAINING_MAX_OPEN_RUNS)");
    violations.require(seeds.len() as u64 <= most, "seeds", text);
    let repeated = seeds.iter().enumerate().any(|(at, seed)| seeds[..at].contains(seed));
    violations.require(!repeated, "seeds", "has a seed twice");
    seeds
}

/// What the trials of a sweep have in common, as it was asked for.
pub(super) fn shared_spec(draft: &SweepDraft) -> TrainingSpec {
    TrainingSpec {
        environment: draft.environment.clone(),
        parameters: draft.parameters.clone(),
        algorithm: draft.algorithm,
        settings: draft.settings.clone(),
        steps: draft.total_timesteps,
        seed: 0,
        max_seconds: None,
        evaluation_episodes: draft.evaluation_episodes,
        aliases: Vec::new(),
        evaluations: 0,
        promote_if: None,
        environment_sha256: None,
        optimal_return: None,
    }
}

/// Check a sweep of `caller`, whose trials have `base` and `source` in common. This may take a second: environments are made.
///
/// # Errors
/// [`PerformanceError::Invalid`] with all faults.
pub(super) fn checked(
    draft: SweepDraft,
    (base, source): (TrainingSpec, EnvironmentSource),
    training: &TrainingRuns,
    caller: &TrainingCaller,
    id: SweepId,
) -> Result<SweepPlan> {
    let labels = RunLabels { name: draft.name.clone(), tags: draft.tags.clone() };
    let mut violations = labels.faults();
    violations.require(draft.tags.len() <= MAX_TAGS, "tags", format!("at most {MAX_TAGS} tags"));
    for (at, tag) in draft.tags.iter().enumerate() {
        let own = tag.starts_with("sweep:") || tag.starts_with("trial:");
        violations.require(!own, FieldPath::from([at]).within(["tags"]), "begins as a tag that sweeps give");
    }
    let listed = draft.space.values().all(is_listed);
    let method = draft.method.unwrap_or(if listed { SweepMethod::Grid } else { SweepMethod::Tpe });
    check_space(&draft, method, &mut violations);
    let seeds = checked_seeds(&draft, training.limits(caller.role).open_runs, &mut violations);
    check_budget(&draft, &seeds, &mut violations);
    let bridged = matches!(source, EnvironmentSource::Bridge(_));
    violations.require(!bridged, "environment", "is behind a bridge, which each run has to itself: a sweep has none");
    let base = TrainingSpec { seed: seeds.first().copied().unwrap_or_default(), ..base };
    let check = |spec: TrainingSpec| training.checked(caller, spec, source.clone());
    let base = match check(base) {
        Err(RlError::Invalid(found)) => {
            violations.extend(found.into_iter().map(renamed));
            return Err(PerformanceError::Invalid(violations.into()));
        }
        other => other?,
    };
    let is_sound = violations == Violations::default();
    let trials = if is_sound { checked_trials(&draft, method, &mut violations) } else { 0 };
    if is_sound {
        check_values(&draft.space, &base, check, &mut violations)?;
    }
    violations.finish().map_err(PerformanceError::Invalid)?;
    Ok(SweepPlan {
        policy: draft.policy.unwrap_or_else(|| id.to_string()),
        sweep_id: id,
        base,
        name: draft.name,
        tags: draft.tags,
        space: draft.space,
        method,
        seeds,
        goal: draft.goal.unwrap_or(super::model::SweepGoal::Evaluation),
        budget: draft.budget,
        trials,
        seed: draft.seed,
        role: caller.role,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fault(dimension: Value, method: SweepMethod) -> String {
        let dimension: SweepDimension = serde_json::from_value(dimension).unwrap();
        check_dimension(&dimension, method).err().unwrap_or_default()
    }

    #[test]
    fn dimensions_have_values_or_a_range() {
        for (dimension, method, words) in [
            (json!({}), SweepMethod::Tpe, "needs values, or the bounds"),
            (json!({"low": 1}), SweepMethod::Tpe, "needs values, or the bounds"),
            (json!({"low": 2, "high": 1}), SweepMethod::Tpe, "not above the other"),
            (json!({"low": 0, "high": 1, "log": true}), SweepMethod::Random, "above 0"),
            (json!({"low": 0.5, "high": 3, "integer": true}), SweepMethod::Random, "whole numbers"),
            (json!({"low": 1, "high": 3}), SweepMethod::Grid, "needs values or points"),
            (json!({"low": 1, "high": 3, "points": 1}), SweepMethod::Grid, "2 to 50 points"),
            (json!({"low": 1, "high": 3, "points": 3}), SweepMethod::Tpe, "on a grid only"),
            (json!({"values": [1, 2, 1]}), SweepMethod::Grid, "twice"),
            (json!({"values": [1], "low": 0}), SweepMethod::Grid, "not both"),
        ] {
            let found = fault(dimension.clone(), method);
            assert!(found.contains(words), "{dimension}: {found}");
        }
        assert_eq!(fault(json!({"low": 1e-5, "high": 1e-2, "log": true}), SweepMethod::Tpe), "");
        assert_eq!(fault(json!({"low": 1, "high": 9, "integer": true, "points": 3}), SweepMethod::Grid), "");
        assert_eq!(fault(json!({"values": [[8, 8], [64, 64]]}), SweepMethod::Tpe), "");
        let endless = SweepDimension { low: Some(0.0), high: Some(f64::INFINITY), ..SweepDimension::default() };
        assert!(check_dimension(&endless, SweepMethod::Tpe).unwrap_err().contains("finite"));
    }

    #[test]
    fn faults_of_a_run_stand_where_the_sweep_has_them() {
        let moved = renamed(Violation::new("steps", "must be less"));
        assert_eq!(moved.to_string(), "total_timesteps: must be less");
        let same = renamed(Violation::new(["settings", "steps"], "is too much"));
        assert_eq!(same.to_string(), "settings.steps: is too much");
    }
}
