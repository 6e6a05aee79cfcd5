//! `GET /api/v1/agents/messages/stream`: an agent's socket, from the request to the first frame.

use axum::{
    extract::{
        State,
        ws::{WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    super::agent_in,
    socket::{self, End},
};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Caller, Query, Role,
        caller::{Identity, Whence},
        context::{Context, RequestContext},
    },
};

/// The largest frame that a client may send: a message's content and what belongs to it.
const MOST_FRAME: usize = 256 << 10;
/// What each socket reads and writes through; more is taken when it is needed.
const BUFFER: usize = 4 << 10;

/// The agent and key of a socket.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Agent whose messages are received and in whose name messages are sent.
    agent_id: String,
    /// Admin key, for clients that can't send the header `X-Api-Key`.
    token: Option<String>,
}

/// The key that a socket was opened with. Looked at again while it is open, since keys are taken back.
pub struct Pass(Option<SecretString>);

impl Pass {
    fn of(query: &StreamQuery) -> Self {
        Self(query.token.clone().map(SecretString::from))
    }

    /// Who holds it, with the role that this needs.
    pub fn caller(&self, app: &App, context: &RequestContext) -> Result<Caller, &'static str> {
        let identity = match &self.0 {
            Some(token) => app.shared.keyring.identify(Some(token.expose_secret())),
            None => context.identity.clone(),
        };
        match identity {
            Identity::Known(caller) if caller.role == Role::Admin => Ok(caller),
            Identity::Known(_) => Err("This needs an admin key"),
            Identity::Unknown => Err("Invalid API key"),
            Identity::Missing => Err("Missing API key: send it as token, or as X-Api-Key"),
        }
    }
}

/// Open a WebSocket of an agent
///
/// Frames are JSON texts with a `type`. The first is `connection_established`; then come the messages that wait for
/// the agent, the oldest first, and those that are sent to it, each as `message`. The client sends `{"type": "ack",
/// "message_id": ...}` (or `message_ids`) for each message, and receives it again on its next socket until it did;
/// `{"type": "message", "payload": {"content", "recipient_id", ...}}`, which is answered by `handler_acknowledgment`
/// when the message is stored; content `PING` is answered by `PONG`. Without a valid key the socket is closed with
/// code 1008; with 1001 when the service stops, with 1013 when there are too many. The service pings, and closes a
/// socket that has been silent for three pings.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/stream", operation_id = "messages_open_stream", tag = "messages",
    security(("ApiKey" = ["admin"])),
    params(StreamQuery),
    responses(
        (status = 101, description = "The connection becomes a WebSocket"),
        (status = 426, description = "The request asks for no upgrade to a WebSocket (`upgrade_required`)"),
    )
)]
pub async fn stream(
    State(app): State<App>,
    whence: Whence,
    admin: Result<Admin, ApiError>,
    query: Result<Query<StreamQuery>, ApiError>,
    context: Context,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Ok(upgrade) = upgrade else {
        admin?;
        query?;
        let detail = "This is a WebSocket: send Upgrade: websocket";
        let mut refused = ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail).into_response();
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(refused);
    };
    let Query(query) = query?;
    let pass = Pass::of(&query);
    let caller = pass.caller(&app, &context).map(|caller| caller.coming(&whence));
    let agent = agent_in(&app, ("query", "agent_id"), &query.agent_id)?;
    let upgrade = upgrade.max_message_size(MOST_FRAME).max_frame_size(MOST_FRAME);
    let upgrade = upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER).max_write_buffer_size(usize::MAX);
    Ok(upgrade.on_upgrade(async move |socket| open(app, socket, agent, pass, (caller, context)).await))
}

async fn open(
    app: App,
    socket: WebSocket,
    agent: String,
    pass: Pass,
    (caller, context): (Result<Caller, &'static str>, Context),
) {
    let caller = match caller {
        Ok(caller) => caller,
        Err(why) => return socket::refuse(socket, End::NotAllowed(why)).await,
    };
    match app.delivery.connect(&agent).await {
        Ok((session, replies)) => {
            let by = caller.principal;
            socket::run(socket::Parts { app, session, replies, by, pass, context }, socket).await;
        }
        Err(am_communication::Error::Stopping) => socket::refuse(socket, End::Stopping).await,
        Err(am_communication::Error::Busy(_)) => socket::refuse(socket, End::TooMany).await,
        Err(error) => {
            tracing::warn!(%error, "a WebSocket could not be opened");
            socket::refuse(socket, End::Failed).await;
        }
    }
}
