//! Queries of the tables `am_assignments`, `am_assignment_attempts` and `am_assignment_notices`.

use std::collections::BTreeMap;

use super::model::{
    Assignment, AssignmentAttempt, AssignmentState, NewAssignment, NotificationKind, NotifyChannel, WaitingAssignment,
    WaitingPosition,
};
use crate::{
    agents::{GpuTier, TaskRequirements, TaskType},
    error::Result,
};
use am_core::{
    ids::{AgentId, AssignmentId, ExecutionId, PrincipalId},
    money::Money,
};
use am_db::{Connection, FromRow, Tx, codec::Timestamp, insert, page::PageRequest, row, row::Columns, sql, update};

row! {
    Assignment {
        id,
        execution_id,
        step_key,
        workflow_id,
        client_id,
        task_type,
        gpu_tier,
        agent_type,
        only_agent,
        priority,
        request,
        max_price,
        estimated_seconds,
        max_retries,
        state,
        attempt,
        agent_id,
        failures,
        progress,
        result,
        error,
        seconds,
        cost,
        deadline,
        placed_at,
        offered_at,
        accepted_at,
        ended_at,
    }
}

row! {
    AssignmentAttempt {
        attempt,
        agent_id,
        incarnation,
        score,
        cost_per_hour,
        offered_at,
        accepted_at,
        ended_at,
        outcome,
        reason,
        digest,
        seconds,
        cost,
        told_by,
        told_at,
        tell_error,
    }
}

row! {
    /// Columns of a waiting assignment that dispatch needs.
    struct WaitingRow {
        id: AssignmentId,
        client_id: PrincipalId,
        task_type: TaskType,
        gpu_tier: Option<GpuTier>,
        agent_type: Option<String>,
        only_agent: Option<AgentId>,
        max_price: Option<Money>,
        estimated_seconds: Option<f64>,
        priority: i64,
        placed_at: Timestamp,
        attempt: i64,
    }
}

impl From<WaitingRow> for WaitingAssignment {
    fn from(row: WaitingRow) -> Self {
        let WaitingRow { id, client_id, task_type, gpu_tier, agent_type, .. } = row;
        let WaitingRow { only_agent, max_price, estimated_seconds, priority, placed_at, attempt, .. } = row;
        let need = TaskRequirements { only_agent, task_type, gpu_tier, agent_type, max_price, estimated_seconds };
        Self { id, client_id, need, priority, placed_at, attempt }
    }
}

/// Store an assignment, which waits for an agent.
pub async fn insert(tx: &mut Tx, new: &NewAssignment, now: Timestamp) -> Result<()> {
    insert!("am_assignments" {
        id: &new.id,
        execution_id: &new.execution_id,
        step_key: &new.step_key,
        workflow_id: &new.workflow_id,
        client_id: &new.client_id,
        task_type: new.need.task_type,
        gpu_tier: new.need.gpu_tier,
        agent_type: &new.need.agent_type,
        only_agent: &new.need.only_agent,
        priority: new.priority,
        request: new.request.to_string(),
        max_price: new.need.max_price,
        estimated_seconds: new.need.estimated_seconds,
        max_retries: new.max_retries,
        state: AssignmentState::Waiting,
        deadline: new.deadline,
        placed_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read one assignment.
pub async fn get(conn: &mut Connection, id: &AssignmentId) -> Result<Option<Assignment>> {
    let query = sql!("SELECT ", Assignment::COLUMNS, " FROM am_assignments WHERE id = $1");
    Ok(query.bind(id).fetch_optional(conn).await?)
}

/// Read the assignments of an execution, in the order in which they were stored.
pub async fn list_for_execution(conn: &mut Connection, execution_id: &ExecutionId) -> Result<Vec<Assignment>> {
    let query =
        sql!("SELECT ", Assignment::COLUMNS, " FROM am_assignments WHERE execution_id = $1 ORDER BY placed_at, id",);
    Ok(query.bind(execution_id).fetch_all(conn).await?)
}

/// Read the assignments that an agent holds, oldest first.
pub async fn list_held_by(conn: &mut Connection, agent_id: &AgentId) -> Result<Vec<Assignment>> {
    let query = sql!(
        "SELECT ",
        Assignment::COLUMNS,
        " FROM am_assignments WHERE state IN ('OFFERED', 'ACCEPTED') AND agent_id = $1 ORDER BY priority, placed_at, id",
    );
    Ok(query.bind(agent_id).fetch_all(conn).await?)
}

/// Read a page of the assignments that an agent holds, the most urgent first, and their number. The page begins behind the assignment
/// that it names; the other order begins with the least urgent.
pub async fn page_of_held(
    conn: &mut Connection,
    agent_id: &AgentId,
    page: &PageRequest,
) -> Result<(Vec<Assignment>, i64)> {
    let total = sql!(
        "SELECT count(*) FROM am_assignments WHERE state IN ('OFFERED', 'ACCEPTED') AND agent_id = $1
             [AND placed_at > $2] [AND placed_at < $3]",
    );
    let total = total.bind(agent_id).bind_span(page.created).fetch_value(&mut *conn).await?;
    let held = sql!(
        "SELECT ",
        Assignment::COLUMNS,
        " FROM am_assignments {by am_assignments_held_order} WHERE state IN ('OFFERED', 'ACCEPTED') AND agent_id = $1
             [AND placed_at > $2] [AND placed_at < $3]
             [AND (priority, placed_at, id) > (SELECT o.priority, o.placed_at, o.id FROM am_assignments o WHERE o.id = $4)]
             [AND (priority, placed_at, id) < (SELECT o.priority, o.placed_at, o.id FROM am_assignments o WHERE o.id = $5)]
         ORDER BY priority [?6 DESC], placed_at [?6 DESC], id [?6 DESC] LIMIT $7 OFFSET $8",
    );
    let [urgent_first, urgent_last] = page.positions().map(|position| position.map(|(_, id)| id));
    let held = held.bind(agent_id).bind_span(page.created).bind_some(urgent_first).bind_some(urgent_last);
    let held = held.bind_flag(page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset));
    Ok((held.fetch_all(conn).await?, total))
}

/// Read the first client and type of waiting assignments after `after`, in their order.
pub async fn next_waiting_group(
    conn: &mut Connection,
    after: Option<&(PrincipalId, TaskType)>,
) -> Result<Option<(PrincipalId, TaskType)>> {
    let query = sql!(
        "SELECT client_id, task_type FROM am_assignments
         WHERE state = 'WAITING' [AND (client_id, task_type) > ($1, $2)] ORDER BY client_id, task_type LIMIT 1",
    );
    let (client, task_type) = after.map(|(client, task_type)| (client, *task_type)).unzip();
    Ok(query.bind_some(client).bind_some(task_type).fetch_optional(conn).await?)
}

/// Read at most `limit` waiting assignments of a client and type after `after`, in the order of dispatch.
pub async fn list_waiting(
    conn: &mut Connection,
    client: &PrincipalId,
    task_type: TaskType,
    after: Option<&WaitingPosition>,
    limit: i64,
) -> Result<Vec<WaitingAssignment>> {
    let query = sql!(
        "SELECT ",
        WaitingRow::COLUMNS,
        " FROM am_assignments WHERE state = 'WAITING' AND client_id = $1 AND task_type = $2
             [AND (priority, placed_at, id) > ($3, $4, $5)] ORDER BY priority, placed_at, id LIMIT $6",
    );
    let query = query
        .bind(client)
        .bind(task_type)
        .bind_some(after.map(|after| after.priority))
        .bind_some(after.map(|after| after.placed_at))
        .bind_some(after.map(|after| &after.id));
    let rows: Vec<WaitingRow> = query.bind(limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(WaitingAssignment::from).collect())
}

/// Count the assignments that agents hold, by client.
pub async fn count_held_by_client(conn: &mut Connection) -> Result<BTreeMap<PrincipalId, i64>> {
    let rows = sql!(
        "SELECT client_id, count(*) FROM am_assignments WHERE state IN ('OFFERED', 'ACCEPTED') GROUP BY client_id",
    );
    Ok(rows.fetch_all(conn).await?.into_iter().collect())
}

/// Read the assignments whose deadline has passed, and those whose offer has not been answered since `offered_before`.
pub async fn list_overdue(conn: &mut Connection, now: Timestamp, offered_before: Timestamp) -> Result<Vec<Assignment>> {
    let query = sql!(
        "SELECT ",
        Assignment::COLUMNS,
        " FROM am_assignments WHERE state IN ('WAITING', 'OFFERED', 'ACCEPTED')
             AND (deadline <= $1 OR (state = 'OFFERED' AND offered_at <= $2)) LIMIT 500",
    );
    Ok(query.bind(now).bind(offered_before).fetch_all(conn).await?)
}

/// Read the agents that previously held these assignments, each with the assignment.
pub async fn previous_agents(conn: &mut Connection, ids: &[&AssignmentId]) -> Result<Vec<(AssignmentId, AgentId)>> {
    let rows = sql!("SELECT assignment_id, agent_id FROM am_assignment_attempts WHERE assignment_id IN ($1)");
    Ok(rows.bind_all(ids.iter().copied()).fetch_all(conn).await?)
}

/// Read one attempt.
pub async fn get_attempt(conn: &mut Connection, id: &AssignmentId, number: i64) -> Result<Option<AssignmentAttempt>> {
    let query = sql!(
        "SELECT ",
        AssignmentAttempt::COLUMNS,
        " FROM am_assignment_attempts WHERE assignment_id = $1 AND attempt = $2",
    );
    Ok(query.bind(id).bind(number).fetch_optional(conn).await?)
}

/// An attempt, and of which assignment.
struct AttemptRow {
    attempt: AssignmentAttempt,
    assignment_id: AssignmentId,
}

impl FromRow for AttemptRow {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        Ok(Self { attempt: AssignmentAttempt::from_row(columns)?, assignment_id: columns.next_value()? })
    }
}

/// Read the attempts of all assignments of an execution, by assignment.
pub async fn list_attempts(
    conn: &mut Connection,
    execution_id: &ExecutionId,
) -> Result<BTreeMap<AssignmentId, Vec<AssignmentAttempt>>> {
    let query = sql!(
        "SELECT ",
        AssignmentAttempt::COLUMNS,
        ", assignment_id FROM am_assignment_attempts
         WHERE assignment_id IN (SELECT id FROM am_assignments WHERE execution_id = $1) ORDER BY assignment_id, attempt",
    );
    let mut found = BTreeMap::<AssignmentId, Vec<AssignmentAttempt>>::new();
    for AttemptRow { attempt, assignment_id } in query.bind(execution_id).fetch_all(conn).await? {
        found.entry(assignment_id).or_default().push(attempt);
    }
    Ok(found)
}

/// Save the columns of an assignment that can change.
pub async fn save(tx: &mut Tx, one: &Assignment) -> Result<()> {
    update!("am_assignments" {
        state: one.state,
        attempt: one.attempt,
        agent_id: &one.agent_id,
        failures: one.failures,
        progress: one.progress,
        result: &one.result,
        error: &one.error,
        seconds: one.seconds,
        cost: one.cost,
        offered_at: one.offered_at,
        accepted_at: one.accepted_at,
        ended_at: one.ended_at,
    } where "id = $1" (&one.id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Save an attempt, except for the columns about its notification.
pub async fn save_attempt(tx: &mut Tx, id: &AssignmentId, attempt: &AssignmentAttempt) -> Result<()> {
    insert!("am_assignment_attempts" {
        assignment_id: id,
        attempt: attempt.attempt,
        agent_id: &attempt.agent_id,
        incarnation: attempt.incarnation,
        score: attempt.score,
        cost_per_hour: attempt.cost_per_hour,
        offered_at: attempt.offered_at,
        accepted_at: attempt.accepted_at,
        ended_at: attempt.ended_at,
        outcome: attempt.outcome,
        reason: &attempt.reason,
        digest: &attempt.digest,
        seconds: attempt.seconds,
        cost: attempt.cost,
    } update on (assignment_id, attempt) except (agent_id, score, cost_per_hour, offered_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

row! {
    /// What an agent is still to be told.
    #[derive(Clone, Debug)]
    pub struct PendingNotification {
        /// Row number of the notification.
        pub id: i64,
        /// Of which assignment.
        pub assignment_id: AssignmentId,
        /// Under which number.
        pub attempt: i64,
        /// Agent that is notified.
        pub agent_id: AgentId,
        /// What the agent is told.
        pub kind: NotificationKind,
        /// How often it was tried, this time included.
        pub tries: i64,
    }
}

/// Queue a notification of an agent.
pub async fn insert_notification(
    tx: &mut Tx,
    id: &AssignmentId,
    attempt: &AssignmentAttempt,
    kind: NotificationKind,
    now: Timestamp,
) -> Result<()> {
    insert!("am_assignment_notices" {
        assignment_id: id,
        attempt: attempt.attempt,
        agent_id: &attempt.agent_id,
        kind: kind,
        due_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Return whether a notification is due.
pub async fn has_due_notifications(conn: &mut Connection, now: Timestamp) -> Result<bool> {
    Ok(sql!("SELECT 1 FROM am_assignment_notices WHERE due_at <= $1 LIMIT 1").bind(now).exists(conn).await?)
}

/// Claim due notifications; if the process dies, they are due again at `again`.
pub async fn claim_due_notifications(
    tx: &mut Tx,
    now: Timestamp,
    again: Timestamp,
    limit: i64,
) -> Result<Vec<PendingNotification>> {
    let due = sql!(
        "UPDATE am_assignment_notices SET due_at = $2, tries = tries + 1
         WHERE id IN (SELECT id FROM am_assignment_notices WHERE due_at <= $1 ORDER BY due_at, id LIMIT $3) RETURNING ",
        PendingNotification::COLUMNS,
    );
    Ok(due.bind(now).bind(again).bind(limit).fetch_all(tx.conn().await?).await?)
}

/// Finish a notification: delivered `by` some way, or given up.
pub async fn finish_notification(
    tx: &mut Tx,
    notice: &PendingNotification,
    by: Option<NotifyChannel>,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    sql!("DELETE FROM am_assignment_notices WHERE id = $1").bind(notice.id).execute(tx.conn().await?).await?;
    if notice.kind == NotificationKind::Task {
        save_notification_result(tx, notice, by, error, now).await?;
    }
    Ok(())
}

/// Schedule another try of a notification at `due`.
pub async fn reschedule_notification(
    tx: &mut Tx,
    notice: &PendingNotification,
    error: &str,
    due: Timestamp,
    now: Timestamp,
) -> Result<()> {
    sql!("UPDATE am_assignment_notices SET due_at = $2 WHERE id = $1")
        .bind(notice.id)
        .bind(due)
        .execute(tx.conn().await?)
        .await?;
    save_notification_result(tx, notice, None, Some(error), now).await
}

async fn save_notification_result(
    tx: &mut Tx,
    notice: &PendingNotification,
    by: Option<NotifyChannel>,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    update!("am_assignment_attempts" {
        told_by: by,
        told_at: by.map(|_| now),
        tell_error: error,
    } where "assignment_id = $1 AND attempt = $2" (&notice.assignment_id, notice.attempt))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Count the open assignments: waiting, and held by agents.
pub async fn count_open(conn: &mut Connection) -> Result<(i64, i64)> {
    let counts = sql!(
        "SELECT count(*) FILTER (WHERE state = 'WAITING'), count(*) FILTER (WHERE state <> 'WAITING') FROM am_assignments
         WHERE state IN ('WAITING', 'OFFERED', 'ACCEPTED')",
    );
    Ok(counts.fetch_one(conn).await?)
}
