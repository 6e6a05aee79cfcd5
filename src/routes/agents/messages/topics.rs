//! Topics that agents want to hear of.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::{check_agent_id, check_agent_path};
use crate::{
    app::App,
    http::{
        ActingKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_communication::delivery::TopicSubscription;
use am_core::ids::AgentId;

/// A subscription to create or change.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SubscribeRequest {
    /// Agent that subscribes.
    agent_id: AgentId,
    /// Name of the topic.
    topic: String,
    /// Members that a message's content must have, with exactly these values. Null or empty: every message. Content
    /// that its sender encrypted shows no members.
    #[schema(value_type = Option<Object>)]
    filter: Option<Map<String, Value>>,
}

/// Answer to a new subscription.
#[derive(Serialize, ToSchema)]
pub struct SubscribeResponse {
    /// Always the word `success`.
    status: &'static str,
    /// Agent that subscribed.
    agent_id: AgentId,
    /// Always true: the subscription exists.
    subscribed: bool,
    #[serde(flatten)]
    subscription: TopicSubscription,
}

/// Subscribe an agent to a topic
///
/// The agent then receives what is broadcast to the topic, over its sockets or in its inbox. Again with another
/// filter changes the filter.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/subscribe", operation_id = "topics_subscribe", tag = "topics",
    security(("ApiKey" = ["admin", "agent"])),
    params(IdempotencyHeader),
    request_body = SubscribeRequest,
    responses((status = 200, body = SubscribeResponse, description = "The subscription"))
)]
pub async fn subscribe_topic(
    State(app): State<App>,
    caller: ActingKey,
    request: IdempotentJson<SubscribeRequest>,
) -> Result<IdempotentOk<SubscribeResponse>, ApiError> {
    let SubscribeRequest { agent_id, topic, filter } = request.body;
    let agent_id = check_agent_id(&app, ("body", "agent_id"), &agent_id)?;
    let caller = caller.acting_for("agent_id", &agent_id)?;
    let done = app.delivery.subscribe(&caller, &agent_id, &topic, filter.unwrap_or_default(), request.once).await?;
    let answer = |subscription| SubscribeResponse { status: "success", agent_id, subscribed: true, subscription };
    Ok(IdempotentOk(done.map(answer)))
}

/// A subscription to end.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UnsubscribeRequest {
    /// Agent that subscribed.
    agent_id: AgentId,
    /// Name of the topic.
    topic: String,
}

/// The result of ending a subscription.
#[derive(Serialize, ToSchema)]
pub struct UnsubscribeResponse {
    /// Always the word `success`.
    status: &'static str,
    /// Agent that had subscribed.
    agent_id: AgentId,
    /// Name of the topic.
    topic: String,
    /// Always false: the subscription is gone.
    subscribed: bool,
    /// Whether there was a subscription.
    removed: bool,
}

/// End a subscription of an agent
#[utoipa::path(
    post, path = "/api/v1/agents/messages/unsubscribe", operation_id = "topics_unsubscribe", tag = "topics",
    security(("ApiKey" = ["admin", "agent"])),
    params(IdempotencyHeader),
    request_body = UnsubscribeRequest,
    responses((status = 200, body = UnsubscribeResponse, description = "Whether there was a subscription"))
)]
pub async fn unsubscribe_topic(
    State(app): State<App>,
    caller: ActingKey,
    request: IdempotentJson<UnsubscribeRequest>,
) -> Result<IdempotentOk<UnsubscribeResponse>, ApiError> {
    let UnsubscribeRequest { agent_id, topic } = request.body;
    let agent_id = check_agent_id(&app, ("body", "agent_id"), &agent_id)?;
    let caller = caller.acting_for("agent_id", &agent_id)?;
    let done = app.delivery.unsubscribe(&caller, &agent_id, &topic, request.once).await?;
    let answer = |removed| UnsubscribeResponse { status: "success", agent_id, topic, subscribed: false, removed };
    Ok(IdempotentOk(done.map(answer)))
}

/// The subscriptions of an agent.
#[derive(Serialize, ToSchema)]
pub struct SubscriptionList {
    /// Agent that subscribed.
    agent_id: AgentId,
    /// The subscriptions, by topic.
    subscriptions: Vec<TopicSubscription>,
    /// Number of subscriptions.
    count: usize,
}

/// List the subscriptions of an agent
///
/// By topic.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/subscriptions/{agent_id}", operation_id = "topics_list_subscriptions",
    tag = "topics", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
    ),
    responses((status = 200, body = SubscriptionList, description = "The agent's subscriptions, by topic"))
)]
pub async fn list_subscriptions(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<SubscriptionList>, ApiError> {
    let agent_id = check_agent_path(&app, "agent_id", &id)?;
    caller.acting_for("agent_id", &agent_id)?;
    let subscriptions = app.delivery.subscriptions(&agent_id).await?;
    Ok(JsonBody(SubscriptionList { agent_id, count: subscriptions.len(), subscriptions }))
}
