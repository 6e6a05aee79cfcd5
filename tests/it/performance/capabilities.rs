//! Capabilities: claimed, shown by evidence, certified, refused.

use serde_json::{Value, json};

use super::{PERFORMANCE, suites};
use crate::{
    harness::{ADMIN, ApiClient, CLIENT, TestApp},
    kit::{JsonDocument as _, get_as, jq, json_fixture, locations, post_as, sql},
    marketplace,
};

pub fn capabilities() -> String {
    format!("{PERFORMANCE}/capabilities")
}

pub fn draft(agent: &str) -> Value {
    json!({
        "agent_id": agent, "capability_name": "Sums", "capability_type": "cognitive", "domain_area": "arithmetic",
        "skill_level": 9.5, "specialization_areas": ["addition"],
    })
}

pub async fn capability(server: &ApiClient, agent: &str) -> Value {
    server.post(&capabilities(), draft(agent)).await.ok()
}

fn evidence_of(capability: &Value) -> String {
    format!("{}/{}/evidence", capabilities(), capability.text("capability_id"))
}

/// An execution that completed.
async fn passed(server: &ApiClient) -> String {
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let run = server.execute(&workflow, json!({})).await;
    server.ended(run.text("id")).await.text("id").to_owned()
}

/// What to ask of a POST about capabilities so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    if !template.ends_with("/evidence") {
        return (capabilities(), draft("once"));
    }
    let made = capability(server, "once").await;
    (evidence_of(&made), json!({"kind": "execution", "id": passed(server).await}))
}

#[tokio::test]
async fn a_level_is_claimed_until_it_is_shown() {
    let server = TestApp::start().await;
    let made = capability(&server, "adder").await;
    let contract = json_fixture("contract/openapi.json");
    let required = &contract["components"]["schemas"]["CapabilityResponse"]["required"];
    for member in required.as_array().unwrap() {
        assert!(made.get(member.as_str().unwrap()).is_some(), "{member} is missing in {made}");
    }
    assert_eq!(
        (&made["skill_level"], &made["claimed"], &made["status"]),
        (&json!(9.5), &json!(true), &json!("claimed"))
    );
    assert_eq!((&made["certified_level"], &made["proficiency_score"]), (&Value::Null, &Value::Null));
    assert!(made["reasons"]["certified_level"].is_string() && made["reasons"]["proficiency_score"].is_string());
    assert_eq!(made["specialization_areas"], json!(["addition"]));

    let workflow = server.workflow(json!({"a": jq(".a + .b")})).await;
    let cases: Vec<Value> = (0..20)
        .map(|n| json!({"name": format!("n{n}"), "input": {"a": n, "b": n}, "expected": if n < 18 { 2 * n } else { -1 }}))
        .collect();
    let suite = suites::suite(&server, json!({"name": "sums", "cases": cases})).await;
    let mut body = suites::of_workflow(&workflow);
    let anybodys = server.post(&format!("{suite}/evaluate"), body.clone()).await.is(201);
    let anybodys = suites::ended(&server, &anybodys).await;
    let attach = async |kind: &str, id: &str| server.post(&evidence_of(&made), json!({"kind": kind, "id": id})).await;
    let refused = attach("evaluation", anybodys.text("id")).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "id"])], "it is of no agent");
    body["agent_id"] = json!("adder");
    let begun = server.post(&format!("{suite}/evaluate"), body).await.is(201);
    let evaluation = suites::ended(&server, &begun).await;
    assert_eq!(evaluation["score"], 0.9);
    let found = attach("evaluation", evaluation.text("id")).await.ok();
    let now = &found["capability"];
    assert_eq!((&found["attached"]["trials"], &found["attached"]["reached"]), (&json!(20.0), &json!(18.0)));
    // Ten times Wilson's lower bound of 18 of 20.
    let level = now["certified_level"].as_f64().unwrap();
    assert!((level - 6.9898).abs() < 1e-3, "{now}");
    assert_eq!(
        (&now["claimed"], &now["status"], &now["skill_level"]),
        (&json!(false), &json!("certified"), &now["certified_level"])
    );
    assert!((now["proficiency_score"].as_f64().unwrap() - 0.9).abs() < 1e-9, "{now}");
    assert_eq!(attach("evaluation", evaluation.text("id")).await.is(409)["code"], "evidence_used");

    // A run is a quarter of a trial.
    let found = attach("execution", &passed(&server).await).await.ok();
    assert_eq!(found["attached"]["trials"], 0.25);
    let trials = found["capability"]["trials"].as_f64().unwrap();
    assert!((trials - 20.25).abs() < 1e-3, "{found}");
    let listed = server.get(&evidence_of(&made)).await.ok();
    assert_eq!(listed.as_array().unwrap().len(), 2);

    // It fades.
    server.clock().jump(3 * 365 * 86_400);
    let faded = server.get(&format!("{}/adder", capabilities())).await.ok();
    assert_eq!(
        (&faded[0]["status"], &faded[0]["claimed"], &faded[0]["certified_level"]),
        (&json!("expired"), &json!(true), &Value::Null)
    );
    assert_eq!(faded[0]["skill_level"], 9.5);
}

#[tokio::test]
async fn a_rating_of_the_marketplace_is_a_trial() {
    let server = TestApp::start().await;
    marketplace::agent(&server, ADMIN, "seller").await;
    let made = capability(&server, "seller").await;
    let request = "INSERT INTO am_market_requests (id, client_id, category, requirements, inputs, budget, escrow, deadline, state,
        agent_id, paid, refunded, events, rating, created_at, ended_at, updated_at)
        VALUES ('mreq_000000000001', 'c', 'DATA_ANALYSIS', 'x', 'null', 1, 0, '2030-01-01 00:00:00.000000', 'SETTLED', 'seller', 1, 0, 1, 4,
        '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')";
    sql(&server.database(), request).await;
    let body = json!({"kind": "market_request", "id": "mreq_000000000001"});
    let found = server.post(&evidence_of(&made), body.clone()).await.ok();
    assert_eq!((&found["attached"]["trials"], &found["attached"]["reached"]), (&json!(1.0), &json!(0.75)));
    assert_eq!(found["capability"]["claimed"], true, "one trial certifies nothing");
    let other = capability(&server, "other").await;
    let refused = server.post(&evidence_of(&other), body).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "id"])], "another agent did it");
}

#[tokio::test]
async fn what_shows_nothing_is_refused_and_others_agents_are_not_there() {
    let server = TestApp::start().await;
    for (change, place) in [
        (json!({"skill_level": 10.1}), json!(["body", "skill_level"])),
        (json!({"capability_name": ""}), json!(["body", "capability_name"])),
        (json!({"capability_type": "x".repeat(51)}), json!(["body", "capability_type"])),
        (json!({"domain_area": "a\u{1}"}), json!(["body", "domain_area"])),
        (json!({"specialization_areas": ["ok", ""]}), json!(["body", "specialization_areas", 1])),
    ] {
        let mut body = draft("adder");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = server.post(&capabilities(), body).await.is(422);
        assert_eq!(locations(&refused), [place], "{change}");
    }
    post_as(&server, CLIENT, &capabilities(), draft("mine")).await.ok();
    let made = capability(&server, "adder").await;
    let failing = server.workflow(json!({"a": jq("error(\"x\")")})).await;
    let failed = server.execute(&failing, json!({})).await;
    server.ended(failed.text("id")).await;
    for body in [
        json!({"kind": "execution", "id": failed["id"]}),
        json!({"kind": "execution", "id": "exec_0000000000"}),
        json!({"kind": "evaluation", "id": "eval_000000000000"}),
        json!({"kind": "market_request", "id": "mreq_000000000000"}),
    ] {
        let refused = server.post(&evidence_of(&made), body.clone()).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", "id"])], "{body}");
    }
    assert_eq!(server.get(&evidence_of(&made)).await.ok(), json!([]));
    get_as(&server, CLIENT, &format!("{}/adder", capabilities())).await.is(404);
    get_as(&server, CLIENT, &evidence_of(&made)).await.is(404);
    post_as(&server, CLIENT, &capabilities(), draft("adder")).await.is(404);
    post_as(&server, CLIENT, &evidence_of(&made), json!({"kind": "execution", "id": "x"})).await.is(404);
    let listed = get_as(&server, CLIENT, &format!("{}/mine?capability_type=cognitive", capabilities())).await.ok();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let none = get_as(&server, CLIENT, &format!("{}/mine?domain_area=other", capabilities())).await.ok();
    assert_eq!(none, json!([]));
}
