//! Queries of the table `am_networks`, and of the executions of networks and agents.

use super::model::{AgentNetwork, AgentRunStats, NetworkStatus};
use crate::{error::Result, model::ExecutionStatus};
use am_core::{
    ids::{NetworkId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, FromRow as _, Tx, codec::Json, insert, page::PageRequest, principal::Principal, row, sql, update,
};

row! {
    AgentNetwork {
        id,
        owner_id,
        name,
        description,
        agents => Json::into_inner,
        coordination_strategy,
        status,
        created_at,
        updated_at,
    }
}

/// Store a new network.
pub async fn insert(tx: &mut Tx, network: &AgentNetwork) -> Result<()> {
    insert!("am_networks" {
        id: &network.id,
        owner_id: &network.owner_id,
        name: &network.name,
        description: &network.description,
        agents: serde_json::to_string(&network.agents)?,
        coordination_strategy: network.coordination_strategy,
        status: &network.status,
        created_at: network.created_at,
        updated_at: network.updated_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read one network.
pub async fn get(conn: &mut Connection, id: &NetworkId) -> Result<Option<AgentNetwork>> {
    let query = sql!("SELECT ", AgentNetwork::COLUMNS, " FROM am_networks WHERE id = $1");
    Ok(query.bind(id).fetch_optional(conn).await?)
}

/// Read a page, newest first, and the total number.
pub async fn list(conn: &mut Connection, owner: &Principal, page: &PageRequest) -> Result<(Vec<AgentNetwork>, i64)> {
    let networks = sql!("SELECT ", AgentNetwork::COLUMNS, " FROM am_networks WHERE owner_id = $1 {page $2}")
        .bind(owner.id())
        .bind_page(page);
    let networks = networks.fetch_all(&mut *conn).await?;
    let total = sql!("SELECT count(*) FROM am_networks WHERE owner_id = $1 {span $2}").bind(owner.id());
    let total = total.bind_span(page.created);
    Ok((networks, total.fetch_value(conn).await?))
}

/// Save the order of the agents.
pub async fn update_order(tx: &mut Tx, network: &AgentNetwork) -> Result<()> {
    update!("am_networks" {
        agents: serde_json::to_string(&network.agents)?,
        updated_at: network.updated_at,
    } where "id = $1" (&network.id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

row! {
    /// The ended executions of an agent.
    struct EndedRuns {
        /// Number of those that completed or failed.
        runs: i64 = "count(*)",
        /// Number of those that completed.
        completed: i64 = "count(*) FILTER (WHERE status = 'COMPLETED')",
        /// Mean seconds of the completed ones; null without such.
        mean_seconds: Option<f64> = "avg(CASE WHEN status = 'COMPLETED' THEN total_execution_time END)",
        /// Mean cost of the completed ones; null without such.
        mean_cost: Option<Money> = "avg(CASE WHEN status = 'COMPLETED' THEN total_cost END)",
    }
}

/// Read the figures of an agent's own executions that `caller` may see, its own.
pub async fn agent_run_stats(conn: &mut Connection, caller: &Principal, agent_id: WorkflowId) -> Result<AgentRunStats> {
    let query = sql!(
        "SELECT ",
        EndedRuns::COLUMNS,
        " FROM agent_executions WHERE workflow_id = $1 AND status IN ('COMPLETED', 'FAILED') AND client_id IN ($2)",
    );
    let ended: EndedRuns = query.bind(&agent_id).bind_all(caller.aliases.iter()).fetch_one(conn).await?;
    let EndedRuns { runs, completed, mean_seconds, mean_cost } = ended;
    let success_rate = (runs > 0).then(|| completed as f64 / runs as f64);
    Ok(AgentRunStats { agent_id, runs, mean_seconds, mean_cost, success_rate })
}

row! {
    NetworkStatus {
        status = "(SELECT status FROM agent_executions WHERE workflow_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1)"
            => |newest: Option<ExecutionStatus>| newest.into(),
        total_executions = "count(*)",
        pending_executions = "count(*) FILTER (WHERE status = 'PENDING')",
        running_executions = "count(*) FILTER (WHERE status = 'RUNNING')",
        completed_executions = "count(*) FILTER (WHERE status = 'COMPLETED')",
        failed_executions = "count(*) FILTER (WHERE status = 'FAILED')",
        cancelled_executions = "count(*) FILTER (WHERE status = 'CANCELLED')",
        success_rate = "avg(CASE status WHEN 'COMPLETED' THEN 1.0 WHEN 'FAILED' THEN 0.0 END)",
        average_execution_time = "avg(CASE WHEN status = 'COMPLETED' THEN total_execution_time END)",
        total_cost = "coalesce(sum(total_cost), 0.0)",
        last_execution_at = "max(created_at)",
    }
}

/// Compute the status of a network.
pub async fn network_status(conn: &mut Connection, id: &NetworkId) -> Result<NetworkStatus> {
    let query = sql!("SELECT ", NetworkStatus::COLUMNS, " FROM agent_executions WHERE workflow_id = $1");
    Ok(query.bind(id).fetch_one(conn).await?)
}
