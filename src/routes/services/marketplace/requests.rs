//! `/api/v1/services/marketplace/requests`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use utoipa::{IntoParams, ToSchema};

use super::market_caller;
use crate::{
    app::App,
    http::{
        ApiError, JsonBody, PathParams, QueryParams, TraderKey,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::{
    ids::{AgentId, ExecutionId, MarketRequestId, MarketServiceId},
    money::StatedAmount,
};
use am_db::codec::Timestamp;
use am_marketplace::{
    AcceptOrder, CompletionReport, DisputeDecision, MarketRequest, RatingDraft, RequestDraft, RequestFilter,
    RequestHistoryEntry, RequestRole, RequestState, ServiceCategory, ServiceRating,
};

/// Filter of requests.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RequestsQuery {
    /// What the caller is to them: `client`: it made them; `provider`: they were made to its agents, or its agents accepted them;
    /// `open`: its agents may accept them, as they are for no service in particular; `all`: any, for admins. Default `client`.
    #[param(inline)]
    role: Option<RequestRole>,
    /// Only requests in this state; with the roles `client` and `provider`.
    #[param(inline)]
    state: Option<RequestState>,
    /// Only requests of this category; with the role `open`.
    #[param(inline)]
    category: Option<ServiceCategory>,
}

/// List requests
///
/// Newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/requests", operation_id = "market_requests_list", tag = "market_requests",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(RequestsQuery, PageQuery),
    responses(
        (status = 200, body = Vec<MarketRequest>, description = "A page of requests, the newest first"),
        (status = 403, description = "The role `all` needs an admin key"),
    )
)]
pub async fn list_market_requests(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    QueryParams(query): QueryParams<RequestsQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let role = query.role.unwrap_or(RequestRole::Client);
    let filter = RequestFilter { role, state: query.state, category: query.category, page: paging.page.clone() };
    let rows = app.market.list_requests(&market_caller(caller), &filter).await?;
    let next = paging.last_of(&rows).map(|last| (last.created_at, last.id.as_str()));
    Ok(paging.respond_partial(&rows, None, next))
}

/// A request to make. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketRequestCreate {
    /// Service that is asked for. Default: any of the category may accept.
    service_id: Option<MarketServiceId>,
    /// Category of the service. Default: that of the service.
    category: Option<ServiceCategory>,
    /// What is wanted, 1 to 5000 characters. While the request is open to all, everybody reads it.
    requirements: String,
    /// Inputs of the service's workflow. Default: none.
    #[serde(default)]
    #[schema(value_type = Object)]
    inputs: Map<String, Value>,
    /// Most that is paid, in AIT, at least the service's base price. It is put in escrow.
    budget: StatedAmount,
    /// When it must be completed, in the future and within 365 days.
    deadline: Timestamp,
}

/// Make a request
///
/// Its budget leaves the caller's wallet and waits in escrow until it is paid or comes back.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests", operation_id = "market_requests_create",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(IdempotencyHeader),
    request_body = MarketRequestCreate,
    responses(
        (status = 201, body = MarketRequest, description = "The request"),
        (status = 409, description = "The wallet has less than the budget (`insufficient_funds`)"),
    )
)]
pub async fn create_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    request: IdempotentJson<MarketRequestCreate>,
) -> Result<IdempotentCreated<MarketRequest>, ApiError> {
    let MarketRequestCreate { service_id, category, requirements, inputs, budget, deadline } = request.body;
    let draft = RequestDraft { service_id, category, requirements, inputs, budget, deadline };
    Ok(IdempotentCreated(app.market.create_request(&market_caller(caller), draft, request.once).await?))
}

/// Get a request
///
/// For its client, whoever was asked or has accepted it, and admins; for everybody while it is open to all.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/requests/{request_id}", operation_id = "market_requests_get",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request")),
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 404, description = "The caller may see no request of this id"),
    )
)]
pub async fn get_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
) -> Result<JsonBody<MarketRequest>, ApiError> {
    Ok(JsonBody(app.market.request(&market_caller(caller), &id).await?))
}

/// List the events of a request
///
/// All of them, the first first; a request has a few.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/requests/{request_id}/history", operation_id = "market_requests_list_history",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request")),
    responses(
        (status = 200, body = Vec<RequestHistoryEntry>, description = "The events"),
        (status = 404, description = "The caller may see no request of this id"),
    )
)]
pub async fn list_request_history(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
) -> Result<JsonBody<Vec<RequestHistoryEntry>>, ApiError> {
    Ok(JsonBody(app.market.request_history(&market_caller(caller), &id).await?))
}

/// Acceptance of a request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct MarketRequestAccept {
    /// Service that the work is done as. Default: the one that was asked for.
    service_id: Option<MarketServiceId>,
    /// Agent that does the work: the service's, or a member of its guild. Default: the service's.
    agent_id: Option<AgentId>,
}

/// Accept a request
///
/// For an agent that the caller acts for. The price is fixed: base price × (1 + reputation / 10000 × 0.5) × (1 + jobs / 100 × 0.5, beyond
/// 10 jobs) × (1 + rating / 5 × 0.3), at most the budget; what the budget has beyond it goes back. A service's workflow begins.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/accept", operation_id = "market_requests_accept",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    request_body = MarketRequestAccept,
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "Another agent was first, or the request is not open for another reason (`conflict`)"),
    )
)]
pub async fn accept_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<MarketRequestAccept>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    let MarketRequestAccept { service_id, agent_id } = request.body;
    let order = AcceptOrder { service_id, agent_id };
    Ok(IdempotentOk(app.market.accept_request(&market_caller(caller), &id, order, request.once).await?))
}

/// What was done for a request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct MarketRequestComplete {
    /// Results, of which the hash is kept: the SHA-256 of the JSON with sorted keys, as the coordinator computes it. Default: none;
    /// the hash alone is then required.
    #[schema(value_type = Option<Object>)]
    results: Option<Value>,
    /// SHA-256 of the results in lower-case hexadecimal digits. Default: computed from `results`.
    results_hash: Option<String>,
    /// Execution that did the work; its receipt is then required. Default: none.
    execution_id: Option<ExecutionId>,
    /// Signed receipt of the execution: an answer of its receipt route, or the member `receipt` of it. Default: none.
    #[schema(value_type = Option<Object>)]
    receipt: Option<Box<RawValue>>,
}

/// Complete a request
///
/// As the agent that accepted it. The client may confirm or dispute it until `due_at`, when it is paid by itself.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/complete", operation_id = "market_requests_complete",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    request_body = MarketRequestComplete,
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 403, description = "Only the agent that accepted it may complete it"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request is not accepted, its deadline has passed, or its workflow completes it (`invalid_state`)"),
    )
)]
pub async fn complete_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<MarketRequestComplete>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    let MarketRequestComplete { results, results_hash, execution_id, receipt } = request.body;
    let receipt = receipt.map(|receipt| receipt.get().to_owned());
    let report = CompletionReport { results, results_hash, execution_id, receipt };
    Ok(IdempotentOk(app.market.complete_request(&market_caller(caller), &id, report, request.once).await?))
}

/// Confirm a completed request
///
/// As its client: the price is paid, less the fee of 2.5 % and the contribution to the agent's guild.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/settle", operation_id = "market_requests_settle",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 403, description = "Only its client may confirm it"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request is not completed (`invalid_state`)"),
    )
)]
pub async fn settle_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    Ok(IdempotentOk(app.market.settle_request(&market_caller(caller), &id, request.once).await?))
}

/// Withdraw a request
///
/// As its client, before it is accepted: the budget comes back.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/cancel", operation_id = "market_requests_cancel",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 403, description = "Only its client may withdraw it"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request is not open any more (`invalid_state`)"),
    )
)]
pub async fn cancel_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    Ok(IdempotentOk(app.market.cancel_request(&market_caller(caller), &id, request.once).await?))
}

/// Why something is done.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MarketReason)]
pub struct ReasonBody {
    /// Reason, 1 to 1000 characters.
    reason: String,
}

/// Refuse or give up a request
///
/// As the provider that was asked, or has accepted it: the client has its money back.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/reject", operation_id = "market_requests_reject",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    request_body = ReasonBody,
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 403, description = "Only its provider may refuse it"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request is completed or has ended (`invalid_state`)"),
    )
)]
pub async fn reject_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<ReasonBody>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    let reason = request.body.reason;
    Ok(IdempotentOk(app.market.reject_request(&market_caller(caller), &id, reason, request.once).await?))
}

/// Dispute a request
///
/// As its client, once it is accepted and before it is paid: an arbiter decides until `due_at`. If none does, the provider is paid as a
/// whole where it had completed the request, and the client has its money back where it had not.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/dispute", operation_id = "market_requests_dispute",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    request_body = ReasonBody,
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 403, description = "Only its client may dispute it"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request is neither accepted nor completed (`invalid_state`)"),
    )
)]
pub async fn dispute_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<ReasonBody>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    let reason = request.body.reason;
    Ok(IdempotentOk(app.market.dispute_request(&market_caller(caller), &id, reason, request.once).await?))
}

/// An arbiter's decision.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketDecision {
    /// Share of the price that the provider gets, 0 to 100 percent, before the fee; the rest goes back to the client.
    provider_percent: f64,
    /// Why it is decided so, 1 to 1000 characters.
    reason: String,
}

/// Decide a dispute
///
/// As an arbiter: an admin who is no party of the request.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/decide", operation_id = "market_requests_decide",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    request_body = MarketDecision,
    responses(
        (status = 200, body = MarketRequest, description = "The request"),
        (status = 403, description = "The caller is no arbiter of the request"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request is not disputed (`invalid_state`)"),
    )
)]
pub async fn decide_market_dispute(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<MarketDecision>,
) -> Result<IdempotentOk<MarketRequest>, ApiError> {
    let MarketDecision { provider_percent, reason } = request.body;
    let decision = DisputeDecision { provider_percent, reason };
    Ok(IdempotentOk(app.market.decide_dispute(&market_caller(caller), &id, decision, request.once).await?))
}

/// A rating to give.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketRatingCreate {
    /// Rating, 1 to 5: it changes the agent's reputation by −200, −100, 0, +100, +200.
    rating: i64,
    /// What is said to it, at most 2000 characters. Default: nothing.
    comment: Option<String>,
}

/// Rate a paid request
///
/// As its client, once, until 30 days after its deadline.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/requests/{request_id}/rating", operation_id = "market_requests_rate",
    tag = "market_requests", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("request_id" = MarketRequestId, Path, description = "Id of the request"), IdempotencyHeader),
    request_body = MarketRatingCreate,
    responses(
        (status = 201, body = ServiceRating, description = "The rating, and what it changed"),
        (status = 403, description = "Only its client may rate it"),
        (status = 404, description = "The caller may see no request of this id"),
        (status = 409, description = "The request was rated (`conflict`), was not paid, or it is too late (`invalid_state`)"),
    )
)]
pub async fn rate_market_request(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketRequestId>,
    request: IdempotentJson<MarketRatingCreate>,
) -> Result<IdempotentCreated<ServiceRating>, ApiError> {
    let MarketRatingCreate { rating, comment } = request.body;
    let draft = RatingDraft { rating, comment };
    Ok(IdempotentCreated(app.market.rate_request(&market_caller(caller), &id, draft, request.once).await?))
}
