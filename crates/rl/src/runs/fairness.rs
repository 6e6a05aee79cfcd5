//! Order in which waiting runs are trained: in turn by owner, each owner's runs in the order of their requests.

use std::collections::{BTreeMap, HashMap};

use super::model::{OpenRun, RunStatus};
use am_core::ids::{PrincipalId, TrainingRunId};

/// Order the runs that have no driver in this process: first the owners of whom it trains least, among these the one who
/// was served longest ago. `driven` are the runs that it trains, by id, with their owners. An owner's next run comes after
/// one run of every other owner.
pub(super) fn order<'a>(open: &'a [OpenRun], driven: &HashMap<TrainingRunId, PrincipalId>) -> Vec<&'a OpenRun> {
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
            (*before, run.served_at, run)
        })
        .collect();
    ordered.sort_by_key(|(before, served_at, run)| (*before, *served_at, run.created_at, &run.id));
    ordered.into_iter().map(|(.., run)| run).collect()
}

/// Return whether a waiting run has a better right to the place of a run of `owner`, whose slice is over: its owner has
/// fewer places in this process.
pub(super) fn must_yield(open: &[OpenRun], driven: &HashMap<TrainingRunId, PrincipalId>, owner: &PrincipalId) -> bool {
    let places = |of: &PrincipalId| driven.values().filter(|other| *other == of).count();
    let own = places(owner);
    open.iter().any(|run| run.status == RunStatus::Queued && run.owner_id != *owner && places(&run.owner_id) < own)
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
        }
    }

    fn driven(runs: &[(&str, &str)]) -> HashMap<TrainingRunId, PrincipalId> {
        runs.iter().map(|(id, owner)| ((*id).into(), (*owner).into())).collect()
    }

    fn ids(runs: &[&OpenRun]) -> Vec<String> {
        runs.iter().map(|run| run.id.to_string()).collect()
    }

    #[test]
    fn owners_take_turns_whatever_one_has_queued() {
        let mut open: Vec<OpenRun> = (0..30).map(|at| run(&format!("a{at:02}"), "a", at, Some(59))).collect();
        open.push(run("b1", "b", 50, None));
        open.push(run("c1", "c", 51, Some(58)));
        open.push(run("c2", "c", 52, Some(58)));
        let free = ids(&order(&open, &driven(&[])));
        assert_eq!(free[..6], ["b1", "c1", "a00", "c2", "a01", "a02"]);
        // One who is being trained comes after those who are not.
        let busy = ids(&order(&open, &driven(&[("c9", "c"), ("a00", "a")])));
        assert_eq!(busy[..4], ["b1", "c1", "a01", "c2"], "served longest ago first");
    }

    #[test]
    fn only_those_with_more_places_yield() {
        let open = [run("b1", "b", 5, None), run("a2", "a", 6, None)];
        let places = driven(&[("a1", "a")]);
        assert!(must_yield(&open, &places, &"a".into()));
        assert!(!must_yield(&open[1..], &places, &"a".into()), "not to a run of the same owner");
        let both = driven(&[("a1", "a"), ("b2", "b")]);
        assert!(!must_yield(&open, &both, &"a".into()), "each has one place");
        assert!(!must_yield(&[], &places, &"a".into()));
    }
}
