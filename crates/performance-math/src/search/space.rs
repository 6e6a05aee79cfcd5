//! The space that is searched: named dimensions, each with its bounds, and their images in the unit interval.

use serde::{Deserialize, Serialize};

/// A dimension of a search space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SearchDimension {
    /// A number between two bounds.
    Float {
        /// Lower bound, included.
        low: f64,
        /// Upper bound, included.
        high: f64,
        /// Whether it is searched by its logarithm.
        #[serde(default)]
        log: bool,
    },
    /// A whole number between two bounds, both included.
    Integer {
        /// Lower bound, included.
        low: i64,
        /// Upper bound, included.
        high: i64,
        /// Whether it is searched by its logarithm.
        #[serde(default)]
        log: bool,
    },
    /// One of so many choices without an order, as its index.
    Choice {
        /// Number of choices.
        count: usize,
    },
}

/// Why a space can't be searched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpaceError(pub String);

impl SearchDimension {
    fn check(&self, name: &str) -> Result<(), SpaceError> {
        let (low, high, log) = match self {
            Self::Choice { count } if *count == 0 => return Err(SpaceError(format!("{name} has no choices"))),
            Self::Choice { .. } => return Ok(()),
            Self::Float { low, high, log } => (*low, *high, *log),
            Self::Integer { low, high, log } => (*low as f64, *high as f64, *log),
        };
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(SpaceError(format!(
                "the bounds of {name} must be finite, and the lower one not above the other"
            )));
        }
        if log && low <= 0.0 {
            return Err(SpaceError(format!("{name} is searched by its logarithm, so its lower bound must be above 0")));
        }
        Ok(())
    }

    /// Bounds in the scale in which it is searched. A whole number has half a unit more on both sides, so that each is as likely.
    fn scale(&self) -> (f64, f64, bool) {
        match *self {
            Self::Float { low, high, log } => (low, high, log),
            Self::Integer { low, high, log } => (low as f64 - 0.5, high as f64 + 0.5, log),
            Self::Choice { count } => (0.0, count as f64, false),
        }
    }

    /// The value at `unit` of the unit interval; of choices, the index.
    pub fn value(&self, unit: f64) -> f64 {
        let (low, high, log) = self.scale();
        let unit = unit.clamp(0.0, 1.0);
        let at = if log { (low.ln() + unit * (high.ln() - low.ln())).exp() } else { low + unit * (high - low) };
        match *self {
            Self::Float { .. } => at.clamp(low, high),
            Self::Integer { low, high, .. } => at.round().clamp(low as f64, high as f64),
            Self::Choice { count } => at.floor().clamp(0.0, count.saturating_sub(1) as f64),
        }
    }

    /// The place of a value in the unit interval.
    pub fn unit(&self, value: f64) -> f64 {
        let (low, high, log) = self.scale();
        let at = match self {
            Self::Choice { .. } => value + 0.5,
            _ => value,
        };
        let (low, high, at) = if log { (low.ln(), high.ln(), at.max(low).ln()) } else { (low, high, at) };
        if high > low { ((at - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
    }

    /// Number of choices; `None` where values have an order.
    pub fn choices(&self) -> Option<usize> {
        match self {
            Self::Choice { count } => Some(*count),
            _ => None,
        }
    }
}

/// A space of named dimensions. A point of it is one value a dimension, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchSpace {
    /// The dimensions with their names.
    pub dimensions: Vec<(String, SearchDimension)>,
}

impl SearchSpace {
    /// Check the bounds.
    ///
    /// # Errors
    /// With the name of the dimension that can't be searched.
    pub fn check(&self) -> Result<(), SpaceError> {
        self.dimensions.iter().try_for_each(|(name, dimension)| dimension.check(name))
    }

    /// The point at these places of the unit cube.
    pub fn point(&self, units: &[f64]) -> Vec<f64> {
        self.dimensions.iter().zip(units).map(|((_, dimension), unit)| dimension.value(*unit)).collect()
    }

    /// The places of a point in the unit cube.
    pub fn units(&self, point: &[f64]) -> Vec<f64> {
        self.dimensions.iter().zip(point).map(|((_, dimension), value)| dimension.unit(*value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_and_choices_are_all_reached() {
        let integer = SearchDimension::Integer { low: 2, high: 5, log: false };
        let found: Vec<f64> = (0..=100).map(|at| integer.value(f64::from(at) / 100.0)).collect();
        assert_eq!((found[0], found[100]), (2.0, 5.0));
        for wanted in 2..=5 {
            let times = found.iter().filter(|value| **value == f64::from(wanted)).count();
            assert!((24..=27).contains(&times), "{wanted}: {times}");
        }
        let choice = SearchDimension::Choice { count: 3 };
        assert_eq!([0.0, 0.34, 1.0].map(|unit| choice.value(unit)), [0.0, 1.0, 2.0]);
    }

    #[test]
    fn what_cannot_be_searched_is_named() {
        let space = |dimension| SearchSpace { dimensions: vec![("rate".to_owned(), dimension)] };
        let refused = [
            SearchDimension::Float { low: 2.0, high: 1.0, log: false },
            SearchDimension::Float { low: 0.0, high: f64::INFINITY, log: false },
            SearchDimension::Float { low: 0.0, high: 1.0, log: true },
            SearchDimension::Integer { low: 0, high: 3, log: true },
            SearchDimension::Choice { count: 0 },
        ];
        for dimension in refused {
            let error = space(dimension.clone()).check().unwrap_err();
            assert!(error.0.contains("rate"), "{dimension:?}: {error}");
        }
        assert_eq!(space(SearchDimension::Float { low: 1.0, high: 1.0, log: true }).check(), Ok(()));
    }

    proptest! {
        #[test]
        fn a_value_comes_back_from_the_unit_interval(unit in 0.0..=1.0_f64, low in 0.001..10.0_f64, width in 0.1..1e4_f64, log: bool) {
            let dimension = SearchDimension::Float { low, high: low + width, log };
            let value = dimension.value(unit);
            prop_assert!((dimension.unit(value) - unit).abs() < 1e-6);
            let whole = SearchDimension::Integer { low: 1, high: 1 + width as i64, log };
            let value = whole.value(unit);
            prop_assert_eq!(whole.value(whole.unit(value)), value);
        }
    }
}
