//! Queries of the table `am_plans`, and of the executions of plans.

use super::model::{DecompositionStrategy, PlanDocument, PlanFilter, PlanStatus, StrategyStats, TaskPlan};
use crate::{error::Result, model::ExecutionStatus};
use am_core::{
    ids::{ExecutionId, PlanId, PrincipalId},
    money::Money,
};
use am_db::{
    Connection, FromRow as _, Tx,
    codec::{Json, JsonText, Timestamp},
    insert,
    principal::Principal,
    row, sql,
    statement::{Query, some_of},
    update,
};

/// Time for which a plan keeps its slot without an execution: its process may have died in between.
const SLOT_HOLD_TIME: chrono::Duration = chrono::Duration::seconds(60);
/// Maximum number of plans of a strategy that its success rate is computed from.
const MAX_JUDGED_PLANS: i64 = 1000;

row! {
    /// A plan and the run of it, if there is one.
    struct PlanRow from "p." {
        id: PlanId,
        owner_id: PrincipalId,
        document: PlanDocument => Json::into_inner,
        cancelled_at: Option<Timestamp>,
        created_at: Timestamp,
        execution_id: Option<ExecutionId> = "e.id",
        execution_status: Option<ExecutionStatus> = "e.status",
        started_at: Option<Timestamp> = "e.started_at",
        completed_at: Option<Timestamp> = "e.completed_at",
        total_cost: Option<Money> = "e.total_cost",
        total_execution_time: Option<f64> = "e.total_execution_time",
        error_message: Option<String> = "e.error_message",
    }
}

impl From<PlanRow> for TaskPlan {
    fn from(stored: PlanRow) -> Self {
        let status = match (stored.cancelled_at, stored.execution_status) {
            (Some(_), _) => PlanStatus::Cancelled,
            (None, Some(status)) => status.into(),
            (None, None) => PlanStatus::Created,
        };
        Self {
            id: stored.id,
            owner_id: stored.owner_id,
            status,
            execution_id: stored.execution_id,
            document: stored.document,
            created_at: stored.created_at,
            started_at: stored.started_at,
            completed_at: stored.completed_at.or(stored.cancelled_at),
            total_cost: stored.total_cost,
            total_execution_time: stored.total_execution_time,
            error_message: stored.error_message,
        }
    }
}

const FROM_PLANS: &str = " FROM am_plans p LEFT JOIN agent_executions e ON e.workflow_id = p.id ";

/// Store a new plan.
pub async fn insert(tx: &mut Tx, plan: &TaskPlan) -> Result<()> {
    insert!("am_plans" {
        id: &plan.id,
        owner_id: &plan.owner_id,
        strategy: plan.document.strategy,
        document: JsonText::from_value(&plan.document)?,
        estimated_seconds: plan.document.estimated_seconds,
        estimated_cost: plan.document.estimated_cost,
        created_at: plan.created_at,
        updated_at: plan.created_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read one plan.
pub async fn get(conn: &mut Connection, id: &PlanId) -> Result<Option<TaskPlan>> {
    let plan = sql!("SELECT ", PlanRow::COLUMNS, FROM_PLANS, "WHERE p.id = $1").bind(id);
    Ok(plan.fetch_optional::<PlanRow>(conn).await?.map(TaskPlan::from))
}

/// Whose, in which state as a client sees it, of which strategy.
const MATCHING: &str = "WHERE p.owner_id = $1 [AND CASE WHEN p.cancelled_at IS NOT NULL THEN 'cancelled' \
     WHEN e.id IS NULL THEN 'created' ELSE lower(CAST(e.status AS VARCHAR)) END IN ($2)] [AND p.strategy = $3] ";

fn bind_filter(query: Query, owner: &Principal, filter: &PlanFilter) -> Query {
    query.bind(owner.id()).bind_all_some(some_of(&filter.status)).bind_some(filter.strategy)
}

/// Read a page, newest first, and the number of matching plans.
pub async fn list(conn: &mut Connection, owner: &Principal, filter: &PlanFilter) -> Result<(Vec<TaskPlan>, i64)> {
    let plans = bind_filter(sql!("SELECT ", PlanRow::COLUMNS, FROM_PLANS, MATCHING, "{page p. $4}"), owner, filter);
    let plans: Vec<PlanRow> = plans.bind_page(&filter.page).fetch_all(&mut *conn).await?;
    let total = bind_filter(sql!("SELECT count(*)", FROM_PLANS, MATCHING, "{span p. $4}"), owner, filter);
    let total = total.bind_span(filter.page.created).fetch_value(conn).await?;
    Ok((plans.into_iter().map(TaskPlan::from).collect(), total))
}

/// Take a slot for a plan about to run, after freeing the slots of ended plans. There are `most`; an owner that has fewer than
/// its share of them gets one in any case, so that nobody waits for another's plans. Returns the number of other plans that
/// hold a slot if none is free.
pub async fn take_slot(tx: &mut Tx, id: &PlanId, most: i64, now: Timestamp) -> Result<Option<i64>> {
    sql!(
        "UPDATE am_plans SET held_since = NULL WHERE held_since IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = am_plans.id AND e.status IN ('PENDING', 'RUNNING'))
             AND (held_since <= $1 OR EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = am_plans.id AND e.completed_at >= held_since))",
    )
    .bind(Timestamp(now.0 - SLOT_HOLD_TIME))
    .execute(tx.conn().await?)
    .await?;
    let held = sql!(
        "SELECT count(*), count(*) FILTER (WHERE h.owner_id = p.owner_id), count(DISTINCT CASE WHEN h.owner_id <> p.owner_id THEN h.owner_id END)
         FROM am_plans p JOIN am_plans h ON h.held_since IS NOT NULL AND h.id <> p.id WHERE p.id = $1",
    );
    let (others, own, owners): (i64, i64, i64) = held.bind(id).fetch_one(tx.conn().await?).await?;
    let share = (most / (owners + 1)).max(1);
    if others >= most && own >= share {
        return Ok(Some(others));
    }
    update!("am_plans" { held_since: now, updated_at: now } where "id = $1" (id)).execute(tx.conn().await?).await?;
    Ok(None)
}

/// Cancel a plan that was never executed. Returns false if it was executed, or is cancelled already.
pub async fn cancel(tx: &mut Tx, id: &PlanId, now: Timestamp) -> Result<bool> {
    let cancelled = sql!(
        "UPDATE am_plans SET cancelled_at = $2, updated_at = $2, held_since = NULL WHERE id = $1 AND cancelled_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = $1)",
    );
    Ok(cancelled.bind(id).bind(now).execute(tx.conn().await?).await? == 1)
}

/// Count the plans of a strategy that ended well, and those that ended, among the newest of all.
pub async fn count_ended(conn: &mut Connection, strategy: DecompositionStrategy) -> Result<(i64, i64)> {
    let counts = sql!(
        "SELECT count(*) FILTER (WHERE e.status = 'COMPLETED'), count(*)
         FROM (SELECT id FROM am_plans WHERE strategy = $1 ORDER BY created_at DESC LIMIT $2) AS p
             {then} agent_executions e ON e.workflow_id = p.id
         WHERE e.status IN ('COMPLETED', 'FAILED')",
    );
    Ok(counts.bind(strategy).bind(MAX_JUDGED_PLANS).fetch_one(conn).await?)
}

row! {
    StrategyStats from "p." {
        strategy,
        plans = "count(*)",
        running = "count(*) FILTER (WHERE e.status IN ('PENDING', 'RUNNING'))",
        completed = "count(*) FILTER (WHERE e.status = 'COMPLETED')",
        failed = "count(*) FILTER (WHERE e.status = 'FAILED')",
        cancelled = "count(*) FILTER (WHERE e.status = 'CANCELLED' OR p.cancelled_at IS NOT NULL)",
        success_rate = "avg(CASE e.status WHEN 'COMPLETED' THEN 1.0 WHEN 'FAILED' THEN 0.0 END)",
        mean_seconds = "avg(CASE WHEN e.status = 'COMPLETED' THEN e.total_execution_time END)",
        mean_cost = "avg(CASE WHEN e.status = 'COMPLETED' THEN e.total_cost END)",
        seconds_to_estimate =
            "avg(CASE WHEN e.status = 'COMPLETED' AND p.estimated_seconds > 0 THEN e.total_execution_time / p.estimated_seconds END)",
        cost_to_estimate = "avg(CASE WHEN e.status = 'COMPLETED' AND p.estimated_cost > 0 THEN e.total_cost / p.estimated_cost END)",
    }
}

/// Read statistics of an owner's plans, by strategy.
pub async fn strategy_stats(conn: &mut Connection, owner: &Principal) -> Result<Vec<StrategyStats>> {
    let query = sql!(
        "SELECT ",
        StrategyStats::COLUMNS,
        FROM_PLANS,
        "WHERE p.owner_id = $1 GROUP BY p.strategy ORDER BY p.strategy",
    );
    Ok(query.bind(owner.id()).fetch_all(conn).await?)
}
