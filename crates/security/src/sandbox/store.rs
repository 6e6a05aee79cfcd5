//! Tables `agent_sandbox_configs`, which the coordinator reads, and `am_sandboxes`.

use sqlx::Row as _;

use super::{
    error::{Result, unreadable},
    levels,
    model::{Ended, Rules, Sandbox, SandboxRecord, Usage},
};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
};

const COLUMNS: &str = "s.execution_id, s.status, s.isolation, s.unenforced, s.fixed, s.runs, s.totals, s.attempts, s.breaches, \
     s.last_ended, s.last_exit_code, s.created_at, s.updated_at, c.id, c.sandbox_type, c.security_level, c.cpu_limit, \
     c.memory_limit, c.disk_limit, c.network_access, c.allowed_commands, c.blocked_commands, c.allowed_file_paths, \
     c.blocked_file_paths, c.allowed_domains, c.blocked_domains, c.allowed_ports, c.max_execution_time, c.idle_timeout, \
     c.enable_monitoring, c.log_all_commands, c.log_file_access, c.log_network_access";

/// The id of an execution's sandbox, as the coordinator makes it.
pub fn id_of(execution: &str) -> String {
    format!("sandbox_{execution}")
}

fn document<T: for<'de> serde::Deserialize<'de> + Default>(row: &Row, column: &str) -> Result<T> {
    let doc: Option<Doc> = row.try_get(column)?;
    let parsed = doc.map(|doc| doc.parse()).transpose().map_err(|error| unreadable(column, error))?;
    Ok(parsed.flatten().unwrap_or_default())
}

fn number(row: &Row, column: &str) -> Result<u64> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}

fn rules(row: &Row) -> Result<Rules> {
    Ok(Rules {
        sandbox_type: row.try_get("sandbox_type")?,
        security_level: row.try_get("security_level")?,
        cpu_limit: row.try_get("cpu_limit")?,
        memory_limit: number(row, "memory_limit")?,
        disk_limit: number(row, "disk_limit")?,
        network_access: row.try_get("network_access")?,
        allowed_commands: document(row, "allowed_commands")?,
        blocked_commands: document(row, "blocked_commands")?,
        allowed_file_paths: document(row, "allowed_file_paths")?,
        blocked_file_paths: document(row, "blocked_file_paths")?,
        allowed_domains: document(row, "allowed_domains")?,
        blocked_domains: document(row, "blocked_domains")?,
        allowed_ports: document(row, "allowed_ports")?,
        max_execution_time: number(row, "max_execution_time")?,
        idle_timeout: number(row, "idle_timeout")?,
        enable_monitoring: row.try_get("enable_monitoring")?,
        log_all_commands: row.try_get("log_all_commands")?,
        log_file_access: row.try_get("log_file_access")?,
        log_network_access: row.try_get("log_network_access")?,
    })
}

fn sandbox(row: &Row) -> Result<Sandbox> {
    let ended: Option<String> = row.try_get("last_ended")?;
    let ended: Option<Ended> = ended
        .map(|text| serde_json::from_value(text.into()).map_err(|error| unreadable("last_ended", error)))
        .transpose()?;
    let code: Option<i64> = row.try_get("last_exit_code")?;
    let id: String = row.try_get("id")?;
    Ok(Sandbox {
        sandbox_id: id.clone(),
        id,
        execution_id: row.try_get("execution_id")?,
        status: row.try_get("status")?,
        rules: rules(row)?,
        isolation: row.try_get("isolation")?,
        unenforced: document(row, "unenforced")?,
        runs: number(row, "runs")?,
        totals: document::<Usage>(row, "totals")?,
        attempts: document(row, "attempts")?,
        breaches: number(row, "breaches")?,
        last_ended: ended,
        last_exit_code: code.and_then(|code| i32::try_from(code).ok()),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        fixed: row.try_get("fixed")?,
    })
}

/// The sandbox of an execution.
pub async fn get(conn: &mut Connection, execution: &str) -> Result<Option<Sandbox>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM am_sandboxes s JOIN agent_sandbox_configs c ON c.id = 'sandbox_' || s.execution_id
         WHERE s.execution_id = ?1"
    );
    let row = sqlx::query::<Db>(sqlx::AssertSqlSafe(sql)).bind(execution).fetch_optional(conn).await?;
    row.as_ref().map(sandbox).transpose()
}

/// Rules that the coordinator has written for an execution, where this service has not.
pub async fn coordinators(conn: &mut Connection, execution: &str) -> Result<Option<Rules>> {
    let row = sqlx::query("SELECT * FROM agent_sandbox_configs WHERE id = ?1 AND is_active")
        .bind(id_of(execution))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(rules).transpose()
}

/// Whether there is such an execution.
pub async fn has_execution(conn: &mut Connection, execution: &str) -> Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM agent_executions WHERE id = ?1").bind(execution).fetch_optional(conn).await?;
    Ok(found.is_some())
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| unreadable("a sandbox", error))
}

/// Write a sandbox and its rules, new or changed.
pub async fn put(tx: &mut Tx, sandbox: &Sandbox) -> Result<()> {
    let rules = &sandbox.rules;
    sqlx::query(
        "INSERT INTO agent_sandbox_configs (id, sandbox_type, security_level, cpu_limit, memory_limit, disk_limit, network_access,
             allowed_commands, blocked_commands, allowed_file_paths, blocked_file_paths, allowed_domains, blocked_domains,
             allowed_ports, max_execution_time, idle_timeout, enable_monitoring, log_all_commands, log_file_access,
             log_network_access, is_active, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
         ON CONFLICT (id) DO UPDATE SET sandbox_type = excluded.sandbox_type, security_level = excluded.security_level,
             cpu_limit = excluded.cpu_limit, memory_limit = excluded.memory_limit, disk_limit = excluded.disk_limit,
             network_access = excluded.network_access, allowed_commands = excluded.allowed_commands,
             blocked_commands = excluded.blocked_commands, allowed_file_paths = excluded.allowed_file_paths,
             blocked_file_paths = excluded.blocked_file_paths, allowed_domains = excluded.allowed_domains,
             blocked_domains = excluded.blocked_domains, allowed_ports = excluded.allowed_ports,
             max_execution_time = excluded.max_execution_time, idle_timeout = excluded.idle_timeout,
             enable_monitoring = excluded.enable_monitoring, log_all_commands = excluded.log_all_commands,
             log_file_access = excluded.log_file_access, log_network_access = excluded.log_network_access,
             is_active = excluded.is_active, updated_at = excluded.updated_at",
    )
    .bind(&sandbox.id)
    .bind(&rules.sandbox_type)
    .bind(rules.security_level)
    .bind(rules.cpu_limit)
    .bind(rules.memory_limit.cast_signed())
    .bind(rules.disk_limit.cast_signed())
    .bind(rules.network_access)
    .bind(text(&rules.allowed_commands)?)
    .bind(text(&rules.blocked_commands)?)
    .bind(text(&rules.allowed_file_paths)?)
    .bind(text(&rules.blocked_file_paths)?)
    .bind(text(&rules.allowed_domains)?)
    .bind(text(&rules.blocked_domains)?)
    .bind(text(&rules.allowed_ports)?)
    .bind(rules.max_execution_time.cast_signed())
    .bind(rules.idle_timeout.cast_signed())
    .bind(rules.enable_monitoring)
    .bind(rules.log_all_commands)
    .bind(rules.log_file_access)
    .bind(rules.log_network_access)
    .bind(sandbox.status != CLEANED)
    .bind(sandbox.created_at)
    .bind(sandbox.updated_at)
    .execute(tx.conn().await?)
    .await?;
    put_own(tx, sandbox).await
}

/// Nothing of it is left but this record.
pub const CLEANED: &str = "cleaned";

async fn put_own(tx: &mut Tx, sandbox: &Sandbox) -> Result<()> {
    let ended = sandbox.last_ended.map(|ended| text(&ended)).transpose()?;
    sqlx::query(
        "INSERT INTO am_sandboxes (execution_id, status, isolation, unenforced, fixed, runs, totals, attempts, breaches, last_ended,
             last_exit_code, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (execution_id) DO UPDATE SET status = excluded.status, isolation = excluded.isolation,
             unenforced = excluded.unenforced, fixed = excluded.fixed, runs = excluded.runs, totals = excluded.totals,
             attempts = excluded.attempts, breaches = excluded.breaches, last_ended = excluded.last_ended,
             last_exit_code = excluded.last_exit_code, updated_at = excluded.updated_at",
    )
    .bind(&sandbox.execution_id)
    .bind(&sandbox.status)
    .bind(&sandbox.isolation)
    .bind(text(&sandbox.unenforced)?)
    .bind(sandbox.fixed)
    .bind(sandbox.runs.cast_signed())
    .bind(text(&sandbox.totals)?)
    .bind(text(&sandbox.attempts)?)
    .bind(sandbox.breaches.cast_signed())
    .bind(ended.as_deref().map(|text| text.trim_matches('"')))
    .bind(sandbox.last_exit_code.map(i64::from))
    .bind(sandbox.created_at)
    .bind(sandbox.updated_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Executions whose files are still there though they ended before `limit`.
pub async fn ended_before(conn: &mut Connection, limit: Timestamp) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "SELECT s.execution_id FROM am_sandboxes s JOIN agent_executions e ON e.id = s.execution_id
         WHERE s.status <> 'cleaned' AND e.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND s.updated_at < ?1 LIMIT 1000",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?)
}

/// A sandbox that nobody has used yet.
pub fn fresh(execution: &str, rules: Rules, fixed: bool, now: Timestamp) -> Sandbox {
    Sandbox {
        id: id_of(execution),
        sandbox_id: id_of(execution),
        execution_id: execution.to_owned(),
        status: "created".to_owned(),
        rules,
        isolation: levels::ISOLATION.to_owned(),
        unenforced: Default::default(),
        runs: 0,
        totals: Usage::default(),
        attempts: Vec::new(),
        breaches: 0,
        last_ended: None,
        last_exit_code: None,
        created_at: now,
        updated_at: now,
        fixed,
    }
}

/// How many are active, the coordinator's among them.
pub async fn count_active(conn: &mut Connection) -> Result<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM agent_sandbox_configs WHERE is_active").fetch_one(conn).await?;
    Ok(count.cast_unsigned())
}

/// What `agent_sandbox_configs` says of an execution's, whoever wrote it.
pub async fn record(conn: &mut Connection, execution: &str) -> Result<Option<SandboxRecord>> {
    let row = sqlx::query(
        "SELECT id, sandbox_type, security_level, cpu_limit, memory_limit, disk_limit, network_access, max_execution_time,
             is_active FROM agent_sandbox_configs WHERE id = ?1",
    )
    .bind(id_of(execution))
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
