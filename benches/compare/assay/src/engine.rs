//! The engine as its worker and its callers see it: requests, and the events that wake them.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use tokio::sync::Notify;

use crate::server::KEY;

/// An engine's address, the worker registered there, and what its events have announced.
pub struct Engine {
    http: reqwest::Client,
    base: String,
    /// The identifier that the engine gave the worker.
    pub worker: String,
    /// Told when a workflow can go on.
    pub turns: Notify,
    /// Told when an activity can begin.
    pub activities: Notify,
    ends: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Engine {
    pub async fn register(address: &str) -> Result<Self> {
        let mut engine = Self {
            http: reqwest::Client::new(),
            base: format!("{address}/api/v1/engine/workflow"),
            worker: String::new(),
            turns: Notify::new(),
            activities: Notify::new(),
            ends: Mutex::default(),
        };
        let about = json!({"identity": "peer", "queue": "main", "workflows": ["three"], "activities": ["a", "b", "c"]});
        let answer = engine.post("/workers/register", &about).await?;
        engine.worker = answer["worker_id"].as_str().context("no worker_id")?.to_owned();
        Ok(engine)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = request.bearer_auth(KEY).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.answer(self.http.post(format!("{}{path}", self.base)).json(body)).await.with_context(|| path.to_owned())
    }

    /// Follows the engine's stream of events from now on: what it announces wakes who waits for it.
    pub async fn listen(self: Arc<Self>) -> Result<()> {
        let request = self.http.get(format!("{}/events/stream", self.base)).bearer_auth(KEY);
        let mut stream = request.send().await?.error_for_status()?;
        tokio::spawn(async move {
            let mut rest = Vec::new();
            while let Ok(Some(part)) = stream.chunk().await {
                rest.extend_from_slice(&part);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if let Some(data) = line.strip_prefix(b"data: ") {
                        self.note(&serde_json::from_slice(data).unwrap_or_default());
                    }
                }
            }
        });
        Ok(())
    }

    fn note(&self, event: &Value) {
        match event["kind"].as_str() {
            Some("workflow_needs_dispatch") => self.turns.notify_one(),
            Some("activity_inserted") => self.activities.notify_one(),
            Some("workflow_completed" | "workflow_failed") => {
                let id = event["payload"]["workflow_id"].as_str().unwrap_or_default();
                if let Some(waiting) = self.ends.lock().unwrap().remove(id) {
                    waiting.notify_one();
                }
            }
            _ => {}
        }
    }

    /// One workflow from start to result, in milliseconds.
    pub async fn execute(&self, id: &str) -> Result<f64> {
        let begun = Instant::now();
        let ended = Arc::new(Notify::new());
        self.ends.lock().unwrap().insert(id.to_owned(), ended.clone());
        let start = json!({"workflow_type": "three", "workflow_id": id, "task_queue": "main", "input": "x"});
        self.post("/workflows", &start).await?;
        loop {
            // The engine drops events that a listener is too slow for: look without one, too.
            let _ = tokio::time::timeout(Duration::from_secs(1), ended.notified()).await;
            let seen = self.answer(self.http.get(format!("{}/workflows/{id}", self.base))).await?;
            match (seen["status"].as_str(), seen["result"].as_str()) {
                (Some("COMPLETED"), Some("\"x-a-b-c\"")) => return Ok(begun.elapsed().as_secs_f64() * 1e3),
                (Some("PENDING" | "RUNNING"), _) if begun.elapsed() < Duration::from_secs(60) => {}
                _ => bail!("{id} ended as {seen}"),
            }
        }
    }
}
