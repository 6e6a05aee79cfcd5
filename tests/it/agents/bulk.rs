//! Operations on many executions at once.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, OTHER_ADMIN, PATIENCE, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument, get_as, jq, locations, post_as, sql, waiting},
};

const EXECUTIONS: &str = "/api/v1/agents/executions";

fn failing() -> Value {
    json!({"bad": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "if .ok then 1 else error(\"no luck\") end"}}})
}

/// So many executions of a workflow that have failed.
async fn failed(server: &ApiClient, workflow: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = server.execute(workflow, json!({})).await.text("id").to_owned();
        assert_eq!(server.ended(&id).await["status"], "failed");
        ids.push(id);
    }
    ids
}

/// The operation once it has ended.
pub async fn ended(server: &ApiClient, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = server.get(&format!("{EXECUTIONS}/operations/{id}")).await.ok();
        if found["status"] != "running" {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not end: {found}");
        poll_interval().await;
    }
}

async fn begun(server: &ApiClient, action: &str, body: Value) -> Value {
    let answer = server.post(&format!("{EXECUTIONS}/{action}"), body).await.ok();
    answer["operation"].clone()
}

#[tokio::test]
async fn failed_executions_are_retried_together_with_the_current_definition() {
    let server = TestApp::start().await;
    let workflow = server.workflow(failing()).await;
    let ids = failed(&server, &workflow, 5).await;
    let other = server.workflow(failing()).await;
    let others = failed(&server, &other, 1).await;
    let filter = json!({"workflow_id": workflow, "status": "failed", "failed_step": "bad", "error_class": "jq", "error_contains": "no luck"});
    let counted = server.post(&format!("{EXECUTIONS}/retry"), json!({"filter": filter, "dry_run": true})).await.ok();
    assert_eq!(
        (&counted["count"], &counted["operation"], &counted["dry_run"]),
        (&json!(5), &Value::Null, &json!(true))
    );
    assert_eq!(counted["execution_ids"], json!(ids), "the oldest first");
    for (filter, count) in [
        (json!({}), 6),
        (json!({"error_class": "http"}), 0),
        (json!({"error_class": "limit"}), 0),
        (json!({"failed_step": "good"}), 0),
        (json!({"error_contains": "other"}), 0),
        (json!({"created_after": "2999-01-01T00:00:00Z"}), 0),
        (json!({"created_before": "2999-01-01T00:00:00Z", "workflow_id": other}), 1),
        (json!({"created_after": "7d"}), 6),
        (json!({"created_before": "7d"}), 0),
        (json!({"created_after": "2d", "created_before": "1s", "workflow_id": other}), 0),
    ] {
        let asked = json!({"filter": filter, "dry_run": true});
        let counted = server.post(&format!("{EXECUTIONS}/retry"), asked).await.ok();
        assert_eq!(counted["count"], count, "{filter}");
    }
    assert_eq!(
        server.get(&format!("{EXECUTIONS}?status=failed")).await.header("x-total-count"),
        "6",
        "nothing is changed"
    );

    let mended = json!({"steps": {"bad": jq("\"mended\"")}});
    server.put(&format!("{AGENTS}/workflows/{workflow}"), mended).await.ok();
    let operation =
        begun(&server, "retry", json!({"filter": {"workflow_id": workflow}, "definition": "current"})).await;
    assert_eq!((&operation["total"], &operation["redefines"]), (&json!(5), &json!(true)));
    let done = ended(&server, operation.text("id")).await;
    assert_eq!(
        (&done["status"], &done["changed"], &done["skipped"], &done["failed"]),
        (&json!("completed"), &json!(5), &json!(0), &json!(0))
    );
    assert!(done["ended_at"].is_string() && done["faults"] == json!([]));
    for id in &ids {
        let run = server.ended(id).await;
        assert_eq!(
            (&run["status"], &run["final_result"]["step_results"]["bad"]),
            (&json!("completed"), &json!("mended")),
            "{run}"
        );
    }
    assert_eq!(server.ended(&others[0]).await["status"], "failed");

    // With the definition that they had, they fail again.
    let operation = begun(&server, "retry", json!({"filter": {}})).await;
    assert_eq!(ended(&server, operation.text("id")).await["changed"], 1);
    server.until(&others[0], |run| run["status"] == "failed" && run["step_states"]["bad"]["attempts"] == 2).await;

    let listed = server.get(&format!("{EXECUTIONS}/operations?limit=1")).await;
    assert_eq!(listed.header("x-total-count"), "2");
    let listed = listed.ok();
    assert_eq!((&listed[0]["id"], &listed[0]["faults"]), (&operation["id"], &Value::Null));
    let audit = server.get(&format!("{AGENTS}/security/audit-logs?limit=100")).await.ok();
    let told = |action: &str| {
        let of = |entry: &&Value| {
            entry["event_data"]["resource"] == "bulk_operation" && entry["event_data"]["action"] == action
        };
        audit.as_array().unwrap().iter().filter(of).count()
    };
    assert_eq!((told("begun"), told("completed"), told("cancelled")), (2, 2, 0));
    let retried = audit.as_array().unwrap().iter().filter(|entry| entry["event_data"]["action"] == "retried").count();
    assert_eq!(retried, 6, "each has an entry of its own");
}

#[tokio::test]
async fn open_executions_are_cancelled_together_and_only_the_callers() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"w": waiting()})).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(server.execute(&workflow, json!({})).await.text("id").to_owned());
    }
    let draft = json!({"name": "other", "steps": {"w": waiting()}});
    let theirs = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), draft).await.ok();
    let execute = format!("{AGENTS}/workflows/{}/execute", theirs.text("id"));
    let theirs = post_as(&server, OTHER_ADMIN, &execute, json!({})).await.ok().text("id").to_owned();

    let operation = begun(&server, "cancel", json!({"filter": {"status": ["pending", "running"]}})).await;
    let id = operation.text("id");
    assert_eq!(ended(&server, id).await["changed"], 4);
    for run in &ids {
        assert_eq!(server.ended(run).await["status"], "cancelled");
    }
    assert_eq!(get_as(&server, OTHER_ADMIN, &format!("{EXECUTIONS}/{theirs}")).await.ok()["status"], "running");
    get_as(&server, OTHER_ADMIN, &format!("{EXECUTIONS}/operations/{id}")).await.is(404);
    post_as(&server, OTHER_ADMIN, &format!("{EXECUTIONS}/operations/{id}/cancel"), json!({})).await.is(404);
    assert_eq!(get_as(&server, OTHER_ADMIN, &format!("{EXECUTIONS}/operations")).await.ok(), json!([]));
    server.post(&format!("{EXECUTIONS}/operations/{id}/cancel"), json!({})).await.ok();
    assert_eq!(ended(&server, id).await["status"], "completed", "it had ended");

    // Nothing is left to be done: the operation has ended with its answer.
    let nothing = begun(&server, "cancel", json!({"filter": {}})).await;
    assert_eq!((&nothing["status"], &nothing["total"]), (&json!("completed"), &json!(0)));
}

#[tokio::test]
async fn an_operation_that_was_left_goes_on_and_skips_what_is_gone() {
    let server = TestApp::start().await;
    let workflow = server.workflow(failing()).await;
    let ids = failed(&server, &workflow, 3).await;
    let operation = begun(&server, "retry", json!({"filter": {}})).await;
    let done = ended(&server, operation.text("id")).await;
    assert_eq!(done["changed"], 3);
    for id in &ids {
        server.until(id, |run| run["status"] == "failed" && run["step_states"]["bad"]["attempts"] == 2).await;
    }
    let gone = format!(
        "UPDATE am_bulk_items SET outcome = NULL, execution_id = CASE place WHEN 0 THEN 'exec_0000000000' ELSE execution_id END
         WHERE operation_id = '{0}' AND place < 2;
         UPDATE am_bulk_operations SET status = 'RUNNING', changed = 1, ended_at = NULL WHERE id = '{0}'",
        operation.text("id")
    );
    sql(&server.database(), &gone).await;
    let done = ended(&server, operation.text("id")).await;
    assert_eq!((&done["changed"], &done["skipped"]), (&json!(2), &json!(1)), "{done}");
    assert_eq!(done["faults"][0]["execution_id"], "exec_0000000000");
    assert_eq!(done["faults"][0]["outcome"], "skipped");

    // Only what had no outcome is done.
    server.until(&ids[1], |run| run["status"] == "failed" && run["step_states"]["bad"]["attempts"] == 3).await;
    let runs = server.get(&format!("{EXECUTIONS}/{}", ids[2])).await.ok();
    assert_eq!(runs["step_states"]["bad"]["attempts"], 2);
}

#[tokio::test]
async fn a_filter_that_nobody_knows_changes_nothing() {
    let server = TestApp::start().await;
    for (action, body, place) in [
        ("retry", json!({}), json!(["body", "filter"])),
        ("retry", json!({"filter": {"state": "failed"}}), json!(["body", "filter", "state"])),
        ("retry", json!({"filter": {"status": "running"}}), json!(["body", "filter", "status"])),
        ("retry", json!({"filter": {"error_class": "bad luck"}}), json!(["body", "filter", "error_class"])),
        ("cancel", json!({"filter": {"error_class": "jq"}}), json!(["body", "filter", "error_class"])),
        ("cancel", json!({"filter": {}, "definition": "current"}), json!(["body", "definition"])),
    ] {
        let refused = server.post(&format!("{EXECUTIONS}/{action}"), body.clone()).await.is(422);
        assert_eq!(locations(&refused), [place], "{body}");
    }
    assert_eq!(server.get(&format!("{EXECUTIONS}/operations")).await.ok(), json!([]));
}
