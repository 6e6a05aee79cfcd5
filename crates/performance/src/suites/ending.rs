//! The ends of evaluations that did not complete: their runs are cancelled once their task has let them go.

use std::time::Duration;

use am_background::{NewWork, WorkCaller, WorkError};
use am_core::ids::{BackgroundTaskId, EvaluationId};
use am_db::Tx;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    SuiteService,
    model::{EvaluationState, ResultState},
    record::EvaluationRecord,
    store::{self, CaseEnd},
    work::{EVALUATION_KIND, end_entry},
    worker::{may_pass, principal_of, transient},
};
use crate::error::{PerformanceError, Result};

/// Interval at which evaluations that are to end are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Evaluations that are read at once.
const BATCH: i64 = 100;

impl SuiteService {
    /// The background task of an evaluation.
    pub(super) fn task_of(&self, evaluation: &EvaluationRecord) -> NewWork {
        NewWork {
            id: self.0.tasks.new_id(),
            kind: EVALUATION_KIND,
            subject: evaluation.id.to_string(),
            owner_id: evaluation.owner_id.clone(),
            parameters: json!({
                "suite_id": evaluation.suite_id,
                "version": evaluation.version,
                "target": {"kind": evaluation.target_kind, "id": evaluation.target_id},
                "parallel": evaluation.parallel,
            }),
            seed: 0,
            // They have a limit of their own.
            limited: false,
        }
    }

    /// End what is to end, until the service is asked to.
    pub async fn work(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.round(&stop).await {
                tracing::warn!(%error, "evaluations could not be ended; it is tried again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn round(&self, stop: &CancellationToken) -> Result<()> {
        let mut after = EvaluationId::default();
        loop {
            let found = store::unattended(&mut *self.0.parts.db.read().await?, &after, BATCH).await?;
            for evaluation in &found {
                if stop.is_cancelled() {
                    return Ok(());
                }
                // One must not hold up the others.
                if let Err(error) = self.look_after(evaluation).await {
                    tracing::warn!(evaluation = %evaluation.id, %error, "an evaluation could not be ended; it is tried again");
                }
            }
            match found.last() {
                Some(last) if found.len() as i64 == BATCH => after = last.id.clone(),
                _ => return Ok(()),
            }
        }
    }

    async fn look_after(&self, evaluation: &EvaluationRecord) -> Result<()> {
        match (&evaluation.task_id, evaluation.state) {
            (None, EvaluationState::Running) => self.queue(evaluation).await,
            (Some(task), _) if !self.has_let_go(evaluation, task).await? => Ok(()),
            _ => self.cancel_cases(evaluation).await,
        }
    }

    /// Whether the task of an evaluation has ended, so that it starts no run any more.
    async fn has_let_go(&self, evaluation: &EvaluationRecord, task: &BackgroundTaskId) -> Result<bool> {
        let caller = WorkCaller { principal: principal_of(evaluation), is_admin: true };
        match self.0.tasks.get(&caller, task).await {
            Ok(task) => Ok(task.status.is_final()),
            Err(WorkError::NotFound(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Queue the task of an evaluation that was begun before evaluations had one.
    async fn queue(&self, evaluation: &EvaluationRecord) -> Result<()> {
        let (me, new, now) = (self.clone(), self.task_of(evaluation), self.now());
        let id = evaluation.id.clone();
        let entry = self.entry(&principal_of(evaluation), "evaluation", "queued", now).data("evaluation", json!(id));
        let work = async move |tx: &mut Tx| {
            if store::set_task(tx, &id, &new.id).await? {
                me.0.tasks.submit(tx, new, now).await?;
                me.0.parts.audit.append(tx, vec![entry]).await?;
            }
            Ok::<_, PerformanceError>(())
        };
        self.0.parts.db.write(work).await
    }

    /// Cancel the runs of an evaluation, and end it.
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
            self.0.worker.end_case(&evaluation.id, case, end).await?;
        }
        let state = match evaluation.reason {
            Some(_) => EvaluationState::Failed,
            None => EvaluationState::Cancelled,
        };
        let now = self.now();
        let ended = EvaluationRecord { state, ended_at: Some(now), ..evaluation.clone() };
        let (audit, entry) = (self.0.parts.audit.clone(), end_entry(&ended, now));
        let work = async move |tx: &mut Tx| {
            if store::end_evaluation(tx, &ended).await? {
                audit.append(tx, vec![entry]).await?;
            }
            Ok::<_, PerformanceError>(())
        };
        self.0.parts.db.write(work).await
    }
}
