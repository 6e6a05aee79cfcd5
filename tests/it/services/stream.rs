//! A job's states as they come.

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{COMPLETED, RUNNING, SERVICES, queued, set};
use crate::harness::{ApiClient, CLIENT, PATIENCE, Server, TestApp};
use crate::kit::JsonDocument;

/// A stream of Server-Sent Events that is read event by event.
struct Events {
    bytes: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
}

impl Events {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.header("x-api-key", CLIENT).header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { bytes: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The next event: id, name, data; none at the end.
    async fn next(&mut self) -> Option<(u64, String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                if let Some(id) = field("id") {
                    let data = serde_json::from_str(field("data").unwrap()).unwrap();
                    return Some((id.parse().unwrap(), field("event").unwrap().to_owned(), data));
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.bytes.next()).await.expect("the stream is silent")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn inference_stream_follows_a_job_to_its_result() {
    let server = TestApp::start().await;
    let url = server.url(&format!("{SERVICES}/llm/stream"));
    let mut events =
        Events::of(server.client().post(&url).json(&json!({"model": "llama-7b", "prompt": "hello"}))).await;
    let (seq, kind, data) = events.next().await.unwrap();
    assert_eq!((seq, kind.as_str(), &data["status"], &data["position"]), (1, "state", &json!("QUEUED"), &json!(1)));
    let id = data.text("job_id").to_owned();
    set(&server, &id, RUNNING).await;
    let (seq, kind, data) = events.next().await.unwrap();
    assert_eq!(
        (seq, kind.as_str(), &data["status"], &data["miner"]),
        (2, "state", &json!("RUNNING"), &json!("miner-1"))
    );
    set(&server, &id, COMPLETED).await;
    let mut rest = Vec::new();
    while let Some((seq, kind, data)) = events.next().await {
        rest.push((seq, kind, data));
    }
    let kinds: Vec<(u64, &str)> = rest.iter().map(|(seq, kind, _)| (*seq, kind.as_str())).collect();
    assert_eq!(kinds, [(3, "state"), (4, "result"), (5, "end")]);
    assert_eq!(rest[1].2["result"], json!({"text": "HELLO"}), "as the miner delivered it");
    assert_eq!(rest[2].2["status"], "COMPLETED");
    // The same key is the same job, and its stream from the beginning.
    let keyed = || {
        let request = server.client().post(&url).json(&json!({"model": "llama-7b", "prompt": "again"}));
        Events::of(request.header("idempotency-key", "k"))
    };
    let (mut first, mut again) = (keyed().await, keyed().await);
    assert_eq!(first.next().await.unwrap().2["job_id"], again.next().await.unwrap().2["job_id"]);
    // Without that wish it is a job as any other, and the miner is told to stream all the same.
    let plain = super::submit(&server, "/llm/stream", json!({"model": "llama-7b", "prompt": "x"})).await.is(200);
    assert_eq!(plain["status"], "QUEUED");
    let row = super::get(&server, &format!("/jobs/{}", plain.text("job_id"))).await.ok();
    assert_eq!(row["request"]["stream"], true);
}

#[tokio::test]
async fn job_stream_resumes_after_restart() {
    let server = TestApp::start().await;
    let id = queued(&server, "x").await;
    let events = async |server: &ApiClient, after: &str| {
        let url = server.url(&format!("{SERVICES}/jobs/{id}/events"));
        Events::of(server.client().get(url).header("last-event-id", after)).await
    };
    let mut first = events(&server, "").await;
    assert_eq!(first.next().await.unwrap().0, 1);
    // With no miner seen in between it goes from the first to the last.
    let server = server.restart().await;
    let mut second = events(&server, "1").await;
    set(&server, &id, "state = 'FAILED', error = 'out of memory'").await;
    let (seq, kind, data) = second.next().await.unwrap();
    assert_eq!(
        (seq, kind.as_str(), &data["status"], &data["error"]),
        (3, "state", &json!("FAILED"), &json!("out of memory"))
    );
    assert_eq!(second.next().await.unwrap().0, 5, "there is no result");
    assert!(second.next().await.is_none());
    let mut late = events(&server, "0").await;
    let mut seen = Vec::new();
    while let Some((seq, ..)) = late.next().await {
        seen.push(seq);
    }
    assert_eq!(seen, [1, 3, 5]);
    // A browser would connect again and again after an empty stream.
    let url = server.url(&format!("{SERVICES}/jobs/{id}/events"));
    let over = server.client().get(url).header("x-api-key", CLIENT).header("last-event-id", "5").send().await.unwrap();
    assert_eq!(over.status(), 204);
}

#[tokio::test]
async fn shutdown_ends_job_streams() {
    let mut server = Server::start().await;
    let id = queued(&server, "x").await;
    let url = server.url(&format!("{SERVICES}/jobs/{id}/events"));
    let mut events = Events::of(server.client().get(url)).await;
    assert_eq!(events.next().await.unwrap().0, 1);
    let in_flight = async || {
        let page = server.get("/metrics").await.text;
        let line = page.lines().find_map(|line| line.strip_prefix("http_requests_in_flight ")).unwrap();
        line.parse::<i64>().unwrap()
    };
    let before = in_flight().await;
    let waiting = server.client().get(server.url(&format!("{SERVICES}/jobs/{id}?wait=50"))).header("x-api-key", CLIENT);
    let waiting = tokio::spawn(waiting.send());
    let deadline = std::time::Instant::now() + PATIENCE;
    while in_flight().await <= before {
        assert!(std::time::Instant::now() < deadline, "it never came");
    }
    server.signal("TERM");
    let (ended, waited) = tokio::join!(events.next(), waiting);
    let waited = waited.unwrap();
    assert!(ended.is_none(), "{ended:?}");
    assert_eq!(waited.unwrap().status(), 200, "how it stands");
    assert!(server.wait().success());
}
