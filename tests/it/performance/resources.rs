//! Resources: the table of allocations, admission against hosts, the life of an allocation, what was used of it, plans.

use std::{path::Path, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::PERFORMANCE;
use crate::{
    harness::{Answer, ApiClient, CLIENT, MINER, Server, TestApp, poll_interval},
    kit::{JsonDocument as _, ask, get_as, json_fixture, locations, post_as, sql},
    security,
};

/// Names of the resources.
const RESOURCES: [&str; 6] =
    ["cpu_cores", "memory_gb", "gpu_count", "gpu_memory_gb", "storage_gb", "network_bandwidth"];

fn at(path: &str) -> String {
    format!("{PERFORMANCE}/{path}")
}

/// A host's amounts, of which a general task's efficient configuration (2 cores, 4 GB) fits so many times.
pub fn host_for(allocations: u64) -> Value {
    json!({
        "cpu_cores": 2 * allocations, "memory_gb": 4 * allocations, "gpu_count": 4, "gpu_memory_gb": 64,
        "storage_gb": 50 * allocations, "network_bandwidth": 100 * allocations,
    })
}

/// Configure a host.
pub async fn put_host(server: &ApiClient, name: &str, body: Value) -> Value {
    server.put(&at(&format!("capacity/hosts/{name}")), body).await.ok()
}

/// Ask for resources.
pub async fn allocate(server: &ApiClient, agent: &str, more: Value) -> Answer {
    let mut body = json!({"agent_id": agent, "task_requirements": {}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(&at("resources/allocate"), body).await
}

/// Do something with an allocation.
pub async fn act(server: &ApiClient, allocation: &Value, action: &str, body: Value) -> Answer {
    server.post(&at(&format!("allocations/{}/{action}", allocation.text("allocation_id"))), body).await
}

/// What to ask of a POST about resources so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let rest = template.strip_prefix("/performance/").unwrap();
    match rest {
        "resources/allocate" => {
            (at(rest), json!({"agent_id": "worker", "task_requirements": {"task_type": "training"}}))
        }
        "resources/plan" => {
            let mut host = host_for(4);
            host["host_id"] = json!("a");
            (at(rest), json!({"requests": [{"task_requirements": {}}], "hosts": [host]}))
        }
        _ => {
            let made = allocate(server, "worker", json!({})).await.ok();
            let action = rest.rsplit('/').next().unwrap();
            if action == "complete" {
                act(server, &made, "start", json!({})).await.ok();
            }
            (at(&format!("allocations/{}/{action}", made.text("allocation_id"))), json!({}))
        }
    }
}

#[tokio::test]
async fn an_allocation_has_the_contracts_members_and_says_that_it_is_advice() {
    let server = TestApp::start().await;
    let asked = json!({
        "task_requirements": {"task_type": "inference", "model_size": "large", "workload_factor": 1.5, "note": [1]},
        "optimization_target": "efficiency",
    });
    let made = allocate(&server, "agent-1", asked).await.ok();
    let contract = json_fixture("contract/openapi.json");
    let schema = &contract["components"]["schemas"]["ResourceAllocationResponse"];
    for member in schema["required"].as_array().unwrap() {
        assert!(!made[member.as_str().unwrap()].is_null(), "{member} of {made}");
    }
    // The monolith says 1.0499999 GPUs.
    let amounts: Vec<&Value> = RESOURCES.iter().map(|name| &made[name]).collect();
    assert_eq!(json!(amounts), json!([6.0, 12.0, 1.05, 0.0, 75.0, 300.0]));
    assert_eq!((&made["admission"], &made["host_id"]), (&json!("not configured"), &Value::Null));
    assert_eq!((made.text("status"), made.text("priority_level")), ("allocated", "normal"));
    assert_eq!((&made["initial"]["gpu_count"], &made["task_rule"]), (&json!(1.5), &json!("inference")));
    // 60 + 24 + 105 + 7.5; before it were 1.5 GPUs.
    assert_eq!((&made["cost"], &made["cost_savings"]), (&json!(196.5), &json!(45.0)));
    assert_eq!(made["task_requirements"]["note"], json!([1]));
    for name in ["efficiency_score", "cost_efficiency"] {
        assert!(made[name].is_null() && made["reasons"][name].is_string(), "{made}");
    }
    let capacity = server.get(&at("capacity")).await.ok();
    assert_eq!((&capacity["admission"], &capacity["hosts"]), (&json!("not configured"), &json!(0)));
    let listed = server.get(&at("resources/agent-1")).await;
    assert_eq!(listed.header("x-total-count"), "1");
    assert_eq!(listed.ok(), json!([made]));
    assert_eq!(server.get(&at(&format!("allocations/{}", made.text("allocation_id")))).await.ok(), made);
}

#[tokio::test]
async fn all_targets_are_answered_and_what_cannot_be_read_is_named() {
    let server = TestApp::start().await;
    for (target, cores) in
        [("speed", 12.0), ("accuracy", 8.0), ("cost", 4.0), ("scalability", 8.0), ("reliability", 10.0)]
    {
        let asked = json!({"task_requirements": {"task_type": "training"}, "optimization_target": target});
        let made = allocate(&server, "agent-1", asked).await.ok();
        assert_eq!((made.text("optimization_target"), &made["cpu_cores"]), (target, &json!(cores)));
    }
    let listed = server.get(&at("resources/agent-1")).await.ok();
    for (more, member) in [
        (json!({"optimization_target": "beauty"}), json!(["body", "optimization_target"])),
        (
            json!({"task_requirements": {"workload_factor": -1}}),
            json!(["body", "task_requirements", "workload_factor"]),
        ),
        (
            json!({"task_requirements": {"workload_factor": "NaN"}}),
            json!(["body", "task_requirements", "workload_factor"]),
        ),
        (json!({"task_requirements": {"task_type": 7}}), json!(["body", "task_requirements", "task_type"])),
        (json!({"task_requirements": [1]}), json!(["body", "task_requirements"])),
        (json!({"ttl_seconds": 0}), json!(["body", "ttl_seconds"])),
        (json!({"priority_level": ""}), json!(["body", "priority_level"])),
        (json!({"agent_id": " a"}), json!(["body", "agent_id"])),
        (json!({"execution_id": "exec_0000000000"}), json!(["body", "execution_id"])),
    ] {
        let refused = allocate(&server, "agent-1", more.clone()).await.is(422);
        assert_eq!(locations(&refused), [member], "{more}");
    }
    let refused = server.post(&at("resources/allocate"), json!({"agent_id": "agent-1"})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "task_requirements"])]);
    assert_eq!(server.get(&at("resources/agent-1")).await.ok(), listed, "nothing was stored");
}

#[tokio::test]
async fn capacity_is_taken_and_given_back() {
    let server = TestApp::start().await;
    put_host(&server, "a", host_for(2)).await;
    let first = allocate(&server, "one", json!({})).await.ok();
    let second = allocate(&server, "one", json!({})).await.ok();
    assert_eq!((first.text("admission"), first.text("host_id")), ("admitted", "a"));
    assert_eq!(
        (&first["placement"]["opened_host"], &second["placement"]["opened_host"]),
        (&json!(true), &json!(false))
    );
    assert!(second["placement"].text("explanation").contains("1 of 1 open hosts"), "{second}");
    let refused = allocate(&server, "one", json!({})).await.is(409);
    assert_eq!(refused["code"], "capacity_exhausted");
    let told = "a lacks 2 cpu_cores (of 4 it has 0 free) and 4 memory_gb (of 8 it has 0 free)";
    assert!(refused.text("detail").contains(told), "{refused}");
    // A smaller host below what is allocated is refused, and nothing changes.
    let mut smaller = host_for(2);
    smaller["cpu_cores"] = json!(3);
    smaller["storage_gb"] = json!(99.5);
    let refused = ask(&server, Some(server.key()), Method::PUT, &at("capacity/hosts/a"), Some(smaller)).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "cpu_cores"]), json!(["body", "storage_gb"])]);
    assert_eq!(server.delete(&at("capacity/hosts/a")).await.is(409)["code"], "host_in_use");

    let active = act(&server, &first, "start", json!({})).await.ok();
    assert!(active.text("status") == "active" && active["started_at"].is_string());
    assert_eq!(act(&server, &first, "start", json!({})).await.is(409)["code"], "invalid_state");
    assert_eq!(act(&server, &second, "complete", json!({})).await.is(409)["code"], "invalid_state");
    let done = act(&server, &first, "complete", json!({"keep": true})).await.ok();
    assert_eq!((done.text("status"), &done["holds_capacity"]), ("completed", &json!(true)));
    allocate(&server, "one", json!({})).await.is(409);
    let released = act(&server, &first, "release", json!({})).await.ok();
    assert_eq!((released.text("status"), &released["holds_capacity"]), ("released", &json!(false)));
    assert!(released["expires_at"].is_null() && released["completed_at"].is_string());
    assert_eq!(act(&server, &first, "release", json!({})).await.is(409)["code"], "invalid_state");
    allocate(&server, "one", json!({})).await.ok();

    let host = server.get(&at("capacity/hosts/a")).await.ok();
    assert_eq!((&host["allocations"], &host["allocated"]["cpu_cores"]), (&json!(2), &json!(4.0)));
    let by_state = server.get(&at("resources/one?status=allocated&limit=1")).await;
    assert_eq!((by_state.header("x-total-count"), by_state.header("link").contains("next")), ("2", true));
    let capacity = server.get(&at("capacity")).await.ok();
    assert_eq!((&capacity["resources"][0]["share"], &capacity["hosts_in_use"]), (&json!(1.0), &json!(1)));
    // The coordinator's row says the same.
    let row = "SELECT status || '|' || optimization_target || '|' || cpu_cores FROM resource_allocations WHERE status = 'released'";
    assert_eq!(crate::portfolio::text_of(&server, row).await, "released|EFFICIENCY|2.0");
}

#[tokio::test]
async fn hosts_in_use_fill_up_before_idle_ones_open_and_closed_ones_take_nothing() {
    let server = TestApp::start().await;
    let with_gpus = json!({"cpu_cores": 32, "memory_gb": 128, "gpu_count": 8, "gpu_memory_gb": 160, "storage_gb": 2000, "network_bandwidth": 10_000});
    put_host(&server, "gpu", with_gpus.clone()).await;
    put_host(&server, "small", host_for(3)).await;
    let mut closed = host_for(100);
    closed["state"] = json!("closed");
    put_host(&server, "shut", closed).await;
    let hosts = async |agent: &str, count: usize, more: Value| {
        let mut hosts = Vec::new();
        for _ in 0..count {
            hosts.push(allocate(&server, agent, more.clone()).await.ok().text("host_id").to_owned());
        }
        hosts
    };
    assert_eq!(hosts("general", 3, json!({})).await, ["small"; 3], "the shape is that of the small host");
    assert_eq!(hosts("general", 1, json!({})).await, ["gpu"]);
    let training = json!({"task_requirements": {"task_type": "training"}, "optimization_target": "accuracy"});
    assert_eq!(hosts("trainer", 2, training.clone()).await, ["gpu"; 2]);
    let refused =
        allocate(&server, "trainer", json!({"task_requirements": {"task_type": "training", "workload_factor": 4}}));
    let refused = refused.await.is(409);
    assert!(refused.text("detail").contains("gpu_count") && !refused.text("detail").contains("shut"), "{refused}");
    for (name, body, place) in [
        ("bad", json!({"cpu_cores": 1}), json!(["body", "memory_gb"])),
        (
            "bad",
            json!({"cpu_cores": -1, "memory_gb": 1, "storage_gb": 1, "network_bandwidth": 1}),
            json!(["body", "cpu_cores"]),
        ),
        (
            "bad",
            json!({"cpu_cores": 0.0001, "memory_gb": 1, "storage_gb": 1, "network_bandwidth": 1}),
            json!(["body", "cpu_cores"]),
        ),
        ("a%20b", with_gpus, json!(["path", "host_id"])),
    ] {
        let path = at(&format!("capacity/hosts/{name}"));
        let refused = ask(&server, Some(server.key()), Method::PUT, &path, Some(body.clone())).await.is(422);
        assert_eq!(locations(&refused), [place], "{body}");
    }
    assert_eq!(server.get(&at("capacity/hosts")).await.ok().as_array().unwrap().len(), 3);
    assert_eq!(server.delete(&at("capacity/hosts/shut")).await.status, 204);
    server.get(&at("capacity/hosts/shut")).await.is(404);
    ask(&server, Some(CLIENT), Method::GET, &at("capacity/hosts"), None).await.is(403);
}

#[tokio::test]
async fn sixty_four_requests_at_once_overcommit_nothing() {
    let server = TestApp::start().await;
    for (name, room) in [("a", 5), ("b", 7), ("c", 9)] {
        put_host(&server, name, host_for(room)).await;
    }
    let answers = join_all((0..64).map(|number| {
        let body = json!({"agent_id": format!("agent-{}", number % 4), "task_requirements": {}});
        let server = &*server;
        async move { server.post(&at("resources/allocate"), body).await }
    }));
    let answers = answers.await;
    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!((made.len(), answers.iter().filter(|answer| answer.status == 409).count()), (21, 43));
    let hosts = server.get(&at("capacity/hosts")).await.ok();
    for (host, room) in hosts.as_array().unwrap().iter().zip([5, 7, 9]) {
        assert_eq!((&host["allocations"], &host["free"]["cpu_cores"]), (&json!(room), &json!(0.0)), "{host}");
        assert_eq!(
            (&host["allocated"]["memory_gb"], &host["free"]["gpu_count"]),
            (&json!(4.0 * f64::from(room)), &json!(4.0))
        );
    }
    // Given back at once, too: each once, whoever asks twice.
    let released = join_all(made.iter().chain(&made).map(|one| {
        let (server, one) = (&*server, one.body.clone());
        async move { act(server, &one, "release", json!({})).await.status.as_u16() }
    }));
    let released = released.await;
    assert_eq!(released.iter().filter(|status| **status == 200).count(), 21);
    let capacity = server.get(&at("capacity")).await.ok();
    assert_eq!((&capacity["allocations"], &capacity["resources"][0]["allocated"]), (&json!(0), &json!(0.0)));
}

#[tokio::test]
async fn what_is_not_given_back_expires() {
    let server = TestApp::start().await;
    put_host(&server, "a", host_for(2)).await;
    let first = allocate(&server, "one", json!({"ttl_seconds": 10})).await.ok();
    let second = allocate(&server, "one", json!({"ttl_seconds": 10})).await.ok();
    act(&server, &second, "start", json!({})).await.ok();
    act(&server, &second, "complete", json!({"keep": true})).await.ok();
    allocate(&server, "one", json!({})).await.is(409);
    server.clock().advance(Duration::from_secs(11));
    // Who comes first ends them: the sweep, or whoever needs the room.
    allocate(&server, "one", json!({})).await.ok();
    let seen = async |one: &Value| {
        let path = at(&format!("allocations/{}", one.text("allocation_id")));
        server.get(&path).await.ok()
    };
    while server.get(&at("capacity")).await.ok()["allocations"] != 1 {
        poll_interval().await;
    }
    let expired = seen(&first).await;
    assert_eq!((expired.text("status"), &expired["holds_capacity"]), ("expired", &json!(false)));
    assert!(expired["expires_at"].is_null());
    let kept = seen(&second).await;
    assert_eq!((kept.text("status"), &kept["holds_capacity"]), ("completed", &json!(false)), "only its room is free");
    assert_eq!(act(&server, &first, "start", json!({})).await.is(409)["code"], "invalid_state");
    let log = server.get("/api/v1/agents/security/audit-logs?limit=100").await.ok();
    let told = log.as_array().unwrap().iter().filter(|entry| entry["event_data"]["action"] == "expired");
    assert_eq!(told.count(), 2, "{log}");
}

#[tokio::test]
async fn an_agent_is_its_owners() {
    let server = TestApp::start().await;
    let body = json!({"agent_id": "mine", "task_requirements": {}});
    let path = at("resources/allocate");
    let made = post_as(&server, CLIENT, &path, body.clone()).await.ok();
    let one = at(&format!("allocations/{}", made.text("allocation_id")));
    post_as(&server, MINER, &path, body.clone()).await.is(404);
    for (key, status) in [(CLIENT, 200), (MINER, 404), (server.key(), 200)] {
        get_as(&server, key, &one).await.is(status);
        get_as(&server, key, &at("resources/mine")).await.is(status);
    }
    post_as(&server, MINER, &format!("{one}/release"), json!({})).await.is(404);
    get_as(&server, CLIENT, &at("resources/nobody")).await.is(404);
    assert_eq!(server.get(&at("resources/nobody")).await.ok(), json!([]), "an admin sees that there is nothing");
    crate::agents::registry::register(&server, "registered", json!({"capabilities": ["io_bound"]})).await;
    let refused = post_as(&server, CLIENT, &path, json!({"agent_id": "registered", "task_requirements": {}})).await;
    assert_eq!(refused.is(404)["detail"], "No agent registered");
    post_as(&server, CLIENT, &format!("{one}/release"), json!({})).await.ok();
}

/// A row as the coordinator writes it.
async fn coordinators_row(database: &Path, id: &str, status: &str, at: &str) {
    let row = format!(
        "INSERT INTO resource_allocations (id, allocation_id, agent_id, cpu_cores, memory_gb, gpu_count, gpu_memory_gb,
             storage_gb, network_bandwidth, optimization_target, priority_level, efficiency_score, cost_efficiency, status,
             allocated_at, optimization_applied, optimization_savings, performance_improvement, created_at, updated_at)
         VALUES ('alloc_row{id}', 'alloc_{id}', 'theirs', 4, 8, 1, 0, 50, 200, 'SPEED', 'high', 0, 0, '{status}', '{at}', 0, 0, 0,
             '{at}', '{at}')"
    );
    sql(database, &row).await;
}

#[tokio::test]
async fn the_coordinators_allocations_are_listed_and_left_alone() {
    let server = TestApp::start().await;
    crate::agents::kept_lists::built(&server.database()).await;
    coordinators_row(&server.database(), "1", "pending", "2026-05-12 14:29:30.123456").await;
    coordinators_row(&server.database(), "2", "allocated", "2026-05-12 14:29:31.000000").await;
    let own = allocate(&server, "theirs", json!({})).await.ok();
    let first = server.get(&at("resources/theirs?limit=2")).await;
    assert_eq!(first.header("x-total-count"), "3");
    let rows = crate::portfolio::all_pages(&server, &at("resources/theirs?limit=2")).await;
    let ids: Vec<&str> = rows.iter().map(|row| row.text("allocation_id")).collect();
    assert_eq!(ids, [own.text("allocation_id"), "alloc_2", "alloc_1"]);
    let theirs = &rows[2];
    assert_eq!((theirs.text("optimization_target"), theirs.text("admission")), ("speed", "unknown"));
    assert!(theirs["initial"].is_null() && theirs["reasons"]["initial"].is_string(), "{theirs}");
    assert_eq!(theirs["cost"], json!(161.0));
    assert_eq!(act(&server, theirs, "start", json!({})).await.is(409)["code"], "conflict");
    // What the coordinator changes is seen, by its state too.
    sql(&server.database(), "UPDATE resource_allocations SET status = 'failed' WHERE allocation_id = 'alloc_1'").await;
    let failed = server.get(&at("resources/theirs?status=failed")).await.ok();
    assert_eq!((failed.as_array().unwrap().len(), failed[0].text("allocation_id")), (1, "alloc_1"));
    assert_eq!(server.get(&at("resources/theirs?status=pending")).await.ok(), json!([]));
}

#[tokio::test]
async fn utilisation_is_what_the_sandbox_measured() {
    let server = Server::start().await;
    let code = "import json\nx = bytearray(64 << 20)\nopen('/workspace/data', 'wb').write(b'1' * (8 << 20))\nfor i in range(3000000): pass\nprint(json.dumps(len(x)))";
    let ended = security::run(&server, json!({"s": security::python(code, json!({}))}), json!({})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let execution = ended.text("id");
    let made = allocate(&server, "worker", json!({})).await.ok();
    let active = act(&server, &made, "start", json!({"execution_id": execution})).await.ok();
    let measured = security::monitor(&server, execution).await;
    let usage = &measured["totals"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {measured}"));
    let used = &active["utilisation"];
    assert_eq!(used["commands"], 1);
    assert!(
        (number(&used["memory_gb"]) - number(&usage["memory_peak_bytes"]) / 4.0 / (1u64 << 30) as f64).abs() < 1e-12
    );
    assert!(number(&used["memory_gb"]) > 0.015, "64 MB of 4 GB: {used}");
    let wanted = number(&usage["cpu_seconds"]) / number(&usage["seconds"]) / 2.0;
    assert!((number(&used["cpu_cores"]) - wanted).abs() < 1e-12, "{used} {usage}");
    assert!(number(&used["storage_gb"]) > 0.0 && used["network_bandwidth"].is_null(), "{used}");
    let score = (number(&used["cpu_cores"]).min(1.0) + number(&used["memory_gb"]) + number(&used["storage_gb"])) / 3.0;
    assert!((number(&active["efficiency_score"]) - score).abs() < 1e-12, "{active}");
    assert_eq!(active["reasons"]["utilisation.network_bandwidth"], "sandboxes do not measure the network's use");
    let done = act(&server, &made, "complete", json!({})).await.ok();
    assert_eq!((&done["utilisation"], &done["efficiency_score"]), (used, &active["efficiency_score"]));
    let row = "SELECT CASE WHEN efficiency_score > 0 AND json_valid(resource_utilization) THEN 'kept' ELSE 'lost' END
         FROM resource_allocations";
    assert_eq!(crate::portfolio::text_of(&server, row).await, "kept");
}

#[tokio::test]
async fn a_plan_uses_fewer_hosts_than_first_fit_and_says_how_far_it_is_from_the_bound() {
    let server = TestApp::start().await;
    let refused = server.post(&at("resources/plan"), json!({"requests": [{"task_requirements": {}}]})).await.is(409);
    assert_eq!(refused["code"], "no_hosts");
    // Half of the demands want cores, half memory: first fit puts like to like.
    let demand = |cores: u64, memory: u64| json!({"resources": {"cpu_cores": cores, "memory_gb": memory, "storage_gb": 1, "network_bandwidth": 1}});
    let requests: Vec<Value> = (0..16).map(|at| if at < 8 { demand(6, 2) } else { demand(2, 6) }).collect();
    let hosts: Vec<Value> = (0..16)
        .map(|at| json!({"host_id": format!("h{at}"), "cpu_cores": 8, "memory_gb": 8, "storage_gb": 100, "network_bandwidth": 100}))
        .collect();
    let body = json!({"requests": requests, "hosts": hosts});
    let plan = server.post(&at("resources/plan"), body.clone()).await.ok();
    assert_eq!((&plan["unplaced"], &plan["hosts_in_use"], &plan["lower_bound"]), (&json!(0), &json!(8), &json!(8)));
    assert_eq!(plan["bound_ratio"], 1.0);
    let uneven = |value: &Value| value["imbalance"].as_f64().unwrap();
    assert!((uneven(&plan) - uneven(&plan["hosts"][0])).abs() < 1e-12, "all hosts are alike: {plan}");
    assert!(plan["first_fit_hosts_in_use"].as_u64().unwrap() >= 8 && plan.text("explanation").contains("First fit"));
    assert_eq!(server.post(&at("resources/plan"), body).await.ok(), plan, "the same request, the same plan");
    // Configured hosts count with what they have free; nothing is reserved.
    put_host(&server, "a", host_for(2)).await;
    allocate(&server, "one", json!({})).await.ok();
    let asked = json!({"requests": [{"name": "x", "task_requirements": {}}, {"name": "y", "task_requirements": {}}]});
    let plan = server.post(&at("resources/plan"), asked).await.ok();
    assert_eq!((&plan["unplaced"], &plan["lower_bound"]), (&json!(1), &Value::Null));
    let left = plan["placements"].as_array().unwrap().iter().find(|one| one["host_id"].is_null()).unwrap();
    assert!(left.text("reason").contains("a, which lacks least, lacks 2 cpu_cores"), "{left}");
    assert_eq!(server.get(&at("capacity")).await.ok()["allocations"], 1);
    let refused =
        server.post(&at("resources/plan"), json!({"requests": [{}, demand(1, 1)], "steps": 10_001})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "requests", 0, "resources"]), json!(["body", "steps"])]);
}
