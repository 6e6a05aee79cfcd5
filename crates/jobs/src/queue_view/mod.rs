//! View of all open jobs of the queue, kept in memory: the position of a job, and which jobs have ended. The
//! coordinator's table has no index by state, and this service adds none; known jobs are looked up by key, new ones by
//! row number.

mod model;
mod offer_order;
pub(super) mod store;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

pub(super) use self::model::{FoundJob, JobChange, KnownJobs, QueueReading};
use self::offer_order::OfferOrder;
use super::model::JobState;
use am_core::ids::JobId;

/// Jobs that are known to be open. Nothing but a sweep of the queue looks at all of them.
#[derive(Default)]
pub(super) struct QueueView {
    jobs: HashMap<JobId, OpenJob>,
    /// Row number up to which the table was read.
    last: i64,
    /// Whether the table was read at least once.
    begun: bool,
    /// Number of the jobs that clients submitted through the services' routes.
    ours: usize,
    /// Expiry of each queued job of a client whose expiry was not handled.
    due: BTreeSet<(DateTime<Utc>, JobId)>,
    /// Queued jobs in the order in which miners get them.
    order: OfferOrder,
}

struct OpenJob {
    rowid: i64,
    state: JobState,
    requested_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// Whether the expiry has passed and was handled.
    expired: bool,
    /// Whether a client submitted the job through the services' routes, so that its end must be reported.
    ours: bool,
}

impl OpenJob {
    /// Whether its expiry must be handled when it passes.
    fn will_be_due(&self) -> bool {
        self.ours && !self.expired && self.state == JobState::Queued
    }
}

impl QueueView {
    /// Number of jobs that the coordinator offers to miners before one submitted at `requested_at`.
    pub(super) fn before(&mut self, id: &JobId, requested_at: DateTime<Utc>, now: DateTime<Utc>) -> usize {
        let rowid = self.jobs.get(id).map_or(i64::MAX, |job| job.rowid);
        self.order.before((requested_at, rowid), now)
    }

    /// Whether any job's end must still be reported.
    pub(super) fn has_reported_jobs(&self) -> bool {
        self.ours > 0
    }

    /// Whether the table was read at least once.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Number of open jobs.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// What is known before the next read.
    pub(super) fn known(&self) -> KnownJobs {
        let open = [JobState::Queued, JobState::Running].map(|state| (self.ids(state), state));
        KnownJobs { last: self.last, begun: self.begun, open }
    }

    /// Whether a changed job was submitted by a client, so that the change must be reported; of an unknown job, whether its
    /// row is missing.
    pub(super) fn is_ours(&self, news: &JobChange) -> bool {
        self.jobs.get(&news.id).map_or(news.gone, |job| job.ours)
    }

    /// Clients' jobs that no miner took in time.
    pub(super) fn late(&self, now: DateTime<Utc>) -> Vec<JobId> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect()
    }

    /// Take over what was read of the table.
    pub(super) fn learn(&mut self, read: QueueReading) {
        self.last = read.top;
        self.begun = true;
        for FoundJob { id, rowid, state, requested_at, expires_at, ours } in read.fresh {
            if let Some(state @ (JobState::Queued | JobState::Running)) = state {
                self.put(id, OpenJob { rowid, state, requested_at, expires_at, expired: false, ours });
            }
        }
        for JobChange { id, state, gone } in read.news {
            match state {
                Some(state) if !state.is_final() => self.change(id, |job| job.state = state),
                Some(_) => _ = self.take(&id),
                None if gone => _ = self.take(&id),
                // An unknown state is no end.
                None => {}
            }
        }
    }

    /// Mark jobs whose expiry was handled. They are found again once they have changed: as expired, or as taken at the last
    /// moment.
    pub(super) fn mark_expired(&mut self, ids: &[JobId]) {
        for id in ids {
            self.change(id.clone(), |job| job.expired = true);
        }
    }

    /// Enter a job, in the place of what was known of it.
    fn put(&mut self, id: JobId, job: OpenJob) {
        let _ = self.take(&id);
        if job.state == JobState::Queued {
            self.order.insert((job.requested_at, job.rowid), job.expires_at);
        }
        if job.will_be_due() {
            self.due.insert((job.expires_at, id.clone()));
        }
        self.ours += usize::from(job.ours);
        self.jobs.insert(id, job);
    }

    /// Forget a job.
    fn take(&mut self, id: &JobId) -> Option<OpenJob> {
        let job = self.jobs.remove(id)?;
        if job.state == JobState::Queued {
            self.order.remove((job.requested_at, job.rowid), job.expires_at);
        }
        if job.will_be_due() {
            self.due.remove(&(job.expires_at, id.clone()));
        }
        self.ours -= usize::from(job.ours);
        Some(job)
    }

    fn change(&mut self, id: JobId, change: impl FnOnce(&mut OpenJob)) {
        if let Some(mut job) = self.take(&id) {
            change(&mut job);
            self.put(id, job);
        }
    }

    fn ids(&self, state: JobState) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.state == state).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn open(rowid: i64, state: JobState, requested: i64, expires: i64, ours: bool) -> OpenJob {
        OpenJob { rowid, state, requested_at: at(requested), expires_at: at(expires), expired: false, ours }
    }

    #[test]
    fn what_is_due_is_known_without_looking_at_all() {
        let mut queue = QueueView::default();
        queue.put("theirs".into(), open(1, JobState::Queued, 0, 5, false));
        queue.put("taken".into(), open(2, JobState::Running, 0, 5, true));
        assert!(queue.has_reported_jobs() && queue.late(at(100)).is_empty());
        queue.put("mine".into(), open(3, JobState::Queued, 0, 10, true));
        assert!(queue.late(at(9)).is_empty());
        assert_eq!(queue.late(at(10)), [JobId::from("mine")]);
        queue.mark_expired(&["mine".into()]);
        assert!(queue.late(at(100)).is_empty(), "once");
        for id in ["taken", "mine"] {
            queue.take(&id.into());
        }
        assert!(!queue.has_reported_jobs() && queue.len() == 1);
    }

    /// What happens to a job of the queue.
    #[derive(Clone, Debug)]
    enum Happening {
        Found { requested: i64, lives: i64, queued: bool },
        Changed { state: JobState },
        Gone,
        HandledExpiry,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            3 => (0i64..8, 1i64..20, any::<bool>())
                .prop_map(|(requested, lives, queued)| Happening::Found { requested, lives, queued }),
            2 => prop_oneof![Just(JobState::Queued), Just(JobState::Running), Just(JobState::Completed)]
                .prop_map(|state| Happening::Changed { state }),
            1 => Just(Happening::Gone),
            1 => Just(Happening::HandledExpiry),
        ]
    }

    proptest! {
        /// Whatever happens to jobs, and however the clock is set between, a place is that of the coordinator's
        /// `ORDER BY requested_at` over what is queued and in time.
        #[test]
        fn a_place_is_the_one_that_the_coordinator_would_come_to(
            happenings in proptest::collection::vec((0i64..12, happening(), 0i64..25), 1..60),
        ) {
            let mut queue = QueueView::default();
            for (row, happened, now) in happenings {
                let id = JobId::from(format!("j{row}"));
                let mut read = QueueReading { top: row, fresh: Vec::new(), news: Vec::new() };
                match happened {
                    Happening::Found { requested, lives, queued } => {
                        let state = Some(if queued { JobState::Queued } else { JobState::Running });
                        let (requested_at, expires_at) = (at(requested), at(requested + lives));
                        read.fresh.push(FoundJob { id, rowid: row, state, requested_at, expires_at, ours: row % 2 == 0 });
                    }
                    Happening::Changed { state } => read.news.push(JobChange { id, state: Some(state), gone: false }),
                    Happening::Gone => read.news.push(JobChange { id, state: None, gone: true }),
                    Happening::HandledExpiry => queue.mark_expired(&[id]),
                }
                queue.learn(read);

                let in_time = |job: &&OpenJob| job.state == JobState::Queued && job.expires_at > at(now);
                let mut order: Vec<_> = queue.jobs.values().filter(in_time).map(|job| (job.requested_at, job.rowid)).collect();
                order.sort_unstable();
                for (place, (requested_at, row)) in order.iter().enumerate() {
                    prop_assert_eq!(queue.before(&format!("j{row}").into(), *requested_at, at(now)), place);
                }
                prop_assert_eq!(queue.before(&"a new one".into(), at(100), at(now)), order.len());
                let due = queue.jobs.values().filter(|job| job.will_be_due() && job.expires_at <= at(now)).count();
                prop_assert_eq!(queue.late(at(now)).len(), due);
                prop_assert_eq!(queue.has_reported_jobs(), queue.jobs.values().any(|job| job.ours));
            }
        }
    }
}
