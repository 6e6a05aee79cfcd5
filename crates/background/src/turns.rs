//! Whose task is next: owners take turns, whatever one of them has queued.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::model::{OpenWork, WorkStatus};
use am_core::ids::{BackgroundTaskId, PrincipalId};

/// Order the tasks that nobody drives in this process: first the owners with the fewest places here, then who was served longest
/// ago, then who asked first. An owner's next task comes after one of every other owner.
pub(crate) fn order<'a>(open: &'a [OpenWork], driven: &HashMap<BackgroundTaskId, PrincipalId>) -> Vec<&'a OpenWork> {
    let mut places: BTreeMap<&PrincipalId, usize> = BTreeMap::new();
    for owner in driven.values() {
        *places.entry(owner).or_default() += 1;
    }
    let mut waiting: Vec<&OpenWork> = open.iter().filter(|task| !driven.contains_key(&task.id)).collect();
    // A task that another process drives, or drove until it died, has its owner's first place.
    waiting.sort_by_key(|task| (task.status != WorkStatus::Running, task.created_at, &task.id));
    let mut ordered: Vec<_> = waiting
        .into_iter()
        .map(|task| {
            let before = places.entry(&task.owner_id).or_default();
            *before += 1;
            (*before, task)
        })
        .collect();
    ordered.sort_by_key(|(before, task)| (*before, task.served_at, task.created_at, &task.id));
    ordered.into_iter().map(|(_, task)| task).collect()
}

/// Whether a task of `owner` that has been driven for `time` gives up its place: its turn is over, and a task waits whose owner has
/// fewer places.
pub(crate) fn must_yield(
    open: &[OpenWork],
    driven: &HashMap<BackgroundTaskId, PrincipalId>,
    owner: &PrincipalId,
    time: Duration,
    slice: Duration,
) -> bool {
    let places = |of: &PrincipalId| driven.values().filter(|other| *other == of).count();
    let own = places(owner);
    let waits = |task: &&OpenWork| task.status == WorkStatus::Queued && task.owner_id != *owner;
    time >= slice && open.iter().filter(waits).any(|task| places(&task.owner_id) < own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_db::codec::Timestamp;

    const SLICE: Duration = Duration::from_secs(2);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_stored(&format!("2026-01-02 03:04:{second:02}")).unwrap()
    }

    fn task(id: &str, owner: &str, created: i64, served: Option<i64>) -> OpenWork {
        OpenWork {
            id: id.into(),
            kind: "sum".into(),
            owner_id: owner.into(),
            status: WorkStatus::Queued,
            created_at: at(created),
            served_at: served.map(at),
        }
    }

    fn driven(tasks: &[(&str, &str)]) -> HashMap<BackgroundTaskId, PrincipalId> {
        tasks.iter().map(|(id, owner)| ((*id).into(), (*owner).into())).collect()
    }

    #[test]
    fn owners_take_turns_whatever_one_has_queued() {
        let mut open: Vec<OpenWork> = (0..30).map(|at| task(&format!("a{at:02}"), "a", at, Some(59))).collect();
        open.push(task("b1", "b", 50, None));
        open.push(task("c1", "c", 51, Some(58)));
        open.push(task("c2", "c", 52, Some(58)));
        let ids = |tasks: Vec<&OpenWork>| tasks.into_iter().map(|task| task.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(order(&open, &driven(&[])))[..5], ["b1", "c1", "a00", "c2", "a01"]);
        assert_eq!(ids(order(&open, &driven(&[("c9", "c"), ("a00", "a")])))[..3], ["b1", "c1", "a01"]);
    }

    #[test]
    fn a_place_is_given_up_after_a_turn_to_who_has_fewer() {
        let open = [task("b1", "b", 5, None), task("a2", "a", 6, None)];
        let places = driven(&[("a1", "a")]);
        let gives = |open: &[OpenWork], places, time| must_yield(open, places, &"a".into(), time, SLICE);
        assert!(gives(&open, &places, SLICE));
        assert!(!gives(&open, &places, SLICE / 2), "its turn is not over");
        assert!(!gives(&open[1..], &places, SLICE * 9), "not to a task of the same owner");
        assert!(!gives(&open, &driven(&[("a1", "a"), ("b2", "b")]), SLICE * 9), "each has one place");
    }
}
