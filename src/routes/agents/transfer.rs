//! `/api/v1/agents/{agent_id}/messages/export` and `/import`, `/payments` and `/communication-stats`.

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use utoipa::ToSchema;

use super::agent;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        idempotency::{KeyedBytes, KeyedJson, Replayable},
    },
};
use am_communication::{
    PaymentStatus,
    payments::Recorded,
    statistics::{Statistics, statistics},
    transfer::Imported,
};

/// How an agent communicates
///
/// Counted from its last messages, at most 10 000 that it wrote and 10 000 that it got: how many, of which type, what has
/// become of them, what they cost, and how soon it answered. An answer is a message with `reply_to`, or the next message to the
/// same agent in the same channel; of several messages that wait there the time counts from the first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/communication-stats", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = Statistics))
)]
pub async fn stats(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<Statistics>, ApiError> {
    Ok(Json(statistics(&app.db, &agent(&app, "agent_id", &id)?).await?))
}

/// What has become of prices.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PaymentCreate {
    /// 1 to 500 messages that the agent wrote.
    message_ids: Vec<String>,
    /// paid, waived, or unpaid to take either back.
    payment_status: PaymentStatus,
    /// Where it can be looked up, at most 200 characters; kept in the audit log.
    #[serde(default)]
    reference: Option<String>,
}

/// Record what has become of the prices of an agent's messages
///
/// Nothing is collected here; this says what somebody else did. All of the messages or none.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/payments", tag = "agents", params(("agent_id" = String, Path)),
    request_body = PaymentCreate, responses((status = 200, body = Recorded), (status = 422))
)]
pub async fn pay(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<PaymentCreate>,
) -> Result<Replayable<Json<Recorded>>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let PaymentCreate { message_ids, payment_status, reference } = request.body;
    let what = (message_ids, payment_status, reference);
    let done = app.payments.record(&(&caller.0).into(), &agent, what, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed))
}

/// Export an agent's messages
///
/// JSON lines: one that says what this is, one for each message that the agent wrote or got, and one that says how many there
/// were, by which an export that was cut off is known. Content that is encrypted at rest leaves in the clear; envelopes stay
/// as they are.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/messages/export", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, content_type = "application/x-ndjson", body = String))
)]
pub async fn export(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Response, ApiError> {
    let export = app.transfer.export(&agent(&app, "agent_id", &id)?)?;
    let lines = stream::try_unfold(export, async |mut export| {
        // An answer that breaks off is not whole, and the client's HTTP library says so.
        export.next().await.map(|lines| lines.map(|lines| (Bytes::from(lines), export)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// Import an agent's messages
///
/// An export, of at most 20 000 messages. Messages are known by their ids: those that are there already stay as they are, so
/// that an import can be repeated. A line that is not good is named in a 422, and nothing is stored then. Nothing is delivered:
/// what was pending is imported as expired. Each message goes to the end of the channel of its two agents; content in the clear
/// is encrypted at rest.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/messages/import", tag = "agents", params(("agent_id" = String, Path)),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = Imported), (status = 413), (status = 422))
)]
pub async fn import(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedBytes,
) -> Result<Replayable<Json<Imported>>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let Ok(text) = std::str::from_utf8(&request.bytes) else {
        return Err(ApiError::field(vec!["body".into()], "Should be JSON lines in UTF-8", "value_error"));
    };
    let is_key = |name: &str| app.shared.keyring.shown(name) != name;
    let done = app.transfer.import(&(&caller.0).into(), &agent, text, is_key, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed))
}
