//! Plans over agents: made, run, and what becomes of them when agents fail, go away, or are too few.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Value, json};

use super::registry::{REGISTRY, beat, becomes, register};
use crate::{
    engine::{events, kinds},
    harness::{Answer, ApiClient, OTHER_ADMIN, PATIENCE, Server, TestApp},
    kit::{JsonDocument, get_as, locations, post_as, sql},
    messages,
    peer::Peer,
};

pub const PLANS: &str = "/api/v1/agents/plans";

/// Make a plan and answer it.
pub async fn plan(server: &ApiClient, body: Value) -> Value {
    let mut named = json!({"name": "task"});
    named.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    server.post(PLANS, named).await.is(201)
}

pub async fn execute(server: &ApiClient, plan: &Value) -> Value {
    server.post(&format!("{PLANS}/{}/execute", plan.text("id")), json!({})).await.ok()
}

pub async fn standing(server: &ApiClient, plan: &Value) -> Value {
    server.get(&format!("{PLANS}/{}", plan.text("id"))).await.ok()
}

/// What an agent has to do now.
pub async fn assigned(server: &ApiClient, agent: &str) -> Vec<Value> {
    server.get(&format!("{REGISTRY}/{agent}/assignments")).await.ok().as_array().unwrap().clone()
}

/// Until an agent has so many assignments.
pub async fn has(server: &ApiClient, agent: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = assigned(server, agent).await;
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < deadline, "{agent} never had {count}: {found:?}");
        crate::harness::poll_interval().await;
    }
}

/// Tell of an assignment.
pub async fn report(server: &ApiClient, one: &Value, what: &str, more: Value) -> Answer {
    let mut body = json!({"attempt": one["attempt"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(&format!("{PLANS}/assignments/{}/{what}", one.text("assignment_id")), body).await
}

/// Do what an agent was given, until the plan ends. Answers the plan as it stands then.
pub async fn work(server: &ApiClient, agents: &[&str], plan: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for agent in agents {
            beat(server, agent).await.ok();
            for one in assigned(server, agent).await {
                let result =
                    json!({"result": {"by": agent, "sub_task": one["sub_task"], "input": one["request"]["input"]}});
                report(server, &one, "result", result).await;
            }
        }
        let now = standing(server, plan).await;
        if matches!(now["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
            return now;
        }
        assert!(Instant::now() < deadline, "the plan did not end: {now}");
        crate::harness::poll_interval().await;
    }
}

fn sub_task<'a>(standing: &'a Value, key: &str) -> &'a Value {
    let all = standing["sub_task_status"].as_array().unwrap();
    all.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("no {key} in {standing}"))
}

fn text(key: &str) -> Value {
    json!({"key": key, "task_type": "text_processing", "estimated_seconds": 36})
}

#[tokio::test]
async fn task_is_decomposed_planned_and_estimated() {
    let server = TestApp::start().await;
    // An empty registry says so, at both doors.
    let empty = plan(&server, json!({"sub_tasks": [text("a")]})).await;
    assert_eq!(empty["assignments"][0]["agent_id"], Value::Null);
    assert_eq!(empty["assignments"][0]["reason"], "no agent is registered");
    assert_eq!(
        (&empty["estimated_cost"], &empty["estimate_reason"]),
        (&Value::Null, &json!("a: no agent is registered"))
    );
    assert_eq!(empty["confidence"], 0.45, "0.9 for sub-tasks that were sent, halved since nobody is there");
    let refused = server.post(&format!("{PLANS}/{}/execute", empty.text("id")), json!({})).await.is(409);
    assert!(refused.text("detail").contains("no agent is registered"), "{refused}");

    register(&server, "a", json!({"cost_per_hour": 1.0})).await;
    register(&server, "slow", json!({"cost_per_hour": 9.0, "performance": 0.1})).await;
    let given = json!({"sub_tasks": [text("one"), text("two"),
        {"key": "end", "task_type": "data_analysis", "depends_on": ["one", "two"], "estimated_seconds": 72, "payload": {"x": "$.inputs.n"}}],
        "inputs": {"n": 5}});
    let made = plan(&server, given.clone()).await;
    assert_eq!(
        (&made["status"], &made["strategy"], &made["split_by"]),
        (&json!("created"), &json!("given"), &json!("sub_tasks"))
    );
    assert_eq!(made["stages"], json!([["one", "two"], ["end"]]));
    assert!(made["assignments"].as_array().unwrap().iter().all(|one| one["agent_id"] == "a"), "{made}");
    assert_eq!((&made["estimated_seconds"], &made["estimated_cost"]), (&json!(108.0), &json!(0.04)));
    assert_eq!((&made["confidence"], &made["confidence_source"]), (&json!(0.95), &json!("assumed")));
    let mut dear = given;
    dear["max_cost_budget"] = 0.01.into();
    let soon = chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap();
    dear["deadline"] = json!(soon.to_rfc3339());
    let dear = plan(&server, dear).await;
    assert!((dear["confidence"].as_f64().unwrap() - 0.95 * 0.7).abs() < 1e-9, "{dear}");

    for (body, stages) in [
        (
            json!({"task_types": ["text_processing", "data_analysis"], "strategy": "pipeline"}),
            json!([["text_processing"], ["data_analysis"]]),
        ),
        (
            json!({"task_types": ["text_processing", "text_processing"], "strategy": "parallel"}),
            json!([["text_processing", "text_processing_2"]]),
        ),
        (
            json!({"description": "Download the files and summarise the text"}),
            json!([["io_bound"], ["text_processing"]]),
        ),
        (
            json!({"task_types": ["text_processing", "io_bound", "io_bound", "mixed_modal"], "strategy": "hierarchical"}),
            json!([["text_processing"], ["io_bound", "io_bound_2"], ["mixed_modal"]]),
        ),
    ] {
        assert_eq!(plan(&server, body.clone()).await["stages"], stages, "{body}");
    }
    for (body, place) in [
        (json!({}), json!(["body", "name"])),
        (json!({"name": "n"}), json!(["body", "sub_tasks"])),
        (json!({"name": "n", "sub_tasks": [{"key": "a"}]}), json!(["body", "sub_tasks", 0, "task_type"])),
        (
            json!({"name": "n", "sub_tasks": [{"task_type": "io_bound", "depends_on": ["x"]}]}),
            json!(["body", "sub_tasks", 0, "depends_on"]),
        ),
        (
            json!({"name": "n", "sub_tasks": [{"task_type": "io_bound", "payload": {"x": "$.inputs["}}]}),
            json!(["body", "sub_tasks", 0, "payload", "x"]),
        ),
        (
            json!({"name": "n", "sub_tasks": [{"task_type": "io_bound", "timeout_seconds": 0}]}),
            json!(["body", "sub_tasks", 0, "timeout_seconds"]),
        ),
        (
            json!({"name": "n", "sub_tasks": [{"task_type": "io_bound", "max_price": -1}]}),
            json!(["body", "sub_tasks", 0, "max_price"]),
        ),
        (
            json!({"name": "n", "task_types": ["io_bound"], "deadline": "2020-01-01T00:00:00Z"}),
            json!(["body", "deadline"]),
        ),
        (json!({"name": "n", "task_types": ["io_bound"], "max_cost_budget": -1}), json!(["body", "max_cost_budget"])),
        (json!({"name": "n", "task_types": ["io_bound"], "strategy": "given_up"}), json!(["body", "strategy"])),
    ] {
        assert_eq!(locations(&server.post(PLANS, body.clone()).await.is(422)), [place], "{body}");
    }
    let nobody = plan(&server, json!({"task_types": ["model_training"]})).await;
    let refused = server.post(&format!("{PLANS}/{}/execute", nobody.text("id")), json!({})).await.is(409);
    assert!(refused.text("detail").contains("model_training"), "{refused}");
    let list = server.get(&format!("{PLANS}?strategy=pipeline&status=created")).await;
    assert_eq!((list.body.as_array().unwrap().len(), list.header("x-total-count")), (1, "1"));
    let path = format!("{PLANS}/{}", made.text("id"));
    get_as(&server, OTHER_ADMIN, &path).await.is(404);
    for what in ["execute", "cancel", "retry"] {
        post_as(&server, OTHER_ADMIN, &format!("{path}/{what}"), json!({})).await.is(404);
        server.post(&format!("{PLANS}/plan_0/{what}"), json!({})).await.is(404);
    }
    server.get(&format!("{path}/events")).await.is(400);
}

#[tokio::test]
async fn sub_task_results_reach_dependent_sub_tasks_and_are_paid() {
    let server = TestApp::start().await;
    register(&server, "a", json!({"cost_per_hour": 3600})).await;
    let made = plan(
        &server,
        json!({"task_types": ["text_processing", "data_analysis"], "strategy": "pipeline", "inputs": {"n": 7}}),
    )
    .await;
    let run = execute(&server, &made).await;
    let again = execute(&server, &made).await;
    assert_eq!(run["id"], again["id"], "a plan is run once");
    let [first] = &has(&server, "a", 1).await[..] else { unreachable!() };
    assert_eq!((&first["request"]["input"], &first["sub_task"]), (&json!({"n": 7}), &json!("text_processing")));
    assert_eq!((&first["attempt"], &first["status"]), (&json!(1), &json!("offered")));
    assert_eq!(report(&server, first, "accept", json!({})).await.ok()["status"], "accepted");
    assert_eq!(report(&server, first, "accept", json!({})).await.ok()["already_known"], true);
    report(&server, first, "progress", json!({"progress": 101})).await.is(422);
    report(&server, first, "progress", json!({"progress": 40})).await.ok();
    let now = standing(&server, &made).await;
    assert_eq!((&now["status"], &sub_task(&now, "text_processing")["progress"]), (&json!("running"), &json!(40.0)));
    assert_eq!(server.get(&format!("{REGISTRY}/a")).await.ok()["load"], 0.5);
    let used = server.get(&format!("{REGISTRY}/utilisation")).await.ok();
    assert_eq!((&used["capacity"], &used["allocated"], &used["utilisation"]), (&json!(2), &json!(1), &json!(0.5)));
    let done = report(&server, first, "result", json!({"result": {"words": 3}})).await.ok();
    assert_eq!((&done["status"], &done["already_known"]), (&json!("completed"), &json!(false)));
    // The same again is known, another is not taken.
    assert_eq!(report(&server, first, "result", json!({"result": {"words": 3}})).await.ok()["already_known"], true);
    report(&server, first, "result", json!({"result": {"words": 4}})).await.is(409);
    report(&server, first, "fail", json!({"error": "no"})).await.is(409);
    let second = loop {
        if let [one] = &assigned(&server, "a").await[..] {
            break one.clone();
        }
        crate::harness::poll_interval().await;
    };
    assert_eq!(second["request"]["input"], json!({"words": 3}), "it takes what the one before gave");
    report(&server, &second, "result", json!({"result": "fine"})).await.ok();
    let ended = server.ended(run.text("id")).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(
        ended["final_result"]["step_results"],
        json!({"text_processing": {"words": 3}, "data_analysis": "fine"})
    );
    let now = standing(&server, &made).await;
    assert_eq!((&now["status"], &now["progress"]), (&json!("completed"), &json!(100.0)));
    let costs = ["text_processing", "data_analysis"].map(|key| sub_task(&now, key)["cost"].as_f64().unwrap());
    let seconds = ["text_processing", "data_analysis"].map(|key| sub_task(&now, key)["seconds"].as_f64().unwrap());
    assert!((costs[0] - seconds[0]).abs() < 1e-6, "3600 an hour is 1 a second");
    assert!((now["total_cost"].as_f64().unwrap() - 0.02 - costs[0] - costs[1]).abs() < 1e-5, "{now}");
    let told = events(&server, run.text("id"), 1000).await;
    let told: Vec<&str> =
        kinds(&told).into_iter().filter(|kind| kind.starts_with("agent_") || *kind == "assignment_placed").collect();
    assert_eq!(
        told,
        [
            "assignment_placed",
            "agent_assigned",
            "agent_accepted",
            "agent_progress",
            "agent_completed",
            "assignment_placed",
            "agent_assigned",
            "agent_completed"
        ]
    );
    let receipt = server.get(&format!("/api/v1/agents/executions/{}/receipt", run.text("id"))).await.ok();
    assert_eq!(receipt["verified"], true);
    let metrics = server.get(&format!("{PLANS}/metrics")).await.ok();
    assert_eq!((&metrics["completed"], &metrics["success_rate"]), (&json!(1), &json!(1.0)));
    assert_eq!(metrics["by_strategy"][0]["strategy"], "pipeline");
    assert!(metrics["by_strategy"][0]["mean_seconds"].as_f64().unwrap() > 0.0, "{metrics}");
    // What an agent did is evidence of its trust, as an execution of its own.
    let trust = server.get("/api/v1/agents/security/trust-scores?entity_type=agent").await.ok();
    assert_eq!((&trust[0]["entity_id"], &trust[0]["successful_executions"]), (&json!("a"), &json!(2)));
    // One assignment stands for itself, and is no stranger's.
    let path = format!("{PLANS}/assignments/{}", first.text("assignment_id"));
    let history = server.get(&path).await.ok();
    assert_eq!(
        (&history["attempts"][0]["outcome"], &history["attempts"][0]["told_by"]),
        (&json!("completed"), &json!("message"))
    );
    get_as(&server, OTHER_ADMIN, &path).await.is(404);
    post_as(&server, OTHER_ADMIN, &format!("{path}/accept"), json!({"attempt": 1})).await.is(404);
    report(&server, first, "accept", json!({"attempt": 9})).await.is(404);
}

#[tokio::test]
async fn silent_agents_sub_task_is_reassigned() {
    let server = TestApp::builder().env("AGENT_OFFLINE_SECONDS", 2).start().await;
    register(&server, "good", json!({"performance": 1.0})).await;
    register(&server, "other", json!({"performance": 0.5})).await;
    let made = plan(&server, json!({"sub_tasks": [text("s")]})).await;
    let run = execute(&server, &made).await;
    let [first] = &has(&server, "good", 1).await[..] else { unreachable!() };
    report(&server, first, "accept", json!({})).await.ok();
    // One goes on, the other is heard of no more.
    let deadline = Instant::now() + PATIENCE;
    let second = loop {
        beat(&server, "other").await.ok();
        if let [one] = &assigned(&server, "other").await[..] {
            break one.clone();
        }
        assert!(Instant::now() < deadline, "nobody else got it: {}", standing(&server, &made).await);
        crate::harness::poll_interval().await;
    };
    assert_eq!((&second["assignment_id"], &second["attempt"]), (&first["assignment_id"], &json!(2)));
    assert_eq!(server.get(&format!("{REGISTRY}/good")).await.ok()["open_assignments"], 0, "its place is free again");
    // What it says too late is refused, however it comes back.
    beat(&server, "good").await.ok();
    let late = report(&server, first, "result", json!({"result": "late"})).await.is(409);
    assert!(late.text("detail").contains("no heartbeat"), "{late}");
    report(&server, &second, "result", json!({"result": "in time"})).await.ok();
    let ended = server.ended(run.text("id")).await;
    assert_eq!(ended["final_result"]["step_results"]["s"], "in time", "{ended}");
    let now = standing(&server, &made).await;
    let outcomes: Vec<(&Value, &Value)> = sub_task(&now, "s")["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (&attempt["agent_id"], &attempt["outcome"]))
        .collect();
    assert_eq!(outcomes, [(&json!("good"), &json!("lost")), (&json!("other"), &json!("completed"))]);
    let good = server.get(&format!("{REGISTRY}/good")).await.ok();
    assert_eq!((&good["lost"], &good["completed"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn failed_sub_task_is_reassigned_three_times_and_can_be_retried() {
    let server = TestApp::start().await;
    register(&server, "a", json!({"performance": 1.0})).await;
    register(&server, "b", json!({"performance": 0.5})).await;
    let made = plan(
        &server,
        json!({"sub_tasks": [text("first"), {"key": "hard", "task_type": "text_processing", "depends_on": ["first"]}]}),
    )
    .await;
    let run = execute(&server, &made).await;
    let [first] = &has(&server, "a", 1).await[..] else { unreachable!() };
    report(&server, first, "result", json!({"result": 1})).await.ok();
    let mut had = Vec::new();
    while had.len() < 4 {
        for agent in ["a", "b"] {
            for one in assigned(&server, agent).await {
                assert_eq!(one["sub_task"], "hard");
                had.push(agent);
                let failed = report(&server, &one, "fail", json!({"error": "too hard"})).await.ok();
                assert_eq!(failed["status"], if had.len() == 4 { "failed" } else { "waiting" });
                assert_eq!(
                    report(&server, &one, "fail", json!({"error": "too hard"})).await.ok()["already_known"],
                    true
                );
            }
        }
    }
    assert_eq!(had[..2], ["a", "b"], "who failed comes after who did not");
    let ended = server.ended(run.text("id")).await;
    assert_eq!((&ended["status"], &ended["failed_step"]), (&json!("failed"), &json!("hard")));
    assert!(ended.text("error_message").contains("too hard"), "{ended}");
    let now = standing(&server, &made).await;
    assert_eq!((&now["status"], &now["progress"]), (&json!("failed"), &json!(50.0)));
    // What ended well is not done again.
    let path = format!("{PLANS}/{}/retry", made.text("id"));
    assert_eq!(server.post(&path, json!({})).await.ok()["status"], "running");
    let now = work(&server, &["a", "b"], &made).await;
    assert_eq!(now["status"], "completed", "{now}");
    assert_eq!(sub_task(&now, "first")["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(sub_task(&now, "hard")["attempts"].as_array().unwrap().len(), 5);
    server.post(&path, json!({})).await.is(400);
    // Measured by now: three ended attempts are enough.
    let a = server.get(&format!("{REGISTRY}/a")).await.ok();
    assert_eq!(a["reliability"]["source"], "measured", "{a}");
    // One that nobody can do fails at once.
    let made = plan(&server, json!({"sub_tasks": [text("s")]})).await;
    execute(&server, &made).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = [assigned(&server, "a").await, assigned(&server, "b").await].concat();
        if let [one] = &all[..] {
            let failed = report(&server, one, "fail", json!({"error": "impossible", "retryable": false})).await.ok();
            assert_eq!(failed["status"], "failed");
            break;
        }
        assert!(Instant::now() < deadline);
        crate::harness::poll_interval().await;
    }
}

#[tokio::test]
async fn agent_capacity_holds_across_two_processes() {
    const TASKS: usize = 64;
    let server =
        Server::builder().env("ENGINE_MAX_PARALLEL_STEPS", TASKS).env("AGENT_ACCEPT_SECONDS", 600).start().await;
    // A second process gives work from the same file.
    let beside = Server::builder().beside(&server).env("ENGINE_MAX_PARALLEL_STEPS", TASKS).start().await;
    for (agent, most) in [("three", 3), ("five", 5)] {
        register(&server, agent, json!({"max_concurrent_tasks": most})).await;
    }
    let types = vec!["text_processing"; TASKS / 2];
    let mut plans = Vec::new();
    for at in [&server, &beside] {
        let made = plan(at, json!({"task_types": types, "strategy": "parallel"})).await;
        execute(at, &made).await;
        plans.push(made);
    }
    let (mut most, mut results) = (BTreeMap::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while results < TASKS {
        for (agent, limit) in [("three", 3), ("five", 5)] {
            beat(&server, agent).await.ok();
            let open = assigned(&server, agent).await;
            assert!(open.len() <= limit, "{agent} has {}", open.len());
            let seen: &mut usize = most.entry(agent).or_default();
            *seen = (*seen).max(open.len());
            // Half of them, by either process: places become free one by one.
            for (at, one) in [&server, &beside].into_iter().cycle().zip(open.iter().take(open.len().div_ceil(2))) {
                report(at, one, "result", json!({"result": one["sub_task"]})).await.ok();
                results += 1;
            }
        }
        assert!(Instant::now() < deadline, "{results} results");
    }
    assert_eq!(most, BTreeMap::from([("three", 3), ("five", 5)]), "and each was full");
    for (at, made) in [&server, &beside].into_iter().zip(&plans) {
        assert_eq!(work(at, &["three", "five"], made).await["status"], "completed");
    }
    // By the record: never were more attempts open at once than the agent takes, and none was given twice.
    let counted = most_at_once(&server).await;
    assert_eq!(counted, BTreeMap::from([("five".to_owned(), 5), ("three".to_owned(), 3)]));
}

/// The most attempts of each agent that were open at the same moment, by their rows.
async fn most_at_once(server: &ApiClient) -> BTreeMap<String, i64> {
    use sqlx::Connection as _;
    let mut conn = sqlx::SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT agent_id, max(open) FROM (SELECT a.agent_id, (SELECT count(*) FROM am_assignment_attempts b
             WHERE b.agent_id = a.agent_id AND b.offered_at <= a.offered_at AND (b.ended_at IS NULL OR b.ended_at > a.offered_at)) AS open
         FROM am_assignment_attempts a) GROUP BY agent_id",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let double: Vec<(String,)> = sqlx::query_as(
        "SELECT assignment_id FROM am_assignment_attempts WHERE outcome = 'COMPLETED' GROUP BY assignment_id HAVING count(*) <> 1",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(double.is_empty(), "{double:?}");
    rows.into_iter().collect()
}

#[tokio::test]
async fn cancelling_a_plan_withdraws_its_assignments() {
    let peer = Peer::start();
    let server = TestApp::builder().env("AGENT_PRIVATE_ADDRESSES", true).start().await;
    let url = format!("http://127.0.0.1:{}/agent", peer.port());
    register(&server, "called", json!({"endpoint_url": url})).await;
    let later = json!({"key": "s", "task_type": "text_processing", "payload": {"later": true}});
    let made = plan(&server, json!({"sub_tasks": [later]})).await;
    let run = execute(&server, &made).await;
    let deadline = Instant::now() + PATIENCE;
    while sub_task(&standing(&server, &made).await, "s")["assignment_status"] != "accepted" {
        assert!(Instant::now() < deadline, "{}", standing(&server, &made).await);
        crate::harness::poll_interval().await;
    }
    let path = format!("{PLANS}/{}", made.text("id"));
    assert_eq!(server.post(&format!("{path}/cancel"), json!({})).await.ok()["status"], "cancelled");
    assert_eq!(standing(&server, &made).await["status"], "cancelled");
    assert_eq!(server.get(&format!("{REGISTRY}/called")).await.ok()["open_assignments"], 0);
    peer.called(2).await;
    let calls = peer.calls();
    let [task, cancel] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((&task.body["type"], &cancel.body["type"]), (&json!("task_request"), &json!("task_cancelled")));
    assert_eq!(task.body["execution_id"], run["id"]);
    assert_eq!(task.key(), format!("{}:1:task", task.body.text("assignment_id")));
    let one = json!({"assignment_id": task.body["assignment_id"], "attempt": task.body["attempt"]});
    report(&server, &one, "result", json!({"result": 1})).await.is(409);
    server.post(&format!("{path}/cancel"), json!({})).await.is(400);
    // One that was never run never will be.
    let made = plan(&server, json!({"sub_tasks": [text("s")]})).await;
    let path = format!("{PLANS}/{}", made.text("id"));
    assert_eq!(server.post(&format!("{path}/cancel"), json!({})).await.ok()["execution_id"], Value::Null);
    assert_eq!(server.post(&format!("{path}/execute"), json!({})).await.is(400)["code"], "invalid_state");
    server.post(&format!("{path}/cancel"), json!({})).await.is(400);
}

#[tokio::test]
async fn agent_endpoint_is_called_and_a_refusal_reassigns() {
    let peer = Peer::start();
    let server = TestApp::builder().env("AGENT_PRIVATE_ADDRESSES", true).start().await;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", peer.port());
    register(&server, "called", json!({"endpoint_url": url("/agent")})).await;
    let made = plan(
        &server,
        json!({"task_types": ["text_processing", "data_analysis"], "strategy": "sequential", "inputs": {"n": 1}}),
    )
    .await;
    let run = execute(&server, &made).await;
    let ended = server.ended(run.text("id")).await;
    let results = &ended["final_result"]["step_results"];
    assert_eq!(results["data_analysis"], json!({"did": "data_analysis", "input": {"inputs": {"n": 1}}}), "{ended}");
    let now = standing(&server, &made).await;
    assert_eq!(sub_task(&now, "text_processing")["attempts"][0]["told_by"], "endpoint");
    // Nobody listens at the better one's address.
    register(&server, "nobody", json!({"endpoint_url": "http://127.0.0.1:1/", "performance": 1.0, "cost_per_hour": 0}))
        .await;
    let made = plan(&server, json!({"sub_tasks": [text("s")]})).await;
    let run = execute(&server, &made).await;
    let ended = server.ended(run.text("id")).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let now = standing(&server, &made).await;
    let attempts = &sub_task(&now, "s")["attempts"];
    assert_eq!((&attempts[0]["agent_id"], &attempts[0]["outcome"]), (&json!("nobody"), &json!("failed")), "{now}");
    assert!(!attempts.to_string().contains("127.0.0.1"), "an address is its owner's business: {attempts}");
    assert_eq!(attempts[1]["agent_id"], "called");
}

#[tokio::test]
async fn unanswered_assignment_is_reassigned_until_timeout() {
    let server = TestApp::builder().env("AGENT_ACCEPT_SECONDS", 1).start().await;
    register(&server, "asleep", json!({"performance": 1.0})).await;
    register(&server, "awake", json!({"performance": 0.1})).await;
    let made = plan(&server, json!({"sub_tasks": [text("s")]})).await;
    execute(&server, &made).await;
    let [one] = &has(&server, "awake", 1).await[..] else { unreachable!() };
    assert_eq!((&one["attempt"], &one["failures"]), (&json!(2), &json!(1)));
    report(&server, one, "result", json!({"result": 1})).await.ok();
    // Nobody is there: it waits, and then has failed, with the reason.
    for agent in ["asleep", "awake"] {
        server.post(&format!("{REGISTRY}/{agent}/offline"), json!({})).await.ok();
    }
    let short = json!({"key": "s", "task_type": "text_processing", "timeout_seconds": 1});
    let made = plan(&server, json!({"sub_tasks": [short]})).await;
    assert!(made["assignments"][0].text("reason").contains("offline"), "{made}");
    let run = execute(&server, &made).await;
    let ended = server.ended(run.text("id")).await;
    assert!(ended.text("error_message").contains("no agent was available before the deadline"), "{ended}");
    // An agent that comes finds what waits.
    let made = plan(&server, json!({"task_types": ["model_training"]})).await;
    let path = format!("{PLANS}/{}/execute", made.text("id"));
    server.post(&path, json!({})).await.is(409);
    server.post(&path, json!({"wait_for_agents": true})).await.ok();
    register(&server, "late", json!({"capabilities": ["model_training"]})).await;
    has(&server, "late", 1).await;
    server.delete(&format!("{REGISTRY}/late")).await.is(204);
    let now = standing(&server, &made).await;
    assert_eq!(sub_task(&now, "model_training")["attempts"][0]["outcome"], "lost", "{now}");
}

#[tokio::test]
async fn running_plans_are_limited_and_policies_apply() {
    let server = TestApp::builder().env("PLANS_MAX_RUNNING", 1).start().await;
    register(&server, "a", json!({})).await;
    let (first, second) = (
        plan(&server, json!({"sub_tasks": [text("s")]})).await,
        plan(&server, json!({"sub_tasks": [text("s")]})).await,
    );
    execute(&server, &first).await;
    let path = format!("{PLANS}/{}/execute", second.text("id"));
    let refused = server.post(&path, json!({})).await.is(409);
    assert!(refused.text("detail").contains("1 plans are running"), "{refused}");
    becomes(&server, "a", "online").await;
    assert_eq!(work(&server, &["a"], &first).await["status"], "completed");
    server.post(&path, json!({})).await.ok();
    assert_eq!(work(&server, &["a"], &second).await["status"], "completed");
    // A place whose process died before the run began is free after a minute.
    let (third, fourth) = (
        plan(&server, json!({"sub_tasks": [text("s")]})).await,
        plan(&server, json!({"sub_tasks": [text("s")]})).await,
    );
    let held = |at: &str| format!("UPDATE am_plans SET held_since = '{at}' WHERE id = '{}'", third.text("id"));
    sql(&server.database(), &held("2999-01-01 00:00:00.000000")).await;
    let path = format!("{PLANS}/{}/execute", fourth.text("id"));
    server.post(&path, json!({})).await.is(409);
    sql(&server.database(), &held("2026-01-01 00:00:00.000000")).await;
    server.post(&path, json!({})).await.ok();
    // A policy that wants encryption refuses what may go to an agent in the open.
    let policy = "/api/v1/agents/security/policies?name=p&description=d&security_level=internal";
    server.post(policy, json!({"require_encryption": true})).await.ok();
    let refused = server.post(&format!("{PLANS}/{}/execute", third.text("id")), json!({})).await.is(403);
    assert_eq!((&refused["code"], &refused["rule"]), (&json!("policy_violation"), &json!("require_encryption")));
}

#[tokio::test]
async fn plans_of_one_owner_leave_another_its_share() {
    let server = TestApp::builder().env("PLANS_MAX_RUNNING", 2).start().await;
    let start = async |key: &str| {
        let made = post_as(&server, key, PLANS, json!({"name": "n", "sub_tasks": [text("s")]})).await.ok();
        let path = format!("{PLANS}/{}/execute", made.text("id"));
        post_as(&server, key, &path, json!({"wait_for_agents": true})).await
    };
    for _ in 0..2 {
        start(server.key()).await.ok();
    }
    start(server.key()).await.is(409);
    start(OTHER_ADMIN).await.ok();
    start(OTHER_ADMIN).await.is(409);
    start(server.key()).await.is(409);
}

#[tokio::test]
async fn agent_without_endpoint_is_notified_by_message() {
    let server = TestApp::start().await;
    register(&server, "poster", json!({})).await;
    let made = plan(&server, json!({"sub_tasks": [text("s")], "inputs": {"n": 1}})).await;
    execute(&server, &made).await;
    let [one] = &has(&server, "poster", 1).await[..] else { unreachable!() };
    let came = |count: usize| {
        let server = &server;
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let found = messages::inbox(server, "poster", "").await;
                if found.len() == count {
                    return found;
                }
                assert!(Instant::now() < deadline, "{count} messages never came: {found:?}");
                crate::harness::poll_interval().await;
            }
        }
    };
    let [task] = &came(1).await[..] else { unreachable!() };
    let id = one.text("assignment_id");
    assert_eq!((&task["message_id"], &task["sender"]), (&json!(format!("{id}:1:task")), &json!("agent-management")));
    assert_eq!((&task["message_type"], &task["encrypted"]), (&json!("task_request"), &json!(true)));
    let content = &task["content"];
    assert_eq!((&content["assignment_id"], &content["attempt"]), (&one["assignment_id"], &json!(1)));
    assert_eq!(content["request"]["input"], json!({"n": 1}));
    let discovered = server.get(&format!("{}/discover?capability=text_processing", messages::MESSAGES)).await.ok();
    assert_eq!((&discovered["count"], &discovered["agents"][0]["agent_id"]), (&json!(1), &json!("poster")));
    assert_eq!(discovered["agents"][0]["capabilities"], json!(["text_processing", "data_analysis"]));
    server.post(&format!("{PLANS}/{}/cancel", made.text("id")), json!({})).await.ok();
    let both = came(2).await;
    let kinds: Vec<&Value> = messages::each(&both, "message_type");
    assert!(kinds.contains(&&json!("notification")), "{both:?}");
    let history = server.get(&format!("{PLANS}/assignments/{id}")).await.ok();
    assert_eq!(
        (&history["attempts"][0]["told_by"], &history["attempts"][0]["outcome"]),
        (&json!("message"), &json!("cancelled"))
    );
}
