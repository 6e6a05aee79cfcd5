//! The other end of `{"kind": "http"}` steps: counts what it is asked, and answers as the body says.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::harness::PATIENCE;

/// One call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    /// The query as it was sent; empty without one.
    pub query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn key(&self) -> &str {
        self.header("idempotency-key")
    }
}

/// An HTTP server on a thread of its own. A body may have the members `hold` (answer when the gate is open), `status`
/// with `times` (answer that so often to this `id`) and `retry_after`, `hang_up` (close the connection that so often without
/// an answer), `empty` (answer that status and nothing), `bytes` (a text so long), `redirect`; else it comes back as it is.
/// At `/agent` it is an agent of the registry.
pub struct Peer {
    port: u16,
    state: Arc<Book>,
}

struct Book {
    calls: Mutex<Vec<Call>>,
    count: watch::Sender<usize>,
    gate: watch::Sender<bool>,
    refused: Mutex<HashMap<String, u64>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Peer {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Book {
            calls: Mutex::default(),
            count: watch::channel(0).0,
            gate: watch::channel(false).0,
            refused: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let router = axum::Router::new().fallback(answer).with_state(state.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HTTP_ENDPOINTS` that lead here: `peer` (JSON, free) and `chat` (OpenAI, with a token, 0.5 a call).
    pub fn endpoints(&self) -> String {
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", self.port);
        json!({
            "peer": {"url": url("/json"), "kind": "json"},
            "chat": {"url": url("/chat"), "kind": "openai", "bearer": "a-token", "price": 0.5},
        })
        .to_string()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// How often `id` was called.
    pub fn count(&self, id: &str) -> usize {
        self.calls().iter().filter(|call| call.body["id"] == id).count()
    }

    /// Until so many calls have come in all.
    pub async fn called(&self, times: usize) {
        let mut count = self.state.count.subscribe();
        let came = timeout(PATIENCE, count.wait_for(|count| *count >= times)).await;
        assert!(came.is_ok(), "{times} calls were expected: {:?}", self.calls());
    }

    /// Answer calls that hold, those to come too.
    pub fn open(&self) {
        self.state.gate.send_replace(true);
    }

    /// Let calls hold again.
    pub fn shut(&self) {
        self.state.gate.send_replace(false);
    }

    /// The most calls that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// Calls whose caller waits for an answer now.
    pub fn under_way(&self) -> usize {
        self.state.under_way.load(Ordering::SeqCst)
    }
}

/// Counts a call as under way until it is answered or its caller is gone.
struct UnderWay(Arc<Book>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(State(book): State<Arc<Book>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&to_bytes(body, 1 << 24).await.unwrap()).unwrap_or_default();
    let now = book.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    let _under_way = UnderWay(book.clone());
    book.most.fetch_max(now, Ordering::SeqCst);
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: body.clone(),
    };
    let chat = call.path == "/chat";
    // An agent at its address, which does at once what it is asked, or takes it for later.
    let agent = (call.path == "/agent").then(|| match body["request"]["later"].as_bool() {
        Some(true) => json!({"status": "accepted"}),
        _ => json!({"result": {"did": body["sub_task"], "input": body["request"]["input"]}}),
    });
    book.calls.lock().unwrap().push(call);
    book.count.send_modify(|count| *count += 1);
    if body["hold"] == true || body["request"]["hold"] == true {
        let _ = book.gate.subscribe().wait_for(|open| *open).await;
    }
    if let Some(status) = body["status"].as_u64() {
        let mut refused = book.refused.lock().unwrap();
        let times = refused.entry(body["id"].to_string()).or_default();
        *times += 1;
        if *times <= body["times"].as_u64().unwrap_or(u64::MAX) {
            let mut refusal = (StatusCode::from_u16(status as u16).unwrap(), "no luck").into_response();
            if let Some(wait) = body["retry_after"].as_str() {
                refusal.headers_mut().insert(header::RETRY_AFTER, wait.parse().unwrap());
            }
            return refusal;
        }
    }
    if let Some(times) = body["hang_up"].as_u64() {
        let made = book.calls.lock().unwrap().iter().filter(|call| call.body["id"] == body["id"]).count();
        // hyper closes the connection of a request whose answer can't be made.
        assert!(made as u64 > times, "hanging up");
    }
    if let Some(status) = body["empty"].as_u64() {
        return StatusCode::from_u16(status as u16).unwrap().into_response();
    }
    if body["redirect"] == true {
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response();
    }
    let answer = match body["bytes"].as_u64() {
        _ if agent.is_some() => agent.unwrap_or_default(),
        Some(bytes) => json!("x".repeat(bytes as usize)),
        None if chat => json!({"choices": [{"message": {"content": format!("about {}", body["messages"])}}]}),
        None => body,
    };
    Body::from(answer.to_string()).into_response()
}
