//! `/api/v1/agents/performance/suites` and `evaluations`: cases that are run against workflows and policies, and gates of aliases.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        openapi::routes,
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::{AliasGateId, EvaluationId, SuiteId};
use am_db::codec::Timestamp;
use am_performance::{
    PerformanceCaller,
    suites::{
        EvaluationComparison, EvaluationDocument, EvaluationDraft, GateDocument, GateDraft, ResultDocument, SuiteCase,
        SuiteDocument, SuiteDraft, SuiteVersionDraft,
    },
};

/// The routes of suites.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create_suite, list_suites))
        .routes(routes!(get_suite))
        .routes(routes!(add_suite_version))
        .routes(routes!(list_suite_cases))
        .routes(routes!(evaluate_suite))
        .routes(routes!(list_evaluations))
        .routes(routes!(add_alias_gate, list_alias_gates))
        .routes(routes!(remove_alias_gate))
        .routes(routes!(get_evaluation))
        .routes(routes!(list_evaluation_results))
        .routes(routes!(compare_evaluations))
        .routes(routes!(cancel_evaluation))
}

fn performance_caller(caller: ApiCaller) -> PerformanceCaller {
    PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}

/// The page of a list, with how many there are.
fn page_of<T: Serialize, const DEFAULT: u32>(
    paging: &Paginator<DEFAULT>,
    (rows, total): (Vec<T>, i64),
    place: impl Fn(&T) -> (Timestamp, String),
) -> Response {
    let last = paging.last_of(&rows).map(place);
    let next = last.as_ref().map(|(at, id)| (*at, id.as_str()));
    paging.respond_partial(&rows, Some(total.cast_unsigned()), next)
}

/// Make an evaluation suite
///
/// A suite is a set of cases: inputs of a run, and what is expected of its output or how it is checked. Its versions never change.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/suites", operation_id = "suites_create", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body(content = SuiteDraft, example = json!({
        "name": "sums", "description": "adds two numbers", "cases": [
            {"name": "small", "input": {"a": 1, "b": 2}, "expected": 3},
            {"name": "halves", "input": {"a": 0.1, "b": 0.2}, "check": {"kind": "number", "value": 0.3, "tolerance": 1e-9}, "weight": 2},
        ],
    })),
    responses(
        (status = 201, body = SuiteDocument, description = "The suite with its first version"),
        (status = 409, description = "The caller has a suite of this name (`name_taken`)"),
    )
)]
pub async fn create_suite(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<SuiteDraft>,
) -> Result<IdempotentCreated<SuiteDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentCreated(app.performance.suites.create(&caller, request.body, request.once).await?))
}

/// List the caller's suites
///
/// The newest first, 50 on a page; an admin sees everybody's, which are not counted.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/suites", operation_id = "suites_list", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(PageQuery),
    responses((status = 200, body = Vec<SuiteDocument>, description = "A page of suites with their newest versions, the newest first"))
)]
pub async fn list_suites(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let (rows, total) = app.performance.suites.list(&performance_caller(caller), &paging.page).await?;
    let last = paging.last_of(&rows).map(|suite| (suite.created_at, suite.id.as_str()));
    Ok(paging.respond_partial(&rows, total.map(i64::cast_unsigned), last))
}

/// Which version of a suite.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SuiteVersionQuery {
    /// Number of the version. Default: the newest.
    version: Option<i64>,
}

/// Get a suite
#[utoipa::path(
    get, path = "/api/v1/agents/performance/suites/{suite_id}", operation_id = "suites_get", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), SuiteVersionQuery),
    responses(
        (status = 200, body = SuiteDocument, description = "The suite with this version"),
        (status = 404, description = "The caller has no such suite, or it has no such version"),
    )
)]
pub async fn get_suite(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    QueryParams(query): QueryParams<SuiteVersionQuery>,
) -> Result<JsonBody<SuiteDocument>, ApiError> {
    Ok(JsonBody(app.performance.suites.get(&performance_caller(caller), &id, query.version).await?))
}

/// Add a version to a suite
#[utoipa::path(
    post, path = "/api/v1/agents/performance/suites/{suite_id}/versions", operation_id = "suites_add_version",
    tag = "suites", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), IdempotencyHeader),
    request_body = SuiteVersionDraft,
    responses(
        (status = 201, body = SuiteDocument, description = "The suite with its new version"),
        (status = 404, description = "The caller has no such suite"),
    )
)]
pub async fn add_suite_version(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    request: IdempotentJson<SuiteVersionDraft>,
) -> Result<IdempotentCreated<SuiteDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentCreated(app.performance.suites.add_version(&caller, &id, request.body, request.once).await?))
}

/// List the cases of a suite
///
/// 100 on a page, the last first unless `order=asc`.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/suites/{suite_id}/cases", operation_id = "suites_list_cases", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), SuiteVersionQuery, PageQuery),
    responses(
        (status = 200, body = Vec<SuiteCase>, description = "A page of cases"),
        (status = 404, description = "The caller has no such suite, or it has no such version"),
    )
)]
pub async fn list_suite_cases(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    QueryParams(query): QueryParams<SuiteVersionQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let version = (&id, query.version);
    let found = app.performance.suites.cases(&performance_caller(caller), version, &paging.page).await?;
    Ok(page_of(&paging, found, |case| (case.created_at, case.id.to_string())))
}

/// Evaluate a workflow, a policy or an agent by a suite
///
/// Each case is an execution for the caller, with the limits, policies and costs that its executions have. The evaluation is followed at
/// its own address; its background task (`task_id`) has its events, and can be paused.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/suites/{suite_id}/evaluate", operation_id = "suites_evaluate", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), IdempotencyHeader),
    request_body(content = EvaluationDraft, example = json!({"target": {"kind": "workflow", "id": "agent_0f1e2d3c"}, "parallel": 8})),
    responses(
        (status = 201, body = EvaluationDocument, description = "The evaluation, which runs"),
        (status = 404, description = "The caller has no such suite, or the agent is another's"),
        (status = 409, description = "The caller has as many evaluations under way as it may have (`too_many_evaluations`)"),
    )
)]
pub async fn evaluate_suite(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    request: IdempotentJson<EvaluationDraft>,
) -> Result<IdempotentCreated<EvaluationDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentCreated(app.performance.suites.evaluate(&caller, &id, request.body, request.once).await?))
}

/// List the evaluations by a suite
///
/// The caller's, an admin's everybody's; the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/suites/{suite_id}/evaluations", operation_id = "suites_list_evaluations",
    tag = "suites", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), PageQuery),
    responses(
        (status = 200, body = Vec<EvaluationDocument>, description = "A page of evaluations, the newest first"),
        (status = 404, description = "The caller has no such suite"),
    )
)]
pub async fn list_evaluations(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.performance.suites.evaluations(&performance_caller(caller), &id, &paging.page).await?;
    Ok(page_of(&paging, found, |one| (one.created_at, one.id.to_string())))
}

/// Make a gate for an alias of a policy
///
/// From then on the alias is moved only to versions of which the last evaluation by the suite, by the gate's owner, passes the rule. A
/// rollback and the removal of the alias are not asked.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/suites/{suite_id}/gates", operation_id = "suites_add_gate", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), IdempotencyHeader),
    request_body(content = GateDraft, example = json!({"policy": "prices", "alias": "production", "rule": "at_least", "bound": 0.8})),
    responses(
        (status = 201, body = GateDocument, description = "The gate"),
        (status = 404, description = "The caller has no such suite"),
        (status = 409, description = "There is such a gate (`gate_exists`), or the alias has too many (`too_many_gates`)"),
    )
)]
pub async fn add_alias_gate(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    request: IdempotentJson<GateDraft>,
) -> Result<IdempotentCreated<GateDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentCreated(app.performance.suites.add_gate(&caller, &id, request.body, request.once).await?))
}

/// List the gates of a suite
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/suites/{suite_id}/gates", operation_id = "suites_list_gates", tag = "suites",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("suite_id" = SuiteId, Path, description = "Id of the suite"), PageQuery),
    responses(
        (status = 200, body = Vec<GateDocument>, description = "A page of gates, the newest first"),
        (status = 404, description = "The caller has no such suite"),
    )
)]
pub async fn list_alias_gates(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<SuiteId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.performance.suites.gates(&performance_caller(caller), &id, &paging.page).await?;
    Ok(page_of(&paging, found, |gate| (gate.created_at, gate.id.to_string())))
}

/// Remove a gate
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/suites/{suite_id}/gates/{gate_id}", operation_id = "suites_remove_gate",
    tag = "suites", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("suite_id" = SuiteId, Path, description = "Id of the suite"),
        ("gate_id" = AliasGateId, Path, description = "Id of the gate"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "The caller has no such suite, or it has no such gate"),
    )
)]
pub async fn remove_alias_gate(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams((suite, gate)): PathParams<(SuiteId, AliasGateId)>,
) -> Result<StatusCode, ApiError> {
    app.performance.suites.remove_gate(&performance_caller(caller), &suite, &gate).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get an evaluation
#[utoipa::path(
    get, path = "/api/v1/agents/performance/evaluations/{evaluation_id}", operation_id = "evaluations_get", tag = "evaluations",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("evaluation_id" = EvaluationId, Path, description = "Id of the evaluation")),
    responses(
        (status = 200, body = EvaluationDocument, description = "The evaluation"),
        (status = 404, description = "The caller has no such evaluation"),
    )
)]
pub async fn get_evaluation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<EvaluationId>,
) -> Result<JsonBody<EvaluationDocument>, ApiError> {
    Ok(JsonBody(app.performance.suites.evaluation(&performance_caller(caller), &id).await?))
}

/// List the cases of an evaluation with their results
///
/// 100 on a page, the last first unless `order=asc`.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/evaluations/{evaluation_id}/results", operation_id = "evaluations_list_results",
    tag = "evaluations", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("evaluation_id" = EvaluationId, Path, description = "Id of the evaluation"), PageQuery),
    responses(
        (status = 200, body = Vec<ResultDocument>, description = "A page of results"),
        (status = 404, description = "The caller has no such evaluation"),
    )
)]
pub async fn list_evaluation_results(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<EvaluationId>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let found = app.performance.suites.results(&performance_caller(caller), &id, &paging.page).await?;
    Ok(page_of(&paging, found, |one| (one.created_at, one.id.to_string())))
}

/// What an evaluation is compared with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ComparisonQuery {
    /// Id of the other evaluation. Default: the last one before it of the same workflow or policy by the same suite.
    #[param(value_type = Option<String>)]
    against: Option<EvaluationId>,
}

/// Compare an evaluation with another
///
/// Case by case, on those that have the same name, input and check in both.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/evaluations/{evaluation_id}/comparison", operation_id = "evaluations_compare",
    tag = "evaluations", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("evaluation_id" = EvaluationId, Path, description = "Id of the evaluation"), ComparisonQuery),
    responses(
        (status = 200, body = EvaluationComparison, description = "The comparison"),
        (status = 404, description = "The caller has no such evaluation"),
        (status = 409, description = "One has not completed (`invalid_state`), or none was before (`nothing_to_compare`)"),
    )
)]
pub async fn compare_evaluations(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<EvaluationId>,
    QueryParams(query): QueryParams<ComparisonQuery>,
) -> Result<JsonBody<EvaluationComparison>, ApiError> {
    let caller = performance_caller(caller);
    Ok(JsonBody(app.performance.suites.compare_evaluation(&caller, &id, query.against).await?))
}

/// Cancel an evaluation
///
/// Its runs are cancelled; cases that have ended keep their results.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/evaluations/{evaluation_id}/cancel", operation_id = "evaluations_cancel",
    tag = "evaluations", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("evaluation_id" = EvaluationId, Path, description = "Id of the evaluation"), IdempotencyHeader),
    responses(
        (status = 200, body = EvaluationDocument, description = "The evaluation, which is to end"),
        (status = 404, description = "The caller has no such evaluation"),
        (status = 409, description = "It has ended (`invalid_state`)"),
    )
)]
pub async fn cancel_evaluation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<EvaluationId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<EvaluationDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.suites.cancel_evaluation(&caller, &id, request.once).await?))
}
