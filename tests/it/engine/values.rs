//! Limits of the values of an execution: each alone, all together, and those of all executions in memory.

use serde_json::{Value, json};

use super::{after, call, completed, failed_at, has, jq, run, with};
use crate::{harness::TestApp, kit::JsonDocument, peer::Peer};

fn step() -> Value {
    json!({"step_type": "custom"})
}

fn mapped(mappings: Value) -> Value {
    json!({"step_type": "custom", "input_mappings": mappings})
}

#[tokio::test]
async fn values_beyond_a_limit_fail_their_execution_with_its_name() {
    let server = TestApp::builder().env("ENGINE_VALUE_BYTES", 4096).env("ENGINE_RUN_BYTES", 16_384).start().await;
    let text = |length: usize| json!({"a": "x".repeat(length)});

    // Inputs are refused before anything is stored.
    let workflow = server.workflow(json!({"s": step()})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    let refused = server.post(&path, json!({"inputs": text(5000)})).await.is(422);
    has(&refused.to_string(), "more than 4096 bytes of JSON (ENGINE_VALUE_BYTES)");
    has(&refused.to_string(), "inputs");
    assert_eq!(server.get("/api/v1/agents/executions").await.ok(), json!([]), "it leaves no execution");

    // A value that is only passed on is stored with each step.
    let chain: serde_json::Map<String, Value> = (0..10_u32)
        .map(|at| {
            let before = at.checked_sub(1).map(|before| format!("s{before}"));
            (format!("s{at}"), after(step(), &before.iter().map(String::as_str).collect::<Vec<_>>()))
        })
        .collect();
    let failed = run(&server, chain.into(), text(2000)).await;
    has(failed.text("error_message"), "ENGINE_RUN_BYTES allows 16384");
    let done = failed["step_states"].as_object().unwrap().values().filter(|state| state["status"] == "completed");
    assert_eq!(done.count(), 3, "{failed}");

    // Mappings are bounded before they are built, whatever selects how much how often.
    let doubled = json!({"a": "$.inputs.a", "b": "$.inputs.a", "c": "$.inputs.a"});
    has(failed_at(&run(&server, json!({"s": mapped(doubled)}), text(2000)).await, "s"), "(ENGINE_VALUE_BYTES)");
    let repeated = mapped(json!({"a": format!("$.inputs.a{}", "[0,0,0]".repeat(30))}));
    let nested = json!({"a": (0..30).fold(json!(1), |inner, _| json!([inner]))});
    has(failed_at(&run(&server, json!({"s": repeated}), nested).await, "s"), "visits more than");
    let body = json!({"kind": "jq", "program": "."});
    let made = json!({"s": {"step_type": "data_processing", "action": body, "output_mappings": {"a": "$.output", "b": "$.output", "c": "$.output"}}});
    has(failed_at(&run(&server, made, text(2000)).await, "s"), "(ENGINE_VALUE_BYTES)");

    // So are outputs, by their text and by their memory.
    has(failed_at(&run(&server, json!({"s": jq("\"y\" * 5000")}), json!({})).await, "s"), "(ENGINE_VALUE_BYTES)");
    has(
        failed_at(&run(&server, json!({"s": jq("[range(1000) | 1]")}), json!({})).await, "s"),
        "of memory (ENGINE_VALUE_BYTES)",
    );
    completed(&run(&server, json!({"s": jq("\"y\" * 4000")}), json!({})).await);
}

#[tokio::test]
async fn values_nested_to_the_limit_are_read_again() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let deep = |levels: usize| jq(&format!("reduce range({}) as $i (1; [.])", levels - 1));
    let checks = |count: usize| {
        let check = json!({"step_type": "verification", "action": {"kind": "check", "assert": "true"}});
        let named = |at: usize| (format!("c{at}"), if at == 0 { "s".to_owned() } else { format!("c{}", at - 1) });
        (0..count).map(move |at| (named(at).0, after(check.clone(), &[&named(at).1])))
    };

    let mut steps = json!({"s": deep(95), "wait": after(call("wait", json!({"hold": true})), &["c4"])});
    steps.as_object_mut().unwrap().extend(checks(5));
    let workflow = server.workflow(steps).await;
    let started = server.execute(&workflow, json!({})).await;
    peer.called(1).await;
    peer.open();
    let server = server.restart().await;
    completed(&server.ended(started.text("id")).await);

    let mut steps = json!({"s": deep(95)});
    steps.as_object_mut().unwrap().extend(checks(6));
    has(failed_at(&run(&server, steps, json!({})).await, "c5"), "100 levels of nesting");
}

#[tokio::test]
async fn executions_that_fill_the_memory_follow_each_other() {
    let server = TestApp::builder().env("ENGINE_MEMORY_MB", 16).start().await;
    let doubled = json!({"a": "$.inputs.a", "b": "$.inputs.a"});
    let workflow = server.workflow(json!({"s": mapped(doubled), "t": after(step(), &["s"])})).await;
    let mut runs = Vec::new();
    for at in 0..4 {
        // Half a megabyte of inputs, and twice that for each step.
        runs.push(server.execute(&workflow, json!({"a": at.to_string().repeat(500_000)})).await);
    }
    for (at, run) in runs.iter().enumerate() {
        let ended = server.ended(run.text("id")).await;
        let result = &completed(&ended)["t"];
        assert_eq!(result.text("b").len(), 500_000);
        assert!(result.text("a").starts_with(&at.to_string()));
    }
}
