//! Operations of clients on jobs: submit, read, list, wait and cancel.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    error::{JobError, Result},
    estimate::{JobEstimate, JobProgress, estimate_completion},
    job_queue::JobQueue,
    model::{JobFilter, JobRecord, JobService, JobState, JobViewer, MinerConstraints, NewJob},
    outcome::{JobCost, JobOutcome},
    pages, queue_view, request,
    request::RequestVariant,
    store,
};
use am_audit::{AuditEntry, EventType};
use am_core::{
    boxed,
    config::ConstraintRule,
    ids::{JobId, PrincipalId},
    money::Money,
    validation::{FieldPath, Violation},
};
use am_db::{
    Tx,
    codec::{JsonText, Timestamp},
    idempotency::{IdempotencyKey, IdempotentResult},
    kept_list::ListPage,
    owner,
    page::PageRequest,
    principal::Principal,
};
use am_ledger::{BudgetUse, payer_of};

/// Limit of a caller's open jobs.
#[derive(Clone, Copy, Debug)]
pub struct OpenJobLimit {
    /// Number of jobs of the caller that may be open at once.
    pub most: i64,
    /// Name of the setting that says so.
    pub setting: &'static str,
}

/// A job to be submitted by a client.
#[derive(Clone, Debug)]
pub struct JobSubmission {
    /// Service that is requested.
    pub service: JobService,
    /// Variant of the service, given by the route.
    pub variant: RequestVariant,
    /// Request body as received.
    pub body: Value,
    /// Time to live; `None` takes the service's default.
    pub ttl: Option<Duration>,
    /// Time after which the result is not needed; `None` sets no deadline.
    pub deadline: Option<Timestamp>,
    /// Highest price that a miner may charge, in the marketplace's currency; `None` sets no limit.
    pub max_price: Option<Money>,
    /// Limit of the caller's open jobs.
    pub limit: OpenJobLimit,
}

/// A job that was accepted into the queue.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ServiceResponse)]
pub struct AcceptedJob {
    /// Id of the job: 32 hex digits.
    pub job_id: JobId,
    /// Service that is requested.
    pub service_type: JobService,
    /// State of the job, always QUEUED.
    pub status: JobState,
    /// Estimated time of completion; null when no job of the service has completed yet.
    pub estimated_completion: Option<Timestamp>,
    /// Basis of the estimate.
    pub estimate: JobEstimate,
    /// Position in the queue, from 1.
    pub position: usize,
    /// Principal of the client.
    pub client_id: PrincipalId,
    /// Time of submission.
    pub requested_at: Timestamp,
    /// Time at which the job expires if no miner has taken it.
    pub expires_at: Timestamp,
    /// Requirements on the miner.
    #[schema(value_type = Object)]
    pub constraints: Value,
}

/// Result of a cancellation.
#[derive(Clone, Debug)]
pub struct CanceledJob {
    /// The job after the cancellation.
    pub job: JobRecord,
    /// State before the cancellation.
    pub was: JobState,
}

impl JobQueue {
    /// Submit a job to the queue, from which the coordinator hands it to a miner.
    ///
    /// # Errors
    /// Returns [`JobError::Invalid`] with all faults of the request; [`JobError::QuotaReached`]; [`JobError::Ledger`] where a budget has no
    /// room for the highest price.
    #[boxed]
    pub async fn submit(
        &self,
        caller: &Principal,
        order: JobSubmission,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AcceptedJob>> {
        let (now, OpenJobLimit { most, setting }) = (self.0.clock.now(), order.limit);
        let most_price = order.max_price;
        let job = self.job(caller, order, now)?;
        let accepted = self.accepted(&job, now).await?;
        let (me, by) = (self.clone(), caller.clone());
        let done = self.0.db.write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
            if queue_view::store::count_open(tx.conn().await?, &job.client_id, most).await? >= most {
                return Err(JobError::QuotaReached { setting, most });
            }
            if let Some(price) = most_price {
                let payer = payer_of(&job.client_id);
                let spending = BudgetUse { principal: &payer, agent: None, workflow: None };
                me.0.ledger.reserve_for(tx, &job.id, &spending, price).await?;
            }
            store::enqueue(tx, &job).await?;
            queue_view::store::insert_client_job(tx, &job).await?;
            let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(now)).by(&by).of("job", "submitted");
            let entry = entry.data("job_id", json!(job.id)).data("service_type", json!(job.service.name()));
            me.0.audit.append(tx, vec![entry]).await?;
            tx.after_commit(move || {
                me.0.metrics.count_state(job.service, JobState::Queued);
                me.wake();
            });
            Ok::<_, JobError>(accepted)
        });
        done.await
    }

    /// Validate the request of a step and fill in its defaults, by the rules of the services' routes. Members that the
    /// service does not know are left out.
    ///
    /// # Errors
    /// All faults of the request.
    pub fn validate_step_request(
        &self,
        service: JobService,
        body: Value,
    ) -> std::result::Result<Value, Vec<Violation>> {
        let private = self.0.settings.private_addresses;
        request::validate_request(service, RequestVariant::Plain, body, private).map_err(|error| match error {
            JobError::Invalid(faults) => faults,
            other => vec![Violation::new(FieldPath::default(), other.to_string())],
        })
    }

    /// Requirements on the miner that is given `request`.
    pub fn constraints(&self, service: JobService, request: &Value) -> MinerConstraints {
        let contract = MinerConstraints::for_request(service, request);
        match self.0.settings.constraints {
            ConstraintRule::Strict => contract,
            ConstraintRule::Matching => contract.matching(request, &self.0.announced.lock()),
        }
    }

    fn job(&self, caller: &Principal, order: JobSubmission, now: DateTime<Utc>) -> Result<NewJob> {
        let private = self.0.settings.private_addresses;
        let request = request::validate_request(order.service, order.variant, order.body, private)?;
        let mut constraints = self.constraints(order.service, &request);
        if let Some(price) = order.max_price {
            constraints.0.insert("max_price".to_owned(), json!(price));
        }
        let own = order.ttl.unwrap_or_else(|| order.service.ttl(&request));
        let until = order.deadline.map(|deadline| (deadline.0 - now).to_std().unwrap_or_default());
        Ok(NewJob {
            id: self.0.ids.uuid().into(),
            client_id: caller.id(),
            coordinator_client: self.coordinator_client(caller),
            service: order.service,
            request,
            constraints,
            requested_at: now,
            ttl: until.map_or(own, |left| left.min(own)),
        })
    }

    /// The id under which the coordinator knows a caller: the configured one, a token's subject, or else its principal.
    fn coordinator_client(&self, caller: &Principal) -> String {
        let configured = self.0.settings.client_ids.get(&*caller.name).cloned();
        let subject = || {
            let other = caller.aliases.iter().find(|alias| ***alias != *caller.name);
            other.filter(|_| owner::is_token_principal(&caller.name)).cloned()
        };
        configured.or_else(subject).unwrap_or_else(|| caller.name.to_string())
    }

    /// `who`, to whom the jobs under the coordinator's id of it belong too.
    fn known_as(&self, who: &JobViewer) -> JobViewer {
        let mut who = who.clone();
        if let Some(id) = self.0.settings.client_ids.get(&*who.caller.name) {
            who.caller.aliases = who.caller.aliases.iter().chain([id]).cloned().collect();
        }
        who
    }

    async fn accepted(&self, job: &NewJob, now: DateTime<Utc>) -> Result<AcceptedJob> {
        let standing = JobProgress { state: JobState::Queued, requested_at: now, running_at: None };
        let estimate = self.estimated(job.service, &standing, now).await?;
        Ok(AcceptedJob {
            job_id: job.id.clone(),
            service_type: job.service,
            status: JobState::Queued,
            estimated_completion: estimate.estimated_completion,
            estimate,
            position: self.queue().before(&job.id, now, now) + 1,
            client_id: job.client_id.clone(),
            requested_at: Timestamp(now),
            expires_at: Timestamp(now + job.ttl),
            constraints: Value::Object(job.constraints.0.clone()),
        })
    }

    async fn estimated(&self, service: JobService, standing: &JobProgress, now: DateTime<Utc>) -> Result<JobEstimate> {
        let took = queue_view::store::recent_durations(&mut *self.0.db.read().await?, service).await?;
        Ok(estimate_completion(&took, standing, now))
    }

    /// Estimate when a job will complete.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn estimate(&self, job: &JobRecord) -> Result<JobEstimate> {
        let (Some(service), Some(state)) = (job.service, job.state) else {
            let reason = Some("its service or state is not one that this service knows".to_owned());
            return Ok(JobEstimate { reason, ..JobEstimate::default() });
        };
        let running_at = job.running_at.map(|at| at.0);
        let standing = JobProgress { state, requested_at: job.requested_at.0, running_at };
        self.estimated(service, &standing, self.0.clock.now()).await
    }

    /// Costs of those of these jobs that have ended, or are gone: `None` for one that cost nothing, because it did not complete.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn final_costs(&self, ids: &[JobId]) -> am_db::Result<Vec<(JobId, Option<JobCost>)>> {
        let mut conn = self.0.db.read().await?;
        let ended = store::find_outcomes(&mut conn, &self.0.names, ids).await?;
        let found: HashMap<JobId, JsonText> = store::read_constraints(&mut conn, ids).await?.into_iter().collect();
        let gone = ids.iter().filter(|id| !found.contains_key(*id)).map(|id| (id.clone(), None));
        let cost = |(id, how): (JobId, JobOutcome)| {
            let constraints: Option<Value> = found.get(&id).and_then(|doc| doc.parse().ok().flatten());
            let max_price = constraints.and_then(|constraints| constraints.get("max_price")?.as_f64());
            let max_price = max_price.map(Money::from_f64);
            let completed = how.state == JobState::Completed;
            (id, completed.then(|| JobCost { price: how.price.unwrap_or_default(), max_price }))
        };
        Ok(ended.into_iter().map(cost).chain(gone).collect())
    }

    /// Position of a queued job, from 1; `None` in other states.
    pub fn position(&self, job: &JobRecord) -> Option<usize> {
        let now = self.0.clock.now();
        let queued = job.state == Some(JobState::Queued);
        queued.then(|| self.queue().before(&job.id, job.requested_at.0, now) + 1)
    }

    /// A job by its id.
    ///
    /// # Errors
    /// Returns [`JobError::NotFound`], for a job of another client too.
    #[boxed]
    pub async fn get(&self, who: &JobViewer, id: &JobId) -> Result<JobRecord> {
        let found = store::get_job(&mut *self.0.db.read().await?, &self.0.names, id).await?;
        let who = self.known_as(who);
        found.filter(|job| who.may_see(job)).ok_or(JobError::NotFound)
    }

    /// Return a job once it has ended or `wait` has passed.
    ///
    /// # Errors
    /// Same as [`JobQueue::get`].
    #[boxed]
    pub async fn wait(&self, who: &JobViewer, id: &JobId, wait: Duration) -> Result<JobRecord> {
        // Check first that the job exists and may be accessed.
        let job = self.get(who, id).await?;
        if job.is_final() {
            return Ok(job);
        }
        let deadline = tokio::time::Instant::now() + wait;
        let mut interest = self.subscribe_state(id);
        loop {
            let job = self.get(who, id).await?;
            if job.is_final() || self.is_stopping() {
                return Ok(job);
            }
            if tokio::time::timeout_at(deadline, interest.changed()).await.is_err() {
                return self.get(who, id).await;
            }
        }
    }

    /// A page of jobs without their requests and results, newest first.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, who: &JobViewer, filter: &JobFilter, page: &PageRequest) -> Result<ListPage<JobRecord>> {
        let who = self.known_as(who);
        Ok(pages::list(&self.0.db, &self.0.names, &who, filter, page).await?)
    }

    /// Cancel a job. A queued job is withdrawn; of a running one the row changes to CANCELED, which is all that the
    /// coordinator and its miner can see. A job that was cancelled before stays so.
    ///
    /// # Errors
    /// Same as [`JobQueue::get`]; [`JobError::InvalidState`] when the job has ended.
    #[boxed]
    pub async fn cancel(&self, who: &JobViewer, id: &JobId) -> Result<CanceledJob> {
        let (who, id) = (self.known_as(who), id.clone());
        let me = self.clone();
        let now = Timestamp(self.0.clock.now());
        let canceled = self.0.db.write(async move |tx: &mut Tx| {
            let found = store::get_job(tx.conn().await?, &me.0.names, &id).await?;
            let found = found.filter(|job| who.may_see(job)).ok_or(JobError::NotFound)?;
            let was = found
                .state
                .ok_or_else(|| JobError::InvalidState(format!("Job cannot be canceled: it is {}", found.status)))?;
            let changed = match was {
                JobState::Queued => store::cancel_queued(tx, &id).await?,
                JobState::Running => store::cancel_running(tx, &id).await?,
                JobState::Canceled => return Ok(CanceledJob { job: found, was }),
                _ => return Err(JobError::InvalidState(format!("Job cannot be canceled: it is {}", found.status))),
            };
            if !changed {
                return Err(JobError::InvalidState("The job changed concurrently; try again".to_owned()));
            }
            let entry = match me.record_end(tx, &id, now, Some(&who.caller)).await? {
                Some(entry) => entry,
                // A job of a step, or the coordinator's own.
                None => AuditEntry::new(EventType::WorkflowUpdated, now).by(&who.caller).of("job", "canceled"),
            };
            let entry = entry.data("job_id", json!(id)).data("was", json!(was.word()));
            me.0.audit.append(tx, vec![entry]).await?;
            let job = store::get_job(tx.conn().await?, &me.0.names, &id).await?.ok_or(JobError::NotFound)?;
            let watching = me.clone();
            tx.after_commit(move || watching.wake());
            Ok(CanceledJob { job, was })
        });
        canceled.await
    }
}
