//! View of all open jobs of the queue, kept in memory: the position of a job, and which jobs have ended. The
//! coordinator's table has no index by state, and this service adds none; known jobs are looked up by key, new ones by
//! row number.

pub(super) mod store;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use self::store::FoundJob;
use super::{
    model::{JobService, JobState},
    queue_watcher::JobQueue,
    store as rows,
};
use am_audit::{AuditEntry, EventType};
use am_core::crash_point;
use am_db::{Result, Tx, codec::Timestamp, owner, principal::Principal};

/// Ended jobs reported per transaction.
const REPORT_BATCH: usize = 200;

/// Jobs that are known to be open.
#[derive(Default)]
pub(super) struct QueueView {
    jobs: HashMap<String, OpenJob>,
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
    pub(super) fn before(&self, id: &str, requested_at: DateTime<Utc>, now: DateTime<Utc>) -> usize {
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

    /// Clients' jobs that no miner took in time.
    fn late(&self, now: DateTime<Utc>) -> Vec<String> {
        if self.first_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.jobs.iter().filter(|(_, job)| job.is_due(now)).map(|(id, _)| id.clone()).collect()
    }

    /// Recompute derived values after a change; they are read more often than jobs change.
    fn count(&mut self) {
        self.ours = self.jobs.values().any(|job| job.ours);
        let due = self.jobs.values().filter(|job| job.is_due(DateTime::<Utc>::MAX_UTC));
        self.first_due = due.map(|job| job.expires_at).min();
    }

    fn ids(&self, state: JobState) -> Vec<String> {
        self.jobs.iter().filter(|(_, job)| job.state == state).map(|(id, _)| id.clone()).collect()
    }
}

/// Change of a job since the last read.
struct JobChange {
    id: String,
    /// New state; `None` when this service does not know it.
    state: Option<JobState>,
    /// Whether the row is missing.
    gone: bool,
}

/// End of a client's job, as sent to webhooks.
#[derive(Serialize)]
struct JobEndedEvent<'a> {
    job_id: &'a str,
    service_type: &'a str,
    client_id: &'a str,
    status: JobState,
    error: Option<&'a str>,
    miner: Option<&'a str>,
    price: Option<f64>,
    submitted_at: Timestamp,
    running_at: Option<Timestamp>,
    ended_at: Timestamp,
}

impl JobQueue {
    /// Read all open jobs and report those that have ended.
    pub(super) async fn sweep(&self) -> Result<()> {
        let (queued, running, last, begun) = {
            let queue = self.queue();
            (queue.ids(JobState::Queued), queue.ids(JobState::Running), queue.last, queue.begun)
        };
        let (top, fresh, mut news) = {
            let mut conn = self.0.db.read().await?;
            let top = store::highest_rowid(&mut conn).await?;
            if top < last {
                // The coordinator's table was emptied or compacted, so row numbers have a new meaning.
                *self.queue() = QueueView::default();
                return Err(am_db::DatabaseError::InvalidValue("the row numbers of table job decreased".to_owned()));
            }
            let fresh = store::find_new_jobs(&mut conn, last, top).await?;
            let mut news: Vec<JobChange> = Vec::new();
            for (ids, state) in [(queued, JobState::Queued), (running, JobState::Running)] {
                let changed = store::find_changed(&mut conn, &ids, state).await?;
                news.extend(changed.into_iter().map(|(id, state, gone)| JobChange { id, state, gone }));
            }
            if !begun {
                let gone = store::find_missing(&mut conn).await?;
                news.extend(gone.into_iter().map(|id| JobChange { id, state: None, gone: true }));
            }
            (top, fresh, news)
        };
        let ours: Vec<JobChange> = {
            let queue = self.queue();
            let is_ours = |news: &JobChange| queue.jobs.get(&news.id).map_or(news.gone, |job| job.ours);
            let (ours, others) = news.drain(..).partition(is_ours);
            news = others;
            ours
        };
        let begun = fresh.iter().filter(|found| found.ours && found.state != Some(JobState::Queued));
        let begun = begun.map(|found| JobChange { id: found.id.clone(), state: found.state, gone: false });
        let told: Vec<JobChange> = ours.into_iter().chain(begun).collect();
        // Jobs whose end can't be reported now are kept and read again.
        for chunk in told.chunks(REPORT_BATCH) {
            self.tell(chunk).await?;
        }
        self.learn(top, fresh, told.into_iter().chain(news).collect());
        Ok(())
    }

    /// Store the changes in memory.
    fn learn(&self, top: i64, fresh: Vec<FoundJob>, news: Vec<JobChange>) {
        let mut queue = self.queue();
        queue.last = top;
        queue.begun = true;
        for FoundJob { id, rowid, state, requested_at, expires_at, ours } in fresh {
            if let Some(state @ (JobState::Queued | JobState::Running)) = state {
                queue.jobs.insert(id, OpenJob { rowid, state, requested_at, expires_at, expired: false, ours });
            }
        }
        for JobChange { id, state, gone } in news {
            match state {
                Some(state) if !state.is_final() => drop(queue.jobs.get_mut(&id).map(|job| job.state = state)),
                Some(_) => drop(queue.jobs.remove(&id)),
                None if gone => drop(queue.jobs.remove(&id)),
                // An unknown state is no end.
                None => {}
            }
        }
        queue.count();
        self.0.metrics.open.set(queue.len() as i64);
    }

    /// Store the new states of clients' jobs and enqueue their webhook deliveries.
    async fn tell(&self, news: &[JobChange]) -> Result<()> {
        let news: Vec<(String, Option<JobState>, bool)> =
            news.iter().map(|news| (news.id.clone(), news.state, news.gone)).collect();
        let (me, now) = (self.clone(), Timestamp(self.0.clock.now()));
        crash_point!("jobs.before_telling");
        let told = self.0.db.write(async move |tx: &mut Tx| {
            let mut entries = Vec::new();
            for (id, state, gone) in news {
                match state {
                    Some(state) if !state.is_final() => {
                        if let Some(service) = store::record_state(tx, &id, state, now).await? {
                            let me = me.clone();
                            tx.after_commit(move || me.0.metrics.count_state(service, state));
                        }
                    }
                    Some(_) => entries.extend(me.record_end(tx, &id, now, None).await?),
                    None if gone => entries.extend(me.record_end(tx, &id, now, None).await?),
                    None => {}
                }
            }
            me.0.audit.append(tx, entries).await
        });
        told.await?;
        crash_point!("jobs.after_telling");
        Ok(())
    }

    /// Record the end of a client's job in the transaction that ends it or notices its end: store the end, enqueue
    /// webhook deliveries, and return the audit entry, which names `by` if a principal ended the job. `None`: the job
    /// is not a client's, has not ended, or was reported already.
    pub(super) async fn record_end(
        &self,
        tx: &mut Tx,
        id: &str,
        now: Timestamp,
        by: Option<&Principal>,
    ) -> Result<Option<AuditEntry>> {
        const MISSING_ROW_MESSAGE: &str = "its row is no longer in the coordinator's table";
        let ids = [id.to_owned()];
        let how = rows::find_outcomes(tx.conn().await?, &ids).await?.pop().map(|(_, how)| how);
        let (state, error, miner, price) = match how {
            Some(how) => (how.state, how.error, how.miner, how.price),
            None if rows::job_exists(tx.conn().await?, id).await? => return Ok(None),
            None => (JobState::Canceled, Some(MISSING_ROW_MESSAGE.to_owned()), None, None),
        };
        let Some(kept) = store::record_end(tx, id, state, now).await? else { return Ok(None) };
        let data = JobEndedEvent {
            job_id: id,
            service_type: &kept.service,
            client_id: &kept.client_id,
            status: state,
            error: error.as_deref(),
            miner: miner.as_deref(),
            price,
            submitted_at: kept.submitted_at,
            running_at: kept.running_at,
            ended_at: now,
        };
        let kind = format!("job.{}", state.word());
        let source = format!("job:{id}");
        self.0.webhooks.enqueue(tx, &kind, &data, now, Some(&source)).await.map_err(to_database_error)?;
        if let Some(service) = JobService::from_name(&kept.service) {
            let me = self.clone();
            tx.after_commit(move || me.0.metrics.count_state(service, state));
        }
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("job", state.word());
        let entry = match by {
            Some(principal) => entry.by(principal),
            None => entry.on_behalf_of(owner::SYSTEM_PRINCIPAL),
        };
        let entry = entry.data("job_id", json!(id)).data("service_type", json!(kept.service));
        Ok(Some(entry.data("client_id", json!(kept.client_id)).data("reason", json!(error))))
    }

    /// Expire clients' jobs whose time has passed: the coordinator does so only when a miner asks.
    pub(super) async fn expire_client_jobs(&self) -> Result<()> {
        let now = Timestamp(self.0.clock.now());
        let late = self.queue().late(now.0);
        for chunk in late.chunks(REPORT_BATCH) {
            let (me, ids) = (self.clone(), chunk.to_vec());
            let expired = self.0.db.write(async move |tx: &mut Tx| {
                let mut entries = Vec::new();
                for id in &ids {
                    if rows::expire_queued(tx, id).await? {
                        entries.extend(me.record_end(tx, id, now, None).await?);
                    }
                }
                me.0.audit.append(tx, entries).await
            });
            expired.await?;
            let mut queue = self.queue();
            for id in chunk {
                // Found again once it has changed: as expired, or as taken at the last moment.
                if let Some(job) = queue.jobs.get_mut(id) {
                    job.expired = true;
                }
            }
            queue.count();
        }
        Ok(())
    }
}

/// Convert the error: the delivery must be stored together with the change that it reports, or neither.
fn to_database_error(error: am_webhooks::WebhookError) -> am_db::DatabaseError {
    match error {
        am_webhooks::WebhookError::Db(error) => error,
        other => am_db::DatabaseError::InvalidValue(other.to_string()),
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
        assert_eq!(queue.late(at(10)), ["mine"]);
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
                queue.jobs.insert(format!("j{at_row}"), open(at_row, state, *requested, *expires, *ours));
                if *queued && *expires > 10 {
                    order.push((*requested, at_row));
                }
            }
            order.sort_unstable();
            for (place, (requested, row)) in order.iter().enumerate() {
                prop_assert_eq!(queue.before(&format!("j{row}"), at(*requested), at(10)), place);
            }
            prop_assert_eq!(queue.before("a new one", at(9), at(10)), order.len());
        }
    }
}
