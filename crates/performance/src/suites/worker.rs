//! What is done for an evaluation at a time: the runs of its cases are started, looked at, and scored.
//!
//! Each step is one transaction, and is taken only from the state that it was decided in; runs are started under keys of their cases. So
//! a process that dies leaves nothing half done.

use std::sync::Arc;

use am_core::{
    crypto,
    ids::{EvaluationId, ExecutionId},
    money::Money,
};
use am_db::{Tx, idempotency::IdempotencyKey, owner::PrincipalName, principal::Principal};
use am_orchestration::{
    error::OrchestrationError,
    executions::ExecutionRequest,
    model::{ExecutionStatus, VerificationLevel},
    run::Execution,
    workflows::WorkflowDraft,
};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::{
    SuiteParts,
    checks::{CheckOutcome, PASS_SCORE, score_output, shortened},
    model::{CaseCheck, EvaluationState, ResultState, TargetKind},
    record::{EvaluationRecord, EvaluationWork},
    store::{self, CaseEnd},
};
use crate::error::{PerformanceError, Result};

/// Processes that end while they start or judge a case, after which it is given up.
const MAX_TRIES: i64 = 3;

/// An event of an evaluation: its kind and what it tells.
pub(super) type EvaluationEvent = (&'static str, Value);

/// What carries evaluations on. Cheap to clone.
#[derive(Clone)]
pub(super) struct EvaluationWorker {
    pub(super) parts: Arc<SuiteParts>,
    /// Notified when an evaluation is to end whose task has let it go.
    pub(super) wake: Arc<Notify>,
}

/// What a look at an evaluation found.
pub(super) enum EvaluationLook {
    /// It goes on.
    Open(Box<EvaluationRecord>),
    /// All its cases have ended.
    Done,
    /// It can't be done, for this reason.
    Failed(String),
}

/// What a look at a case found.
enum CaseLook {
    /// It goes on, or is to be looked at again.
    Open,
    /// It can't begin before others have ended.
    Full,
    /// Its run has begun.
    Started(ExecutionId),
    /// It has ended.
    Ended(CaseEnd),
}

fn broken(reason: &str) -> CaseEnd {
    let reason = Some(shortened(reason));
    CaseEnd { state: ResultState::Broken, score: Some(0.0), reason, seconds: None, cost: None }
}

fn given_up(what: &str) -> CaseLook {
    CaseLook::Ended(broken(&format!("given up: the process ended {MAX_TRIES} times while it {what}")))
}

/// The principal of an evaluation's owner.
pub(super) fn principal_of(evaluation: &EvaluationRecord) -> Principal {
    Principal::named(PrincipalName::from_stored(&evaluation.owner_id).as_str())
}

/// The key under which something of an evaluation is done once.
fn once_key(evaluation: &EvaluationRecord, what: &str) -> IdempotencyKey {
    IdempotencyKey {
        scope: format!("suite:{}", evaluation.owner_id),
        key: format!("{}:{what}", evaluation.id),
        fingerprint: crypto::sha256_hex(evaluation.target_id.as_bytes()),
    }
}

/// Whether an error may pass.
pub(super) fn may_pass(error: &OrchestrationError) -> bool {
    !matches!(
        error,
        OrchestrationError::Db(am_db::DatabaseError::InvalidValue(_))
            | OrchestrationError::NotFound(_)
            | OrchestrationError::Forbidden
            | OrchestrationError::Invalid(_)
            | OrchestrationError::InvalidState(_)
            | OrchestrationError::QuotaReached { .. }
            | OrchestrationError::Refused(_)
            | OrchestrationError::Ledger(_)
    )
}

impl EvaluationWorker {
    /// Look at a few cases of an evaluation, and add what happened to `events`.
    pub(super) async fn look(&self, id: &EvaluationId, events: &mut Vec<EvaluationEvent>) -> Result<EvaluationLook> {
        let Some(found) = store::evaluation(&mut *self.parts.db.read().await?, id).await? else {
            return Ok(EvaluationLook::Failed("the evaluation is gone".to_owned()));
        };
        if found.state != EvaluationState::Running {
            // Its task is asked to end.
            return Ok(EvaluationLook::Open(Box::new(found)));
        }
        let evaluation = match self.with_workflow(found).await? {
            Ok(evaluation) => evaluation,
            Err(reason) => return Ok(EvaluationLook::Failed(reason)),
        };
        let cases = store::open_cases(&mut *self.parts.db.read().await?, &evaluation, evaluation.parallel).await?;
        if cases.is_empty() {
            return Ok(EvaluationLook::Done);
        }
        let mut under_way = cases.iter().filter(|case| case.execution_id.is_some()).count();
        let mut is_full = false;
        for case in &cases {
            let look = match &case.execution_id {
                None if is_full => CaseLook::Open,
                None => self.start(&evaluation, case, under_way > 0).await?,
                Some(execution) => self.look_at(&evaluation, case, execution).await?,
            };
            match look {
                CaseLook::Open => {}
                CaseLook::Full => is_full = true,
                CaseLook::Started(execution) => {
                    under_way += 1;
                    events.push(("case_started", json!({"case": case.id, "execution_id": execution})));
                }
                CaseLook::Ended(end) => {
                    let told = json!({"case": case.id, "status": end.state, "score": end.score, "reason": end.reason});
                    self.end_case(id, case.id, end).await?;
                    events.push(("case_ended", told));
                }
            }
        }
        Ok(EvaluationLook::Open(Box::new(evaluation)))
    }

    /// The evaluation with the workflow that its cases are runs of, which is made for a policy or an agent; or why there can't be one.
    async fn with_workflow(
        &self,
        mut evaluation: EvaluationRecord,
    ) -> Result<std::result::Result<EvaluationRecord, String>> {
        if evaluation.workflow_id.is_some() || evaluation.target_kind == TargetKind::Workflow {
            return Ok(Ok(evaluation));
        }
        let mut steps = Map::new();
        steps.insert(evaluation.target_kind.value().to_owned(), asking_step(&evaluation));
        let draft = WorkflowDraft {
            name: format!("Evaluation {}", evaluation.id),
            description: format!("Asks {} for each case of the suite {}", evaluation.target_id, evaluation.suite_id),
            steps,
            dependencies: Map::new(),
            max_execution_time: 0,
            max_cost_budget: Money::ZERO,
            requires_verification: false,
            verification_level: VerificationLevel::Basic,
            tags: vec!["evaluation".to_owned()],
            is_public: false,
        };
        let owner = principal_of(&evaluation);
        let made = self.parts.workflows.create(&owner, draft, Some(once_key(&evaluation, "workflow"))).await;
        let workflow = match made {
            Ok(made) => made.value.id,
            Err(error) if may_pass(&error) => return Err(transient(&error)),
            Err(error) => return Ok(Err(format!("the {} could not be asked: {error}", evaluation.target_kind))),
        };
        let id = evaluation.id.clone();
        evaluation.workflow_id = Some(workflow.clone());
        // No audit entry: the workflow's own tells of it.
        self.parts.db.write(async move |tx: &mut Tx| store::set_workflow(tx, &id, &workflow).await).await?;
        Ok(Ok(evaluation))
    }

    /// Note that work on a case begins, or with −1 that it was left in good order.
    async fn count_try(&self, evaluation: &EvaluationRecord, case: i64, change: i64) -> Result<()> {
        let id = evaluation.id.clone();
        // No audit entry: it changes nothing that clients see.
        self.parts.db.write(async move |tx: &mut Tx| store::count_try(tx, (&id, case), change).await).await?;
        Ok(())
    }

    /// Start the run of a case, or find the one that was started. Where the service refuses one while others of the evaluation run, it is
    /// tried again: they may be what is too much.
    async fn start(&self, evaluation: &EvaluationRecord, case: &EvaluationWork, others: bool) -> Result<CaseLook> {
        let Some(workflow) = &evaluation.workflow_id else { return Ok(CaseLook::Open) };
        if case.tries >= MAX_TRIES {
            return Ok(given_up("started its run"));
        }
        self.count_try(evaluation, case.id, 1).await?;
        let parts = &self.parts;
        let request = ExecutionRequest { inputs: case.input.clone(), ..ExecutionRequest::default() };
        let once = once_key(evaluation, &case.id.to_string());
        let begun =
            parts.executions.execute(&principal_of(evaluation), &parts.workflows, workflow, request, Some(once)).await;
        am_core::crash_point!("suites.run_started");
        let look = match begun {
            Ok(begun) => {
                let (id, case, execution) = (evaluation.id.clone(), case.id, begun.value.execution.id);
                let noted = execution.clone();
                // No audit entry: the execution's own tells of it.
                parts.db.write(async move |tx: &mut Tx| store::set_execution(tx, (&id, case), &noted).await).await?;
                return Ok(CaseLook::Started(execution));
            }
            Err(error) if may_pass(&error) => Err(transient(&error)),
            Err(OrchestrationError::Refused(_) | OrchestrationError::Ledger(_)) if others => Ok(CaseLook::Full),
            Err(error) => return Ok(CaseLook::Ended(broken(&format!("its run could not be started: {error}")))),
        };
        self.count_try(evaluation, case.id, -1).await?;
        look
    }

    /// Look at the run of a case, and score what came of it.
    async fn look_at(
        &self,
        evaluation: &EvaluationRecord,
        case: &EvaluationWork,
        execution: &ExecutionId,
    ) -> Result<CaseLook> {
        let run = match self.parts.executions.get(&principal_of(evaluation), execution).await {
            Ok(run) => run,
            Err(error) if may_pass(&error) => return Err(transient(&error)),
            Err(error) => return Ok(CaseLook::Ended(broken(&format!("its run can't be read: {error}")))),
        };
        let measured = (run.total_execution_time, Some(run.total_cost));
        let end = match run.status {
            ExecutionStatus::Completed if case.tries >= MAX_TRIES => return Ok(given_up("judged its output")),
            ExecutionStatus::Completed => {
                self.count_try(evaluation, case.id, 1).await?;
                let judged = self.scored(evaluation, &case.check, &run).await;
                am_core::crash_point!("suites.case_judged");
                if judged.is_err() {
                    self.count_try(evaluation, case.id, -1).await?;
                }
                judged?
            }
            status if status.is_final() => {
                let why = run.error_message.unwrap_or_else(|| status.to_string());
                let end = broken(&format!("its run ended otherwise: {why}"));
                // An agent that does not do it, or not in time, has not passed.
                match (evaluation.target_kind, status) {
                    (TargetKind::Agent, ExecutionStatus::Failed) => CaseEnd { state: ResultState::Failed, ..end },
                    _ => end,
                }
            }
            _ => return Ok(CaseLook::Open),
        };
        Ok(CaseLook::Ended(CaseEnd { seconds: measured.0, cost: measured.1, ..end }))
    }

    async fn scored(&self, evaluation: &EvaluationRecord, check: &CaseCheck, run: &Execution) -> Result<CaseEnd> {
        let mut conn = self.parts.db.read().await?;
        let suite = store::suite(&mut conn, &evaluation.suite_id, Some(evaluation.version)).await?;
        drop(conn);
        let step = suite.and_then(|suite| suite.output_step);
        let output = match output_of(run, step.as_deref()) {
            Ok(output) => output,
            Err(reason) => return Ok(broken(&reason)),
        };
        let jq = self.parts.jq.for_client(&evaluation.owner_id);
        Ok(match score_output(&jq, check, &output).await {
            Ok(CheckOutcome::Scored(score, reason)) => {
                let state = if score >= PASS_SCORE { ResultState::Passed } else { ResultState::Failed };
                CaseEnd { state, score: Some(score), reason, seconds: None, cost: None }
            }
            Ok(CheckOutcome::Broken(reason)) => broken(&reason),
            Err(error) => {
                tracing::debug!(%error, "no worker can check an output now");
                return Err(PerformanceError::Interrupted);
            }
        })
    }

    /// End a case that has not ended.
    pub(super) async fn end_case(&self, id: &EvaluationId, case: i64, end: CaseEnd) -> Result<()> {
        let id = id.clone();
        // No audit entry: the evaluation's end tells of its cases.
        self.parts.db.write(async move |tx: &mut Tx| store::end_case(tx, (&id, case), &end).await.map(drop)).await?;
        Ok(())
    }
}

/// The step of an execution that asks what is evaluated.
fn asking_step(evaluation: &EvaluationRecord) -> Value {
    let asked = &evaluation.target_id;
    if evaluation.target_kind != TargetKind::Agent {
        return json!({"step_type": "inference", "action": {"kind": "policy", "policy": asked}});
    }
    let action = json!({"kind": "agent", "agent_id": asked, "task_type": evaluation.task_type, "max_retries": 0});
    json!({"step_type": "inference", "action": action, "timeout_seconds": evaluation.timeout_seconds, "max_retries": 0})
}

pub(super) fn transient(error: &OrchestrationError) -> PerformanceError {
    tracing::debug!(%error, "an evaluation's run can't be reached now");
    PerformanceError::Interrupted
}

/// The output of a run that is checked: that of `step`, or of the only step, or all by key.
fn output_of(run: &Execution, step: Option<&str>) -> std::result::Result<Value, String> {
    let result: Option<Value> =
        run.final_result.parse().map_err(|error| format!("its result can't be read: {error}"))?;
    let outputs = result.as_ref().and_then(|result| result.get("step_results")).and_then(Value::as_object);
    let Some(outputs) = outputs else { return Err("its run left no result".to_owned()) };
    match step {
        Some(step) => outputs.get(step).cloned().ok_or_else(|| format!("its run has no step {step:?}")),
        None if outputs.len() == 1 => Ok(outputs.values().next().cloned().unwrap_or_default()),
        None => Ok(Value::Object(outputs.clone())),
    }
}
