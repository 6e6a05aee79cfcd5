//! How a new revision takes the place of the one that serves. Rules without I/O: [`Rollout::decide`] looks at the instances as they
//! are and says what to do next. It asks what is there, not what was done before, so a rollout goes on after a crash from whatever
//! the crash left.

mod trial;

use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::trial::{CanaryTrial, SequentialTest, TrialBaseline, TrialVerdict};

/// Share of the calls that a canary gets.
pub const CANARY_SHARE: f64 = 0.2;

am_db::stored_enum! {
    /// How a new revision takes the place of the old one.
    pub enum RolloutStrategy {
        /// One instance after the other: the next old one ends when the new one before it is healthy.
        Rolling = "ROLLING" / "rolling",
        /// All new instances beside all old ones; calls go to the new ones at once when all of them are healthy.
        BlueGreen = "BLUE_GREEN" / "blue-green",
        /// One new instance gets a share of the calls, and is promoted or undone by what becomes of them.
        Canary = "CANARY" / "canary",
    }
}

am_db::stored_enum! {
    /// Where a rollout is.
    pub enum RolloutPhase {
        /// New instances start.
        Starting = "STARTING" / "starting",
        /// A canary gets its share of the calls.
        Trial = "TRIAL" / "trial",
        /// New instances take the place of old ones.
        Replacing = "REPLACING" / "replacing",
    }
}

/// A rollout under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentRollout)]
pub struct Rollout {
    /// How it is done.
    pub strategy: RolloutStrategy,
    /// Where it is.
    pub phase: RolloutPhase,
    /// Revision that is rolled out.
    pub target: i64,
    /// Revision that served before; null: none.
    pub previous: Option<i64>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it is undone if it has not ended by then.
    pub deadline: Timestamp,
    /// The canary's trial; null: none is under way.
    pub trial: Option<CanaryTrial>,
}

/// An instance as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetMember {
    /// Id of the instance.
    pub id: String,
    /// Revision that it serves.
    pub revision: i64,
    /// Whether its last health check was good, and its process runs.
    pub healthy: bool,
    /// Whether its supervisor has given it up.
    pub given_up: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetStep {
    /// Start an instance of this revision.
    Start(i64),
    /// Send this instance no more calls, and end it when those under way are answered.
    Drain(String),
    /// The rollout enters this phase.
    Enter(RolloutPhase),
    /// The new revision serves from now on, for this reason.
    Promote(String),
    /// The rollout is undone, for this reason: the old revision serves as before.
    Undo(String),
}

impl Rollout {
    /// What to do next towards `desired` instances, with the members that are not being drained. Nothing: wait.
    pub fn decide(&self, desired: usize, members: &[FleetMember], now: Timestamp) -> Vec<FleetStep> {
        let target: Vec<&FleetMember> = members.iter().filter(|one| one.revision == self.target).collect();
        let old: Vec<&FleetMember> = members.iter().filter(|one| one.revision != self.target).collect();
        let healthy = target.iter().filter(|one| one.healthy).count();
        if let Some(lost) = target.iter().find(|one| one.given_up) {
            return vec![FleetStep::Undo(format!("instance {} of the new revision ends again and again", lost.id))];
        }
        if now >= self.deadline {
            return vec![FleetStep::Undo(self.overdue(desired, healthy))];
        }
        match (self.phase, self.strategy) {
            (RolloutPhase::Starting, RolloutStrategy::Canary) if self.previous.is_some() => {
                if target.is_empty() {
                    vec![FleetStep::Start(self.target)]
                } else if healthy == target.len() {
                    vec![FleetStep::Enter(RolloutPhase::Trial)]
                } else {
                    Vec::new()
                }
            }
            (RolloutPhase::Trial, _) => match self.trial.map(|trial| trial.verdict()) {
                Some(TrialVerdict::Good(_)) => vec![FleetStep::Enter(RolloutPhase::Replacing)],
                Some(TrialVerdict::Bad(reason)) => vec![FleetStep::Undo(reason)],
                Some(TrialVerdict::Open) | None => Vec::new(),
            },
            (_, RolloutStrategy::BlueGreen) | (RolloutPhase::Starting, RolloutStrategy::Canary) => {
                self.all_at_once(desired, &target, healthy)
            }
            (_, RolloutStrategy::Rolling | RolloutStrategy::Canary) => self.one_by_one(desired, &target, &old, healthy),
        }
    }

    /// All new instances start; the new revision serves when all are healthy, and the old ones end after that.
    fn all_at_once(&self, desired: usize, target: &[&FleetMember], healthy: usize) -> Vec<FleetStep> {
        if target.len() < desired {
            return vec![FleetStep::Start(self.target); desired - target.len()];
        }
        if healthy < target.len() {
            return Vec::new();
        }
        vec![FleetStep::Promote(format!("all {healthy} instances of the new revision are healthy"))]
    }

    fn one_by_one(
        &self,
        desired: usize,
        target: &[&FleetMember],
        old: &[&FleetMember],
        healthy: usize,
    ) -> Vec<FleetStep> {
        if healthy < target.len() {
            return Vec::new();
        }
        // Those that serve nobody go first, and never so many that fewer than wanted are left.
        let spare = (healthy + old.len()).saturating_sub(desired);
        if spare > 0 && !old.is_empty() {
            let ill = old.iter().find(|one| !one.healthy).or_else(|| old.first());
            return ill.map(|one| FleetStep::Drain(one.id.clone())).into_iter().collect();
        }
        if target.len() < desired {
            return vec![FleetStep::Start(self.target)];
        }
        vec![FleetStep::Promote(format!("all {healthy} instances are of the new revision and healthy"))]
    }

    fn overdue(&self, desired: usize, healthy: usize) -> String {
        match (&self.trial, self.phase) {
            (Some(trial), RolloutPhase::Trial) => {
                let calls = trial.errors.calls;
                format!("its deadline passed before the canary's {calls} calls could decide")
            }
            _ => format!("its deadline passed with {healthy} of {desired} instances healthy"),
        }
    }

    /// Share of the calls that go to the new revision's instances; `None`: calls go to all healthy instances alike.
    pub fn target_share(&self) -> Option<f64> {
        match (self.phase, self.strategy, self.previous) {
            (_, _, None) => Some(1.0),
            (RolloutPhase::Trial, ..) => Some(CANARY_SHARE),
            (RolloutPhase::Starting, RolloutStrategy::Canary, _) | (_, RolloutStrategy::BlueGreen, _) => Some(0.0),
            (_, RolloutStrategy::Rolling | RolloutStrategy::Canary, _) => None,
        }
    }
}

/// What to do next where no rollout is under way: as many instances of the serving revision as wanted, none of others.
pub fn settle(serving: i64, desired: usize, members: &[FleetMember]) -> Vec<FleetStep> {
    let (own, others): (Vec<&FleetMember>, Vec<&FleetMember>) = members.iter().partition(|one| one.revision == serving);
    let healthy = own.iter().filter(|one| one.healthy).count();
    let mut steps = vec![FleetStep::Start(serving); desired.saturating_sub(own.len())];
    // After a switch the new ones are healthy already; after an undone rollout the old ones may still have to start.
    if healthy >= desired.min(own.len()) {
        steps.extend(others.iter().map(|one| FleetStep::Drain(one.id.clone())));
    }
    let mut spare: Vec<&&FleetMember> = own.iter().collect();
    spare.sort_by_key(|one| one.healthy);
    let spare = spare.into_iter().take(own.len().saturating_sub(desired));
    steps.extend(spare.map(|one| FleetStep::Drain(one.id.clone())));
    steps
}

#[cfg(test)]
mod tests;
