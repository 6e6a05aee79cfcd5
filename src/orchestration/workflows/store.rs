//! Tables `ai_agent_workflows` and `agent_steps`.

use std::sync::Arc;

use serde_json::Value;
use sqlx::{QueryBuilder, Row as _};

use super::model::{Filter, Workflow};
use crate::{
    ambient::Ids,
    db::{self, Connection, Db, Row, Tx, codec::Doc, principal::Principal},
    orchestration::{definition::Plan, error::Result, model::VerificationLevel},
};

const COLUMNS: &str = "id, owner_id, name, description, steps, dependencies, max_execution_time, max_cost_budget, \
     requires_verification, verification_level, tags, version, is_public, created_at, updated_at";

fn workflow(row: &Row) -> db::Result<Workflow> {
    Ok(Workflow {
        id: row.try_get(0)?,
        owner_id: row.try_get(1)?,
        name: row.try_get(2)?,
        description: row.try_get(3)?,
        steps: row.try_get::<Doc, _>(4)?.or_object(),
        dependencies: row.try_get::<Doc, _>(5)?.or_object(),
        max_execution_time: row.try_get(6)?,
        max_cost_budget: row.try_get(7)?,
        requires_verification: row.try_get(8)?,
        verification_level: row.try_get(9)?,
        tags: row.try_get(10)?,
        version: row.try_get(11)?,
        is_public: row.try_get(12)?,
        created_at: row.try_get(13)?,
        updated_at: row.try_get(14)?,
    })
}

/// Store it under a free id: eight digits are few enough for two to meet.
pub async fn insert(tx: &mut Tx, mut workflow: Workflow, ids: &Ids) -> Result<Workflow> {
    loop {
        workflow.id = ids.prefixed("agent_", 8);
        let done = sqlx::query(
            "INSERT INTO ai_agent_workflows (id, owner_id, name, description, steps, dependencies, max_execution_time, max_cost_budget,
                 requires_verification, verification_level, tags, version, is_public, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?14) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&workflow.id)
        .bind(&workflow.owner_id)
        .bind(&workflow.name)
        .bind(&workflow.description)
        .bind(workflow.steps.clone())
        .bind(workflow.dependencies.clone())
        .bind(workflow.max_execution_time)
        .bind(workflow.max_cost_budget)
        .bind(workflow.requires_verification)
        .bind(workflow.verification_level)
        .bind(&workflow.tags)
        .bind(&workflow.version)
        .bind(workflow.is_public)
        .bind(workflow.created_at)
        .execute(tx.conn())
        .await?;
        if done.rows_affected() == 1 {
            return Ok(workflow);
        }
    }
}

/// One workflow.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Workflow>> {
    let row = sqlx::query(
        "SELECT id, owner_id, name, description, steps, dependencies, max_execution_time, max_cost_budget,
             requires_verification, verification_level, tags, version, is_public, created_at, updated_at
         FROM ai_agent_workflows WHERE id = ?1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.as_ref().map(workflow).transpose()?)
}

fn push_filter(query: &mut QueryBuilder<Db>, reader: &Principal, filter: &Filter) {
    query.push(" WHERE (is_public OR owner_id IN (");
    push_list(query, &reader.aliases);
    query.push("))");
    if let Some(owner) = &filter.owner {
        query.push(" AND owner_id IN (");
        push_list(query, owner);
        query.push(")");
    }
    if let Some(is_public) = filter.is_public {
        query.push(" AND is_public = ").push_bind(is_public);
    }
    for [ours, pythons] in filter.needles() {
        query
            .push(" AND (instr(tags, ")
            .push_bind(ours)
            .push(") > 0 OR instr(tags, ")
            .push_bind(pythons)
            .push(") > 0)");
    }
}

fn push_list(query: &mut QueryBuilder<Db>, values: &[String]) {
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value);
    }
}

/// A page, and how many there are in all.
pub async fn list(conn: &mut Connection, reader: &Principal, filter: &Filter) -> Result<(Vec<Workflow>, i64)> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(", (SELECT count(*) FROM ai_agent_workflows");
    push_filter(&mut query, reader, filter);
    query.push(") FROM ai_agent_workflows");
    push_filter(&mut query, reader, filter);
    if let Some((created_at, id)) = &filter.after {
        query.push(" AND (created_at, id) < (").push_bind(*created_at).push(", ").push_bind(id).push(")");
    }
    query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(filter.limit);
    query.push(" OFFSET ").push_bind(filter.offset);
    let rows = query.build().fetch_all(&mut *conn).await?;
    let total = match rows.first() {
        Some(row) => row.try_get(15)?,
        None => {
            let mut query = QueryBuilder::<Db>::new("SELECT count(*) FROM ai_agent_workflows");
            push_filter(&mut query, reader, filter);
            query.build_query_scalar().fetch_one(conn).await?
        }
    };
    Ok((rows.iter().map(workflow).collect::<db::Result<_>>()?, total))
}

/// Write every column that can change.
pub async fn update(tx: &mut Tx, workflow: &Workflow) -> Result<()> {
    sqlx::query(
        "UPDATE ai_agent_workflows SET name = ?2, description = ?3, steps = ?4, dependencies = ?5, max_execution_time = ?6,
             max_cost_budget = ?7, requires_verification = ?8, verification_level = ?9, tags = ?10, is_public = ?11, updated_at = ?12
         WHERE id = ?1",
    )
    .bind(&workflow.id)
    .bind(&workflow.name)
    .bind(&workflow.description)
    .bind(workflow.steps.clone())
    .bind(workflow.dependencies.clone())
    .bind(workflow.max_execution_time)
    .bind(workflow.max_cost_budget)
    .bind(workflow.requires_verification)
    .bind(workflow.verification_level)
    .bind(&workflow.tags)
    .bind(workflow.is_public)
    .bind(workflow.updated_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Take a workflow out.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    sqlx::query("DELETE FROM ai_agent_workflows WHERE id = ?1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// Take its steps out.
pub async fn delete_steps(tx: &mut Tx, workflow_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM agent_steps WHERE workflow_id = ?1").bind(workflow_id).execute(tx.conn()).await?;
    Ok(())
}

/// Executions that have not ended.
pub async fn open_executions(conn: &mut Connection, workflow_id: &str) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM agent_executions WHERE workflow_id = ?1 AND status IN ('PENDING', 'RUNNING')",
    );
    Ok(count.bind(workflow_id).fetch_one(conn).await?)
}

/// The same steps as rows, as the coordinator keeps them.
pub async fn insert_steps(tx: &mut Tx, workflow: &Workflow, plan: &Plan, ids: &Ids) -> Result<()> {
    let mut left: Vec<usize> = (0..plan.steps.len()).collect();
    while !left.is_empty() {
        let mut remaining = Vec::new();
        for chunk in left.chunks(500) {
            let mut query = QueryBuilder::<Db>::new(
                "INSERT INTO agent_steps (id, workflow_id, step_order, name, step_type, model_requirements, input_mappings,
                     output_mappings, timeout_seconds, retry_policy, max_retries, requires_proof, verification_level, depends_on,
                     created_at, updated_at) ",
            );
            query.push_values(chunk, |mut row, at| {
                let step = &plan.steps[*at];
                let object =
                    |value: Option<Value>| value.unwrap_or_else(|| Value::Object(Default::default())).to_string();
                let members =
                    |members: &Option<serde_json::Map<String, Value>>| object(members.clone().map(Value::Object));
                let depends_on: Vec<&str> =
                    step.depends_on.iter().map(|other| plan.steps[*other].key.as_str()).collect();
                row.push_bind(ids.prefixed("step_", 8));
                row.push_bind(workflow.id.clone());
                row.push_bind(*at as i64);
                row.push_bind(step.name.clone());
                row.push_bind(step.step_type);
                row.push_bind(members(&step.raw.model_requirements));
                row.push_bind(members(&step.raw.input_mappings));
                row.push_bind(members(&step.raw.output_mappings));
                row.push_bind(step.timeout.as_secs() as i64);
                row.push_bind(object(step.raw.retry_policy.and_then(|policy| serde_json::to_value(policy).ok())));
                row.push_bind(i64::from(step.max_retries));
                row.push_bind(step.requires_proof);
                row.push_bind(step.verification_level.unwrap_or(VerificationLevel::Basic));
                row.push_bind(Value::from(depends_on).to_string());
                row.push_bind(workflow.updated_at);
                row.push_bind(workflow.updated_at);
            });
            query.push(" ON CONFLICT (id) DO NOTHING RETURNING step_order");
            let stored: Vec<i64> = query.build_query_scalar().fetch_all(tx.conn()).await?;
            remaining.extend(chunk.iter().filter(|at| !stored.contains(&(**at as i64))));
        }
        left = remaining;
    }
    Ok(())
}

/// The rows' ids by step; a step that the coordinator left without a row is known by its key.
pub async fn step_ids(conn: &mut Connection, workflow_id: &str, plan: &Plan) -> Result<Arc<[String]>> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT step_order, id FROM agent_steps WHERE workflow_id = ?1")
        .bind(workflow_id)
        .fetch_all(conn)
        .await?;
    let id = |at: usize| rows.iter().find(|(order, _)| *order == at as i64).map(|(_, id)| id.clone());
    Ok(plan.steps.iter().enumerate().map(|(at, step)| id(at).unwrap_or_else(|| step.key.clone())).collect())
}
