//! All or nothing: whatever a request asks for, when it is refused it leaves no row, no number and no event behind.

use std::{collections::BTreeMap, sync::Arc};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use super::idempotency::{UPLOADS, prepare};
use crate::{
    harness::{Answer, ApiClient, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument as _, operations, webhook_to_nobody},
};

/// Requests sent for each operation.
const MUTATIONS: usize = 12;
/// Times that a refused request is sent before it counts as one that leaves something.
const ATTEMPTS: usize = 3;

/// What changes by itself: beats of processes, presence, what is on its way, the sealing of the log, scores counted from it.
const BACKGROUND: [&str; 22] = [
    "am_deployments",
    "am_deployment_instances",
    "am_deployment_changes",
    "am_deployment_samples",
    "agent_deployment_configs",
    "agent_deployment_instances",
    "am_workers",
    "am_presence",
    "am_assignment_notices",
    "am_socket_processes",
    "am_audit_entries",
    "am_audit_tiles",
    "agent_trust_scores",
    "am_audit_heads",
    "am_audit_keys",
    "am_audit_counts",
    "am_audit_cursors",
    "am_webhook_deliveries",
    "am_webhook_endpoints",
    "am_profile_buckets",
    "am_profile_feed",
    "am_profile_work",
];

/// The rows of each table, as text.
type TableTexts = Arc<BTreeMap<String, String>>;

/// The rows of each table. Of the audit log only changes count: it may tell of a refusal.
pub struct TableDigests {
    conn: SqliteConnection,
    queries: Vec<(String, String)>,
    /// What was read last, and the version of the database before it.
    last: Option<(i64, TableTexts)>,
}

impl TableDigests {
    pub async fn open(server: &ApiClient) -> Self {
        let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut conn).await.unwrap();
        let mut queries = Vec::new();
        for table in tables.into_iter().filter(|table| !BACKGROUND.contains(&table.as_str())) {
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(columns)).fetch_all(&mut conn).await.unwrap();
            let row: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
            let told = "'ACCESS_DENIED', 'SECURITY_VIOLATION', 'VERIFICATION_FAILED'";
            let which = match table.as_str() {
                // Money that was not moved is told of by an entry, too.
                "agent_audit_logs" => {
                    format!(" WHERE event_type NOT IN ({told}) AND event_data ->> 'refused' IS NULL")
                }
                _ => String::new(),
            };
            let row = row.join(" || ',' || ");
            queries.push((
                table.clone(),
                format!("SELECT coalesce(group_concat({row}, char(10)), '') FROM \"{table}\"{which}"),
            ));
        }
        Self { conn, queries, last: None }
    }

    /// The tables; as they were read before where nobody has committed since.
    pub async fn read(&mut self) -> TableTexts {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.conn).await.unwrap();
        if let Some((_, tables)) = self.last.as_ref().filter(|(seen, _)| *seen == version) {
            return tables.clone();
        }
        let mut tables = BTreeMap::new();
        for (table, query) in &self.queries {
            let row = sqlx::query(AssertSqlSafe(query.clone())).fetch_one(&mut self.conn).await.unwrap();
            tables.insert(table.clone(), row.get::<String, _>(0));
        }
        let tables = Arc::new(tables);
        self.last = Some((version, tables.clone()));
        tables
    }

    /// The tables once nothing moves any more: what was accepted goes on for a moment.
    pub async fn settled(&mut self) -> TableTexts {
        let (mut before, mut quiet) = (self.read().await, 0);
        while quiet < 3 {
            poll_interval().await;
            let now = self.read().await;
            let due = "SELECT (SELECT count(*) FROM am_runs WHERE state = 'ready' AND NOT paused)
                 + (SELECT count(*) FROM am_assignment_notices)";
            let due: i64 = sqlx::query_scalar(due).fetch_one(&mut self.conn).await.unwrap();
            quiet = if now == before && due == 0 { quiet + 1 } else { 0 };
            before = now;
        }
        before
    }
}

/// What differs between two tables, from its beginning.
fn difference(before: &str, after: &str) -> String {
    let same = before.bytes().zip(after.bytes()).take_while(|(one, other)| one == other).count();
    let part = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(80)..]).chars().take(400).collect::<String>()
    };
    format!("{}\n=> {}", part(before), part(after))
}

/// The places of a document's values, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

/// A body with one thing wrong, or with one thing that may be wrong.
fn mutated(random: &mut SmallRng, body: &Value) -> Value {
    let mut body = body.clone();
    let mut found = Vec::new();
    places(&body, "", &mut found);
    let at = found.choose(random).unwrap().clone();
    let wrong = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!(18_446_744_073_709_551_615_u64),
        json!(true),
        json!(""),
        json!("\u{0}"),
        json!("no such thing"),
        json!("x".repeat(70_000)),
        json!([]),
        json!({}),
        json!([{"a": [[]]}]),
        json!(vec![0; 5000]),
    ];
    let value = body.pointer_mut(&at).unwrap();
    match (random.random_range(0..4), &mut *value) {
        (0, Value::Object(members)) if !members.is_empty() => {
            let name = members.keys().nth(random.random_range(0..members.len())).unwrap().clone();
            members.remove(&name);
        }
        (1, Value::Object(members)) => {
            members.insert("nobody_knows_this".into(), wrong.choose(random).unwrap().clone());
        }
        (2, Value::Array(items)) if !items.is_empty() => items.push(items[0].clone()),
        _ => *value = wrong.choose(random).unwrap().clone(),
    }
    body
}

/// End the work in the background that was accepted: it would hold the places of what is prepared next.
async fn cancel_tasks(server: &ApiClient) {
    let tasks = format!("{AGENTS}/performance/tasks");
    for task in server.get(&tasks).await.ok().as_array().unwrap() {
        if ["queued", "running"].contains(&task.text("status")) {
            server.post(&format!("{tasks}/{}/cancel", task.text("id")), json!({})).await;
        }
    }
}

#[tokio::test]
async fn refused_requests_leave_nothing() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let builder = TestApp::builder().env("WEBHOOKS", webhook_to_nobody()).env("WEBHOOK_RETRY_SCALE", 0);
    let builder = builder.env("DEPLOYMENT_ALLOW_ROOT", true).env("DEPLOYMENT_HOLD_SECONDS", 1);
    // Nothing trains by itself: what is queued stays as it is.
    let server = builder.env("TRAINING_SLOTS", 0).start().await;
    let document = server.get("/openapi.json").await.ok();
    let mut digests = TableDigests::open(&server).await;
    let (mut refused, mut sent) = (0, 0);
    for (method, template) in operations(&document) {
        if method != Method::POST || UPLOADS.contains(&template.as_str()) {
            continue;
        }
        let (path, body) = prepare(&server, &template).await;
        let mut before = digests.settled().await;
        for number in 0..MUTATIONS {
            let (path, body) = match number {
                0 => (path.clone(), json!("no object")),
                // An id of nothing where the path has one.
                1 => (template.replace('{', "no-such-").replace('}', ""), body.clone()),
                _ => (path.clone(), mutated(&mut random, &body)),
            };
            // What was accepted before may still go on in the background: what a refusal leaves, it leaves each time.
            let mut left = String::new();
            for _ in 0..ATTEMPTS {
                let request = server.request(Method::POST, path.trim_end_matches("?wait=20"));
                let request = request.header("idempotency-key", format!("refused-{sent}"));
                let answer = Answer::of(request.json(&body)).await;
                sent += 1;
                let what = || {
                    let body = body.to_string().chars().take(300).collect::<String>();
                    format!("seed {seed}: POST {path} {body}: {} {}", answer.status, answer.text)
                };
                assert!(!answer.status.is_server_error(), "{}", what());
                left.clear();
                if answer.status.is_success() {
                    cancel_tasks(&server).await;
                    before = digests.settled().await;
                    break;
                }
                refused += 1;
                let after = digests.read().await;
                let Some(table) = after.keys().find(|table| before[*table] != after[*table]) else { break };
                left = format!("{} changed {table}: {}", what(), difference(&before[table], &after[table]));
                before = digests.settled().await;
            }
            assert!(left.is_empty(), "{left}");
        }
    }
    println!("{refused} of {sent} were refused");
    assert!(refused > sent / 3, "{refused} of {sent}");
}
