//! Execution of step actions. The driver records every external action before it is started here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    agent_action,
    command_action::{self, SANDBOX_OVERHEAD},
    external_tasks::{ExternalTask, build_job_request},
    http_action,
    invocation::{ActionFailure, ActionInvocation, ActionOutput},
    jq_action::{check_input, evaluate},
};
use crate::{
    action::{PolicyTarget, StepAction, TrainSpec},
    assignments::{self, AssignmentService},
    jq,
    mapping::ResolveError,
    model::ExecutionStatus,
    run::{AttemptOutput, AttemptPrice, AttemptResult, RunState},
};
use am_core::{
    absence,
    config::{EngineConfig, HttpEndpoint},
    ids::{JobId, TrainingRunId},
    money::Money,
    validation,
    value_budget::SizedValue,
};
use am_jobs::{JobQueue, JobState, NewJob};
use am_rl::{
    ActError, PolicyReference, PolicyServer,
    runs::{NewTrainingRun, RunLabels, RunStatus, TrainingRole, TrainingRuns, TrainingTask, run_id},
    state_by_names, state_from_json,
};
use am_security::sandbox::SandboxService;

/// Services that actions need.
pub struct ActionExecutor {
    /// Evaluates jq programs.
    pub jq: jq::JqPool,
    /// Answers policy queries.
    pub policies: PolicyServer,
    /// Waits for the coordinator's miners.
    pub jobs: JobQueue,
    /// Trains reinforcement-learning policies.
    pub training: TrainingRuns,
    /// Assigns sub-tasks to agents.
    pub assignments: AssignmentService,
    /// Runs commands in sandboxes.
    pub sandboxes: SandboxService,
    /// Calls configured endpoints.
    pub http: reqwest::Client,
    /// Configured endpoints by name.
    pub endpoints: Arc<BTreeMap<String, HttpEndpoint>>,
    /// Prices and limits.
    pub config: EngineConfig,
}

impl ActionExecutor {
    /// Return the price of an attempt of `action`, as far as it is known in advance.
    pub fn price(&self, action: &StepAction) -> AttemptPrice {
        let step = self.config.step_price;
        let service = match action {
            StepAction::Job(job) => job.max_price,
            StepAction::Agent(spec) => spec.need.max_price,
            StepAction::Http(call) => self.endpoints.get(&call.endpoint).map(|endpoint| endpoint.price),
            _ => Some(Money::ZERO),
        };
        match (service, action) {
            (None, StepAction::Job(_) | StepAction::Agent(_)) => AttemptPrice::Open(step),
            (service, _) => AttemptPrice::AtMost(step + service.unwrap_or_default()),
        }
    }

    /// Resolve the action of step `at` of `run`, which has begun. The external task to submit is returned with it;
    /// its id is made of `draw_digits`, 32 hex digits.
    pub fn prepare(
        &self,
        run: &RunState,
        at: usize,
        draw_digits: impl FnOnce() -> String,
        now: chrono::DateTime<chrono::Utc>,
    ) -> (ActionInvocation, Option<ExternalTask>) {
        match self.try_prepare(run, at, draw_digits, now) {
            Ok(prepared) => prepared,
            Err(error) => (ActionInvocation::Resolved(Err(ActionFailure::permanent(error.to_string()))), None),
        }
    }

    fn try_prepare(
        &self,
        run: &RunState,
        at: usize,
        draw_digits: impl FnOnce() -> String,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<(ActionInvocation, Option<ExternalTask>), ResolveError> {
        let (step, state) = (&run.plan.steps[at], &run.steps[at]);
        let sized = state.input.as_ref().map(SizedValue::share).unwrap_or_default();
        let input = sized.arc();
        let mut budget = run.value_budget();
        let call = match &step.action {
            StepAction::Identity => ActionInvocation::Resolved(Ok(AttemptOutput::Input(sized))),
            StepAction::Unsupported(why) => ActionInvocation::Resolved(Err(ActionFailure::permanent(*why))),
            StepAction::CheckDependencies => ActionInvocation::Resolved(check_dependencies(run, at).map(Into::into)),
            StepAction::Jq(program) => {
                ActionInvocation::Jq { client: run.client_id.clone(), program: program.clone(), input }
            }
            StepAction::Policy(PolicyTarget::Fixed(reference)) => {
                ActionInvocation::Policy { reference: reference.clone(), input }
            }
            StepAction::Policy(PolicyTarget::Path(template)) => {
                let scope = run.scope_inputs(step)?;
                let named = template.fill(&run.context(at, scope.as_deref(), None), &mut budget)?;
                match named.as_str().map(str::parse::<PolicyReference>) {
                    Some(Ok(reference)) => ActionInvocation::Policy { reference, input },
                    Some(Err(error)) => {
                        ActionInvocation::Resolved(Err(ActionFailure::permanent(format!("action.policy: {error}"))))
                    }
                    None => ActionInvocation::Resolved(Err(ActionFailure::permanent(format!(
                        "action.policy: {named} is no policy's name"
                    )))),
                }
            }
            StepAction::Train(spec) => {
                if let Some(id) = &state.job_id {
                    return Ok((ActionInvocation::Train { id: id.as_str().into() }, None));
                }
                let TrainSpec { policy, work } = (**spec).clone();
                let id = run_id(&draw_digits()[..12]);
                let task = TrainingTask::Train(work);
                let owner_id = run.client_id.clone();
                // Only admins have workflows.
                let limits = self.training.limits(TrainingRole::Admin);
                let labels = RunLabels::default();
                let new = NewTrainingRun { id: id.clone(), owner_id, policy, labels, task, feedback: None, limits };
                return Ok((ActionInvocation::Train { id }, Some(ExternalTask::Training(Box::new(new)))));
            }
            StepAction::Agent(spec) => {
                let granted = run.granted_price(at, self.config.step_price);
                return agent_action::prepare_assignment(run, at, spec, granted, draw_digits, now);
            }
            StepAction::Check { schema, assert } => {
                let client = run.client_id.clone();
                ActionInvocation::Check { client, schema: schema.clone(), assert: assert.clone(), input }
            }
            StepAction::Command(spec) => command_action::prepare_command(run, at, spec, &input)?,
            StepAction::Http(spec) => http_action::prepare_call(run, at, spec, &input)?,
            StepAction::Job(job) => {
                if let Some(id) = &state.job_id {
                    return Ok((ActionInvocation::Job { id: id.as_str().into() }, None));
                }
                let scope = run.scope_inputs(step)?;
                let filled = job.request.fill(&run.context(at, scope.as_deref(), None), &mut budget)?;
                // Members of the input are added.
                budget.draw(&input).map_err(|exceeded| ResolveError::too_large("the job's request", exceeded))?;
                let request = build_job_request(job, filled, &input);
                let request = match self.jobs.validate_step_request(job.service, request) {
                    Ok(request) => request,
                    Err(violations) => {
                        let why = validation::join(&violations);
                        let refused = ActionFailure::permanent(format!("no miner is given this request: {why}"));
                        return Ok((ActionInvocation::Resolved(Err(refused)), None));
                    }
                };
                let mut constraints = self.jobs.constraints(job.service, &request);
                constraints.0.extend(job.constraints.clone());
                if let Some(price) = job.max_price.or_else(|| run.granted_price(at, self.config.step_price)) {
                    constraints.0.entry("max_price").or_insert_with(|| json!(price));
                }
                let ttl = job.ttl.unwrap_or_else(|| job.service.ttl(&request));
                let id = JobId::from(draw_digits());
                let row = NewJob {
                    id: id.clone(),
                    client_id: run.client_id.clone(),
                    coordinator_client: run.client_id.to_string(),
                    service: job.service,
                    request,
                    constraints,
                    requested_at: now,
                    ttl,
                };
                return Ok((ActionInvocation::Job { id }, Some(ExternalTask::Job(Box::new(row)))));
            }
        };
        Ok((call, None))
    }

    /// Execute the invocation within `timeout`. Returns the cost too: price of the step and its seconds, plus the
    /// service's price.
    pub async fn perform(
        &self,
        call: ActionInvocation,
        timeout: Duration,
    ) -> (Result<AttemptResult, ActionFailure>, f64) {
        let started = std::time::Instant::now();
        let result = match call {
            ActionInvocation::Resolved(result) => result.map(ActionOutput::new),
            call => {
                // Another attempt would train from the start, and take as long.
                let again = !matches!(call, ActionInvocation::Train { .. } | ActionInvocation::Agent { .. });
                let unanswered = matches!(call, ActionInvocation::Http(_));
                // A command enforces its time limit itself and reports its resource use and violations then.
                let around = match call {
                    ActionInvocation::Command(_) => SANDBOX_OVERHEAD,
                    ActionInvocation::Agent { .. } => assignments::DEADLINE_MARGIN,
                    _ => Duration::ZERO,
                };
                let timed = absence::timeout(timeout + around, self.call(call)).await;
                timed.unwrap_or_else(|| {
                    let seconds = timeout.as_secs_f64();
                    let message = format!("timeout_seconds {seconds}: the step was still running after them");
                    Err(ActionFailure { message, retryable: again, unanswered, ..ActionFailure::default() })
                })
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let result = result.map(|found| AttemptResult {
            output: found.output,
            seconds,
            cost: self.config.step_price + self.config.compute_price_per_second.scaled(seconds) + found.cost,
            memory_mb: found.memory_mb,
            gpu: found.gpu,
            proof: found.proof,
            miner_receipt: found.miner_receipt,
        });
        (result, seconds)
    }

    async fn call(&self, call: ActionInvocation) -> Result<ActionOutput, ActionFailure> {
        match call {
            ActionInvocation::Resolved(result) => result.map(ActionOutput::new),
            ActionInvocation::Jq { client, program, input } => {
                evaluate(&self.jq.for_client(&client), program, &input).await.map(ActionOutput::new)
            }
            ActionInvocation::Policy { reference, input } => {
                self.policy(&reference, &input).await.map(ActionOutput::new)
            }
            ActionInvocation::Check { client, schema, assert, input } => {
                check_input(&self.jq.for_client(&client), schema, assert, &input).await.map(ActionOutput::new)
            }
            ActionInvocation::Job { id } => self.job(&id).await,
            ActionInvocation::Train { id } => self.train(&id).await.map(ActionOutput::new),
            ActionInvocation::Agent { id } => agent_action::await_assignment(&self.assignments, &id).await,
            ActionInvocation::Command(prepared) => command_action::run_command(&self.sandboxes, *prepared).await,
            ActionInvocation::Http(call) => {
                http_action::call_endpoint(&self.http, &self.endpoints, self.config.http_max_response, *call).await
            }
        }
    }

    async fn policy(&self, reference: &PolicyReference, input: &Value) -> Result<Value, ActionFailure> {
        // Another process may have published it a moment ago and died.
        self.training.look_for(reference).await.map_err(|error| ActionFailure::transient(error.to_string()))?;
        let state = policy_state(&self.policies, reference, input)?;
        let decision = self.policies.act(reference, state).await.map_err(|error| match error {
            ActError::Overloaded | ActError::Stopped => ActionFailure::transient(error.to_string()),
            _ => ActionFailure::permanent(error.to_string()),
        })?;
        serde_json::to_value(decision).map_err(|error| ActionFailure::permanent(error.to_string()))
    }

    async fn job(&self, id: &JobId) -> Result<ActionOutput, ActionFailure> {
        let ended = self.jobs.ended(id).await;
        let reason = || ended.error.clone().unwrap_or_else(|| "no reason was given".into());
        match ended.state {
            JobState::Completed => Ok(ActionOutput {
                gpu: ended.used_gpu(),
                memory_mb: ended.memory_mb(),
                output: ended.result.into(),
                cost: ended.price.unwrap_or_default(),
                proof: ended.receipt.get("proof").cloned(),
                miner_receipt: Some(ended.receipt).filter(|receipt| !receipt.is_null()),
            }),
            JobState::Failed => Err(ActionFailure::transient(format!("job {id} failed: {}", reason()))),
            JobState::Expired => Err(ActionFailure {
                expired: true,
                ..ActionFailure::transient(format!("job {id} expired: {}", reason()))
            }),
            _ => Err(ActionFailure::permanent(format!("job {id} was canceled: {}", reason()))),
        }
    }

    /// Wait for the training and return the new version's reference and its evaluation.
    async fn train(&self, id: &TrainingRunId) -> Result<Value, ActionFailure> {
        let run = self.training.ended(id).await.map_err(|error| ActionFailure::permanent(error.to_string()))?;
        match run.status {
            RunStatus::Completed => Ok(json!({
                "run_id": run.id,
                "policy": run.reference,
                "name": run.policy,
                "version": run.version,
                "steps": run.steps_done,
                "seconds": run.seconds,
                "scores": run.scores,
            })),
            RunStatus::Cancelled => Err(ActionFailure::permanent(format!("training run {id} was cancelled"))),
            _ => {
                let reason = run.error.unwrap_or_else(|| "no reason was given".into());
                Err(ActionFailure::permanent(format!("training run {id} failed: {reason}")))
            }
        }
    }
}

/// The state that a policy step's input has: the input, or its member `state`.
pub(super) fn policy_state(
    policies: &PolicyServer,
    reference: &PolicyReference,
    input: &Value,
) -> Result<Vec<f64>, ActionFailure> {
    let state = input.get("state").unwrap_or(input);
    let fault = |error: String| ActionFailure::permanent(format!("the step's input: {error}"));
    match state {
        Value::Object(named) => {
            let version = policies.resolve(reference).map_err(|error| ActionFailure::permanent(error.to_string()))?;
            state_by_names(named, &version.state_names).map_err(fault)
        }
        other => state_from_json(other).map_err(|error| fault(error.to_string())),
    }
}

/// Verification step without an action: check that the steps it depends on passed their verification.
fn check_dependencies(run: &RunState, at: usize) -> Result<Value, ActionFailure> {
    let mut checked = serde_json::Map::new();
    let mut bad = Vec::new();
    for other in &run.plan.steps[at].depends_on {
        let (spec, step) = (&run.plan.steps[*other], &run.steps[*other]);
        match step.verification.as_ref().filter(|done| done.verified && step.status == ExecutionStatus::Completed) {
            Some(done) => drop(checked.insert(spec.key.clone(), json!(done))),
            None => {
                let failed = step
                    .verification
                    .as_ref()
                    .map_or_else(String::new, |done| format!(" ({})", done.checks_failed.join(", ")));
                bad.push(format!("{}{failed}", spec.key));
            }
        }
    }
    if bad.is_empty() {
        Ok(json!({"verified": true, "steps": checked}))
    } else {
        Err(ActionFailure::permanent(format!("not verified: {}", bad.join(", "))))
    }
}
