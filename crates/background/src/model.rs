//! Types of background work, as stored and shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use am_core::ids::{BackgroundTaskId, PrincipalId};
use am_db::{codec::Timestamp, owner, principal::Principal, stored_enum};

use crate::error::{Result, WorkError};

stored_enum! {
    /// Status of a background task.
    pub enum WorkStatus {
        /// Waiting for a process to do it.
        Queued = "queued" / "queued",
        /// Being done. If its process died, another one goes on with it.
        Running = "running" / "running",
        /// Paused until resumed.
        Paused = "paused" / "paused",
        /// Ended with a result.
        Completed = "completed" / "completed",
        /// Ended by an error.
        Failed = "failed" / "failed",
        /// Ended on request.
        Cancelled = "cancelled" / "cancelled",
    }
}

impl WorkStatus {
    /// Whether the status is final.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

stored_enum! {
    /// What was asked of a task that a process is doing.
    pub enum WorkWish {
        /// Stop at the next step, to be resumed later.
        Pause = "pause" / "pause",
        /// Stop and end without a result.
        Cancel = "cancel" / "cancel",
    }
}

/// A background task: long work that outlives its request and its process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BackgroundWork {
    /// Id of the task: `task_` and 12 hexadecimal digits.
    #[schema(example = "task_0123456789ab")]
    pub id: BackgroundTaskId,
    /// Kind of the work, such as `optimisation`.
    #[schema(example = "optimisation")]
    pub kind: String,
    /// Id of what it is about: an agent, or a model.
    pub subject: String,
    /// Principal that asked for it.
    #[serde(serialize_with = "serialize_owner")]
    pub owner_id: PrincipalId,
    /// What it is to do, with every default filled in.
    #[schema(value_type = Object)]
    pub parameters: Value,
    /// Seed of all its random draws.
    pub seed: u64,
    /// Status of the task.
    pub status: WorkStatus,
    /// What was asked of a running task and has not taken effect yet; null: nothing.
    pub asked: Option<WorkWish>,
    /// Units of work done, in the kind's own unit.
    pub done: u64,
    /// All units of work; 0 until known.
    pub total: u64,
    /// Share of the work that is done, from 0 to 1; null until known.
    pub progress: Option<f64>,
    /// Latest figures of the kind; null: none yet.
    #[schema(value_type = Option<Object>)]
    pub note: Option<Value>,
    /// Seconds worked so far, up to the last report.
    pub seconds: f64,
    /// Result of a completed task; null before.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why it failed; null otherwise.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When a process first began it; null before.
    pub started_at: Option<Timestamp>,
    /// When it ended; null before.
    pub ended_at: Option<Timestamp>,
    /// When it changed last.
    pub updated_at: Timestamp,
}

fn serialize_owner<S: serde::Serializer>(stored: &PrincipalId, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    owner::serialize_as_principal(stored, serializer)
}

/// Work that is to be queued.
#[derive(Clone, Debug)]
pub struct NewWork {
    /// Id of the task.
    pub id: BackgroundTaskId,
    /// Name of the kind.
    pub kind: &'static str,
    /// Principal that asks for it.
    pub owner_id: PrincipalId,
    /// Id of what it is about.
    pub subject: String,
    /// What it is to do, whole: it does not change when defaults do.
    pub parameters: Value,
    /// Seed of all its random draws.
    pub seed: u64,
    /// Whether the limit on a principal's open tasks holds for it.
    pub limited: bool,
}

/// Filter of a list of tasks.
#[derive(Clone, Debug, Default)]
pub struct WorkFilter {
    /// Only tasks of this kind.
    pub kind: Option<String>,
    /// Only tasks about this.
    pub subject: Option<String>,
    /// Only tasks in these statuses; empty: any.
    pub status: Vec<WorkStatus>,
    /// Everybody's, not the caller's only.
    pub all: bool,
}

/// The caller of an operation.
#[derive(Clone, Debug)]
pub struct WorkCaller {
    /// Principal that acts.
    pub principal: Principal,
    /// Whether it may see and change everybody's tasks.
    pub is_admin: bool,
}

impl WorkCaller {
    /// The task that was found if the caller may see and change it; a stranger's is not found.
    pub(crate) fn admit(&self, id: &BackgroundTaskId, found: Option<BackgroundWork>) -> Result<BackgroundWork> {
        let found = if self.is_admin { found } else { self.principal.own(found, |task| &task.owner_id) };
        found.ok_or_else(|| not_found(id))
    }
}

/// A task that has just ended, in the transaction that ends it.
#[derive(Clone, Debug)]
pub struct EndedWork {
    /// The task as it was before.
    pub task: BackgroundWork,
    /// How it ended: completed, failed or cancelled.
    pub status: WorkStatus,
    /// Its result; `None` when it was not completed.
    pub result: Option<Value>,
    /// Why it failed; `None` when it did not.
    pub error: Option<String>,
    /// Seconds that it worked.
    pub seconds: f64,
    /// When it ended.
    pub now: Timestamp,
}

/// An open task, as far as that decides who is next.
#[derive(Clone, Debug)]
pub(crate) struct OpenWork {
    /// Id of the task.
    pub id: BackgroundTaskId,
    /// Kind of the work.
    pub kind: String,
    /// Owner of the task.
    pub owner_id: PrincipalId,
    /// Queued or running.
    pub status: WorkStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When a task of its owner was begun last; `None`: never.
    pub served_at: Option<Timestamp>,
}

pub(crate) fn not_found(id: &BackgroundTaskId) -> WorkError {
    WorkError::NotFound(format!("No background task {id}"))
}
