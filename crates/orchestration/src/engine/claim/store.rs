//! Queries for claiming runs, and for the saved state of a claimed run.

use serde_json::{Map, Value, json};

use crate::{
    engine::{external_tasks, late_costs},
    error::Result,
    event_kinds::ExecutionEventKind,
    model::{ExecutionStatus, VerificationLevel},
};
use am_audit::{AuditEntry, EventType, SecurityLevel};
use am_core::{
    ids::{ExecutionId, ExternalTaskId, PrincipalId, StepExecutionId, StepId, TraceId, WorkerId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, FromRow, Tx,
    codec::{Json, JsonText, Timestamp},
    insert, row,
    row::Columns,
    sql, update,
};
use am_events::StreamEvent;

/// Read the clients that have a run to claim, `most` at most, in the order of their ids after `after`. Each takes one step in
/// an index, however many runs it has.
pub async fn list_claimable_clients(conn: &mut Connection, after: &PrincipalId, most: i64) -> Result<Vec<PrincipalId>> {
    let clients = sql!(
        "WITH RECURSIVE clients (id) AS (
             SELECT min(client_id) FROM am_runs WHERE state = 'ready' AND NOT paused AND client_id > $1
             UNION ALL
             SELECT (SELECT min(r.client_id) FROM am_runs r WHERE r.state = 'ready' AND NOT r.paused AND r.client_id > c.id)
             FROM clients c WHERE c.id IS NOT NULL)
         SELECT id FROM clients WHERE id IS NOT NULL LIMIT $2",
    );
    Ok(clients.bind(after).bind(most).fetch_values(conn).await?)
}

row! {
    /// A run under the fence of the worker that holds it.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub struct HeldRun {
        pub id: ExecutionId = "execution_id",
        pub fence: i64,
    }
}

row! {
    /// A run that was claimed just now.
    pub struct ClaimedRun {
        pub id: ExecutionId = "execution_id",
        pub fence: i64,
        /// Claims since it was last saved, this one included.
        pub claims: i64,
    }
}

/// Claim the run of the client that has waited longest, under a new fence, and count the claim until the next save.
pub async fn claim_next(tx: &mut Tx, worker_id: &WorkerId, client_id: &PrincipalId) -> Result<Option<ClaimedRun>> {
    let claimed = sql!(
        "UPDATE am_runs SET state = 'driven', worker = $1, fence = fence + 1, claims = claims + 1
         WHERE execution_id = (SELECT execution_id FROM am_runs WHERE state = 'ready' AND NOT paused AND client_id = $2 ORDER BY queued_at LIMIT 1)
         RETURNING execution_id, fence, claims",
    );
    Ok(claimed.bind(worker_id).bind(client_id).fetch_optional(tx.conn().await?).await?)
}

/// Release a run that is held and not driven, in its last saved state. A claim after which nothing was tried does not count.
pub async fn release_run(tx: &mut Tx, run: &HeldRun, was_tried: bool) -> Result<()> {
    sql!(
        "UPDATE am_runs SET state = 'ready', worker = NULL, claims = claims - $3
         WHERE execution_id = $1 AND fence = $2 AND state = 'driven'"
    )
    .bind(&run.id)
    .bind(run.fence)
    .bind(i64::from(!was_tried))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Stop the steps of a run that is no longer driven, in their rows and in `states` (column `step_states`, which the
/// caller writes). Returns the ids of cancelled jobs.
pub async fn stop_steps(
    tx: &mut Tx,
    id: &ExecutionId,
    states: &mut Map<String, Value>,
    now: Timestamp,
) -> Result<Vec<ExternalTaskId>> {
    let mut taken_back = Vec::new();
    for state in states.values_mut() {
        let stops = matches!(state.get("status").and_then(Value::as_str), Some("running" | "pending"));
        let (Some(members), true) = (state.as_object_mut(), stops) else { continue };
        members.insert("status".into(), json!(ExecutionStatus::Cancelled));
        members.remove("reserved");
        members.remove("retry_at");
        let Some(task) = members.get("job_id").and_then(Value::as_str).map(ExternalTaskId::from) else { continue };
        match external_tasks::cancel(tx, &task, now).await? {
            true => taken_back.push(task),
            false => late_costs::leave_job(tx, id, &task, now).await?,
        }
    }
    sql!(
        "UPDATE agent_step_executions SET status = 'CANCELLED', completed_at = $2, updated_at = $2
         WHERE execution_id = $1 AND status IN ('PENDING', 'RUNNING')",
    )
    .bind(id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(taken_back)
}

row! {
    /// What is stored of a run that cannot be loaded.
    struct UnloadableRunRow {
        step_states: JsonText,
        client_id: PrincipalId,
        workflow_id: WorkflowId,
    }
}

/// Fail a claimed run that cannot be loaded. Returns the audit entry; `None` if another worker holds the run by now.
pub async fn fail_unloadable(tx: &mut Tx, run: &HeldRun, why: &str, now: Timestamp) -> Result<Option<AuditEntry>> {
    let id = &run.id;
    let seq = sql!(
        "UPDATE am_runs SET state = 'ended', worker = NULL, reserved_cost = 0, last_event = last_event + 1
         WHERE execution_id = $1 AND fence = $2 AND state = 'driven' RETURNING last_event",
    );
    let seq: Option<i64> = seq.bind(id).bind(run.fence).fetch_optional_value(tx.conn().await?).await?;
    let Some(seq) = seq else { return Ok(None) };
    let stored = sql!("SELECT ", UnloadableRunRow::COLUMNS, " FROM agent_executions WHERE id = $1").bind(id);
    let stored: Option<UnloadableRunRow> = stored.fetch_optional(tx.conn().await?).await?;
    let Some(UnloadableRunRow { step_states, client_id, workflow_id }) = stored else { return Ok(None) };
    // The states may be what cannot be read.
    let mut states: Map<String, Value> = step_states.parse().ok().flatten().unwrap_or_default();
    let taken_back = stop_steps(tx, id, &mut states, now).await?;
    update!("agent_executions" {
        status: ExecutionStatus::Failed,
        error_message: why,
        step_states: Value::Object(states).to_string(),
        completed_at: now,
        updated_at: now,
    } where "id = $1" (id))
    .execute(tx.conn().await?)
    .await?;
    let data = json!({"error": why, "jobs_taken_back": taken_back});
    let event = StreamEvent { seq, kind: ExecutionEventKind::ExecutionFailed.stored().to_owned(), at: now, data };
    am_events::append_events(tx, id, &[event]).await?;
    let entry = AuditEntry::new(EventType::ExecutionFailed, now)
        .of("execution", "failed")
        .on_behalf_of(client_id.as_str())
        .workflow(workflow_id.as_str())
        .execution(id.as_str())
        .error("execution_unreadable", Some(why));
    Ok(Some(entry))
}

row! {
    /// What is stored of a claimed run.
    pub struct ClaimedRunRow from "r." {
        pub workflow_id: WorkflowId = "e.workflow_id",
        pub client_id: PrincipalId = "e.client_id",
        pub definition: String = "d.body",
        pub inputs: Value => Json::into_inner,
        pub level: VerificationLevel = "r.verification_level",
        pub security: SecurityLevel = "r.security_level",
        pub max_execution_time: i64,
        pub max_cost_budget: Money,
        pub trace_id: Option<TraceId>,
        pub active_seconds: f64,
        pub status: ExecutionStatus = "e.status",
        pub step_states: JsonText = "e.step_states",
        pub total_cost: Money = "e.total_cost",
        pub is_bound: bool =
            "EXISTS (SELECT 1 FROM am_ledger_reservations b WHERE b.execution_id = r.execution_id)",
        pub created_at: Timestamp = "e.created_at",
        pub started_at: Option<Timestamp> = "e.started_at",
    }
}

/// Read a run that has been claimed.
pub async fn load_claimed(conn: &mut Connection, id: &ExecutionId) -> Result<Option<ClaimedRunRow>> {
    let query = sql!(
        "SELECT ",
        ClaimedRunRow::COLUMNS,
        " FROM am_runs r JOIN agent_executions e ON e.id = r.execution_id JOIN am_definitions d ON d.hash = r.definition_hash
         WHERE r.execution_id = $1",
    );
    Ok(query.bind(id).fetch_optional(conn).await?)
}

row! {
    /// A step's row: its ids, what it took and gave, how it was checked.
    pub struct ClaimedStepRow {
        pub row_id: StepExecutionId = "id",
        pub step_id: StepId,
        pub input: JsonText = "input_data",
        pub output: JsonText = "output_data",
        pub memory_mb: Option<f64> = "memory_usage",
        pub gpu: bool = "gpu_accelerated",
        pub verification: JsonText = "step_proof",
    }
}

impl ClaimedStepRow {
    /// Bytes of the documents.
    pub fn bytes(&self) -> usize {
        [&self.input, &self.output, &self.verification]
            .into_iter()
            .flat_map(JsonText::get)
            .map(|raw| raw.get().len())
            .sum()
    }
}

/// Return the bytes of a run's stored values: its inputs, and its steps' inputs and outputs.
pub async fn stored_bytes(conn: &mut Connection, id: &ExecutionId) -> Result<i64> {
    let query = sql!(
        "SELECT CAST(coalesce((SELECT length(CAST(inputs AS TEXT)) FROM am_runs WHERE execution_id = $1), 0)
            + coalesce((SELECT sum(length(CAST(input_data AS TEXT)) + length(CAST(output_data AS TEXT)))
                        FROM agent_step_executions WHERE execution_id = $1), 0) AS BIGINT)",
    );
    Ok(query.bind(id).fetch_value(conn).await?)
}

/// Read the rows of an execution's steps.
pub async fn load_steps(conn: &mut Connection, id: &ExecutionId) -> Result<Vec<ClaimedStepRow>> {
    let query = sql!("SELECT ", ClaimedStepRow::COLUMNS, " FROM agent_step_executions WHERE execution_id = $1");
    Ok(query.bind(id).fetch_all(conn).await?)
}

/// Write this worker's heartbeat.
pub async fn heartbeat(tx: &mut Tx, worker_id: &WorkerId, now: Timestamp, lease_until: Timestamp) -> Result<()> {
    insert!("am_workers" {
        id: worker_id,
        started_at: now,
        heartbeat_at: now,
        lease_until: lease_until,
    } update on (id) except (started_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read the other workers, with the ends of their leases.
pub async fn list_workers(conn: &mut Connection) -> Result<Vec<(WorkerId, Timestamp)>> {
    Ok(sql!("SELECT id, lease_until FROM am_workers").fetch_all(conn).await?)
}

/// Remove a dead worker and release its runs. Returns their number. Their fences rise, so that the worker can no longer
/// write them. With `lease`, only if that is still the end of its lease; otherwise `None`.
pub async fn remove_worker(tx: &mut Tx, worker_id: &WorkerId, lease: Option<Timestamp>) -> Result<Option<u64>> {
    let dead = sql!("DELETE FROM am_workers WHERE id = $1 [AND lease_until = $2]").bind(worker_id).bind_some(lease);
    if dead.execute(tx.conn().await?).await? == 0 && lease.is_some() {
        return Ok(None);
    }
    let freed = sql!(
        "UPDATE am_runs SET state = 'ready', worker = NULL, fence = fence + 1
         WHERE state = 'driven' AND state <> 'ended' AND worker = $1"
    );
    Ok(Some(freed.bind(worker_id).execute(tx.conn().await?).await?))
}

/// A run that a worker holds, and whether it is paused.
pub struct HeldRunState {
    pub run: HeldRun,
    pub paused: bool,
}

impl FromRow for HeldRunState {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        Ok(Self { run: HeldRun::from_row(columns)?, paused: columns.next_value()? })
    }
}

/// Read the runs that the worker holds. `state <> 'ended'` says no more than what stands before it, but only with these words
/// does SQLite use the index of runs that have not ended.
pub async fn list_held(conn: &mut Connection, worker_id: &WorkerId) -> Result<Vec<HeldRunState>> {
    let held = sql!(
        "SELECT ",
        HeldRun::COLUMNS,
        ", paused FROM am_runs WHERE state = 'driven' AND state <> 'ended' AND worker = $1"
    );
    Ok(held.bind(worker_id).fetch_all(conn).await?)
}

/// Count the runs that wait for a worker.
pub async fn count_waiting(conn: &mut Connection) -> Result<i64> {
    Ok(sql!("SELECT count(*) FROM am_runs WHERE state = 'ready' AND state <> 'ended'").fetch_value(conn).await?)
}

/// When the oldest run in this state was queued; `None`: there is none, or the state is an end.
pub async fn oldest_queued(conn: &mut Connection, state: &str) -> Result<Option<Timestamp>> {
    let oldest = sql!("SELECT queued_at FROM am_runs WHERE state = $1 AND state <> 'ended' ORDER BY queued_at LIMIT 1");
    Ok(oldest.bind(state).fetch_optional_value(conn).await?)
}
