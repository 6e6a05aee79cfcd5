//! Dashboard, statistics, monitor: from real records.

use reqwest::Method;
use serde_json::{Value, json};

use super::{SECURITY, bad, good, run_of, score, seen};
use crate::kit::JsonDocument;
use crate::{
    harness::{Answer, ApiClient, TestApp},
    jobs::open,
    redact::redacted,
};

async fn monitor(server: &ApiClient, execution: &str, workflow: &str) -> Answer {
    let path = format!("{SECURITY}/executions/{execution}/security-monitor?workflow_id={workflow}");
    Answer::of(server.request(Method::POST, &path)).await
}

#[tokio::test]
async fn security_dashboard_and_statistics_count_entries() {
    let server = TestApp::start().await;
    // The built-in policy was published at the start.
    let empty = server.get(&format!("{SECURITY}/security-dashboard")).await.ok();
    assert_eq!(
        (&empty["totals"]["audit_logs"], &empty["trust_statistics"]["average_trust_score"]),
        (&json!(1), &Value::Null)
    );
    let workflow = server.workflow(good()).await;
    run_of(&server, &workflow).await;
    for n in 0..60 {
        let event = if n % 5 == 0 { "security_violation" } else { "step_completed" };
        seen(&server, event, &workflow, json!({"n": n})).await;
    }
    score(&server, "workflow", &workflow).await;
    let shown = server.get(&format!("{SECURITY}/security-dashboard")).await.ok();
    let list = |name: &str| shown[name].as_array().unwrap().clone();
    assert_eq!((list("recent_audits").len(), list("high_risk_events").len()), (50, 10));
    assert_eq!(list("recent_audits")[0]["event_data"]["n"], 59);
    let risky: Vec<i64> =
        list("high_risk_events").iter().map(|entry| entry["event_data"]["n"].as_i64().unwrap()).collect();
    assert_eq!(risky, (2..12).rev().map(|n| n * 5).collect::<Vec<_>>());
    assert_eq!(shown["totals"]["requires_investigation"], 12);
    let statistics = server.get(&format!("{SECURITY}/security-stats")).await.ok();
    let audits = &statistics["audit_statistics"];
    assert_eq!(audits["by_event_type"]["security_violation"], 12);
    assert_eq!(audits["by_risk"]["critical"], 12);
    let listed = server.get(&format!("{SECURITY}/audit-logs?limit=1")).await;
    assert_eq!(listed.header("x-total-count"), audits["total"].to_string());
    let trust = &statistics["trust_statistics"];
    assert_eq!(
        (&trust["total_entities"], &trust["low_trust_entities"]),
        (&json!(2), &json!(0)),
        "what an admin reports is no evidence: {trust}"
    );
    assert_eq!(trust["distribution"], json!({"very_low": 0, "low": 0, "medium": 0, "high": 2, "very_high": 0}));
    assert_eq!(statistics["active_sandboxes"], 0);
}

#[tokio::test]
async fn security_monitor_describes_an_execution() {
    let server = TestApp::start().await;
    let workflow = server.workflow(good()).await;
    let done = run_of(&server, &workflow).await;
    let id = done.text("id");
    let fine = monitor(&server, id, &workflow).await.ok();
    insta::assert_json_snapshot!("monitor_of_a_good_run", redacted(&fine));
    sqlx::query(
        "INSERT INTO agent_sandbox_configs (id, sandbox_type, security_level, cpu_limit, memory_limit, disk_limit, network_access,
             max_execution_time, idle_timeout, enable_monitoring, log_all_commands, log_file_access, log_network_access, is_active,
             created_at, updated_at)
         VALUES (?1, 'docker', 'INTERNAL', 2.0, 100, 20480, 1, 7200, 600, 1, 0, 1, 1, 1, '2026-05-12 14:29:30.123456', '2026-05-12 14:29:30.123456')",
    )
    .bind(format!("sandbox_{id}"))
    .execute(&mut open(&server.database()).await)
    .await
    .unwrap();
    let body = json!({"event_type": "sandbox_breach", "execution_id": id, "workflow_id": workflow, "security_level": "restricted",
        "event_data": {"memory_usage": 150.5}});
    server.post(&format!("{SECURITY}/audit-logs"), body).await.is(201);
    let broken = monitor(&server, id, &workflow).await.ok();
    insta::assert_json_snapshot!("monitor_of_a_breach", redacted(&broken));
    assert_eq!(server.get(&format!("{SECURITY}/security-dashboard")).await.ok()["active_sandboxes"], 1);
    let failing = server.workflow(bad()).await;
    let failed = run_of(&server, &failing).await;
    let failed = monitor(&server, failed.text("id"), &failing).await.ok();
    assert_eq!(failed["security_status"], "attention", "{failed}");
    monitor(&server, "exec_unknown", &workflow).await.is(404);
    assert_eq!(monitor(&server, id, &failing).await.is(422)["detail"][0]["loc"], json!(["query", "workflow_id"]));
}
