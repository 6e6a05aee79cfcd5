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

use super::check_agent_path;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentBytes, IdempotentJson, IdempotentOk},
    },
};
use am_communication::{
    PaymentStatus,
    payments::{NewPayment, RecordedPayment},
    statistics::{CommunicationStatistics, communication_statistics},
    transfer::ImportReport,
};
use am_core::ids::{AgentId, MessageId};

/// Get the communication statistics of an agent
///
/// Counted from its newest messages, at most 10 000 sent and 10 000 received: their number, types, statuses and
/// prices, and how soon the agent answered. An answer is a message with `reply_to`, or the next message to the same
/// agent in the same channel; if several messages wait there, the time counts from the first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/communication-stats", operation_id = "messages_get_statistics",
    tag = "messages", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
    ),
    responses((status = 200, body = CommunicationStatistics, description = "The agent's statistics"))
)]
pub async fn get_message_statistics(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<CommunicationStatistics>, ApiError> {
    Ok(JsonBody(communication_statistics(&app.db, &check_agent_path(&app, "agent_id", &id)?).await?))
}

/// A payment to record.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PaymentCreate {
    /// Ids of 1 to 500 messages that the agent sent.
    message_ids: Vec<MessageId>,
    /// New payment status: `paid`, `waived`, or `unpaid` to take either back.
    payment_status: PaymentStatus,
    /// Reference of the payment elsewhere, at most 200 characters; written to the audit log.
    #[serde(default)]
    reference: Option<String>,
}

/// Record the payment of an agent's messages
///
/// Nothing is collected here; this records what was done elsewhere. All of the messages or none.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/payments", operation_id = "payments_record", tag = "payments",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = PaymentCreate,
    responses((status = 200, body = RecordedPayment, description = "What was recorded"))
)]
pub async fn record_payment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<PaymentCreate>,
) -> Result<IdempotentOk<RecordedPayment>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let PaymentCreate { message_ids, payment_status, reference } = request.body;
    let payment = NewPayment { messages: message_ids, status: payment_status, reference };
    Ok(IdempotentOk(app.payments.record(&caller, &agent, payment, request.once).await?))
}

/// Export the messages of an agent
///
/// JSON lines: a header, one line for each message that the agent sent or received, and a last line with their
/// number, by which a truncated export is recognised. Content that is encrypted at rest is exported in the clear;
/// envelopes stay as they are.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/messages/export", operation_id = "messages_export", tag = "messages",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson", description = "The messages, one JSON document a line"),
    )
)]
pub async fn export_messages(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<Response, ApiError> {
    let export = app.transfer.export(&check_agent_path(&app, "agent_id", &id)?)?;
    let lines = stream::try_unfold(export, async |mut export| {
        // An answer that breaks off is not whole, and the client's HTTP library says so.
        export.next().await.map(|lines| lines.map(|lines| (Bytes::from(lines), export)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// Import messages of an agent
///
/// An export of at most 20 000 messages. Each gets an id of its own and is shown with `imported`, and is not paid for.
/// Messages that exist already, by sender, recipient and former id, stay as they are, so an import can be
/// repeated. If a line is invalid, a 422 names it and nothing is stored. Nothing is delivered: pending messages are
/// imported as expired. Each message is added to the end of the channel of its two agents; content in the clear is
/// encrypted at rest.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/messages/import", operation_id = "messages_import", tag = "messages",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, body = ImportReport, description = "How many messages were imported"),
        (status = 413, description = "The body is larger than `BODY_LIMIT_BYTES` (`body_too_large`)"),
    )
)]
pub async fn import_messages(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentBytes,
) -> Result<IdempotentOk<ImportReport>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let Ok(text) = std::str::from_utf8(&request.bytes) else {
        return Err(ApiError::invalid_field(vec!["body".into()], "Should be JSON lines in UTF-8", "value_error"));
    };
    let is_key = |name: &str| app.shared.keyring.shown(name) != name;
    Ok(IdempotentOk(app.transfer.import(&caller, &agent, text, is_key, request.once).await?))
}
