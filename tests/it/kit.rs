//! What the tests of the API share: callers, fixtures, and the description that the service gives of itself.

use std::path::{Path, PathBuf};

use am_core::ambient::Clock;
use am_db::{Database, DatabaseSettings};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::harness::{Answer, ApiClient, PATIENCE};

/// The canonical prefix of the agents group.
pub const AGENTS: &str = "/api/v1/agents";

/// A database of all tables, without rows.
pub async fn migrated_database(file: &Path) -> Database {
    let settings = DatabaseSettings { readers: 1, busy_timeout: PATIENCE };
    let db = Database::open(file, &settings).await.unwrap();
    am_db::migrate(&db, &Clock::system()).await.unwrap();
    db
}

/// A JSON document that is looked into.
pub trait JsonDocument {
    /// The text of this member.
    fn text(&self, member: &str) -> &str;
}

impl JsonDocument for Value {
    #[track_caller]
    fn text(&self, member: &str) -> &str {
        self[member].as_str().unwrap_or_else(|| panic!("{member} is no text in {self}"))
    }
}

/// A file below `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// A fixture that is JSON.
pub fn json_fixture(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(path)).unwrap()).unwrap()
}

/// A request with this key, or with none.
pub async fn ask(server: &ApiClient, key: Option<&str>, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = server.client().request(method, server.url(path));
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    server.answer(request).await
}

/// GET with this key.
pub async fn get_as(server: &ApiClient, key: &str, path: &str) -> Answer {
    ask(server, Some(key), Method::GET, path, None).await
}

/// POST with this key.
pub async fn post_as(server: &ApiClient, key: &str, path: &str, body: Value) -> Answer {
    ask(server, Some(key), Method::POST, path, Some(body)).await
}

/// A step that runs a jq program.
pub fn jq(program: &str) -> Value {
    json!({"step_type": "data_processing", "action": {"kind": "jq", "program": program}})
}

/// A step that waits until a miner does something, which none of these tests has.
pub fn waiting() -> Value {
    json!({"step_type": "inference", "action": {"kind": "job", "service": "llm_inference", "request": {"model": "llama-7b"}}})
}

/// Each operation of an OpenAPI document: method and path template.
pub fn operations(document: &Value) -> Vec<(Method, String)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if let Ok(method @ (Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE)) =
                method.to_uppercase().parse()
            {
                found.push((method, path.clone()));
            }
        }
    }
    assert!(found.len() > 10, "a document with {} operations", found.len());
    found
}

/// A path template with `value` in each place.
pub fn filled(template: &str, value: &str) -> String {
    let parts: Vec<&str> = template.split('/').map(|part| if part.starts_with('{') { value } else { part }).collect();
    parts.join("/")
}

/// The `loc` of each fault of a 422.
pub fn locations(answer: &Value) -> Vec<Value> {
    let faults = answer["detail"].as_array().unwrap_or_else(|| panic!("not a list of faults: {answer}"));
    faults.iter().map(|fault| fault["loc"].clone()).collect()
}

/// `WEBHOOKS` with an endpoint `ops` that nobody listens at, and that wants tests only.
pub fn webhook_to_nobody() -> Value {
    let secret = "whsec_c2VjcmV0LW9mLXRlc3RzLXRoYXQtaXMtbG9uZw==";
    json!({"ops": {"url": "http://127.0.0.1:9/", "secret": secret, "allow_private": true, "events": ["test"]}})
}

/// A row of a miner that is online and announces `capabilities`, as the coordinator writes it.
pub fn miner_row(id: &str, capabilities: &Value) -> String {
    format!(
        "INSERT INTO miner (id, region, capabilities, concurrency, status, inflight, extra_metadata, last_heartbeat, jobs_completed,
         jobs_failed, total_job_duration_ms, average_job_duration_ms) VALUES
         ('{id}', 'eu', '{capabilities}', 1, 'ONLINE', 0, '{{}}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0)"
    )
}

/// What another process does to the database.
pub async fn sql(database: &Path, statement: &str) {
    let mut conn = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}
