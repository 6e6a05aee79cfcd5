//! The process dies around the transaction that begins a proof that a step requires: it is made once.

use serde_json::json;

use super::*;
use crate::{performance::PERFORMANCE, portfolio::text_of, proofs::put_keys};

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_a_step_requires_is_begun_once() {
    for point in ["proofs.before_begin", "proofs.after_begin"] {
        let mut doomed = Server::builder().env("FAILPOINTS", format!("{point}=return")).start().await;
        put_keys(&doomed, "openings-v1-1x1");
        let mut step = crate::kit::jq("1");
        step["requires_proof"] = json!(true);
        let workflow = doomed.workflow(json!({"a": step})).await;
        // It may die before the answer has come.
        let path = format!("/api/v1/agents/workflows/{workflow}/execute");
        let _ = doomed.request(Method::POST, &path).json(&json!({"inputs": {}})).send().await;
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        let all = server.get("/api/v1/agents/executions").await.ok();
        let execution = all[0].text("id");
        let done = server.until(execution, |run| run["verification_proof"]["proof"]["status"] == "success").await;
        assert_eq!(done["verification_proof"]["steps"]["a"]["verified"], true, "{point}: {done}");
        let tasks = server.get(&format!("{PERFORMANCE}/tasks?kind=proof")).await.ok();
        assert_eq!(tasks.as_array().map(Vec::len), Some(1), "{point}: {tasks}");
        for table in ["am_proofs", "am_proof_parts"] {
            let count = format!("SELECT count(*) || '' FROM {table}");
            assert_eq!(text_of(&server, &count).await, "1", "{point}: {table}");
        }
        assert_eq!(text_of(&server, "SELECT count(*) || '' FROM am_proof_orders").await, "0", "{point}");
    }
}
