//! SQL of tables `resource_allocations`, `am_allocations` and `am_capacity_hosts`.

use am_core::ids::{AgentId, ExecutionId};
use am_db::{
    Connection, Database, DatabaseError, FromRow as _, Result, Tx, agent_list,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText, Timestamp},
    insert,
    kept_list::{AgentPages, AgentRowFilter, ListedTable},
    page::PageRequest,
    push_row, row, sql, update,
};
use serde_json::{Map, Value};

use super::{
    amounts::{ResourceParts, stored_parts},
    model::OptimizationTarget,
    record::{AllocationRecord, HostRecord},
    tuned_amounts::{TunedAllocation, TunedAmounts},
    usage::UsageReport,
};

row! {
    AllocationRecord from "r." {
        id,
        allocation_id,
        agent_id,
        cpu_cores,
        memory_gb,
        gpu_count,
        gpu_memory_gb,
        storage_gb,
        network_bandwidth,
        optimization_target,
        priority_level,
        status,
        allocated_at,
        started_at,
        completed_at,
        created_at,
        updated_at,
        owner_id = "a.owner_id",
        task_requirements = "a.task_requirements" => JsonOr::into_inner,
        task_rule = "a.task_rule",
        initial = "a.initial" => JsonOr::into_inner,
        execution_id = "a.execution_id",
        host_id = "a.host_id",
        placement = "a.placement" => JsonOr::into_inner,
        held = "a.held",
        parts = "a.parts" => JsonOr::into_inner,
        due_at = "a.due_at",
        tuned_by = "a.tuned_by",
        measured = "a.measured" => JsonOr::into_inner,
        sandbox = "s.totals" => JsonOr::into_inner,
        commands = "s.runs",
    }
}

row! {
    /// What was used of an allocation that has ended.
    pub(super) struct UsedAllocation from "r." {
        pub cpu_cores: f64,
        pub memory_gb: f64,
        pub storage_gb: f64,
        pub optimization_target: OptimizationTarget,
        pub task_requirements: Map<String, Value> = "a.task_requirements" => JsonOr::into_inner,
        pub measured: Option<UsageReport> = "a.measured" => JsonOr::into_inner,
    }
}

/// What is joined to the coordinator's rows.
const JOINED: &str =
    " LEFT JOIN am_allocations a ON a.id = r.id LEFT JOIN am_sandboxes s ON s.execution_id = a.execution_id ";

row! {
    /// A host's row.
    struct HostRow {
        id: String,
        state: super::model::HostState,
        cpu: i64,
        memory: i64,
        gpu: i64,
        gpu_memory: i64,
        storage: i64,
        network: i64,
        cpu_used: i64,
        memory_used: i64,
        gpu_used: i64,
        gpu_memory_used: i64,
        storage_used: i64,
        network_used: i64,
        allocations: i64,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

impl From<HostRow> for HostRecord {
    fn from(row: HostRow) -> Self {
        Self {
            id: row.id,
            state: row.state,
            capacity: [row.cpu, row.memory, row.gpu, row.gpu_memory, row.storage, row.network],
            used: [
                row.cpu_used,
                row.memory_used,
                row.gpu_used,
                row.gpu_memory_used,
                row.storage_used,
                row.network_used,
            ],
            allocations: row.allocations,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// All hosts, by their names.
pub(super) async fn hosts(conn: &mut Connection) -> Result<Vec<HostRecord>> {
    let rows: Vec<HostRow> =
        sql!("SELECT ", HostRow::COLUMNS, " FROM am_capacity_hosts ORDER BY id").fetch_all(conn).await?;
    Ok(rows.into_iter().map(HostRecord::from).collect())
}

pub(super) async fn host(conn: &mut Connection, id: &str) -> Result<Option<HostRecord>> {
    let found = sql!("SELECT ", HostRow::COLUMNS, " FROM am_capacity_hosts WHERE id = $1").bind(id);
    let row: Option<HostRow> = found.fetch_optional(conn).await?;
    Ok(row.map(HostRecord::from))
}

pub(super) async fn count_hosts(conn: &mut Connection) -> Result<i64> {
    sql!("SELECT count(*) FROM am_capacity_hosts").fetch_value(conn).await
}

/// Store what a host has; what is allocated of it stays.
pub(super) async fn put_host(tx: &mut Tx, host: &HostRecord) -> Result<()> {
    let [cpu, memory, gpu, gpu_memory, storage, network] = host.capacity;
    let put = insert!("am_capacity_hosts" {
        id: &host.id,
        state: host.state,
        cpu: cpu,
        memory: memory,
        gpu: gpu,
        gpu_memory: gpu_memory,
        storage: storage,
        network: network,
        created_at: host.created_at,
        updated_at: host.updated_at,
    } update on (id) except (created_at));
    put.execute(tx.conn().await?).await?;
    Ok(())
}

pub(super) async fn delete_host(tx: &mut Tx, id: &str) -> Result<()> {
    sql!("DELETE FROM am_capacity_hosts WHERE id = $1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}

/// Take parts of a host for one allocation more. Returns false where it has not that much.
pub(super) async fn take(tx: &mut Tx, host: &str, parts: &ResourceParts) -> Result<bool> {
    let taken = sql!(
        "UPDATE am_capacity_hosts SET allocations = allocations + 1, cpu_used = cpu_used + $2, memory_used = memory_used + $3,
             gpu_used = gpu_used + $4, gpu_memory_used = gpu_memory_used + $5, storage_used = storage_used + $6,
             network_used = network_used + $7
         WHERE id = $1 AND cpu_used + $2 <= cpu AND memory_used + $3 <= memory AND gpu_used + $4 <= gpu
             AND gpu_memory_used + $5 <= gpu_memory AND storage_used + $6 <= storage AND network_used + $7 <= network",
    );
    let taken = stored_parts(parts).into_iter().fold(taken.bind(host), |query, part| query.bind(part));
    Ok(taken.execute(tx.conn().await?).await? > 0)
}

/// Give the parts of one allocation back.
pub(super) async fn give_back(tx: &mut Tx, host: &str, parts: &ResourceParts) -> Result<()> {
    let given = sql!(
        "UPDATE am_capacity_hosts SET allocations = allocations - 1, cpu_used = cpu_used - $2, memory_used = memory_used - $3,
             gpu_used = gpu_used - $4, gpu_memory_used = gpu_memory_used - $5, storage_used = storage_used - $6,
             network_used = network_used - $7
         WHERE id = $1",
    );
    let given = stored_parts(parts).into_iter().fold(given.bind(host), |query, part| query.bind(part));
    given.execute(tx.conn().await?).await?;
    Ok(())
}

/// Stored owner of an execution.
pub(super) async fn execution_client(conn: &mut Connection, id: &ExecutionId) -> Result<Option<String>> {
    sql!("SELECT client_id FROM agent_executions WHERE id = $1").bind(id).fetch_optional_value(conn).await
}

/// Store an allocation that was made here.
pub(super) async fn insert_allocation(tx: &mut Tx, made: &AllocationRecord, savings: f64) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "resource_allocations" {
        id: &made.id,
        allocation_id: &made.allocation_id,
        agent_id: &made.agent_id,
        task_id: &made.execution_id,
        session_id: None::<&str>,
        cpu_cores: made.cpu_cores,
        memory_gb: made.memory_gb,
        gpu_count: made.gpu_count,
        gpu_memory_gb: made.gpu_memory_gb,
        storage_gb: made.storage_gb,
        network_bandwidth: made.network_bandwidth,
        optimization_target: made.optimization_target,
        priority_level: &made.priority_level,
        actual_performance: json(&serde_json::Map::new())?,
        efficiency_score: 0.0,
        cost_efficiency: 0.0,
        status: &made.status,
        allocated_at: made.allocated_at,
        started_at: made.started_at,
        completed_at: made.completed_at,
        optimization_applied: true,
        optimization_savings: savings,
        performance_improvement: 0.0,
        created_at: made.created_at,
        updated_at: made.updated_at,
        allocation_profile_meta_data: json(&serde_json::Map::new())?,
        resource_utilization: json(&serde_json::Map::new())?,
    });
    push_row!(rows, "am_allocations" {
        id: &made.id,
        owner_id: made.owner_id.clone().unwrap_or_default(),
        task_requirements: json(&made.task_requirements)?,
        task_rule: made.task_rule.clone().unwrap_or_default(),
        initial: json(&made.initial)?,
        execution_id: &made.execution_id,
        host_id: &made.host_id,
        placement: json(&made.placement)?,
        held: made.held.unwrap_or(0),
        parts: json(&made.parts)?,
        due_at: made.due_at,
        tuned_by: &made.tuned_by,
        created_at: made.created_at,
    });
    rows.execute(tx).await
}

/// Store what has changed of an allocation.
pub(super) async fn update_allocation(tx: &mut Tx, now: &AllocationRecord) -> Result<()> {
    let usage = now.measured.clone().unwrap_or_default();
    let row = update!("resource_allocations" {
        task_id: &now.execution_id,
        status: &now.status,
        started_at: now.started_at,
        completed_at: now.completed_at,
        efficiency_score: usage.efficiency_score.unwrap_or(0.0),
        cost_efficiency: usage.cost_efficiency.unwrap_or(0.0),
        resource_utilization: json(&usage.utilisation)?,
        updated_at: now.updated_at,
    } where "id = $1" (&now.id));
    row.execute(tx.conn().await?).await?;
    let own = update!("am_allocations" {
        execution_id: &now.execution_id,
        held: now.held.unwrap_or(0),
        due_at: now.due_at,
        measured: json(&now.measured)?,
    } where "id = $1" (&now.id));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

pub(super) async fn allocation(conn: &mut Connection, allocation_id: &str) -> Result<Option<AllocationRecord>> {
    let found = sql!(
        "SELECT ",
        AllocationRecord::COLUMNS,
        " FROM resource_allocations r",
        JOINED,
        "WHERE r.allocation_id = $1",
    );
    found.bind(allocation_id).fetch_optional(conn).await
}

/// Ids of allocations that are due at `now`, those that are longest due first.
pub(super) async fn due(conn: &mut Connection, now: Timestamp, most: i64) -> Result<Vec<String>> {
    let due = sql!("SELECT id FROM am_allocations WHERE due_at <= $1 ORDER BY due_at LIMIT $2");
    due.bind(now).bind(most).fetch_values(conn).await
}

static PAGES: AgentPages = agent_list! {
    Allocations, AllocationRecord of "resource_allocations" with JOINED, listed in "am_allocation_list"
};

/// A page of an agent's allocations, the newest first, and how many there are.
pub(super) async fn list(
    db: &Database,
    conn: &mut Connection,
    (agent, state): (&AgentId, Option<&str>),
    page: &PageRequest,
) -> Result<(Vec<AllocationRecord>, i64)> {
    db.read_agent_page(conn, &PAGES, AgentRowFilter { agent, state, figure: None }, page).await
}

/// What an allocation takes, and of which host; `None`: nothing.
pub(super) async fn held_parts(conn: &mut Connection, id: &str) -> Result<Option<(String, ResourceParts)>> {
    let held = sql!("SELECT host_id, parts FROM am_allocations WHERE id = $1 AND held = 1 AND host_id IS NOT NULL");
    let held: Option<(String, JsonOr<ResourceParts>)> = held.bind(id).fetch_optional(conn).await?;
    Ok(held.map(|(host, parts)| (host, parts.into_inner())))
}

/// Note that an allocation whose row is gone takes nothing and can't expire any more.
pub(super) async fn forget_due(tx: &mut Tx, id: &str) -> Result<()> {
    sql!("UPDATE am_allocations SET due_at = NULL, held = 0 WHERE id = $1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}

/// The newest allocations of an agent that were made here, with what was measured of them.
pub(super) async fn used_allocations(
    db: &Database,
    conn: &mut Connection,
    agent: &AgentId,
    most: i64,
) -> Result<Vec<UsedAllocation>> {
    let found = match db.follow_list(conn, ListedTable::Allocations, false).await? {
        true => sql!(
            "SELECT ",
            UsedAllocation::COLUMNS,
            " FROM am_allocation_list l {by am_allocation_list_page} {then} resource_allocations r ON r.id = l.id
                 {then} am_allocations a ON a.id = r.id WHERE l.agent_id = $1 ORDER BY l.created_at DESC, l.id DESC LIMIT $2",
        ),
        // The table itself, until its list is complete.
        false => sql!(
            "SELECT ",
            UsedAllocation::COLUMNS,
            " FROM resource_allocations r JOIN am_allocations a ON a.id = r.id WHERE r.agent_id = $1
                 ORDER BY r.created_at DESC, r.id DESC LIMIT $2",
        ),
    };
    found.bind(agent).bind(most).fetch_all(conn).await
}

row! {
    /// A row of `am_tuned_allocations`.
    struct TunedRow {
        cpu_cores: f64,
        memory_gb: f64,
        storage_gb: f64,
        optimization_id: String,
    }
}

/// What an agent's allocations for a task begin with.
pub(super) async fn tuned_allocation(
    conn: &mut Connection,
    agent: &AgentId,
    task: &str,
) -> Result<Option<TunedAllocation>> {
    let found = sql!("SELECT ", TunedRow::COLUMNS, " FROM am_tuned_allocations WHERE agent_id = $1 AND task = $2");
    let found: Option<TunedRow> = found.bind(agent).bind(task).fetch_optional(conn).await?;
    Ok(found.map(|TunedRow { cpu_cores, memory_gb, storage_gb, optimization_id }| TunedAllocation {
        amounts: TunedAmounts { cpu_cores, memory_gb, storage_gb },
        optimization_id,
    }))
}

/// Set what they begin with.
pub(super) async fn put_tuned_allocation(
    tx: &mut Tx,
    (agent, task): (&AgentId, &str),
    tuned: &TunedAllocation,
    now: Timestamp,
) -> Result<()> {
    let put = insert!("am_tuned_allocations" {
        agent_id: agent,
        task: task,
        cpu_cores: tuned.amounts.cpu_cores,
        memory_gb: tuned.amounts.memory_gb,
        storage_gb: tuned.amounts.storage_gb,
        optimization_id: &tuned.optimization_id,
        updated_at: now,
    } update on (agent_id, task));
    put.execute(tx.conn().await?).await?;
    Ok(())
}

/// Let them begin with the table's configuration again.
pub(super) async fn delete_tuned_allocation(tx: &mut Tx, (agent, task): (&AgentId, &str)) -> Result<()> {
    let deleted = sql!("DELETE FROM am_tuned_allocations WHERE agent_id = $1 AND task = $2");
    deleted.bind(agent).bind(task).execute(tx.conn().await?).await?;
    Ok(())
}
