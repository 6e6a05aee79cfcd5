//! An agent's socket while it is open: what the client says, and what it is sent.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{message_request, stream::Pass};
use crate::{
    app::App,
    http::{ApiError, context::Context, limit::Bucket},
};
use am_communication::{
    delivery::{Replies, Session},
    messages::To,
};
use am_db::{codec::Timestamp, principal::Principal};

/// Messages of one client that are on their way into the database; beyond it nothing more is read from it.
const UNDER_WAY: usize = 64;
/// Frames that are sent with one write.
const TOGETHER: usize = 64;
/// How long a client may take to close its side.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pings without a sign of life, after which a client counts as gone.
const SILENT: u32 = 3;

/// Why a socket is closed.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The client is gone, or has closed it.
    Gone,
    /// Its key does not do, or does not do any more.
    NotAllowed(&'static str),
    /// The service stops.
    Stopping,
    /// There are as many as there may be.
    TooMany,
    /// It was silent for too long.
    Silent,
    /// Something failed here.
    Failed,
}

impl End {
    /// The frame that says so.
    fn frame(self) -> Option<Frame> {
        let (code, reason) = match self {
            Self::Gone => return None,
            Self::NotAllowed(why) => (1008, why),
            Self::Stopping => (1001, "the service is stopping"),
            Self::TooMany => (1013, "too many sockets; try again later"),
            Self::Silent => (1001, "silent for too long"),
            Self::Failed => (1011, "internal error"),
        };
        Some(Frame::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) })))
    }
}

/// Close a socket that was never used.
pub async fn refuse(socket: WebSocket, end: End) {
    let (mut sink, mut stream) = socket.split();
    close(&mut sink, &mut stream, end).await;
}

async fn close(
    sink: &mut (impl Sink<Frame> + Unpin),
    stream: &mut (impl Stream<Item = Result<Frame, axum::Error>> + Unpin),
    end: End,
) {
    let Some(frame) = end.frame() else { return };
    let farewell = async {
        if sink.send(frame).await.is_ok() {
            // Until the client has closed its side: what it has not read yet would be lost with the connection.
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// What a socket stands on.
pub struct Parts {
    pub app: App,
    pub session: Session,
    pub replies: Replies,
    pub by: Principal,
    pub pass: Pass,
    pub context: Context,
}

/// Serve a socket until it ends.
pub async fn run(parts: Parts, socket: WebSocket) {
    let Parts { app, session, replies, by, pass, context } = parts;
    let (mut sink, mut stream) = socket.split();
    let heard = AtomicBool::new(true);
    let agent = session.agent().clone();
    let established = json!({"type": "connection_established", "agent_id": &*agent, "timestamp": now(&app)});
    if sink.send(text(established.to_string().into())).await.is_err() {
        return;
    }
    let listener = Listener { app: &app, agent: &agent, replies: &replies, by: &by, heard: &heard };
    let end = tokio::select! {
        end = listener.listen(&mut stream) => end,
        end = speak(&app, session, &mut sink, &heard, || pass.caller(&app, &context).map(drop)) => end,
    };
    close(&mut sink, &mut stream, end).await;
}

fn now(app: &App) -> Timestamp {
    Timestamp(app.clock.now())
}

/// Everything that is sent was made as JSON here.
fn text(frame: Bytes) -> Frame {
    Frame::Text(Utf8Bytes::try_from(frame).unwrap_or_default())
}

/// Send what the session has, and ping.
async fn speak(
    app: &App,
    mut session: Session,
    sink: &mut (impl Sink<Frame> + Unpin),
    heard: &AtomicBool,
    allowed: impl Fn() -> Result<(), &'static str>,
) -> End {
    let every = app.shared.config.messages.ping;
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let mut silent = 0;
    loop {
        let first = tokio::select! {
            next = session.next() => match next {
                Ok(Some(frame)) => text(frame),
                Ok(None) => return End::Stopping,
                Err(error) => {
                    tracing::warn!(%error, agent = &**session.agent(), "messages for a WebSocket could not be read");
                    return End::Failed;
                }
            },
            _ = ping.tick() => {
                silent = if heard.swap(false, Ordering::AcqRel) { 0 } else { silent + 1 };
                if silent >= SILENT {
                    return End::Silent;
                }
                if let Err(why) = allowed() {
                    return End::NotAllowed(why);
                }
                Frame::Ping(Bytes::new())
            }
        };
        let send = async {
            sink.feed(first).await.ok()?;
            for _ in 0..TOGETHER {
                let Some(frame) = session.ready() else { break };
                sink.feed(text(frame)).await.ok()?;
            }
            sink.flush().await.ok()
        };
        // One that takes nothing for so long is as good as silent.
        match tokio::time::timeout(every * SILENT, send).await {
            Ok(Some(())) => {}
            Ok(None) => return End::Gone,
            Err(_) => return End::Silent,
        }
    }
}

/// What a client may say.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    /// To be sent.
    Message {
        payload: Box<Payload>,
        /// Comes back with the answer.
        #[serde(rename = "ref")]
        mark: Option<Value>,
    },
    /// What it has got.
    Ack {
        message_id: Option<String>,
        #[serde(default)]
        message_ids: Vec<String>,
    },
    /// Is anybody there?
    #[serde(alias = "PING")]
    Ping,
    /// Yes.
    #[serde(alias = "PONG")]
    Pong,
}

message_request! {
    /// A message as a socket sends it.
    pub struct Payload {
        /// What: an object, or a text.
        #[schema(value_type = Object)]
        content: Value,
        /// To one agent;
        #[serde(alias = "recipient")]
        recipient_id: Option<String>,
        /// or to the others in a channel;
        channel_id: Option<String>,
        /// or to whoever has subscribed to it.
        topic: Option<String>,
    }
}

/// The client's side.
struct Listener<'a> {
    app: &'a App,
    agent: &'a std::sync::Arc<str>,
    replies: &'a Replies,
    by: &'a Principal,
    heard: &'a AtomicBool,
}

impl Listener<'_> {
    async fn listen(&self, stream: &mut (impl Stream<Item = Result<Frame, axum::Error>> + Unpin)) -> End {
        let mut under_way = FuturesUnordered::new();
        loop {
            let frame = tokio::select! {
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    self.replies.send(answer).await;
                    continue;
                }
                frame = stream.next(), if under_way.len() < UNDER_WAY => frame,
            };
            self.heard.store(true, Ordering::Release);
            let said = match frame {
                None | Some(Err(_) | Ok(Frame::Close(_))) => return End::Gone,
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                Some(Ok(Frame::Text(text))) => serde_json::from_str(&text).map_err(|error| error.to_string()),
                Some(Ok(Frame::Binary(_))) => Err("frames are JSON texts".to_owned()),
            };
            match said {
                Ok(Said::Message { payload, mark }) => match self.hand_in(payload, mark).await {
                    Ok(answer) => under_way.push(answer),
                    Err(answer) => drop(self.replies.send(answer).await),
                },
                Ok(Said::Ack { message_id, message_ids }) => {
                    let all = message_id.into_iter().chain(message_ids).collect();
                    self.app.delivery.acknowledge(self.agent, all).await;
                }
                Ok(Said::Ping) => drop(self.replies.send(self.pong(Value::Null)).await),
                Ok(Said::Pong) => {}
                Err(why) => {
                    let answer = json!({"type": "error", "code": "bad_frame", "detail": why});
                    self.replies.send(answer.to_string()).await;
                }
            }
        }
    }

    fn pong(&self, content: Value) -> String {
        let sender = env!("CARGO_PKG_NAME");
        json!({"type": "PONG", "content": content, "sender": sender, "timestamp": now(self.app)}).to_string()
    }

    /// Hand in what is to be sent: what will be answered, or the answer.
    async fn hand_in(
        &self,
        mut payload: Box<Payload>,
        mark: Option<Value>,
    ) -> Result<impl Future<Output = String> + use<>, String> {
        if payload.content == "PING" {
            return Err(self.pong(payload.content));
        }
        let limiter = self.app.shared.limiter.as_ref();
        if let Some(Err(wait)) = limiter.map(|limiter| limiter.check(Bucket::Principal(self.by.name.clone()))) {
            return Err(refused(ApiError::too_many(wait), mark));
        }
        let content = std::mem::take(&mut payload.content);
        let to = match (payload.recipient_id.take(), payload.channel_id.take(), payload.topic.take()) {
            (Some(agent), None, None) => To::Agent(self.app.shared.keyring.shown(&agent)),
            (None, Some(channel), None) => To::Channel(channel),
            (None, None, Some(topic)) => To::Topic(topic),
            _ => {
                let error =
                    am_communication::Error::invalid("recipient_id", "give one of recipient_id, channel_id and topic");
                return Err(refused(error, mark));
            }
        };
        let draft = payload.draft(self.agent.to_string(), to, content);
        match self.app.messages.hand_in(self.by, draft, None).await {
            Err(error) => Err(refused(error, mark)),
            Ok(receipt) => Ok(async move {
                match receipt.await.unwrap_or(Err(am_communication::Error::Stopping)) {
                    Ok(done) => accepted(&done.value, mark),
                    Err(error) => refused(error, mark),
                }
            }),
        }
    }
}

#[derive(Serialize)]
struct Acknowledgment<T> {
    r#type: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    mark: Option<Value>,
    #[serde(flatten)]
    what: T,
}

fn acknowledgment(what: impl Serialize, mark: Option<Value>) -> String {
    let answer = Acknowledgment { r#type: "handler_acknowledgment", mark, what };
    serde_json::to_string(&answer).unwrap_or_default()
}

fn accepted(receipt: &impl Serialize, mark: Option<Value>) -> String {
    acknowledgment(receipt, mark)
}

/// The same words as over HTTP.
fn refused(error: impl Into<ApiError>, mark: Option<Value>) -> String {
    let error = error.into();
    if let Some(cause) = error.causes().filter(|_| error.status.is_server_error()) {
        tracing::error!(cause, "a message from a WebSocket could not be stored");
    }
    let mut body: Value = serde_json::from_slice(&error.body("")).unwrap_or_default();
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
        members.insert("status".into(), "error".into());
    }
    acknowledgment(body, mark)
}
