//! Connections over real sockets: how long they may be silent, and how many there may be.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::toy_service::{ADMIN, ToyService};
use crate::http::{connections::ConnectionLimits, listener::serve_connections};

/// How long anything here may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

struct RunningToy {
    address: SocketAddr,
    closing: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl RunningToy {
    async fn start(header_timeout: Duration, total: usize, per_address: usize) -> Self {
        let limits = ConnectionLimits { header_timeout, total, per_address, proxies: Vec::new() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = CancellationToken::new();
        let service = ToyService::new(|_| {}).service;
        let ended = tokio::spawn(serve_connections(listener, service, limits, closing.clone()));
        Self { address, closing, ended }
    }

    /// A connection on which `text` was sent.
    async fn say(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// The whole answer to a request on a connection of its own.
    async fn get(&self, path: &str) -> String {
        let mut stream = self.say(&get(path, "close")).await;
        rest(&mut stream).await
    }
}

fn get(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {ADMIN}\r\nConnection: {connection}\r\n\r\n")
}

/// What comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset ends it as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the connection stays open");
    String::from_utf8(all).unwrap()
}

/// A connection that has had an answer and is kept open.
async fn kept(toy: &RunningToy) -> TcpStream {
    let mut stream = toy.say(&get("/health/live", "keep-alive")).await;
    let mut start = [0; 15];
    timeout(PATIENCE, stream.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    stream
}

#[tokio::test]
async fn half_sent_heads_end_after_the_timeout() {
    let toy = RunningToy::start(Duration::from_millis(100), 100, 100).await;
    let mut halves = Vec::new();
    for text in ["", "G", "GET /health HTTP/1.1\r\n", "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A:"] {
        halves.push(toy.say(text).await);
    }
    // Idle after an answer.
    halves.push(kept(&toy).await);
    for half in &mut halves {
        rest(half).await;
    }
    assert!(toy.get("/api/v1/agents/things/7").await.ends_with("\r\n\r\n7"));
}

#[tokio::test]
async fn beyond_the_limit_probes_alone_are_answered() {
    for (total, per_address) in [(2, 100), (100, 2)] {
        let toy = RunningToy::start(PATIENCE * 2, total, per_address).await;
        let held = [kept(&toy).await, kept(&toy).await];
        let refused = toy.get("/api/v1/agents/things/7").await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        assert!(
            refused.contains("\"code\":\"too_many_connections\"") && refused.contains("retry-after: 1"),
            "{refused}"
        );
        for probe in ["/health", "/health/live", "/health/ready"] {
            let answer = toy.get(probe).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{probe}: {answer}");
        }
        drop(held);
        // The server sees the ends a moment later.
        let mut answer = toy.get("/api/v1/agents/things/7").await;
        while answer.starts_with("HTTP/1.1 503") {
            answer = toy.get("/api/v1/agents/things/7").await;
        }
        assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
    }
}

#[tokio::test]
async fn probes_are_answered_among_hundreds_of_half_sent_heads() {
    let toy = RunningToy::start(PATIENCE * 2, 4, 100).await;
    let mut halves = Vec::new();
    for _ in 0..300 {
        halves.push(toy.say("GET /health HTTP/1.1\r\nHost:").await);
    }
    let answer = toy.get("/health/live").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Those without a place don't wait for the header timeout.
    rest(&mut halves[5]).await;
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_waits_for_answers() {
    let toy = RunningToy::start(PATIENCE * 2, 100, 100).await;
    let mut idle = kept(&toy).await;
    // Its body comes after the stop.
    let head = format!(
        "POST /api/v1/agents/things HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"
    );
    let mut busy = toy.say(&head).await;
    let mut proceed = [0; 25];
    timeout(PATIENCE, busy.read_exact(&mut proceed)).await.unwrap().unwrap();
    toy.closing.cancel();
    rest(&mut idle).await;
    assert!(TcpStream::connect(toy.address).await.is_err(), "nothing new is accepted");
    busy.write_all(br#"{"name":"x"}"#).await.unwrap();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    timeout(PATIENCE, toy.ended).await.unwrap().unwrap();
}
