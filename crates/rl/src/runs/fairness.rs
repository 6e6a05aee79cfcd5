//! Order in which waiting runs are trained: by owner, who was trained least first, each owner's runs in the order of their requests.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::model::{OpenRun, RunStatus};
use am_core::ids::{PrincipalId, TrainingRunId};

/// For how long this process has trained the runs of each owner, as far as that decides who is next: nobody counts as further
/// behind the owner with most than the largest lead, however long they were away.
#[derive(Clone, Debug)]
pub(super) struct TrainingUsage {
    trained: HashMap<PrincipalId, Duration>,
    max_lead: Duration,
}

impl TrainingUsage {
    /// No usage yet. `slice` is the time for which two owners who always have runs train in turn.
    pub(super) fn new(slice: Duration) -> Self {
        // Behind by this at one end of a slice, ahead by it at the other.
        Self { trained: HashMap::new(), max_lead: slice / 2 }
    }

    /// Add time for which a run of `owner` was trained.
    pub(super) fn add(&mut self, owner: &PrincipalId, time: Duration) {
        let before = self.of(owner);
        self.trained.insert(owner.clone(), before + time);
        let floor = self.floor();
        self.trained.retain(|_, trained| *trained > floor);
    }

    fn floor(&self) -> Duration {
        self.trained.values().max().copied().unwrap_or_default().saturating_sub(self.max_lead)
    }

    fn of(&self, owner: &PrincipalId) -> Duration {
        self.trained.get(owner).copied().unwrap_or_default().max(self.floor())
    }

    /// Whether `owner` is ahead of `other` by the largest lead.
    fn leads(&self, owner: &PrincipalId, other: &PrincipalId) -> bool {
        self.of(owner).saturating_sub(self.of(other)) >= self.max_lead
    }
}

/// Order the runs that have no driver in this process: first the owners of whom it trains least runs, among these the one whose runs
/// it has trained for the shortest time, then the one who was served longest ago. `driven` are the runs that it trains, by id, with
/// their owners. An owner's next run comes after one run of every other owner.
pub(super) fn order<'a>(
    open: &'a [OpenRun],
    driven: &HashMap<TrainingRunId, PrincipalId>,
    usage: &TrainingUsage,
) -> Vec<&'a OpenRun> {
    let mut trained: BTreeMap<&PrincipalId, usize> = BTreeMap::new();
    for owner in driven.values() {
        *trained.entry(owner).or_default() += 1;
    }
    let mut waiting: Vec<&OpenRun> = open.iter().filter(|run| !driven.contains_key(&run.id)).collect();
    // A run that another process drives, or drove until it died, has its owner's first place.
    waiting.sort_by_key(|run| (run.status != RunStatus::Running, run.created_at, &run.id));
    let mut ordered: Vec<_> = waiting
        .into_iter()
        .map(|run| {
            let before = trained.entry(&run.owner_id).or_default();
            *before += 1;
            (*before, usage.of(&run.owner_id), run)
        })
        .collect();
    ordered.sort_by_key(|(before, trained, run)| (*before, *trained, run.served_at, run.created_at, &run.id));
    ordered.into_iter().map(|(.., run)| run).collect()
}

/// Return whether a waiting run has a better right to the place of a run of `owner`: its owner has fewer places in this process,
/// and was trained for less time by the largest lead. So whoever was away waits for no slice of those who were not.
pub(super) fn must_yield(
    open: &[OpenRun],
    driven: &HashMap<TrainingRunId, PrincipalId>,
    usage: &TrainingUsage,
    owner: &PrincipalId,
) -> bool {
    let places = |of: &PrincipalId| driven.values().filter(|other| *other == of).count();
    let own = places(owner);
    let waits = |run: &&OpenRun| run.status == RunStatus::Queued && run.owner_id != *owner;
    open.iter().filter(waits).any(|run| places(&run.owner_id) < own && usage.leads(owner, &run.owner_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_db::codec::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_stored(&format!("2026-01-02 03:04:{second:02}")).unwrap()
    }

    fn run(id: &str, owner: &str, created: i64, served: Option<i64>) -> OpenRun {
        OpenRun {
            id: id.into(),
            owner_id: owner.into(),
            status: RunStatus::Queued,
            created_at: at(created),
            served_at: served.map(at),
            needs_bridge: false,
        }
    }

    fn driven(runs: &[(&str, &str)]) -> HashMap<TrainingRunId, PrincipalId> {
        runs.iter().map(|(id, owner)| ((*id).into(), (*owner).into())).collect()
    }

    fn ids(runs: &[&OpenRun]) -> Vec<String> {
        runs.iter().map(|run| run.id.to_string()).collect()
    }

    fn unused() -> TrainingUsage {
        TrainingUsage::new(Duration::ZERO)
    }

    const SLICE: Duration = Duration::from_secs(60);

    #[test]
    fn owners_take_turns_whatever_one_has_queued() {
        let mut open: Vec<OpenRun> = (0..30).map(|at| run(&format!("a{at:02}"), "a", at, Some(59))).collect();
        open.push(run("b1", "b", 50, None));
        open.push(run("c1", "c", 51, Some(58)));
        open.push(run("c2", "c", 52, Some(58)));
        let free = ids(&order(&open, &driven(&[]), &unused()));
        assert_eq!(free[..6], ["b1", "c1", "a00", "c2", "a01", "a02"]);
        // One who is being trained comes after those who are not.
        let busy = ids(&order(&open, &driven(&[("c9", "c"), ("a00", "a")]), &unused()));
        assert_eq!(busy[..4], ["b1", "c1", "a01", "c2"], "served longest ago first");
    }

    #[test]
    fn only_those_with_more_places_yield() {
        let open = [run("b1", "b", 5, None), run("a2", "a", 6, None)];
        let places = driven(&[("a1", "a")]);
        assert!(must_yield(&open, &places, &unused(), &"a".into()));
        assert!(!must_yield(&open[1..], &places, &unused(), &"a".into()), "not to a run of the same owner");
        let both = driven(&[("a1", "a"), ("b2", "b")]);
        assert!(!must_yield(&open, &both, &unused(), &"a".into()), "each has one place");
        assert!(!must_yield(&[], &places, &unused(), &"a".into()));
    }

    #[test]
    fn whoever_was_away_is_next_and_two_who_stay_change_after_a_slice() {
        let (a, b): (PrincipalId, PrincipalId) = ("a".into(), "b".into());
        let mut usage = TrainingUsage::new(SLICE);
        let gives_way = |usage: &TrainingUsage, from: &str, to: &str| {
            must_yield(&[run("w", to, 5, None)], &driven(&[("d", from)]), usage, &from.into())
        };
        usage.add(&a, Duration::from_secs(29));
        assert!(!gives_way(&usage, "a", "b"));
        usage.add(&a, Duration::from_secs(4000));
        assert!(gives_way(&usage, "a", "b"), "at once, whatever run of theirs is trained");
        for (one, other) in [(&b, &a), (&a, &b), (&b, &a)] {
            let mut seconds = 0;
            while !gives_way(&usage, one.as_str(), other.as_str()) {
                usage.add(one, Duration::from_secs(1));
                seconds += 1;
            }
            assert_eq!(seconds, SLICE.as_secs(), "a lead of hours is not caught up");
        }
    }

    #[test]
    fn short_runs_beside_an_endless_one_take_twice_their_time() {
        let (mut usage, mut waited) = (TrainingUsage::new(SLICE), 0);
        usage.add(&"a".into(), SLICE * 10);
        for _ in 0..100 {
            while !must_yield(&[run("b", "b", 5, None)], &driven(&[("d", "a")]), &usage, &"a".into()) {
                usage.add(&"a".into(), Duration::from_secs(1));
                waited += 1;
            }
            usage.add(&"b".into(), Duration::from_secs(4));
        }
        assert!((390..=400).contains(&waited), "{waited} s for 400 s of training");
    }

    #[test]
    fn the_free_place_is_for_the_owner_trained_least() {
        let mut usage = TrainingUsage::new(SLICE);
        usage.add(&"a".into(), Duration::from_secs(20));
        usage.add(&"b".into(), Duration::from_secs(10));
        let open = [run("a1", "a", 1, None), run("b1", "b", 2, Some(50)), run("c1", "c", 3, Some(59))];
        assert_eq!(ids(&order(&open, &driven(&[]), &usage)), ["c1", "b1", "a1"]);
        usage.add(&"c".into(), Duration::from_secs(4000));
        assert_eq!(usage.trained.len(), 1, "who is behind by all that counts is not remembered");
    }
}
