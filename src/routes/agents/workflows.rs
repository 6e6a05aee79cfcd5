//! `/api/v1/agents/workflows`.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::routes::words;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        etag::{Etag, IfMatch, IfNoneMatch, Tagged},
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_orchestration::{
    model::VerificationLevel,
    workflows::{Change, Draft, Filter, Workflow, etag_of},
};

/// A workflow to be made. Fields that are not named here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WorkflowCreate {
    /// 1 to 100 characters.
    #[schema(max_length = 100, example = "Price scan")]
    name: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// Step key to step: `name`, `step_type`, `action`, `input_mappings`, `output_mappings`, `depends_on`,
    /// `timeout_seconds`, `retry_policy`, `max_retries`, `requires_proof`, `verification_level`, `model_requirements`.
    #[schema(value_type = Object, example = json!({"double": {"step_type": "data_processing", "action": {"kind": "jq", "program": ".x * 2"}}}))]
    steps: Map<String, Value>,
    /// Step key to the keys it waits for; says the same as `depends_on` in the steps.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    dependencies: Map<String, Value>,
    /// Seconds a run may take; 0: no limit.
    #[serde(default = "default_seconds")]
    #[schema(default = 3600)]
    max_execution_time: i64,
    /// What a run may cost; 0: no limit.
    #[serde(default)]
    max_cost_budget: f64,
    /// Is a run's verification part of its result?
    #[serde(default = "default_true")]
    #[schema(default = true)]
    requires_verification: bool,
    /// How thoroughly results are checked.
    #[serde(default = "default_level")]
    verification_level: VerificationLevel,
    /// Words to find it by.
    #[serde(default)]
    tags: Vec<String>,
    /// May everybody read and run it?
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

/// What to change of a workflow; what is left out or null stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WorkflowUpdate {
    /// 1 to 100 characters.
    name: Option<String>,
    /// For people.
    description: Option<String>,
    /// All steps anew.
    #[schema(value_type = Option<Object>)]
    steps: Option<Map<String, Value>>,
    /// All dependencies anew.
    #[schema(value_type = Option<Object>)]
    dependencies: Option<Map<String, Value>>,
    /// Seconds a run may take; 0: no limit.
    max_execution_time: Option<i64>,
    /// What a run may cost; 0: no limit.
    max_cost_budget: Option<f64>,
    /// Is a run's verification part of its result?
    requires_verification: Option<bool>,
    /// How thoroughly results are checked.
    verification_level: Option<VerificationLevel>,
    /// All tags anew.
    tags: Option<Vec<String>>,
    /// May everybody read and run it?
    is_public: Option<bool>,
}

/// A workflow as it is answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Workflow)]
pub struct WorkflowShape {
    /// `agent_` and hex digits.
    id: String,
    /// The owner's principal.
    owner_id: String,
    name: String,
    description: String,
    #[schema(value_type = Object)]
    steps: Value,
    #[schema(value_type = Object)]
    dependencies: Value,
    max_execution_time: i64,
    max_cost_budget: f64,
    requires_verification: bool,
    verification_level: VerificationLevel,
    /// A JSON list as text, or empty.
    tags: String,
    version: String,
    is_public: bool,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    updated_at: String,
}

/// The workflow with its version, which its JSON says.
fn tagged(workflow: &Workflow, known: IfNoneMatch) -> Result<Response, ApiError> {
    let json = serde_json::to_vec(workflow).map_err(ApiError::internal)?;
    let tag = Etag::of(&[&etag_of(&json)]);
    Ok(Tagged(tag, known, ([(header::CONTENT_TYPE, "application/json")], json)).into_response())
}

/// Make a workflow
///
/// Everything in it is checked now: step types, actions, jq programs, mappings, dependencies. With an
/// `Idempotency-Key` it is made once.
#[utoipa::path(
    post, path = "/api/v1/agents/workflows", tag = "agents", request_body = WorkflowCreate,
    responses((status = 200, body = WorkflowShape), (status = 422, description = "Each fault with its path"))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<WorkflowCreate>,
) -> Result<Response, ApiError> {
    let body = request.body;
    let draft = Draft {
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
    let done = app.workflows.create(&(&caller.0).into(), draft, request.once).await?;
    Ok(Replayable(tagged(&done.value, IfNoneMatch::default())?, done.replayed).into_response())
}

/// Which workflows to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only this owner's.
    owner_id: Option<String>,
    /// Only public, or only private ones.
    is_public: Option<bool>,
    /// Only those with all of these tags: a JSON list, or commas between them.
    tags: Option<String>,
}

/// List workflows
///
/// The caller's own and the public ones, newest first. `X-Total-Count` counts them, `Link` leads to the next page.
#[utoipa::path(
    get, path = "/api/v1/agents/workflows", tag = "agents", params(ListQuery, PageQuery),
    responses((status = 200, body = Vec<WorkflowShape>))
)]
pub async fn list(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<ListQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let owner = query.owner_id.map(|owner| app.shared.keyring.forms_of(&caller.0, &owner));
    let filter =
        Filter { owner, is_public: query.is_public, tags: query.tags.as_deref().map(words).unwrap_or_default(), page };
    let (rows, total) = app.workflows.list(&(&caller.0).into(), &filter).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.answer(&filter.page, &rows, total as u64, last))
}

/// One workflow
#[utoipa::path(
    get, path = "/api/v1/agents/workflows/{workflow_id}", tag = "agents", params(("workflow_id" = String, Path)),
    responses((status = 200, body = WorkflowShape), (status = 304), (status = 403), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    known: IfNoneMatch,
) -> Result<Response, ApiError> {
    tagged(&app.workflows.get(&(&caller.0).into(), &id).await?, known)
}

/// Change a workflow
///
/// Only its owner may. With `If-Match` only the version that was read is changed (412 otherwise). Runs that are under
/// way keep the definition they were started with.
#[utoipa::path(
    put, path = "/api/v1/agents/workflows/{workflow_id}", tag = "agents", params(("workflow_id" = String, Path)),
    request_body = WorkflowUpdate,
    responses((status = 200, body = WorkflowShape), (status = 403), (status = 404), (status = 412), (status = 422))
)]
pub async fn update(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    condition: IfMatch,
    Json(body): Json<WorkflowUpdate>,
) -> Result<Response, ApiError> {
    let change = Change {
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
    let expected = move |version: &str| condition.allows(&Etag::of(&[version]));
    let workflow = app.workflows.update(&(&caller.0).into(), &id, change, expected).await?;
    tagged(&workflow, IfNoneMatch::default())
}

/// That something was deleted.
#[derive(Serialize, ToSchema)]
pub struct Deleted {
    /// In words.
    message: &'static str,
    /// What.
    id: String,
}

/// Delete a workflow
///
/// Only its owner may; 409 while executions of it are under way. Past executions stay.
#[utoipa::path(
    delete, path = "/api/v1/agents/workflows/{workflow_id}", tag = "agents", params(("workflow_id" = String, Path)),
    responses((status = 200, body = Deleted), (status = 403), (status = 404), (status = 409), (status = 412))
)]
pub async fn delete(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    condition: IfMatch,
) -> Result<Json<Deleted>, ApiError> {
    let expected = move |version: &str| condition.allows(&Etag::of(&[version]));
    app.workflows.delete(&(&caller.0).into(), &id, expected).await?;
    Ok(Json(Deleted { message: "Workflow deleted successfully", id }))
}
