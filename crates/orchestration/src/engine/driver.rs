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
    EngineInner, FirstSave, audit_entries,
    checkpoint::{NewExecution, Ownership, RunCheckpoint},
    external_tasks::ExternalTask,
    invocation::ActionFailure,
    store::SaveOutcome,
};
use crate::{
    error::{OrchestrationError, Result},
    guard::{self, GuardedResource},
    model::ExecutionStatus,
    receipts,
    run::{AfterFailure, AttemptResult, BudgetCheck, Execution, RunState, round_progress},
};
use am_audit::AuditEntry;
use am_core::{ambient::SteadyClock, ids::ExternalTaskId};
use am_db::{codec::Timestamp, idempotency::IdempotentResult};
use am_security::policies::{PolicyRefusal, rule};

/// Time for which a new run may execute pure steps before its first save.
const FIRST_SAVE_DEADLINE: Duration = Duration::from_millis(50);
/// Maximum time for which results of pure steps stay unsaved.
const MAX_UNSAVED: Duration = Duration::from_millis(200);

/// Signals to a driver from other tasks of this process.
#[derive(Default)]
pub struct DriverHandle {
    /// Set when another worker holds the run: stop at once and save nothing.
    pub lost: CancellationToken,
    /// Notified when the run may have been paused or resumed.
    pub look: Notify,
}

/// Event that a driver waits for.
enum Completion {
    /// An attempt ended.
    Attempt { at: usize, result: std::result::Result<Box<AttemptResult>, ActionFailure>, seconds: f64 },
    /// The delay before a retry has passed.
    RetryDue(usize),
}

type InFlight = FuturesUnordered<Pin<Box<dyn Future<Output = Completion> + Send>>>;

/// Reason for which a driver ended.
#[derive(Debug, PartialEq, Eq)]
pub enum DriverEnd {
    /// The run has ended.
    Ended,
    /// The run has been released for any worker.
    Released,
    /// Another worker holds the run.
    Lost,
}

pub struct RunDriver {
    engine: Arc<EngineInner>,
    run: RunState,
    handle: Arc<DriverHandle>,
    flying: InFlight,
    /// Deadline for saving the unsaved results.
    save_by: Option<Instant>,
    /// External tasks to submit, and to cancel, with the next save.
    orders: Vec<ExternalTask>,
    take_back: Vec<ExternalTaskId>,
    /// Audit entries of policy refusals for the next save.
    refusals: Vec<AuditEntry>,
    paused: bool,
    /// Whether the claim still counts as one without progress.
    claim_counts: bool,
    /// Time of the run: the wall clock may be set while it is driven, and what took time would take more or less.
    clock: SteadyClock,
}

impl RunDriver {
    pub fn new(engine: Arc<EngineInner>, mut run: RunState, handle: Arc<DriverHandle>) -> Self {
        if let Some(behind) = run.settle_claim() {
            tracing::warn!(execution = %run.id, behind, "the wall clock is behind the run's last change; its time goes on from there");
        }
        let clock = engine.clock.steady_from(run.claimed_at.0);
        let save_by = run.is_new.then(|| Instant::now() + FIRST_SAVE_DEADLINE);
        let flying = FuturesUnordered::new();
        Self {
            engine,
            run,
            handle,
            flying,
            save_by,
            orders: Vec::new(),
            take_back: Vec::new(),
            refusals: Vec::new(),
            paused: false,
            claim_counts: false,
            clock,
        }
    }

    /// The run's span: what is logged while it is driven is logged inside it. It has no parent, since a run outlives the
    /// request that began it; both name the same trace.
    pub fn span(&self) -> Span {
        let trace_id = self.run.trace_id.as_deref();
        tracing::info_span!(parent: None, "run", execution = self.run.id.as_str(), trace_id)
    }

    /// Continue steps that were in progress when the previous worker lost the run.
    pub fn resume(&mut self) {
        self.claim_counts = true;
        let now = self.now();
        for at in 0..self.run.steps.len() {
            let step = &self.run.steps[at];
            if step.status == ExecutionStatus::Running {
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
    pub async fn save_first(&mut self, first: FirstSave) -> Result<IdempotentResult<Execution>> {
        loop {
            self.run_until_first_save().await;
            let now = self.now();
            let hold = if self.run.status.is_final() { Ownership::Ended } else { Ownership::Driven };
            self.seal(now);
            let new = NewExecution::from_run(&self.run);
            let save = Arc::new(self.take_checkpoint(hold, now));
            match self.engine.save_first(save, &new, first.clone()).await {
                Err(OrchestrationError::Db(am_db::DatabaseError::Duplicate(_))) => {
                    self.flying.clear();
                    self.orders.clear();
                    self.run.reset(&self.engine.ids);
                }
                answer => return answer,
            }
        }
    }

    async fn run_until_first_save(&mut self) {
        let due = self.save_by.unwrap_or_else(Instant::now);
        loop {
            let impure = self.begin_ready();
            if impure || self.run.status.is_final() || self.flying.is_empty() {
                return;
            }
            tokio::select! {
                Some(landed) = self.flying.next() => self.on_completion(landed),
                () = tokio::time::sleep_until(due) => return,
            }
        }
    }

    /// Drive until the run has ended, is released, or lost.
    pub async fn drive(mut self) -> DriverEnd {
        match self.drive_loop().await {
            Ok(end) => end,
            Err(OrchestrationError::LeaseLost) => {
                tracing::info!(execution = %self.run.id, "another worker holds the execution; stopped driving it");
                DriverEnd::Lost
            }
            Err(error) => {
                tracing::warn!(execution = %self.run.id, %error, "driving the execution failed; another worker will take it over");
                DriverEnd::Lost
            }
        }
    }

    async fn drive_loop(&mut self) -> Result<DriverEnd> {
        let mut policies = self.engine.policies.subscribe_changes();
        loop {
            if self.run.status.is_final() {
                self.save(Ownership::Ended).await?;
                return Ok(DriverEnd::Ended);
            }
            let draining = self.paused || self.engine.stop.is_cancelled();
            if !draining && self.begin_ready() {
                self.save(Ownership::Driven).await?;
            }
            if self.run.status.is_final() {
                continue;
            }
            if self.claim_counts && !self.computes() {
                // All that is left to do is to wait, which ends no process.
                self.save(Ownership::Driven).await?;
            }
            if draining && !self.has_calls_in_flight() {
                return self.release().await;
            }
            let time_left = self.time_left();
            tokio::select! {
                biased;
                () = self.handle.lost.cancelled() => return Err(OrchestrationError::LeaseLost),
                Some(landed) = self.flying.next() => {
                    let outside = self.is_external(&landed);
                    self.on_completion(landed);
                    if outside {
                        self.save(Ownership::Driven).await?;
                    } else {
                        self.save_by.get_or_insert_with(|| Instant::now() + MAX_UNSAVED);
                    }
                }
                () = sleep_until_some(time_left.map(|left| Instant::now() + left)) => self.fail_time_limit(),
                () = sleep_until_some(self.save_by) => self.save(Ownership::Driven).await?,
                () = self.handle.look.notified() => self.save(Ownership::Driven).await?,
                // Changed policies may allow it less time.
                Ok(()) = policies.changed() => {}
                () = self.engine.stop.cancelled(), if !draining => {}
                () = self.engine.kill.cancelled() => return self.release().await,
            }
        }
    }

    /// Release the run for any worker. Futures in progress are dropped first: they could interfere with the next
    /// driver's.
    async fn release(&mut self) -> Result<DriverEnd> {
        self.flying.clear();
        self.save(Ownership::Ready).await?;
        Ok(DriverEnd::Released)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// A stop or pause waits for calls in progress; external tasks continue by themselves and are awaited again later.
    fn has_calls_in_flight(&self) -> bool {
        let steps = self.run.steps.iter();
        steps.filter(|step| step.status == ExecutionStatus::Running).any(|step| step.job_id.is_none())
    }

    /// Whether a step that this process computes is in progress.
    fn computes(&self) -> bool {
        let mut steps = self.run.plan.steps.iter().zip(&self.run.steps);
        steps.any(|(spec, step)| step.status == ExecutionStatus::Running && spec.action.is_pure())
    }

    fn is_external(&self, landed: &Completion) -> bool {
        matches!(landed, Completion::Attempt { at, .. } if !self.run.plan.steps[*at].action.is_pure())
    }

    fn fail_time_limit(&mut self) {
        let now = self.now();
        let (limit, used) = (self.run.limits.seconds, self.run.active_seconds(now));
        if self.run.time_left(now).is_none_or(|left| !left.is_zero())
            && let Some((limit, policy)) = self.engine.policies.time_limit(self.run.security)
        {
            let refusal =
                PolicyRefusal::new(&policy, rule::MAX_EXECUTION_TIME, json!(limit), json!(round_progress(used)));
            return self.refuse(None, Box::new(refusal), now);
        }
        self.fail(None, &format!("max_execution_time {limit}: {used:.3} seconds were used"), now);
    }

    fn fail(&mut self, at: Option<usize>, error: &str, now: Timestamp) {
        let jobs = self.run.fail(at, error, now);
        self.stop_in_flight(jobs);
    }

    /// Return the rest of the time limit, of the run itself and of its policies.
    fn time_left(&self) -> Option<Duration> {
        let now = self.now();
        let policy = self.engine.policies.time_limit(self.run.security);
        let left = policy.map(|(seconds, _)| self.run.seconds_left(seconds, now));
        self.run.time_left(now).into_iter().chain(left).min()
    }

    /// Check whether the current policies allow step `at` to begin with this input.
    fn allowed(&self, at: usize, input: &Value) -> std::result::Result<(), Box<PolicyRefusal>> {
        let (policies, run) = (&self.engine.policies, &self.run);
        if !policies.bind(run.security) {
            return Ok(());
        }
        let facts = guard::step_facts(&run.plan.steps[at], &self.engine.names, Some(input));
        policies.check_step(&run.terms().facts(run.steps.len()), &facts)
    }

    /// Fail the run because a policy forbids the step, or forbids that the run continues.
    fn refuse(&mut self, at: Option<usize>, refusal: Box<PolicyRefusal>, now: Timestamp) {
        let resource = if at.is_some() { GuardedResource::Step } else { GuardedResource::Execution };
        let run = &self.run;
        let mut entry = guard::refusal_entry(resource, run.security, &refusal, now)
            .on_behalf_of(run.client_id.as_str())
            .from(run.origin.clone())
            .workflow(run.workflow_id.as_str())
            .execution(run.id.as_str());
        if let Some(at) = at {
            entry = entry.step(run.steps[at].step_id.as_str());
        }
        self.refusals.push(entry);
        self.fail(at, &refusal.to_string(), now);
    }

    fn stop_in_flight(&mut self, jobs: Vec<ExternalTaskId>) {
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
            match self.run.budget_exceeded() {
                Some(limit) => self.fail(None, &limit, now),
                None => self.run.finish(now),
            }
            return false;
        }
        for at in self.run.ready() {
            let under_way = self.run.steps.iter().filter(|step| step.status == ExecutionStatus::Running).count();
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
            match self.run.check_budget(at, estimate) {
                Ok(BudgetCheck::Fits) => self.run.begin(at, input, estimate, now),
                Ok(BudgetCheck::Pending) => continue,
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
        let (call, order) = self.engine.performer.prepare(&self.run, at, || ids.uuid(), self.engine.clock.now());
        if let Some(order) = order {
            let step = &mut self.run.steps[at];
            step.job_id = Some(order.id());
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
            Completion::Attempt { at, result: result.map(Box::new), seconds }
        };
        self.flying.push(Box::pin(performed.instrument(span)));
    }

    fn retry_after(&mut self, at: usize, wait: Duration) {
        self.flying.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            Completion::RetryDue(at)
        }));
    }

    fn on_completion(&mut self, landed: Completion) {
        let now = self.now();
        match landed {
            Completion::RetryDue(at) => self.run.steps[at].retry_at = None,
            Completion::Attempt { at, result: Ok(outcome), .. } => {
                let key = &self.run.plan.steps[at].key;
                let measured = outcome.memory_mb;
                let over = measured.map(|mb| self.engine.policies.check_memory(self.run.security, key, mb));
                if let Some(Err(refusal)) = over {
                    self.run.settle(at, &outcome);
                    return self.refuse(Some(at), refusal, now);
                }
                let over = match self.run.complete(at, *outcome, now) {
                    Err(error) => Some((Some(at), error)),
                    Ok(()) => self.run.budget_exceeded().map(|error| (None, error)),
                };
                if let Some((at, error)) = over {
                    self.fail(at, &error, now);
                }
            }
            Completion::Attempt { at, result: Err(failure), seconds } => {
                // An abandoned job must not be done and paid for.
                self.take_back.extend(self.run.steps[at].job_id.take());
                let random = self.engine.ids.fraction();
                match self.run.fail_attempt(at, &failure.message, seconds, failure.retryable, random, now) {
                    AfterFailure::Retry(wait) => self.retry_after(at, wait),
                    AfterFailure::Final(jobs) => self.stop_in_flight(jobs),
                }
            }
        }
    }

    /// Issue the receipt of a completed run, signed over everything that is saved with it.
    fn seal(&mut self, now: Timestamp) {
        if self.run.status == ExecutionStatus::Completed && self.run.receipt.get().is_none() {
            self.run.receipt = receipts::issue_receipt(&self.run, &self.engine.signer, &self.engine.ids, now);
        }
    }

    fn take_checkpoint(&mut self, hold: Ownership, now: Timestamp) -> RunCheckpoint {
        let mut save = RunCheckpoint::from_run(&mut self.run, hold, &self.engine.worker.id, now);
        // Others go by the wall clock.
        save.ordered_at = Timestamp(self.engine.clock.now());
        save.orders = std::mem::take(&mut self.orders);
        save.take_back = std::mem::take(&mut self.take_back);
        save.trail
            .extend(save.take_back.iter().map(|order| audit_entries::task_cancelled_entry(&self.run, order, now)));
        save.trail.append(&mut self.refusals);
        self.save_by = None;
        save
    }

    /// Save, and retry while the database is busy: the driver does nothing else until it is saved.
    async fn save(&mut self, hold: Ownership) -> Result<()> {
        let now = self.now();
        self.seal(now);
        let save = Arc::new(self.take_checkpoint(hold, now));
        let mut wait = Duration::from_millis(50);
        loop {
            match self.engine.save(save.clone()).await {
                Ok(SaveOutcome { paused }) => {
                    self.paused = paused;
                    self.claim_counts = false;
                    return Ok(());
                }
                Err(OrchestrationError::Db(error @ (am_db::DatabaseError::Busy | am_db::DatabaseError::DiskFull)))
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
async fn sleep_until_some(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
