//! `/api/v1/agents/registry`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::assignments::AssignmentDocument;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
    routes::stream::{Asked, EventsQuery, Page},
};
use am_db::{
    codec::{Doc, Timestamp},
    owner::Owner,
    principal::Principal,
};
use am_orchestration::registry::{
    AgentStatus, Beat, Change, Draft, Filter, GpuTier, Known, OfflineReason, Source, TaskType, Utilisation,
};

/// An agent to be registered. Fields that are not named here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AgentRegister {
    /// 1 to 128 letters, digits, `.`, `_`, `:` and `-`.
    agent_id: String,
    /// The types of tasks that it does; at least one. Also taken as `supported_task_types`.
    #[serde(alias = "supported_task_types", alias = "task_types")]
    capabilities: Vec<TaskType>,
    /// Default worker.
    agent_type: Option<String>,
    /// For people.
    description: Option<String>,
    /// Default cpu_only.
    gpu_tier: Option<GpuTier>,
    /// Tasks it takes at once, 1 to 1000; default 1.
    max_concurrent_tasks: Option<i64>,
    /// How quick it says it is, 0 to 1; default 0.5. Counts until enough was measured.
    performance: Option<f64>,
    /// How reliable it says it is, 0 to 1; default 0.5. Counts until enough was measured.
    reliability: Option<f64>,
    /// What an hour of it costs; default 0.
    cost_per_hour: Option<f64>,
    /// Where it is called; without one it is told by message, or asks for its assignments.
    #[serde(alias = "endpoint")]
    endpoint_url: Option<String>,
    /// At most 16 KB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// What of an agent's entry to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentUpdate {
    #[serde(alias = "supported_task_types", alias = "task_types")]
    capabilities: Option<Vec<TaskType>>,
    agent_type: Option<String>,
    description: Option<String>,
    gpu_tier: Option<GpuTier>,
    max_concurrent_tasks: Option<i64>,
    performance: Option<f64>,
    reliability: Option<f64>,
    cost_per_hour: Option<f64>,
    /// The empty text takes it away.
    endpoint_url: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A figure, and where it comes from.
#[derive(Serialize, ToSchema)]
pub struct Figure {
    /// 0 to 1.
    value: f64,
    /// `claimed` at registration, `reported` with a heartbeat, or `measured` from assignments that have ended.
    source: Source,
}

/// An agent of the registry.
#[derive(Serialize, ToSchema)]
pub struct RegisteredAgent {
    agent_id: String,
    owner_id: String,
    agent_type: String,
    description: String,
    /// Types of tasks that it does.
    capabilities: Vec<TaskType>,
    gpu_tier: GpuTier,
    max_concurrent_tasks: i64,
    performance: Figure,
    reliability: Figure,
    cost_per_hour: f64,
    /// Is it called at an address of its own?
    has_endpoint: bool,
    /// That address; shown to its owner alone.
    endpoint_url: Option<String>,
    #[schema(value_type = Object)]
    metadata: Doc,
    status: AgentStatus,
    /// silent: no heartbeat came for too long; requested.
    offline_reason: Option<OfflineReason>,
    #[schema(value_type = String)]
    last_seen: Timestamp,
    /// Assignments that it has now.
    open_assignments: i64,
    /// Those as a share of what it takes, or what it reported, if that is more.
    load: f64,
    reported_load: Option<f64>,
    /// 0 to 1: its reliability, less the longer it is silent; 0 when it is offline.
    health_score: f64,
    /// 0.4 performance + 0.3 min(1, 0.05 / cost an hour) + 0.2 reliability + 0.1 (1 - load).
    score: f64,
    /// Attempts at assignments that ended well.
    completed: i64,
    /// That failed.
    failed: i64,
    /// That it lost by going away or not answering.
    lost: i64,
    /// Mean seconds of those that ended well.
    mean_seconds: Option<f64>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl RegisteredAgent {
    fn new(known: Known, reader: &Principal) -> Self {
        let Known { agent, performance, reliability, health, score } = known;
        let (total, load) = (agent.total(), agent.load());
        let figure = |(value, source)| Figure { value, source };
        let mine = reader.owns(&agent.owner_id);
        Self {
            agent_id: agent.id,
            owner_id: Owner::from_stored(&agent.owner_id).into(),
            agent_type: agent.agent_type,
            description: agent.description,
            capabilities: agent.task_types,
            gpu_tier: agent.gpu_tier,
            max_concurrent_tasks: agent.max_concurrent_tasks,
            performance: figure(performance),
            reliability: figure(reliability),
            cost_per_hour: agent.cost_per_hour,
            has_endpoint: agent.endpoint_url.is_some(),
            endpoint_url: agent.endpoint_url.filter(|_| mine),
            metadata: agent.metadata.or_object(),
            status: agent.status,
            offline_reason: agent.offline_reason,
            last_seen: agent.last_seen,
            open_assignments: agent.open,
            load,
            reported_load: agent.reported_load,
            health_score: health,
            score,
            completed: total.completed,
            failed: total.failed,
            lost: total.lost,
            mean_seconds: total.mean(),
            created_at: agent.created_at,
            updated_at: agent.updated_at,
        }
    }
}

fn metadata(members: Option<Map<String, Value>>) -> Result<Doc, ApiError> {
    Doc::of(&members.unwrap_or_default()).map_err(ApiError::internal)
}

/// Register an agent
///
/// Its owner may register it again: the entry is replaced, and the agent is online. Without a heartbeat for
/// `AGENT_OFFLINE_SECONDS` (300) it is offline.
#[utoipa::path(
    post, path = "/api/v1/agents/registry", tag = "agents", request_body = AgentRegister,
    responses((status = 201, body = RegisteredAgent), (status = 409), (status = 422))
)]
pub async fn register(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<AgentRegister>,
) -> Result<Response, ApiError> {
    let (owner, body): (Principal, _) = ((&caller.0).into(), request.body);
    let draft = Draft {
        agent_id: app.shared.keyring.shown(&body.agent_id),
        agent_type: body.agent_type.unwrap_or_else(|| "worker".to_owned()),
        description: body.description.unwrap_or_default(),
        task_types: body.capabilities,
        gpu_tier: body.gpu_tier.unwrap_or(GpuTier::CpuOnly),
        max_concurrent_tasks: body.max_concurrent_tasks.unwrap_or(1),
        performance: body.performance.unwrap_or(0.5),
        reliability: body.reliability.unwrap_or(0.5),
        cost_per_hour: body.cost_per_hour.unwrap_or(0.0),
        endpoint_url: body.endpoint_url.filter(|url| !url.is_empty()),
        metadata: metadata(body.metadata)?,
    };
    let done = app.registry.register(&owner, draft, request.once).await?;
    let known = app.registry.with_measures(done.value).await?;
    let answer = Replayable(Json(RegisteredAgent::new(known, &owner)), done.replayed);
    Ok((StatusCode::CREATED, answer).into_response())
}

/// Which agents to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RegistryQuery {
    /// Only in this state.
    status: Option<AgentStatus>,
    /// Only those that do this.
    task_type: Option<TaskType>,
    /// Only with this GPU.
    gpu_tier: Option<GpuTier>,
    /// Only of this kind.
    agent_type: Option<String>,
}

/// List agents
///
/// Everybody's, newest first, 100 a page.
#[utoipa::path(
    get, path = "/api/v1/agents/registry", tag = "agents", params(RegistryQuery, PageQuery),
    responses((status = 200, body = Vec<RegisteredAgent>))
)]
pub async fn list(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<RegistryQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let RegistryQuery { status, task_type, gpu_tier, agent_type } = query;
    let filter = Filter { status, task_type, gpu_tier, agent_type, page: paging.page(100)? };
    let (rows, total) = app.registry.list(&filter).await?;
    let reader: Principal = (&caller.0).into();
    let last = rows.last().map(|known| (known.agent.created_at, known.agent.id.clone()));
    let rows: Vec<RegisteredAgent> = rows.into_iter().map(|known| RegisteredAgent::new(known, &reader)).collect();
    let last = last.as_ref().map(|(created_at, id)| (*created_at, id.as_str()));
    Ok(paging.answer(&filter.page, &rows, total as u64, last))
}

/// One agent
#[utoipa::path(
    get, path = "/api/v1/agents/registry/{agent_id}", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = RegisteredAgent), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
) -> Result<Json<RegisteredAgent>, ApiError> {
    Ok(Json(RegisteredAgent::new(app.registry.get(&id).await?, &(&caller.0).into())))
}

/// Change an agent's entry
#[utoipa::path(
    put, path = "/api/v1/agents/registry/{agent_id}", tag = "agents", params(("agent_id" = String, Path)),
    request_body = AgentUpdate,
    responses((status = 200, body = RegisteredAgent), (status = 403), (status = 404), (status = 422))
)]
pub async fn update(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Json(body): Json<AgentUpdate>,
) -> Result<Json<RegisteredAgent>, ApiError> {
    let owner: Principal = (&caller.0).into();
    let change = Change {
        agent_type: body.agent_type,
        description: body.description,
        task_types: body.capabilities,
        gpu_tier: body.gpu_tier,
        max_concurrent_tasks: body.max_concurrent_tasks,
        performance: body.performance,
        reliability: body.reliability,
        cost_per_hour: body.cost_per_hour,
        endpoint_url: body.endpoint_url,
        metadata: body.metadata.map(|members| metadata(Some(members))).transpose()?,
    };
    let agent = app.registry.update(&owner, &id, change).await?;
    Ok(Json(RegisteredAgent::new(app.registry.with_measures(agent).await?, &owner)))
}

/// Deregister an agent
///
/// What it has others get. What became of its work is kept.
#[utoipa::path(
    delete, path = "/api/v1/agents/registry/{agent_id}", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 204), (status = 403), (status = 404))
)]
pub async fn deregister(State(app): State<App>, caller: Admin, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.registry.deregister(&(&caller.0).into(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A sign of life.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Heartbeat {
    /// How busy the agent is, 0 to 1, with what this service does not know of as well.
    load: Option<f64>,
    /// What it measured of its speed, 0 to 1.
    performance: Option<f64>,
}

/// What an agent learns by a heartbeat.
#[derive(Serialize, ToSchema)]
pub struct Heard {
    agent_id: String,
    status: AgentStatus,
    #[schema(value_type = String)]
    last_seen: Timestamp,
    /// Seconds in which the next must come.
    offline_after_seconds: f64,
    /// Assignments that it has now.
    open_assignments: i64,
}

/// Say that an agent lives
///
/// Brings back one that had gone silent; not one that was taken offline.
#[utoipa::path(
    post, path = "/api/v1/agents/registry/{agent_id}/heartbeat", tag = "agents", params(("agent_id" = String, Path)),
    request_body = Heartbeat, responses((status = 200, body = Heard), (status = 403), (status = 404), (status = 422))
)]
pub async fn heartbeat(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Heartbeat>>,
) -> Result<Response, ApiError> {
    let body = request.body.unwrap_or_default();
    let beat = Beat { load: body.load, performance: body.performance };
    let done = app.registry.beat(&(&caller.0).into(), &id, beat, request.once).await?;
    let agent = done.value;
    let heard = Heard {
        agent_id: agent.id,
        status: agent.status,
        last_seen: agent.last_seen,
        offline_after_seconds: app.registry.offline_after().as_secs_f64(),
        open_assignments: agent.open,
    };
    Ok(Replayable(Json(heard), done.replayed).into_response())
}

async fn switched(
    app: App,
    caller: Admin,
    id: String,
    online: bool,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let owner: Principal = (&caller.0).into();
    let done = app.registry.switch(&owner, &id, online, request.once).await?;
    let known = app.registry.with_measures(done.value).await?;
    Ok(Replayable(Json(RegisteredAgent::new(known, &owner)), done.replayed).into_response())
}

/// Take an agent offline
///
/// Others get what it has. It stays offline until it is told to be online.
#[utoipa::path(
    post, path = "/api/v1/agents/registry/{agent_id}/offline", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = RegisteredAgent), (status = 400), (status = 403), (status = 404))
)]
pub async fn offline(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    switched(app, caller, id, false, request).await
}

/// Bring an agent back online
#[utoipa::path(
    post, path = "/api/v1/agents/registry/{agent_id}/online", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = RegisteredAgent), (status = 400), (status = 403), (status = 404))
)]
pub async fn online(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    switched(app, caller, id, true, request).await
}

/// What an agent has to do
///
/// Its open assignments, the most urgent first, for its owner. An agent without an endpoint asks here.
#[utoipa::path(
    get, path = "/api/v1/agents/registry/{agent_id}/assignments", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = Vec<AssignmentDocument>), (status = 403), (status = 404))
)]
pub async fn assignments(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
) -> Result<Json<Vec<AssignmentDocument>>, ApiError> {
    let found = app.assignments.of_agent(&(&caller.0).into(), &id).await?;
    Ok(Json(found.into_iter().map(AssignmentDocument::new).collect()))
}

/// How much of what agents offer is taken
///
/// Counted from the assignments that they have.
#[utoipa::path(
    get, path = "/api/v1/agents/registry/utilisation", tag = "agents", responses((status = 200, body = Utilisation))
)]
pub async fn utilisation(State(app): State<App>, _: Admin) -> Result<Json<Utilisation>, ApiError> {
    Ok(Json(app.registry.utilisation().await?))
}

/// The registry's events
///
/// Agents that register, go offline, come back and deregister: a page; or, with `Accept: text/event-stream` or
/// `?format=sse`, a stream of Server-Sent Events without end, which begins again after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/v1/agents/registry/events", tag = "agents", params(EventsQuery),
    responses((status = 200, description = "`text/event-stream`, or a page", body = Page))
)]
pub async fn events(State(app): State<App>, _: Admin, asked: Asked) -> Result<Response, ApiError> {
    let asked = asked.page_by_default();
    let first = app.registry.events(asked.after(), asked.limit()).await?;
    let follower = app.registry.follow(asked.after());
    Ok(asked.answer(first, |page| page, follower))
}
