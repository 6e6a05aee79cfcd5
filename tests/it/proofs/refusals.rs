//! What is refused, with nothing begun.

use serde_json::{Value, json};

use super::{ZK, asked, completed, put_keys, some_proof};
use crate::{
    harness::TestApp,
    kit::{JsonDocument as _, jq, locations, waiting},
};

#[tokio::test]
async fn executions_that_cannot_be_proved_say_why() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let running = server.execute(&workflow, json!({})).await.text("execution_id").to_owned();
    let refused = server.post(&format!("{ZK}/{running}"), json!({})).await.is(400);
    assert_eq!(refused["code"], "invalid_state");
    server.post(&format!("{ZK}/exec_0000000000"), json!({})).await.is(404);
    let execution = completed(&server, json!({"a": jq("1"), "b": jq("2")}), json!({})).await;
    server.get(&format!("{ZK}/{execution}")).await.is(404);
    server.get(&format!("{ZK}/{execution}/proofs/0")).await.is(404);
    server.get(&format!("{ZK}/{execution}/proofs/x")).await.is(422);
    server.post(&format!("{ZK}/{execution}?verification_level=total"), json!({})).await.is(422);
    let refused = server.post(&format!("{ZK}/{execution}?verification_level=zero-knowledge"), json!({})).await.is(409);
    assert_eq!(refused["code"], "no_circuit_keys");
    assert!(refused.text("detail").contains("agent-management proof-keys openings-v1-2x1"), "{refused}");
    // A circuit for one step is too small for two.
    put_keys(&server, "openings-v1-1x1");
    server.post(&format!("{ZK}/{execution}?verification_level=zero-knowledge"), json!({})).await.is(409);
    let large = completed(&server, json!({"a": jq("[range(9000)]")}), json!({})).await;
    let refused = server.post(&format!("{ZK}/{large}?verification_level=zero-knowledge"), json!({})).await.is(409);
    assert_eq!(refused["code"], "not_provable", "{refused}");
    // Nothing was begun: there is no proof, and no task.
    server.get(&format!("{ZK}/{execution}")).await.is(404);
    let tasks = server.get(&format!("{}/tasks?kind=proof", crate::performance::PERFORMANCE)).await.ok();
    assert_eq!(tasks, json!([]));
    assert_eq!(asked(&server, &execution, "basic").await["integration_status"], "success");
}

#[tokio::test]
async fn what_is_no_proof_of_the_circuit_is_refused_by_its_member() {
    let server = TestApp::start().await;
    put_keys(&server, "openings-v1-1x1");
    put_keys(&server, "policy-v1-1-2");
    let (proof, public) = some_proof();
    let body =
        |circuit: &str, proof: &Value, public: &Value| json!({"circuit": circuit, "proof": proof, "public": public});
    let verify = format!("{ZK}/verify");
    let good = server.post(&verify, body("openings-v1-1x1", &proof, &public)).await.ok();
    assert_eq!((&good["valid"], &good["signals"][0][0]), (&json!(true), &json!("root")));
    // The other circuit has as many public signals.
    assert_eq!(server.post(&verify, body("policy-v1-1-2", &proof, &public)).await.ok()["valid"], false);
    server.post(&verify, body("openings-v1-9x1", &proof, &public)).await.is(404);
    server.post(&verify, body("no-circuit", &proof, &public)).await.is(422);
    let with = |document: &Value, pointer: &str, value: Value| {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let field = "21888242871839275222246405745257275088548364400416034343698204186575808495617";
    for (proof, public, member, reason) in [
        (with(&proof, "/pi_a/0", json!("5")), public.clone(), "proof", "not a point on the curve"),
        (with(&proof, "/pi_b/0/0", json!("5")), public.clone(), "proof", "not a point on the curve"),
        (with(&proof, "/pi_c/2", json!("0")), public.clone(), "proof", "infinity"),
        (with(&proof, "/pi_a/0", json!(5)), public.clone(), "proof", "text of digits"),
        (json!({}), public.clone(), "proof", "groth16"),
        (proof.clone(), with(&public, "/0", json!(field)), "public", "not below the modulus"),
        (proof.clone(), with(&public, "/0", json!("-1")), "public", "decimal"),
        (proof.clone(), json!(["1"]), "public", "public signals"),
        (proof.clone(), json!({}), "public", "list"),
    ] {
        let refused = server.post(&verify, body("openings-v1-1x1", &proof, &public)).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", member])], "{refused}");
        assert!(refused.to_string().contains(reason), "{reason}: {refused}");
    }
}
