//! Proofs of executions: what each level checks, what is stored, what others verify, what is refused.

mod agreement;
mod command;
mod refusals;
mod required;
mod zero_knowledge;

use am_proofs::CircuitKeyStore;
use am_zk::{
    ValueOpening,
    circuits::{CircuitForm, CircuitWitness, OpeningsWitness, StepOpening},
    json_elements, prove, setup_alone,
    snarkjs::{proof_json, signals_json},
};
use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, TestApp},
    kit::{AGENTS, JsonDocument as _, jq, sql},
    peer::Peer,
};

/// Path of proofs.
pub const ZK: &str = "/api/v1/agents/integration/integrations/zk";

/// Bytes that are the same in each run.
pub fn entropy(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed;
    move |buffer: &mut [u8]| {
        for byte in buffer {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
    }
}

/// Give a service keys of a circuit.
pub fn put_keys(server: &ApiClient, circuit: &str) {
    let keys = setup_alone(&CircuitForm::parse(circuit).unwrap(), &mut entropy(7)).unwrap();
    CircuitKeyStore::new(server.dir().join("proof-keys")).put(&keys).unwrap();
}

/// A completed execution of these steps.
pub async fn completed(server: &ApiClient, steps: Value, inputs: Value) -> String {
    let workflow = server.workflow(steps).await;
    let execution = server.execute(&workflow, inputs).await.text("execution_id").to_owned();
    assert_eq!(server.ended(&execution).await["status"], "completed");
    execution
}

/// Ask for a proof.
pub async fn asked(server: &ApiClient, execution: &str, level: &str) -> Value {
    server.post(&format!("{ZK}/{execution}?verification_level={level}"), json!({})).await.ok()
}

/// A verification of a proof by keys that nobody has.
pub fn nowhere() -> Value {
    json!({"circuit": "openings-v1-1x1", "proof": {}, "public": []})
}

/// A proof of a circuit for one step, with its signals.
pub fn some_proof() -> (Value, Value) {
    let keys = setup_alone(&CircuitForm::parse("openings-v1-1x1").unwrap(), &mut entropy(7)).unwrap();
    let opening =
        |text: &[u8]| ValueOpening { elements: json_elements(text), salt: am_zk::random_element(&mut entropy(3)) };
    let steps = vec![StepOpening { input: opening(b"1"), output: opening(b"2") }];
    let witness = CircuitWitness::Openings { steps: 1, blocks: 1, witness: OpeningsWitness { steps } };
    let proof = prove(&keys, &witness, &mut entropy(4)).unwrap();
    (proof_json(&proof), signals_json(&proof.publics))
}

/// What to ask of a POST about proofs so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    if template.ends_with("/verify") {
        put_keys(server, "openings-v1-1x1");
        let (proof, public) = some_proof();
        return (format!("{ZK}/verify"), json!({"circuit": "openings-v1-1x1", "proof": proof, "public": public}));
    }
    let execution = completed(server, json!({"a": jq("1")}), json!({})).await;
    (format!("{ZK}/{execution}"), json!({}))
}

fn checks<'a>(proof: &'a Value, step: usize, list: &str) -> Vec<&'a str> {
    let found = proof["verification_results"][step][list].as_array().unwrap();
    found.iter().map(|check| check.as_str().unwrap()).collect()
}

#[tokio::test]
async fn basic_shows_each_step_in_the_receipt() {
    let server = TestApp::start().await;
    let steps = json!({"a": jq(".x + 1"), "b": {"step_type": "data_processing", "depends_on": ["a"],
        "action": {"kind": "jq", "program": ". * 2"}}});
    let execution = completed(&server, steps, json!({"x": 3})).await;
    let proof = asked(&server, &execution, "basic").await;
    assert_eq!((&proof["integration_status"], &proof["integration_errors"]), (&json!("success"), &json!([])));
    assert_eq!(
        proof["workflow_verification"],
        json!({"verified": true, "receipt_valid": true, "steps_verified": 2, "steps_total": 2})
    );
    assert_eq!(proof["zk_proofs_generated"], json!([]));
    assert!(proof["workflow_proof"]["root"].is_null() && proof["task_id"].is_null());
    assert_eq!(checks(&proof, 0, "checks_passed"), ["completed", "has_output", "no_error", "receipt_inclusion"]);
    assert_eq!(proof["verification_results"][1]["inclusion"]["leaf"]["step"], "b");
    assert_eq!(server.get(&format!("{ZK}/{execution}")).await.ok(), proof);

    // Others verify it with the receipts' key alone.
    let key = server.get(&format!("{AGENTS}/receipts/keys")).await.ok()["keys"][0].text("public_key_hex").to_owned();
    let keys = [am_core::crypto::Ed25519PublicKey::from_hex(&key).unwrap()];
    let file = |value: &Value| [("proof.json".to_owned(), value.to_string().into_bytes())];
    let report = am_proofs::verify_files(&file(&proof), &keys).unwrap();
    assert!(report.valid && report.not_verified.is_empty(), "{report:?}");
    for (pointer, other) in [
        ("/verification_results/0/inclusion/leaf/output_sha256", json!("00")),
        ("/workflow_proof/steps_root", json!("00".repeat(32))),
        ("/workflow_proof/statement/payload/execution_id", json!("exec_0000000000")),
        ("/execution_id", json!("exec_0000000000")),
    ] {
        let mut altered = proof.clone();
        *altered.pointer_mut(pointer).unwrap() = other;
        assert!(!am_proofs::verify_files(&file(&altered), &keys).unwrap().valid, "{pointer}");
    }
}

#[tokio::test]
async fn altered_rows_are_not_in_the_receipt() {
    let server = TestApp::start().await;
    let execution = completed(&server, json!({"a": jq("1"), "b": jq("2")}), json!({})).await;
    let alter = format!(
        "UPDATE agent_step_executions SET output_data = '3' WHERE execution_id = '{execution}' AND output_data = '2'"
    );
    sql(&server.database(), &alter).await;
    let proof = asked(&server, &execution, "full").await;
    assert_eq!(proof["integration_status"], "partial_success");
    assert_eq!(checks(&proof, 1, "checks_failed"), ["receipt_inclusion", "repeated"]);
    assert_eq!(proof["integration_errors"], json!([{"step": "b", "reason": "failed: receipt_inclusion, repeated"}]));
    assert!(proof["verification_results"][1].text("note").contains("SHA-256"));
    // It stands where the coordinator looks for it.
    let logs = server.get(&format!("{AGENTS}/executions/{execution}/logs")).await.ok();
    let status = |step: usize| logs["step_logs"][step]["verification_status"].clone();
    assert_eq!((status(0), status(1)), (json!("verified"), json!("failed")), "{logs}");
    let stored = server.ended(&execution).await;
    assert_eq!(stored["verification_proof"]["verified"], false);
    assert_eq!(stored["verification_proof"]["steps"]["b"]["checks_failed"], json!(["receipt_inclusion", "repeated"]));
    assert_eq!(stored["verification_proof"]["proof"]["proof_id"], proof["proof_id"]);
}

#[tokio::test]
async fn full_does_deterministic_steps_again() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let schema = json!({"type": "object", "required": ["x"]});
    let steps = json!({
        "program": jq(".x * 2"),
        "check": {"step_type": "verification", "action": {"kind": "check", "schema": schema, "assert": ".x > 0"}},
        "mapped": {"step_type": "data_processing", "action": {"kind": "jq", "program": "{y: .x}"}, "output_mappings": {"z": "$.output.y"}},
        "policy": {"step_type": "inference", "input_mappings": {"state": [0, 1, 2, 3, 4, 5, 6, 7, 8]},
            "action": {"kind": "policy", "policy": "marketplace-ppo"}},
        "same": {"step_type": "data_processing"},
        "call": {"step_type": "custom", "action": {"kind": "http", "endpoint": "peer", "body": {"id": "proved"}}},
    });
    let execution = completed(&server, steps, json!({"x": 3})).await;
    let proof = asked(&server, &execution, "full").await;
    assert_eq!(proof["integration_status"], "success", "{proof}");
    for step in 0..5 {
        assert!(checks(&proof, step, "checks_passed").contains(&"repeated"), "{}", proof["verification_results"][step]);
    }
    assert_eq!(checks(&proof, 5, "not_measured"), ["memory_usage", "repeated"]);
    assert_eq!(proof["verification_results"][5]["note"], "a step of kind http is not deterministic");
}

#[tokio::test]
async fn requires_proof_is_asked_for_at_every_level() {
    let server = TestApp::start().await;
    let mut step = jq("1");
    step["requires_proof"] = json!(true);
    let execution = completed(&server, json!({"a": step}), json!({})).await;
    let proof = asked(&server, &execution, "basic").await;
    assert_eq!(checks(&proof, 0, "checks_failed"), ["proof"]);
    assert_eq!(proof["integration_status"], "partial_success");
}
