//! Queries of what open executions wait for.

use crate::{assignments::AssignmentState, error::Result};
use am_core::ids::{AgentId, AssignmentId, ExecutionId, TrainingRunId};
use am_db::{Connection, FromRow as _, codec::Timestamp, row, sql};
use am_rl::runs::RunStatus;

row! {
    /// What an assignment says of its wait.
    pub struct AssignmentWaitRow {
        pub id: AssignmentId,
        pub state: AssignmentState,
        pub agent_id: Option<AgentId>,
        pub placed_at: Timestamp,
        pub offered_at: Option<Timestamp>,
        pub accepted_at: Option<Timestamp>,
        pub deadline: Timestamp,
    }
}

row! {
    /// What a training run says of its wait.
    pub struct TrainingWaitRow {
        pub id: TrainingRunId,
        pub status: RunStatus,
        pub created_at: Timestamp,
    }
}

/// Read the open assignments among `ids`.
pub async fn read_assignments(conn: &mut Connection, ids: &[&str]) -> Result<Vec<AssignmentWaitRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sql!(
        "SELECT ",
        AssignmentWaitRow::COLUMNS,
        " FROM am_assignments WHERE id IN ($1) AND state IN ('WAITING', 'OFFERED', 'ACCEPTED')",
    );
    Ok(rows.bind_all(ids.iter()).fetch_all(conn).await?)
}

/// Read the open training runs among `ids`.
pub async fn read_training(conn: &mut Connection, ids: &[&str]) -> Result<Vec<TrainingWaitRow>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sql!(
        "SELECT ",
        TrainingWaitRow::COLUMNS,
        " FROM am_training_runs WHERE id IN ($1) AND status IN ('queued', 'running', 'paused')",
    );
    Ok(rows.bind_all(ids.iter()).fetch_all(conn).await?)
}

row! {
    /// A run that is in the queue, or held back.
    pub struct QueuedRunRow {
        pub queued_at: Timestamp = "r.queued_at",
        /// Whether it waits for a budget, and is in no queue.
        pub is_held: bool = "r.state = 'held'",
        /// Number of runs of its client that are before it.
        pub before: i64 = "(SELECT count(*) FROM am_runs o
              WHERE o.state = 'ready' AND NOT o.paused AND o.client_id = r.client_id AND o.queued_at < r.queued_at)",
    }
}

/// Read since when a run is in the queue, and how many runs of its client are before it; none where it is not in the queue.
pub async fn read_queued_run(conn: &mut Connection, id: &ExecutionId) -> Result<Option<QueuedRunRow>> {
    let found = sql!(
        "SELECT ",
        QueuedRunRow::COLUMNS,
        " FROM am_runs r WHERE r.execution_id = $1 AND r.state IN ('ready', 'held') AND NOT r.paused",
    );
    Ok(found.bind(id).fetch_optional(conn).await?)
}
