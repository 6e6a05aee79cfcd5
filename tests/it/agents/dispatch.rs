//! Which waiting assignments agents get, among many that nobody can take.

use serde_json::json;

use super::{
    plans::{execute, has, plan},
    registry::register,
};
use crate::{harness::TestApp, kit::sql};

#[tokio::test]
async fn assignments_that_nobody_can_take_keep_none_from_an_agent() {
    let server = TestApp::start().await;
    // Placed before, more urgent, and of the same client and type; what they may cost is less than anybody asks.
    let client: String = {
        let made = plan(&server, json!({"sub_tasks": [{"key": "first", "task_type": "text_processing"}]})).await;
        made["owner_id"].as_str().unwrap().to_owned()
    };
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO am_assignments (id, execution_id, step_key, workflow_id, client_id, task_type, priority, request,
             max_price, estimated_seconds, max_retries, state, deadline, placed_at)
         SELECT 'assign_' || i, 'exec_none', 's', 'plan_none', '{client}', 'TEXT_PROCESSING', 0, '{{}}', 0.000001, 3600, 0,
             'WAITING', '2099-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000' FROM n"
    );
    sql(&server.database(), &rows).await;
    register(&server, "worker", json!({"max_concurrent_tasks": 1})).await;
    let made =
        plan(&server, json!({"sub_tasks": [{"key": "s", "task_type": "text_processing", "estimated_seconds": 36}]}))
            .await;
    execute(&server, &made).await;
    assert_eq!(has(&server, "worker", 1).await[0]["sub_task"], "s");
}
