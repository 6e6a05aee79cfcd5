//! Reading of the whole queue, and reports of the ends of clients' jobs.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    job_queue::JobQueue,
    model::{JobService, JobState},
    outcome::JobOutcome,
    queue_clock::correct_clock,
    queue_view::{self, JobChange, QueueReading, QueueView},
    store,
};
use am_audit::{AuditEntry, EventType};
use am_core::{
    crash_point,
    ids::{JobId, PrincipalId},
    money::Money,
};
use am_db::{Result, Tx, codec::Timestamp, owner, principal::Principal};
use am_ledger::{CostPayee, EntryTags, LedgerError, cost_entry, payer_of};
use am_webhooks::{WebhookEvent, WebhookEventKind};

/// Ended jobs reported per transaction.
const REPORT_BATCH: usize = 200;
/// Reason of the end of a job whose row is missing.
const MISSING_ROW_MESSAGE: &str = "its row is no longer in the coordinator's table";

/// End of a client's job, as sent to webhooks.
#[derive(Serialize)]
struct JobEndedEvent<'a> {
    job_id: &'a JobId,
    service_type: &'a str,
    client_id: &'a PrincipalId,
    status: JobState,
    error: Option<&'a str>,
    miner: Option<&'a str>,
    price: Option<Money>,
    submitted_at: Timestamp,
    running_at: Option<Timestamp>,
    ended_at: Timestamp,
}

impl JobQueue {
    /// Read all open jobs and report those that have ended.
    pub(super) async fn sweep(&self) -> Result<()> {
        let QueueReading { top, fresh, news } = self.read_queue().await?;
        let (ours, others): (Vec<_>, Vec<_>) = {
            let queue = self.queue();
            news.into_iter().partition(|news| queue.is_ours(news))
        };
        let begun = fresh.iter().filter(|found| found.ours && found.state != Some(JobState::Queued));
        let begun = begun.map(|found| JobChange { id: found.id.clone(), state: found.state, gone: false });
        let told: Vec<JobChange> = ours.into_iter().chain(begun).collect();
        // Jobs whose end can't be reported now are kept and read again.
        for chunk in told.chunks(REPORT_BATCH) {
            self.tell(chunk).await?;
        }
        let mut queue = self.queue();
        queue.learn(QueueReading { top, fresh, news: told.into_iter().chain(others).collect() });
        self.0.metrics.open.set(queue.len() as i64);
        Ok(())
    }

    /// Read the jobs that are new or have changed since the last read.
    async fn read_queue(&self) -> Result<QueueReading> {
        let known = self.queue().known();
        let mut conn = self.0.db.read().await?;
        let top = queue_view::store::highest_rowid(&mut conn).await?;
        if top < known.last {
            // The coordinator's table was emptied or compacted, so row numbers have a new meaning.
            *self.queue() = QueueView::default();
            return Err(am_db::DatabaseError::InvalidValue("the row numbers of table job decreased".to_owned()));
        }
        let mut fresh = queue_view::store::find_new_jobs(&mut conn, known.last, top).await?;
        if known.begun && self.0.settings.finds_clock && correct_clock(&fresh, self.0.clock.now()) {
            // Read in the other clock.
            fresh = queue_view::store::find_new_jobs(&mut conn, known.last, top).await?;
        }
        let mut news: Vec<JobChange> = Vec::new();
        for (ids, state) in &known.open {
            news.extend(queue_view::store::find_changed(&mut conn, ids, *state).await?);
        }
        if !known.begun {
            let gone = queue_view::store::find_missing(&mut conn).await?;
            news.extend(gone.into_iter().map(|id| JobChange { id, state: None, gone: true }));
        }
        Ok(QueueReading { top, fresh, news })
    }

    /// Store the new states of clients' jobs and enqueue their webhook deliveries.
    async fn tell(&self, news: &[JobChange]) -> Result<()> {
        let (me, news) = (self.clone(), news.to_vec());
        let now = Timestamp(self.0.clock.now());
        crash_point!("jobs.before_telling");
        let told = self.0.db.write(async move |tx: &mut Tx| {
            let mut entries = Vec::new();
            for JobChange { id, state, gone } in news {
                match state {
                    Some(state) if !state.is_final() => {
                        if let Some(service) = queue_view::store::record_state(tx, &id, state, now).await? {
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
        id: &JobId,
        now: Timestamp,
        by: Option<&Principal>,
    ) -> Result<Option<AuditEntry>> {
        let ids = [id.clone()];
        let how = store::find_outcomes(tx.conn().await?, &self.0.names, &ids).await?.pop().map(|(_, how)| how);
        let JobOutcome { state, error, miner, price, .. } = match how {
            Some(how) => how,
            None if store::job_exists(tx.conn().await?, id).await? => return Ok(None),
            None => JobOutcome {
                state: JobState::Canceled,
                result: Value::Null,
                error: Some(MISSING_ROW_MESSAGE.to_owned()),
                price: None,
                receipt: Value::Null,
                miner: None,
            },
        };
        let Some(kind) = event_kind(state) else { return Ok(None) };
        let Some(kept) = queue_view::store::record_end(tx, id, state, now).await? else { return Ok(None) };
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
        let source = format!("job:{id}");
        let owner = Some(kept.client_id.as_str());
        let event = WebhookEvent { kind, owner, data: &data, source: Some(&source) };
        self.0.webhooks.enqueue(tx, event, now).await.map_err(to_database_error)?;
        let tags = EntryTags { principal: Some(payer_of(&kept.client_id)), ..EntryTags::default() };
        let cost = cost_entry(tags, CostPayee::Outside, price.unwrap_or_default()).of("job", id.as_str());
        self.0.ledger.post(tx, cost).await.map_err(ledger_error)?;
        self.0.ledger.release_subject(tx, id).await.map_err(ledger_error)?;
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
        Ok(Some(entry.data("client_id", json!(kept.client_id)).reason(error.as_deref())))
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
                    if store::expire_queued(tx, id).await? {
                        entries.extend(me.record_end(tx, id, now, None).await?);
                    }
                }
                me.0.audit.append(tx, entries).await
            });
            expired.await?;
            self.queue().mark_expired(chunk);
        }
        Ok(())
    }
}

/// Kind of the event that reports this end of a job; `None` for a state that is no end.
fn event_kind(state: JobState) -> Option<WebhookEventKind> {
    match state {
        JobState::Queued | JobState::Running => None,
        JobState::Completed => Some(WebhookEventKind::JobCompleted),
        JobState::Failed => Some(WebhookEventKind::JobFailed),
        JobState::Canceled => Some(WebhookEventKind::JobCanceled),
        JobState::Expired => Some(WebhookEventKind::JobExpired),
    }
}

/// Convert the error: a cost that can't be posted ends no job.
fn ledger_error(error: LedgerError) -> am_db::DatabaseError {
    match error {
        LedgerError::Db(error) => error,
        other => am_db::DatabaseError::InvalidValue(other.to_string()),
    }
}

/// Convert the error: the delivery must be stored together with the change that it reports, or neither.
fn to_database_error(error: am_webhooks::WebhookError) -> am_db::DatabaseError {
    match error {
        am_webhooks::WebhookError::Db(error) => error,
        other => am_db::DatabaseError::InvalidValue(other.to_string()),
    }
}
