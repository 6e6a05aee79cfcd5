use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp(DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds))
}

fn rollout(strategy: RolloutStrategy, previous: Option<i64>) -> Rollout {
    Rollout {
        strategy,
        phase: RolloutPhase::Starting,
        target: 2,
        previous,
        started_at: at(0),
        deadline: at(1000),
        trial: None,
    }
}

fn member(id: u32, revision: i64, healthy: bool) -> FleetMember {
    FleetMember { id: format!("i{id}"), revision, healthy, given_up: false }
}

/// A fleet whose instances become healthy and whose canary's calls go as `failing` says.
struct ToyFleet {
    rollout: Rollout,
    members: Vec<FleetMember>,
    desired: usize,
    next: u32,
    /// Fewest healthy instances that calls could go to, ever.
    fewest: usize,
}

impl ToyFleet {
    fn serving(strategy: RolloutStrategy, desired: usize) -> Self {
        let members = (0..desired as u32).map(|id| member(id, 1, true)).collect();
        Self { rollout: rollout(strategy, Some(1)), members, desired, next: 100, fewest: desired }
    }

    /// Carry out one round; returns whether the rollout was promoted, or why it was undone.
    fn round(&mut self, now: i64, failing: bool) -> Option<Result<(), String>> {
        let mut ended = None;
        for step in self.rollout.decide(self.desired, &self.members, at(now)) {
            match step {
                FleetStep::Start(revision) => {
                    self.members.push(member(self.next, revision, false));
                    self.next += 1;
                }
                FleetStep::Drain(id) => self.members.retain(|one| one.id != id),
                FleetStep::Enter(phase) => {
                    self.rollout.phase = phase;
                    if phase == RolloutPhase::Trial {
                        self.rollout.trial = Some(CanaryTrial::begin(&TrialBaseline::default()));
                    }
                }
                FleetStep::Promote(_) => ended = Some(Ok(())),
                FleetStep::Undo(reason) => ended = Some(Err(reason)),
            }
        }
        if let Some(trial) = self.rollout.trial.as_mut() {
            trial.observe(failing, 0.001);
        }
        let serves = |one: &&FleetMember| match self.rollout.target_share() {
            Some(0.0) => one.healthy && one.revision != self.rollout.target,
            _ => one.healthy,
        };
        self.fewest = self.fewest.min(self.members.iter().filter(serves).count());
        ended
    }

    fn make_healthy(&mut self) {
        self.members.iter_mut().for_each(|one| one.healthy = true);
    }
}

#[test]
fn the_first_revision_serves_when_all_are_healthy() {
    for strategy in RolloutStrategy::ALL {
        let rollout = rollout(*strategy, None);
        assert_eq!(rollout.target_share(), Some(1.0));
        let mut members = Vec::new();
        while members.len() < 3 {
            let steps = rollout.decide(3, &members, at(1));
            assert!(
                !steps.is_empty() && steps.iter().all(|step| *step == FleetStep::Start(2)),
                "{strategy}: {steps:?}"
            );
            let known = members.len() as u32;
            members.extend((0..steps.len() as u32).map(|id| member(id + known, 2, true)));
        }
        assert!(matches!(rollout.decide(3, &members, at(1)).as_slice(), [FleetStep::Promote(_)]), "{strategy}");
    }
}

#[test]
fn a_rolling_rollout_starts_one_and_then_ends_one() {
    let mut fleet = ToyFleet::serving(RolloutStrategy::Rolling, 3);
    assert_eq!(fleet.rollout.decide(3, &fleet.members, at(1)), [FleetStep::Start(2)]);
    fleet.round(1, false);
    assert!(fleet.rollout.decide(3, &fleet.members, at(2)).is_empty(), "it waits until the new one is healthy");
    fleet.make_healthy();
    assert_eq!(fleet.rollout.decide(3, &fleet.members, at(3)), [FleetStep::Drain("i0".into())]);
}

#[test]
fn blue_and_green_stand_beside_each_other_until_the_switch() {
    let mut fleet = ToyFleet::serving(RolloutStrategy::BlueGreen, 3);
    fleet.round(1, false);
    assert_eq!(fleet.members.len(), 6);
    assert_eq!(fleet.rollout.target_share(), Some(0.0));
    assert_eq!(fleet.round(2, false), None);
    fleet.make_healthy();
    assert_eq!(fleet.round(3, false), Some(Ok(())));
    // What remains is the steady state's: the old ones end.
    let steps = settle(2, 3, &fleet.members);
    assert_eq!(steps, ["i0", "i1", "i2"].map(|id| FleetStep::Drain(id.into())));
}

#[test]
fn a_canary_that_errors_is_undone_and_one_that_does_not_is_promoted() {
    for failing in [true, false] {
        let mut fleet = ToyFleet::serving(RolloutStrategy::Canary, 3);
        let mut ended = None;
        for now in 0..500 {
            ended = fleet.round(now, failing);
            if ended.is_some() {
                break;
            }
            fleet.make_healthy();
        }
        match (failing, ended) {
            (true, Some(Err(reason))) => assert!(reason.contains("calls failed"), "{reason}"),
            (false, Some(Ok(()))) => assert!(fleet.members.iter().all(|one| one.revision == 2)),
            (_, other) => panic!("failing {failing}: {other:?}"),
        }
        assert!(fleet.fewest >= 3, "{}", fleet.fewest);
    }
}

#[test]
fn a_deadline_and_a_loop_undo_with_their_reason() {
    let fleet = ToyFleet::serving(RolloutStrategy::Rolling, 2);
    let steps = fleet.rollout.decide(2, &fleet.members, at(1000));
    assert_eq!(steps, [FleetStep::Undo("its deadline passed with 0 of 2 instances healthy".into())]);
    let mut members = fleet.members.clone();
    members.push(FleetMember { given_up: true, ..member(9, 2, false) });
    let steps = fleet.rollout.decide(2, &members, at(1));
    assert_eq!(steps, [FleetStep::Undo("instance i9 of the new revision ends again and again".into())]);
}

#[test]
fn the_steady_state_fills_and_thins() {
    assert_eq!(settle(1, 2, &[]), [FleetStep::Start(1), FleetStep::Start(1)]);
    let members = [member(1, 1, true), member(2, 1, false), member(3, 1, true)];
    assert_eq!(settle(1, 2, &members), [FleetStep::Drain("i2".into())], "the one that is ill ends first");
    assert!(settle(1, 3, &members).is_empty());
    let undone = [member(1, 1, false), member(2, 2, true)];
    assert!(settle(1, 1, &undone).is_empty(), "the other revision stays until this one is healthy");
}

proptest! {
    /// Whatever becomes healthy when: a rollout ends, never has fewer healthy instances for calls than wanted, and leaves one revision
    /// only.
    #[test]
    fn rollouts_end_and_keep_serving(
        which in 0usize..3,
        desired in 1usize..6,
        failing in any::<bool>(),
        slowness in proptest::collection::vec(any::<bool>(), 600),
    ) {
        let mut fleet = ToyFleet::serving(RolloutStrategy::ALL[which], desired);
        let mut ended = None;
        for (now, healthy_now) in slowness.into_iter().chain(std::iter::repeat_n(true, 800)).enumerate() {
            ended = fleet.round(now as i64, failing);
            if ended.is_some() {
                break;
            }
            if healthy_now {
                fleet.make_healthy();
            }
        }
        prop_assert!(ended.is_some(), "it never ended: {:?}", fleet.rollout);
        prop_assert!(fleet.fewest >= desired, "{} of {desired}", fleet.fewest);
        let serving = if matches!(ended, Some(Ok(()))) { 2 } else { 1 };
        for _ in 0..100 {
            let steps = settle(serving, desired, &fleet.members);
            if steps.is_empty() {
                break;
            }
            for step in steps {
                match step {
                    FleetStep::Start(revision) => {
                        fleet.members.push(member(fleet.next, revision, true));
                        fleet.next += 1;
                    }
                    FleetStep::Drain(id) => fleet.members.retain(|one| one.id != id),
                    other => panic!("{other:?}"),
                }
            }
        }
        prop_assert_eq!(fleet.members.len(), desired);
        prop_assert!(fleet.members.iter().all(|one| one.revision == serving));
    }
}
