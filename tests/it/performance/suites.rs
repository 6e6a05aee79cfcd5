//! Evaluation suites: cases that are run, their scores, comparisons, gates, refusals, and a process that dies.

use std::time::Instant;

use serde_json::{Value, json};

use super::PERFORMANCE;
use crate::{
    harness::{ADMIN, ApiClient, CLIENT, OTHER_ADMIN, PATIENCE, Server, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument as _, fixture, get_as, jq, locations, post_as, waiting},
    rl,
};

pub fn suites() -> String {
    format!("{PERFORMANCE}/suites")
}

/// A suite of sums.
pub fn sums(name: &str) -> Value {
    json!({"name": name, "cases": [
        {"name": "small", "input": {"a": 1, "b": 2}, "expected": 3},
        {"name": "none", "input": {"a": 0, "b": 0}, "expected": 0.0},
    ]})
}

/// What a workflow is evaluated by.
pub fn of_workflow(workflow: &str) -> Value {
    json!({"target": {"kind": "workflow", "id": workflow}})
}

/// Make a suite; answers its path.
pub async fn suite(server: &ApiClient, draft: Value) -> String {
    format!("{}/{}", suites(), server.post(&suites(), draft).await.is(201).text("id"))
}

/// An evaluation once it has ended.
pub async fn ended(server: &ApiClient, evaluation: &Value) -> Value {
    let path = format!("{PERFORMANCE}/evaluations/{}", evaluation.text("id"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = server.get(&path).await.ok();
        if !matches!(now.text("status"), "running" | "cancelling") {
            return now;
        }
        assert!(Instant::now() < deadline, "it goes on: {now}");
        poll_interval().await;
    }
}

async fn evaluated(server: &ApiClient, suite: &str, body: Value) -> Value {
    let begun = server.post(&format!("{suite}/evaluate"), body).await.is(201);
    ended(server, &begun).await
}

/// What to ask of a POST about suites so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let rest = template.strip_prefix("/performance/").unwrap();
    if rest == "suites" {
        return (suites(), sums("once"));
    }
    let name = format!("once {}", rest.rsplit('/').next().unwrap());
    let made = suite(server, sums(&name)).await;
    match rest.rsplit('/').next().unwrap() {
        "versions" => (format!("{made}/versions"), json!({"cases": sums("x")["cases"]})),
        "evaluate" => {
            let workflow = server.workflow(json!({"a": jq(".a + .b")})).await;
            (format!("{made}/evaluate"), of_workflow(&workflow))
        }
        "gates" => {
            let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
            rl::upload(server, server.key(), "gated/versions", weights).await.is(201);
            let gate = json!({"policy": "gated", "alias": "best", "rule": "at_least", "bound": 0.5});
            (format!("{made}/gates"), gate)
        }
        "cancel" => {
            let workflow = server.workflow(json!({"a": waiting()})).await;
            let begun = server.post(&format!("{made}/evaluate"), of_workflow(&workflow)).await.is(201);
            (format!("{PERFORMANCE}/evaluations/{}/cancel", begun.text("id")), json!({}))
        }
        other => panic!("POST {other} of suites is not tried: say how it is asked"),
    }
}

#[tokio::test]
async fn each_case_is_an_execution_and_each_kind_of_check_judges_it() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("{sum: (.a + .b), text: \"sum of \\(.a)\"}")})).await;
    let case = |name: &str, check: Value| json!({"name": name, "input": {"a": 1, "b": 2}, "check": check});
    let made = suite(&server, json!({"name": "all checks", "cases": [
        {"name": "equal", "input": {"a": 1, "b": 2}, "expected": {"sum": 3.0, "text": "sum of 1"}},
        {"name": "unequal", "input": {"a": 1, "b": 2}, "expected": {"sum": 4, "text": "sum of 1"}},
        case("contains", json!({"kind": "contains", "text": "sum of 1"})),
        case("schema", json!({"kind": "schema", "schema": {"required": ["sum"], "properties": {"sum": {"minimum": 3}}}})),
        case("no schema", json!({"kind": "schema", "schema": {"required": ["gone"]}})),
        case("truth", json!({"kind": "jq", "program": ".sum == 3"})),
        case("grade", json!({"kind": "jq", "program": "0.75"})),
        case("no answer", json!({"kind": "jq", "program": "\"maybe\""})),
        {"name": "broken", "input": {"a": [], "b": 2}, "expected": 1},
    ]})).await;
    let found = evaluated(&server, &made, of_workflow(&workflow)).await;
    assert_eq!(
        (&found["status"], &found["cases"], &found["done"], &found["passed"]),
        (&json!("completed"), &json!(9), &json!(9), &json!(5)),
        "{found}"
    );
    let score = found["score"].as_f64().unwrap();
    assert!((score - 4.75 / 9.0).abs() < 1e-12, "{found}");
    let (low, high) = (found["low"].as_f64().unwrap(), found["high"].as_f64().unwrap());
    assert!(
        0.0 < low && low < score && score < high && high < 1.0 && found["interval_method"] == "bootstrap",
        "{found}"
    );
    let results = format!("{PERFORMANCE}/evaluations/{}/results?order=asc", found.text("id"));
    let results = server.get(&results).await.ok();
    let states: Vec<&str> = results.as_array().unwrap().iter().map(|one| one.text("status")).collect();
    let wanted = ["passed", "failed", "passed", "passed", "failed", "passed", "passed", "broken", "broken"];
    assert_eq!(states, wanted, "{results}");
    assert!(results[1].text("reason").contains("expected"), "{results}");
    for one in results.as_array().unwrap() {
        let run = server.get(&format!("{AGENTS}/executions/{}", one.text("execution_id"))).await.ok();
        assert_eq!(run["workflow_id"], workflow.as_str());
    }
    let page = server.get(&format!("{made}/cases?order=asc&limit=2")).await;
    assert_eq!(page.header("x-total-count"), "9");
    assert_eq!(page.ok()[1]["name"], "unequal");
    assert_eq!(server.get(&format!("{made}/evaluations")).await.ok()[0], found);
}

#[tokio::test]
async fn a_number_is_compared_within_its_tolerance_and_a_step_can_be_named() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq(".x / 3"), "b": jq("7")})).await;
    let number = |tolerance: f64| json!({"kind": "number", "value": 0.333, "tolerance": tolerance});
    let made = suite(
        &server,
        json!({"name": "numbers", "output_step": "a", "cases": [
            {"name": "near", "input": {"x": 1}, "check": number(0.001), "weight": 3},
            {"name": "far", "input": {"x": 1}, "check": number(0.0001)},
        ]}),
    )
    .await;
    let found = evaluated(&server, &made, of_workflow(&workflow)).await;
    assert_eq!((&found["score"], &found["interval_method"]), (&json!(0.75), &json!("wilson")), "{found}");
    let other =
        suite(&server, json!({"name": "gone", "output_step": "c", "cases": [{"name": "x", "expected": 1}]})).await;
    let found = evaluated(&server, &other, of_workflow(&workflow)).await;
    assert_eq!((&found["score"], &found["status"]), (&json!(0.0), &json!("completed")));
}

#[tokio::test]
async fn a_change_is_compared_with_what_was_before_case_by_case() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("if .n < 2 then .n * 2 else 0 end")})).await;
    let cases: Vec<Value> =
        (0..10).map(|n| json!({"name": format!("n{n}"), "input": {"n": n}, "expected": n * 2})).collect();
    let made = suite(&server, json!({"name": "doubles", "cases": cases})).await;
    let first = evaluated(&server, &made, of_workflow(&workflow)).await;
    assert_eq!(first["score"], 0.2);
    let nothing = server.get(&format!("{PERFORMANCE}/evaluations/{}/comparison", first.text("id"))).await.is(409);
    assert_eq!(nothing["code"], "nothing_to_compare");
    let better = json!({"steps": {"a": jq(".n * 2")}});
    server.put(&format!("{AGENTS}/workflows/{workflow}"), better).await.ok();
    let second = evaluated(&server, &made, of_workflow(&workflow)).await;
    assert_eq!(second["score"], 1.0);
    let compared = server.get(&format!("{PERFORMANCE}/evaluations/{}/comparison", second.text("id"))).await.ok();
    assert_eq!(compared["against"], first["id"]);
    assert_eq!((&compared["pairs"], &compared["gained"], &compared["lost"]), (&json!(10), &json!(8), &json!(0)));
    assert_eq!((&compared["difference"], &compared["verdict"]), (&json!(0.8), &json!("better")));
    assert!((compared["p_value"].as_f64().unwrap() - 0.007_812_5).abs() < 1e-12, "{compared}");
    // A version with another case has one pair less.
    let mut cases = cases;
    cases[3]["expected"] = json!(7);
    let next = server.post(&format!("{made}/versions"), json!({"cases": cases})).await.is(201);
    assert_eq!((&next["version"], &next["latest"]), (&json!(2), &json!(2)));
    assert_eq!(server.get(&format!("{made}?version=1")).await.ok()["version"], 1);
    let third = evaluated(&server, &made, of_workflow(&workflow)).await;
    let compared = server.get(&format!("{PERFORMANCE}/evaluations/{}/comparison", third.text("id"))).await.ok();
    assert_eq!((&compared["against"], &compared["pairs"]), (&second["id"], &json!(9)));
    assert_eq!((&compared["verdict"], &compared["low"]), (&json!("unclear"), &Value::Null));
}

#[tokio::test]
async fn an_alias_with_a_gate_moves_only_to_what_has_passed_it() {
    let server = TestApp::start().await;
    let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
    let versions = "gated/versions?aliases=best";
    rl::upload(&server, ADMIN, versions, weights.clone()).await.is(201);
    rl::upload(&server, ADMIN, "gated/versions", weights.clone()).await.is(201);
    let state = json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0]});
    let action = |program: &str| json!({"kind": "jq", "program": program});
    let made = suite(
        &server,
        json!({"name": "acts", "cases": [
            {"name": "a", "input": state, "check": action("type == \"object\"")},
            {"name": "b", "input": state, "check": action("has(\"action\")")},
        ]}),
    )
    .await;
    let gate = |rule: &str, bound: f64| json!({"policy": "gated", "alias": "best", "rule": rule, "bound": bound});
    let first = server.post(&format!("{made}/gates"), gate("at_least", 0.9)).await.is(201);
    assert_eq!(server.post(&format!("{made}/gates"), gate("at_least", 0.1)).await.is(409)["code"], "gate_exists");
    let alias = format!("{}/policies/gated/aliases/best", rl::RL);
    let refused = server.put(&alias, json!({"version": 2})).await.is(400);
    assert!(refused.to_string().contains("asks for an evaluation of gated@2"), "{refused}");
    let refused = rl::upload(&server, ADMIN, versions, weights).await.is(400);
    assert!(refused.to_string().contains("has gates"), "{refused}");
    let target = |version: u32| json!({"target": {"kind": "policy", "id": format!("gated@{version}")}});
    let found = evaluated(&server, &made, target(2)).await;
    assert_eq!((&found["score"], &found["target"]["id"]), (&json!(1.0), &json!("gated@2")), "{found}");
    // All of two cases is a lower bound of a third.
    let refused = server.put(&alias, json!({"version": 2})).await.is(400);
    assert!(refused.to_string().contains("asks for a lower bound of 0.9"), "{refused}");
    server.delete(&format!("{made}/gates/{}", first.text("id"))).await.is(204);
    server.post(&format!("{made}/gates"), gate("at_least", 0.3)).await.is(201);
    server.post(&format!("{made}/gates"), gate("not_worse", 0.0)).await.is(201);
    let refused = server.put(&alias, json!({"version": 2})).await.is(400);
    assert!(refused.to_string().contains("asks for an evaluation of gated@1"), "{refused}");
    evaluated(&server, &made, target(1)).await;
    server.put(&alias, json!({"version": 2})).await.ok();
    assert_eq!(server.get(&alias).await.ok()["version"], 2);
    assert_eq!(server.get(&format!("{made}/gates")).await.ok().as_array().unwrap().len(), 2);
    let others = post_as(&server, CLIENT, &suites(), sums("own")).await.is(201);
    let foreign = format!("{}/{}/gates", suites(), others.text("id"));
    let refused = post_as(&server, CLIENT, &foreign, gate("at_least", 0.5)).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "policy"])], "whose policy it is not makes no gate for it");
}

#[tokio::test]
async fn bad_requests_store_nothing_and_name_the_place() {
    let server = TestApp::start().await;
    for (cases, place) in [
        (json!([]), json!(["body", "cases"])),
        (json!([{"name": "a"}]), json!(["body", "cases", 0, "expected"])),
        (json!([{"name": "a", "expected": 1}, {"name": "a", "expected": 1}]), json!(["body", "cases", 1, "name"])),
        (json!([{"name": "a", "expected": 1, "weight": -1}]), json!(["body", "cases", 0, "weight"])),
        (
            json!([{"name": "a", "check": {"kind": "jq", "program": ".["}}]),
            json!(["body", "cases", 0, "check", "program"]),
        ),
        (
            json!([{"name": "a", "check": {"kind": "schema", "schema": {"type": 3}}}]),
            json!(["body", "cases", 0, "check", "schema"]),
        ),
    ] {
        let refused = server.post(&suites(), json!({"name": "bad", "cases": cases})).await.is(422);
        assert_eq!(locations(&refused), [place], "{cases}");
    }
    let refused = server.post(&suites(), json!({"name": " ", "cases": []})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "name"]), json!(["body", "cases"])], "all faults at once");
    assert_eq!(server.get(&suites()).await.ok(), json!([]));
    let made = suite(&server, sums("good")).await;
    assert_eq!(server.post(&suites(), sums("good")).await.is(409)["code"], "name_taken");
    let workflow = server.workflow(json!({"a": jq(".a + .b")})).await;
    let evaluate = format!("{made}/evaluate");
    for (change, place) in [
        (json!({"target": {"kind": "workflow", "id": "agent_00000000"}}), json!(["body", "target", "id"])),
        (json!({"target": {"kind": "policy", "id": "nobody@3"}}), json!(["body", "target", "id"])),
        (json!({"target": {"kind": "policy", "id": "No name!"}}), json!(["body", "target", "id"])),
        (json!({"version": 2}), json!(["body", "version"])),
        (json!({"parallel": 0}), json!(["body", "parallel"])),
    ] {
        let mut body = of_workflow(&workflow);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = server.post(&evaluate, body).await.is(422);
        assert_eq!(locations(&refused), [place], "{change}");
    }
    server.post(&evaluate, json!({"target": {"kind": "person", "id": "x"}})).await.is(422);
    assert_eq!(server.get(&format!("{made}/evaluations")).await.ok(), json!([]));
    server.get(&format!("{made}?version=2")).await.is(404);
}

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let server = TestApp::start().await;
    let made = post_as(&server, CLIENT, &suites(), sums("own")).await.is(201);
    let own = format!("{}/{}", suites(), made.text("id"));
    // Admins see all; a client sees its own.
    get_as(&server, OTHER_ADMIN, &own).await.ok();
    let others = suite(&server, sums("own")).await;
    for path in [others.clone(), format!("{others}/cases"), format!("{others}/evaluations"), format!("{others}/gates")]
    {
        get_as(&server, CLIENT, &path).await.is(404);
    }
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    post_as(&server, CLIENT, &format!("{others}/evaluate"), of_workflow(&workflow)).await.is(404);
    let refused = post_as(&server, CLIENT, &format!("{own}/evaluate"), of_workflow(&workflow)).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "target", "id"])], "nobody runs another's workflow");
    let evaluation = evaluated(&server, &others, of_workflow(&workflow)).await;
    let evaluation = format!("{PERFORMANCE}/evaluations/{}", evaluation.text("id"));
    get_as(&server, CLIENT, &evaluation).await.is(404);
    get_as(&server, CLIENT, &format!("{evaluation}/results")).await.is(404);
    post_as(&server, CLIENT, &format!("{evaluation}/cancel"), json!({})).await.is(404);
    assert_eq!(get_as(&server, CLIENT, &suites()).await.ok().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_cancelled_evaluation_cancels_its_runs() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let made = suite(&server, sums("long")).await;
    let begun = server.post(&format!("{made}/evaluate"), of_workflow(&workflow)).await.is(201);
    assert!(begun["score"].is_null() && begun["reasons"]["score"].is_string(), "{begun}");
    let path = format!("{PERFORMANCE}/evaluations/{}", begun.text("id"));
    let deadline = Instant::now() + PATIENCE;
    let runs = loop {
        let results = server.get(&format!("{path}/results")).await.ok();
        let runs: Vec<String> = results
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| Some(one["execution_id"].as_str()?.to_owned()))
            .collect();
        if runs.len() == 2 {
            break runs;
        }
        assert!(Instant::now() < deadline, "{results}");
        poll_interval().await;
    };
    server.post(&format!("{path}/cancel"), json!({})).await.ok();
    let now = ended(&server, &begun).await;
    assert_eq!((&now["status"], &now["score"]), (&json!("cancelled"), &Value::Null));
    for run in runs {
        assert_eq!(server.ended(&run).await["status"], "cancelled");
    }
    assert_eq!(server.post(&format!("{path}/cancel"), json!({})).await.is(409)["code"], "invalid_state");
}

#[tokio::test]
async fn an_evaluation_goes_on_after_its_process_died() {
    let server = Server::builder().env("FAILPOINTS", "suites.run_started=3*off->return").start().await;
    let workflow = server.workflow(json!({"a": jq(".n")})).await;
    let cases: Vec<Value> =
        (0..12).map(|n| json!({"name": format!("n{n}"), "input": {"n": n}, "expected": n % 11})).collect();
    let made = suite(&server, json!({"name": "crash", "cases": cases})).await;
    let begun = server.post(&format!("{made}/evaluate"), of_workflow(&workflow)).await.is(201);
    // It dies between the start of a run and the note of it.
    let again = server.again().env("FAILPOINTS", "").start().await;
    let now = ended(&again, &begun).await;
    assert_eq!((&now["status"], &now["done"], &now["passed"]), (&json!("completed"), &json!(12), &json!(11)), "{now}");
    let results = format!("{PERFORMANCE}/evaluations/{}/results", begun.text("id"));
    let results = again.get(&results).await.ok();
    let mut runs: Vec<&str> = results.as_array().unwrap().iter().map(|one| one.text("execution_id")).collect();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 12);
    let all = again.get(&format!("{AGENTS}/executions?workflow_id={workflow}&limit=100")).await;
    assert_eq!(all.header("x-total-count"), "12", "no case ran twice");
}
