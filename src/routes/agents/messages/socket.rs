//! An agent's socket while it is open: what the client says, and what it is sent.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::{message_request, socket_token::SocketToken};
use crate::{
    app::App,
    http::{ApiCaller, ApiError, caller::check_sender, rate_limit::RateBucket},
};
use am_communication::{
    delivery::{DeliverySession, ReplySender, SocketFrameKind},
    messages::MessageDestination,
};
use am_core::{
    ids::{AgentId, ChannelId, MessageId},
    json_number::read_json,
};
use am_db::{codec::Timestamp, principal::Principal};

/// Messages of one client that are on their way into the database; beyond it nothing more is read from it.
const MAX_CONCURRENT_SENDS: usize = 64;
/// Frames that are sent with one write.
const MAX_FRAMES_PER_FLUSH: usize = 64;
/// How long a client may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pings without a sign of life, after which a client counts as gone.
const MAX_MISSED_PINGS: u32 = 3;

/// Why a socket is closed.
#[derive(Clone, Copy, Debug)]
pub enum SocketEnd {
    /// The client is gone.
    Gone,
    /// The client closes it.
    Closed,
    /// The client sent what can't be read: a code of RFC 6455, and the reason.
    Unreadable(u16, &'static str),
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

impl SocketEnd {
    /// The frame that says so.
    fn frame(self) -> Option<Frame> {
        let (code, reason) = match self {
            Self::Gone | Self::Closed => return None,
            Self::Unreadable(code, why) => (code, why),
            Self::NotAllowed(why) => (1008, why),
            Self::Stopping => (1001, "the service is stopping"),
            Self::TooMany => (1013, "too many sockets; try again later"),
            Self::Silent => (1001, "silent for too long"),
            Self::Failed => (1011, "internal error"),
        };
        Some(Frame::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) })))
    }

    /// What a failure to read means.
    fn of_error(error: axum::Error) -> Self {
        match error.into_inner().downcast_ref() {
            Some(tungstenite::Error::Capacity(_)) => Self::Unreadable(1009, "a message is too long"),
            Some(tungstenite::Error::Utf8(_)) => Self::Unreadable(1007, "a text is not UTF-8"),
            Some(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::Gone,
            Some(tungstenite::Error::Protocol(_)) => Self::Unreadable(1002, "this is not the WebSocket protocol"),
            _ => Self::Gone,
        }
    }
}

/// Close a socket that was never used.
pub async fn refuse_socket(socket: WebSocket, end: SocketEnd) {
    let (mut sink, mut stream) = socket.split();
    close_socket(&mut sink, &mut stream, end).await;
}

async fn close_socket(
    sink: &mut (impl Sink<Frame> + Unpin),
    stream: &mut (impl Stream<Item = Result<Frame, axum::Error>> + Unpin),
    end: SocketEnd,
) {
    let farewell = async {
        match (end, end.frame()) {
            // The answer to its Close was made as that was read.
            (SocketEnd::Closed, _) => drop(sink.flush().await),
            (SocketEnd::Unreadable(..), Some(frame)) => {
                if sink.send(frame).await.is_ok() {
                    // Nothing more can be read, and closing the connection now would discard what it has not read yet.
                    std::future::pending::<()>().await;
                }
            }
            (_, Some(frame)) => {
                if sink.send(frame).await.is_ok() {
                    // Until the client has closed its side: what it has not read yet would be lost with the connection.
                    while let Some(Ok(_)) = stream.next().await {}
                }
            }
            (_, None) => {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
}

/// What a socket stands on.
pub struct SocketParts {
    pub app: App,
    pub session: DeliverySession,
    pub replies: ReplySender,
    pub caller: ApiCaller,
    pub pass: SocketToken,
}

/// Serve a socket until it ends.
pub async fn run_socket(parts: SocketParts, socket: WebSocket) {
    let SocketParts { app, session, replies, caller, pass } = parts;
    let (mut sink, mut stream) = socket.split();
    let heard = AtomicBool::new(true);
    let agent = session.agent().clone();
    let established =
        json!({"type": SocketFrameKind::ConnectionEstablished, "agent_id": agent, "timestamp": current_time(&app)});
    if sink.send(text_frame(established.to_string().into())).await.is_err() {
        return;
    }
    let listener = FrameReader { app: &app, agent: &agent, replies: &replies, by: &caller.principal, heard: &heard };
    let end = tokio::select! {
        end = listener.read_loop(&mut stream) => end,
        why = pass.ended(&app, &agent, &caller) => SocketEnd::NotAllowed(why),
        end = write_loop(&app, session, &mut sink, &heard) => end,
    };
    close_socket(&mut sink, &mut stream, end).await;
}

fn current_time(app: &App) -> Timestamp {
    Timestamp(app.clock.now())
}

/// Everything that is sent was made as JSON here.
fn text_frame(frame: Bytes) -> Frame {
    Frame::Text(Utf8Bytes::try_from(frame).unwrap_or_default())
}

/// Send what the session has, and ping.
async fn write_loop(
    app: &App,
    mut session: DeliverySession,
    sink: &mut (impl Sink<Frame> + Unpin),
    heard: &AtomicBool,
) -> SocketEnd {
    let every = app.shared.config.messages.ping;
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let mut silent = 0;
    loop {
        let first = tokio::select! {
            next = session.next() => match next {
                Ok(Some(frame)) => text_frame(frame),
                Ok(None) => return SocketEnd::Stopping,
                Err(error) => {
                    tracing::warn!(%error, agent = &**session.agent(), "messages for a WebSocket could not be read");
                    return SocketEnd::Failed;
                }
            },
            _ = ping.tick() => {
                silent = if heard.swap(false, Ordering::AcqRel) { 0 } else { silent + 1 };
                if silent >= MAX_MISSED_PINGS {
                    return SocketEnd::Silent;
                }
                Frame::Ping(Bytes::new())
            }
        };
        let send = async {
            sink.feed(first).await.ok()?;
            for _ in 0..MAX_FRAMES_PER_FLUSH {
                let Some(frame) = session.ready() else { break };
                sink.feed(text_frame(frame)).await.ok()?;
            }
            sink.flush().await.ok()
        };
        // One that takes nothing for so long is as good as silent.
        match tokio::time::timeout(every * MAX_MISSED_PINGS, send).await {
            Ok(Some(())) => {}
            Ok(None) => return SocketEnd::Gone,
            Err(_) => return SocketEnd::Silent,
        }
    }
}

/// What a client may say.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ClientFrame {
    /// To be sent.
    Message {
        payload: Box<MessagePayload>,
        /// Comes back with the answer.
        #[serde(rename = "ref")]
        mark: Option<Value>,
    },
    /// What it has got.
    Ack {
        message_id: Option<MessageId>,
        #[serde(default)]
        message_ids: Vec<MessageId>,
    },
    /// To be sent to the subscribers of a topic, or to everybody.
    Broadcast {
        payload: Box<MessagePayload>,
        /// Comes back with the answer.
        #[serde(rename = "ref")]
        mark: Option<Value>,
    },
    /// Wants to hear of a topic.
    Subscribe { payload: TopicPayload },
    /// Does not want to hear of it any more.
    Unsubscribe { payload: TopicPayload },
    /// It is there.
    Heartbeat,
    /// Is anybody there?
    #[serde(alias = "PING")]
    Ping,
    /// Answer to a ping.
    #[serde(alias = "PONG")]
    Pong,
}

/// A topic as a socket names it.
#[derive(Deserialize)]
struct TopicPayload {
    topic: String,
    filter: Option<Map<String, Value>>,
}

message_request! {
    /// A message as a socket sends it.
    pub struct MessagePayload {
        /// What: an object. `PING` in its place is answered by `PONG`.
        #[schema(value_type = Object)]
        content: Value,
        /// To one agent;
        #[serde(alias = "recipient")]
        recipient_id: Option<AgentId>,
        /// or to the others in a channel;
        channel_id: Option<ChannelId>,
        /// or to whoever has subscribed to it.
        topic: Option<String>,
    }
}

/// The client's side.
struct FrameReader<'a> {
    app: &'a App,
    agent: &'a AgentId,
    replies: &'a ReplySender,
    by: &'a Principal,
    heard: &'a AtomicBool,
}

impl FrameReader<'_> {
    async fn read_loop(&self, stream: &mut (impl Stream<Item = Result<Frame, axum::Error>> + Unpin)) -> SocketEnd {
        let mut under_way = FuturesUnordered::new();
        loop {
            let frame = tokio::select! {
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    self.replies.send(answer).await;
                    continue;
                }
                frame = stream.next(), if under_way.len() < MAX_CONCURRENT_SENDS => frame,
            };
            self.heard.store(true, Ordering::Release);
            let said = match frame {
                None => return SocketEnd::Gone,
                Some(Err(error)) => return SocketEnd::of_error(error),
                Some(Ok(Frame::Close(_))) => return SocketEnd::Closed,
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                Some(Ok(Frame::Text(text))) => read_json(text.as_bytes()).map_err(|error| error.to_string()),
                Some(Ok(Frame::Binary(_))) => Err("frames are JSON texts".to_owned()),
            };
            match said {
                Ok(ClientFrame::Message { payload, mark }) => match self.hand_in(payload, mark, false).await {
                    Ok(answer) => under_way.push(answer),
                    Err(answer) => drop(self.replies.send(answer).await),
                },
                Ok(ClientFrame::Broadcast { payload, mark }) => match self.hand_in(payload, mark, true).await {
                    Ok(answer) => under_way.push(answer),
                    Err(answer) => drop(self.replies.send(answer).await),
                },
                Ok(ClientFrame::Subscribe { payload }) => drop(self.replies.send(self.subscribe(payload).await).await),
                Ok(ClientFrame::Unsubscribe { payload }) => {
                    let _ = self.replies.send(self.unsubscribe(payload).await).await;
                }
                Ok(ClientFrame::Heartbeat) => {
                    let answer = json!({"type": SocketFrameKind::HeartbeatAck, "timestamp": current_time(self.app)});
                    let _ = self.replies.send(answer.to_string()).await;
                }
                Ok(ClientFrame::Ack { message_id, message_ids }) => {
                    let all = message_id.into_iter().chain(message_ids).collect();
                    self.app.delivery.acknowledge(self.agent, all).await;
                }
                Ok(ClientFrame::Ping) => drop(self.replies.send(self.pong_json(Value::Null, None)).await),
                Ok(ClientFrame::Pong) => {}
                Err(why) => {
                    let answer = json!({"type": SocketFrameKind::Error, "code": "bad_frame", "detail": why});
                    self.replies.send(answer.to_string()).await;
                }
            }
        }
    }

    /// The answer to a ping, in the name of the agent that was asked, if one was.
    fn pong_json(&self, content: Value, asked: Option<AgentId>) -> String {
        let sender = match asked {
            Some(agent) => self.app.shared.keyring.shown(&agent),
            None => env!("CARGO_PKG_NAME").to_owned(),
        };
        let pong = json!({
            "type": SocketFrameKind::Pong,
            "content": content,
            "sender": sender,
            "sender_id": sender,
            "recipient": self.agent,
            "recipient_id": self.agent,
            "timestamp": current_time(self.app),
        });
        pong.to_string()
    }

    /// The refusal of a change for which the caller has no request left.
    fn limited(&self) -> Result<(), ApiError> {
        let bucket = RateBucket::Principal(self.by.name.clone());
        let checked = self.app.shared.limiter.as_ref().map_or(Ok(()), |limiter| limiter.check(bucket));
        checked.map_err(ApiError::too_many)
    }

    async fn subscribe(&self, TopicPayload { topic, filter }: TopicPayload) -> String {
        if let Err(error) = self.limited() {
            return refused_json(error, None);
        }
        let filter = filter.unwrap_or_default();
        let done = self.app.delivery.subscribe(self.by, self.agent, &topic, filter, None).await;
        self.confirmed_json(SocketFrameKind::SubscriptionConfirmed, done.map(|done| done.value.topic))
    }

    async fn unsubscribe(&self, TopicPayload { topic, .. }: TopicPayload) -> String {
        if let Err(error) = self.limited() {
            return refused_json(error, None);
        }
        let done = self.app.delivery.unsubscribe(self.by, self.agent, &topic, None).await;
        self.confirmed_json(SocketFrameKind::UnsubscriptionConfirmed, done.map(|_| topic))
    }

    fn confirmed_json(&self, kind: SocketFrameKind, done: am_communication::Result<String>) -> String {
        match done {
            Ok(topic) => json!({"type": kind, "topic": topic, "timestamp": current_time(self.app)}).to_string(),
            Err(error) => refused_json(error, None),
        }
    }

    /// Hand in what is to be sent: what will be answered, or the answer. Without a destination a message may go `to_all`.
    async fn hand_in(
        &self,
        mut payload: Box<MessagePayload>,
        mark: Option<Value>,
        to_all: bool,
    ) -> Result<impl Future<Output = String> + use<>, String> {
        if payload.content == "PING" {
            let asked = payload.recipient_id.take();
            return Err(self.pong_json(payload.content, asked));
        }
        if !payload.content.is_object() {
            // As over HTTP, where the content's type says so.
            let loc = vec!["body".into(), "content".into()];
            return Err(refused_json(ApiError::invalid_field(loc, "Input should be an object", "dict_type"), mark));
        }
        if let Err(error) = self.limited() {
            return Err(refused_json(error, mark));
        }
        if let Err(error) = check_sender(&self.app.shared.keyring, self.by, "agent_id", self.agent) {
            return Err(refused_json(error, mark));
        }
        let content = std::mem::take(&mut payload.content);
        let to = match (payload.recipient_id.take(), payload.channel_id.take(), payload.topic.take()) {
            (Some(agent), None, None) => MessageDestination::Agent(self.app.shared.keyring.shown(&agent).into()),
            (None, Some(channel), None) => MessageDestination::Channel(channel),
            (None, None, Some(topic)) => MessageDestination::Topic(topic),
            (None, None, None) if to_all => MessageDestination::AllAgents,
            _ => {
                let error = am_communication::CommunicationError::invalid(
                    "recipient_id",
                    "give one of recipient_id, channel_id and topic",
                );
                return Err(refused_json(error, mark));
            }
        };
        let draft = payload.draft(self.agent.clone(), to, content);
        match self.app.messages.hand_in(self.by, draft, None).await {
            Err(error) => Err(refused_json(error, mark)),
            Ok(receipt) => Ok(async move {
                match receipt.await.unwrap_or(Err(am_communication::CommunicationError::Stopping)) {
                    Ok(done) => accepted_json(&done.value, mark),
                    Err(error) => refused_json(error, mark),
                }
            }),
        }
    }
}

#[derive(Serialize)]
struct AckFrame<T> {
    r#type: SocketFrameKind,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    mark: Option<Value>,
    #[serde(flatten)]
    what: T,
}

fn ack_json(what: impl Serialize, mark: Option<Value>) -> String {
    let answer = AckFrame { r#type: SocketFrameKind::HandlerAcknowledgment, mark, what };
    serde_json::to_string(&answer).unwrap_or_default()
}

fn accepted_json(receipt: &impl Serialize, mark: Option<Value>) -> String {
    ack_json(receipt, mark)
}

/// The same words as over HTTP.
fn refused_json(error: impl Into<ApiError>, mark: Option<Value>) -> String {
    let error = error.into();
    if let Some(cause) = error.causes().filter(|_| error.status.is_server_error()) {
        tracing::error!(cause, "a message from a WebSocket could not be stored");
    }
    let mut body: Value = serde_json::from_slice(&error.body("")).unwrap_or_default();
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
        members.insert("status".into(), "error".into());
    }
    ack_json(body, mark)
}
