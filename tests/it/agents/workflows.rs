//! One workflow: made, read, changed, deleted, by whom and under which names.

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, OTHER_ADMIN, TestApp},
    kit::{AGENTS, JsonDocument, ask, get_as, jq, post_as},
    peer::Peer,
    redact::redacted,
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";

#[tokio::test]
async fn workflow_create_applies_contract_defaults() {
    let server = TestApp::start().await;
    let steps = json!({"a": {"step_type": "data_processing", "unknown": [1]}});
    // Clients send members that no model has; they are ignored, and told of.
    let sent = json!({"name": "n", "steps": steps, "workflow_id": "x", "priority": {"p": 1}, "timeout_seconds": "x"});
    let answer = server.post(WORKFLOWS, sent).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-ignored"), "steps.a.unknown, workflow_id, priority, timeout_seconds");
    let made = without_warnings(answer.ok(), 1);
    assert_eq!(server.get(&format!("{WORKFLOWS}/{}", made.text("id"))).await.ok(), made);
    assert_eq!(made["created_at"], made["updated_at"]);
    assert_eq!(made.text("id").len(), "agent_".len() + 8);
    insta::assert_json_snapshot!("workflow_with_defaults", redacted(&made));
}

/// The answer without its so many warnings of members that nobody knows.
fn without_warnings(mut answer: Value, count: usize) -> Value {
    let warnings = answer.as_object_mut().unwrap().shift_remove("warnings").unwrap_or_default();
    assert_eq!(warnings.as_array().map_or(0, Vec::len), count, "{warnings}");
    answer
}

#[tokio::test]
async fn workflow_members_are_stored_as_given() {
    let server = TestApp::start().await;
    let sent = json!({
        "name": "Größe ✓ \"q\" \\ 漢字", "description": "line\nline\t😀",
        "steps": {"z": jq("."), "a": {"step_type": "custom", "depends_on": ["z"], "extra": {"n": 1e-7, "big": 12345678901234567890u64}}},
        "dependencies": {"a": ["z"]}, "max_execution_time": 0, "max_cost_budget": 1.25, "requires_verification": false,
        "verification_level": "zero-knowledge", "tags": ["b", "ü", "a,\"c\""], "is_public": true,
    });
    let made = without_warnings(server.post(WORKFLOWS, sent.clone()).await.ok(), 1);
    // The order of the steps' keys too.
    insta::assert_json_snapshot!("workflow_as_given", redacted(&made));
    let tags: Value = serde_json::from_str(made.text("tags")).unwrap();
    assert_eq!(tags, sent["tags"], "tags are a text that holds a JSON list");
}

#[tokio::test]
async fn workflow_update_changes_named_members_only() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1"), "b": jq("2")})).await;
    let path = format!("{WORKFLOWS}/{id}");
    let before = server.get(&path).await.ok();
    let after = server.put(&path, json!({"description": "d", "name": null, "unknown": 1})).await.ok();
    let after = without_warnings(after, 1);
    let mut expected = before.clone();
    expected["description"] = json!("d");
    expected["updated_at"] = after["updated_at"].clone();
    assert_eq!(after, expected);
    assert!(after["updated_at"].as_str() > before["updated_at"].as_str());
    let all = json!({
        "name": "m", "steps": {"c": jq("3")}, "dependencies": {}, "max_execution_time": 7, "max_cost_budget": 0.5,
        "requires_verification": false, "verification_level": "full", "tags": ["t"], "is_public": true,
    });
    let changed = server.put(&path, all.clone()).await.ok();
    for (member, value) in all.as_object().unwrap() {
        let value = if member == "tags" { &json!("[\"t\"]") } else { value };
        assert_eq!(&changed[member], value, "{member}");
    }
    assert_eq!(server.put(&path, json!({"tags": []})).await.ok()["tags"], "");
    // The steps that it had must not be run any more.
    let run = server.post(&format!("{path}/execute?wait=20"), json!({})).await.ok();
    assert_eq!(run["final_result"]["step_results"], json!({"c": 3}));
}

#[tokio::test]
async fn invalid_workflow_update_changes_nothing() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1")})).await;
    let path = format!("{WORKFLOWS}/{id}");
    let before = server.get(&path).await.ok();
    for bad in [
        json!({"description": "x", "name": ""}),
        json!({"description": "x", "steps": {"a": {"depends_on": ["a"]}}}),
        json!({"description": "x", "dependencies": {"a": ["zzz"]}}),
        json!({"description": "x", "max_cost_budget": -1}),
        json!([]),
    ] {
        server.put(&path, bad).await.is(422);
    }
    assert_eq!(server.get(&path).await.ok(), before);
}

#[tokio::test]
async fn workflow_visibility_private_and_public() {
    let server = TestApp::start().await;
    let private = server.workflow(json!({"a": jq("1")})).await;
    let public = server.post(WORKFLOWS, json!({"name": "p", "steps": {"a": jq("1")}, "is_public": true})).await.ok();
    let public = public.text("id");
    let of = |id: &str| format!("{WORKFLOWS}/{id}");
    assert_eq!(get_as(&server, OTHER_ADMIN, &of(&private)).await.is(404)["code"], "not_found");
    get_as(&server, OTHER_ADMIN, &of(public)).await.is(200);
    for (id, refused) in [(private.as_str(), 404), (public, 403)] {
        ask(&server, Some(OTHER_ADMIN), Method::PUT, &of(id), Some(json!({"name": "mine"}))).await.is(refused);
        ask(&server, Some(OTHER_ADMIN), Method::DELETE, &of(id), None).await.is(refused);
    }
    post_as(&server, OTHER_ADMIN, &format!("{}/execute", of(&private)), json!({})).await.is(404);
    get_as(&server, OTHER_ADMIN, &format!("{}/executions", of(&private))).await.is(404);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = ask(&server, Some(server.key()), method, &of("agent_00000000"), Some(json!({}))).await.is(404);
        assert_eq!((&answer["code"], &answer["detail"]), (&json!("not_found"), &json!("Workflow not found")));
    }
    server.post(&format!("{}/execute", of("agent_00000000")), json!({})).await.is(404);
}

async fn with(server: &ApiClient, method: Method, path: &str, header: header::HeaderName, value: &str) -> Answer {
    let body = if method == Method::PUT { Some(json!({"description": value})) } else { None };
    let request = server.request(method, path).header(header, value);
    Answer::of(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

#[tokio::test]
async fn if_match_refuses_an_outdated_workflow_version() {
    let server = TestApp::start().await;
    let made = server.post(WORKFLOWS, json!({"name": "n", "steps": {"a": jq("1")}})).await;
    let first = made.header("etag").to_owned();
    let path = format!("{WORKFLOWS}/{}", made.body.text("id"));
    assert_eq!(server.get(&path).await.header("etag"), first);
    assert!(first.starts_with('"') && first.len() > 10, "{first}");

    let same = with(&server, Method::GET, &path, header::IF_NONE_MATCH, &first).await;
    assert_eq!((same.status.as_u16(), same.text.as_str(), same.header("etag")), (304, "", first.as_str()));
    with(&server, Method::GET, &path, header::IF_NONE_MATCH, "\"other\"").await.is(200);

    let changed = with(&server, Method::PUT, &path, header::IF_MATCH, &first).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let second = changed.header("etag").to_owned();
    assert_ne!(second, first);
    let late = with(&server, Method::PUT, &path, header::IF_MATCH, &first).await.is(412);
    assert_eq!(late["code"], "precondition_failed");
    with(&server, Method::DELETE, &path, header::IF_MATCH, &first).await.is(412);
    with(&server, Method::GET, &path, header::IF_NONE_MATCH, &first).await.is(200);
    with(&server, Method::PUT, &path, header::IF_MATCH, "*").await.is(200);
    let third = server.get(&path).await.header("etag").to_owned();
    with(&server, Method::DELETE, &path, header::IF_MATCH, &third).await.is(200);
    server.get(&path).await.is(404);
    // A restart does not make another version of what has not changed.
    let id = server.workflow(json!({"a": jq("1")})).await;
    let before = server.get(&format!("{WORKFLOWS}/{id}")).await.header("etag").to_owned();
    let server = server.restart().await;
    assert_eq!(server.get(&format!("{WORKFLOWS}/{id}")).await.header("etag"), before);
}

#[tokio::test]
async fn concurrent_updates_with_one_etag_apply_once() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1")})).await;
    let path = format!("{WORKFLOWS}/{id}");
    let tag = server.get(&path).await.header("etag").to_owned();
    let change = |to: &str| {
        let request = server.request(Method::PUT, &path).header("if-match", &tag).json(&json!({"description": to}));
        Answer::of(request)
    };
    let (one, two) = tokio::join!(change("one"), change("two"));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", one.text, two.text);
}

#[tokio::test]
async fn runs_go_on_when_their_workflow_is_deleted() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let call = json!({"step_type": "custom", "max_retries": 0, "action": {"kind": "http", "endpoint": "peer"}});
    let mut last = jq("{done: .}");
    last["depends_on"] = json!(["call"]);
    last["input_mappings"] = json!({"word": "$.inputs.word"});
    let steps = json!({"call": call, "last": last});
    let public = json!({"name": "shared", "steps": steps, "is_public": true});
    let public = server.post(WORKFLOWS, public).await.ok().text("id").to_owned();
    let path = format!("{WORKFLOWS}/{public}");
    let execute = format!("{path}/execute");
    let mut runs = Vec::new();
    // One that is paused, and one that runs.
    for word in ["paused", "running"] {
        let run = post_as(&server, OTHER_ADMIN, &execute, json!({"inputs": {"word": word, "hold": true}})).await.ok();
        runs.push(format!("{AGENTS}/executions/{}", run.text("id")));
    }
    let [paused, running] = &runs[..] else { unreachable!() };
    post_as(&server, OTHER_ADMIN, &format!("{paused}/pause"), json!({})).await.ok();
    let gone = server.delete(&path).await.is(200);
    assert_eq!(gone["message"], "Workflow deleted successfully");
    server.get(&path).await.is(404);
    let server = server.restart().await;
    peer.open();
    post_as(&server, OTHER_ADMIN, &format!("{paused}/resume"), json!({})).await.ok();
    for (run, word) in [(paused, "paused"), (running, "running")] {
        let ended = get_as(&server, OTHER_ADMIN, &format!("{run}?wait=25")).await.ok();
        assert_eq!(ended["status"], "completed", "{ended}");
        assert_eq!(ended["final_result"]["step_results"]["last"]["done"]["word"], word, "{ended}");
        for part in ["/status", "/logs", "/receipt", "/events?format=json"] {
            get_as(&server, OTHER_ADMIN, &format!("{run}{part}")).await.ok();
        }
    }
    // A failed one is tried again by the definition that it began with.
    let fails =
        json!({"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"x\")"}});
    let private = server.workflow(json!({"a": fails})).await;
    let run = server.execute(&private, json!({})).await;
    assert_eq!(server.ended(run.text("id")).await["status"], "failed");
    server.delete(&format!("{WORKFLOWS}/{private}")).await.is(200);
    let again = server.post(&format!("{AGENTS}/executions/{}/retry?wait=20", run.text("id")), json!({})).await.ok();
    assert_eq!(again["status"], "failed", "{again}");
}

#[tokio::test]
async fn path_aliases_lead_to_the_same_routes() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1")})).await;
    let one = server.get(&format!("{WORKFLOWS}/{id}")).await.ok();
    for prefix in ["/v1/agents", "/api/v1/agent", "/api/v1/agents"] {
        for end in ["", "/"] {
            assert_eq!(server.get(&format!("{prefix}/workflows/{id}{end}")).await.ok(), one);
            let made = server
                .post(&format!("{prefix}/workflows{end}"), json!({"name": "n", "steps": {"a": jq("2")}}))
                .await
                .ok();
            let path = format!("{prefix}/workflows/{}/execute{end}?wait=20", made.text("id"));
            let run = server.post(&path, json!({})).await.is(200);
            assert_eq!(run["status"], "completed");
            let status = format!("{prefix}/executions/{}/status{end}", run.text("id"));
            assert_eq!(server.get(&status).await.ok()["execution_id"], run["id"]);
            assert_eq!(
                ask(&server, None, Method::GET, &format!("{prefix}/test{end}"), None).await.is(200)["service"],
                "agent-management"
            );
        }
    }
    let total = server.get(WORKFLOWS).await;
    assert_eq!(total.header("x-total-count"), "7");
    assert_eq!(server.get(&format!("{AGENTS}/nothing")).await.is(404)["code"], "not_found");
    assert_eq!(
        ask(&server, Some(server.key()), Method::PATCH, WORKFLOWS, None).await.is(405)["code"],
        "method_not_allowed"
    );
}
