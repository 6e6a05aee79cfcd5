//! An evaluation as it is stored, and its cases that are still to be done.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, BackgroundTaskId, EvaluationId, ExecutionId, PrincipalId, SuiteId, WorkflowId};
use am_db::codec::Timestamp;
use am_orchestration::agents::TaskType;
use serde_json::{Map, Value};

use super::model::{CaseCheck, EvaluationDocument, EvaluationState, EvaluationTarget, TargetKind};

/// A row of `am_evaluations`.
#[derive(Clone, Debug)]
pub(super) struct EvaluationRecord {
    pub id: EvaluationId,
    pub suite_id: SuiteId,
    pub version: i64,
    pub owner_id: PrincipalId,
    pub target_kind: TargetKind,
    pub target_id: String,
    pub agent_id: Option<AgentId>,
    pub workflow_id: Option<WorkflowId>,
    pub parallel: i64,
    /// Of an agent, as what follows.
    pub task_type: Option<TaskType>,
    pub timeout_seconds: Option<i64>,
    pub state: EvaluationState,
    pub cases: i64,
    pub done: i64,
    pub passed: i64,
    pub score: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub method: Option<String>,
    pub reason: Option<String>,
    /// The task that carries it on; `None`: it was begun before evaluations had one.
    pub task_id: Option<BackgroundTaskId>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// What all versions of a target have in common: the policy's name, the workflow, or the agent.
pub(super) fn target_name(target: &str) -> &str {
    target.split_once('@').map_or(target, |(name, _)| name)
}

impl EvaluationRecord {
    /// What all versions of its target have in common.
    pub(super) fn target_name(&self) -> &str {
        target_name(&self.target_id)
    }

    /// The form that clients see.
    pub(super) fn into_document(self) -> EvaluationDocument {
        let mut reasons = BTreeMap::new();
        if self.score.is_none() {
            let text = match self.state {
                EvaluationState::Running => "the cases have not all ended",
                EvaluationState::Cancelling | EvaluationState::Cancelled => {
                    "it was cancelled before all cases had ended"
                }
                _ => "it could not be done",
            };
            for name in ["score", "low", "high"] {
                reasons.insert(name.to_owned(), text.to_owned());
            }
        }
        EvaluationDocument {
            id: self.id,
            suite_id: self.suite_id,
            version: self.version,
            owner_id: self.owner_id,
            target: EvaluationTarget { kind: self.target_kind, id: self.target_id },
            agent_id: self.agent_id,
            workflow_id: self.workflow_id,
            parallel: self.parallel,
            task_type: self.task_type,
            timeout_seconds: self.timeout_seconds,
            status: self.state,
            cases: self.cases,
            done: self.done,
            passed: self.passed,
            progress: self.done as f64 / self.cases.max(1) as f64,
            score: self.score,
            low: self.low,
            high: self.high,
            interval_method: self.method,
            error: self.reason,
            reasons,
            task_id: self.task_id,
            created_at: self.created_at,
            ended_at: self.ended_at,
        }
    }
}

/// A case that has not ended.
#[derive(Clone, Debug)]
pub(super) struct EvaluationWork {
    /// Number of the case.
    pub id: i64,
    /// Its run; `None`: it has not begun.
    pub execution_id: Option<ExecutionId>,
    pub input: Map<String, Value>,
    pub check: CaseCheck,
    /// Processes that began to start or to judge it and did not say that they left it.
    pub tries: i64,
}
