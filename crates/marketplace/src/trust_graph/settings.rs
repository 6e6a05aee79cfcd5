//! Settings of the computation and its pre-trusted seeds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Parameters of the computation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrustSettings {
    /// Share of all trust that returns to the seeds in each round, from 0.05 to 0.95. More of it keeps trust nearer to the
    /// seeds.
    pub restart: f64,
    /// Share of an agent's trust that goes to the clients who paid it, from 0 to 1; the rest returns to the seeds.
    pub vouching: f64,
    /// Days after which a payment and its rating count half.
    pub half_life_days: f64,
    /// The iteration ends when a round changes the vector, whose sum is 1, by no more than this (L1 norm).
    pub tolerance: f64,
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self { restart: 0.25, vouching: 0.5, half_life_days: 90.0, tolerance: 1e-12 }
    }
}

/// A setting with a value that it can't have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} must be {expected}, not {value}")]
pub struct SettingFault {
    /// Name of the setting.
    pub field: &'static str,
    /// Values that it can have.
    pub expected: &'static str,
    /// Value that it has.
    pub value: f64,
}

impl TrustSettings {
    /// Check that the iteration converges with these settings.
    ///
    /// # Errors
    /// Returns the first setting that is out of its range.
    pub fn check(&self) -> Result<(), SettingFault> {
        let ranges = [
            ("restart", self.restart, 0.05..=0.95, "from 0.05 to 0.95"),
            ("vouching", self.vouching, 0.0..=1.0, "from 0 to 1"),
            ("half_life_days", self.half_life_days, 1.0..=36_500.0, "from 1 to 36500"),
            ("tolerance", self.tolerance, 1e-14..=1e-3, "from 1e-14 to 1e-3"),
        ];
        match ranges.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
            Some((field, value, _, expected)) => Err(SettingFault { field, expected, value }),
            None => Ok(()),
        }
    }

    /// Rounds after which two vectors can't differ by more than the tolerance, wherever they began: they differ by 2 at most,
    /// and each round leaves `1 - restart` of it.
    pub fn max_rounds(&self) -> u32 {
        let rounds = (self.tolerance / 2.0).ln() / (1.0 - self.restart).ln();
        rounds.ceil().max(0.0) as u32 + 1
    }
}

/// Whom the operator trusts beforehand, such as its own accounts. All seeds get the same share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustSeeds {
    /// Clients, by the identity that their ratings have.
    pub raters: Vec<String>,
    /// Agents, by their ids.
    pub agents: Vec<String>,
}

/// Where trust comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrustSeeding {
    /// From the configured seeds.
    Named,
    /// From all raters alike, because no seeds are configured. Accounts that only rate each other are then not held back.
    EveryRater,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        assert_eq!(TrustSettings::default().check(), Ok(()));
        let faults = [
            ("restart", TrustSettings { restart: 0.0, ..Default::default() }),
            ("restart", TrustSettings { restart: f64::NAN, ..Default::default() }),
            ("vouching", TrustSettings { vouching: 1.1, ..Default::default() }),
            ("half_life_days", TrustSettings { half_life_days: 0.0, ..Default::default() }),
            ("tolerance", TrustSettings { tolerance: 0.0, ..Default::default() }),
        ];
        for (field, settings) in faults {
            assert_eq!(settings.check().unwrap_err().field, field, "{settings:?}");
        }
    }

    #[test]
    fn bound_of_rounds_follows_from_restart_and_tolerance() {
        let settings = TrustSettings { restart: 0.5, tolerance: 0.25, ..Default::default() };
        // 2 * 0.5^3 = 0.25.
        assert_eq!(settings.max_rounds(), 4);
        assert!(TrustSettings::default().max_rounds() <= 101);
    }
}
