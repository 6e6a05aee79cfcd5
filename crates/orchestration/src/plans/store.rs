//! Table `am_plans`, and the executions of plans.

use sqlx::{QueryBuilder, Row as _};

use super::model::{Document, Filter, Measured, Plan, PlanStatus, Strategy};
use crate::{
    error::{Result, unreadable},
    model::Status,
};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
    principal::Principal,
};

/// How long a plan keeps its place without a run: its process died between the two.
const HELD: chrono::Duration = chrono::Duration::seconds(60);

const COLUMNS: &str = "SELECT p.id, p.owner_id, p.document, p.cancelled_at, p.created_at, e.id, e.status, e.started_at, e.completed_at, \
     e.total_cost, e.total_execution_time, e.error_message";
const FROM: &str = " FROM am_plans p LEFT JOIN agent_executions e ON e.workflow_id = p.id";
/// As a client sees it.
const STATUS: &str =
    "CASE WHEN p.cancelled_at IS NOT NULL THEN 'cancelled' WHEN e.id IS NULL THEN 'created' ELSE lower(e.status) END";

fn plan(row: &Row) -> Result<Plan> {
    let document: Doc = row.try_get(2)?;
    let document: Option<Document> = document.parse().map_err(|error| unreadable("am_plans.document", error))?;
    let cancelled: Option<Timestamp> = row.try_get(3)?;
    let ran: Option<Status> = row.try_get(6)?;
    let status = match (cancelled, ran) {
        (Some(_), _) => PlanStatus::Cancelled,
        (None, Some(status)) => status.into(),
        (None, None) => PlanStatus::Created,
    };
    let completed_at: Option<Timestamp> = row.try_get(8)?;
    Ok(Plan {
        id: row.try_get(0)?,
        owner_id: row.try_get(1)?,
        status,
        execution_id: row.try_get(5)?,
        document: document.ok_or_else(|| unreadable("am_plans.document", "it is empty"))?,
        created_at: row.try_get(4)?,
        started_at: row.try_get(7)?,
        completed_at: completed_at.or(cancelled),
        total_cost: row.try_get(9)?,
        total_execution_time: row.try_get(10)?,
        error_message: row.try_get(11)?,
    })
}

/// Store a new plan.
pub async fn insert(tx: &mut Tx, plan: &Plan) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_plans (id, owner_id, strategy, document, estimated_seconds, estimated_cost, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
    )
    .bind(&plan.id)
    .bind(&plan.owner_id)
    .bind(plan.document.strategy)
    .bind(Doc::of(&plan.document)?)
    .bind(plan.document.estimated_seconds)
    .bind(plan.document.estimated_cost)
    .bind(plan.created_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// One plan.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Plan>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(FROM).push(" WHERE p.id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.as_ref().map(plan).transpose()
}

fn push_owner(query: &mut QueryBuilder<Db>, owner: &Principal) {
    query.push(FROM).push(" WHERE p.owner_id IN (");
    let mut list = query.separated(", ");
    for alias in owner.aliases.iter() {
        list.push_bind(alias.clone());
    }
    query.push(")");
}

fn push_filter(query: &mut QueryBuilder<Db>, owner: &Principal, filter: &Filter) {
    push_owner(query, owner);
    if let Some(status) = filter.status {
        query.push(" AND ").push(STATUS).push(" = ").push_bind(status);
    }
    if let Some(strategy) = filter.strategy {
        query.push(" AND p.strategy = ").push_bind(strategy);
    }
}

/// A page, newest first, and how many match.
pub async fn list(conn: &mut Connection, owner: &Principal, filter: &Filter) -> Result<(Vec<Plan>, i64)> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    push_filter(&mut query, owner, filter);
    filter.page.push(&mut query, "p.");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*)");
    push_filter(&mut count, owner, filter);
    let total = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(plan).collect::<Result<_>>()?, total))
}

/// Take one of `most` places for a plan that is about to run. Places of plans whose runs have ended are given back first.
/// Answers how many others hold one, if that are too many.
pub async fn hold(tx: &mut Tx, id: &str, most: i64, now: Timestamp) -> Result<Option<i64>> {
    sqlx::query(
        "UPDATE am_plans SET held_since = NULL WHERE held_since IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = am_plans.id AND e.status IN ('PENDING', 'RUNNING'))
             AND (held_since <= ?1 OR EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = am_plans.id AND e.completed_at >= held_since))",
    )
    .bind(Timestamp(now.0 - HELD))
    .execute(tx.conn().await?)
    .await?;
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM am_plans WHERE held_since IS NOT NULL AND id <> ?1")
        .bind(id)
        .fetch_one(tx.conn().await?)
        .await?;
    if others >= most {
        return Ok(Some(others));
    }
    sqlx::query("UPDATE am_plans SET held_since = ?2, updated_at = ?2 WHERE id = ?1")
        .bind(id)
        .bind(now)
        .execute(tx.conn().await?)
        .await?;
    Ok(None)
}

/// Give a plan's place back: its run did not begin.
pub async fn let_go(tx: &mut Tx, id: &str) -> Result<()> {
    sqlx::query("UPDATE am_plans SET held_since = NULL WHERE id = ?1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}

/// A plan that was never executed will not be. False: it was, or is cancelled already.
pub async fn cancel(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE am_plans SET cancelled_at = ?2, updated_at = ?2, held_since = NULL WHERE id = ?1 AND cancelled_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = ?1)",
    )
    .bind(id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many plans of a strategy ended well, and how many ended at all.
pub async fn ended(conn: &mut Connection, strategy: Strategy) -> Result<(i64, i64)> {
    let counts = sqlx::query_as(
        "SELECT coalesce(sum(e.status = 'COMPLETED'), 0), count(*) FROM am_plans p JOIN agent_executions e ON e.workflow_id = p.id
         WHERE p.strategy = ?1 AND e.status IN ('COMPLETED', 'FAILED')",
    );
    Ok(counts.bind(strategy).fetch_one(conn).await?)
}

/// What became of an owner's plans, by strategy.
pub async fn measured(conn: &mut Connection, owner: &Principal) -> Result<Vec<Measured>> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT p.strategy, count(*), coalesce(sum(e.status IN ('PENDING', 'RUNNING')), 0), coalesce(sum(e.status = 'COMPLETED'), 0),
             coalesce(sum(e.status = 'FAILED'), 0), coalesce(sum(e.status = 'CANCELLED' OR p.cancelled_at IS NOT NULL), 0),
             avg(CASE WHEN e.status = 'COMPLETED' THEN e.total_execution_time END),
             avg(CASE WHEN e.status = 'COMPLETED' THEN e.total_cost END),
             avg(CASE WHEN e.status = 'COMPLETED' AND p.estimated_seconds > 0 THEN e.total_execution_time / p.estimated_seconds END),
             avg(CASE WHEN e.status = 'COMPLETED' AND p.estimated_cost > 0 THEN e.total_cost / p.estimated_cost END)",
    );
    push_owner(&mut query, owner);
    query.push(" GROUP BY p.strategy ORDER BY p.strategy");
    let row = |row: &Row| -> Result<Measured> {
        let (completed, failed): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        Ok(Measured {
            strategy: row.try_get(0)?,
            plans: row.try_get(1)?,
            running: row.try_get(2)?,
            completed,
            failed,
            cancelled: row.try_get(5)?,
            success_rate: (completed + failed > 0).then(|| completed as f64 / (completed + failed) as f64),
            mean_seconds: row.try_get(6)?,
            mean_cost: row.try_get(7)?,
            seconds_to_estimate: row.try_get(8)?,
            cost_to_estimate: row.try_get(9)?,
        })
    };
    query.build().fetch_all(conn).await?.iter().map(row).collect()
}
