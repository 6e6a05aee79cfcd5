//! `/api/v1/agents/plans`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{WaitQuery, executions::ExecutionDocument};
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        context::RequestContextExtractor,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        openapi::LastEventIdHeader,
        pagination::{PageQuery, Paginator},
    },
    routes::stream::{EventPage, EventsQuery, EventsRequest},
};
use am_core::{
    ids::{ExecutionId, PlanId},
    money::Money,
};
use am_db::{codec::Timestamp, idempotency::IdempotentResult};
use am_orchestration::{
    agents::{GpuTier, TaskType},
    plans::{
        DecompositionStrategy, PlanChange, PlanDraft, PlanExecution, PlanFilter, PlanPriority, PlanStanding,
        PlanStatus, StrategyStats, SubTaskDraft, TaskPlan,
    },
};

/// A sub-task of a plan to create.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SubTaskCreate {
    /// Key of the sub-task in the plan. Default: its type, with a number where there are several. Also taken as `id`
    /// and `sub_task_id`.
    #[serde(alias = "id", alias = "sub_task_id")]
    key: Option<String>,
    /// Name, for people. Default: the key.
    name: Option<String>,
    /// Type of the task; only agents with this capability get it.
    task_type: TaskType,
    /// Weakest GPU that will do; null: none is needed.
    gpu_tier: Option<GpuTier>,
    /// Only agents of this type get it; null: any.
    agent_type: Option<String>,
    /// Payload for the agent, beside its input. Texts that begin with `$.` are paths into the plan's inputs and
    /// results.
    #[schema(value_type = Option<Object>)]
    payload: Option<Map<String, Value>>,
    /// Keys of the sub-tasks that must complete before. Where no sub-task has it, the strategy decides. Also taken as
    /// `dependencies`.
    #[serde(alias = "dependencies")]
    depends_on: Option<Vec<String>>,
    /// Estimated duration in seconds; null: unknown.
    estimated_seconds: Option<f64>,
    /// Most that the sub-task may cost, in AITBC tokens; null: no limit.
    max_price: Option<Money>,
    /// Seconds after which the sub-task fails, the wait for an agent included. Default 300.
    timeout_seconds: Option<u64>,
}

/// A plan to create. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PlanCreate {
    /// Name, 1 to 200 characters.
    name: String,
    /// Description, for people. Where neither `sub_tasks` nor `task_types` are given, the sub-tasks are derived from
    /// its words.
    description: Option<String>,
    /// How the task is split. Default `given` where sub-tasks have `depends_on`, else `adaptive`.
    strategy: Option<DecompositionStrategy>,
    /// Sub-tasks, at most 100.
    sub_tasks: Option<Vec<SubTaskCreate>>,
    /// Types of tasks, one sub-task each; instead of `sub_tasks`.
    task_types: Option<Vec<TaskType>>,
    /// Inputs of the plan, which sub-tasks read as `$.inputs`. Default: none.
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// Priority of the plan's sub-tasks. Default `normal`.
    priority: Option<PlanPriority>,
    /// Cost limit in AITBC tokens. Default 0: none.
    max_cost_budget: Option<Money>,
    /// When the plan must be done (RFC 3339); null: no deadline.
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

/// Create a plan
///
/// The task is split into sub-tasks and stages, and agents are chosen for an estimate; nothing is executed. A
/// sub-task without an agent has the reason in `assignments`.
#[utoipa::path(
    post, path = "/api/v1/agents/plans", operation_id = "plans_create", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = PlanCreate,
    responses((status = 201, body = TaskPlan, description = "The plan"))
)]
pub async fn create_plan(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<PlanCreate>,
) -> Result<IdempotentCreated<TaskPlan>, ApiError> {
    let body = request.body;
    let draft = PlanDraft {
        name: body.name,
        description: body.description.unwrap_or_default(),
        strategy: body.strategy,
        sub_tasks: body.sub_tasks.unwrap_or_default().into_iter().map(SubTaskDraft::from).collect(),
        task_types: body.task_types.unwrap_or_default(),
        inputs: body.inputs.unwrap_or_default(),
        priority: body.priority.unwrap_or(PlanPriority::Normal),
        max_cost_budget: body.max_cost_budget.unwrap_or_default(),
        deadline: body.deadline,
    };
    Ok(IdempotentCreated(app.plans.create(&caller, draft, request.once).await?))
}

/// Filter of plans.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PlansQuery {
    /// Only plans in these statuses, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<PlanStatus>>, style = Form, explode = false)]
    status: Vec<PlanStatus>,
    /// Only plans that were split by this strategy.
    strategy: Option<DecompositionStrategy>,
}

/// List plans
///
/// The caller's own, the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/plans", operation_id = "plans_list", tag = "plans", security(("ApiKey" = ["admin"])),
    params(PlansQuery, PageQuery),
    responses((status = 200, body = Vec<TaskPlan>, description = "A page of plans, the newest first"))
)]
pub async fn list_plans(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<PlansQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = PlanFilter { status: query.status, strategy: query.strategy, page: paging.page.clone() };
    let found = app.plans.list(&caller, &filter).await?;
    Ok(paging.answer(found, |plan| (plan.created_at, &plan.id)))
}

/// Get a plan with the progress of its sub-tasks
///
/// Each with its status, agent, result and every attempt.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/{plan_id}", operation_id = "plans_get", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits")),
    responses(
        (status = 200, body = PlanStanding, description = "The plan with the progress of its sub-tasks"),
        (status = 404, description = "The caller has no plan of this id"),
    )
)]
pub async fn get_plan(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<PlanId>,
) -> Result<JsonBody<PlanStanding>, ApiError> {
    Ok(JsonBody(app.plans.standing(&caller, &id).await?))
}

/// Get the status of a plan
///
/// The same document as the plan's own.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/{plan_id}/status", operation_id = "plans_get_status", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits")),
    responses(
        (status = 200, body = PlanStanding, description = "The plan with the progress of its sub-tasks"),
        (status = 404, description = "The caller has no plan of this id"),
    )
)]
pub async fn get_plan_status(
    state: State<App>,
    caller: AdminKey,
    id: PathParams<PlanId>,
) -> Result<JsonBody<PlanStanding>, ApiError> {
    get_plan(state, caller, id).await
}

/// Settings of a plan's execution.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct PlanExecute {
    /// Whether to start although no registered agent can do some sub-task, which then waits until its timeout.
    /// Default false.
    wait_for_agents: Option<bool>,
}

/// Execute a plan
///
/// Answers as an execution does. A plan is executed once; again answers the same execution.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/{plan_id}/execute", operation_id = "plans_execute", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(
        ("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits"),
        WaitQuery,
        IdempotencyHeader,
    ),
    request_body = Option<PlanExecute>,
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution of the plan, as it is stored or, with `wait`, as it is when the wait ends"),
        (status = 400, description = "The plan is cancelled, or its deadline is over (`invalid_state`)"),
        (status = 404, description = "The caller has no plan of this id"),
        (status = 409, description = "No registered agent can do a sub-task, or as many plans run as may (`PLANS_MAX_RUNNING`)"),
    )
)]
pub async fn execute_plan(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<PlanId>,
    QueryParams(wait): QueryParams<WaitQuery>,
    context: RequestContextExtractor,
    request: IdempotentJson<Option<PlanExecute>>,
) -> Result<IdempotentOk<ExecutionDocument>, ApiError> {
    let wait = wait.of(&app)?;
    let asked = PlanExecution {
        wait_for_agents: request.body.unwrap_or_default().wait_for_agents.unwrap_or(false),
        trace_id: Some(context.trace_id()),
        wait,
    };
    let done = app.plans.execute(&caller, &id, asked, request.once).await?;
    Ok(IdempotentOk(done.map(ExecutionDocument::from)))
}

/// The result of cancelling or retrying a plan.
#[derive(Serialize, ToSchema)]
pub struct PlanChanged {
    /// What was done, in words.
    message: &'static str,
    /// Id of the plan.
    plan_id: PlanId,
    /// Id of the plan's execution; null: it was not executed.
    execution_id: Option<ExecutionId>,
    /// Status of the plan afterwards.
    status: PlanStatus,
}

fn change_response(message: &'static str, done: IdempotentResult<PlanChange>) -> IdempotentOk<PlanChanged> {
    IdempotentOk(done.map(|changed| {
        let PlanChange { plan_id, execution_id, status } = changed;
        PlanChanged { message, plan_id, execution_id, status }
    }))
}

/// Cancel a plan
///
/// Its agents are notified, and may take other work.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/{plan_id}/cancel", operation_id = "plans_cancel", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(
        ("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = PlanChanged, description = "The plan's new status"),
        (status = 400, description = "The plan has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no plan of this id"),
        (status = 409, description = "The execution changed at the same moment (`changed_meanwhile`)"),
    )
)]
pub async fn cancel_plan(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<PlanId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<PlanChanged>, ApiError> {
    Ok(change_response("Plan cancelled", app.plans.cancel(&caller, &id, request.once).await?))
}

/// Retry a failed plan from the failed sub-task
///
/// Completed sub-tasks are not run again.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/{plan_id}/retry", operation_id = "plans_retry", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(
        ("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = PlanChanged, description = "The plan's new status"),
        (status = 400, description = "The plan has not failed (`invalid_state`)"),
        (status = 404, description = "The caller has no plan of this id"),
        (status = 409, description = "As many plans run as may (`PLANS_MAX_RUNNING`)"),
    )
)]
pub async fn retry_plan(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<PlanId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<PlanChanged>, ApiError> {
    Ok(change_response("Plan retried", app.plans.retry(&caller, &id, request.once).await?))
}

/// A page of the events of a plan's run.
#[derive(Serialize, ToSchema)]
pub struct PlanEvents {
    /// Id of the plan.
    plan_id: PlanId,
    /// Id of the plan's execution.
    execution_id: ExecutionId,
    #[serde(flatten)]
    page: EventPage,
}

/// List or follow the events of a plan
///
/// The events of its execution; also assignments, their acceptance, progress and loss.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/{plan_id}/events", operation_id = "plans_list_events", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(
        ("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits"),
        EventsQuery,
        LastEventIdHeader,
    ),
    responses(
        (status = 200, content((PlanEvents = "application/json"), (String = "text/event-stream")), description = "A page of events, or a stream of Server-Sent Events that ends with the plan's execution"),
        (status = 204, description = "The stream has ended, and the client has its last event: nothing will follow"),
        (status = 400, description = "The plan was not executed yet (`invalid_state`)"),
        (status = 404, description = "The caller has no plan of this id"),
    )
)]
pub async fn stream_plan_events(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<PlanId>,
    asked: EventsRequest,
) -> Result<Response, ApiError> {
    let plan = app.plans.get(&caller, &id).await?;
    let Some(execution_id) = plan.execution_id else {
        return Err(ApiError::bad_request("Plan has no events: it was not executed").code("invalid_state"));
    };
    let first = app.executions.events(&caller, &execution_id, asked.after(), asked.limit()).await?;
    let follower = app.executions.follow(&execution_id, asked.after());
    asked.answer(first, |page| PlanEvents { plan_id: id, execution_id, page }, follower).await
}

/// Counts of the caller's plans.
#[derive(Serialize, ToSchema)]
pub struct PlanMetrics {
    /// Number of plans.
    plans: i64,
    /// Number of plans that run.
    running: i64,
    /// Number of completed plans.
    completed: i64,
    /// Number of failed plans.
    failed: i64,
    /// Number of cancelled plans.
    cancelled: i64,
    /// Completed plans as a share of completed and failed ones, 0 to 1; null: none has ended.
    success_rate: Option<f64>,
    /// Most plans that may run at once, of all callers together (`PLANS_MAX_RUNNING`).
    max_running: i64,
    /// The same counts, and means, by strategy.
    by_strategy: Vec<StrategyStats>,
}

/// Get counts and means of plans
///
/// The caller's plans, by strategy, counted from their executions.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/metrics", operation_id = "plans_get_metrics", tag = "plans",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = PlanMetrics, description = "Counts and means of the caller's plans"))
)]
pub async fn get_plan_metrics(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
) -> Result<JsonBody<PlanMetrics>, ApiError> {
    let by_strategy = app.plans.measured(&caller).await?;
    let sum = |of: fn(&StrategyStats) -> i64| by_strategy.iter().map(of).sum::<i64>();
    let (completed, failed) = (sum(|one| one.completed), sum(|one| one.failed));
    Ok(JsonBody(PlanMetrics {
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
