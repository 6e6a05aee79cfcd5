//! `GET /api/v1/agents/messages/stream`: an agent's socket, from the request to the first frame.

use axum::{
    extract::{
        State,
        ws::{WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    super::check_agent_id,
    socket::{self, SocketEnd},
    socket_token::SocketToken,
};
use crate::{
    app::App,
    http::{ActingKey, ApiCaller, ApiError, QueryParams, caller::RequestOrigin, context::RequestContextExtractor},
};
use am_core::ids::AgentId;

/// The largest frame that a client may send: a message's content and what belongs to it.
const MAX_FRAME_BYTES: usize = 256 << 10;
/// What each socket reads and writes through; more is taken when it is needed.
const SOCKET_BUFFER_BYTES: usize = 4 << 10;

/// The agent and key of a socket.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Agent whose messages are received and in whose name messages are sent.
    agent_id: AgentId,
    /// Admin key, or key of the agent, for clients that can't send the header `X-Api-Key`.
    token: Option<String>,
}

/// Open a WebSocket of an agent
///
/// Frames are JSON texts with a `type`. The first is `connection_established`; then come the messages that wait for
/// the agent, the oldest first, and those that are sent to it, each as `message`. The client sends `{"type": "ack",
/// "message_id": ...}` (or `message_ids`) for each message, and receives it again on its next socket until it did;
/// `{"type": "message", "payload": {"content", "recipient_id", ...}}`, which is answered by `handler_acknowledgment`
/// when the message is stored; content `PING` is answered by `PONG`. Once a key is bound to the agent, only sockets with
/// such a key send in its name. Without a valid key the socket is closed with
/// code 1008; with 1001 when the service stops, with 1013 when there are too many, with 1009, 1007 or 1002 after a
/// message that is too long, a text that is not UTF-8, or what is not the protocol. A Close is answered by a Close. The
/// service pings, and closes a socket that has been silent for three pings.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/stream", operation_id = "messages_open_stream", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(StreamQuery),
    responses(
        (status = 101, description = "The connection becomes a WebSocket"),
        (status = 426, description = "The request asks for no upgrade to a WebSocket (`upgrade_required`)"),
    )
)]
pub async fn open_message_stream(
    State(app): State<App>,
    RequestOrigin(origin): RequestOrigin,
    acting: Result<ActingKey, ApiError>,
    query: Result<QueryParams<StreamQuery>, ApiError>,
    context: RequestContextExtractor,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Ok(upgrade) = upgrade else {
        acting?;
        query?;
        let detail = "This is a WebSocket: send Upgrade: websocket";
        let mut refused = ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail).into_response();
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(refused);
    };
    let QueryParams(query) = query?;
    let agent = check_agent_id(&app, ("query", "agent_id"), &query.agent_id)?;
    let pass = SocketToken::new(query.token.as_deref(), &context);
    pass.look_for(&app).await;
    let caller = pass.caller(&app, &agent).map(|caller| caller.with_origin(origin));
    let upgrade = upgrade.max_message_size(MAX_FRAME_BYTES).max_frame_size(MAX_FRAME_BYTES);
    let upgrade = upgrade
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .max_write_buffer_size(usize::MAX);
    Ok(upgrade.on_upgrade(async move |socket| run_upgraded(app, socket, agent, pass, caller).await))
}

async fn run_upgraded(
    app: App,
    socket: WebSocket,
    agent: AgentId,
    pass: SocketToken,
    caller: Result<ApiCaller, &'static str>,
) {
    let caller = match caller {
        Ok(caller) => caller,
        Err(why) => return socket::refuse_socket(socket, SocketEnd::NotAllowed(why)).await,
    };
    match app.delivery.connect(&agent).await {
        Ok((session, replies)) => {
            socket::run_socket(socket::SocketParts { app, session, replies, caller, pass }, socket).await;
        }
        Err(am_communication::CommunicationError::Stopping) => socket::refuse_socket(socket, SocketEnd::Stopping).await,
        Err(am_communication::CommunicationError::LimitReached(_)) => {
            socket::refuse_socket(socket, SocketEnd::TooMany).await
        }
        Err(error) => {
            tracing::warn!(%error, "a WebSocket could not be opened");
            socket::refuse_socket(socket, SocketEnd::Failed).await;
        }
    }
}
