//! `GET rl/runs/{run_id}/bridge`: the WebSocket of a process that steps a run's environments.

use std::{pin::pin, time::Duration};

use axum::{
    extract::{
        State,
        ws::{
            CloseFrame, Message as Frame, Utf8Bytes, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, timeout};

use super::runs::training_caller;
use crate::{
    app::App,
    http::{AnyCaller, ApiCaller, ApiError, PathParams, context::RequestContextExtractor, key_watch::PresentedKey},
};
use am_core::{ids::TrainingRunId, json_number::read_json, validation::join};
use am_rl::{
    RlError,
    environments::{BRIDGE_PROTOCOL, BridgeCommand, BridgeFault, BridgePeer, BridgeSpec, MAX_BRIDGE_FRAME_BYTES},
};

/// How long a bridge may take to say what it has.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a bridge may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pings without a sign of life, after which a bridge counts as gone.
const MAX_MISSED_PINGS: u32 = 3;
/// Longest reason of a Close, in bytes: a control frame has 125, two of which are the code.
const MAX_REASON_BYTES: usize = 123;

/// Connect the environments of a training run
///
/// For a run with the environment `bridge`: a WebSocket of the process that steps its environments. The bridge first says
/// what it has, a JSON text `{"type": "hello", "protocol": 1}` with `environment`, `observations`, `actions` and `horizon`
/// as in the run's `parameters`, and is answered by `{"type": "welcome", "protocol", "run_id", "step_seconds"}`. From then
/// on frames are binary: each command of the run is answered by one frame, see docs/RL.md. The run is trained, when a place
/// is free, as long as the bridge is connected, and waits in the queue without one; it then goes on from its last
/// checkpoint, with new episodes. A bridge that sends what is not a number, or other numbers than were asked for, or takes
/// longer than `step_seconds`, ends the run. Another bridge of the same run takes the place of this one. The socket is
/// closed with code 1000 when the run has ended, with 1008 when the bridge is not the run's, sends what it was not asked
/// for or its key is no longer valid, with 1001 when the service stops, and with 1013 when there are too many.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}/bridge", operation_id = "rl_runs_open_bridge",
    tag = "rl_runs", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits")),
    responses(
        (status = 101, description = "The connection becomes a WebSocket"),
        (status = 400, description = "The run takes no bridge, or has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no training run of this id"),
        (status = 426, description = "The request asks for no upgrade to a WebSocket (`upgrade_required`)"),
    )
)]
pub async fn open_training_bridge(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<TrainingRunId>,
    context: RequestContextExtractor,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let expected = app.training.bridge_spec(&training_caller(&caller), &id).await?;
    let Ok(upgrade) = upgrade else {
        let detail = "This is a WebSocket: send Upgrade: websocket";
        let mut refused = ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail).into_response();
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(refused);
    };
    let key = context.presented_key.clone();
    let upgrade = upgrade.max_message_size(MAX_BRIDGE_FRAME_BYTES).max_frame_size(MAX_BRIDGE_FRAME_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| BridgeSocket { app, id, socket }.serve(expected, caller, key).await))
}

/// Why the socket of a bridge ends.
enum BridgeEnd {
    /// The bridge is gone, or closes it.
    Gone,
    /// The code and reason that it is told.
    Told(u16, String),
}

/// The socket of a bridge.
struct BridgeSocket {
    app: App,
    id: TrainingRunId,
    socket: WebSocket,
}

impl BridgeSocket {
    async fn serve(mut self, expected: BridgeSpec, caller: ApiCaller, key: PresentedKey) {
        let end = match self.greet(&expected).await {
            Ok(peer) => {
                let end = self.pass_frames(peer, caller, key).await;
                self.app.training.bridge_closed();
                end
            }
            Err(end) => end,
        };
        if let BridgeEnd::Told(code, reason) = end {
            self.close(code, reason).await;
        }
    }

    /// Hear what the bridge has, and connect it.
    async fn greet(&mut self, expected: &BridgeSpec) -> Result<BridgePeer, BridgeEnd> {
        let refused = |why: String| BridgeEnd::Told(1008, why);
        let said = loop {
            match timeout(HELLO_TIMEOUT, self.socket.recv()).await {
                Ok(Some(Ok(Frame::Text(text)))) => break text,
                Ok(Some(Ok(Frame::Ping(_) | Frame::Pong(_)))) => {}
                Ok(Some(Ok(Frame::Binary(_)))) => return Err(refused("the first frame must be a hello".to_owned())),
                Ok(Some(Ok(Frame::Close(_)) | Err(_)) | None) => return Err(BridgeEnd::Gone),
                Err(_) => return Err(refused("no hello came".to_owned())),
            }
        };
        check_hello(&said, expected).map_err(refused)?;
        let peer = self.app.training.connect_bridge(&self.id).map_err(|error| match error {
            RlError::Quota(why) => BridgeEnd::Told(1013, why),
            error => BridgeEnd::Told(1011, error.to_string()),
        })?;
        let welcome = json!({
            "type": "welcome",
            "protocol": BRIDGE_PROTOCOL,
            "run_id": self.id,
            "step_seconds": self.app.training.bridge_patience().as_secs_f64(),
        });
        match self.socket.send(Frame::Text(welcome.to_string().into())).await {
            Ok(()) => Ok(peer),
            Err(_) => Err(BridgeEnd::Gone),
        }
    }

    /// Pass commands and answers on until one of the sides ends.
    async fn pass_frames(&mut self, mut peer: BridgePeer, caller: ApiCaller, key: PresentedKey) -> BridgeEnd {
        let app = self.app.clone();
        let mut run_ended = pin!(app.training.ended(&self.id));
        let mut key_ended = pin!(key.ended(app.shared.keyring.clone(), caller));
        let mut stopping = pin!(app.training.stopping());
        let every = app.shared.config.messages.ping;
        let mut ping = interval_at(Instant::now() + every, every);
        let (mut heard, mut silent) = (true, 0);
        let patience = app.training.bridge_patience();
        loop {
            let sent = tokio::select! {
                command = peer.next_command() => match command {
                    BridgeCommand::Send(frame) => Frame::Binary(frame),
                    BridgeCommand::Replaced => {
                        return BridgeEnd::Told(1008, "another bridge of the run took its place".to_owned());
                    }
                },
                frame = self.socket.recv() => {
                    heard = true;
                    match frame {
                        None | Some(Err(_) | Ok(Frame::Close(_))) => return BridgeEnd::Gone,
                        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                        Some(Ok(Frame::Text(_))) => {
                            return BridgeEnd::Told(1003, "frames are binary after the hello".to_owned());
                        }
                        Some(Ok(Frame::Binary(frame))) => match peer.hand_in(frame) {
                            Ok(()) => {}
                            Err(BridgeFault::Unasked) => {
                                return BridgeEnd::Told(1008, "more answers came than were asked for".to_owned());
                            }
                            Err(BridgeFault::Gone) => return BridgeEnd::Gone,
                        },
                    }
                    continue;
                }
                run = &mut run_ended => {
                    let how = run.map_or_else(|_| "deleted".to_owned(), |run| run.status.to_string());
                    return BridgeEnd::Told(1000, format!("the run has ended: {how}"));
                }
                () = &mut key_ended => return BridgeEnd::Told(1008, "the API key is no longer valid".to_owned()),
                () = &mut stopping => return BridgeEnd::Told(1001, "the service is stopping".to_owned()),
                _ = ping.tick() => {
                    silent = if std::mem::take(&mut heard) { 0 } else { silent + 1 };
                    if silent >= MAX_MISSED_PINGS {
                        return BridgeEnd::Told(1001, "silent for too long".to_owned());
                    }
                    Frame::Ping(Bytes::new())
                }
            };
            match timeout(patience, self.socket.send(sent)).await {
                Ok(Ok(())) => {}
                // One that takes nothing for so long is as good as gone.
                Ok(Err(_)) | Err(_) => return BridgeEnd::Gone,
            }
        }
    }

    async fn close(&mut self, code: u16, mut reason: String) {
        while reason.len() > MAX_REASON_BYTES {
            reason.pop();
        }
        let farewell = async {
            let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
            if self.socket.send(Frame::Close(Some(frame))).await.is_ok() {
                // Until the bridge has closed its side: what it has not read yet would be lost with the connection.
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, farewell).await;
    }
}

/// Check what a bridge says of itself.
fn check_hello(text: &str, expected: &BridgeSpec) -> Result<(), String> {
    let said: Value = read_json(text.as_bytes()).map_err(|error| error.to_string())?;
    let Value::Object(mut members) = said else { return Err("a hello is a JSON object".to_owned()) };
    if members.remove("type") != Some("hello".into()) {
        return Err("the first frame must be a hello".to_owned());
    }
    if members.remove("protocol") != Some(BRIDGE_PROTOCOL.into()) {
        return Err(format!("protocol: this is {BRIDGE_PROTOCOL}"));
    }
    let said = BridgeSpec::read(Some(&Value::Object(members))).map_err(|found| join(&found))?;
    expected.check_same(&said)
}
