//! An evaluation as background work. Its rows are its state: a process that goes on with it reads which cases wait, run and have ended.

use std::time::Duration;

use am_audit::AuditEntry;
use am_background::{EndedWork, WorkContext, WorkFault, WorkKind, WorkMachine, WorkStatus, WorkStep};
use am_core::ids::EvaluationId;
use am_db::{DatabaseError, Tx, codec::Timestamp};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    entry, figures,
    model::EvaluationState,
    record::EvaluationRecord,
    store,
    worker::{EvaluationLook, EvaluationWorker, principal_of},
};
use crate::error::PerformanceError;

/// Name of the kind of work.
pub(super) const EVALUATION_KIND: &str = "evaluation";
/// Interval between two looks at the runs: a cancellation waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time after which a look is repeated that was not possible.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The kind of work that evaluations are.
pub(super) struct SuiteEvaluationKind(pub(super) EvaluationWorker);

/// An evaluation under way.
struct EvaluationMachine {
    worker: EvaluationWorker,
    id: EvaluationId,
    has_begun: bool,
    done: u64,
    total: u64,
    note: Option<Value>,
}

/// The audit entry of an evaluation's end.
pub(super) fn end_entry(ended: &EvaluationRecord, now: Timestamp) -> AuditEntry {
    let entry = entry(&principal_of(ended), "evaluation", ended.state.value(), now);
    let entry = entry.data("evaluation", json!(ended.id)).data("suite", json!(ended.suite_id));
    entry.data("target", json!(ended.target_id)).data("score", json!(ended.score))
}

impl WorkKind for SuiteEvaluationKind {
    fn name(&self) -> &'static str {
        EVALUATION_KIND
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn open(&self, context: &WorkContext, _: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault> {
        let task = context.task();
        Ok(Box::new(EvaluationMachine {
            worker: self.0.clone(),
            id: task.subject.as_str().into(),
            has_begun: false,
            done: task.done,
            total: task.total,
            note: None,
        }))
    }

    fn settle<'a>(&'a self, tx: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        Box::pin(self.record_end(tx, ended))
    }
}

impl SuiteEvaluationKind {
    /// Store the score of an evaluation whose cases have all ended. One that ends otherwise has runs that are to be cancelled first.
    async fn record_end(&self, tx: &mut Tx, ended: &EndedWork) -> am_db::Result<()> {
        let id = EvaluationId::from(ended.task.subject.as_str());
        let Some(found) = store::evaluation(tx.conn().await?, &id).await? else { return Ok(()) };
        if ended.status != WorkStatus::Completed {
            store::let_end(tx, &id, ended.error.as_deref()).await?;
            let wake = self.0.wake.clone();
            tx.after_commit(move || wake.notify_one());
            return Ok(());
        }
        let score = figures::suite_score(&store::scored_cases(tx.conn().await?, &id).await?);
        let completed = EvaluationRecord {
            state: EvaluationState::Completed,
            score: score.as_ref().map(|found| found.score),
            low: score.as_ref().map(|found| found.interval.low),
            high: score.as_ref().map(|found| found.interval.high),
            method: score.as_ref().map(|found| found.method.to_owned()),
            ended_at: Some(ended.now),
            ..found
        };
        if store::end_evaluation(tx, &completed).await? {
            self.0.parts.audit.append(tx, vec![end_entry(&completed, ended.now)]).await?;
        }
        Ok(())
    }
}

impl EvaluationMachine {
    fn progress(&self) -> WorkStep {
        WorkStep::Progress { done: self.done, total: self.total, note: self.note.clone() }
    }
}

impl WorkMachine for EvaluationMachine {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // A checkpoint may come before the first look, so that a case that ends the process is given up, and not the evaluation.
            return Ok(self.progress());
        }
        let mut events = Vec::new();
        let looked = context.block_on(self.worker.look(&self.id, &mut events));
        let has_moved = !events.is_empty();
        for (kind, told) in events {
            context.event(kind, told);
        }
        let wait = match looked {
            Ok(EvaluationLook::Done) => return Ok(WorkStep::Done(json!({"evaluation_id": self.id}))),
            Ok(EvaluationLook::Failed(why)) => return Err(WorkFault::Failed(why)),
            Ok(EvaluationLook::Open(evaluation)) => {
                self.done = evaluation.done.unsigned_abs();
                self.total = evaluation.cases.unsigned_abs();
                self.note = Some(json!({"evaluation_id": self.id, "passed": evaluation.passed}));
                LOOK_INTERVAL
            }
            Err(PerformanceError::Db(error @ (DatabaseError::InvalidValue(_) | DatabaseError::Duplicate(_)))) => {
                return Err(WorkFault::Db(error));
            }
            Err(error) => {
                tracing::warn!(evaluation = %self.id, %error, "an evaluation could not be carried on; it is tried again");
                AGAIN_AFTER
            }
        };
        if !has_moved {
            context.block_on(async { tokio::time::sleep(wait).await });
        }
        Ok(self.progress())
    }

    fn is_waiting(&self) -> bool {
        true
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        // The rows are the state.
        Ok(String::new())
    }
}
