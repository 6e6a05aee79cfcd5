//! Agents that learn from feedback.

use reqwest::Method;
use serde_json::{Value, json};

use super::{RL, place, trained};
use crate::{
    harness::{ADMIN, ApiClient, OTHER_ADMIN, TestApp},
    kit::{AGENTS, JsonDocument, get_as, post_as},
};

fn at(agent: &str, verb: &str) -> String {
    format!("{AGENTS}/{agent}/learning/{verb}")
}

/// `increase` is good where the price is low, `decrease` where it is high.
fn feedback() -> Value {
    let row = |at: usize| {
        let price = if at.is_multiple_of(2) { -1.0 } else { 1.0 };
        let action = ["increase", "decrease", "maintain", "dynamic"][at / 2 % 4];
        let good = (price < 0.0) == (action == "increase") && ["increase", "decrease"].contains(&action);
        json!({"state": [price, 0.1, 0, 0, 0, 0, 0, 0, 0], "action": action, "reward": if good { 1.0 } else { -1.0 }})
    };
    (0..64).map(row).collect()
}

async fn action(server: &ApiClient, price: f64) -> Value {
    let state = json!({"state": [price, 0.1, 0, 0, 0, 0, 0, 0, 0]});
    let decision = server.post(&format!("{RL}/policies/agent-pricer/act"), state).await.ok();
    decision["action_name"].clone()
}

#[tokio::test]
async fn agent_learns_from_feedback_and_is_exported() {
    let server = TestApp::start().await;
    server.post(&at("pricer", "train"), json!({"feedback": feedback()})).await.is(400);
    let body = json!({"mode": "reinforcement", "learning_rate": 0.001, "feedback_source": "sales"});
    let enabled = server.post(&at("pricer", "enable"), body.clone()).await.ok();
    assert_eq!((&enabled["policy"], &enabled["status"]), (&json!("agent-pricer"), &json!("enabled")));
    let idle = server.get(&at("pricer", "progress")).await.ok();
    assert_eq!((&idle["status"], &idle["version"], &idle["agreement"]), (&json!("idle"), &json!(1), &Value::Null));

    let run = server.post(&at("pricer", "train"), json!({"feedback": feedback(), "epochs": 20})).await.ok();
    assert_eq!((&run["kind"], &run["rows"], &run["from"]), (&json!("learn"), &json!(64), &json!("agent-pricer@1")));
    let run = trained(&server, run.text("id")).await;
    assert_eq!((&run["status"], &run["version"], &run["error"]), (&json!("completed"), &json!(2), &Value::Null));
    assert_eq!((action(&server, -1.0).await, action(&server, 1.0).await), (json!("increase"), json!("decrease")));
    let progress = server.get(&at("pricer", "progress?metrics=loss")).await.ok();
    assert_eq!(
        (&progress["status"], &progress["completed_runs"], &progress["feedback_rows"]),
        (&json!("completed"), &json!(1), &json!(64))
    );
    assert!(progress["agreement"].as_f64() > progress["agreement_before"].as_f64(), "{progress}");
    assert_eq!(progress["metrics"].as_array().unwrap().len(), 20);
    // The next one goes on from there.
    let again = server.post(&at("pricer", "train"), json!({"feedback": {"rows": feedback()}, "epochs": 1})).await.ok();
    assert_eq!(again["from"], "agent-pricer@2");
    trained(&server, again.text("id")).await;

    for (format, magic) in [("safetensors", None), ("torch", Some(&b"PK"[..])), ("onnx", None)] {
        let path = at("pricer", &format!("export?format={format}"));
        let response = server.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let info: Value = serde_json::from_str(response.headers()["x-export-info"].to_str().unwrap()).unwrap();
        assert_eq!((&info["policy"], &info["agent_id"]), (&json!("agent-pricer@3"), &json!("pricer")));
        let bytes = response.bytes().await.unwrap();
        assert_eq!(info["size_bytes"].as_u64().unwrap() as usize, bytes.len());
        assert!(magic.is_none_or(|magic| bytes.starts_with(magic)), "{format}");
    }
    let pickle = server.get(&at("pricer", "export?format=pickle")).await;
    assert!(pickle.text.contains("can run any code"), "{}", pickle.text);
    assert_eq!(place(pickle), json!(["query", "format"]));

    get_as(&server, OTHER_ADMIN, &at("pricer", "progress")).await.is(400);
    post_as(&server, OTHER_ADMIN, &at("pricer", "enable"), body).await.is(403);
    let agent: String = sqlx::query_scalar("SELECT agent_id FROM rl_configurations WHERE config_id = 'agent-pricer'")
        .fetch_one(&mut crate::jobs::open(&server.database()).await)
        .await
        .unwrap();
    assert_eq!(agent, "pricer", "the coordinator sees whose it is");
    assert_eq!(server.key(), ADMIN);
}

#[tokio::test]
async fn learning_feedback_validation_reports_faults() {
    let server = TestApp::start().await;
    server.post(&at("a", "enable"), json!({"mode": "transfer"})).await.ok();
    assert_eq!(place(server.post(&at("b", "enable"), json!({"mode": "osmosis"})).await), json!(["body", "mode"]));
    assert_eq!(
        place(server.post(&at("b", "enable"), json!({"learning_rate": 2})).await),
        json!(["body", "learning_rate"])
    );
    server.post(&at("b", "enable"), json!({"policy": "nobody"})).await.is(404);
    let train = async |feedback: Value, more: Value| {
        let mut body = json!({"feedback": feedback});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post(&at("a", "train"), body).await
    };
    let row = |state: Value, action: Value| json!([{"state": state, "action": action, "reward": 1}]);
    let zeros = json!([0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let refused = train(row(zeros.clone(), json!("sell")), json!({})).await;
    assert_eq!(place(refused), json!(["body", "feedback", "0", "action"]));
    let refused = train(row(json!({"price": 1}), json!(0)), json!({})).await;
    assert_eq!(place(refused), json!(["body", "feedback", "0", "state"]));
    for (rows, part) in [
        (row(json!([1]), json!(0)), "row 0"),
        (row(zeros.clone(), json!(9)), "row 0"),
        (json!([]), "there is none"),
        (json!([{"state": zeros, "action": 0}]), "reward"),
    ] {
        let refused = train(rows, json!({})).await;
        assert!(refused.text.contains(part), "{}", refused.text);
        assert_eq!(place(refused), json!(["body", "feedback"]));
    }
    assert_eq!(place(train(feedback(), json!({"epochs": 0})).await), json!(["body", "epochs"]));
}
