//! Queries of the tables `ai_agent_workflows` and `agent_steps`.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use super::model::Workflow;
use crate::{definition::ExecutionPlan, error::Result, model::VerificationLevel};
use am_core::{
    ambient::IdGenerator,
    ids::{PrincipalId, StepId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, DatabaseError, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    packed_row, push_row,
    row::{BriefText, ListedRow, OmittedMembers, PackedColumns as _, PackedRow, Truth, whole_number},
    sql,
    statement_batch::StatementBatch,
    update,
};

packed_row! {
    /// A row as one value, where each of fifteen would be copied on its way from the connection's thread.
    pub struct WorkflowRow<'a> {
        id: WorkflowId,
        owner_id: PrincipalId,
        name: String,
        #[serde(borrow)]
        description: BriefText<'a> | "{brief w.description}",
        #[serde(borrow)]
        steps: Option<BriefText<'a>> | "{brief w.steps}",
        #[serde(borrow)]
        dependencies: Option<BriefText<'a>> | "{brief w.dependencies}",
        #[serde(deserialize_with = "whole_number")]
        max_execution_time: i64,
        #[serde(borrow)]
        max_cost_budget: Cow<'a, str> = "{exact max_cost_budget}",
        requires_verification: Truth,
        #[serde(borrow)]
        verification_level: Cow<'a, str>,
        #[serde(borrow)]
        tags: BriefText<'a> | "{brief w.tags}",
        version: String,
        is_public: Truth,
        #[serde(borrow)]
        created_at: Cow<'a, str>,
        #[serde(borrow)]
        updated_at: Cow<'a, str>,
    }
}

impl PackedRow for Workflow {
    type Packed<'a> = WorkflowRow<'a>;

    fn unpack(row: WorkflowRow<'_>) -> am_db::Result<ListedRow<Self>> {
        let fault = |name: &str, error: &dyn std::fmt::Display| {
            DatabaseError::InvalidValue(format!("ai_agent_workflows.{name}: {error}"))
        };
        let mut omitted = OmittedMembers::default();
        let mut document = |text: Option<BriefText<'_>>, name| {
            let text = text.and_then(|text| text.or_omit(name, &mut omitted));
            let document = text.map_or_else(|| Ok(JsonText::none()), |text| JsonText::from_stored(&text));
            document.map(JsonText::or_empty_object).map_err(|error| fault(name, &error))
        };
        let (steps, dependencies) = (document(row.steps, "steps")?, document(row.dependencies, "dependencies")?);
        let description = row.description.or_omit("description", &mut omitted).unwrap_or_default().into_owned();
        let tags = row.tags.or_omit("tags", &mut omitted).unwrap_or_default().into_owned();
        let moment = |text: &str, name| Timestamp::from_stored(text).map_err(|error| fault(name, &error));
        let budget = row.max_cost_budget.parse::<f64>().map_err(|error| fault("max_cost_budget", &error))?;
        let level = VerificationLevel::from_stored(&row.verification_level);
        let row = Self {
            id: row.id,
            owner_id: row.owner_id,
            name: row.name,
            description,
            steps,
            dependencies,
            max_execution_time: row.max_execution_time,
            max_cost_budget: Money::from_f64(budget),
            requires_verification: row.requires_verification.0,
            verification_level: level.ok_or_else(|| fault("verification_level", &row.verification_level))?,
            tags,
            version: row.version,
            is_public: row.is_public.0,
            created_at: moment(&row.created_at, "created_at")?,
            updated_at: moment(&row.updated_at, "updated_at")?,
        };
        Ok(ListedRow { row, omitted })
    }
}

/// Build the rows of a new workflow and its steps, as the coordinator stores them. A used id is reported as a
/// duplicate.
pub fn insert_rows(workflow: &Workflow, plan: &ExecutionPlan, ids: &IdGenerator) -> RowBatch {
    let mut rows = RowBatch::default();
    push_row!(rows, "ai_agent_workflows" {
        id: &workflow.id,
        owner_id: &workflow.owner_id,
        name: &workflow.name,
        description: &workflow.description,
        steps: &workflow.steps,
        dependencies: &workflow.dependencies,
        max_execution_time: workflow.max_execution_time,
        max_cost_budget: workflow.max_cost_budget,
        requires_verification: workflow.requires_verification,
        verification_level: workflow.verification_level,
        tags: &workflow.tags,
        version: &workflow.version,
        is_public: workflow.is_public,
        created_at: workflow.created_at,
        updated_at: workflow.updated_at,
    });
    push_steps(&mut rows, workflow, plan, ids);
    rows
}

/// Read one workflow.
pub async fn get(conn: &mut Connection, id: &WorkflowId) -> Result<Option<Workflow>> {
    let row = sql!("SELECT ", WorkflowRow::PACKED, " FROM ai_agent_workflows WHERE id = $1").bind(id);
    let row: Option<String> = row.fetch_optional_value(conn).await?;
    row.map(|json| Ok(Workflow::unpack(serde_json::from_str(&json)?)?.row)).transpose()
}

/// A workflow of a page that is read from the table itself.
pub(super) struct ListedWorkflowRow;

impl ListedWorkflowRow {
    /// Read a row from its JSON form; its id, too, where it can't be read.
    pub(super) fn read(row: &str) -> (String, Result<ListedRow<Workflow>>) {
        let read = serde_json::from_str(row).map_err(Into::into).and_then(|row| Ok(Workflow::unpack(row)?));
        let id = match &read {
            Ok(listed) => listed.row.id.to_string(),
            Err(_) => {
                let cells: Vec<Value> = serde_json::from_str(row).unwrap_or_default();
                cells.first().and_then(Value::as_str).unwrap_or_default().to_owned()
            }
        };
        (id, read)
    }
}

/// Save every column that can change.
pub async fn update(tx: &mut Tx, workflow: &Workflow) -> Result<()> {
    update!("ai_agent_workflows" {
        name: &workflow.name,
        description: &workflow.description,
        steps: &workflow.steps,
        dependencies: &workflow.dependencies,
        max_execution_time: workflow.max_execution_time,
        max_cost_budget: workflow.max_cost_budget,
        requires_verification: workflow.requires_verification,
        verification_level: workflow.verification_level,
        tags: &workflow.tags,
        is_public: workflow.is_public,
        updated_at: workflow.updated_at,
    } where "id = $1" (&workflow.id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Delete a workflow and its steps.
pub async fn delete(tx: &mut Tx, id: &WorkflowId) -> Result<()> {
    let mut batch = StatementBatch::default();
    let steps = sql!(in &mut batch, "DELETE FROM agent_steps WHERE workflow_id = $1").bind(id);
    batch.add(steps);
    let workflow = sql!(in &mut batch, "DELETE FROM ai_agent_workflows WHERE id = $1").bind(id);
    batch.add(workflow);
    Ok(batch.execute(tx).await?)
}

/// Count the executions by the coordinator that have not ended: those of this service have a definition of their own. They are counted
/// by the list of executions, which has all up to the row `listed`; `None`: in the table, with all of the workflow's executions.
pub async fn open_executions(conn: &mut Connection, workflow_id: &WorkflowId, listed: Option<i64>) -> Result<i64> {
    if let Some(listed) = listed {
        let count = sql!(
            "SELECT (SELECT count(*) FROM am_execution_list l {by am_execution_list_open}
                 WHERE l.status IN ('PENDING', 'RUNNING') AND l.workflow_id = $1
                     AND NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.execution_id = l.id))
             + (SELECT count(*) FROM agent_executions e WHERE {place e} > $2 AND e.workflow_id || '' = $1
                 AND e.status IN ('PENDING', 'RUNNING') AND NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.execution_id = e.id)
                 AND NOT EXISTS (SELECT 1 FROM am_execution_list l WHERE l.id = e.id))"
        );
        return Ok(count.bind(workflow_id).bind(listed).fetch_value(conn).await?);
    }
    let count = sql!(
        "SELECT count(*) FROM agent_executions WHERE workflow_id = $1 AND status IN ('PENDING', 'RUNNING') \
         AND NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.execution_id = agent_executions.id)"
    );
    Ok(count.bind(workflow_id).fetch_value(conn).await?)
}

/// Replace the rows of a workflow's steps. A used id is reported as a duplicate.
pub async fn replace_steps(tx: &mut Tx, workflow: &Workflow, plan: &ExecutionPlan, ids: &IdGenerator) -> Result<()> {
    sql!("DELETE FROM agent_steps WHERE workflow_id = $1").bind(&workflow.id).execute(tx.conn().await?).await?;
    let mut rows = RowBatch::default();
    push_steps(&mut rows, workflow, plan, ids);
    Ok(rows.execute(tx).await?)
}

fn push_steps(rows: &mut RowBatch, workflow: &Workflow, plan: &ExecutionPlan, ids: &IdGenerator) {
    for (step, at) in plan.steps.iter().zip(0i64..) {
        let depends_on: Vec<&str> = step.depends_on.iter().map(|other| plan.steps[*other].key.as_str()).collect();
        push_row!(rows, "agent_steps" {
            id: ids.next("step_", 8),
            workflow_id: &workflow.id,
            step_order: at,
            name: &step.name,
            step_type: step.step_type,
            model_requirements: json_object(step.raw.model_requirements.as_ref()),
            input_mappings: json_object(step.raw.input_mappings.as_ref()),
            output_mappings: json_object(step.raw.output_mappings.as_ref()),
            timeout_seconds: step.timeout.as_secs() as i64,
            retry_policy: json_object(step.raw.retry_policy.as_ref()),
            max_retries: i64::from(step.max_retries),
            requires_proof: step.requires_proof,
            verification_level: step.verification_level.unwrap_or(VerificationLevel::Basic),
            depends_on: json_object(Some(&depends_on)),
            created_at: workflow.updated_at,
            updated_at: workflow.updated_at,
        });
    }
}

/// Serialize as JSON; `{}` without a value.
fn json_object<T: Serialize>(value: Option<&T>) -> String {
    value.and_then(|value| serde_json::to_string(value).ok()).unwrap_or_else(|| "{}".to_owned())
}

/// Read the ids of the steps' rows; a step that the coordinator stored without a row is identified by its key.
pub async fn step_ids(conn: &mut Connection, workflow_id: &WorkflowId, plan: &ExecutionPlan) -> Result<Arc<[StepId]>> {
    let rows = sql!("SELECT step_order, id FROM agent_steps WHERE workflow_id = $1").bind(workflow_id);
    let rows: Vec<(i64, StepId)> = rows.fetch_all(conn).await?;
    let id = |at: usize| rows.iter().find(|(order, _)| *order == at as i64).map(|(_, id)| id.clone());
    Ok(plan.steps.iter().enumerate().map(|(at, step)| id(at).unwrap_or_else(|| step.key.as_str().into())).collect())
}
