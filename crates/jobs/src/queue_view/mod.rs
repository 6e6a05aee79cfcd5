//! View of all open jobs of the queue, kept in memory: the position of a job, and which jobs have ended. The
//! coordinator's table has no index by state, and this service adds none; known jobs are looked up by key, new ones by
//! row number.

mod model;
pub(super) mod store;

use std::collections::HashMap;

use chrono::{DateTime, Utc};

pub(super) use self::model::{FoundJob, JobChange, KnownJobs, QueueReading};
use super::model::JobState;
use am_core::ids::JobId;

/// Jobs that are known to be open.
#[derive(Default)]
pub(super) struct QueueView {
    jobs: HashMap<JobId, OpenJob>,
    /// Row number up to which the table was read.
    last: i64,
    /// Whether the table was read at least once.
    begun: bool,
    /// Whether any of the jobs was submitted by a client through the services' routes.
    ours: bool,
    /// Earliest expiry of a queued client's job.
    first_due: Option<DateTime<Utc>>,
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
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.ours && !self.expired && self.state == JobState::Queued && self.expires_at <= now
    }
}

impl QueueView {
    /// Number of jobs that the coordinator offers to miners before one submitted at `requested_at`.
    pub(super) fn before(&self, id: &JobId, requested_at: DateTime<Utc>, now: DateTime<Utc>) -> usize {
        let rowid = self.jobs.get(id).map_or(i64::MAX, |job| job.rowid);
        let is_before = |job: &OpenJob| {
            job.state == JobState::Queued
                && job.expires_at > now
                && (job.requested_at, job.rowid) < (requested_at, rowid)
        };
        self.jobs.iter().filter(|(other, job)| *other != id && is_before(job)).count()
    }

    /// Whether any job's end must still be reported.
    pub(super) fn has_reported_jobs(&self) -> bool {
        self.ours
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
        if self.first_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.jobs.iter().filter(|(_, job)| job.is_due(now)).map(|(id, _)| id.clone()).collect()
    }

    /// Take over what was read of the table.
    pub(super) fn learn(&mut self, read: QueueReading) {
        self.last = read.top;
        self.begun = true;
        for FoundJob { id, rowid, state, requested_at, expires_at, ours } in read.fresh {
            if let Some(state @ (JobState::Queued | JobState::Running)) = state {
                self.jobs.insert(id, OpenJob { rowid, state, requested_at, expires_at, expired: false, ours });
            }
        }
        for JobChange { id, state, gone } in read.news {
            match state {
                Some(state) if !state.is_final() => drop(self.jobs.get_mut(&id).map(|job| job.state = state)),
                Some(_) => drop(self.jobs.remove(&id)),
                None if gone => drop(self.jobs.remove(&id)),
                // An unknown state is no end.
                None => {}
            }
        }
        self.count();
    }

    /// Mark jobs whose expiry was handled. They are found again once they have changed: as expired, or as taken at the last
    /// moment.
    pub(super) fn mark_expired(&mut self, ids: &[JobId]) {
        for id in ids {
            if let Some(job) = self.jobs.get_mut(id) {
                job.expired = true;
            }
        }
        self.count();
    }

    /// Recompute derived values after a change; they are read more often than jobs change.
    fn count(&mut self) {
        self.ours = self.jobs.values().any(|job| job.ours);
        let due = self.jobs.values().filter(|job| job.is_due(DateTime::<Utc>::MAX_UTC));
        self.first_due = due.map(|job| job.expires_at).min();
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
        queue.jobs.insert("theirs".into(), open(1, JobState::Queued, 0, 5, false));
        queue.jobs.insert("taken".into(), open(2, JobState::Running, 0, 5, true));
        queue.count();
        assert!(queue.has_reported_jobs() && queue.late(at(100)).is_empty());
        queue.jobs.insert("mine".into(), open(3, JobState::Queued, 0, 10, true));
        queue.count();
        assert!(queue.late(at(9)).is_empty());
        assert_eq!(queue.late(at(10)), [JobId::from("mine")]);
        queue.jobs.get_mut("mine").unwrap().expired = true;
        queue.count();
        assert!(queue.late(at(100)).is_empty(), "once");
    }

    proptest! {
        /// The place is that of the coordinator's `ORDER BY requested_at` over what is queued and in time.
        #[test]
        fn a_place_is_the_one_that_the_coordinator_would_come_to(
            jobs in proptest::collection::vec((0i64..8, 1i64..20, any::<bool>(), any::<bool>()), 1..30),
        ) {
            let mut queue = QueueView::default();
            let mut order = Vec::new();
            for (at_row, (requested, expires, queued, ours)) in (0i64..).zip(&jobs) {
                let state = if *queued { JobState::Queued } else { JobState::Running };
                queue.jobs.insert(format!("j{at_row}").into(), open(at_row, state, *requested, *expires, *ours));
                if *queued && *expires > 10 {
                    order.push((*requested, at_row));
                }
            }
            order.sort_unstable();
            for (place, (requested, row)) in order.iter().enumerate() {
                prop_assert_eq!(queue.before(&format!("j{row}").into(), at(*requested), at(10)), place);
            }
            prop_assert_eq!(queue.before(&"a new one".into(), at(9), at(10)), order.len());
        }
    }
}
