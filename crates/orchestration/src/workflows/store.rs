//! Tables `ai_agent_workflows` and `agent_steps`.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use sqlx::QueryBuilder;

use super::model::{Filter, Workflow};
use crate::{
    definition::Plan,
    error::{Result, unreadable},
    model::VerificationLevel,
};
use am_core::ambient::Ids;
use am_db::{
    Connection, Db, Tx,
    batch::Batch,
    codec::{Doc, Timestamp},
    principal::Principal,
    rows::{Insert, Rows},
};

const COLUMNS: &str = "id, owner_id, name, description, steps, dependencies, max_execution_time, max_cost_budget, \
     requires_verification, verification_level, tags, version, is_public, created_at, updated_at";

/// [`COLUMNS`], as they are read.
const READ: &str = concat!(
    "json_array(id, owner_id, name, description, steps, dependencies, max_execution_time, ",
    am_db::exact!("max_cost_budget"),
    ", requires_verification, verification_level, tags, version, is_public, created_at, updated_at)"
);

/// A row as SQLite's `json_array` ([`READ`]): one value, where each of fifteen would be copied on its way from the
/// connection's thread.
#[derive(Deserialize)]
struct Stored<'a>(
    String,
    String,
    String,
    String,
    #[serde(borrow)] Option<Cow<'a, str>>,
    #[serde(borrow)] Option<Cow<'a, str>>,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    String,
    String,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
);

impl Stored<'_> {
    fn workflow(self) -> Result<Workflow> {
        let column = |name: &str| format!("ai_agent_workflows.{name}");
        let document = |text: Option<Cow<'_, str>>, name| match text {
            Some(text) => Doc::from_stored(&text).map_err(|error| unreadable(&column(name), error)),
            None => Ok(Doc::none()),
        };
        let moment = |text: &str, name| Timestamp::from_stored(text).map_err(|error| unreadable(&column(name), error));
        let level = VerificationLevel::from_stored(&self.9);
        Ok(Workflow {
            id: self.0,
            owner_id: self.1,
            name: self.2,
            description: self.3,
            steps: document(self.4, "steps")?.or_object(),
            dependencies: document(self.5, "dependencies")?.or_object(),
            max_execution_time: self.6,
            max_cost_budget: self.7.parse::<f64>().map_err(|error| unreadable(&column("max_cost_budget"), error))?,
            requires_verification: self.8 != 0,
            verification_level: level.ok_or_else(|| unreadable(&column("verification_level"), self.9))?,
            tags: self.10,
            version: self.11,
            is_public: self.12 != 0,
            created_at: moment(&self.13, "created_at")?,
            updated_at: moment(&self.14, "updated_at")?,
        })
    }
}

static WORKFLOWS: Insert = Insert::into("ai_agent_workflows", COLUMNS);
static STEPS: Insert = Insert::into(
    "agent_steps",
    "id, workflow_id, step_order, name, step_type, model_requirements, input_mappings, output_mappings, timeout_seconds, \
     retry_policy, max_retries, requires_proof, verification_level, depends_on, created_at, updated_at",
);

/// A new workflow and its steps, as the coordinator keeps them. An id that is taken is a duplicate.
pub fn rows(workflow: &Workflow, plan: &Plan, ids: &Ids) -> Rows {
    let mut rows = Rows::default();
    rows.push(&WORKFLOWS, |row| {
        row.put(&workflow.id).put(&workflow.owner_id).put(&workflow.name).put(&workflow.description);
        row.put(&workflow.steps).put(&workflow.dependencies);
        row.put(workflow.max_execution_time).put(workflow.max_cost_budget).put(workflow.requires_verification);
        row.put(workflow.verification_level.stored()).put(&workflow.tags).put(&workflow.version);
        row.put(workflow.is_public).put(workflow.created_at).put(workflow.updated_at);
    });
    push_steps(&mut rows, workflow, plan, ids);
    rows
}

/// One workflow.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Workflow>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(READ).push(" FROM ai_agent_workflows WHERE id = ").push_bind(id);
    let row: Option<String> = query.build_query_scalar().fetch_optional(conn).await?;
    row.map(|json| serde_json::from_str::<Stored>(&json)?.workflow()).transpose()
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
    let mut query = QueryBuilder::<Db>::new("SELECT (SELECT count(*) FROM ai_agent_workflows");
    push_filter(&mut query, reader, filter);
    query.push("), json_group_array(").push(READ).push(") FROM (SELECT ").push(COLUMNS);
    query.push(" FROM ai_agent_workflows");
    push_filter(&mut query, reader, filter);
    filter.page.push(&mut query, "");
    query.push(")");
    let (total, json): (i64, String) = query.build_query_as().fetch_one(conn).await?;
    let rows: Vec<Stored> = serde_json::from_str(&json)?;
    Ok((rows.into_iter().map(Stored::workflow).collect::<Result<_>>()?, total))
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
    sqlx::query("DELETE FROM agent_steps WHERE workflow_id = ?1").bind(&workflow.id).execute(tx.conn().await?).await?;
    let mut rows = Rows::default();
    push_steps(&mut rows, workflow, plan, ids);
    Ok(rows.execute(tx).await?)
}

fn push_steps(rows: &mut Rows, workflow: &Workflow, plan: &Plan, ids: &Ids) {
    for (step, at) in plan.steps.iter().zip(0i64..) {
        let depends_on: Vec<&str> = step.depends_on.iter().map(|other| plan.steps[*other].key.as_str()).collect();
        rows.push(&STEPS, |row| {
            row.put(&ids.next("step_", 8)).put(&workflow.id).put(at).put(&step.name).put(step.step_type.stored());
            row.put(&object(step.raw.model_requirements.as_ref())).put(&object(step.raw.input_mappings.as_ref()));
            row.put(&object(step.raw.output_mappings.as_ref())).put(step.timeout.as_secs() as i64);
            row.put(&object(step.raw.retry_policy.as_ref())).put(i64::from(step.max_retries)).put(step.requires_proof);
            row.put(step.verification_level.unwrap_or(VerificationLevel::Basic).stored());
            row.put(&object(Some(&depends_on))).put(workflow.updated_at).put(workflow.updated_at);
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
