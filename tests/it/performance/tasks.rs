//! Background tasks: their list, events, pause, resume and cancellation; owners in turn; and the settings of the limits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{PERFORMANCE, optimisation};
use crate::{
    harness::{Answer, ApiClient, CLIENT, MINER, PATIENCE, Server, TestApp, poll_interval},
    kit::{JsonDocument as _, ask, get_as, post_as, sql},
};

/// The path of tasks.
pub fn tasks() -> String {
    format!("{PERFORMANCE}/tasks")
}

/// A task once it has ended, however long a loaded machine takes.
pub async fn ended(server: &ApiClient, key: &str, id: &str) -> Value {
    for _ in 0..20 {
        let task = get_as(server, key, &format!("{}/{id}?wait=30", tasks())).await.ok();
        if ["completed", "failed", "cancelled"].contains(&task.text("status")) {
            return task;
        }
    }
    panic!("task {id} does not end")
}

fn task_path(optimization: &Value) -> String {
    format!("{}/{}", tasks(), optimization.text("task_id"))
}

/// Begin an optimisation that takes a minute or more.
pub async fn endless(server: &ApiClient, key: &str, agent: &str) -> Value {
    let policy = optimisation::policy(server, key, &format!("{agent}-policy")).await;
    let budget = json!({"trials": 40, "steps": 20_000});
    optimisation::optimize(server, key, agent, json!({"policy": policy, "budget": budget})).await.ok()
}

/// Wait until a task is in a status.
pub async fn in_status(server: &ApiClient, key: &str, path: &str, wanted: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let task = get_as(server, key, path).await.ok();
        if task["status"] == wanted {
            return task;
        }
        assert!(Instant::now() < deadline, "not {wanted} in time: {task}");
        assert!(!["completed", "failed", "cancelled"].contains(&task.text("status")), "{task}");
        poll_interval().await;
    }
}

/// A task of a kind that no process here knows, so that it stays in this status.
pub async fn waiting(server: &ApiClient, status: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("task_{:012x}", NEXT.fetch_add(1, Ordering::Relaxed));
    let owner = crate::ledger::principal_of(server.key());
    let insert = format!(
        "INSERT INTO am_background_tasks (id, kind, subject, owner_id, parameters, seed, status, created_at, updated_at)
         VALUES ('{id}', 'other', 'worker', '{owner}', '{{}}', 0, '{status}', '2026-01-02 03:04:05', '2026-01-02 03:04:05')"
    );
    sql(&server.database(), &insert).await;
    id
}

/// What to ask of a POST about tasks so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let action = template.rsplit('/').next().unwrap();
    let task = waiting(server, if action == "resume" { "paused" } else { "queued" }).await;
    (format!("{}/{task}/{action}", tasks()), json!({}))
}

/// The kinds of a task's events, whose numbers have no gap.
pub async fn event_kinds(server: &ApiClient, path: &str) -> Vec<String> {
    let page = server.get(&format!("{path}/events?format=json&limit=1000")).await.ok();
    let events = page["events"].as_array().unwrap().clone();
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gap and no double");
    events.iter().map(|event| event.text("type").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn task_is_paused_resumed_and_cancelled_within_a_second() {
    let server = TestApp::start().await;
    let optimization = endless(&server, server.key(), "worker").await;
    assert_eq!(optimization["status"], "running");
    let path = task_path(&optimization);
    let running = in_status(&server, server.key(), &path, "running").await;
    assert_eq!((&running["kind"], &running["subject"]), (&json!("optimisation"), &json!("worker")));
    server.post(&format!("{path}/pause"), json!({})).await.ok();
    in_status(&server, server.key(), &path, "paused").await;
    let refused = server.post(&format!("{path}/pause"), json!({})).await.is(400);
    assert_eq!(refused["code"], "invalid_state");
    assert_eq!(server.post(&format!("{path}/resume"), json!({})).await.ok()["status"], "queued");
    in_status(&server, server.key(), &path, "running").await;
    let asked = Instant::now();
    server.post(&format!("{path}/cancel"), json!({})).await.ok();
    let ended = server.get(&format!("{path}?wait=10")).await.ok();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!((&ended["status"], &ended["result"]), (&json!("cancelled"), &Value::Null));
    server.post(&format!("{path}/cancel"), json!({})).await.is(400);
    let mut kinds = event_kinds(&server, &path).await;
    kinds.retain(|kind| kind != "progress");
    assert_eq!(kinds, ["queued", "started", "paused", "queued", "resumed", "cancelled"]);
    // Who made it learns of its end with it.
    let id = optimization.text("optimization_id");
    let found = server.get(&format!("{PERFORMANCE}/optimization/runs/{id}")).await.ok();
    assert_eq!((&found["status"], &found["performance_improvement"]), (&json!("cancelled"), &Value::Null));
    assert!(found["reasons"]["performance_improvement"].is_string(), "{found}");
    server.post(&format!("{PERFORMANCE}/optimization/runs/{id}/cancel"), json!({})).await.is(409);
    server.post(&format!("{PERFORMANCE}/optimization/runs/{id}/apply"), json!({})).await.is(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_their_owners() {
    let server = TestApp::start().await;
    let own = endless(&server, CLIENT, "worker").await;
    let path = task_path(&own);
    let ids =
        |answer: &Value| answer.as_array().unwrap().iter().map(|task| task.text("id").to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&get_as(&server, CLIENT, &tasks()).await.ok()), [own.text("task_id")]);
    assert!(ids(&get_as(&server, MINER, &tasks()).await.ok()).is_empty());
    assert!(ids(&server.get(&tasks()).await.ok()).is_empty(), "an admin's own by default");
    assert_eq!(ids(&server.get(&format!("{}?all=true", tasks())).await.ok()), [own.text("task_id")]);
    get_as(&server, CLIENT, &format!("{}?all=true", tasks())).await.is(403);
    get_as(&server, MINER, &path).await.is(404);
    get_as(&server, MINER, &format!("{path}/events?format=json")).await.is(404);
    post_as(&server, MINER, &format!("{path}/cancel"), json!({})).await.is(404);
    for (filter, found) in [
        ("kind=optimisation&subject=worker&status=queued,running", true),
        ("kind=enhancement", false),
        ("subject=other", false),
        ("status=completed", false),
    ] {
        let listed = get_as(&server, CLIENT, &format!("{}?{filter}", tasks())).await.ok();
        assert_eq!(!ids(&listed).is_empty(), found, "{filter}");
    }
    get_as(&server, CLIENT, &format!("{}?status=odd", tasks())).await.is(422);
    post_as(&server, CLIENT, &format!("{path}/cancel"), json!({})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_take_turns_and_open_tasks_are_limited() {
    let limits = TestApp::builder().env("BACKGROUND_MAX_OPEN_TASKS", 2).env("BACKGROUND_SLICE_SECONDS", 0.1);
    let server = limits.start().await;
    let first = endless(&server, CLIENT, "worker").await;
    endless(&server, CLIENT, "second").await;
    let policy = optimisation::policy(&server, CLIENT, "third-policy").await;
    let third = optimisation::optimize(&server, CLIENT, "third", json!({"policy": policy})).await.is(429);
    assert_eq!(third["code"], "quota_exceeded");
    assert!(
        get_as(&server, CLIENT, &format!("{PERFORMANCE}/optimization/third")).await.status == 404,
        "nothing is stored"
    );
    in_status(&server, CLIENT, &task_path(&first), "running").await;
    let policy = optimisation::policy(&server, MINER, "short-policy").await;
    let asked = json!({"policy": policy, "budget": {"trials": 2, "steps": 64}});
    let short = optimisation::optimize(&server, MINER, "short", asked).await.ok();
    let ended = ended(&server, MINER, short.text("task_id")).await;
    assert_eq!(ended["status"], "completed", "it did not wait for the others: {ended}");
    for task in get_as(&server, CLIENT, &tasks()).await.ok().as_array().unwrap() {
        post_as(&server, CLIENT, &format!("{}/{}/cancel", tasks(), task.text("id")), json!({})).await.ok();
    }
}

async fn undisturbed() -> Value {
    let server = Server::start().await;
    let asked = small(&server).await.ok();
    done(&server, &asked).await
}

async fn small(server: &ApiClient) -> Answer {
    let policy = optimisation::policy(server, server.key(), "policy").await;
    let body = optimisation::request("worker", json!({"policy": policy, "budget": {"trials": 3, "steps": 576}}));
    let key = [("idempotency-key", "once")];
    let path = format!("{PERFORMANCE}/optimization/optimize");
    let request = server.request(Method::POST, &path).header(key[0].0, key[0].1).json(&body);
    server.answer(request).await
}

/// The result of an optimisation's task, without what differs from time to time.
async fn done(server: &ApiClient, optimization: &Value) -> Value {
    let task = ended(server, server.key(), optimization.text("task_id")).await;
    assert_eq!(task["status"], "completed", "{task}");
    let id = optimization.text("optimization_id");
    let found = server.get(&format!("{PERFORMANCE}/optimization/runs/{id}")).await.ok();
    let curve = server.get(&format!("{PERFORMANCE}/optimization/runs/{id}/curve")).await.ok();
    json!({"best": found["best"], "scores": [found["baseline_score"], found["best_score"]], "curve": curve["curve"],
        "improvement": found["improvement"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn result_is_the_same_after_a_crash() {
    let wanted = undisturbed().await;
    for (point, times) in
        [("background.after_advance", 7), ("background.after_checkpoint", 3), ("background.before_end", 0)]
    {
        let builder = Server::builder().env("BACKGROUND_CHECKPOINT_SECONDS", 0);
        let mut server = builder.env("FAILPOINTS", format!("{point}={times}*off->return")).start().await;
        let asked = small(&server).await.ok();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait()), Some(9), "{point}");
        let server = server.again().env("FAILPOINTS", "").start().await;
        assert_eq!(done(&server, &asked).await, wanted, "{point}");
        let kinds = event_kinds(&server, &task_path(&asked)).await;
        assert!(kinds.contains(&"resumed".to_owned()), "{point}: {kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| *kind == "completed").count(), 1, "{point}");
        ask(&server, None, Method::GET, &tasks(), None).await.is(401);
    }
}
