//! Members that answers of the former monolith had, and that its API document does not show.

use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, jq},
};

fn has(answer: &Value, members: &[&str]) {
    for member in members {
        assert!(answer.pointer(member).is_some(), "{member} is missing in {answer}");
    }
}

async fn completed(app: &ApiClient) -> Value {
    let workflow = app.workflow(json!({"a": jq("1")})).await;
    let run = app.execute(&workflow, json!({})).await;
    app.ended(run.text("id")).await
}

#[tokio::test]
async fn answers_have_the_members_that_former_clients_read() {
    let app = TestApp::start().await;
    let run = completed(&app).await;
    let (execution, workflow) = (run.text("id"), run.text("workflow_id"));

    let test = app.get(&format!("{AGENTS}/test")).await.ok();
    has(&test, &["/message", "/timestamp"]);

    let statistics = app.get(&format!("{AGENTS}/security/security-stats")).await.ok();
    let bands =
        ["low", "medium", "high", "critical"].map(|band| format!("/audit_statistics/risk_score_distribution/{band}"));
    has(&statistics, &bands.each_ref().map(String::as_str));
    let trust = ["very_low", "low", "medium", "high", "very_high"];
    let trust = trust.map(|band| format!("/trust_statistics/trust_score_distribution/{band}"));
    has(&statistics, &trust.each_ref().map(String::as_str));
    has(&statistics, &["/trust_statistics/total_entities", "/trust_statistics/average_trust_score"]);
    has(&statistics, &["/security_health/high_risk_rate", "/security_health/average_risk_score"]);
    has(
        &statistics,
        &["/security_health/security_violation_rate", "/audit_statistics/event_type_counts/sandbox_breach"],
    );
    let audits = &statistics["audit_statistics"];
    assert_eq!(audits["total_audits"], audits["total"]);
    let sum = |name: &str| audits[name].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    let total = audits["total_audits"].as_u64().unwrap();
    assert_eq!((sum("event_type_counts"), sum("risk_score_distribution")), (total, total));

    let dashboard = app.get(&format!("{AGENTS}/security/security-dashboard")).await.ok();
    for member in ["average_score", "total_entities", "high_trust_entities", "low_trust_entities"] {
        has(&dashboard, &[&format!("/trust_score_stats/{member}")]);
    }
    for member in ["total_audits", "high_risk_count", "security_violations", "risk_rate"] {
        has(&dashboard, &[&format!("/security_stats/{member}")]);
    }

    let sandbox = format!("{AGENTS}/security/sandbox/{execution}");
    let made = app.post(&format!("{sandbox}/create"), json!({})).await.ok();
    assert!(made["is_active"] == true && made["message"].is_string() && made["id"].is_string(), "{made}");
    let seen = app.get(&format!("{sandbox}/monitor")).await.ok();
    assert!(seen["is_active"] == true && seen["note"].is_string(), "{seen}");
    let gone = app.post(&format!("{sandbox}/cleanup"), json!({})).await.ok();
    assert!(gone["is_active"] == false && gone["message"].is_string() && gone["success"] == true, "{gone}");
    assert_eq!(app.get(&format!("{sandbox}/monitor")).await.ok()["is_active"], false);

    let path = format!("{AGENTS}/security/executions/{execution}/security-monitor?workflow_id={workflow}");
    assert_eq!(app.post(&path, json!({})).await.ok()["alerts"], json!([]));
}

#[tokio::test]
async fn services_say_what_former_clients_read() {
    let app = TestApp::start().await;
    let list = app.get("/api/v1/services").await.ok();
    let services = list["services"].as_array().unwrap();
    for service in services {
        assert_eq!(service["type"], service["service_type"]);
        has(service, &["/name", "/description", "/constraints/gpu", "/constraints/min_vram_gb"]);
    }
    let of = |name: &str| services.iter().find(|service| service["type"] == name).unwrap();
    let first = |service: &str, member: &str| of(service)[member][0].as_str().unwrap_or_default().to_owned();
    assert_eq!(first("whisper", "models"), "tiny");
    assert_eq!(first("stable_diffusion", "models"), "stable-diffusion-1.5");
    assert_eq!(of("llm_inference")["models"].as_array().unwrap().len(), 8);
    assert_eq!(of("ffmpeg")["codecs"], json!(["h264", "h265", "vp9", "av1"]));
    assert_eq!(of("blender")["engines"].as_array().unwrap().len(), 3);
    for service in services {
        let schema = app.get(service["schema"].as_str().unwrap()).await.ok();
        assert_eq!(schema["service_type"], service["type"]);
        assert_eq!(schema["schema"]["properties"], schema["properties"]);
        assert!(schema["schema"]["properties"].is_object(), "{schema}");
    }
}
