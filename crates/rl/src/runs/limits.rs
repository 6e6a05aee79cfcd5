//! How much training one caller may ask for.

use crate::error::{Result, RlError};

/// Limits of one caller.
#[derive(Clone, Copy, Debug)]
pub struct TrainingLimits {
    /// Most steps of one run.
    pub steps: u64,
    /// Setting that says so.
    pub setting: &'static str,
    /// Most runs that have not ended.
    pub open_runs: u64,
}

impl TrainingLimits {
    /// Refuse a run with too many steps.
    pub(super) fn check_steps(&self, steps: u64) -> Result<()> {
        if steps <= self.steps {
            return Ok(());
        }
        let Self { steps: most, setting, .. } = self;
        Err(RlError::invalid(
            "steps",
            format!("{steps} is more than the {most} that a run of yours may have ({setting})"),
        ))
    }

    /// Refuse one more run where `open` have not ended.
    pub(super) fn check_open(&self, open: i64) -> Result<()> {
        if open.unsigned_abs() < self.open_runs {
            return Ok(());
        }
        Err(RlError::Quota(format!(
            "{open} training runs of yours have not ended, and {} is the most (TRAINING_MAX_OPEN_RUNS): wait for one, or cancel one",
            self.open_runs
        )))
    }
}
