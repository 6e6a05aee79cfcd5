//! Queries of the table `am_late_jobs`, and bookings of late costs.

use crate::{error::Result, model::ExecutionStatus};
use am_audit::SecurityLevel;
use am_core::{
    ids::{ExecutionId, JobId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{Connection, FromRow as _, Tx, codec::Timestamp, insert, row, sql};

/// Left jobs that are looked at in one round.
const MAX_LOOKED_AT: i64 = 10_000;

row! {
    /// Execution of a left job.
    pub struct LeftRunRow {
        /// Workflow, network or plan.
        pub workflow_id: WorkflowId = "e.workflow_id",
        /// Principal of the client.
        pub client_id: PrincipalId = "e.client_id",
        /// Security level of the run.
        pub security_level: SecurityLevel = "r.security_level",
        /// Cost limit; 0: no limit.
        pub max_cost_budget: Money = "r.max_cost_budget",
    }
}

/// Insert a job that may cost something though no step waits for it.
pub async fn insert_left_job(tx: &mut Tx, job: &JobId, execution: &ExecutionId, now: Timestamp) -> Result<()> {
    insert!("am_late_jobs" {
        job_id: job,
        execution_id: execution,
        left_at: now,
    } "ON CONFLICT (job_id) DO NOTHING")
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// List left jobs whose executions have ended: the driver of one that goes on writes its total cost.
pub async fn list_left_jobs(conn: &mut Connection) -> Result<Vec<JobId>> {
    let left = sql!(
        "SELECT l.job_id FROM am_late_jobs l LEFT JOIN am_runs r ON r.execution_id = l.execution_id
         WHERE r.state IS NULL OR r.state = 'ended' ORDER BY l.left_at, l.job_id LIMIT $1",
    );
    Ok(left.bind(MAX_LOOKED_AT).fetch_values(conn).await?)
}

/// Delete a left job. Returns its execution; `None` when it was deleted before.
pub async fn take_left_job(tx: &mut Tx, job: &JobId) -> Result<Option<ExecutionId>> {
    let taken = sql!("DELETE FROM am_late_jobs WHERE job_id = $1 RETURNING execution_id");
    Ok(taken.bind(job).fetch_optional_value(tx.conn().await?).await?)
}

/// Read the execution of a left job.
pub async fn get_left_run(conn: &mut Connection, id: &ExecutionId) -> Result<Option<LeftRunRow>> {
    let run = sql!(
        "SELECT ",
        LeftRunRow::COLUMNS,
        " FROM agent_executions e JOIN am_runs r ON r.execution_id = e.id WHERE e.id = $1",
    );
    Ok(run.bind(id).fetch_optional(conn).await?)
}

/// Add a cost to a run that has ended so. Returns false for any other.
pub async fn book_cost(
    tx: &mut Tx,
    id: &ExecutionId,
    ends: &[ExecutionStatus],
    cost: Money,
    now: Timestamp,
) -> Result<bool> {
    let booked = sql!(
        "UPDATE agent_executions SET total_cost = total_cost + $2, updated_at = $3 WHERE id = $1 AND status IN ($4)"
    );
    let booked = booked.bind(id).bind(cost).bind(now).bind_all(ends);
    Ok(booked.execute(tx.conn().await?).await? == 1)
}
