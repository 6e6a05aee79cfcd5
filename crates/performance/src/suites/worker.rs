//! The background task of suites: it starts the runs of cases, looks at them, scores their outputs and ends evaluations.
//!
//! Each step is one transaction, and is taken only from the state that it was decided in; runs are started under keys of their cases. So
//! several processes may do the same, and one that dies leaves nothing half done.

use std::{sync::Arc, time::Duration};

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
use tokio_util::sync::CancellationToken;

use super::{
    SuiteService,
    checks::{CheckOutcome, PASS_SCORE, score_output, shortened},
    figures,
    model::{CaseCheck, EvaluationState, ResultState, TargetKind},
    record::{EvaluationRecord, EvaluationWork},
    store::{self, CaseEnd},
};
use crate::error::{PerformanceError, Result};

/// Interval at which evaluations that go on are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Interval at which others' evaluations are looked for while none goes on.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
/// Evaluations that are read at once.
const BATCH: i64 = 100;
/// Key of the step that asks a policy.
const POLICY_STEP: &str = "policy";

/// What a look at a case found.
enum CaseLook {
    /// It goes on, or is to be looked at again.
    Open,
    /// It has ended.
    Ended(CaseEnd),
}

fn broken(reason: &str) -> CaseEnd {
    let reason = Some(shortened(reason));
    CaseEnd { state: ResultState::Broken, score: Some(0.0), reason, seconds: None, cost: None }
}

/// The principal of an evaluation's owner.
fn principal_of(evaluation: &EvaluationRecord) -> Principal {
    let name: Arc<str> = PrincipalName::from_stored(&evaluation.owner_id).as_str().into();
    Principal { aliases: [name.to_string()].into(), name, agent: None, origin: None }
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
fn may_pass(error: &OrchestrationError) -> bool {
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

impl SuiteService {
    /// Carry evaluations on, until it is asked to end.
    pub async fn work(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.round(&stop).await {
                Ok(0) => IDLE_INTERVAL,
                Ok(_) => LOOK_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "evaluations could not be carried on; it is tried again");
                    IDLE_INTERVAL
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Look at all evaluations that go on, a few cases of each, so that none waits for another's end. Returns how many there are.
    async fn round(&self, stop: &CancellationToken) -> Result<usize> {
        let (mut after, mut all) = (EvaluationId::default(), 0);
        loop {
            let found = store::open(&mut *self.0.parts.db.read().await?, &after, BATCH).await?;
            all += found.len();
            for evaluation in &found {
                if stop.is_cancelled() {
                    return Ok(all);
                }
                // One must not hold up the others.
                if let Err(error) = self.look_after(evaluation).await {
                    tracing::warn!(evaluation = %evaluation.id, %error, "an evaluation could not be carried on; it is tried again");
                }
            }
            match found.last() {
                Some(last) if found.len() as i64 == BATCH => after = last.id.clone(),
                _ => return Ok(all),
            }
        }
    }

    async fn look_after(&self, evaluation: &EvaluationRecord) -> Result<()> {
        if evaluation.state == EvaluationState::Cancelling {
            return self.cancel_cases(evaluation).await;
        }
        let evaluation = match self.with_workflow(evaluation.clone()).await? {
            Some(evaluation) => evaluation,
            None => return Ok(()),
        };
        let cases = store::open_cases(&mut *self.0.parts.db.read().await?, &evaluation, evaluation.parallel).await?;
        if cases.is_empty() {
            return self.complete(&evaluation).await;
        }
        let mut under_way = cases.iter().filter(|case| case.execution_id.is_some()).count();
        for case in &cases {
            let look = match &case.execution_id {
                None => self.start(&evaluation, case, under_way > 0).await?,
                Some(execution) => self.look_at(&evaluation, case, execution).await?,
            };
            match look {
                CaseLook::Open => under_way += usize::from(case.execution_id.is_none()),
                CaseLook::Ended(end) => self.end_case(&evaluation.id, case.id, end).await?,
            }
        }
        Ok(())
    }

    /// The evaluation with the workflow that its cases are runs of, which is made for a policy. `None`: it has ended, as there can't be
    /// one.
    async fn with_workflow(&self, mut evaluation: EvaluationRecord) -> Result<Option<EvaluationRecord>> {
        if evaluation.workflow_id.is_some() || evaluation.target_kind != TargetKind::Policy {
            return Ok(Some(evaluation));
        }
        let action = json!({"kind": "policy", "policy": evaluation.target_id});
        let mut steps = Map::new();
        steps.insert(POLICY_STEP.to_owned(), json!({"step_type": "inference", "action": action}));
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
        let made = self.0.parts.workflows.create(&owner, draft, Some(once_key(&evaluation, "workflow"))).await;
        let workflow = match made {
            Ok(made) => made.value.id,
            Err(error) if may_pass(&error) => return Err(transient(&error)),
            Err(error) => {
                self.fail(evaluation, format!("the policy could not be asked: {error}")).await?;
                return Ok(None);
            }
        };
        let id = evaluation.id.clone();
        evaluation.workflow_id = Some(workflow.clone());
        // No audit entry: the workflow's own tells of it.
        self.0.parts.db.write(async move |tx: &mut Tx| store::set_workflow(tx, &id, &workflow).await).await?;
        Ok(Some(evaluation))
    }

    /// Start the run of a case, or find the one that was started. Where the service refuses one while others of the evaluation run, it is
    /// tried again: they may be what is too much.
    async fn start(&self, evaluation: &EvaluationRecord, case: &EvaluationWork, others: bool) -> Result<CaseLook> {
        let Some(workflow) = &evaluation.workflow_id else { return Ok(CaseLook::Open) };
        let parts = &self.0.parts;
        let request = ExecutionRequest { inputs: case.input.clone(), ..ExecutionRequest::default() };
        let once = once_key(evaluation, &case.id.to_string());
        let begun =
            parts.executions.execute(&principal_of(evaluation), &parts.workflows, workflow, request, Some(once)).await;
        am_core::crash_point!("suites.run_started");
        match begun {
            Ok(begun) => {
                let (id, case, execution) = (evaluation.id.clone(), case.id, begun.value.execution.id);
                // No audit entry: the execution's own tells of it.
                parts
                    .db
                    .write(async move |tx: &mut Tx| store::set_execution(tx, (&id, case), &execution).await)
                    .await?;
                Ok(CaseLook::Open)
            }
            Err(error) if may_pass(&error) => Err(transient(&error)),
            Err(OrchestrationError::Refused(_) | OrchestrationError::Ledger(_)) if others => Ok(CaseLook::Open),
            Err(error) => Ok(CaseLook::Ended(broken(&format!("its run could not be started: {error}")))),
        }
    }

    /// Look at the run of a case, and score what came of it.
    async fn look_at(
        &self,
        evaluation: &EvaluationRecord,
        case: &EvaluationWork,
        execution: &ExecutionId,
    ) -> Result<CaseLook> {
        let run = match self.0.parts.executions.get(&principal_of(evaluation), execution).await {
            Ok(run) => run,
            Err(error) if may_pass(&error) => return Err(transient(&error)),
            Err(error) => return Ok(CaseLook::Ended(broken(&format!("its run can't be read: {error}")))),
        };
        let measured = (run.total_execution_time, Some(run.total_cost));
        let end = match run.status {
            ExecutionStatus::Completed => self.scored(evaluation, &case.check, &run).await?,
            status if status.is_final() => {
                let why = run.error_message.unwrap_or_else(|| status.to_string());
                broken(&format!("its run ended otherwise: {why}"))
            }
            _ => return Ok(CaseLook::Open),
        };
        Ok(CaseLook::Ended(CaseEnd { seconds: measured.0, cost: measured.1, ..end }))
    }

    async fn scored(&self, evaluation: &EvaluationRecord, check: &CaseCheck, run: &Execution) -> Result<CaseEnd> {
        let mut conn = self.0.parts.db.read().await?;
        let suite = store::suite(&mut conn, &evaluation.suite_id, Some(evaluation.version)).await?;
        drop(conn);
        let step = suite.and_then(|suite| suite.output_step);
        let output = match output_of(run, step.as_deref()) {
            Ok(output) => output,
            Err(reason) => return Ok(broken(&reason)),
        };
        let jq = self.0.parts.jq.for_client(&evaluation.owner_id);
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

    async fn end_case(&self, id: &EvaluationId, case: i64, end: CaseEnd) -> Result<()> {
        let id = id.clone();
        // No audit entry: the evaluation's end tells of its cases.
        self.0.parts.db.write(async move |tx: &mut Tx| store::end_case(tx, (&id, case), &end).await.map(drop)).await?;
        Ok(())
    }

    /// End an evaluation all of whose cases have ended.
    async fn complete(&self, evaluation: &EvaluationRecord) -> Result<()> {
        let cases = store::scored_cases(&mut *self.0.parts.db.read().await?, &evaluation.id).await?;
        let score = figures::suite_score(&cases);
        let ended = EvaluationRecord {
            state: EvaluationState::Completed,
            score: score.as_ref().map(|found| found.score),
            low: score.as_ref().map(|found| found.interval.low),
            high: score.as_ref().map(|found| found.interval.high),
            method: score.as_ref().map(|found| found.method.to_owned()),
            ..evaluation.clone()
        };
        self.end(ended).await
    }

    async fn fail(&self, evaluation: EvaluationRecord, reason: String) -> Result<()> {
        let reason = Some(shortened(&reason));
        self.end(EvaluationRecord { state: EvaluationState::Failed, reason, ..evaluation }).await
    }

    async fn end(&self, ended: EvaluationRecord) -> Result<()> {
        let ended = EvaluationRecord { ended_at: Some(self.now()), ..ended };
        let entry = self.entry(&principal_of(&ended), "evaluation", ended.state.value(), self.now());
        let entry = entry.data("evaluation", json!(ended.id)).data("suite", json!(ended.suite_id));
        let entry = entry.data("target", json!(ended.target_id)).data("score", json!(ended.score));
        let audit = self.0.parts.audit.clone();
        let work = async move |tx: &mut Tx| {
            if store::end_evaluation(tx, &ended).await? {
                audit.append(tx, vec![entry]).await?;
            }
            Ok::<_, PerformanceError>(())
        };
        self.0.parts.db.write(work).await
    }

    /// Cancel the runs of an evaluation that is to end, and end it.
    async fn cancel_cases(&self, evaluation: &EvaluationRecord) -> Result<()> {
        let open = store::running_executions(&mut *self.0.parts.db.read().await?, &evaluation.id).await?;
        for (case, execution) in open {
            if let Some(execution) = execution {
                match self.0.parts.executions.cancel(&principal_of(evaluation), &execution, None).await {
                    Err(error) if may_pass(&error) => return Err(transient(&error)),
                    // It has ended by now, or is gone.
                    _ => {}
                }
            }
            let end = CaseEnd { state: ResultState::Cancelled, score: None, reason: None, seconds: None, cost: None };
            self.end_case(&evaluation.id, case, end).await?;
        }
        self.end(EvaluationRecord { state: EvaluationState::Cancelled, ..evaluation.clone() }).await
    }
}

fn transient(error: &OrchestrationError) -> PerformanceError {
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
