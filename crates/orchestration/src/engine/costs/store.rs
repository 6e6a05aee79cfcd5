//! Statements on what runs may cost and whether they wait for a budget.

use crate::error::Result;
use am_core::{ids::ExecutionId, money::Money};
use am_db::{Connection, Tx, codec::Timestamp, sql};

/// Read the cost limit of a run; 0: no limit.
pub async fn cost_limit(conn: &mut Connection, id: &ExecutionId) -> Result<Money> {
    let limit = sql!("SELECT max_cost_budget FROM am_runs WHERE execution_id = $1");
    Ok(limit.bind(id).fetch_optional_value(conn).await?.unwrap_or(Money::ZERO))
}

/// Read what a run has cost so far.
pub async fn spent(conn: &mut Connection, id: &ExecutionId) -> Result<Money> {
    let spent = sql!("SELECT coalesce(total_cost, 0) FROM agent_executions WHERE id = $1");
    Ok(spent.bind(id).fetch_optional_value(conn).await?.unwrap_or(Money::ZERO))
}

/// Whether a worker drives a run.
pub async fn is_driven(conn: &mut Connection, id: &ExecutionId) -> Result<bool> {
    Ok(sql!("SELECT 1 FROM am_runs WHERE execution_id = $1 AND state = 'driven'").bind(id).exists(conn).await?)
}

/// Whether a run has ended.
pub async fn has_ended(conn: &mut Connection, id: &ExecutionId) -> Result<bool> {
    Ok(sql!("SELECT 1 FROM am_runs WHERE execution_id = $1 AND state = 'ended'").bind(id).exists(conn).await?)
}

/// List executions that ended before this time, for which budgets still reserve something and no job is left.
pub async fn list_left_reservations(conn: &mut Connection, before: Timestamp) -> Result<Vec<ExecutionId>> {
    let left = sql!(
        "SELECT b.execution_id FROM am_ledger_reservations b
             {then} am_runs r ON r.execution_id = b.execution_id
             {then} agent_executions e ON e.id = b.execution_id
         WHERE r.state = 'ended' AND e.completed_at < $1
             AND NOT EXISTS (SELECT 1 FROM am_late_jobs l WHERE l.execution_id = b.execution_id)
         LIMIT 500"
    );
    Ok(left.bind(before).fetch_values(conn).await?)
}

/// Set the cost limit of a run.
pub async fn set_cost_limit(tx: &mut Tx, id: &ExecutionId, limit: Money) -> Result<()> {
    let set = sql!("UPDATE am_runs SET max_cost_budget = $2 WHERE execution_id = $1");
    set.bind(id).bind(limit).execute(tx.conn().await?).await?;
    Ok(())
}

/// Keep a run from being claimed: it waits for a budget.
pub async fn hold_back(tx: &mut Tx, id: &ExecutionId) -> Result<()> {
    let held = sql!("UPDATE am_runs SET state = 'held' WHERE execution_id = $1 AND state = 'ready'");
    held.bind(id).execute(tx.conn().await?).await?;
    Ok(())
}

/// Let a run be claimed that waited for a budget. Returns false if it does not wait any more.
pub async fn let_in(tx: &mut Tx, id: &ExecutionId) -> Result<bool> {
    let ready = sql!("UPDATE am_runs SET state = 'ready' WHERE execution_id = $1 AND state = 'held'");
    Ok(ready.bind(id).execute(tx.conn().await?).await? == 1)
}

/// Whether an execution has left a job that may still cost something.
pub async fn has_left_jobs(conn: &mut Connection, execution: &ExecutionId) -> Result<bool> {
    Ok(sql!("SELECT 1 FROM am_late_jobs WHERE execution_id = $1").bind(execution).exists(conn).await?)
}
