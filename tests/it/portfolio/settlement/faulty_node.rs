//! What stands between the service and the chain: it passes calls on, but for the faults that a test asks of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// What is wrong with the answer to one call.
#[derive(Clone, Debug)]
pub enum NodeFault {
    /// The chain does what it is asked, and the answer breaks off.
    LoseAnswer,
    /// The chain is not asked, and no answer comes.
    NotReached,
    /// The answer has this result, whatever the chain says.
    Result(Value),
    /// The answer is this text.
    Text(String),
    /// The chain is not asked, and the answer is this error.
    Refusal(String),
}

/// A JSON-RPC node on a thread of its own.
pub struct FaultyNode {
    port: u16,
    state: Arc<NodeState>,
}

struct NodeState {
    client: Client,
    chain: String,
    faults: Mutex<HashMap<String, VecDeque<NodeFault>>>,
    /// What every call of a method gets that has no fault of its own left.
    lasting: Mutex<HashMap<String, NodeFault>>,
    sent: Mutex<Vec<String>>,
}

impl FaultyNode {
    /// In front of the chain at `url`.
    pub fn start(url: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(NodeState {
            client: Client::new(),
            chain: url.to_owned(),
            faults: Mutex::default(),
            lasting: Mutex::default(),
            sent: Mutex::default(),
        });
        let router = axum::Router::new().fallback(pass_on).with_state(state.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next calls of `method` get these faults, one each.
    pub fn next(&self, method: &str, faults: impl IntoIterator<Item = NodeFault>) {
        self.state.faults.lock().unwrap().entry(method.to_owned()).or_default().extend(faults);
    }

    /// Every call of `method` gets this fault from now on.
    pub fn always(&self, method: &str, fault: NodeFault) {
        self.state.lasting.lock().unwrap().insert(method.to_owned(), fault);
    }

    /// Be honest from now on.
    pub fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
        self.state.lasting.lock().unwrap().clear();
    }

    /// The transactions that were handed over, each as often as it was.
    pub fn sent(&self) -> Vec<String> {
        self.state.sent.lock().unwrap().clone()
    }
}

impl NodeState {
    fn fault(&self, method: &str) -> Option<NodeFault> {
        let own = self.faults.lock().unwrap().get_mut(method).and_then(VecDeque::pop_front);
        own.or_else(|| self.lasting.lock().unwrap().get(method).cloned())
    }
}

/// An answer that ends before it is whole.
fn broken() -> Response {
    let parts = [Ok(Bytes::from_static(b"{\"jsonrpc\":")), Err(std::io::Error::other("broken off"))];
    Body::from_stream(futures_util::stream::iter(parts)).into_response()
}

async fn pass_on(State(node): State<Arc<NodeState>>, request: Request) -> Response {
    let body = to_bytes(request.into_body(), 1 << 24).await.unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let method = asked["method"].as_str().unwrap_or_default();
    if method == "eth_sendRawTransaction" {
        node.sent.lock().unwrap().push(asked["params"][0].as_str().unwrap_or_default().to_owned());
    }
    let answer = |part: Value| {
        let mut whole = json!({"jsonrpc": "2.0", "id": asked["id"]});
        whole.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        whole.to_string().into_response()
    };
    match node.fault(method) {
        Some(NodeFault::NotReached) => return broken(),
        Some(NodeFault::Result(result)) => return answer(json!({"result": result})),
        Some(NodeFault::Text(text)) => return text.into_response(),
        Some(NodeFault::Refusal(message)) => {
            return answer(json!({"error": {"code": -32_000, "message": message}}));
        }
        Some(NodeFault::LoseAnswer) => {
            let _ = node.client.post(&node.chain).body(body).header("content-type", "application/json").send().await;
            return broken();
        }
        None => {}
    }
    let passed = node.client.post(&node.chain).body(body).header("content-type", "application/json").send().await;
    match passed {
        Ok(passed) => passed.bytes().await.unwrap_or_default().into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
