//! Table `agent_security_policies`.

use serde::Serialize;
use sqlx::{QueryBuilder, Row as _};

use super::{
    Error, Result,
    model::{Filter, Policy},
};
use am_db::{Connection, Db, Row, Tx, codec::Doc};

const COLUMNS: &str = "id, name, description, security_level, allowed_step_types, max_execution_time, max_memory_usage, \
     require_verification, allowed_verification_levels, max_concurrent_executions, max_workflow_steps, max_data_size, \
     require_sandbox, require_audit_logging, require_encryption, compliance_standards, is_active, created_at, updated_at";

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

fn unreadable(column: &str, error: impl std::fmt::Display) -> Error {
    Error::Db(am_db::Error::Unreadable(format!("agent_security_policies.{column}: {error}")))
}

/// A list; no value is an empty one.
fn words(row: &Row, column: &str) -> Result<Vec<String>> {
    let doc: Option<Doc> = row.try_get(column)?;
    let words = doc.map(|doc| doc.parse()).transpose().map_err(|error| unreadable(column, error))?;
    Ok(words.flatten().unwrap_or_default())
}

fn document(column: &str, words: &impl Serialize) -> Result<Doc> {
    Doc::of(words).map_err(|error| unreadable(column, error))
}

fn policy(row: &Row) -> Result<Policy> {
    Ok(Policy {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        security_level: row.try_get("security_level")?,
        allowed_step_types: words(row, "allowed_step_types")?,
        max_execution_time: row.try_get("max_execution_time")?,
        max_memory_usage: row.try_get("max_memory_usage")?,
        require_verification: row.try_get("require_verification")?,
        allowed_verification_levels: words(row, "allowed_verification_levels")?,
        max_concurrent_executions: row.try_get("max_concurrent_executions")?,
        max_workflow_steps: row.try_get("max_workflow_steps")?,
        max_data_size: row.try_get("max_data_size")?,
        require_sandbox: row.try_get("require_sandbox")?,
        require_audit_logging: row.try_get("require_audit_logging")?,
        require_encryption: row.try_get("require_encryption")?,
        compliance_standards: words(row, "compliance_standards")?,
        is_active: row.try_get("is_active")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn select() -> QueryBuilder<Db> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM agent_security_policies");
    query
}

/// Those that bind, the oldest first.
pub async fn active(conn: &mut Connection) -> Result<Vec<Policy>> {
    let mut query = select();
    query.push(" WHERE is_active ORDER BY created_at, id");
    query.build().fetch_all(conn).await?.iter().map(policy).collect()
}

/// One policy.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Policy>> {
    let mut query = select();
    query.push(" WHERE id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.as_ref().map(policy).transpose()
}

/// The id of the policy of this name.
pub async fn named(conn: &mut Connection, name: &str) -> Result<Option<String>> {
    let found = sqlx::query_scalar("SELECT id FROM agent_security_policies WHERE name = ?1");
    Ok(found.bind(name).fetch_optional(conn).await?)
}

fn push_filter(query: &mut QueryBuilder<Db>, filter: &Filter) {
    query.push(" WHERE true");
    if let Some(level) = filter.security_level {
        query.push(" AND security_level = ").push_bind(level);
    }
    if let Some(is_active) = filter.is_active {
        query.push(" AND is_active = ").push_bind(is_active);
    }
}

/// A page, and how many there are in all.
pub async fn list(conn: &mut Connection, filter: &Filter) -> Result<(Vec<Policy>, i64)> {
    let mut query = select();
    push_filter(&mut query, filter);
    filter.page.push(&mut query, "");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*) FROM agent_security_policies");
    push_filter(&mut count, filter);
    let total: i64 = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(policy).collect::<Result<_>>()?, total))
}

/// A new policy. An id or name that is taken is a duplicate.
pub async fn insert(tx: &mut Tx, policy: &Policy) -> Result<()> {
    sqlx::query(
        "INSERT INTO agent_security_policies (id, name, description, security_level, max_execution_time, \
         max_memory_usage, require_verification, max_concurrent_executions, max_workflow_steps, max_data_size, \
         require_sandbox, require_audit_logging, require_encryption, is_active, created_at, updated_at)
         VALUES (?1, ?2, '', 'PUBLIC', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?3, ?3)",
    )
    .bind(&policy.id)
    .bind(&policy.name)
    .bind(policy.created_at)
    .execute(tx.conn().await?)
    .await?;
    update(tx, policy).await
}

/// Write every column that can change.
pub async fn update(tx: &mut Tx, policy: &Policy) -> Result<()> {
    sqlx::query(
        "UPDATE agent_security_policies SET name = ?2, description = ?3, security_level = ?4, allowed_step_types = ?5,
             max_execution_time = ?6, max_memory_usage = ?7, require_verification = ?8, allowed_verification_levels = ?9,
             max_concurrent_executions = ?10, max_workflow_steps = ?11, max_data_size = ?12, require_sandbox = ?13,
             require_audit_logging = ?14, require_encryption = ?15, compliance_standards = ?16, is_active = ?17, updated_at = ?18
         WHERE id = ?1",
    )
    .bind(&policy.id)
    .bind(&policy.name)
    .bind(&policy.description)
    .bind(policy.security_level)
    .bind(document("allowed_step_types", &policy.allowed_step_types)?)
    .bind(policy.max_execution_time)
    .bind(policy.max_memory_usage)
    .bind(policy.require_verification)
    .bind(document("allowed_verification_levels", &policy.allowed_verification_levels)?)
    .bind(policy.max_concurrent_executions)
    .bind(policy.max_workflow_steps)
    .bind(policy.max_data_size)
    .bind(policy.require_sandbox)
    .bind(policy.require_audit_logging)
    .bind(policy.require_encryption)
    .bind(document("compliance_standards", &policy.compliance_standards)?)
    .bind(policy.is_active)
    .bind(policy.updated_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Take it out.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    sqlx::query("DELETE FROM agent_security_policies WHERE id = ?1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}
