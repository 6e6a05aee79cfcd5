//! Security policies: kept, enforced when a workflow is made, run and before each step, and explained beforehand.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, PATIENCE, TestApp},
    kit::{AGENTS, JsonDocument, get_as, jq, locations, sql, waiting},
    peer::Peer,
    redact::redacted,
};

const POLICIES: &str = "/api/v1/agents/security/policies";

async fn policy(server: &ApiClient, name: &str, level: &str, rules: Value) -> String {
    let path = format!("{POLICIES}?name={name}&security_level={level}");
    let made = server.post(&path, rules).await.ok();
    made.text("id").to_owned()
}

fn draft(steps: Value, more: Value) -> Value {
    let mut draft = json!({"name": "w", "steps": steps});
    draft.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    draft
}

async fn create(server: &ApiClient, steps: Value, more: Value) -> Answer {
    server.post(&format!("{AGENTS}/workflows"), draft(steps, more)).await
}

async fn execute(server: &ApiClient, workflow: &str, body: Value) -> Answer {
    server.post(&format!("{AGENTS}/workflows/{workflow}/execute"), body).await
}

fn id(answer: &Value) -> &str {
    answer.text("id")
}

/// The body of a refusal by this rule.
#[track_caller]
fn refused(answer: Answer, policy: &str, rule: &str, limit: Value, asked: Value) -> Value {
    let body = answer.is(403);
    assert_eq!(body["code"], "policy_violation", "{body}");
    assert_eq!((&body["policy_id"], &body["rule"]), (&json!(policy), &json!(rule)), "{body}");
    assert_eq!((&body["limit"], &body["asked"]), (&limit, &asked), "{body}");
    assert!(body.text("detail").contains(rule) && body["request_id"].is_string(), "{body}");
    body
}

/// Refusals on record, newest first: resource, rule, execution.
async fn denied(server: &ApiClient) -> Vec<Value> {
    let found = server.get(&format!("{AGENTS}/security/audit-logs?event_type=access_denied&limit=500")).await.ok();
    found.as_array().or_else(|| found["entries"].as_array()).unwrap_or_else(|| panic!("{found}")).clone()
}

async fn change(server: &ApiClient, policy: &str, rules: Value) {
    server.put(&format!("{POLICIES}/{policy}"), rules).await.ok();
}

#[tokio::test]
async fn security_policy_is_created_listed_changed_and_deleted() {
    let server = TestApp::start().await;
    let made =
        server.post(&format!("{POLICIES}?name=first&description=d&security_level=confidential"), json!({})).await.ok();
    insta::assert_json_snapshot!("policy_with_defaults", redacted(&made));
    server.post(&format!("{POLICIES}?name=first"), json!({})).await.is(409);
    let second = policy(&server, "second", "internal", json!({"is_active": false})).await;
    let list = server.get(&format!("{POLICIES}?limit=1")).await;
    assert_eq!((list.header("x-total-count"), &list.body[0]["id"]), ("2", &json!(second)));
    let active = server.get(&format!("{POLICIES}?is_active=true&security_level=confidential")).await.ok();
    assert_eq!(active, json!([made]));

    for (sent, loc) in [
        (json!({"max_time": 1}), json!(["body", "max_time"])),
        (json!({"max_execution_time": 0}), json!(["body", "max_execution_time"])),
        (json!({"is_active": null}), json!(["body", "is_active"])),
        (json!({"allowed_step_types": ["custom", "x"]}), json!(["body", "allowed_step_types", 1])),
        (json!({"created_at": "2026-01-01"}), json!(["body", "created_at"])),
    ] {
        for answer in [
            server.put(&format!("{POLICIES}/{second}"), sent.clone()).await,
            server.post(&format!("{POLICIES}?name=third"), sent).await,
        ] {
            assert_eq!(locations(&answer.is(422)), std::slice::from_ref(&loc));
        }
    }
    let bad = server.post(&format!("{POLICIES}?name="), json!({})).await.is(422);
    assert_eq!(locations(&bad), [json!(["query", "name"])]);
    server.put(&format!("{POLICIES}/{second}"), json!({"name": "first"})).await.is(409);
    let changed = server.put(&format!("{POLICIES}/{second}"), json!({"max_workflow_steps": 2})).await.ok();
    assert_eq!((&changed["max_workflow_steps"], &changed["name"]), (&json!(2), &json!("second")));
    assert_ne!(changed["updated_at"], changed["created_at"]);
    assert_eq!(server.get(&format!("{POLICIES}/{second}")).await.ok(), changed);
    let gone = server.delete(&format!("{POLICIES}/{second}")).await.ok();
    assert_eq!(gone["policy_id"], json!(second));
    for answer in [
        server.get(&format!("{POLICIES}/{second}")).await,
        server.put(&format!("{POLICIES}/{second}"), json!({})).await,
        server.delete(&format!("{POLICIES}/{second}")).await,
    ] {
        answer.is(404);
    }
    get_as(&server, crate::harness::CLIENT, POLICIES).await.is(403);

    // With a key it is made once.
    let again = || {
        let request = server.request(Method::POST, &format!("{POLICIES}?name=keyed")).header("idempotency-key", "k");
        Answer::of(request.json(&json!({})))
    };
    assert_eq!(again().await.ok(), again().await.ok());
}

#[tokio::test]
async fn each_policy_rule_refuses_workflow_create_and_update() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let policy = policy(&server, "p", "internal", json!({})).await;
    let call = json!({"step_type": "custom", "action": {"kind": "http", "endpoint": "peer"}});
    let mut large = jq(".");
    large["model_requirements"] = json!({"memory": 600});
    let mut full = jq(".");
    full["verification_level"] = "full".into();
    let two = json!({"a": jq("."), "b": jq(".")});
    let one = |step: Value| json!({"s": step});
    let all = json!({"allowed_step_types": [], "max_workflow_steps": 100, "max_memory_usage": 8192,
        "max_execution_time": 3600, "require_sandbox": false, "require_encryption": false,
        "allowed_verification_levels": ["basic"]});
    for (rules, steps, more, limit, asked, step) in [
        (
            json!({"allowed_step_types": ["inference"]}),
            one(jq(".")),
            json!({}),
            json!(["inference"]),
            json!("data_processing"),
            json!("s"),
        ),
        (json!({"max_workflow_steps": 1}), two, json!({}), json!(1), json!(2), Value::Null),
        (json!({"max_memory_usage": 512}), one(large), json!({}), json!(512), json!(600.0), json!("s")),
        (
            json!({"max_execution_time": 60}),
            one(jq(".")),
            json!({"max_execution_time": 61}),
            json!(60),
            json!(61),
            Value::Null,
        ),
        (
            json!({"max_execution_time": 60}),
            one(jq(".")),
            json!({"max_execution_time": 0}),
            json!(60),
            json!(0),
            Value::Null,
        ),
        (json!({"require_sandbox": true}), one(call.clone()), json!({}), json!(true), json!("http"), json!("s")),
        (json!({"require_sandbox": true}), one(waiting()), json!({}), json!(true), json!("job"), json!("s")),
        (json!({"require_encryption": true}), one(call), json!({}), json!(true), json!("http"), json!("s")),
        (json!({"require_encryption": true}), one(waiting()), json!({}), json!(true), json!("job"), json!("s")),
        (
            json!({"allowed_verification_levels": ["basic"]}),
            one(full),
            json!({}),
            json!(["basic"]),
            json!("full"),
            json!("s"),
        ),
    ] {
        let rule = rules.as_object().unwrap().keys().next().unwrap().clone();
        // Before the rule it may be made; with it neither made anew nor changed.
        change(&server, &policy, all.clone()).await;
        let loose = json!({"allowed_verification_levels": [], "max_execution_time": 3600});
        change(&server, &policy, loose).await;
        let mut harmless = more.clone();
        harmless["max_execution_time"] = 50.into();
        let made = create(&server, steps.clone(), harmless).await.ok();
        change(&server, &policy, rules).await;
        let mut limited = json!({"max_execution_time": 60});
        limited.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = refused(create(&server, steps, limited.clone()).await, &policy, &rule, limit.clone(), asked.clone());
        assert_eq!(body["step"], step);
        let again = server.put(&format!("{AGENTS}/workflows/{}", id(&made)), limited).await;
        refused(again, &policy, &rule, limit, asked);
    }
    let entries = denied(&server).await;
    assert_eq!(entries.len(), 20, "one for each refusal");
    assert_eq!(entries[0]["event_data"]["resource"], "workflow");
    assert_eq!(entries[0]["event_data"]["policy_id"], json!(policy));
    assert_eq!(entries[0]["security_level"], "internal");

    // A public workflow need not be verified, unless a policy says so.
    let public = self::policy(&server, "public", "public", json!({})).await;
    let unverified = json!({"requires_verification": false});
    refused(
        create(&server, json!({"s": jq(".")}), unverified.clone()).await,
        &public,
        "require_verification",
        json!(true),
        json!(false),
    );
    change(&server, &public, json!({"is_active": false})).await;
    create(&server, json!({"s": jq(".")}), unverified).await.ok();
}

#[tokio::test]
async fn each_policy_rule_refuses_execution_and_review_explains_it() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"s": jq("."), "t": jq(".")})).await;
    let policy = policy(&server, "p", "internal", json!({"max_data_size": 40})).await;
    let verdict =
        async || server.post(&format!("{AGENTS}/security/validate-workflow/{workflow}"), json!({})).await.ok();
    let binding = async || server.get(&format!("{POLICIES}/binding/{workflow}")).await.ok();
    let good = verdict().await;
    assert_eq!(
        (&good["valid"], &good["refused"], &good["required_level"]),
        (&json!(true), &json!(false), &json!("internal"))
    );
    assert_eq!(good["policies"][0]["policy_id"], json!(policy));
    assert_eq!(good["recommendations"].as_array().unwrap().len(), 2, "two steps change data: {good}");
    let explained = binding().await;
    assert_eq!((&explained["policies"][0]["binds"], &explained["required_level"]), (&json!(true), &json!("internal")));
    assert!(
        explained["policies"][0]["rules"].as_array().unwrap().iter().all(|rule| rule["met"] == true),
        "{explained}"
    );

    execute(&server, &workflow, json!({"inputs": {"x": 1}})).await.ok();
    let long = json!({"inputs": {"x": "y".repeat(100)}});
    refused(execute(&server, &workflow, long).await, &policy, "max_data_size", json!(40), json!(108));
    let longer = execute(&server, &workflow, json!({"max_execution_time": 3601})).await;
    refused(longer, &policy, "max_execution_time", json!(3600), json!(3601));
    // Who asks for more verification is bound by that level; who asks for less is not let go.
    execute(&server, &workflow, json!({"verification_level": "full"})).await.ok();

    change(&server, &policy, json!({"max_workflow_steps": 1, "allowed_step_types": ["inference"]})).await;
    let key = |body: Value| {
        let path = format!("{AGENTS}/workflows/{workflow}/execute");
        Answer::of(server.request(Method::POST, &path).header("idempotency-key", "once").json(&body))
    };
    refused(key(json!({})).await, &policy, "max_workflow_steps", json!(1), json!(2));
    let bad = verdict().await;
    assert_eq!((&bad["valid"], &bad["refused"]), (&json!(false), &json!(true)));
    let broken = |from: &Value| {
        let list = from["violations"].as_array().unwrap();
        let mut rules: Vec<String> = list.iter().map(|found| found.text("rule").to_owned()).collect();
        rules.dedup();
        rules
    };
    assert_eq!(broken(&bad), ["max_workflow_steps", "allowed_step_types"]);
    let scan = server.get(&format!("{AGENTS}/security/scan")).await.ok();
    assert_eq!((&scan["workflows_checked"], &scan["active_policies"]), (&json!(1), &json!(1)));
    assert_eq!(scan["findings"][0]["workflow_id"], json!(workflow));
    assert_eq!(broken(&scan["findings"][0]), broken(&bad));
    let explained = binding().await;
    let unmet: Vec<&Value> =
        explained["policies"][0]["rules"].as_array().unwrap().iter().filter(|rule| rule["met"] == false).collect();
    assert_eq!(unmet.len(), 2, "{explained}");
    assert_eq!(unmet[0]["steps"], json!(["s", "t"]));

    // It holds over a restart; and once it is not active, the same key is answered anew: a refusal is not kept.
    let server = server.restart().await;
    execute(&server, &workflow, json!({})).await.is(403);
    change(&server, &policy, json!({"is_active": false})).await;
    let path = format!("{AGENTS}/workflows/{workflow}/execute");
    Answer::of(server.request(Method::POST, &path).header("idempotency-key", "once").json(&json!({}))).await.ok();
    let entries = denied(&server).await;
    assert_eq!(entries.len(), 4);
    assert!(
        entries
            .iter()
            .all(|entry| entry["event_data"]["resource"] == "execution" && entry["workflow_id"] == json!(workflow)),
        "{entries:?}"
    );
    server.get(&format!("{POLICIES}/binding/agent_none")).await.is(404);
    server.post(&format!("{AGENTS}/security/validate-workflow/agent_none"), json!({})).await.is(404);
}

#[tokio::test]
async fn unverified_workflow_is_a_recorded_violation() {
    let server = TestApp::start().await;
    let more = json!({"requires_verification": false, "max_execution_time": 7200});
    let made = create(&server, json!({"s": jq(".")}), more).await.ok();
    let verdict = server.post(&format!("{AGENTS}/security/validate-workflow/{}", id(&made)), json!({})).await.ok();
    assert_eq!((&verdict["valid"], &verdict["refused"]), (&json!(false), &json!(false)));
    assert_eq!((&verdict["required_level"], &verdict["violations"][0]["enforced"]), (&json!("public"), &json!(false)));
    let warnings = verdict["warnings"].to_string();
    assert!(warnings.contains("7200 seconds") && warnings.contains("does not encrypt"), "{warnings}");
    for (level, required) in [("zero-knowledge", "restricted"), ("full", "confidential"), ("basic", "internal")] {
        let made = create(&server, json!({"s": jq(".")}), json!({"verification_level": level})).await.ok();
        let explained = server.get(&format!("{POLICIES}/binding/{}", id(&made))).await.ok();
        assert_eq!(explained["required_level"], required);
    }
}

#[tokio::test]
async fn new_policy_refuses_the_next_step_of_a_running_execution() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let call = json!({"step_type": "custom", "action": {"kind": "http", "endpoint": "peer", "body": {"id": "c", "hold": true}}});
    let mut after = jq(".");
    after["depends_on"] = json!(["c"]);
    let workflow = server.workflow(json!({"c": call, "s": after})).await;
    let run = server.execute(&workflow, json!({})).await;
    peer.called(1).await;
    let policy = policy(&server, "p", "internal", json!({"allowed_step_types": ["custom"]})).await;
    let scan = server.get(&format!("{AGENTS}/security/scan")).await.ok();
    assert!(scan["findings"].as_array().unwrap().iter().any(|found| found["execution_id"] == run["id"]), "{scan}");
    peer.open();
    let ended = server.ended(id(&run)).await;
    assert_eq!((&ended["status"], &ended["failed_step"]), (&json!("failed"), &json!("s")));
    let why = ended.text("error_message");
    assert!(why.contains(&policy) && why.contains("allowed_step_types"), "{why}");
    assert_eq!(ended["step_states"]["c"]["status"], "completed");
    let entries = denied(&server).await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&entry["execution_id"], &entry["event_data"]["resource"]), (&run["id"], &json!("step")));
    assert_eq!(
        (&entry["event_data"]["rule"], &entry["event_data"]["step"]),
        (&json!("allowed_step_types"), &json!("s"))
    );
}

#[tokio::test]
async fn new_policy_limits_the_time_of_a_running_execution() {
    let server = TestApp::start().await;
    let run = server.execute(&server.workflow(json!({"j": waiting()})).await, json!({})).await;
    policy(&server, "p", "internal", json!({"max_execution_time": 1})).await;
    let ended = server.ended(id(&run)).await;
    assert_eq!((&ended["status"], &ended["failed_step"]), (&json!("failed"), &Value::Null));
    assert!(ended.text("error_message").contains("max_execution_time is 1"), "{ended}");
    assert_eq!(denied(&server).await[0]["event_data"]["resource"], "execution");
}

#[tokio::test]
async fn coordinator_policy_is_enforced_within_seconds() {
    let server = TestApp::start().await;
    let insert = "INSERT INTO agent_security_policies VALUES ('policy_c0000000', 'theirs', '', 'INTERNAL', '[\"training\"]', 3600, 8192, 1, 'null', 10, 100, 1073741824, 0, 1, 0, NULL, 1, '2026-05-12 14:29:30.123456', '2026-05-12 14:29:30.123456')";
    sql(&server.database(), insert).await;
    let refusal = async {
        loop {
            let answer = create(&server, json!({"s": jq(".")}), json!({})).await;
            if answer.status == 403 {
                return answer;
            }
            crate::harness::poll_interval().await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE.min(std::time::Duration::from_secs(5)), refusal).await.unwrap();
    refused(answer, "policy_c0000000", "allowed_step_types", json!(["training"]), json!("data_processing"));
    let shown = server.get(&format!("{POLICIES}/policy_c0000000")).await.ok();
    assert_eq!((&shown["allowed_verification_levels"], &shown["compliance_standards"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn concurrent_starts_obey_the_policy_limit() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"j": waiting()})).await;
    let policy = policy(&server, "p", "internal", json!({"max_concurrent_executions": 5})).await;
    let starts = join_all((0..64).map(|_| execute(&server, &workflow, json!({})))).await;
    let (good, bad): (Vec<Answer>, Vec<Answer>) = starts.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((good.len(), bad.len()), (5, 59));
    for answer in bad {
        refused(answer, &policy, "max_concurrent_executions", json!(5), json!(6));
    }
    assert_eq!(denied(&server).await.len(), 59);
    let listed = server.get(&format!("{AGENTS}/executions")).await;
    assert_eq!(listed.header("x-total-count"), "5");
    let verdict = server.post(&format!("{AGENTS}/security/validate-workflow/{workflow}"), json!({})).await.ok();
    assert_eq!(verdict["violations"][0]["rule"], "max_concurrent_executions");
    // A place is free again once a run has ended.
    server.post(&format!("{AGENTS}/executions/{}/cancel", id(&good[0].body)), json!({})).await.ok();
    execute(&server, &workflow, json!({})).await.ok();
    execute(&server, &workflow, json!({})).await.is(403);
}

#[tokio::test]
async fn network_obeys_the_strictest_agent_policy() {
    let server = TestApp::start().await;
    let full = create(&server, json!({"s": jq(".")}), json!({"verification_level": "full"})).await.ok();
    let network = server.post(&format!("{AGENTS}/networks"), json!({"name": "n", "agents": [id(&full)]})).await.ok();
    let path = format!("{AGENTS}/networks/{}/execute", id(&network));
    let policy = policy(&server, "p", "confidential", json!({"allowed_verification_levels": ["full"]})).await;
    let answer = server.post(&path, json!({"task": 1})).await;
    refused(answer, &policy, "allowed_verification_levels", json!(["full"]), json!("basic"));
    change(&server, &policy, json!({"allowed_verification_levels": []})).await;
    server.post(&path, json!({"task": 1})).await.ok();
}
