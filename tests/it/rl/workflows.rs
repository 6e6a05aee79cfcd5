//! Steps that train and steps that ask.

use serde_json::{Value, json};

use super::{RL, place};
use crate::harness::TestApp;
use crate::kit::JsonDocument;

fn train(more: Value) -> Value {
    let mut action = json!({"kind": "train", "environment": "CartPole-v1", "steps": 320, "policy": "balance", "seed": 3,
        "evaluation_episodes": 2, "settings": {"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]}});
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"step_type": "training", "action": action})
}

fn ask(policy: &str) -> Value {
    json!({"step_type": "inference", "depends_on": ["train"], "input_mappings": {"state": "$.inputs.state"},
        "action": {"kind": "policy", "policy": policy}})
}

#[tokio::test]
async fn training_step_feeds_the_next_policy_step() {
    let server = TestApp::start().await;
    for policy in ["balance", "balance@latest", "$.steps.train.output.policy"] {
        let workflow = server.workflow(json!({"train": train(json!({})), "decide": ask(policy)})).await;
        let started = server.execute(&workflow, json!({"state": [0, 0, 0.02, 0]})).await;
        let ended = server.ended(started.text("id")).await;
        assert_eq!(ended["status"], "completed", "{ended}");
        let results = &ended["final_result"]["step_results"];
        let trained = &results["train"];
        assert_eq!(results["decide"]["policy"], trained["policy"], "{results}");
        assert!(trained["scores"]["mean"].is_number() && trained.text("run_id").starts_with("train_"));
    }
    assert_eq!(server.get(&format!("{RL}/policies/balance")).await.ok()["latest"], 3);
}

#[tokio::test]
async fn training_step_is_validated_at_workflow_creation() {
    let server = TestApp::start().await;
    let refused = async |steps: Value| {
        let body = json!({"name": "n", "steps": steps});
        place(server.post("/api/v1/agents/workflows", body).await)
    };
    for (more, member) in [
        (json!({"environment": "Tetris"}), json!(["environment"])),
        (json!({"algorithm": "td3"}), json!(["algorithm"])),
        (json!({"settings": {"gama": 1}}), json!(["settings", "gama"])),
        (json!({"steps": 0}), json!(["steps"])),
        (json!({"policy": "No Name"}), json!(["policy"])),
    ] {
        let mut loc = json!(["body", "steps", "train", "action"]);
        loc.as_array_mut().unwrap().extend(member.as_array().unwrap().clone());
        assert_eq!(refused(json!({"train": train(more)})).await, loc);
    }
    let unknown = refused(json!({"train": train(json!({})), "decide": ask("nobody")})).await;
    assert_eq!(unknown, json!(["body", "steps", "decide", "action", "policy"]));
}
