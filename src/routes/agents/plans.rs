//! `/api/v1/agents/plans`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::executions::{ExecutionDocument, WaitQuery, started};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        context::Context,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
    routes::stream::{Asked, EventsQuery, Page},
};
use am_db::{codec::Timestamp, once::Done, principal::Principal};
use am_orchestration::{
    plans::{Changed, Draft, Filter, Measured, Plan, PlanStatus, Priority, Standing, Strategy, SubTaskDraft},
    registry::{GpuTier, TaskType},
};

/// A sub-task to be planned.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SubTaskCreate {
    /// Its name in the plan; default its type.
    #[serde(alias = "id", alias = "sub_task_id")]
    key: Option<String>,
    /// For people.
    name: Option<String>,
    task_type: TaskType,
    /// The weakest GPU that will do.
    gpu_tier: Option<GpuTier>,
    /// Only agents of this kind.
    agent_type: Option<String>,
    /// What its agent gets to know beside its input; texts that begin with `$.` are paths.
    #[schema(value_type = Option<Object>)]
    payload: Option<Map<String, Value>>,
    /// Keys of those it waits for; left out everywhere: the strategy says it.
    #[serde(alias = "dependencies")]
    depends_on: Option<Vec<String>>,
    /// Seconds it is thought to take.
    estimated_seconds: Option<f64>,
    /// The most it may cost.
    max_price: Option<f64>,
    /// Seconds after which it is given up, waiting for an agent included; default 300.
    timeout_seconds: Option<u64>,
}

/// A task to be planned. Fields that are not named here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PlanCreate {
    /// 1 to 200 characters.
    name: String,
    /// For people; where neither sub-tasks nor types are sent its words say what is to be done.
    description: Option<String>,
    /// How it is split: sequential, parallel, hierarchical, pipeline, adaptive (default); given, where sub-tasks say what
    /// they wait for.
    strategy: Option<Strategy>,
    /// At most 100.
    sub_tasks: Option<Vec<SubTaskCreate>>,
    /// Instead of sub-tasks: one is made for each.
    task_types: Option<Vec<TaskType>>,
    /// `$.inputs` of the plan's run.
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// Default normal.
    priority: Option<Priority>,
    /// What it may cost; 0: no limit.
    max_cost_budget: Option<f64>,
    /// When it must be done.
    #[schema(value_type = Option<String>)]
    deadline: Option<Timestamp>,
}

impl From<SubTaskCreate> for SubTaskDraft {
    fn from(body: SubTaskCreate) -> Self {
        Self {
            key: body.key,
            name: body.name,
            task_type: Some(body.task_type),
            gpu_tier: body.gpu_tier,
            agent_type: body.agent_type,
            payload: body.payload.unwrap_or_default(),
            depends_on: body.depends_on,
            estimated_seconds: body.estimated_seconds,
            max_price: body.max_price,
            timeout_seconds: body.timeout_seconds,
        }
    }
}

/// Make a plan
///
/// The task is split, put into stages and planned for the agents that are there; nothing is run. A sub-task for which there
/// is no agent has none in `assignments`, and the reason.
#[utoipa::path(
    post, path = "/api/v1/agents/plans", tag = "agents", request_body = PlanCreate,
    responses((status = 201, body = Object), (status = 422))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<PlanCreate>,
) -> Result<Response, ApiError> {
    let body = request.body;
    let draft = Draft {
        name: body.name,
        description: body.description.unwrap_or_default(),
        strategy: body.strategy,
        sub_tasks: body.sub_tasks.unwrap_or_default().into_iter().map(SubTaskDraft::from).collect(),
        task_types: body.task_types.unwrap_or_default(),
        inputs: body.inputs.unwrap_or_default(),
        priority: body.priority.unwrap_or(Priority::Normal),
        max_cost_budget: body.max_cost_budget.unwrap_or(0.0),
        deadline: body.deadline,
    };
    let done = app.plans.create(&(&caller.0).into(), draft, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// Which plans to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PlansQuery {
    /// Only in this state.
    status: Option<PlanStatus>,
    /// Only those split so.
    strategy: Option<Strategy>,
}

/// List plans
///
/// The caller's own, newest first, 50 a page.
#[utoipa::path(
    get, path = "/api/v1/agents/plans", tag = "agents", params(PlansQuery, PageQuery),
    responses((status = 200, body = Vec<Object>))
)]
pub async fn list(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<PlansQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let filter = Filter { status: query.status, strategy: query.strategy, page: paging.page(50)? };
    let (rows, total) = app.plans.list(&(&caller.0).into(), &filter).await?;
    let last = rows.last().map(|plan: &Plan| (plan.created_at, plan.id.as_str()));
    Ok(paging.answer(&filter.page, &rows, total as u64, last))
}

/// A plan, and how its sub-tasks stand
///
/// Each with its state, its agent, its result, and all attempts at it.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/{plan_id}", tag = "agents", params(("plan_id" = String, Path)),
    responses((status = 200, body = Object), (status = 403), (status = 404))
)]
pub async fn get(State(app): State<App>, caller: Admin, Path(id): Path<String>) -> Result<Json<Standing>, ApiError> {
    Ok(Json(app.plans.standing(&(&caller.0).into(), &id).await?))
}

/// How a plan stands
///
/// The same document as the plan's own.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/{plan_id}/status", tag = "agents", params(("plan_id" = String, Path)),
    responses((status = 200, body = Object), (status = 403), (status = 404))
)]
pub async fn status(state: State<App>, caller: Admin, id: Path<String>) -> Result<Json<Standing>, ApiError> {
    get(state, caller, id).await
}

/// How a plan is to be executed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct PlanExecute {
    /// Begin although nobody who could do a sub-task is registered yet; it waits until its timeout. Default false.
    wait_for_agents: Option<bool>,
}

/// Run a plan
///
/// Answers as an execution does. A plan is run once; asked again it answers the same run. 409 when no registered agent could
/// do a sub-task, and when `PLANS_MAX_RUNNING` (10) plans run.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/{plan_id}/execute", tag = "agents", params(("plan_id" = String, Path), WaitQuery),
    request_body = PlanExecute,
    responses((status = 200, body = ExecutionDocument), (status = 400), (status = 403), (status = 404), (status = 409))
)]
pub async fn execute(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
    context: Context,
    request: KeyedJson<Option<PlanExecute>>,
) -> Result<Response, ApiError> {
    let caller: Principal = (&caller.0).into();
    let wait = wait.of(&app)?;
    let waits = request.body.unwrap_or_default().wait_for_agents.unwrap_or(false);
    let trace = Some(context.trace_id().to_owned());
    let done = app.plans.execute(&caller, &id, waits, trace, request.once).await?;
    started(&app, &caller, done, wait).await
}

/// What was asked of a plan, done.
#[derive(Serialize, ToSchema)]
pub struct PlanChanged {
    /// In words.
    message: &'static str,
    plan_id: String,
    execution_id: Option<String>,
    status: PlanStatus,
}

fn changed(message: &'static str, done: Done<Changed>) -> Response {
    let Changed { plan_id, execution_id, status } = done.value;
    Replayable(Json(PlanChanged { message, plan_id, execution_id, status }), done.replayed).into_response()
}

/// Cancel a plan
///
/// Its agents are told, and have room again. 400 when it has ended.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/{plan_id}/cancel", tag = "agents", params(("plan_id" = String, Path)),
    responses((status = 200, body = PlanChanged), (status = 400), (status = 403), (status = 404))
)]
pub async fn cancel(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed("Plan cancelled", app.plans.cancel(&(&caller.0).into(), &id, request.once).await?))
}

/// Run a failed plan on from the sub-task that failed
///
/// What ended well is not done again. 400 when it has not failed.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/{plan_id}/retry", tag = "agents", params(("plan_id" = String, Path)),
    responses((status = 200, body = PlanChanged), (status = 400), (status = 403), (status = 404), (status = 409))
)]
pub async fn retry(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed("Plan retried", app.plans.retry(&(&caller.0).into(), &id, request.once).await?))
}

/// A page of the events of a plan's run.
#[derive(Serialize, ToSchema)]
pub struct PlanEvents {
    plan_id: String,
    execution_id: String,
    #[serde(flatten)]
    page: Page,
}

/// The events of a plan
///
/// Those of its run: also who got which sub-task, accepted it, how far it is, who lost it. 400 before it is executed.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/{plan_id}/events", tag = "agents", params(("plan_id" = String, Path), EventsQuery),
    responses((status = 200, description = "`text/event-stream`, or a page", body = PlanEvents), (status = 400), (status = 403), (status = 404))
)]
pub async fn events(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let caller: Principal = (&caller.0).into();
    let plan = app.plans.get(&caller, &id).await?;
    let Some(execution_id) = plan.execution_id else {
        return Err(ApiError::bad_request("Plan has no events: it was not executed").code("invalid_state"));
    };
    let first = app.executions.events(&caller, &execution_id, asked.after(), asked.limit()).await?;
    let follower = app.executions.follow(&execution_id, asked.after());
    Ok(asked.answer(first, |page| PlanEvents { plan_id: id, execution_id, page }, follower))
}

/// What became of plans
#[derive(Serialize, ToSchema)]
pub struct PlanMetrics {
    /// The caller's plans.
    plans: i64,
    running: i64,
    completed: i64,
    failed: i64,
    cancelled: i64,
    /// Completed, of those that ended well or badly.
    success_rate: Option<f64>,
    /// Plans that run at once at most, everybody's together.
    max_running: i64,
    by_strategy: Vec<Measured>,
}

/// What became of the caller's plans, by strategy
///
/// Counted from their runs; a mean of nothing is null.
#[utoipa::path(get, path = "/api/v1/agents/plans/metrics", tag = "agents", responses((status = 200, body = PlanMetrics)))]
pub async fn metrics(State(app): State<App>, caller: Admin) -> Result<Json<PlanMetrics>, ApiError> {
    let by_strategy = app.plans.measured(&(&caller.0).into()).await?;
    let sum = |of: fn(&Measured) -> i64| by_strategy.iter().map(of).sum::<i64>();
    let (completed, failed) = (sum(|one| one.completed), sum(|one| one.failed));
    Ok(Json(PlanMetrics {
        plans: sum(|one| one.plans),
        running: sum(|one| one.running),
        completed,
        failed,
        cancelled: sum(|one| one.cancelled),
        success_rate: (completed + failed > 0).then(|| completed as f64 / (completed + failed) as f64),
        max_running: app.shared.config.agents.plans_max_running,
        by_strategy,
    }))
}
