//! Driver of one run: begins ready steps, waits for results, and saves before the next effect. Pure steps are not saved
//! one by one, because repeating them is harmless; every external action is preceded by a saved record, and every
//! external result is saved at once.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::{
    Inner,
    actions::Failure,
    orders::Order,
    run::{Affords, AfterFailure, Outcome, Run, round},
    store::{Hold, NewRun, Save, Saved},
    trail,
};
use crate::{
    error::{Error, Result},
    executions::Execution,
    guard,
    model::Status,
    receipts,
};
use am_audit::Entry;
use am_db::{
    codec::Timestamp,
    once::{Done, Once},
};
use am_security::policies::{Refusal, rule};

/// Time for which a new run may execute pure steps before its first save.
const UNSEEN: Duration = Duration::from_millis(50);
/// Maximum time for which results of pure steps stay unsaved.
const UNSAVED: Duration = Duration::from_millis(200);

/// Signals to a driver from other tasks of this process.
#[derive(Default)]
pub struct Handle {
    /// Set when another worker holds the run: stop at once and save nothing.
    pub lost: CancellationToken,
    /// Notified when the run may have been paused or resumed.
    pub look: Notify,
}

/// Event that a driver waits for.
enum Landed {
    /// An attempt ended.
    Attempt { at: usize, result: std::result::Result<Box<Outcome>, Failure>, seconds: f64 },
    /// The delay before a retry has passed.
    RetryDue(usize),
}

type Flying = FuturesUnordered<Pin<Box<dyn Future<Output = Landed> + Send>>>;

/// Reason for which a driver ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The run has ended.
    Ended,
    /// The run has been released for any worker.
    Released,
    /// Another worker holds the run.
    Lost,
}

pub struct Driver {
    engine: Arc<Inner>,
    run: Run,
    handle: Arc<Handle>,
    flying: Flying,
    /// Deadline for saving the unsaved results.
    save_by: Option<Instant>,
    /// External tasks to submit, and to cancel, with the next save.
    orders: Vec<Order>,
    take_back: Vec<String>,
    /// Audit entries of policy refusals for the next save.
    refusals: Vec<Entry>,
    paused: bool,
}

impl Driver {
    pub fn new(engine: Arc<Inner>, run: Run, handle: Arc<Handle>) -> Self {
        let save_by = run.is_new.then(|| Instant::now() + UNSEEN);
        let flying = FuturesUnordered::new();
        let (orders, take_back, refusals) = Default::default();
        Self { engine, run, handle, flying, save_by, orders, take_back, refusals, paused: false }
    }

    /// The run's span: what is logged while it is driven is logged inside it. It has no parent, since a run outlives the
    /// request that began it; both name the same trace.
    pub fn span(&self) -> Span {
        let trace_id = self.run.trace_id.as_deref();
        tracing::info_span!(parent: None, "run", execution = self.run.id, trace_id)
    }

    /// Continue steps that were in progress when the previous worker lost the run.
    pub fn resume(&mut self) {
        let now = self.now();
        for at in 0..self.run.steps.len() {
            let step = &self.run.steps[at];
            if step.status == Status::Running {
                // Pure steps and calls are repeated as the same attempt; an external task is awaited, not submitted
                // again.
                self.perform(at, now);
            } else if let Some(due) = step.retry_at {
                let wait = (due.0 - now.0).to_std().unwrap_or_default();
                self.retry_after(at, wait);
            }
        }
        if !self.orders.is_empty() {
            // A step saved as begun always had its external task submitted in the same transaction.
            tracing::error!(execution = %self.run.id, "an external task was not recorded; submitting it now");
            self.save_by = Some(Instant::now());
        }
    }

    /// Execute the pure steps of a new run for a short time, then save it for the first time.
    pub async fn first_save(&mut self, once: Option<Once>) -> Result<Done<Execution>> {
        loop {
            self.before_first_save().await;
            let now = self.now();
            let hold = if self.run.status.is_final() { Hold::Ended } else { Hold::Driven };
            self.seal(now);
            let new = NewRun::of(&self.run);
            let save = Arc::new(self.take_save(hold, now));
            match self.engine.save_first(save, &new, once.clone()).await {
                Err(Error::Db(am_db::Error::Duplicate(_))) => {
                    self.flying.clear();
                    self.orders.clear();
                    self.run.begin_anew(&self.engine.ids);
                }
                answer => return answer,
            }
        }
    }

    async fn before_first_save(&mut self) {
        let due = self.save_by.unwrap_or_else(Instant::now);
        loop {
            let impure = self.begin_ready();
            if impure || self.run.status.is_final() || self.flying.is_empty() {
                return;
            }
            tokio::select! {
                Some(landed) = self.flying.next() => self.land(landed),
                () = tokio::time::sleep_until(due) => return,
            }
        }
    }

    /// Drive until the run has ended, is released, or lost.
    pub async fn drive(mut self) -> End {
        match self.go().await {
            Ok(end) => end,
            Err(Error::LeaseLost) => {
                tracing::info!(execution = %self.run.id, "another worker holds the execution; stopped driving it");
                End::Lost
            }
            Err(error) => {
                tracing::warn!(execution = %self.run.id, %error, "driving the execution failed; another worker will take it over");
                End::Lost
            }
        }
    }

    async fn go(&mut self) -> Result<End> {
        let mut policies = self.engine.policies.changes();
        loop {
            if self.run.status.is_final() {
                self.save(Hold::Ended).await?;
                return Ok(End::Ended);
            }
            let draining = self.paused || self.engine.stop.is_cancelled();
            if !draining && self.begin_ready() {
                self.save(Hold::Driven).await?;
            }
            if self.run.status.is_final() {
                continue;
            }
            if draining && !self.must_be_waited_for() {
                return self.release().await;
            }
            let time_left = self.time_left();
            tokio::select! {
                biased;
                () = self.handle.lost.cancelled() => return Err(Error::LeaseLost),
                Some(landed) = self.flying.next() => {
                    let outside = self.is_from_outside(&landed);
                    self.land(landed);
                    if outside {
                        self.save(Hold::Driven).await?;
                    } else {
                        self.save_by.get_or_insert_with(|| Instant::now() + UNSAVED);
                    }
                }
                () = maybe(time_left.map(|left| Instant::now() + left)) => self.out_of_time(),
                () = maybe(self.save_by) => self.save(Hold::Driven).await?,
                () = self.handle.look.notified() => self.save(Hold::Driven).await?,
                // Changed policies may allow it less time.
                Ok(()) = policies.changed() => {}
                () = self.engine.stop.cancelled(), if !draining => {}
                () = self.engine.kill.cancelled() => return self.release().await,
            }
        }
    }

    /// Release the run for any worker. Futures in progress are dropped first: they could interfere with the next
    /// driver's.
    async fn release(&mut self) -> Result<End> {
        self.flying.clear();
        self.save(Hold::Ready).await?;
        Ok(End::Released)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.now())
    }

    /// A stop or pause waits for calls in progress; external tasks continue by themselves and are awaited again later.
    fn must_be_waited_for(&self) -> bool {
        let steps = self.run.steps.iter();
        steps.filter(|step| step.status == Status::Running).any(|step| step.job_id.is_none())
    }

    fn is_from_outside(&self, landed: &Landed) -> bool {
        matches!(landed, Landed::Attempt { at, .. } if !self.run.plan.steps[*at].action.is_pure())
    }

    fn out_of_time(&mut self) {
        let now = self.now();
        let (limit, used) = (self.run.limits.seconds, self.run.active_seconds(now));
        if self.run.time_left(now).is_none_or(|left| !left.is_zero())
            && let Some((limit, policy)) = self.engine.policies.time_limit(self.run.security)
        {
            let refusal = Refusal::of(&policy, rule::MAX_EXECUTION_TIME, json!(limit), json!(round(used)));
            return self.refuse(None, Box::new(refusal), now);
        }
        self.fail(None, &format!("max_execution_time {limit}: {used:.3} seconds were used"), now);
    }

    fn fail(&mut self, at: Option<usize>, error: &str, now: Timestamp) {
        let jobs = self.run.fail(at, error, now);
        self.stop_flying(jobs);
    }

    /// Return the rest of the time limit, of the run itself and of its policies.
    fn time_left(&self) -> Option<Duration> {
        let now = self.now();
        let policy = self.engine.policies.time_limit(self.run.security);
        let left = policy.map(|(seconds, _)| self.run.left_of(seconds, now));
        self.run.time_left(now).into_iter().chain(left).min()
    }

    /// Check whether the current policies allow step `at` to begin with this input.
    fn allowed(&self, at: usize, input: &Value) -> std::result::Result<(), Box<Refusal>> {
        let (policies, run) = (&self.engine.policies, &self.run);
        if !policies.bind(run.security) {
            return Ok(());
        }
        let facts = guard::step_facts(&run.plan.steps[at], &self.engine.names, Some(input));
        policies.check_step(&run.terms().facts(run.steps.len()), &facts)
    }

    /// Fail the run because a policy forbids the step, or forbids that the run continues.
    fn refuse(&mut self, at: Option<usize>, refusal: Box<Refusal>, now: Timestamp) {
        let resource = if at.is_some() { "step" } else { "execution" };
        let run = &self.run;
        let mut entry = guard::refused(resource, run.security, &refusal, now)
            .on_behalf_of(&run.client_id)
            .from(run.origin.clone())
            .workflow(&run.workflow_id)
            .execution(&run.id);
        if let Some(at) = at {
            entry = entry.step(&run.steps[at].step_id);
        }
        self.refusals.push(entry);
        self.fail(at, &refusal.to_string(), now);
    }

    fn stop_flying(&mut self, jobs: Vec<String>) {
        self.flying.clear();
        self.take_back.extend(jobs);
    }

    /// Begin ready steps, up to the limit. Returns whether an external action is about to start, which must be saved
    /// first.
    fn begin_ready(&mut self) -> bool {
        let mut impure = false;
        if self.run.is_done() {
            let now = self.now();
            // All steps may be done already: a retried run that had exceeded its budget.
            match self.run.over_budget() {
                Some(limit) => self.fail(None, &limit, now),
                None => self.run.finish(now),
            }
            return false;
        }
        for at in self.run.ready() {
            let under_way = self.run.steps.iter().filter(|step| step.status == Status::Running).count();
            if under_way >= self.engine.config.max_parallel_steps {
                break;
            }
            let now = self.now();
            let input = match self.run.input(at) {
                Ok(input) => input,
                Err(error) => {
                    self.fail(Some(at), &format!("input_mappings: {error}"), now);
                    return false;
                }
            };
            if let Err(refusal) = self.allowed(at, &input) {
                self.refuse(Some(at), refusal, now);
                return false;
            }
            let estimate = self.engine.performer.estimate(&self.run.plan.steps[at].action);
            match self.run.affords(at, estimate) {
                Ok(Affords::Now) => self.run.begin(at, input, estimate, now),
                Ok(Affords::Perhaps) => continue,
                Err(limit) => {
                    self.fail(None, &limit, now);
                    return false;
                }
            }
            impure |= !self.run.plan.steps[at].action.is_pure();
            self.perform(at, now);
        }
        impure
    }

    fn perform(&mut self, at: usize, now: Timestamp) {
        let ids = &self.engine.ids;
        let (call, order) = self.engine.performer.prepare(&self.run, at, || ids.uuid(), now.0);
        if let Some(order) = order {
            let step = &mut self.run.steps[at];
            step.job_id = Some(order.id().to_owned());
            step.dirty = true;
            let (kind, data) = order.event(&self.run.plan.steps[at].key);
            self.run.tell(kind, now, data);
            self.orders.push(order);
        }
        let (step, attempt) = (&self.run.plan.steps[at], self.run.steps[at].attempts);
        let (timeout, performer) = (step.timeout, self.engine.performer.clone());
        let span = tracing::debug_span!("step", step = %step.key, attempt);
        let performed = async move {
            let (result, seconds) = performer.perform(call, timeout).await;
            Landed::Attempt { at, result: result.map(Box::new), seconds }
        };
        self.flying.push(Box::pin(performed.instrument(span)));
    }

    fn retry_after(&mut self, at: usize, wait: Duration) {
        self.flying.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            Landed::RetryDue(at)
        }));
    }

    fn land(&mut self, landed: Landed) {
        let now = self.now();
        match landed {
            Landed::RetryDue(at) => self.run.steps[at].retry_at = None,
            Landed::Attempt { at, result: Ok(outcome), .. } => {
                let key = &self.run.plan.steps[at].key;
                let measured = outcome.memory_mb;
                let over = measured.map(|mb| self.engine.policies.check_memory(self.run.security, key, mb));
                if let Some(Err(refusal)) = over {
                    self.run.settle(at, &outcome);
                    return self.refuse(Some(at), refusal, now);
                }
                let over = match self.run.complete(at, *outcome, now) {
                    Err(error) => Some((Some(at), error)),
                    Ok(()) => self.run.over_budget().map(|error| (None, error)),
                };
                if let Some((at, error)) = over {
                    self.fail(at, &error, now);
                }
            }
            Landed::Attempt { at, result: Err(failure), seconds } => {
                // An abandoned job must not be done and paid for.
                self.take_back.extend(self.run.steps[at].job_id.take());
                let random = self.engine.ids.fraction();
                match self.run.attempt_failed(at, &failure.message, seconds, failure.retryable, random, now) {
                    AfterFailure::Retry(wait) => self.retry_after(at, wait),
                    AfterFailure::Final(jobs) => self.stop_flying(jobs),
                }
            }
        }
    }

    /// Issue the receipt of a completed run, signed over everything that is saved with it.
    fn seal(&mut self, now: Timestamp) {
        if self.run.status == Status::Completed && self.run.receipt.get().is_none() {
            self.run.receipt = receipts::issue(&self.run, &self.engine.signer, &self.engine.ids, now);
        }
    }

    fn take_save(&mut self, hold: Hold, now: Timestamp) -> Save {
        let mut save = Save::of(&mut self.run, hold, &self.engine.worker.id, now);
        save.orders = std::mem::take(&mut self.orders);
        save.take_back = std::mem::take(&mut self.take_back);
        save.trail.extend(save.take_back.iter().map(|order| trail::taken_back(&self.run, order, now)));
        save.trail.append(&mut self.refusals);
        self.save_by = None;
        save
    }

    /// Save, and retry while the database is busy: the driver does nothing else until it is saved.
    async fn save(&mut self, hold: Hold) -> Result<()> {
        let now = self.now();
        self.seal(now);
        let save = Arc::new(self.take_save(hold, now));
        let mut wait = Duration::from_millis(50);
        loop {
            match self.engine.save(save.clone()).await {
                Ok(Saved { paused }) => {
                    self.paused = paused;
                    return Ok(());
                }
                Err(Error::Db(error @ (am_db::Error::Busy | am_db::Error::Full)))
                    if !self.engine.kill.is_cancelled() =>
                {
                    tracing::warn!(execution = %self.run.id, %error, "could not save the execution; retrying");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sleep until this time, or forever.
async fn maybe(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
