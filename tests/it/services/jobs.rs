//! What a client sees of its jobs, and what it can do with them.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{COMPLETED, RUNNING, SERVICES, delete, get, queued, set, submit};
use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, OTHER_ADMIN, PATIENCE, TestApp},
    jobs::queue,
    kit::{JsonDocument, ask, fixture, get_as, sql},
    redact::redacted,
};

/// The job's document, once `done` holds of it.
async fn until(server: &ApiClient, id: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let job = get(server, &format!("/jobs/{id}")).await.ok();
        if done(&job) {
            return job;
        }
        assert!(Instant::now() < deadline, "it never came: {job}");
        crate::harness::poll_interval().await;
    }
}

#[tokio::test]
async fn job_shows_queue_position_and_estimate() {
    let server = TestApp::start().await;
    let first = submit(&server, "/llm/inference", json!({"model": "llama-7b", "prompt": "a"})).await.is(201);
    assert_eq!(
        (&first["estimated_completion"], &first["estimate"]["from_jobs"]),
        (&Value::Null, &json!(0)),
        "nothing is made up"
    );
    assert!(first["estimate"]["reason"].is_string(), "{first}");
    let (first, second) = (first.text("job_id").to_owned(), queued(&server, "b").await);
    // The coordinator's own jobs stand in the queue as well.
    let theirs = "PRAGMA foreign_keys = OFF; INSERT INTO job SELECT 'theirs', 'python', state, payload, constraints, ttl_seconds, requested_at, expires_at, NULL, 'null', \
        'null', NULL, NULL, NULL, NULL FROM job ORDER BY requested_at DESC LIMIT 1";
    sql(&server.database(), theirs).await;
    let third = queued(&server, "c").await;
    until(&server, &third, |job| job["position"] == 4).await;
    assert_eq!(get(&server, &format!("/jobs/{first}")).await.ok()["position"], 1);
    sql(&server.database(), "PRAGMA foreign_keys = OFF; DELETE FROM job WHERE id = 'theirs'").await;
    set(&server, &first, RUNNING).await;
    until(&server, &third, |job| job["position"] == 2).await;
    let running = until(&server, &first, |job| job["running_at"].is_string()).await;
    assert_eq!(
        (&running["status"], &running["position"], &running["miner"]),
        (&json!("RUNNING"), &Value::Null, &json!("miner-1"))
    );
    set(&server, &first, COMPLETED).await;
    let done = until(&server, &first, |job| job["ended_at"].is_string()).await;
    assert_eq!((&done["status"], &done["result"]), (&json!("COMPLETED"), &json!({"text": "HELLO"})));
    assert_eq!(done["request"]["prompt"], "a");
    let waiting = get(&server, &format!("/jobs/{second}")).await.ok();
    assert_eq!(waiting["estimate"]["from_jobs"], 1, "{waiting}");
    let time = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let median = waiting["estimate"]["median_seconds"].as_f64().unwrap();
    let took = (time(&done["ended_at"]) - time(&done["requested_at"])).as_seconds_f64();
    assert!((median - took).abs() < 1e-5, "{median} {took}");
    assert!(time(&waiting["estimated_completion"]) >= time(&waiting["requested_at"]));
    let another = submit(&server, "/whisper/transcribe", json!({"audio_url": "https://example.com/a"})).await.ok();
    assert_eq!(another["estimated_completion"], Value::Null, "another service's jobs say nothing of it");
    let fourth = submit(&server, "/llm/inference", json!({"model": "llama-7b", "prompt": "d"})).await.ok();
    assert!(fourth["estimated_completion"].is_string(), "{fourth}");
}

#[tokio::test]
async fn job_wait_ends_with_the_job_or_the_timeout() {
    let server = TestApp::start().await;
    let begun = Instant::now();
    let request = json!({"model": "llama-7b", "prompt": "x"});
    let made = submit(&server, "/llm/inference?wait=0.2", request.clone()).await.is(201);
    assert!(begun.elapsed() >= Duration::from_millis(200) && made["status"] == "QUEUED", "{made}");
    let id = made.text("job_id");
    let path = format!("/jobs/{id}?wait=25");
    let (seen, ()) = tokio::join!(get(&server, &path), async {
        set(&server, id, RUNNING).await;
        set(&server, id, COMPLETED).await;
    });
    assert_eq!(seen.ok()["status"], "COMPLETED");
    // The same key with a wait answers how it stands now.
    let keyed = |path: &str| {
        let request =
            server.client().post(server.url(&format!("{SERVICES}{path}"))).header("x-api-key", CLIENT).json(&request);
        Answer::of(request.header("idempotency-key", "k"))
    };
    let first = keyed("/llm/inference").await.is(201);
    let again = keyed("/llm/inference").await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &first));
    set(&server, first.text("job_id"), COMPLETED).await;
    let waited = keyed("/llm/inference?wait=25").await.is(201);
    assert_eq!((&waited["job_id"], &waited["status"]), (&first["job_id"], &json!("COMPLETED")));
    assert_eq!(queue(&server).await.len(), 2, "one job for one key");
}

#[tokio::test]
async fn jobs_are_visible_to_their_client_and_admins() {
    let server = TestApp::builder().database(&fixture("coordinator/coordinator.sqlite")).start().await;
    let mine = queued(&server, "mine").await;
    let transcribe = format!("{SERVICES}/whisper/transcribe");
    let audio = json!({"audio_url": "https://example.com/a"});
    let others = ask(&server, Some(OTHER_ADMIN), Method::POST, &transcribe, Some(audio));
    let others = others.await.is(201).text("job_id").to_owned();
    // The coordinator's rows hold the client's key; they are its own.
    let list = get(&server, "/jobs").await;
    assert_eq!(list.header("x-total-count"), "7", "{}", list.text);
    assert_eq!(list.body[0]["job_id"], mine, "newest first");
    assert!(
        list.body.as_array().unwrap().iter().all(|job| job["client_id"] == list.body[0]["client_id"]),
        "{}",
        list.text
    );
    assert!(!list.text.contains(CLIENT) && list.body[0].get("request").is_none(), "{}", list.text);
    assert_eq!(get_as(&server, ADMIN, &format!("{SERVICES}/jobs")).await.header("x-total-count"), "8");
    for (query, count) in [
        ("state=QUEUED", "2"),
        ("state=COMPLETED", "1"),
        ("service_type=whisper", "6"),
        ("service_type=llm_inference&state=QUEUED", "1"),
        ("service_type=blender", "0"),
    ] {
        assert_eq!(get(&server, &format!("/jobs?{query}")).await.header("x-total-count"), count, "{query}");
    }
    for bad in ["state=lost", "service_type=tea", "limit=0"] {
        get(&server, &format!("/jobs?{bad}")).await.is(422);
    }
    // Page by page, each job once.
    let (mut path, mut seen) = (Some("/jobs?limit=3".to_owned()), Vec::new());
    while let Some(next) = path {
        let page = get(&server, &next).await;
        seen.extend(page.body.as_array().unwrap().iter().map(|job| job.text("job_id").to_owned()));
        let link = page.header("link").split(", ").find(|link| link.contains("rel=\"next\"")).map(str::to_owned);
        path = link.map(|link| link.split(['<', '>']).nth(1).unwrap().strip_prefix(SERVICES).unwrap().to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7, "{seen:?}");
    get(&server, &format!("/jobs/{others}")).await.is(404);
    get(&server, &format!("/jobs/{others}/events")).await.is(404);
    delete(&server, &others).await.is(404);
    get(&server, "/jobs/nothing").await.is(404);
    get(&server, "/jobs/nothing/events").await.is(404);
    delete(&server, "nothing").await.is(404);
    let theirs = get_as(&server, ADMIN, &format!("{SERVICES}/jobs/{mine}")).await.ok();
    assert_eq!(theirs["job_id"], mine);
    let old = get(&server, "/jobs/00000000000000000000000000000002").await.ok();
    assert_eq!((&old["status"], &old["result"]), (&json!("COMPLETED"), &json!({"text": "hello"})));
}

#[tokio::test]
async fn job_is_withdrawn_or_asked_to_stop() {
    let server = TestApp::start().await;
    let waits = queued(&server, "a").await;
    let canceled = delete(&server, &waits).await.is(200);
    insta::assert_json_snapshot!("job_taken_back", redacted(&canceled));
    let again = delete(&server, &waits).await.is(200);
    assert_eq!((&again["status"], &again["previous_status"]), (&json!("CANCELED"), &json!("CANCELED")));
    let runs = queued(&server, "b").await;
    set(&server, &runs, RUNNING).await;
    let asked = delete(&server, &runs).await.is(200);
    insta::assert_json_snapshot!("running_job_asked_to_stop", redacted(&asked));
    let row = queue(&server).await.into_iter().find(|row| row["id"] == runs).unwrap();
    assert_eq!((&row["state"], &row["assigned_miner_id"]), (&json!("CANCELED"), &json!("miner-1")));
    let done = queued(&server, "c").await;
    set(&server, &done, COMPLETED).await;
    assert_eq!(delete(&server, &done).await.is(400)["code"], "invalid_state");
    // An admin may take back anybody's.
    let other = queued(&server, "d").await;
    server.delete(&format!("{SERVICES}/jobs/{other}")).await.is(200);
    let entries = server.get("/api/v1/agents/security/audit-logs?limit=500").await.ok();
    let told = |action: &str| {
        let is = |entry: &&Value| entry["event_data"]["resource"] == "job" && entry["event_data"]["action"] == action;
        entries.as_array().unwrap().iter().filter(is).count()
    };
    assert_eq!((told("submitted"), told("canceled")), (4, 3), "{entries}");
}

#[tokio::test]
async fn job_deadline_limits_time_to_live_and_wait() {
    let server = TestApp::start().await;
    let soon = (am_core::ambient::Clock::system().now() + chrono::TimeDelta::milliseconds(1300))
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let request = json!({"model": "llama-7b", "prompt": "x"});
    let made = submit(&server, &format!("/llm/inference?deadline={soon}&wait=20"), request.clone()).await.is(201);
    assert_eq!((&made["status"], &made["error"]), (&json!("EXPIRED"), &json!("no miner took it in time")), "{made}");
    let late = submit(&server, "/llm/inference?deadline=2099-01-01T00:00:00Z", request).await.is(201);
    let time = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!((time(&late["expires_at"]) - time(&late["requested_at"])).num_seconds(), 300, "it makes nothing longer");
}

#[tokio::test]
async fn open_jobs_are_limited_by_role() {
    let limits = [("SERVICE_MAX_OPEN_JOBS_CLIENT", "2"), ("SERVICE_MAX_OPEN_JOBS_ADMIN", "1")];
    let builder = limits.iter().fold(TestApp::builder(), |builder, (name, value)| builder.env(name, value));
    let server = builder.start().await;
    let request = json!({"model": "llama-7b", "prompt": "x"});
    let ask = |key: &'static str, once: &'static str| {
        let url = server.url(&format!("{SERVICES}/llm/inference"));
        let asked = server.client().post(url).header("x-api-key", key).header("idempotency-key", once);
        Answer::of(asked.json(&request))
    };
    let first = ask(CLIENT, "a").await.is(201);
    ask(CLIENT, "b").await.is(201);
    ask(ADMIN, "a").await.is(201);
    let before = queue(&server).await;
    for (key, setting, most) in [(CLIENT, "SERVICE_MAX_OPEN_JOBS_CLIENT", 2), (ADMIN, "SERVICE_MAX_OPEN_JOBS_ADMIN", 1)]
    {
        let refused = ask(key, "c").await;
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{refused:?}");
        let body = refused.is(429);
        assert_eq!(body["code"], "quota_exceeded", "{body}");
        assert!(body.text("detail").starts_with(&format!("{setting}: {most} of your jobs")), "{body}");
    }
    assert_eq!(queue(&server).await, before, "no row is left");
    assert_eq!(ask(CLIENT, "a").await.is(201), first, "it was asked before");
    // At once, no more get in than may; and a place is free when one has ended.
    delete(&server, first.text("job_id")).await.ok();
    let all = futures_util::future::join_all(["d", "e", "f", "g"].map(|once| ask(CLIENT, once))).await;
    let mut statuses: Vec<u16> = all.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 429, 429, 429]);
}
