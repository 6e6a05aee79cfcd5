//! What clients do with jobs: put them into the queue, look at them, wait for them, take them back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    error::{Error, Fault, Result},
    estimate::{Estimate, Standing, estimate},
    model::{Constraints, JobState, NewJob, Service},
    open, request,
    request::Variant,
    store,
    watch::Jobs,
};
use am_audit::{Entry, EventType};
use am_db::{
    Tx,
    codec::{Doc, Timestamp},
    once::{Done, Once},
    owner::Owner,
    page::Page,
    principal::Principal,
};

/// Who asks, and whose jobs that shows.
#[derive(Clone, Debug)]
pub struct Who {
    /// The caller.
    pub caller: Principal,
    /// Everybody's, not only the caller's own.
    pub all: bool,
}

impl Who {
    fn may_see(&self, client_id: &str) -> bool {
        self.all || self.caller.owns(client_id)
    }
}

/// A job as a client asks for it.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is asked for.
    pub service: Service,
    /// By which route.
    pub variant: Variant,
    /// The request as it came.
    pub body: Value,
    /// Replaces the service's own time to live.
    pub ttl: Option<Duration>,
    /// When it is no longer wanted.
    pub deadline: Option<Timestamp>,
    /// The most a miner may take for it.
    pub max_price: Option<f64>,
}

/// A job that was put into the queue.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ServiceResponse)]
pub struct Accepted {
    /// 32 hex digits.
    pub job_id: String,
    /// What is asked for.
    pub service_type: Service,
    /// QUEUED.
    pub status: JobState,
    /// When it is likely to be done; null where no job of the service was completed yet.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub estimated_completion: Option<Timestamp>,
    /// What that rests on.
    pub estimate: Estimate,
    /// Its place in the queue, from 1.
    pub position: usize,
    /// A principal.
    pub client_id: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// When it expires if no miner has taken it.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What a miner must have.
    #[schema(value_type = Object)]
    pub constraints: Value,
}

/// A job in the coordinator's table.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// As it is stored: a principal, or a key where the coordinator wrote it.
    pub client_id: String,
    /// None: a word that this service does not know.
    pub state: Option<JobState>,
    /// The same as it is stored.
    pub status: String,
    /// None: one that this service does not know.
    pub service: Option<Service>,
    /// The same as it is stored.
    pub service_type: Option<String>,
    /// How long it stays open, in seconds.
    pub ttl_seconds: i64,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it expires if no miner has taken it.
    pub expires_at: Timestamp,
    /// Who has taken it.
    pub miner: Option<String>,
    /// Why it did not end well.
    pub error: Option<String>,
    /// The coordinator's word for how its payment stands.
    pub payment_status: Option<String>,
    /// When it was first seen with a miner; clients' jobs only.
    pub running_at: Option<Timestamp>,
    /// When its end was noticed; clients' jobs only.
    pub ended_at: Option<Timestamp>,
    /// Service and request.
    pub payload: Doc,
    /// What a miner must have.
    pub constraints: Doc,
    /// What the miner delivered.
    pub result: Doc,
    /// The miner's receipt.
    pub receipt: Doc,
}

impl Job {
    /// Will nothing happen to it any more?
    pub fn is_final(&self) -> bool {
        self.state.is_some_and(JobState::is_final)
    }

    /// Whose it is; never a key.
    pub fn client(&self) -> Owner {
        Owner::from_stored(&self.client_id)
    }
}

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<JobState>,
    /// Of this service.
    pub service: Option<Service>,
}

/// A job that was taken back, or asked to stop.
#[derive(Clone, Debug)]
pub struct Canceled {
    /// As it is now.
    pub job: Job,
    /// The state that it was in.
    pub was: JobState,
}

impl Jobs {
    /// Put a job into the queue, for the coordinator to hand to a miner.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the request.
    pub async fn submit(&self, caller: &Principal, order: Order, once: Option<Once>) -> Result<Done<Accepted>> {
        let now = self.0.clock.now();
        let job = self.job(caller, order, now)?;
        let accepted = self.accepted(&job, now).await?;
        let (me, by) = (self.clone(), caller.clone());
        let done = self.0.db.write_once(&self.0.clock, once, async move |tx: &mut Tx| {
            store::enqueue(tx, &job).await?;
            open::store::keep(tx, &job).await?;
            let entry = Entry::new(EventType::WorkflowUpdated, Timestamp(now)).by(&by).of("job", "submitted");
            let entry = entry.data("job_id", json!(job.id)).data("service_type", json!(job.service.name()));
            me.0.audit.append(tx, vec![entry]).await?;
            tx.after_commit(move || {
                me.0.metrics.came_to(job.service, JobState::Queued);
                me.wake();
            });
            Ok::<_, Error>(accepted)
        });
        done.await
    }

    /// What no miner should be given, in a request that is not a client's of the services' routes.
    pub fn hazards(&self, service: Service, request: &Value) -> Vec<Fault> {
        request::hazards(service, request, self.0.settings.private_addresses)
    }

    fn job(&self, caller: &Principal, order: Order, now: DateTime<Utc>) -> Result<NewJob> {
        let private = self.0.settings.private_addresses;
        let request = request::read(order.service, order.variant, order.body, private)?;
        let mut constraints = Constraints::of(order.service, &request);
        if let Some(price) = order.max_price {
            constraints.0.insert("max_price".to_owned(), json!(price));
        }
        let own = order.ttl.unwrap_or_else(|| order.service.ttl(&request));
        let until = order.deadline.map(|deadline| (deadline.0 - now).to_std().unwrap_or_default());
        Ok(NewJob {
            id: self.0.ids.hex(32),
            client_id: caller.name.to_string(),
            service: order.service,
            request,
            constraints,
            requested_at: now,
            ttl: until.map_or(own, |left| left.min(own)),
        })
    }

    async fn accepted(&self, job: &NewJob, now: DateTime<Utc>) -> Result<Accepted> {
        let standing = Standing { state: JobState::Queued, requested_at: now, running_at: None };
        let estimate = self.estimated(job.service, &standing, now).await?;
        Ok(Accepted {
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

    async fn estimated(&self, service: Service, standing: &Standing, now: DateTime<Utc>) -> Result<Estimate> {
        let took = open::store::took(&mut *self.0.db.read().await?, service).await?;
        Ok(estimate(&took, standing, now))
    }

    /// When a job is likely to be done.
    ///
    /// # Errors
    /// As the database.
    pub async fn estimate(&self, job: &Job) -> Result<Estimate> {
        let (Some(service), Some(state)) = (job.service, job.state) else {
            let reason = Some("its service or state is not one that this service knows".to_owned());
            return Ok(Estimate { reason, ..Estimate::default() });
        };
        let running_at = job.running_at.map(|at| at.0);
        let standing = Standing { state, requested_at: job.requested_at.0, running_at };
        self.estimated(service, &standing, self.0.clock.now()).await
    }

    /// Where a queued job stands in the queue, from 1; none for others.
    pub fn position(&self, job: &Job) -> Option<usize> {
        let now = self.0.clock.now();
        let queued = job.state == Some(JobState::Queued);
        queued.then(|| self.queue().before(&job.id, job.requested_at.0, now) + 1)
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for another's.
    pub async fn get(&self, who: &Who, id: &str) -> Result<Job> {
        let job = store::get(&mut *self.0.db.read().await?, id).await?.ok_or(Error::NotFound)?;
        if who.may_see(&job.client_id) { Ok(job) } else { Err(Error::Forbidden) }
    }

    /// The same, once it has ended or `wait` is over.
    ///
    /// # Errors
    /// As [`Jobs::get`].
    pub async fn wait(&self, who: &Who, id: &str, wait: Duration) -> Result<Job> {
        // Whether there is one to wait for is known first.
        let job = self.get(who, id).await?;
        if job.is_final() {
            return Ok(job);
        }
        let deadline = tokio::time::Instant::now() + wait;
        let mut interest = self.follow_state(id);
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

    /// A page of jobs without their requests and results, newest first, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, who: &Who, filter: &Filter, page: &Page) -> Result<(Vec<Job>, i64)> {
        Ok(store::list(&mut *self.0.db.read().await?, who, filter, page).await?)
    }

    /// Take a job back that waits, or say of one that runs that nobody wants it any more: its row then says CANCELED, which
    /// is all that the coordinator and its miner can see. One that is canceled already stays so.
    ///
    /// # Errors
    /// As [`Jobs::get`]; [`Error::State`] when it has ended.
    pub async fn cancel(&self, who: &Who, id: &str) -> Result<Canceled> {
        let (me, who, id) = (self.clone(), who.clone(), id.to_owned());
        let now = Timestamp(self.0.clock.now());
        let canceled = self.0.db.write(async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?.ok_or(Error::NotFound)?;
            if !who.may_see(&found.client_id) {
                return Err(Error::Forbidden);
            }
            let was =
                found.state.ok_or_else(|| Error::State(format!("Job cannot be canceled: it is {}", found.status)))?;
            let changed = match was {
                JobState::Queued => store::take_back(tx, &id).await?,
                JobState::Running => store::stop(tx, &id).await?,
                JobState::Canceled => return Ok(Canceled { job: found, was }),
                _ => return Err(Error::State(format!("Job cannot be canceled: it is {}", found.status))),
            };
            if !changed {
                return Err(Error::State("The job changed at the same moment; try again".to_owned()));
            }
            let entry = match me.ended_in(tx, &id, now, Some(&who.caller)).await? {
                Some(entry) => entry,
                // A step's, or the coordinator's own.
                None => Entry::new(EventType::WorkflowUpdated, now).by(&who.caller).of("job", "canceled"),
            };
            let entry = entry.data("job_id", json!(id)).data("was", json!(was.word()));
            me.0.audit.append(tx, vec![entry]).await?;
            let job = store::get(tx.conn().await?, &id).await?.ok_or(Error::NotFound)?;
            let watching = me.clone();
            tx.after_commit(move || watching.wake());
            Ok(Canceled { job, was })
        });
        canceled.await
    }
}
