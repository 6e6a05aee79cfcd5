//! SQL of tables `agent_sandbox_configs`, which the coordinator reads, and `am_sandboxes`.

use std::collections::BTreeSet;

use super::{
    error::{Result, unreadable},
    model::{
        CLEANED_STATUS, SandboxRecord, SandboxRules, SandboxState, SandboxUsage, TerminationReason, ViolationAttempt,
    },
    presets,
};
use am_core::ids::{ExecutionId, SandboxId};
use am_db::{
    Connection, Database, FromRow, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, Timestamp},
    insert,
    kept_list::ListedTable,
    principal::Principal,
    push_row, row,
    row::Columns,
    sql,
};

row! {
    SandboxRules from "c." {
        sandbox_type,
        security_level,
        cpu_limit,
        memory_limit => i64::unsigned_abs,
        disk_limit => i64::unsigned_abs,
        network_access,
        allowed_commands => JsonOr::into_inner,
        blocked_commands => JsonOr::into_inner,
        allowed_file_paths => JsonOr::into_inner,
        blocked_file_paths => JsonOr::into_inner,
        allowed_domains => JsonOr::into_inner,
        blocked_domains => JsonOr::into_inner,
        allowed_ports => JsonOr::into_inner,
        max_execution_time => i64::unsigned_abs,
        idle_timeout => i64::unsigned_abs,
        enable_monitoring,
        log_all_commands,
        log_file_access,
        log_network_access,
    }
}

row! {
    /// A row of `am_sandboxes`.
    struct Own from "s." {
        execution_id: ExecutionId,
        status: String,
        isolation: String,
        unenforced: BTreeSet<String> => JsonOr::into_inner,
        fixed: bool,
        runs: u64 => i64::unsigned_abs,
        totals: SandboxUsage => JsonOr::into_inner,
        attempts: Vec<ViolationAttempt> => JsonOr::into_inner,
        breaches: u64 => i64::unsigned_abs,
        last_ended: Option<String>,
        last_exit_code: Option<i64>,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

/// A row of `am_sandboxes`, and the rules that stand in the coordinator's table.
struct SandboxDocumentRow(SandboxState);

impl FromRow for SandboxDocumentRow {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        let (own, rules) = (Own::from_row(columns)?, SandboxRules::from_row(columns)?);
        let ended = |text: String| {
            let read = serde_json::from_value::<TerminationReason>(text.into());
            read.map_err(|error| am_db::DatabaseError::InvalidValue(format!("am_sandboxes.last_ended: {error}")))
        };
        Ok(Self(SandboxState {
            id: sandbox_id(&own.execution_id),
            sandbox_id: sandbox_id(&own.execution_id),
            execution_id: own.execution_id,
            status: own.status,
            rules,
            isolation: own.isolation,
            unenforced: own.unenforced,
            runs: own.runs,
            totals: own.totals,
            attempts: own.attempts,
            breaches: own.breaches,
            last_ended: own.last_ended.map(ended).transpose()?,
            last_exit_code: own.last_exit_code.and_then(|code| i32::try_from(code).ok()),
            created_at: own.created_at,
            updated_at: own.updated_at,
            fixed: own.fixed,
        }))
    }
}

/// Id of an execution's sandbox, in the coordinator's form.
pub fn sandbox_id(execution: &ExecutionId) -> SandboxId {
    format!("sandbox_{execution}").into()
}

/// The sandbox of an execution.
pub async fn get_sandbox(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<SandboxState>> {
    let sandbox = sql!(
        "SELECT ",
        Own::COLUMNS,
        ", ",
        SandboxRules::COLUMNS,
        " FROM am_sandboxes s JOIN agent_sandbox_configs c ON c.id = 'sandbox_' || s.execution_id WHERE s.execution_id = $1",
    );
    Ok(sandbox.bind(execution).fetch_optional(conn).await?.map(|SandboxDocumentRow(sandbox)| sandbox))
}

/// Rules that the coordinator wrote for an execution, if this service wrote none.
pub async fn coordinator_rules(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<SandboxRules>> {
    let rules = sql!("SELECT ", SandboxRules::COLUMNS, " FROM agent_sandbox_configs c WHERE c.id = $1 AND c.is_active");
    Ok(rules.bind(sandbox_id(execution)).fetch_optional(conn).await?)
}

/// Whether the execution exists and is the caller's.
pub async fn has_execution(conn: &mut Connection, caller: &Principal, execution: &ExecutionId) -> Result<bool> {
    let owned = sql!("SELECT 1 FROM agent_executions WHERE id = $1 AND client_id IN ($2)");
    Ok(owned.bind(execution).bind_all(caller.aliases.iter()).exists(conn).await?)
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| unreadable("a sandbox", error))
}

/// Insert or update a sandbox with its rules.
pub async fn upsert_sandbox(tx: &mut Tx, sandbox: &SandboxState) -> Result<()> {
    let rules = &sandbox.rules;
    let mut rows = RowBatch::default();
    push_row!(rows, "agent_sandbox_configs" {
        id: &sandbox.id,
        sandbox_type: &rules.sandbox_type,
        security_level: rules.security_level,
        cpu_limit: rules.cpu_limit,
        memory_limit: rules.memory_limit.cast_signed(),
        disk_limit: rules.disk_limit.cast_signed(),
        network_access: rules.network_access,
        allowed_commands: to_json(&rules.allowed_commands)?,
        blocked_commands: to_json(&rules.blocked_commands)?,
        allowed_file_paths: to_json(&rules.allowed_file_paths)?,
        blocked_file_paths: to_json(&rules.blocked_file_paths)?,
        allowed_domains: to_json(&rules.allowed_domains)?,
        blocked_domains: to_json(&rules.blocked_domains)?,
        allowed_ports: to_json(&rules.allowed_ports)?,
        max_execution_time: rules.max_execution_time.cast_signed(),
        idle_timeout: rules.idle_timeout.cast_signed(),
        enable_monitoring: rules.enable_monitoring,
        log_all_commands: rules.log_all_commands,
        log_file_access: rules.log_file_access,
        log_network_access: rules.log_network_access,
        is_active: sandbox.status != CLEANED_STATUS,
        created_at: sandbox.created_at,
        updated_at: sandbox.updated_at,
    } update on (id) except (created_at));
    rows.execute(tx).await?;
    upsert_own_row(tx, sandbox).await
}

async fn upsert_own_row(tx: &mut Tx, sandbox: &SandboxState) -> Result<()> {
    let ended = sandbox.last_ended.map(|ended| to_json(&ended)).transpose()?;
    insert!("am_sandboxes" {
        execution_id: &sandbox.execution_id,
        status: &sandbox.status,
        isolation: &sandbox.isolation,
        unenforced: to_json(&sandbox.unenforced)?,
        fixed: sandbox.fixed,
        runs: sandbox.runs.cast_signed(),
        totals: to_json(&sandbox.totals)?,
        attempts: to_json(&sandbox.attempts)?,
        breaches: sandbox.breaches.cast_signed(),
        last_ended: ended.as_deref().map(|text| text.trim_matches('"')),
        last_exit_code: sandbox.last_exit_code.map(i64::from),
        created_at: sandbox.created_at,
        updated_at: sandbox.updated_at,
    } update on (execution_id) except (created_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Executions that ended before `limit` and whose files still exist.
pub async fn ended_before(conn: &mut Connection, limit: Timestamp) -> Result<Vec<ExecutionId>> {
    let ended = sql!(
        "SELECT s.execution_id FROM am_sandboxes s JOIN agent_executions e ON e.id = s.execution_id
         WHERE s.status <> 'cleaned' AND e.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND s.updated_at < $1 LIMIT 1000",
    );
    Ok(ended.bind(limit).fetch_values(conn).await?)
}

/// A sandbox that was not used yet.
pub fn unused_sandbox(execution: &ExecutionId, rules: SandboxRules, fixed: bool, now: Timestamp) -> SandboxState {
    SandboxState {
        id: sandbox_id(execution),
        sandbox_id: sandbox_id(execution),
        execution_id: execution.clone(),
        status: "created".to_owned(),
        rules,
        isolation: presets::ISOLATION_MECHANISMS.to_owned(),
        unenforced: Default::default(),
        runs: 0,
        totals: SandboxUsage::default(),
        attempts: Vec::new(),
        breaches: 0,
        last_ended: None,
        last_exit_code: None,
        created_at: now,
        updated_at: now,
        fixed,
    }
}

/// Number of active sandboxes, including the coordinator's.
pub async fn count_active(db: &Database) -> Result<u64> {
    let conn = &mut *db.read_list().await?;
    let count = if db.follow_list(conn, ListedTable::Sandboxes, false).await? {
        sql!(
            "SELECT CAST(coalesce(sum(entries), 0) AS BIGINT) FROM am_list_counts
             WHERE list = 'sandboxes' AND owner_id = '*' AND kind = '1'",
        )
    } else {
        sql!("SELECT count(*) FROM agent_sandbox_configs WHERE is_active")
    };
    let count: i64 = count.fetch_value(conn).await?;
    Ok(count.cast_unsigned())
}

row! {
    SandboxRecord {
        id,
        sandbox_type,
        security_level,
        cpu_limit,
        memory_limit,
        disk_limit,
        network_access,
        max_execution_time,
        is_active,
    }
}

/// Recorded limits of an execution's sandbox, whoever wrote them.
pub async fn read_record(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<SandboxRecord>> {
    let record = sql!("SELECT ", SandboxRecord::COLUMNS, " FROM agent_sandbox_configs WHERE id = $1");
    Ok(record.bind(sandbox_id(execution)).fetch_optional(conn).await?)
}
