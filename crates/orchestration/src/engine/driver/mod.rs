//! Driver of one run: begins ready steps, waits for results, and saves before the next effect. Pure steps are not saved
//! one by one, because repeating them is harmless; every external action is preceded by a saved record, and every
//! external result is saved at once.

mod limits;
mod places;
mod saving;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::{
    EngineInner, FirstSave,
    checkpoint::{NewExecution, Ownership},
    external_tasks::ExternalTask,
    failures::log_failure,
    invocation::{ActionFailure, ActionInvocation},
    value_memory::MemoryShare,
};
use crate::{
    error::{OrchestrationError, Result},
    event_kinds::ExecutionEventKind,
    model::ExecutionStatus,
    run::{AfterFailure, AttemptPrice, AttemptResult, BudgetCheck, Execution, RunState},
};
use am_audit::AuditEntry;
use am_core::{
    ambient::SteadyClock,
    blocking::in_place,
    fair::FairPlace,
    ids::{ExternalTaskId, PrincipalId},
    money::Money,
};
use am_db::{codec::Timestamp, idempotency::IdempotentResult};

/// Time for which a new run may execute pure steps before its first save.
const FIRST_SAVE_DEADLINE: Duration = Duration::from_millis(50);
/// Maximum time for which results of pure steps stay unsaved.
const MAX_UNSAVED: Duration = Duration::from_millis(200);
/// Bytes of unsaved inputs and outputs at which they are saved at once: a save takes several times as much memory.
const MAX_UNSAVED_BYTES: usize = 4 << 20;
/// Time, more or less, for which a run waits for memory for its values before it frees what it has, and is taken up again
/// later.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

/// Signals to a driver from other tasks of this process.
#[derive(Default)]
pub struct DriverHandle {
    /// Set when another worker holds the run: stop at once and save nothing.
    pub lost: CancellationToken,
    /// Notified when the run may have been paused or resumed.
    pub look: Notify,
    /// Since when the run has asked for a place to go on; none: it has one, or waits for something else.
    pub asked_at: parking_lot::Mutex<Option<Timestamp>>,
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
    /// Memory of the run's values.
    share: MemoryShare,
    /// Time until which it waits for more memory; `None`: it has enough.
    memory_by: Option<Instant>,
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
    /// Place among the runs that work; none while the run only waits.
    place: Option<FairPlace<PrincipalId>>,
    /// Place among the runs that only wait.
    parked: Option<FairPlace<PrincipalId>>,
    /// Place that was asked for to continue.
    asked: Option<BoxFuture<'static, FairPlace<PrincipalId>>>,
    /// Whether something has happened since steps were last begun.
    changed: bool,
    /// When this driver began.
    began: std::time::Instant,
    /// Absences of the process that are not counted as time of the run.
    excused: Duration,
    /// Costs of attempts that ended since the last save.
    unsaved_cost: Money,
    /// Whether the claim still counts as one without progress.
    claim_counts: bool,
    /// Time of the run: the wall clock may be set while it is driven, and what took time would take more or less.
    clock: SteadyClock,
    /// Kind of failure that ended the run, for the log.
    failure_class: &'static str,
}

impl RunDriver {
    pub fn new(
        engine: Arc<EngineInner>,
        mut run: RunState,
        share: MemoryShare,
        handle: Arc<DriverHandle>,
        place: FairPlace<PrincipalId>,
    ) -> Self {
        if let Some(behind) = run.settle_claim() {
            tracing::warn!(execution = %run.id, behind, "the wall clock is behind the run's last change; its time goes on from there");
        }
        let clock = engine.clock.steady_from(run.claimed_at.0);
        let save_by = run.is_new.then(|| Instant::now() + FIRST_SAVE_DEADLINE);
        let flying = FuturesUnordered::new();
        Self {
            engine,
            run,
            share,
            memory_by: None,
            handle,
            flying,
            save_by,
            orders: Vec::new(),
            take_back: Vec::new(),
            refusals: Vec::new(),
            paused: false,
            place: Some(place),
            parked: None,
            asked: None,
            changed: true,
            began: std::time::Instant::now(),
            excused: Duration::ZERO,
            unsaved_cost: Money::ZERO,
            claim_counts: false,
            clock,
            failure_class: "",
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
                let step = &mut self.run.steps[at];
                step.repeat_call = Some(step.call_number());
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
            let (new, save) = in_place(self.run.size().bytes, || {
                self.seal(now);
                (NewExecution::from_run(&self.run), Arc::new(self.take_checkpoint(hold, now)))
            });
            match self.engine.save_first(save, &new, first.clone()).await {
                Err(OrchestrationError::Db(am_db::DatabaseError::Duplicate(_))) => {
                    self.flying.clear();
                    self.orders.clear();
                    self.run.reset(&self.engine.ids);
                }
                answer => {
                    if answer.as_ref().is_ok_and(|saved| !saved.replayed) {
                        log_failure(&self.run, self.failure_class);
                    }
                    return answer;
                }
            }
        }
    }

    async fn run_until_first_save(&mut self) {
        let due = self.save_by.unwrap_or_else(Instant::now);
        loop {
            let impure = self.begin_ready();
            let must_save = impure || self.run.unsaved_bytes() > MAX_UNSAVED_BYTES;
            if must_save || self.run.status.is_final() || self.flying.is_empty() {
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
                self.book_late_cost().await;
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
                log_failure(&self.run, self.failure_class);
                return Ok(DriverEnd::Ended);
            }
            let memory = self.run.memory();
            let has_memory = self.engine.memory.try_grow(&mut self.share, memory);
            self.memory_by =
                if has_memory { None } else { Some(self.memory_by.unwrap_or_else(|| self.memory_deadline())) };
            let gives_way = self.memory_by.is_some_and(|by| by <= Instant::now());
            let draining = self.paused || gives_way || self.engine.stop.is_cancelled();
            if !draining && has_memory && self.may_begin() && self.begin_ready() {
                self.save(Ownership::Driven).await?;
            }
            if self.run.status.is_final() {
                continue;
            }
            self.changed = false;
            if self.claim_counts && !self.computes() {
                // All that is left to do is to wait, which ends no process.
                self.save(Ownership::Driven).await?;
            }
            if !self.has_calls_in_flight() {
                if draining {
                    return self.release().await;
                }
                self.park();
            }
            let time_left = self.time_left();
            tokio::select! {
                biased;
                () = self.handle.lost.cancelled() => return Err(OrchestrationError::LeaseLost),
                Some(landed) = self.flying.next() => {
                    let outside = self.is_external(&landed);
                    self.on_completion(landed);
                    // One that is over is saved once, as ended.
                    let is_over = self.run.status.is_final();
                    if !is_over && (outside || self.run.unsaved_bytes() > MAX_UNSAVED_BYTES) {
                        self.save(Ownership::Driven).await?;
                    } else {
                        self.save_by.get_or_insert_with(|| Instant::now() + MAX_UNSAVED);
                    }
                }
                place = places::granted(&mut self.asked) => {
                    (self.place, self.asked, self.parked) = (Some(place), None, None);
                    *self.handle.asked_at.lock() = None;
                    continue;
                }
                () = sleep_until_some(time_left.map(|left| Instant::now() + left)) => {
                    // The process may have been absent in that time.
                    if self.time_left().is_some_and(|left| left.is_zero()) {
                        self.fail_time_limit();
                    }
                }
                () = sleep_until_some(self.save_by) => self.save(Ownership::Driven).await?,
                () = self.engine.memory.grow(&mut self.share, memory), if !has_memory => {}
                () = sleep_until_some(self.memory_by), if !gives_way => {}
                () = self.handle.look.notified() => self.save(Ownership::Driven).await?,
                // Changed policies may allow it less time.
                Ok(()) = policies.changed() => {}
                () = self.engine.stop.cancelled(), if !draining => {}
                () = self.engine.kill.cancelled() => return self.release().await,
            }
            self.changed = true;
        }
    }

    /// Release the run for any worker. Futures in progress are dropped first: they could interfere with the next
    /// driver's.
    async fn release(&mut self) -> Result<DriverEnd> {
        self.flying.clear();
        self.save(Ownership::Ready).await?;
        Ok(DriverEnd::Released)
    }

    /// When this run gives way to others that wait for memory, too. The times differ, so that one of them stays and gets it.
    fn memory_deadline(&self) -> Instant {
        Instant::now() + MEMORY_WAIT.mul_f64(0.2 + self.engine.ids.fraction())
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

    fn fail(&mut self, at: Option<usize>, error: &str, class: &'static str, now: Timestamp) {
        self.failure_class = class;
        let jobs = self.run.fail(at, error, now);
        self.run.tell_class(class);
        self.stop_in_flight(jobs);
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
                Some(limit) => self.fail(None, &limit, "budget", now),
                None => in_place(self.run.size().bytes, || self.run.finish(now)),
            }
            return false;
        }
        for at in self.run.ready() {
            let under_way = self.run.steps.iter().filter(|step| step.status == ExecutionStatus::Running).count();
            if under_way >= self.engine.config.max_parallel_steps {
                break;
            }
            let now = self.now();
            let input = match in_place(self.run.step_effort(at), || self.run.input(at)) {
                Ok(input) => input,
                Err(error) => {
                    self.fail(Some(at), &error, "mapping", now);
                    return false;
                }
            };
            if let Err(refusal) = self.allowed(at, &input) {
                self.refuse(Some(at), refusal, now);
                return false;
            }
            let price = self.engine.performer.price(&self.run.plan.steps[at].action);
            match self.run.check_budget(at, price) {
                Ok(BudgetCheck::Fits(reserve)) => self.run.begin(at, input, reserve, now),
                Ok(BudgetCheck::Pending) => continue,
                Err(limit) => {
                    let at = matches!(price, AttemptPrice::Open(_)).then_some(at);
                    self.fail(at, &limit, "budget", now);
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
        let prepare = || self.engine.performer.prepare(&self.run, at, || ids.uuid(), self.engine.clock.now());
        let (mut call, order) = in_place(self.run.step_effort(at), prepare);
        if let ActionInvocation::Command(prepared) = &mut call {
            prepared.command.bounds = self.engine.policies.sandbox_bounds(self.run.security);
        }
        if let Some(order) = order {
            let step = &mut self.run.steps[at];
            step.job_id = Some(order.id());
            step.dirty = true;
            let (kind, data) = order.event(&self.run.plan.steps[at].key, self.run.steps[at].attempts);
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
                self.note_unsaved_cost(at, outcome.cost);
                let key = &self.run.plan.steps[at].key;
                let measured = outcome.memory_mb;
                let over = measured.map(|mb| self.engine.policies.check_memory(self.run.security, key, mb));
                if let Some(Err(refusal)) = over {
                    self.run.settle(at, &outcome);
                    return self.refuse(Some(at), refusal, now);
                }
                let over = match in_place(self.run.step_effort(at), || self.run.complete(at, *outcome, now)) {
                    Err(error) => Some((Some(at), error, "mapping")),
                    Ok(()) => self.run.budget_exceeded().map(|error| (None, error, "budget")),
                };
                if let Some((at, error, class)) = over {
                    self.fail(at, &error, class, now);
                }
            }
            Completion::Attempt { at, result: Err(failure), seconds } => {
                let job = self.run.steps[at].job_id.take();
                if let Some(job) = job.as_ref().filter(|_| failure.expired) {
                    let data = json!({"step": self.run.plan.steps[at].key, "attempt": self.run.steps[at].attempts, "job_id": job});
                    self.run.tell(ExecutionEventKind::JobExpired, now, data);
                }
                // An abandoned job must not be done and paid for.
                self.take_back.extend(job);
                self.failure_class = self.run.plan.steps[at].action.kind();
                let random = self.engine.ids.fraction();
                // An endpoint names a time by the wall clock.
                let failure = failure.into_attempt(self.engine.clock.now());
                match self.run.fail_attempt(at, &failure, seconds, random, now) {
                    AfterFailure::Retry(wait) => self.retry_after(at, wait),
                    AfterFailure::Final(jobs) => {
                        self.run.tell_class(self.failure_class);
                        self.stop_in_flight(jobs);
                    }
                }
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
