//! Health, figures, the dashboard, and alerts.

use serde_json::json;

use super::{INTEGRATION, builder, call, deployed, deployments, healthy, make, raised_alert};
use crate::{
    harness::{OTHER_ADMIN, TestApp, poll_interval},
    kit::{JsonDocument, get_as, jq},
};

#[tokio::test]
async fn health_and_figures_are_measured() {
    let server = builder().start().await;
    let (_, id) = deployed(&server, "1", "shop", 2, json!({})).await;
    healthy(&server, &id, 2, 1).await;
    for _ in 0..5 {
        call(&server, &id, json!({})).await.ok();
    }
    let health = server.get(&deployments(&format!("{id}/health"))).await.ok();
    assert_eq!((&health["overall_health"], &health["healthy_instances"]), (&json!("healthy"), &json!(2)), "{health}");
    let one = &health["instances"][0];
    assert!(
        one["response_time"].as_f64().unwrap() > 0.0 && !one["health_check_history"].as_array().unwrap().is_empty()
    );
    // Samples are stored every ten seconds.
    server.clock().advance(std::time::Duration::from_secs(10));
    let path = format!("{INTEGRATION}/metrics/deployments/{id}?time_range=30m");
    let figures = loop {
        let found = server.get(&path).await.ok();
        if found["aggregated_metrics"]["requests"] == 5 {
            break found;
        }
        poll_interval().await;
    };
    let all = &figures["aggregated_metrics"];
    assert_eq!((&all["errors"], &all["error_rate"]), (&json!(0), &json!(0.0)));
    assert!(all["average_response_time"].as_f64().unwrap() > 0.0 && all["memory_mb"].as_f64().unwrap() > 1.0, "{all}");
    assert_eq!((&figures["total_instances"], &figures["point_seconds"]), (&json!(2), &json!(10)));
    let board = server.get(&format!("{INTEGRATION}/production/dashboard")).await.ok();
    assert_eq!((&board["total_deployments"], &board["overall_health"]), (&json!(1), &json!("healthy")), "{board}");
    assert_eq!(board["deployments"][0]["requests"], 5);
    let theirs = get_as(&server, OTHER_ADMIN, &format!("{INTEGRATION}/production/health")).await.ok();
    assert_eq!((&theirs["overall_health"], &theirs["total_instances"]), (&json!("unknown"), &json!(0)));
}

#[tokio::test]
async fn alerts_are_acknowledged_silenced_and_resolved() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let id = make(&server, &workflow, "shop", json!({})).await;
    let alert = raised_alert(&server, &id, 1).await;
    let act = async |what: &str, body: serde_json::Value| {
        server.post(&deployments(&format!("alerts/{alert}/{what}")), body).await
    };
    let noted = act("acknowledge", json!({})).await.ok();
    assert_eq!(noted["state"], "acknowledged");
    assert_eq!(noted["acknowledged_by"], json!(crate::marketplace::principal(server.key())));
    for seconds in [-1, 99_999_999] {
        let refused = act("silence", json!({"seconds": seconds})).await.is(422);
        assert_eq!(crate::kit::locations(&refused), [json!(["body", "seconds"])]);
    }
    assert!(!act("silence", json!({"seconds": 60})).await.ok()["silenced_until"].is_null());
    assert!(act("silence", json!({"seconds": 0})).await.ok()["silenced_until"].is_null());
    assert_eq!(act("resolve", json!({})).await.ok()["state"], "resolved");
    assert_eq!(act("acknowledge", json!({})).await.is(409)["code"], "alert_resolved");
    let open = server.get(&deployments("alerts?state=open")).await.ok();
    assert_eq!(open, json!([]));
    assert_eq!(server.get(&deployments("alerts?severity=high")).await.ok()[0].text("id"), alert);
}

#[tokio::test]
async fn a_deployment_to_production_is_all_or_nothing() {
    let server = builder().start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let path = format!("{INTEGRATION}/production/deploy?workflow_id={workflow}");
    let bad = server.post(&path, json!({"deployment_config": {"command": "id"}})).await.is(422);
    assert_eq!(crate::kit::locations(&bad), [json!(["body", "deployment_config", "command"])]);
    assert_eq!(server.get(&deployments("configs")).await.ok(), json!([]));
    let limits = json!({"error_rate": {"warning": 1.0, "critical": 2.0}});
    let body = json!({
        "deployment_config": {"max_instances": 2, "health_check_interval": 1},
        "integration_config": {"alert_thresholds": limits},
    });
    let begun = server.post(&path, body).await.ok();
    assert_eq!((&begun["configuration_status"], &begun["monitoring_status"]), (&json!("created"), &json!("active")));
    assert_eq!(begun["alert_thresholds"]["error_rate"], limits["error_rate"]);
    let id = begun.text("deployment_id");
    let found = super::settled(&server, id).await;
    assert_eq!(found["deployment_name"], json!(format!("production-{workflow}")));
    assert_eq!((&found["status"], &found["environment"]), (&json!("deployed"), &json!("production")), "{found}");
}
