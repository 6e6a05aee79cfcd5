//! GPU services from outside: clients that ask, and a program that plays the coordinator and its miners.

mod coordinator;
mod ends;
mod job_list;
mod jobs;
mod profiles;
mod requests;
mod stream;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, CLIENT},
    kit::{JsonDocument, ask, post_as, sql},
};

/// The prefix of the group.
pub const SERVICES: &str = "/api/v1/services";

/// A good request to the route of this template.
pub fn good(template: &str) -> (String, Value) {
    let body = match template.strip_prefix(SERVICES).unwrap() {
        "/whisper/transcribe" | "/whisper/translate" => json!({"audio_url": "https://example.com/a.wav"}),
        "/stable-diffusion/generate" | "/stable-diffusion/img2img" => json!({"prompt": "a cat"}),
        "/llm/inference" | "/llm/stream" => json!({"model": "llama-7b", "prompt": "hello"}),
        "/ffmpeg/transcode" => json!({"input_url": "https://example.com/a.mkv"}),
        "/blender/render" => json!({"blend_file_url": "https://example.com/a.blend"}),
        "/{service_type}" => return (format!("{SERVICES}/whisper"), json!({"audio_url": "https://example.com/b.wav"})),
        other => panic!("POST {other} is not tried: say how it is asked"),
    };
    (template.to_owned(), body)
}

/// POST with the client's key.
async fn submit(server: &ApiClient, path: &str, body: Value) -> Answer {
    post_as(server, CLIENT, &format!("{SERVICES}{path}"), body).await
}

/// A job for a language model that nobody has taken; its id.
async fn queued(server: &ApiClient, prompt: &str) -> String {
    let made = submit(server, "/llm/inference", json!({"model": "llama-7b", "prompt": prompt})).await.is(201);
    made.text("job_id").to_owned()
}

/// GET with the client's key.
async fn get(server: &ApiClient, path: &str) -> Answer {
    ask(server, Some(CLIENT), Method::GET, &format!("{SERVICES}{path}"), None).await
}

/// DELETE with the client's key.
async fn delete(server: &ApiClient, id: &str) -> Answer {
    ask(server, Some(CLIENT), Method::DELETE, &format!("{SERVICES}/jobs/{id}"), None).await
}

/// What the coordinator writes when a miner has come to this with a job.
async fn set(server: &ApiClient, id: &str, change: &str) {
    sql(&server.database(), &format!("UPDATE job SET {change} WHERE id = '{id}'")).await;
}

const RUNNING: &str = "state = 'RUNNING', assigned_miner_id = 'miner-1'";
const COMPLETED: &str = "state = 'COMPLETED', assigned_miner_id = 'miner-1', result = '{\"text\": \"HELLO\"}'";
