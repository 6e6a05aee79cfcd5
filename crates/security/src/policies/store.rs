//! SQL of table `agent_security_policies`.

use serde::Serialize;

use super::{
    Result, SecurityPolicyError,
    model::{SecurityPolicy, SecurityPolicyFilter},
};
use am_audit::SecurityLevel;
use am_core::ids::SecurityPolicyId;
use am_db::{
    Connection, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText},
    foreign_rows::read_page,
    insert, push_row, row, sql,
    statement::Query,
    update,
};

row! {
    SecurityPolicy {
        id,
        name,
        description,
        security_level,
        allowed_step_types => JsonOr::into_inner,
        max_execution_time,
        max_memory_usage,
        require_verification,
        allowed_verification_levels => JsonOr::into_inner,
        max_concurrent_executions,
        max_workflow_steps,
        max_data_size,
        require_sandbox,
        require_audit_logging,
        require_encryption,
        compliance_standards => JsonOr::into_inner,
        bounds = "(SELECT b.bounds FROM am_policy_bounds b WHERE b.policy_id = agent_security_policies.id)" => JsonOr::into_inner,
        is_active,
        created_at,
        updated_at,
    }
}

fn unreadable(column: &str, error: impl std::fmt::Display) -> SecurityPolicyError {
    SecurityPolicyError::Db(am_db::DatabaseError::InvalidValue(format!("agent_security_policies.{column}: {error}")))
}

fn parse_json_column(column: &str, words: &impl Serialize) -> Result<JsonText> {
    JsonText::from_value(words).map_err(|error| unreadable(column, error))
}

/// Active policies, oldest first. Those of a security level that this service does not know apply to none of its workflows.
pub async fn active_policies(conn: &mut Connection) -> Result<Vec<SecurityPolicy>> {
    let policies = sql!(
        "SELECT ",
        SecurityPolicy::COLUMNS,
        " FROM agent_security_policies WHERE is_active AND security_level IN ($1) ORDER BY created_at, id",
    );
    Ok(policies.bind_all(SecurityLevel::ALL.iter().copied()).fetch_all(conn).await?)
}

/// A policy by its id.
pub async fn get_policy(conn: &mut Connection, id: &SecurityPolicyId) -> Result<Option<SecurityPolicy>> {
    let policy = sql!("SELECT ", SecurityPolicy::COLUMNS, " FROM agent_security_policies WHERE id = $1");
    Ok(policy.bind(id).fetch_optional(conn).await?)
}

/// Id of the policy with this name.
pub async fn find_id_by_name(conn: &mut Connection, name: &str) -> Result<Option<SecurityPolicyId>> {
    let found = sql!("SELECT id FROM agent_security_policies WHERE name = $1");
    Ok(found.bind(name).fetch_optional_value(conn).await?)
}

const MATCHING: &str = " FROM agent_security_policies WHERE true [AND security_level = $1] [AND is_active = $2] ";

fn bind_filter(query: Query, filter: &SecurityPolicyFilter) -> Query {
    query.bind_some(filter.security_level).bind_some(filter.is_active)
}

/// A page of policies, and the total number of matches.
pub async fn list_policies(conn: &mut Connection, filter: &SecurityPolicyFilter) -> Result<(Vec<SecurityPolicy>, i64)> {
    let rows = || sql!("SELECT ", SecurityPolicy::COLUMNS, MATCHING, "{page $3 agent_security_policies}");
    let ids = || sql!("SELECT id", MATCHING, "{page $3 agent_security_policies}");
    let policies = read_page(
        &mut *conn,
        &filter.page,
        |page| bind_filter(rows(), filter).bind_page(page),
        |page| bind_filter(ids(), filter).bind_page(page),
    );
    let policies = policies.await?;
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span $3}"), filter).bind_span(filter.page.created);
    let total = total.fetch_value(conn).await?;
    Ok((policies, total))
}

/// Insert a policy. An id or name that is taken is a duplicate.
pub async fn insert_policy(tx: &mut Tx, policy: &SecurityPolicy) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "agent_security_policies" {
        id: &policy.id,
        name: &policy.name,
        description: &policy.description,
        security_level: policy.security_level,
        allowed_step_types: parse_json_column("allowed_step_types", &policy.allowed_step_types)?,
        max_execution_time: policy.max_execution_time,
        max_memory_usage: policy.max_memory_usage,
        require_verification: policy.require_verification,
        allowed_verification_levels: parse_json_column("allowed_verification_levels", &policy.allowed_verification_levels)?,
        max_concurrent_executions: policy.max_concurrent_executions,
        max_workflow_steps: policy.max_workflow_steps,
        max_data_size: policy.max_data_size,
        require_sandbox: policy.require_sandbox,
        require_audit_logging: policy.require_audit_logging,
        require_encryption: policy.require_encryption,
        compliance_standards: parse_json_column("compliance_standards", &policy.compliance_standards)?,
        is_active: policy.is_active,
        created_at: policy.created_at,
        updated_at: policy.updated_at,
    });
    rows.execute(tx).await?;
    put_bounds(tx, policy).await
}

async fn put_bounds(tx: &mut Tx, policy: &SecurityPolicy) -> Result<()> {
    let bounds = parse_json_column("bounds", &policy.bounds)?;
    insert!("am_policy_bounds" { policy_id: &policy.id, bounds: bounds } update on (policy_id))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Update every column that can change.
pub async fn update_policy(tx: &mut Tx, policy: &SecurityPolicy) -> Result<()> {
    update!("agent_security_policies" {
        name: &policy.name,
        description: &policy.description,
        security_level: policy.security_level,
        allowed_step_types: parse_json_column("allowed_step_types", &policy.allowed_step_types)?,
        max_execution_time: policy.max_execution_time,
        max_memory_usage: policy.max_memory_usage,
        require_verification: policy.require_verification,
        allowed_verification_levels: parse_json_column("allowed_verification_levels", &policy.allowed_verification_levels)?,
        max_concurrent_executions: policy.max_concurrent_executions,
        max_workflow_steps: policy.max_workflow_steps,
        max_data_size: policy.max_data_size,
        require_sandbox: policy.require_sandbox,
        require_audit_logging: policy.require_audit_logging,
        require_encryption: policy.require_encryption,
        compliance_standards: parse_json_column("compliance_standards", &policy.compliance_standards)?,
        is_active: policy.is_active,
        updated_at: policy.updated_at,
    } where "id = $1" (&policy.id))
    .execute(tx.conn().await?)
    .await?;
    put_bounds(tx, policy).await
}

/// Delete a policy.
pub async fn delete_policy(tx: &mut Tx, id: &SecurityPolicyId) -> Result<()> {
    sql!("DELETE FROM am_policy_bounds WHERE policy_id = $1").bind(id).execute(tx.conn().await?).await?;
    sql!("DELETE FROM agent_security_policies WHERE id = $1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}
