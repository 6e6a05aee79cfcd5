//! When a deployment raises an alert, and when it is over. Rules without I/O.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Looks in a row that must agree before an alert is raised.
const RAISE_AFTER: u32 = 2;
/// Looks in a row that must agree before an alert is over.
const RESOLVE_AFTER: u32 = 3;

am_db::stored_enum! {
    /// What an alert is about.
    pub enum DeploymentAlertRule {
        /// Processor time of the instances over the cores that they are meant to have.
        CpuUsage = "CPU_USAGE" / "cpu_usage",
        /// Memory of the instances over what they may have.
        MemoryUsage = "MEMORY_USAGE" / "memory_usage",
        /// Calls that failed over all calls.
        ErrorRate = "ERROR_RATE" / "error_rate",
        /// Mean seconds of a call.
        ResponseTime = "RESPONSE_TIME" / "response_time",
        /// Instances that are not healthy over those that are wanted.
        InstanceHealth = "INSTANCE_HEALTH" / "instance_health",
        /// A rollout was undone. It is over with the next one that is promoted.
        RolloutUndone = "ROLLOUT_UNDONE" / "rollout_undone",
    }
}

am_db::stored_enum! {
    /// How urgent an alert of a deployment is.
    pub enum DeploymentAlertSeverity {
        /// Somebody should look at it.
        High = "HIGH" / "high",
        /// Somebody should look at it now.
        Critical = "CRITICAL" / "critical",
    }
}

am_db::stored_enum! {
    /// State of an alert of a deployment.
    pub enum DeploymentAlertState {
        /// Nobody has taken note of it.
        Open = "OPEN" / "open",
        /// Somebody has taken note.
        Acknowledged = "ACKNOWLEDGED" / "acknowledged",
        /// It is over.
        Resolved = "RESOLVED" / "resolved",
    }
}

/// Two limits of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentThreshold)]
pub struct AlertThreshold {
    /// From here on the alert is `high`.
    pub warning: f64,
    /// From here on it is `critical`.
    pub critical: f64,
}

/// The limits from which a deployment's figures raise alerts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = DeploymentThresholds)]
pub struct AlertThresholds {
    /// Percent of the cores. Default 80 and 90.
    pub cpu_usage: AlertThreshold,
    /// Percent of the memory. Default 85 and 95.
    pub memory_usage: AlertThreshold,
    /// Percent of the calls that fail. Default 5 and 10.
    pub error_rate: AlertThreshold,
    /// Mean seconds of a call. Default 2 and 5.
    pub response_time: AlertThreshold,
}

impl Default for AlertThresholds {
    fn default() -> Self {
        let of = |warning, critical| AlertThreshold { warning, critical };
        Self {
            cpu_usage: of(80.0, 90.0),
            memory_usage: of(85.0, 95.0),
            error_rate: of(5.0, 10.0),
            response_time: of(2.0, 5.0),
        }
    }
}

impl AlertThreshold {
    /// How urgent `value` is; `None`: it is not.
    pub fn judge(&self, value: f64) -> Option<DeploymentAlertSeverity> {
        if value >= self.critical {
            Some(DeploymentAlertSeverity::Critical)
        } else if value >= self.warning {
            Some(DeploymentAlertSeverity::High)
        } else {
            None
        }
    }

    /// Whether both limits are numbers above zero, the second no lower than the first.
    pub fn is_sound(&self) -> bool {
        self.warning > 0.0 && self.critical >= self.warning && self.critical.is_finite()
    }
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertChange {
    /// It is raised.
    Raise(DeploymentAlertSeverity),
    /// It has become this urgent.
    Escalate(DeploymentAlertSeverity),
    /// It is over.
    Resolve,
}

/// What was seen of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertTrack {
    raised: Option<DeploymentAlertSeverity>,
    bad: u32,
    good: u32,
}

impl AlertTrack {
    /// The track of an alert that is stored already.
    pub fn of_raised(severity: DeploymentAlertSeverity) -> Self {
        Self { raised: Some(severity), bad: 0, good: 0 }
    }

    /// Take in a look: how urgent it is, or that it is not. An alert is raised once for all looks that agree; it becomes more urgent
    /// at once, and no less urgent until it is over.
    pub fn observe(&mut self, found: Option<DeploymentAlertSeverity>) -> Option<AlertChange> {
        let Some(severity) = found else {
            (self.bad, self.good) = (0, self.good + 1);
            let over = self.raised.is_some() && self.good >= RESOLVE_AFTER;
            return over.then(|| {
                self.raised = None;
                AlertChange::Resolve
            });
        };
        (self.bad, self.good) = (self.bad + 1, 0);
        match self.raised {
            None if self.bad >= RAISE_AFTER => {
                self.raised = Some(severity);
                Some(AlertChange::Raise(severity))
            }
            Some(before) if severity > before => {
                self.raised = Some(severity);
                Some(AlertChange::Escalate(severity))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use DeploymentAlertSeverity::{Critical, High};

    #[test]
    fn an_alert_is_raised_once_grows_and_is_over() {
        let mut track = AlertTrack::default();
        let looks =
            [Some(High), None, Some(High), Some(High), Some(High), Some(Critical), Some(High), None, None, None, None];
        let changes: Vec<Option<AlertChange>> = looks.into_iter().map(|look| track.observe(look)).collect();
        let mut wanted = vec![None; looks.len()];
        wanted[3] = Some(AlertChange::Raise(High));
        wanted[5] = Some(AlertChange::Escalate(Critical));
        wanted[9] = Some(AlertChange::Resolve);
        assert_eq!(changes, wanted);
    }

    #[test]
    fn limits_are_inclusive() {
        let limits = AlertThresholds::default().error_rate;
        assert_eq!(
            [4.9, 5.0, 9.9, 10.0].map(|value| limits.judge(value)),
            [None, Some(High), Some(High), Some(Critical)]
        );
        assert!(limits.is_sound() && !AlertThreshold { warning: 5.0, critical: 4.0 }.is_sound());
        assert!(!AlertThreshold { warning: f64::NAN, critical: 4.0 }.is_sound());
    }

    proptest! {
        /// Raised and over take turns, whatever is seen.
        #[test]
        fn raised_and_over_take_turns(looks in proptest::collection::vec(0u8..3, 1..200)) {
            let mut track = AlertTrack::default();
            let mut raised = false;
            for look in looks {
                let found = [None, Some(High), Some(Critical)][usize::from(look)];
                match track.observe(found) {
                    Some(AlertChange::Raise(_)) => prop_assert!(!std::mem::replace(&mut raised, true)),
                    Some(AlertChange::Escalate(_)) => prop_assert!(raised),
                    Some(AlertChange::Resolve) => prop_assert!(std::mem::replace(&mut raised, false)),
                    None => {}
                }
            }
        }
    }
}
