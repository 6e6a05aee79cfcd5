//! What the functions of this crate refuse, with the argument that is at fault.

use crate::{MAX_ASSETS, MAX_PERIODS};

/// Why no figure was computed. `argument` is the name of the argument at fault, as the function documents it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MathError {
    /// There are fewer values than the figure needs.
    #[error("{argument} needs at least {least} values, and has {found}")]
    TooFew {
        /// The argument at fault.
        argument: &'static str,
        /// Values that are needed.
        least: usize,
        /// Values that there are.
        found: usize,
    },
    /// There are more values than one call computes.
    #[error("{argument} may have {most} values at most, and has {found}")]
    TooMany {
        /// The argument at fault.
        argument: &'static str,
        /// Values that are allowed.
        most: usize,
        /// Values that there are.
        found: usize,
    },
    /// A value is infinite or not a number.
    #[error("{argument} has a value that is not finite, at {at}")]
    NotFinite {
        /// The argument at fault.
        argument: &'static str,
        /// The value's index, row by row in a matrix.
        at: usize,
    },
    /// The number of values does not fit the other arguments.
    #[error("{argument} needs {expected} values, and has {found}")]
    Length {
        /// The argument at fault.
        argument: &'static str,
        /// Values that the other arguments ask for.
        expected: usize,
        /// Values that there are.
        found: usize,
    },
    /// A value is outside its range.
    #[error("{argument}: {reason}")]
    Invalid {
        /// The argument at fault.
        argument: &'static str,
        /// Which value, and what its range is.
        reason: String,
    },
    /// No weights satisfy the limits and the target together.
    #[error("{argument}: {reason}")]
    Infeasible {
        /// The argument at fault.
        argument: &'static str,
        /// What can't be satisfied, and what could be.
        reason: String,
    },
    /// The method stopped without an answer of the wanted accuracy.
    #[error("no solution of the wanted accuracy: {reason}")]
    NotSolved {
        /// Why the method stopped.
        reason: String,
    },
}

/// The result of a computation.
pub type Result<T> = std::result::Result<T, MathError>;

impl MathError {
    /// The name of the argument at fault; `objective` if the method itself gave up.
    pub fn argument(&self) -> &'static str {
        match self {
            Self::TooFew { argument, .. }
            | Self::TooMany { argument, .. }
            | Self::NotFinite { argument, .. }
            | Self::Length { argument, .. }
            | Self::Invalid { argument, .. }
            | Self::Infeasible { argument, .. } => argument,
            Self::NotSolved { .. } => "objective",
        }
    }

    pub(crate) fn invalid(argument: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { argument, reason: reason.into() }
    }
}

/// Refuses values that are infinite or not a number.
pub(crate) fn finite(argument: &'static str, values: &[f64]) -> Result<()> {
    values.iter().position(|value| !value.is_finite()).map_or(Ok(()), |at| Err(MathError::NotFinite { argument, at }))
}

/// Refuses a list that is not as long as the others.
pub(crate) fn length(argument: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(MathError::Length { argument, expected, found }) }
}

/// Refuses a list with too few values.
pub(crate) fn at_least(argument: &'static str, least: usize, found: usize) -> Result<()> {
    if found >= least { Ok(()) } else { Err(MathError::TooFew { argument, least, found }) }
}

/// Refuses more periods or assets than one call computes.
pub(crate) fn bounded(argument: &'static str, periods: usize, assets: usize) -> Result<()> {
    let refuse = |most, found| if found > most { Err(MathError::TooMany { argument, most, found }) } else { Ok(()) };
    refuse(MAX_PERIODS, periods).and(refuse(MAX_ASSETS, assets))
}

/// Refuses a number that is not above zero.
pub(crate) fn positive(argument: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(MathError::invalid(argument, format!("{value} is not above 0")))
    }
}

/// Refuses a number outside `least` to `most`.
pub(crate) fn within(argument: &'static str, value: f64, least: f64, most: f64) -> Result<()> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(MathError::invalid(argument, format!("{value} is not from {least} to {most}")))
    }
}
