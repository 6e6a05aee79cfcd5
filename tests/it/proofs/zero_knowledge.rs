//! Zero-knowledge proofs: made in the background, stored, exported and verified by others.

use serde_json::{Value, json};

use super::{ZK, asked, checks, completed, put_keys};
use crate::{
    harness::{ApiClient, TestApp},
    kit::{AGENTS, JsonDocument as _, jq},
    performance::{optimisation, tasks},
};

/// A proof once its background task has ended.
pub(super) async fn proved(server: &ApiClient, execution: &str) -> Value {
    let begun = asked(server, execution, "zero-knowledge").await;
    assert_eq!(begun["integration_status"], "in_progress", "{begun}");
    assert!(begun["workflow_verification"].is_null() && begun["completed_at"].is_null());
    let task = tasks::ended(server, server.key(), begun.text("task_id")).await;
    assert_eq!((&task["status"], &task["kind"]), (&json!("completed"), &json!("proof")), "{task}");
    server.get(&format!("{ZK}/{execution}")).await.ok()
}

fn file(name: &str, value: &Value) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_string().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn commitments_are_proved_and_verified_by_others() {
    let server = TestApp::start().await;
    put_keys(&server, "openings-v1-2x1");
    let mut step = jq(".x + 1");
    step["requires_proof"] = json!(true);
    let execution = completed(&server, json!({"a": step, "b": jq("\"swordfish\"")}), json!({"x": 3})).await;
    let proof = proved(&server, &execution).await;
    assert_eq!(
        (&proof["integration_status"], &proof["integration_errors"]),
        (&json!("success"), &json!([])),
        "{proof}"
    );
    assert!(checks(&proof, 0, "checks_passed").contains(&"proof"));
    let made = &proof["zk_proofs_generated"][0];
    assert_eq!(
        (&made["number"], &made["step"], &made["circuit"]),
        (&json!(0), &Value::Null, &json!("openings-v1-2x1"))
    );
    assert!(made["constraints"].as_u64().unwrap() > 3000 && made["proving_seconds"].as_f64().unwrap() > 0.0);
    assert!(made["setup"].text("trust").contains("sound only as far as that party"));
    assert_eq!(made["signals"][0], json!(["root", proof["workflow_proof"]["root"]]));
    assert!(!proof.to_string().contains("swordfish"), "values stay private");

    let export = server.get(&format!("{ZK}/{execution}/proofs/0")).await.ok();
    let key = server.get(&format!("{AGENTS}/receipts/keys")).await.ok()["keys"][0].text("public_key_hex").to_owned();
    let keys = [am_core::crypto::Ed25519PublicKey::from_hex(&key).unwrap()];
    let report = am_proofs::verify_files(&[file("document", &proof), file("export", &export)], &keys).unwrap();
    assert!(report.valid, "{report:?}");
    let three =
        [file("proof", &export["proof"]), file("public", &export["public"]), file("key", &export["verification_key"])];
    assert!(am_proofs::verify_files(&three, &[]).unwrap().valid);
    // The commitments of another execution are not these.
    let other = completed(&server, json!({"a": jq("1")}), json!({})).await;
    let other = proved(&server, &other).await;
    assert!(!am_proofs::verify_files(&[file("document", &other), file("export", &export)], &keys).unwrap().valid);

    let circuit = server.get(&format!("{ZK}/circuits/openings-v1-2x1")).await.ok();
    assert_eq!(
        (&circuit["key_sha256"], &circuit["verification_key"]),
        (&export["key_sha256"], &export["verification_key"])
    );
    let ask = json!({"circuit": "openings-v1-2x1", "proof": export["proof"], "public": export["public"]});
    assert_eq!(server.post(&format!("{ZK}/verify"), ask.clone()).await.ok()["valid"], true);
    let mut altered = ask;
    altered["public"][1] = json!("5");
    assert_eq!(server.post(&format!("{ZK}/verify"), altered).await.ok()["valid"], false);

    let stored = server.ended(&execution).await;
    assert_eq!(stored["verification_proof"]["verified"], true);
    assert_eq!(stored["verification_proof"]["proof"]["workflow_proof"]["root"], proof["workflow_proof"]["root"]);
    assert_eq!(stored["verification_proof"]["steps"]["a"]["proof"]["zk_proofs"], json!([0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn network_of_a_policy_is_proved() {
    let server = TestApp::start().await;
    put_keys(&server, "openings-v1-1x4");
    let name = optimisation::policy(&server, server.key(), "small").await;
    // The states of its environment have as many numbers as there are actions.
    let state = [0.0, 1.0, 0.0, 0.0];
    let steps = json!({"p": {"step_type": "inference", "input_mappings": {"state": state},
        "action": {"kind": "policy", "policy": name}}});
    let execution = completed(&server, steps, json!({})).await;
    // Without keys of its network the step's values are proved alone, and the answer says which keys are missing.
    let proof = proved(&server, &execution).await;
    let note = proof["verification_results"][0].text("note").to_owned();
    let circuit = note.split('`').nth(1).and_then(|command| command.split(' ').nth(2)).unwrap().to_owned();
    assert!(note.contains("there are no keys of policy-v1-") && circuit.starts_with("policy-v1-"), "{note}");
    put_keys(&server, &circuit);
    let proof = proved(&server, &execution).await;
    assert_eq!(proof["integration_status"], "success", "{proof}");
    let made = &proof["zk_proofs_generated"][1];
    assert_eq!((&made["step"], &made["circuit"]), (&json!("p"), &json!(circuit)));
    assert!(checks(&proof, 0, "checks_passed").contains(&"network_proof"));
    // Both proofs are about the same commitments.
    let committed = &proof["workflow_proof"]["commitments"][0];
    assert_eq!((&made["signals"][0][1], &made["signals"][1][1]), (&committed["input"], &committed["output"]));
    assert_eq!(committed["encoding"], "policy");
    let export = async |number: u8| server.get(&format!("{ZK}/{execution}/proofs/{number}")).await.ok();
    let files = [file("document", &proof), file("whole", &export(0).await), file("step", &export(1).await)];
    let report = am_proofs::verify_files(&files, &[]).unwrap();
    assert!(report.valid, "{report:?}");
}
