//! Networks of agents: real results flow, and what is said of them comes from what ran.

use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, OTHER_ADMIN, TestApp},
    jobs::open,
    kit::{AGENTS, JsonDocument, get_as, jq, locations, post_as, waiting},
};

const NETWORKS: &str = "/api/v1/agents/networks";

async fn network(server: &ApiClient, strategy: &str, agents: Value) -> String {
    let body = json!({"name": "n", "agents": agents, "coordination_strategy": strategy});
    server.post(NETWORKS, body).await.is(201).text("id").to_owned()
}

async fn run(server: &ApiClient, network: &str, task: Value) -> Value {
    let body = json!({"task": task, "priority": "high"});
    server.post(&format!("{NETWORKS}/{network}/execute?wait=25"), body).await.is(200)
}

/// What an agent in a network gave, by its id.
fn result<'a>(run: &'a Value, agent: &str) -> &'a Value {
    &run["final_result"]["step_results"][agent]
}

#[tokio::test]
async fn network_create_accepts_both_strategy_fields() {
    let server = TestApp::start().await;
    for (body, strategy) in [
        (json!({"name": "n"}), "centralized"),
        (json!({"name": "n", "coordination": "hybrid"}), "hybrid"),
        (json!({"name": "n", "coordination_strategy": "decentralized"}), "decentralized"),
        (json!({"name": "n", "coordination": null, "agents": null, "description": null, "unknown": 1}), "centralized"),
    ] {
        let mut made = server.post(NETWORKS, body.clone()).await.is(201);
        let warnings = made.as_object_mut().unwrap().shift_remove("warnings");
        assert_eq!(warnings.is_some(), body["unknown"].is_number(), "{warnings:?}");
        assert_eq!(made["coordination_strategy"], strategy, "{body}");
        assert_eq!((&made["agents"], &made["description"], &made["name"]), (&json!([]), &json!(""), &json!("n")));
        assert_eq!(made["owner_id"], "key_8211bbf633a893df9505");
        assert!(made.text("created_at").ends_with('Z') && made["status"].is_string(), "{made}");
        let id = made.text("id");
        let form = id.strip_prefix("network_").unwrap();
        assert!(form.len() > 15 && form.as_bytes()[8] == b'_', "{id}");
        assert_eq!(server.get(&format!("{NETWORKS}/{id}")).await.ok(), made);
        assert_eq!(get_as(&server, OTHER_ADMIN, &format!("{NETWORKS}/{id}")).await.is(404)["code"], "not_found");
        assert_eq!(get_as(&server, OTHER_ADMIN, &format!("{NETWORKS}/{id}/status")).await.status, 404);
        post_as(&server, OTHER_ADMIN, &format!("{NETWORKS}/{id}/execute"), json!({"task": 1})).await.is(404);
        post_as(&server, OTHER_ADMIN, &format!("{NETWORKS}/{id}/optimize"), json!({})).await.is(404);
    }
    let list = server.get(&format!("{NETWORKS}?limit=3")).await;
    assert_eq!((list.body.as_array().unwrap().len(), list.header("x-total-count")), (3, "4"));
    assert_eq!(get_as(&server, OTHER_ADMIN, NETWORKS).await.text, "[]");
    server.get(&format!("{NETWORKS}/network_0")).await.is(404);
    for (body, place) in [
        (json!({}), json!(["body", "name"])),
        (json!({"name": ""}), json!(["body", "name"])),
        (json!({"name": "n", "coordination": "anarchy"}), json!(["body", "coordination"])),
        (json!({"name": "n", "coordination_strategy": "anarchy"}), json!(["body", "coordination_strategy"])),
        (json!({"name": "n", "agents": "a"}), json!(["body", "agents"])),
        (json!({"name": "n", "agents": ["a", 5]}), json!(["body", "agents", 1])),
    ] {
        assert_eq!(locations(&server.post(NETWORKS, body).await.is(422)), [place]);
    }
}

#[tokio::test]
async fn centralized_network_runs_its_first_agent_as_coordinator() {
    let server = TestApp::start().await;
    let lead = server.workflow(json!({"plan": jq("{goal: (.task.n + 1), urgent: .priority}")})).await;
    let helper =
        server.workflow(json!({"work": jq("[.. | objects | select(.goal).goal] | {did: (first * 10)}")})).await;
    let by_name = server.workflow(json!({"own": jq("{n: .n, task: .task, led: (.upstream | length)}")})).await;
    let id = network(&server, "centralized", json!([lead, {"id": helper}, {"agent_id": by_name}])).await;
    let ended = run(&server, &id, json!({"n": 4})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["workflow_id"], json!(id));
    assert_eq!(result(&ended, &lead), &json!({"plan": {"goal": 5, "urgent": "high"}}));
    assert_eq!(result(&ended, &helper), &json!({"work": {"did": 50}}), "it sees what the first gave");
    assert_eq!(result(&ended, &by_name), &json!({"own": {"n": 4, "task": {"n": 4}, "led": 1}}));
    // The last stage has everything of it in one place.
    assert_eq!(result(&ended, "stage_2")[&helper], json!({"work": {"did": 50}}));
    let receipt = server.get(&format!("{AGENTS}/executions/{}/receipt", ended.text("id"))).await.ok();
    assert_eq!(receipt["verified"], true);
}

#[tokio::test]
async fn decentralized_network_runs_agents_in_parallel() {
    let server = TestApp::start().await;
    let one = server.workflow(json!({"s": jq("{seen: (.upstream // \"none\"), t: .task}")})).await;
    let two = server.workflow(json!({"a": jq("1"), "b": {"step_type": "data_processing", "depends_on": ["a"], "action": {"kind": "jq", "program": ". + 1"}}})).await;
    // The same agent may be in it twice.
    let id = network(&server, "decentralized", json!([one, two, one])).await;
    let ended = run(&server, &id, json!("text")).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let merged = result(&ended, "stage_1");
    assert_eq!(merged[&one], json!({"s": {"seen": "none", "t": "text"}}));
    assert_eq!(merged[format!("{one}_2")], merged[&one]);
    assert_eq!(merged[&two], json!({"b": 2}), "what its last steps gave");
}

#[tokio::test]
async fn hybrid_network_runs_in_stages() {
    let server = TestApp::start().await;
    let add = server.workflow(json!({"s": jq("[.. | numbers] | add + 1")})).await;
    let ask = server.workflow(json!({"s": jq("{all: [.upstream | .. | numbers]}")})).await;
    let id =
        network(&server, "hybrid", json!([{"id": ask, "stage": 3}, {"id": add, "stage": 1}, {"id": add, "stage": 2}]))
            .await;
    let ended = run(&server, &id, json!({})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(result(&ended, "stage_1")[&add], json!({"s": 1}));
    assert_eq!(result(&ended, "stage_2")[format!("{add}_2")], json!({"s": 2}));
    assert_eq!(result(&ended, "stage_3")[&ask], json!({"s": {"all": [2]}}));
}

#[tokio::test]
async fn network_executes_only_workflows_its_owner_may_run() {
    let server = TestApp::start().await;
    let task = json!({"task": {"x": 1}});
    let empty = network(&server, "centralized", json!([])).await;
    let refused = server.post(&format!("{NETWORKS}/{empty}/execute"), task.clone()).await.is(409);
    assert!(refused.text("detail").contains("no agents"), "{refused}");
    let gone = network(&server, "centralized", json!(["agent_00000000"])).await;
    let refused = server.post(&format!("{NETWORKS}/{gone}/execute"), task.clone()).await.is(409);
    assert!(refused.text("detail").contains("agent_00000000"), "{refused}");
    let body = |is_public| json!({"name": "o", "steps": {"s": jq(".task.x")}, "is_public": is_public});
    for (is_public, status) in [(false, 409), (true, 200)] {
        let theirs = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), body(is_public)).await.ok();
        let id = network(&server, "centralized", json!([theirs["id"]])).await;
        let answer = server.post(&format!("{NETWORKS}/{id}/execute?wait=20"), task.clone()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status == 200 {
            assert_eq!(result(&answer.body, theirs.text("id")), &json!({"s": 1}));
        }
    }
    for (body, place) in
        [(json!({}), json!(["body", "task"])), (json!({"task": 1, "priority": "asap"}), json!(["body", "priority"]))]
    {
        assert_eq!(locations(&server.post(&format!("{NETWORKS}/{empty}/execute"), body).await.is(422)), [place]);
    }
    server.post(&format!("{NETWORKS}/network_0/execute"), json!({"task": 1})).await.is(404);
}

#[tokio::test]
async fn network_status_comes_from_its_executions() {
    let server = TestApp::start().await;
    let agent = server.workflow(json!({"s": jq("if .task == \"bad\" then error(\"bad\") else 1 end")})).await;
    let id = network(&server, "decentralized", json!([agent])).await;
    let status = async || server.get(&format!("{NETWORKS}/{id}/status?metrics=all")).await.ok();
    let before = status().await;
    assert_eq!((&before["activity"], &before["agent_count"]), (&json!("idle"), &json!(1)));
    assert_eq!((&before["metrics"]["total_executions"], &before["metrics"]["success_rate"]), (&json!(0), &Value::Null));
    assert_eq!(run(&server, &id, json!("good")).await["status"], "completed");
    let body = json!({"task": "bad"});
    let failed = server.post(&format!("{NETWORKS}/{id}/execute"), body).await.ok();
    let failed = failed.text("id");
    server.post(&format!("{AGENTS}/executions/{failed}/cancel"), json!({})).await;
    let failed = server.ended(failed).await;
    let after = status().await;
    let metrics = &after["metrics"];
    assert_eq!((&metrics["total_executions"], &metrics["completed_executions"]), (&json!(2), &json!(1)));
    assert_eq!(after["activity"], failed["status"]);
    assert!(metrics["average_execution_time"].as_f64().unwrap() > 0.0 && metrics["total_cost"].as_f64().unwrap() > 0.0);
    assert_eq!(server.get(&format!("{NETWORKS}/{id}/status?metrics=false")).await.ok()["metrics"], Value::Null);
    server.get(&format!("{NETWORKS}/network_0/status")).await.is(404);
}

#[tokio::test]
async fn network_optimize_orders_agents_by_measurements() {
    let server = TestApp::builder().env("JQ_TIMEOUT_MS", 60000).start().await;
    let lead = server.workflow(json!({"s": jq("1")})).await;
    // Both count to the same end, one of them by far more steps.
    let slow = server.workflow(json!({"s": jq("reduce range(400000) as $i (0; . + 1)")})).await;
    let quick = server.workflow(json!({"s": jq("400000")})).await;
    let never = server.workflow(json!({"s": waiting()})).await;
    let agents = json!([lead, never, {"id": slow, "note": "kept"}, quick]);
    let id = network(&server, "centralized", agents).await;
    let optimize = async |body: Value| server.post(&format!("{NETWORKS}/{id}/optimize"), body).await;
    let nothing_known = optimize(json!({"objective": "speed"})).await.ok();
    assert_eq!(
        (&nothing_known["changed"], &nothing_known["measured"][2]["mean_seconds"]),
        (&json!(false), &Value::Null)
    );
    for agent in [&slow, &quick] {
        let path = format!("{AGENTS}/workflows/{agent}/execute?wait=25");
        assert_eq!(server.post(&path, json!({})).await.ok()["status"], "completed");
    }
    // What others' runs of the same workflow took is not measured.
    let shared = json!({"is_public": true});
    server.put(&format!("{AGENTS}/workflows/{slow}"), shared).await.ok();
    let theirs = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows/{slow}/execute?wait=25"), json!({})).await;
    assert_eq!(theirs.ok()["status"], "completed");
    let done = optimize(json!({"objective": "speed"})).await.ok();
    assert_eq!(done["agents"], json!([lead, quick, slow, never]), "{done}");
    assert_eq!((&done["changed"], &done["before"]), (&json!(true), &json!([lead, never, slow, quick])));
    let seconds = |at: usize| done["measured"][at]["mean_seconds"].as_f64();
    assert!(seconds(2) > seconds(3), "{done}");
    assert_eq!(done["measured"][2]["runs"], 1, "{done}");
    let now = server.get(&format!("{NETWORKS}/{id}")).await.ok();
    assert_eq!(now["agents"], json!([lead, quick, {"id": slow, "note": "kept"}, never]));
    for objective in ["efficiency", "cost", "quality"] {
        assert_eq!(optimize(json!({"objective": objective})).await.ok()["objective"], objective);
    }
    assert_eq!(optimize(json!(null)).await.ok()["objective"], "efficiency");
    assert_eq!(locations(&optimize(json!({"objective": "luck"})).await.is(422)), [json!(["body", "objective"])]);
}

#[tokio::test]
async fn network_optimize_measures_the_callers_own_executions_alone() {
    let server = TestApp::start().await;
    let body = json!({"name": "theirs", "steps": {"s": jq("1")}, "is_public": true});
    let theirs = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), body).await.ok();
    let theirs = theirs.text("id");
    let path = format!("{AGENTS}/workflows/{theirs}/execute?wait=25");
    assert_eq!(post_as(&server, OTHER_ADMIN, &path, json!({})).await.ok()["status"], "completed");
    let id = network(&server, "centralized", json!([theirs])).await;
    let measured = async || {
        let done = server.post(&format!("{NETWORKS}/{id}/optimize"), json!({"objective": "speed"})).await.ok();
        done["measured"][0].clone()
    };
    let unknown = measured().await;
    assert_eq!((&unknown["agent_id"], &unknown["mean_seconds"]), (&json!(theirs), &Value::Null), "{unknown}");
    assert_eq!(server.post(&path, json!({})).await.ok()["status"], "completed");
    let known = measured().await;
    assert!(known["mean_seconds"].is_number(), "{known}");
    // A private one that an id in a network names says nothing at all.
    let body = json!({"name": "private", "steps": {"s": jq("1")}});
    let private = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), body).await.ok();
    let path = format!("{AGENTS}/workflows/{}/execute?wait=25", private.text("id"));
    assert_eq!(post_as(&server, OTHER_ADMIN, &path, json!({})).await.ok()["status"], "completed");
    let id = network(&server, "centralized", json!([private["id"]])).await;
    let done = server.post(&format!("{NETWORKS}/{id}/optimize"), json!({"objective": "speed"})).await.ok();
    assert_eq!(done["measured"][0]["mean_seconds"], Value::Null, "{done}");
}

#[tokio::test]
async fn network_optimize_measures_before_it_waits_for_the_lock() {
    let server = TestApp::builder().env("DB_BUSY_TIMEOUT_MS", 20000).start().await;
    let agent = server.workflow(json!({"s": jq("1")})).await;
    let id = network(&server, "centralized", json!([agent])).await;
    let mut coordinator = open(&server.database()).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut coordinator).await.unwrap();
    // What needs no write is answered meanwhile; what needs one is done afterwards.
    server.post(&format!("{NETWORKS}/network_0/optimize"), json!({})).await.is(404);
    let path = format!("{NETWORKS}/{id}/optimize");
    let (done, ()) = tokio::join!(server.post(&path, json!({})), async {
        sqlx::query("ROLLBACK").execute(&mut coordinator).await.unwrap();
    });
    assert_eq!(done.ok()["agents"], json!([agent]));
}
