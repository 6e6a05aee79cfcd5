//! Tables `am_assignments`, `am_assignment_attempts` and `am_assignment_notices`.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{QueryBuilder, Row as _};

use super::model::{Assignment, Attempt, NewAssignment};
use crate::{error::Result, registry::TaskType};
use am_db::{Connection, Db, Row, Tx, codec::Timestamp};

const COLUMNS: &str = "SELECT id, execution_id, step_key, workflow_id, client_id, task_type, gpu_tier, agent_type, priority, request, \
     max_price, estimated_seconds, max_retries, state, attempt, agent_id, failures, progress, result, error, seconds, cost, \
     deadline, placed_at, offered_at, accepted_at, ended_at FROM am_assignments";

fn assignment(row: &Row) -> Result<Assignment> {
    Ok(Assignment {
        id: row.try_get(0)?,
        execution_id: row.try_get(1)?,
        step_key: row.try_get(2)?,
        workflow_id: row.try_get(3)?,
        client_id: row.try_get(4)?,
        task_type: row.try_get(5)?,
        gpu_tier: row.try_get(6)?,
        agent_type: row.try_get(7)?,
        priority: row.try_get(8)?,
        request: row.try_get(9)?,
        max_price: row.try_get(10)?,
        estimated_seconds: row.try_get(11)?,
        max_retries: row.try_get(12)?,
        state: row.try_get(13)?,
        attempt: row.try_get(14)?,
        agent_id: row.try_get(15)?,
        failures: row.try_get(16)?,
        progress: row.try_get(17)?,
        result: row.try_get(18)?,
        error: row.try_get(19)?,
        seconds: row.try_get(20)?,
        cost: row.try_get(21)?,
        deadline: row.try_get(22)?,
        placed_at: row.try_get(23)?,
        offered_at: row.try_get(24)?,
        accepted_at: row.try_get(25)?,
        ended_at: row.try_get(26)?,
    })
}

const ATTEMPT_COLUMNS: &str = "SELECT attempt, agent_id, score, cost_per_hour, offered_at, accepted_at, ended_at, outcome, reason, \
     digest, seconds, cost, told_by, told_at, tell_error, assignment_id FROM am_assignment_attempts";

fn attempt(row: &Row) -> Result<Attempt> {
    Ok(Attempt {
        attempt: row.try_get(0)?,
        agent_id: row.try_get(1)?,
        score: row.try_get(2)?,
        cost_per_hour: row.try_get(3)?,
        offered_at: row.try_get(4)?,
        accepted_at: row.try_get(5)?,
        ended_at: row.try_get(6)?,
        outcome: row.try_get(7)?,
        reason: row.try_get(8)?,
        digest: row.try_get(9)?,
        seconds: row.try_get(10)?,
        cost: row.try_get(11)?,
        told_by: row.try_get(12)?,
        told_at: row.try_get(13)?,
        tell_error: row.try_get(14)?,
    })
}

/// Place an assignment, which waits for an agent.
pub async fn insert(tx: &mut Tx, new: &NewAssignment, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_assignments (id, execution_id, step_key, workflow_id, client_id, task_type, gpu_tier, agent_type, priority,
             request, max_price, estimated_seconds, max_retries, state, deadline, placed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'WAITING', ?14, ?15)",
    )
    .bind(&new.id)
    .bind(&new.execution_id)
    .bind(&new.step_key)
    .bind(&new.workflow_id)
    .bind(&new.client_id)
    .bind(new.need.task_type)
    .bind(new.need.gpu_tier)
    .bind(&new.need.agent_type)
    .bind(new.priority)
    .bind(new.request.to_string())
    .bind(new.need.max_price)
    .bind(new.need.estimated_seconds)
    .bind(new.max_retries)
    .bind(new.deadline)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// One assignment.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Assignment>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" WHERE id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.as_ref().map(assignment).transpose()
}

/// Those of an execution, in the order in which they were placed.
pub async fn of_execution(conn: &mut Connection, execution_id: &str) -> Result<Vec<Assignment>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" WHERE execution_id = ").push_bind(execution_id).push(" ORDER BY placed_at, id");
    query.build().fetch_all(conn).await?.iter().map(assignment).collect()
}

/// Those that an agent has, the oldest first.
pub async fn held_by(conn: &mut Connection, agent_id: &str) -> Result<Vec<Assignment>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" WHERE state IN ('OFFERED', 'ACCEPTED') AND agent_id = ").push_bind(agent_id);
    query.push(" ORDER BY priority, placed_at, id");
    query.build().fetch_all(conn).await?.iter().map(assignment).collect()
}

/// Those of these types that wait for an agent, in the order in which they are given; at most `limit`.
pub async fn waiting(conn: &mut Connection, types: &BTreeSet<TaskType>, limit: i64) -> Result<Vec<Assignment>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" WHERE state = 'WAITING' AND task_type IN (");
    let mut list = query.separated(", ");
    for task_type in types {
        list.push_bind(*task_type);
    }
    query.push(") ORDER BY priority, placed_at, id LIMIT ").push_bind(limit);
    query.build().fetch_all(conn).await?.iter().map(assignment).collect()
}

/// Those whose time is up, and those whose offer was not answered since `offered_before`.
pub async fn overdue(conn: &mut Connection, now: Timestamp, offered_before: Timestamp) -> Result<Vec<Assignment>> {
    let mut query = QueryBuilder::<Db>::new(COLUMNS);
    query.push(" WHERE state IN ('WAITING', 'OFFERED', 'ACCEPTED') AND (deadline <= ").push_bind(now);
    query.push(" OR (state = 'OFFERED' AND offered_at <= ").push_bind(offered_before).push(")) LIMIT 500");
    query.build().fetch_all(conn).await?.iter().map(assignment).collect()
}

/// Who had those that wait now, by assignment.
pub async fn tried(conn: &mut Connection) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.assignment_id, t.agent_id FROM am_assignments s JOIN am_assignment_attempts t ON t.assignment_id = s.id
         WHERE s.state = 'WAITING'",
    )
    .fetch_all(conn)
    .await?;
    let mut tried = BTreeMap::<String, BTreeSet<String>>::new();
    for (assignment, agent) in rows {
        tried.entry(assignment).or_default().insert(agent);
    }
    Ok(tried)
}

/// One attempt.
pub async fn get_attempt(conn: &mut Connection, id: &str, number: i64) -> Result<Option<Attempt>> {
    let mut query = QueryBuilder::<Db>::new(ATTEMPT_COLUMNS);
    query.push(" WHERE assignment_id = ").push_bind(id).push(" AND attempt = ").push_bind(number);
    query.build().fetch_optional(conn).await?.as_ref().map(attempt).transpose()
}

/// The attempts of all assignments of an execution, by assignment.
pub async fn attempts(conn: &mut Connection, execution_id: &str) -> Result<BTreeMap<String, Vec<Attempt>>> {
    let mut query = QueryBuilder::<Db>::new(ATTEMPT_COLUMNS);
    query.push(" WHERE assignment_id IN (SELECT id FROM am_assignments WHERE execution_id = ").push_bind(execution_id);
    query.push(") ORDER BY assignment_id, attempt");
    let mut found = BTreeMap::<String, Vec<Attempt>>::new();
    for row in query.build().fetch_all(conn).await? {
        found.entry(row.try_get(15)?).or_default().push(attempt(&row)?);
    }
    Ok(found)
}

/// Write what may change of an assignment.
pub async fn save(tx: &mut Tx, one: &Assignment) -> Result<()> {
    sqlx::query(
        "UPDATE am_assignments SET state = ?2, attempt = ?3, agent_id = ?4, failures = ?5, progress = ?6, result = ?7, error = ?8,
             seconds = ?9, cost = ?10, offered_at = ?11, accepted_at = ?12, ended_at = ?13 WHERE id = ?1",
    )
    .bind(&one.id)
    .bind(one.state)
    .bind(one.attempt)
    .bind(&one.agent_id)
    .bind(one.failures)
    .bind(one.progress)
    .bind(one.result.clone())
    .bind(&one.error)
    .bind(one.seconds)
    .bind(one.cost)
    .bind(one.offered_at)
    .bind(one.accepted_at)
    .bind(one.ended_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Write an attempt as it stands, but for how its agent was told.
pub async fn save_attempt(tx: &mut Tx, id: &str, attempt: &Attempt) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_assignment_attempts (assignment_id, attempt, agent_id, score, cost_per_hour, offered_at, accepted_at, ended_at,
             outcome, reason, digest, seconds, cost)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (assignment_id, attempt) DO UPDATE SET accepted_at = excluded.accepted_at, ended_at = excluded.ended_at,
             outcome = excluded.outcome, reason = excluded.reason, digest = excluded.digest, seconds = excluded.seconds,
             cost = excluded.cost",
    )
    .bind(id)
    .bind(attempt.attempt)
    .bind(&attempt.agent_id)
    .bind(attempt.score)
    .bind(attempt.cost_per_hour)
    .bind(attempt.offered_at)
    .bind(attempt.accepted_at)
    .bind(attempt.ended_at)
    .bind(attempt.outcome)
    .bind(&attempt.reason)
    .bind(&attempt.digest)
    .bind(attempt.seconds)
    .bind(attempt.cost)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// What an agent is still to be told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its row.
    pub id: i64,
    /// Of which assignment.
    pub assignment_id: String,
    /// Under which number.
    pub attempt: i64,
    /// Whom.
    pub agent_id: String,
    /// TASK or CANCEL.
    pub kind: String,
    /// How often it was tried, this time included.
    pub tries: i64,
}

/// Let an agent be told.
pub async fn notify(tx: &mut Tx, id: &str, attempt: &Attempt, kind: &str, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_assignment_notices (assignment_id, attempt, agent_id, kind, due_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(id)
    .bind(attempt.attempt)
    .bind(&attempt.agent_id)
    .bind(kind)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Is anybody to be told by now?
pub async fn any_due(conn: &mut Connection, now: Timestamp) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM am_assignment_notices WHERE due_at <= ?1 LIMIT 1")
        .bind(now)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Take what is due; whoever dies over it lets it be due again at `again`.
pub async fn take_due(tx: &mut Tx, now: Timestamp, again: Timestamp, limit: i64) -> Result<Vec<Notice>> {
    let rows = sqlx::query(
        "UPDATE am_assignment_notices SET due_at = ?2, tries = tries + 1
         WHERE id IN (SELECT id FROM am_assignment_notices WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?3)
         RETURNING id, assignment_id, attempt, agent_id, kind, tries",
    )
    .bind(now)
    .bind(again)
    .bind(limit)
    .fetch_all(tx.conn().await?)
    .await?;
    let notice = |row: &Row| -> Result<Notice> {
        Ok(Notice {
            id: row.try_get(0)?,
            assignment_id: row.try_get(1)?,
            attempt: row.try_get(2)?,
            agent_id: row.try_get(3)?,
            kind: row.try_get(4)?,
            tries: row.try_get(5)?,
        })
    };
    rows.iter().map(notice).collect()
}

/// An agent was told, or will not be.
pub async fn told(tx: &mut Tx, notice: &Notice, by: Option<&str>, error: Option<&str>, now: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM am_assignment_notices WHERE id = ?1").bind(notice.id).execute(tx.conn().await?).await?;
    if notice.kind == "TASK" {
        note_telling(tx, notice, by, error, now).await?;
    }
    Ok(())
}

/// It did not work this time; it is tried again at `due`.
pub async fn tell_again(tx: &mut Tx, notice: &Notice, error: &str, due: Timestamp, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE am_assignment_notices SET due_at = ?2 WHERE id = ?1")
        .bind(notice.id)
        .bind(due)
        .execute(tx.conn().await?)
        .await?;
    note_telling(tx, notice, None, Some(error), now).await
}

async fn note_telling(
    tx: &mut Tx,
    notice: &Notice,
    by: Option<&str>,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "UPDATE am_assignment_attempts SET told_by = ?3, told_at = ?4, tell_error = ?5 WHERE assignment_id = ?1 AND attempt = ?2",
    )
    .bind(&notice.assignment_id)
    .bind(notice.attempt)
    .bind(by)
    .bind(by.map(|_| now))
    .bind(error)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Assignments by state, of those that are open.
pub async fn open(conn: &mut Connection) -> Result<(i64, i64)> {
    let counts = sqlx::query_as(
        "SELECT coalesce(sum(state = 'WAITING'), 0), coalesce(sum(state <> 'WAITING'), 0) FROM am_assignments
         WHERE state IN ('WAITING', 'OFFERED', 'ACCEPTED')",
    );
    Ok(counts.fetch_one(conn).await?)
}
