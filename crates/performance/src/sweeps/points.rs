//! The trials that a sweep makes: points of its space, by its method.

use std::collections::BTreeMap;

use am_performance_math::search::{SearchDimension, SearchSpace, TpeSearch};
use serde_json::{Map, Value, json};

use super::model::{SweepDimension, SweepMethod, SweepPlan, TrialRecord};

/// Numbers that a double's digits hold, as a divisor of 53 bits.
const UNIT: f64 = (1u64 << 53) as f64;

/// A random number from 0 to below 1 that depends on these three only (SplitMix64, Steele, Lea and Flood 2014).
fn drawn_unit(seed: u64, trial: u64, dimension: u64) -> f64 {
    let mut mixed = seed
        .wrapping_add(trial.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(dimension.wrapping_add(1).wrapping_mul(0xd1b5_4a32_d192_ed03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / UNIT
}

/// The bounds of a range, which are checked already.
fn bounds(dimension: &SweepDimension) -> (f64, f64) {
    (dimension.low.unwrap_or_default(), dimension.high.unwrap_or_default())
}

fn search_dimension(dimension: &SweepDimension) -> SearchDimension {
    let ((low, high), log) = (bounds(dimension), dimension.log);
    match (dimension.values.len(), dimension.integer) {
        (0, false) => SearchDimension::Float { low, high, log },
        (0, true) => SearchDimension::Integer { low: low as i64, high: high as i64, log },
        (count, _) => SearchDimension::Choice { count },
    }
}

/// The space as it is searched.
pub(super) fn search_space(space: &BTreeMap<String, SweepDimension>) -> SearchSpace {
    let dimensions = space.iter().map(|(name, dimension)| (name.clone(), search_dimension(dimension)));
    SearchSpace { dimensions: dimensions.collect() }
}

/// The value of a setting at a number of the searched space.
fn value_at(dimension: &SweepDimension, number: f64) -> Value {
    match (dimension.values.is_empty(), dimension.integer) {
        (false, _) => dimension.values.get(number as usize).cloned().unwrap_or_default(),
        (true, true) => json!(number as i64),
        (true, false) => json!(number),
    }
}

/// The values of a setting on a grid, different and in order. Both ends of a range belong to it.
pub(super) fn grid_values(dimension: &SweepDimension) -> Vec<Value> {
    if !dimension.values.is_empty() {
        return dimension.values.clone();
    }
    let points = dimension.points.unwrap_or(1);
    let (low, high) = bounds(dimension);
    let place = |at: u32| {
        let share = if points > 1 { f64::from(at) / f64::from(points - 1) } else { 0.0 };
        let number = match at {
            0 => low,
            at if at + 1 == points => high,
            _ if dimension.log => (low.ln() + share * (high.ln() - low.ln())).exp(),
            _ => low + share * (high - low),
        };
        value_at(dimension, if dimension.integer { number.round() } else { number })
    };
    let mut values: Vec<Value> = (0..points).map(place).collect();
    values.dedup();
    values
}

/// Combinations of a grid.
pub(super) fn grid_size(space: &BTreeMap<String, SweepDimension>) -> u64 {
    space.values().fold(1, |size: u64, dimension| size.saturating_mul(grid_values(dimension).len() as u64))
}

/// The combination of this number, from 0, of a grid: the last name's values change first.
fn grid_point(space: &BTreeMap<String, SweepDimension>, number: u64) -> Map<String, Value> {
    let mut rest = number;
    let mut settings: Vec<(String, Value)> = Vec::with_capacity(space.len());
    for (name, dimension) in space.iter().rev() {
        let values = grid_values(dimension);
        let count = values.len().max(1) as u64;
        let at = usize::try_from(rest % count).unwrap_or_default();
        settings.push((name.clone(), values.into_iter().nth(at).unwrap_or_default()));
        rest /= count;
    }
    settings.into_iter().rev().collect()
}

/// Settings and place of the trial after `before`. The same trials before give the same one, whatever process asks.
pub(super) fn next_trial(plan: &SweepPlan, before: &[TrialRecord]) -> (Map<String, Value>, Vec<f64>) {
    let number = before.len() as u64;
    let space = search_space(&plan.space);
    let point = match plan.method {
        SweepMethod::Grid => return (grid_point(&plan.space, number), Vec::new()),
        SweepMethod::Random => {
            let units: Vec<f64> =
                (0..space.dimensions.len() as u64).map(|at| drawn_unit(plan.seed, number, at)).collect();
            space.point(&units)
        }
        SweepMethod::Tpe => {
            let mut search = TpeSearch::new(space, plan.seed);
            for trial in before {
                // The search minimises.
                search.tell(trial.point.clone(), trial.score.map_or(f64::NAN, |score| -score));
            }
            search.suggest()
        }
    };
    let named = plan.space.iter().zip(&point);
    (named.map(|((name, dimension), number)| (name.clone(), value_at(dimension, *number))).collect(), point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(value: Value) -> BTreeMap<String, SweepDimension> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let space = space(json!({
            "a": {"values": [1, 2]},
            "b": {"low": 0.001, "high": 0.1, "log": true, "points": 3},
            "c": {"low": 1, "high": 2, "integer": true, "points": 5},
        }));
        assert_eq!(grid_size(&space), 2 * 3 * 2, "whole numbers are not repeated");
        let all: Vec<Map<String, Value>> = (0..12).map(|number| grid_point(&space, number)).collect();
        assert_eq!(Value::Object(all[0].clone()), json!({"a": 1, "b": 0.001, "c": 1}));
        assert_eq!(all[1]["c"], 2);
        assert!((all[2]["b"].as_f64().unwrap() - 0.01).abs() < 1e-12);
        assert_eq!(Value::Object(all[11].clone()), json!({"a": 2, "b": 0.1, "c": 2}));
        assert!((0..12).all(|at| (0..at).all(|other| all[at] != all[other])));
    }

    #[test]
    fn draws_are_even_and_depend_on_the_seed() {
        let units: Vec<f64> = (0..4000).map(|trial| drawn_unit(7, trial, 1)).collect();
        let mean = units.iter().sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02 && units.iter().all(|unit| (0.0..1.0).contains(unit)), "{mean}");
        let below = units.iter().filter(|unit| **unit < 0.1).count();
        assert!((320..480).contains(&below), "{below}");
        assert_ne!(drawn_unit(7, 3, 1), drawn_unit(8, 3, 1));
        assert_ne!(drawn_unit(7, 3, 1), drawn_unit(7, 3, 2));
    }

    proptest! {
        #[test]
        fn every_number_of_a_space_is_a_value_of_it(unit in 0.0..=1.0_f64, low in 1.0..50.0_f64, width in 1.0..1e4_f64, log: bool, integer: bool) {
            let (low, high) = if integer { (low.round(), (low + width).round()) } else { (low, low + width) };
            let range = SweepDimension { low: Some(low), high: Some(high), log, integer, ..SweepDimension::default() };
            let value = value_at(&range, search_dimension(&range).value(unit));
            let number = value.as_f64().unwrap();
            prop_assert!(number >= low - 1e-9 * low && number <= high + 1e-9 * high, "{}", number);
            prop_assert_eq!(value.is_i64(), integer);
            let words = SweepDimension { values: vec![json!("a"), json!([8, 8]), json!(null)], ..SweepDimension::default() };
            let value = value_at(&words, search_dimension(&words).value(unit));
            prop_assert!(words.values.contains(&value));
        }
    }
}
