//! Table `agent_sandbox_configs`, read.

use sqlx::Row as _;

use super::SandboxRecord;
use crate::db::{Connection, Result};

/// How many are active.
pub async fn active_sandboxes(conn: &mut Connection) -> Result<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM agent_sandbox_configs WHERE is_active").fetch_one(conn).await?;
    Ok(count.cast_unsigned())
}

/// One of them.
pub async fn sandbox(conn: &mut Connection, id: &str) -> Result<Option<SandboxRecord>> {
    let row = sqlx::query(
        "SELECT id, sandbox_type, security_level, cpu_limit, memory_limit, disk_limit, network_access, max_execution_time,
             is_active FROM agent_sandbox_configs WHERE id = ?1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(SandboxRecord {
        id: row.try_get(0)?,
        sandbox_type: row.try_get(1)?,
        security_level: row.try_get(2)?,
        cpu_limit: row.try_get(3)?,
        memory_limit: row.try_get(4)?,
        disk_limit: row.try_get(5)?,
        network_access: row.try_get(6)?,
        max_execution_time: row.try_get(7)?,
        is_active: row.try_get(8)?,
    }))
}
