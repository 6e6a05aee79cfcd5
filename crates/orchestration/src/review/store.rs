//! Queries for active executions, as policies judge them.

use crate::{error::Result, model::VerificationLevel};
use am_audit::SecurityLevel;
use am_core::{
    ids::{ExecutionId, WorkflowId},
    money::Money,
};
use am_db::{Connection, FromRow as _, page::PageRequest, principal::Principal, row, sql};

row! {
    /// A run under way.
    pub struct ActiveRunRow from "r." {
        pub id: ExecutionId = "e.id",
        pub workflow_id: WorkflowId = "e.workflow_id",
        pub definition: String = "(SELECT body FROM am_definitions WHERE hash = r.definition_hash)",
        pub input_bytes: i64 = "octet_length(r.inputs)",
        pub level: VerificationLevel = "r.verification_level",
        pub security: SecurityLevel = "r.security_level",
        pub max_execution_time: i64,
        pub max_cost_budget: Money,
    }
}

const FROM_ACTIVE_RUNS: &str = " FROM am_runs r JOIN agent_executions e ON e.id = r.execution_id WHERE r.state <> 'ended' AND e.client_id IN ($1) ";

/// Read a page of a client's active executions, newest first, and their total number.
pub async fn list_active(
    conn: &mut Connection,
    client: &Principal,
    page: &PageRequest,
) -> Result<(Vec<ActiveRunRow>, i64)> {
    let runs = sql!("SELECT ", ActiveRunRow::COLUMNS, FROM_ACTIVE_RUNS, "{page e. $2 agent_executions}")
        .bind_all(client.aliases.iter())
        .bind_page(page);
    let runs = runs.fetch_all(&mut *conn).await?;
    let total = sql!("SELECT count(*)", FROM_ACTIVE_RUNS).bind_all(client.aliases.iter());
    Ok((runs, total.fetch_value(conn).await?))
}
