//! Tables `ai_agent_workflows` and `agent_steps`.

use std::sync::Arc;

use serde::Serialize;
use sqlx::{QueryBuilder, Row as _};

use super::model::{Filter, Workflow};
use crate::{
    ambient::Ids,
    db::{self, Connection, Db, Row, Tx, batch::Batch, codec::Doc, principal::Principal},
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

/// Store it with its steps' rows. An id that is taken is a duplicate, which undoes the whole of it.
pub async fn insert(tx: &mut Tx, workflow: &Workflow, plan: &Plan, ids: &Ids) -> Result<()> {
    let mut batch = Batch::default();
    batch.statement(|query| {
        query.push("INSERT INTO ai_agent_workflows (").push(COLUMNS).push(") ");
        query.push_values([workflow], |mut row, workflow| {
            row.push_bind(workflow.id.clone()).push_bind(workflow.owner_id.clone());
            row.push_bind(workflow.name.clone()).push_bind(workflow.description.clone());
            row.push_bind(workflow.steps.clone()).push_bind(workflow.dependencies.clone());
            row.push_bind(workflow.max_execution_time).push_bind(workflow.max_cost_budget);
            row.push_bind(workflow.requires_verification).push_bind(workflow.verification_level);
            row.push_bind(workflow.tags.clone()).push_bind(workflow.version.clone());
            row.push_bind(workflow.is_public);
            row.push_bind(workflow.created_at).push_bind(workflow.updated_at);
        });
    });
    add_steps(&mut batch, workflow, plan, ids);
    Ok(batch.execute(tx).await?)
}

/// One workflow.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Workflow>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM ai_agent_workflows WHERE id = ").push_bind(id);
    let row = query.build().fetch_optional(conn).await?;
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
    filter.page.push(&mut query, "");
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
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Take a workflow and its steps out.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    let mut batch = Batch::default();
    for delete in ["DELETE FROM agent_steps WHERE workflow_id = ", "DELETE FROM ai_agent_workflows WHERE id = "] {
        batch.statement(|query| {
            query.push(delete).push_bind(id.to_owned());
        });
    }
    Ok(batch.execute(tx).await?)
}

/// Executions that have not ended.
pub async fn open_executions(conn: &mut Connection, workflow_id: &str) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM agent_executions WHERE workflow_id = ?1 AND status IN ('PENDING', 'RUNNING')",
    );
    Ok(count.bind(workflow_id).fetch_one(conn).await?)
}

/// Put other steps' rows in place of those that stand. An id that is taken is a duplicate.
pub async fn replace_steps(tx: &mut Tx, workflow: &Workflow, plan: &Plan, ids: &Ids) -> Result<()> {
    let mut batch = Batch::default();
    batch.statement(|query| {
        query.push("DELETE FROM agent_steps WHERE workflow_id = ").push_bind(workflow.id.clone());
    });
    add_steps(&mut batch, workflow, plan, ids);
    Ok(batch.execute(tx).await?)
}

/// The steps as rows, as the coordinator keeps them.
fn add_steps(batch: &mut Batch, workflow: &Workflow, plan: &Plan, ids: &Ids) {
    // SQLite takes 32766 values in a statement.
    for (nth, chunk) in plan.steps.chunks(500).enumerate() {
        batch.statement(|query| {
            query.push(
                "INSERT INTO agent_steps (id, workflow_id, step_order, name, step_type, model_requirements, input_mappings,
                     output_mappings, timeout_seconds, retry_policy, max_retries, requires_proof, verification_level, depends_on,
                     created_at, updated_at) ",
            );
            query.push_values(chunk.iter().zip(nth * 500..), |mut row, (step, at)| {
                let depends_on: Vec<&str> =
                    step.depends_on.iter().map(|other| plan.steps[*other].key.as_str()).collect();
                row.push_bind(ids.prefixed("step_", 8)).push_bind(workflow.id.clone()).push_bind(at as i64);
                row.push_bind(step.name.clone()).push_bind(step.step_type);
                row.push_bind(object(step.raw.model_requirements.as_ref()));
                row.push_bind(object(step.raw.input_mappings.as_ref()));
                row.push_bind(object(step.raw.output_mappings.as_ref()));
                row.push_bind(step.timeout.as_secs() as i64).push_bind(object(step.raw.retry_policy.as_ref()));
                row.push_bind(i64::from(step.max_retries)).push_bind(step.requires_proof);
                row.push_bind(step.verification_level.unwrap_or(VerificationLevel::Basic));
                row.push_bind(object(Some(&depends_on))).push_bind(workflow.updated_at).push_bind(workflow.updated_at);
            });
        });
    }
}

/// As JSON; `{}` where there is nothing.
fn object<T: Serialize>(value: Option<&T>) -> String {
    value.and_then(|value| serde_json::to_string(value).ok()).unwrap_or_else(|| "{}".to_owned())
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
