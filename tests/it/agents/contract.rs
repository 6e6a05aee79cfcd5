//! Answers have every field that the contract's document requires, of the type that it says.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, TestApp},
    kit::{AGENTS, JsonDocument, jq, json_fixture, operations, waiting},
    services::SERVICES,
};

/// Check an answer against the contract's schema of this operation.
pub fn conforms(contract: &Value, method: &str, path: &str, answer: &Answer) {
    let responses = &contract["paths"][path][method]["responses"];
    let schema = &responses[answer.status.as_str()]["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "the contract has no {} for {method} {path}: {}", answer.status, answer.text);
    // Nested references start at the document's root.
    let document = json!({"allOf": [schema], "components": contract["components"]});
    let validator = jsonschema::options().should_validate_formats(true).build(&document).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(&answer.body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{method} {path}: {faults:#?} in {}", answer.text);
}

#[track_caller]
fn has(answer: &Value, members: &[&str]) {
    for member in members {
        assert!(answer.as_object().unwrap().contains_key(*member), "{member} is missing in {answer}");
    }
}

#[tokio::test]
async fn answers_conform_to_the_contract_schema() {
    let contract = json_fixture("contract/openapi.json");
    let server = TestApp::start().await;
    let check =
        |method: &str, path: &str, answer: &Answer| conforms(&contract, method, &format!("{AGENTS}{path}"), answer);
    let body = json!({"name": "n", "description": "d", "tags": ["t"], "steps": {"a": jq("1"), "b": {"step_type": "custom", "depends_on": ["a"]}}, "dependencies": {"b": ["a"]}});
    let made = server.post(&format!("{AGENTS}/workflows"), body).await;
    check("post", "/workflows", &made);
    let id = made.body.text("id");
    has(
        &made.body,
        &[
            "id",
            "owner_id",
            "name",
            "description",
            "steps",
            "dependencies",
            "max_execution_time",
            "max_cost_budget",
            "requires_verification",
            "verification_level",
            "tags",
            "version",
            "is_public",
            "created_at",
            "updated_at",
        ],
    );
    check("get", "/workflows", &server.get(&format!("{AGENTS}/workflows")).await);
    check("get", "/workflows/{workflow_id}", &server.get(&format!("{AGENTS}/workflows/{id}")).await);
    check(
        "put",
        "/workflows/{workflow_id}",
        &server.put(&format!("{AGENTS}/workflows/{id}"), json!({"name": "m"})).await,
    );

    let ended = server
        .post(&format!("{AGENTS}/workflows/{id}/execute?wait=20"), json!({"workflow_id": id, "inputs": {}}))
        .await;
    let failing = server.workflow(json!({"a": jq("error(\"x\")")})).await;
    server.put(&format!("{AGENTS}/workflows/{failing}"), json!({"steps": {"a": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"x\")"}}}})).await.ok();
    let failed = server.post(&format!("{AGENTS}/workflows/{failing}/execute?wait=20"), json!({})).await;
    let long = server.workflow(json!({"a": waiting()})).await;
    let running = server.post(&format!("{AGENTS}/workflows/{long}/execute"), json!({})).await;
    for (run, status) in [(&ended, "completed"), (&failed, "failed"), (&running, "running")] {
        check("post", "/workflows/{workflow_id}/execute", run);
        assert_eq!(run.body["status"], status, "{}", run.text);
        let execution = run.body.text("execution_id");
        let seen = server.get(&format!("{AGENTS}/executions/{execution}/status")).await;
        check("get", "/executions/{execution_id}/status", &seen);
        has(&seen.body, &["id", "progress"]);
        let progress = seen.body["progress"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&progress));
        let logs = server.get(&format!("{AGENTS}/executions/{execution}/logs")).await;
        check("get", "/executions/{execution_id}/logs", &logs);
        has(
            &logs.body,
            &[
                "execution_id",
                "workflow_id",
                "status",
                "started_at",
                "completed_at",
                "total_execution_time",
                "step_logs",
            ],
        );
        let steps = logs.body["step_logs"].as_array().unwrap();
        assert!(!steps.is_empty(), "{}", logs.text);
        for step in steps {
            has(
                step,
                &[
                    "step_id",
                    "status",
                    "started_at",
                    "completed_at",
                    "execution_time",
                    "error_message",
                    "gpu_accelerated",
                    "memory_usage",
                ],
            );
        }
    }
    check("get", "/executions", &server.get(&format!("{AGENTS}/executions")).await);
    let receipt = server.get(&format!("{AGENTS}/executions/{}/receipt", ended.body.text("id"))).await;
    check("get", "/executions/{execution_id}/receipt", &receipt);
    let cancelled = server.post(&format!("{AGENTS}/executions/{}/cancel", running.body.text("id")), json!({})).await;
    check("post", "/executions/{execution_id}/cancel", &cancelled);
    check("delete", "/workflows/{workflow_id}", &server.delete(&format!("{AGENTS}/workflows/{id}")).await);
    let network = server.post(&format!("{AGENTS}/networks"), json!({"name": "n"})).await;
    check("post", "/networks", &network);
    has(
        &network.body,
        &["id", "name", "description", "agents", "coordination_strategy", "status", "created_at", "owner_id"],
    );
    check("get", "/test", &server.get(&format!("{AGENTS}/test")).await);
    check("post", "/workflows", &server.post(&format!("{AGENTS}/workflows"), json!({})).await);
}

/// Groups of the contract that are built later.
const LATER: [&str; 4] = ["/integration/", "/security/", "/performance/", "/creativity/"];

#[tokio::test]
async fn openapi_document_has_every_contract_operation() {
    let contract = json_fixture("contract/openapi.json");
    let server = TestApp::start().await;
    let ours = server.get("/openapi.json").await.ok();
    let shape = |path: &str| {
        path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
    };
    let of_group = |path: &str| path.starts_with(AGENTS) && !LATER.iter().any(|group| path.contains(group));
    let have: Vec<(String, String)> =
        operations(&ours).into_iter().map(|(method, path)| (method.to_string(), shape(&path))).collect();
    let mut checked = 0;
    for (method, path) in operations(&contract).into_iter().filter(|(_, path)| of_group(path)) {
        assert!(have.contains(&(method.to_string(), shape(&path))), "{method} {path} is missing");
        // And each of its parameters, by name.
        let method = method.as_str().to_lowercase();
        let wanted = contract["paths"][&path][&method]["parameters"].as_array().cloned().unwrap_or_default();
        let known = &ours["paths"][&path][&method]["parameters"];
        for parameter in wanted.iter().filter(|parameter| parameter["in"] == "query") {
            let name = &parameter["name"];
            let there = known.as_array().is_some_and(|known| known.iter().any(|other| other["name"] == *name));
            assert!(there, "{method} {path} lacks the parameter {name}");
        }
        checked += 1;
    }
    for (method, path) in operations(&contract).into_iter().filter(|(_, path)| path.starts_with(SERVICES)) {
        assert!(have.contains(&(method.to_string(), shape(&path))), "{method} {path} is missing");
        checked += 1;
    }
    assert_eq!(checked, 13 + 11);
    // The routes of the later clients, which the contract's document does not have.
    for (method, path) in [
        ("GET", "/executions/{}"),
        ("POST", "/workflows/{}/cancel"),
        ("GET", "/workflows/{}/executions"),
        ("POST", "/receipts/verify"),
        ("POST", "/networks/{}/execute"),
        ("GET", "/networks/{}/status"),
        ("POST", "/networks/{}/optimize"),
        ("POST", "/{}/learning/enable"),
        ("POST", "/{}/learning/train"),
        ("GET", "/{}/learning/progress"),
        ("GET", "/{}/learning/export"),
    ] {
        assert!(have.contains(&(method.to_owned(), format!("{AGENTS}{path}"))), "{method} {path} is missing");
    }
}

/// Where a thing is not there, what looks for it says so, not the router.
#[tokio::test]
async fn every_operation_of_the_contract_answers() {
    let contract = json_fixture("contract/openapi.json");
    let server = TestApp::start().await;
    let nowhere = server.get(&format!("{AGENTS}/no/such/route/at/all")).await.is(404);
    let all = operations(&contract);
    assert_eq!(all.len(), 76);
    for (method, template) in all {
        let segments: Vec<&str> =
            template.split('/').map(|segment| if segment.starts_with('{') { "whisper" } else { segment }).collect();
        let request = server.request(method.clone(), &segments.join("/"));
        let request = if method == Method::GET { request } else { request.json(&json!({})) };
        let answer = Answer::of(request).await;
        let status = answer.status.as_u16();
        assert!(![405, 501].contains(&status) && status < 500, "{method} {template}: {status} {}", answer.text);
        assert_ne!(answer.body["detail"], nowhere["detail"], "{method} {template}");
    }
}
