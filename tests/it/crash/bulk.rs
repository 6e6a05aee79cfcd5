//! An operation on many executions goes on after its process died, and does none twice.

use serde_json::json;

use super::*;
use crate::agents::bulk::ended;

#[tokio::test]
async fn an_operation_that_dies_goes_on_and_changes_each_execution_once() {
    for point in ["bulk.before_commit", "bulk.after_commit"] {
        let server = Server::builder().start().await;
        let bad = json!({"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"x\")"}});
        let workflow = server.workflow(json!({"bad": bad})).await;
        let mut ids = Vec::new();
        for _ in 0..4 {
            let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
            assert_eq!(server.ended(&id).await["status"], "failed");
            ids.push(id);
        }
        let mut doomed = server.restart_with(&[("FAILPOINTS", &format!("{point}=2*off->return"))]).await;
        let request = doomed.request(Method::POST, "/api/v1/agents/executions/retry").header("idempotency-key", KEY);
        let asked = json!({"filter": {"workflow_id": workflow}});
        // It may die before the answer has come.
        let _ = request.json(&asked).send().await;
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        let request = server.request(Method::POST, "/api/v1/agents/executions/retry").header("idempotency-key", KEY);
        let answer = Answer::of(request.json(&asked)).await.ok();
        let operation = ended(&server, answer["operation"].text("id")).await;
        assert_eq!((&operation["total"], &operation["changed"]), (&json!(4), &json!(4)), "{point}: {operation}");
        for id in &ids {
            let run =
                server.until(id, |run| run["status"] == "failed" && run["step_states"]["bad"]["attempts"] == 2).await;
            let retried = events(&server, id, 1000).await;
            let retried = kinds(&retried).into_iter().filter(|kind| *kind == "execution_retried").count();
            assert_eq!(retried, 1, "{point}: {run}");
        }
        let all = server.get("/api/v1/agents/executions/operations").await.ok();
        assert_eq!(all.as_array().unwrap().len(), 1);
    }
}
