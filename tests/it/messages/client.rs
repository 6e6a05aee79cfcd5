//! An agent's side of a socket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use crate::harness::{ApiClient, PATIENCE};

/// A socket that is open.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Open one and read its first frame.
    pub async fn open(server: &ApiClient, agent: &str) -> Self {
        let mut socket = Self::connect(server, agent, server.key()).await;
        let first = socket.next().await;
        assert_eq!((&first["type"], &first["agent_id"]), (&json!("connection_established"), &json!(agent)), "{first}");
        socket
    }

    /// Open one with this token.
    pub async fn connect(server: &ApiClient, agent: &str, token: &str) -> Self {
        let url =
            format!("ws://127.0.0.1:{}/api/v1/agent/messages/stream?agent_id={agent}&token={token}", server.port());
        Self(connect_async(url).await.unwrap().0)
    }

    async fn frame(&mut self) -> Option<Message> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("nothing came")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(frame) => return Some(frame),
                Err(_) => return None,
            }
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        match self.frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no frame but {other:?}"),
        }
    }

    /// The next frame, which is a message.
    pub async fn message(&mut self) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], "message", "{frame}");
        frame
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(150), self.0.next()).await.is_err()
    }

    /// How the server closed it.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match self.frame().await {
                Some(Message::Close(frame)) => return frame,
                Some(_) => {}
                None => return None,
            }
        }
    }

    pub async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Send a message and answer its acknowledgement, which must come next.
    pub async fn say(&mut self, recipient: &str, content: Value) -> Value {
        self.send(json!({"type": "message", "payload": {"content": content, "recipient_id": recipient}})).await;
        let answer = self.next().await;
        assert_eq!(answer["type"], "handler_acknowledgment", "{answer}");
        answer
    }

    /// Say that a message came.
    pub async fn ack(&mut self, message: &Value) {
        self.send(json!({"type": "ack", "message_id": message["message_id"]})).await;
    }

    /// Send what is no frame of this protocol.
    pub async fn send_raw(&mut self, frame: Message) {
        self.0.send(frame).await.unwrap();
    }
}
