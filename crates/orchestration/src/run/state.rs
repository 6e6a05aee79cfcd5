//! State machine of one run: which steps may begin, and the effect of results. It does no I/O, so that every path can
//! be tested; the engine executes and saves.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    context::{PlannedSteps, RunContext},
    result::{FinalResult, can_be_kept},
    step::{AttemptFailure, AttemptResult, StepRun},
    verification,
};
use crate::{
    definition::{CompiledStep, ExecutionPlan},
    event_kinds::ExecutionEventKind,
    guard::ExecutionConstraints,
    model::{ExecutionStatus, VerificationLevel},
};
use am_audit::SecurityLevel;
use am_core::{
    ambient::IdGenerator,
    ids::{ExecutionId, ExternalTaskId, PrincipalId, TraceId, WorkflowId},
    money::Money,
    value_budget::{ByteLimit, SizedValue},
};
use am_db::{
    codec::{JsonText, Timestamp},
    principal::ClientOrigin,
};

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// Time limit in seconds; 0: no limit.
    pub seconds: i64,
    /// Limit of the cost; 0: no limit.
    pub budget: Money,
    /// Limit of each value: the run's inputs, a step's input or output.
    pub value: ByteLimit,
    /// Limit of all these values together.
    pub values: ByteLimit,
}

/// State of a run in progress.
pub struct RunState {
    /// Id: `exec_` and 10 hex digits.
    pub id: ExecutionId,
    pub workflow_id: WorkflowId,
    pub client_id: PrincipalId,
    pub plan: Arc<ExecutionPlan>,
    pub inputs: SizedValue,
    pub limits: RunLimits,
    pub level: VerificationLevel,
    /// Security level, for policies and the audit log.
    pub security: SecurityLevel,
    /// Origin of the request, until it has been saved.
    pub origin: Option<Arc<ClientOrigin>>,
    pub trace_id: Option<TraceId>,
    pub fence: i64,
    pub status: ExecutionStatus,
    pub steps: Vec<StepRun>,
    pub total_cost: Money,
    /// What of it is in the ledger.
    pub posted_cost: Money,
    /// Whether budgets reserve its limit of the cost, which nothing may exceed then.
    pub is_bound: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub error: Option<String>,
    pub failed_step: Option<String>,
    pub final_result: JsonText,
    pub receipt: JsonText,
    pub proof: JsonText,
    /// Seconds of execution before this worker claimed it.
    pub active_before: f64,
    /// Time when this worker claimed it.
    pub claimed_at: Timestamp,
    /// Whether it is not in the database yet.
    pub is_new: bool,
    /// Events that have not been saved yet.
    pub events: Vec<PendingEvent>,
}

/// An event that gets its number when it is saved.
#[derive(Clone, Debug)]
pub struct PendingEvent {
    pub kind: ExecutionEventKind,
    pub at: Timestamp,
    pub data: Value,
}

/// Consequence of a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum AfterFailure {
    /// Retry after this delay.
    Retry(Duration),
    /// The step, and with it the run, has failed; these external tasks of other steps are to be cancelled.
    Final(Vec<ExternalTaskId>),
}

impl RunState {
    /// Assign new ids to the run and its steps: two ids can collide.
    pub fn name(&mut self, ids: &IdGenerator) {
        self.id = ids.next("exec_", 10).into();
        for step in &mut self.steps {
            step.row_id = ids.next("step_exec_", 10).into();
        }
    }

    /// Restart a new run whose save failed because an id was taken. The new ids are visible to external receivers.
    pub fn reset(&mut self, ids: &IdGenerator) {
        self.steps = self.steps.iter_mut().map(|step| StepRun::new(std::mem::take(&mut step.step_id))).collect();
        self.status = ExecutionStatus::Pending;
        (self.total_cost, self.posted_cost) = (Money::ZERO, Money::ZERO);
        (self.started_at, self.completed_at, self.error, self.failed_step) = (None, None, None, None);
        (self.final_result, self.receipt, self.proof) = (JsonText::none(), JsonText::none(), JsonText::none());
        self.events.clear();
        self.is_new = true;
        ids.reseed_sequence();
        self.name(ids);
    }

    pub fn tell(&mut self, kind: ExecutionEventKind, at: Timestamp, data: Value) {
        self.events.push(PendingEvent { kind, at, data });
    }

    /// Mark the run as started.
    pub fn start(&mut self, now: Timestamp) {
        if self.started_at.is_none() {
            self.started_at = Some(now);
            self.status = ExecutionStatus::Running;
            let data = json!({"workflow_id": self.workflow_id, "total_steps": self.steps.len()});
            self.tell(ExecutionEventKind::ExecutionStarted, now, data);
        }
    }

    /// Return the steps that may begin: their dependencies have ended well and no retry is due later.
    pub fn ready(&self) -> Vec<usize> {
        let ended_well = |at: &usize| self.steps[*at].status == ExecutionStatus::Completed;
        (0..self.steps.len())
            .filter(|at| {
                let step = &self.steps[*at];
                step.status == ExecutionStatus::Pending
                    && step.retry_at.is_none()
                    && self.plan.steps[*at].depends_on.iter().all(ended_well)
            })
            .collect()
    }

    /// Move the claim behind the last moment in the run, because the wall clock may have been set back since: time does not go
    /// back in a run. Return how many seconds it is moved, if it is.
    pub fn settle_claim(&mut self) -> Option<f64> {
        let steps = self.steps.iter().flat_map(|step| [step.started_at, step.completed_at]);
        let last = steps.chain([self.started_at]).flatten().max().filter(|last| *last > self.claimed_at)?;
        let moved = last.seconds_since(self.claimed_at);
        self.claimed_at = last;
        Some(moved)
    }

    /// Return the seconds for which workers have held the run.
    pub fn active_seconds(&self, now: Timestamp) -> f64 {
        self.active_before + now.seconds_since(self.claimed_at).max(0.0)
    }

    /// Return the remaining time; `None`: no limit.
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        (self.limits.seconds > 0).then(|| self.seconds_left(self.limits.seconds, now))
    }

    /// Return the remaining part of a limit in seconds.
    pub fn seconds_left(&self, seconds: i64, now: Timestamp) -> Duration {
        Duration::try_from_secs_f64(seconds as f64 - self.active_seconds(now)).unwrap_or(Duration::ZERO)
    }

    /// Return the settled cost plus the reserved cost.
    pub fn committed_cost(&self) -> Money {
        self.total_cost + self.steps.iter().map(|step| step.reserved).sum::<Money>()
    }

    pub(super) fn planned_steps(&self) -> PlannedSteps<'_> {
        PlannedSteps { plan: &self.plan, steps: &self.steps }
    }

    /// Return the values visible to mappings of step `at`.
    pub fn context<'a>(
        &'a self,
        at: usize,
        scope_inputs: Option<&'a Value>,
        output: Option<&'a Value>,
    ) -> RunContext<'a> {
        RunContext { run: self.planned_steps(), at, inputs: scope_inputs.unwrap_or(&self.inputs), output }
    }

    /// Begin an attempt and reserve `estimate` for it.
    pub fn begin(&mut self, at: usize, input: SizedValue, estimate: Money, now: Timestamp) {
        self.start(now);
        let step = &mut self.steps[at];
        step.status = ExecutionStatus::Running;
        step.attempts += 1;
        step.input = Some(input);
        step.reserved = estimate;
        step.error = None;
        step.started_at = Some(now);
        step.dirty = true;
        let data = json!({"step": self.plan.steps[at].key, "attempt": step.attempts});
        self.tell(ExecutionEventKind::StepStarted, now, data);
    }

    /// Settle the cost of an attempt, whatever becomes of its output.
    pub fn settle(&mut self, at: usize, outcome: &AttemptResult) {
        let cost = self.charged(at, outcome.cost);
        let step = &mut self.steps[at];
        step.seconds += outcome.seconds;
        step.cost += cost;
        step.reserved = Money::ZERO;
        step.job_id = None;
        step.repeat_call = None;
        step.memory_mb = outcome.memory_mb;
        step.miner_receipt = outcome.miner_receipt.clone().filter(can_be_kept);
        step.gpu = outcome.gpu;
        step.dirty = true;
        self.total_cost += cost;
    }

    /// Complete step `at`: apply the output mappings, verify the result, settle the cost.
    ///
    /// # Errors
    /// The reason why an output mapping cannot be applied, or the limit that the output exceeds; the step has failed for
    /// good then.
    pub fn complete(&mut self, at: usize, outcome: AttemptResult, now: Timestamp) -> Result<(), String> {
        let plan = self.plan.clone();
        let spec = &plan.steps[at];
        self.settle(at, &outcome);
        let output = match &spec.outputs {
            None => {
                outcome.output.measure(self.limits.value).map_err(|exceeded| format!("the output has {exceeded}"))?
            }
            Some(mapping) => {
                let mapped = self.scope_inputs(spec).and_then(|scope_inputs| {
                    let context = self.context(at, scope_inputs.as_deref(), Some(outcome.output.value()));
                    self.sized(Value::Object(mapping.resolve(&context, &mut self.value_budget())?))
                });
                mapped.map_err(|error| format!("output_mappings: {error}"))?
            }
        };
        self.check_room(&output, self.steps[at].output.as_ref())?;
        let level = spec.verification_level.unwrap_or(self.level);
        let step = &mut self.steps[at];
        step.status = ExecutionStatus::Completed;
        step.completed_at = Some(now);
        step.output = Some(output);
        let verification = verification::verify_step(level, spec.requires_proof, step, outcome.proof.as_ref());
        let verified = verification.verified;
        step.verification = Some(verification);
        let step = &self.steps[at];
        let data = json!({"step": spec.key, "attempt": step.attempts, "execution_time": step.seconds, "cost": step.cost, "memory_usage": step.memory_mb, "verified": verified, "progress": self.progress()});
        self.tell(ExecutionEventKind::StepCompleted, now, data);
        Ok(())
    }

    /// Record a failed attempt that took `seconds`.
    pub fn fail_attempt(
        &mut self,
        at: usize,
        failure: &AttemptFailure,
        seconds: f64,
        random: f64,
        now: Timestamp,
    ) -> AfterFailure {
        let plan = self.plan.clone();
        let spec = &plan.steps[at];
        let (step, error) = (&mut self.steps[at], failure.message.as_str());
        step.repeat_call = failure.unanswered.then(|| step.call_number());
        step.seconds += seconds;
        step.reserved = Money::ZERO;
        step.job_id = None;
        step.error = Some(error.to_owned());
        step.dirty = true;
        let attempt = step.attempts;
        if failure.retryable && attempt - step.attempts_before <= spec.max_retries {
            let delay = spec.retry.delay(attempt - step.attempts_before, random);
            let delay = delay.max(failure.retry_after.unwrap_or_default());
            let retry_at = Timestamp(now.0 + chrono::Duration::from_std(delay).unwrap_or_default());
            step.status = ExecutionStatus::Pending;
            step.retry_at = Some(retry_at);
            let data = json!({"step": spec.key, "attempt": attempt, "error": error, "retry_at": retry_at});
            self.tell(ExecutionEventKind::StepFailed, now, data);
            return AfterFailure::Retry(delay);
        }
        AfterFailure::Final(self.fail(Some(at), error, now))
    }

    /// Fail the run, because of step `at` or of a limit. Steps in progress are stopped; returns the external tasks to
    /// cancel.
    pub fn fail(&mut self, at: Option<usize>, error: &str, now: Timestamp) -> Vec<ExternalTaskId> {
        if let Some(at) = at {
            let key = self.plan.steps[at].key.clone();
            let step = &mut self.steps[at];
            step.status = ExecutionStatus::Failed;
            step.completed_at = Some(now);
            step.reserved = Money::ZERO;
            step.error = Some(error.to_owned());
            step.dirty = true;
            let attempt = step.attempts;
            let data = json!({"step": key, "attempt": attempt, "error": error});
            self.tell(ExecutionEventKind::StepFailed, now, data);
            self.error = Some(format!("step {key}: {error}"));
            self.failed_step = Some(key);
        } else {
            self.error = Some(error.to_owned());
        }
        let jobs = self.stop_steps(now, "stopped, because the execution failed");
        self.status = ExecutionStatus::Failed;
        self.completed_at = Some(now);
        self.ensure_started(now);
        let data = json!({"error": self.error, "failed_step": self.failed_step, "total_cost": self.total_cost});
        self.tell(ExecutionEventKind::ExecutionFailed, now, data);
        jobs
    }

    /// Add the kind of the failure to the event of the run's failure, which was told last.
    pub fn tell_class(&mut self, class: &str) {
        if let Some(event) = self.events.last_mut().filter(|event| event.kind == ExecutionEventKind::ExecutionFailed) {
            event.data["class"] = class.into();
        }
    }

    fn ensure_started(&mut self, now: Timestamp) {
        if self.started_at.is_none() {
            self.started_at = Some(now);
        }
    }

    /// Stop the steps in progress.
    fn stop_steps(&mut self, now: Timestamp, why: &str) -> Vec<ExternalTaskId> {
        let mut jobs = Vec::new();
        for (at, step) in self.steps.iter_mut().enumerate() {
            step.retry_at = None;
            if step.status == ExecutionStatus::Running {
                jobs.extend(step.job_id.take());
                // What was called may have taken effect.
                step.repeat_call = Some(step.call_number());
                step.status = ExecutionStatus::Cancelled;
                step.completed_at = Some(now);
                step.reserved = Money::ZERO;
                step.error = Some(why.to_owned());
                step.dirty = true;
                let data = json!({"step": self.plan.steps[at].key, "reason": why});
                self.events.push(PendingEvent { kind: ExecutionEventKind::StepCancelled, at: now, data });
            }
        }
        jobs
    }

    /// Return whether every step has ended well.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| step.status == ExecutionStatus::Completed)
    }

    /// Complete the run: combine the steps' results and verifications.
    pub fn finish(&mut self, now: Timestamp) {
        self.start(now);
        self.status = ExecutionStatus::Completed;
        self.completed_at = Some(now);
        self.final_result = JsonText::from_value(&FinalResult { plan: &self.plan, steps: &self.steps })
            .unwrap_or_else(|_| JsonText::none());
        let proof = verification::verification_summary(self.level, &self.plan, &self.steps);
        let verified = proof["verified"].clone();
        self.proof = JsonText::from_value(&proof).unwrap_or_else(|_| JsonText::none());
        let data = json!({"total_cost": self.total_cost, "verified": verified});
        self.tell(ExecutionEventKind::ExecutionCompleted, now, data);
    }

    pub fn completed_steps(&self) -> usize {
        self.steps.iter().filter(|step| step.status == ExecutionStatus::Completed).count()
    }

    /// Return the progress in percent, 0 to 100.
    pub fn progress(&self) -> f64 {
        if self.steps.is_empty() {
            100.0
        } else {
            round_progress(100.0 * self.completed_steps() as f64 / self.steps.len() as f64)
        }
    }

    /// Return what a policy judges the run by, beside its steps and its measured time.
    pub fn terms(&self) -> ExecutionConstraints {
        ExecutionConstraints {
            security: self.security,
            level: self.level,
            requires_verification: self.security != SecurityLevel::Public,
            max_execution_time: self.limits.seconds,
            max_cost_budget: self.limits.budget,
        }
    }

    /// Build the column `step_states`: by key, the state for clients and for a worker that takes over.
    pub fn step_states(&self) -> Value {
        let state = |spec: &CompiledStep, step: &StepRun| {
            let mut state = Map::new();
            let mut put =
                |name: &str, value: Value| drop((!value.is_null()).then(|| state.insert(name.to_owned(), value)));
            put("status", json!(step.status));
            put("step_execution_id", json!(step.row_id));
            put("attempts", json!(step.attempts));
            put("attempts_before", if step.attempts_before > 0 { json!(step.attempts_before) } else { Value::Null });
            put("cost", json!(step.cost));
            put("execution_time", json!(step.seconds));
            put("started_at", json!(step.started_at));
            put("completed_at", json!(step.completed_at));
            put("error", json!(step.error));
            put("job_id", json!(step.job_id));
            put("retry_at", json!(step.retry_at));
            put("miner_receipt", json!(step.miner_receipt));
            put("repeat_call", json!(step.repeat_call));
            put("reserved", if step.reserved.is_positive() { json!(step.reserved) } else { Value::Null });
            (spec.key.clone(), Value::Object(state))
        };
        self.plan.steps.iter().zip(&self.steps).map(|(spec, step)| state(spec, step)).collect::<Map<_, _>>().into()
    }
}

/// Round to six decimal digits, without floating-point errors of sums.
pub fn round_progress(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
