//! Topics that agents want to hear of.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::{agent, agent_in};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        idempotency::{KeyedJson, Replayable},
    },
};
use am_communication::delivery::Subscription;

/// Who wants to hear of what.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SubscribeRequest {
    /// Who.
    agent_id: String,
    /// Of what.
    topic: String,
    /// Members that a message's content must have, with exactly these values; none: every message. Content that its sender
    /// sealed shows no members.
    #[schema(value_type = Option<Object>)]
    filter: Option<Map<String, Value>>,
}

/// A subscription as it stands.
#[derive(Serialize, ToSchema)]
pub struct SubscribeAnswer {
    /// Always `success`.
    status: &'static str,
    agent_id: String,
    /// Always true.
    subscribed: bool,
    #[serde(flatten)]
    subscription: Subscription,
}

/// Subscribe an agent to a topic
///
/// It then gets what is broadcast to the topic, over its sockets or in its inbox. Once more with another filter changes the
/// filter.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/subscribe", tag = "agents", request_body = SubscribeRequest,
    responses((status = 200, body = SubscribeAnswer), (status = 422))
)]
pub async fn subscribe(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<SubscribeRequest>,
) -> Result<Response, ApiError> {
    let SubscribeRequest { agent_id, topic, filter } = request.body;
    let agent_id = agent_in(&app, ("body", "agent_id"), &agent_id)?;
    let (by, filter) = ((&caller.0).into(), filter.unwrap_or_default());
    let done = app.delivery.subscribe(&by, &agent_id, &topic, filter, request.once).await?;
    let answer = SubscribeAnswer { status: "success", agent_id, subscribed: true, subscription: done.value };
    Ok(Replayable(Json(answer), done.replayed).into_response())
}

/// Who no longer wants to hear of what.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UnsubscribeRequest {
    /// Who.
    agent_id: String,
    /// Of what.
    topic: String,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub struct UnsubscribeAnswer {
    /// Always `success`.
    status: &'static str,
    agent_id: String,
    topic: String,
    /// Always false.
    subscribed: bool,
    /// Whether there was a subscription.
    removed: bool,
}

/// End an agent's subscription to a topic
#[utoipa::path(
    post, path = "/api/v1/agents/messages/unsubscribe", tag = "agents", request_body = UnsubscribeRequest,
    responses((status = 200, body = UnsubscribeAnswer), (status = 422))
)]
pub async fn unsubscribe(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<UnsubscribeRequest>,
) -> Result<Response, ApiError> {
    let UnsubscribeRequest { agent_id, topic } = request.body;
    let agent_id = agent_in(&app, ("body", "agent_id"), &agent_id)?;
    let done = app.delivery.unsubscribe(&(&caller.0).into(), &agent_id, &topic, request.once).await?;
    let answer = UnsubscribeAnswer { status: "success", agent_id, topic, subscribed: false, removed: done.value };
    Ok(Replayable(Json(answer), done.replayed).into_response())
}

/// What an agent wants to hear of.
#[derive(Serialize, ToSchema)]
pub struct Subscriptions {
    agent_id: String,
    subscriptions: Vec<Subscription>,
    count: usize,
}

/// An agent's subscriptions, in the order of their topics
#[utoipa::path(
    get, path = "/api/v1/agents/messages/subscriptions/{agent_id}", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = Subscriptions), (status = 422))
)]
pub async fn subscriptions(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Subscriptions>, ApiError> {
    let agent_id = agent(&app, "agent_id", &id)?;
    let subscriptions = app.delivery.subscriptions(&agent_id).await?;
    Ok(Json(Subscriptions { agent_id, count: subscriptions.len(), subscriptions }))
}
