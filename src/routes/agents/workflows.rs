//! `/api/v1/agents/workflows`.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::routes::split_words;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams, RequestContext,
        context::RequestContextExtractor,
        etag::{EntityTag, IfMatch, IfNoneMatch, WithEtag},
        idempotency::{IdempotencyHeader, IdempotentJson, WithReplayFlag},
        known_names::IgnoredName,
        openapi::{IfMatchHeader, IfNoneMatchHeader},
        pagination::{ListedDocument, PageQuery, Paginator},
    },
};
use am_core::{
    ids::{PrincipalId, WorkflowId},
    money::Money,
};
use am_orchestration::{
    definition::WorkflowStep,
    model::VerificationLevel,
    workflows::{Workflow, WorkflowChange, WorkflowDraft, WorkflowFilter, etag_of},
};

/// A workflow to create. Members that are not named here are reported in `X-Ignored`, or refused where they look misspelt.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WorkflowCreate {
    /// Name, 1 to 100 characters.
    #[schema(max_length = 100, example = "Price scan")]
    name: String,
    /// Description, for people. Default: empty.
    #[serde(default)]
    description: String,
    /// Steps by key. A list of steps is taken too, where the `step_id` of each, or else its `name`, is its key.
    #[serde(deserialize_with = "super::step_list::steps_by_key")]
    #[schema(value_type = std::collections::BTreeMap<String, WorkflowStep>, example = json!({"double": {"step_type": "data_processing", "action": {"kind": "jq", "program": ".x * 2"}}}))]
    steps: Map<String, Value>,
    /// By step key, the keys of the steps that must complete before; the same as `depends_on` in the steps. Default:
    /// none.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    dependencies: Map<String, Value>,
    /// Time limit of an execution in seconds; 0: none. Default 3600.
    #[serde(default = "default_seconds")]
    #[schema(default = 3600)]
    max_execution_time: i64,
    /// Cost limit of an execution in AITBC tokens; 0: none. Default 0.
    #[serde(default)]
    max_cost_budget: Money,
    /// Whether an execution's verification is part of its result. Default true.
    #[serde(default = "default_true")]
    #[schema(default = true)]
    requires_verification: bool,
    /// How thoroughly results are verified. Default `basic`.
    #[serde(default = "default_level")]
    verification_level: VerificationLevel,
    /// Tags to find the workflow by. Default: none.
    #[serde(default)]
    tags: Vec<String>,
    /// Whether other callers may read and execute it. Default false.
    #[serde(default)]
    is_public: bool,
}

fn default_seconds() -> i64 {
    3600
}

fn default_true() -> bool {
    true
}

fn default_level() -> VerificationLevel {
    VerificationLevel::Basic
}

/// Changes of a workflow. A member that is left out or null keeps its value.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WorkflowUpdate {
    /// Name, 1 to 100 characters.
    name: Option<String>,
    /// Description, for people.
    description: Option<String>,
    /// All steps by key, or as a list; they replace the present ones.
    #[serde(default, deserialize_with = "super::step_list::optional_steps")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, WorkflowStep>>)]
    steps: Option<Map<String, Value>>,
    /// All dependencies by step key; they replace the present ones.
    #[schema(value_type = Option<Object>)]
    dependencies: Option<Map<String, Value>>,
    /// Time limit of an execution in seconds; 0: none.
    max_execution_time: Option<i64>,
    /// Cost limit of an execution in AITBC tokens; 0: none.
    max_cost_budget: Option<Money>,
    /// Whether an execution's verification is part of its result.
    requires_verification: Option<bool>,
    /// How thoroughly results are verified.
    verification_level: Option<VerificationLevel>,
    /// All tags; they replace the present ones.
    tags: Option<Vec<String>>,
    /// Whether other callers may read and execute it.
    is_public: Option<bool>,
}

/// A workflow as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Workflow)]
pub struct WorkflowShape {
    /// Id of the workflow: `agent_` and hexadecimal digits.
    id: WorkflowId,
    /// Principal of the owner.
    owner_id: PrincipalId,
    /// Name of the owner's key, in lists. Left out where no stored key has the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<String>,
    /// Name, 1 to 100 characters.
    name: String,
    /// Description, for people.
    description: String,
    /// Steps by key.
    #[schema(value_type = Object)]
    steps: Value,
    /// By step key, the keys of the steps that must complete before.
    #[schema(value_type = Object)]
    dependencies: Value,
    /// Time limit of an execution in seconds; 0: none.
    max_execution_time: i64,
    /// Cost limit of an execution in AITBC tokens; 0: none.
    max_cost_budget: Money,
    /// Whether an execution's verification is part of its result.
    requires_verification: bool,
    /// How thoroughly results are verified.
    verification_level: VerificationLevel,
    /// Tags: a JSON list as text, or the empty text.
    tags: String,
    /// Version as the coordinator counts it.
    version: String,
    /// Whether other callers may read and execute it.
    is_public: bool,
    /// When the workflow was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the workflow was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// The workflow with its version, which its JSON says.
fn workflow_response(workflow: &Workflow, known: IfNoneMatch) -> Result<Response, ApiError> {
    let json = serde_json::to_vec(workflow).map_err(ApiError::internal)?;
    let tag = EntityTag::from_parts(&[&etag_of(&json)]);
    Ok(WithEtag(tag, known, ([(header::CONTENT_TYPE, "application/json")], json)).into_response())
}

/// Create a workflow
///
/// Everything in it is checked: step types, actions, jq programs, mappings, dependencies.
#[utoipa::path(
    post, path = "/api/v1/agents/workflows", operation_id = "workflows_create", tag = "workflows",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = WorkflowCreate,
    responses(
        (status = 200, body = WorkflowShape, description = "The workflow as it is stored", headers(("ETag" = String, description = "Version of the workflow, for If-Match and If-None-Match"))),
        (status = 403, description = "A security policy refuses it (`policy_violation`)"),
        (status = 422, description = "The definition has faults; `detail` names each with its path"),
    )
)]
pub async fn create_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    context: RequestContextExtractor,
    request: IdempotentJson<WorkflowCreate>,
) -> Result<Response, ApiError> {
    let body = request.body;
    warn_of_no_steps(&context, &body.steps);
    let draft = WorkflowDraft {
        name: body.name,
        description: body.description,
        steps: body.steps,
        dependencies: body.dependencies,
        max_execution_time: body.max_execution_time,
        max_cost_budget: body.max_cost_budget,
        requires_verification: body.requires_verification,
        verification_level: body.verification_level,
        tags: body.tags,
        is_public: body.is_public,
    };
    let done = app.workflows.create(&caller, draft, request.once).await?;
    Ok(WithReplayFlag(workflow_response(&done.value, IfNoneMatch::default())?, done.replayed).into_response())
}

/// The coordinator takes a workflow without steps, so it is no fault; nobody wants one.
fn warn_of_no_steps(context: &RequestContext, steps: &Map<String, Value>) {
    if steps.is_empty() {
        let warning = "`steps` is empty: executions of this workflow end at once and do nothing".to_owned();
        context.note_ignored(vec![IgnoredName { path: "steps".into(), warning: Some(warning) }]);
    }
}

/// A workflow of a list.
type ListedWorkflow = ListedDocument<WorkflowShape>;

/// Filter of workflows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WorkflowsQuery {
    /// Only workflows of this owner.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    owner_id: Option<String>,
    /// Only public workflows, or only private ones.
    is_public: Option<bool>,
    /// Only workflows with all of these tags: a JSON list, or texts separated by commas.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    tags: Option<String>,
}

/// List workflows
///
/// The caller's own and public ones, the newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/workflows", operation_id = "workflows_list", tag = "workflows",
    security(("ApiKey" = ["admin"])),
    params(WorkflowsQuery, PageQuery),
    responses((status = 200, body = Vec<ListedWorkflow>, description = "A page of workflows, the newest first"))
)]
pub async fn list_workflows(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<WorkflowsQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let owner = query.owner_id.map(|owner| app.shared.keyring.owner_forms(&caller, &owner));
    let filter = WorkflowFilter {
        owner,
        is_public: query.is_public,
        tags: query.tags.as_deref().map(split_words).unwrap_or_default(),
        page: paging.page.clone(),
    };
    let found = app.workflows.list(&caller, &filter).await?;
    let key_name = |workflow: &Workflow| app.shared.keyring.key_name(&workflow.owner_id);
    Ok(paging.answer_named(found, |workflow| (workflow.created_at, &workflow.id), key_name, |workflow| workflow))
}

/// Get a workflow
#[utoipa::path(
    get, path = "/api/v1/agents/workflows/{workflow_id}", operation_id = "workflows_get", tag = "workflows",
    security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        IfNoneMatchHeader,
    ),
    responses(
        (status = 200, body = WorkflowShape, description = "The workflow"),
        (status = 304, description = "`If-None-Match` names the present version; the body is empty"),
        (status = 404, description = "No workflow that the caller may see has this id"),
    )
)]
pub async fn get_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    known: IfNoneMatch,
) -> Result<Response, ApiError> {
    workflow_response(&app.workflows.get(&caller, &id).await?, known)
}

/// Change a workflow
///
/// Only its owner may. With `If-Match` only the version that was read is changed. Executions keep the definition they
/// were started with.
#[utoipa::path(
    put, path = "/api/v1/agents/workflows/{workflow_id}", operation_id = "workflows_update", tag = "workflows",
    security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        IfMatchHeader,
    ),
    request_body = WorkflowUpdate,
    responses(
        (status = 200, body = WorkflowShape, description = "The changed workflow", headers(("ETag" = String, description = "Version of the workflow, for If-Match and If-None-Match"))),
        (status = 403, description = "The workflow is another owner's public one, or a security policy refuses it (`policy_violation`)"),
        (status = 404, description = "No workflow that the caller may see has this id"),
        (status = 409, description = "The workflow changed at the same moment"),
        (status = 412, description = "`If-Match` names another version (`precondition_failed`)"),
        (status = 422, description = "The definition has faults; `detail` names each with its path"),
    )
)]
pub async fn update_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    condition: IfMatch,
    context: RequestContextExtractor,
    JsonBody(body): JsonBody<WorkflowUpdate>,
) -> Result<Response, ApiError> {
    if let Some(steps) = &body.steps {
        warn_of_no_steps(&context, steps);
    }
    let change = WorkflowChange {
        name: body.name,
        description: body.description,
        steps: body.steps,
        dependencies: body.dependencies,
        max_execution_time: body.max_execution_time,
        max_cost_budget: body.max_cost_budget,
        requires_verification: body.requires_verification,
        verification_level: body.verification_level,
        tags: body.tags,
        is_public: body.is_public,
    };
    let expected = move |version: &str| condition.allows(&EntityTag::from_parts(&[version]));
    let workflow = app.workflows.update(&caller, &id, change, expected).await?;
    workflow_response(&workflow, IfNoneMatch::default())
}

/// A deleted workflow.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkflowDeleted)]
pub struct WorkflowDeleted {
    /// What was done, in words.
    message: &'static str,
    /// Id of the workflow.
    id: WorkflowId,
}

/// Delete a workflow
///
/// Only its owner may, and not while executions of it run. Past executions stay.
#[utoipa::path(
    delete, path = "/api/v1/agents/workflows/{workflow_id}", operation_id = "workflows_delete", tag = "workflows",
    security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        IfMatchHeader,
    ),
    responses(
        (status = 200, body = WorkflowDeleted, description = "The workflow is deleted"),
        (status = 403, description = "The workflow is another owner's public one"),
        (status = 404, description = "No workflow that the caller may see has this id"),
        (status = 409, description = "Executions of the workflow by the coordinator have not ended"),
        (status = 412, description = "`If-Match` names another version (`precondition_failed`)"),
    )
)]
pub async fn delete_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    condition: IfMatch,
) -> Result<JsonBody<WorkflowDeleted>, ApiError> {
    let expected = move |version: &str| condition.allows(&EntityTag::from_parts(&[version]));
    app.workflows.delete(&caller, &id, expected).await?;
    Ok(JsonBody(WorkflowDeleted { message: "Workflow deleted successfully", id }))
}
