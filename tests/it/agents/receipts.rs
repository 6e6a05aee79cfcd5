//! Receipts through HTTP: given for what ended well, checked by anybody.

use am_core::crypto::Signer;
use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, jq, json_fixture, waiting},
    redact::redacted,
};

const VERIFY: &str = "/api/v1/agents/receipts/verify";

async fn receipt(server: &ApiClient) -> Value {
    let id = server.workflow(json!({"a": jq("{x: 1.5, y: \"ü\"}"), "b": jq("[.]")})).await;
    let run = server.post(&format!("{AGENTS}/workflows/{id}/execute?wait=20"), json!({"inputs": {"n": 1}})).await.ok();
    server.get(&format!("{AGENTS}/executions/{}/receipt", run.text("id"))).await.ok()
}

#[tokio::test]
async fn receipt_describes_the_execution_and_verifies_in_every_form() {
    let key = "4c1f2ab09d7e63518f20c4d39be75a16083df1c7529ea64bb1d07e8f3c2590a6";
    let server = TestApp::builder().env("RECEIPT_SIGNING_KEY_HEX", key).start().await;
    let answer = receipt(&server).await;
    insta::assert_json_snapshot!("receipt", redacted(&answer));
    let keys = server.get(&format!("{AGENTS}/receipts/keys")).await.ok();
    insta::assert_json_snapshot!("receipt_keys", redacted(&keys));
    for form in [&answer, &answer["receipt"]] {
        let verdict = server.post(VERIFY, json!({"receipt": form})).await.ok();
        assert_eq!((&verdict["valid"], &verdict["reason"]), (&json!(true), &Value::Null), "{verdict}");
        assert_eq!(verdict["execution_id"], answer["execution_id"]);
        assert!(verdict["verified_members"].to_string().contains("/payload/total_cost"), "{verdict}");
    }
    let again = server.get(&format!("{AGENTS}/executions/{}/receipt", answer.text("execution_id"))).await.ok();
    assert_eq!(again, answer, "it is issued once");
}

#[tokio::test]
async fn changed_receipt_is_invalid() {
    let server = TestApp::start().await;
    let answer = receipt(&server).await;
    let good = answer["receipt"].clone();
    let mut forged = Vec::new();
    for member in answer.as_object().unwrap().keys() {
        forged.push(with(&answer, member, json!("changed")));
    }
    forged.extend([with(&answer, "note", json!("paid")), with(&good, "note", json!("paid"))]);
    for member in good["payload"].as_object().unwrap().keys() {
        let mut changed = good.clone();
        changed["payload"][member] = json!("changed");
        forged.push(changed);
        let mut cut = good.clone();
        cut["payload"].as_object_mut().unwrap().remove(member);
        forged.push(cut);
    }
    let mut added = good.clone();
    added["payload"]["more"] = json!(1);
    forged.push(added);
    for (member, value) in [
        ("alg", json!("none")),
        ("key_id", json!("AAAA")),
        ("sig", json!("AAAA")),
        ("sig", json!(null)),
        ("sig", json!(5)),
    ] {
        let mut changed = good.clone();
        changed["signature"][member] = value;
        forged.push(changed);
    }
    forged.extend([json!({}), json!([]), json!("x"), json!(null), json!({"signature": {}}), json!({"payload": {}})]);
    for receipt in forged {
        let verdict = server.post(VERIFY, json!({"receipt": receipt})).await.is(200);
        assert_eq!(verdict["valid"], false, "{receipt}");
        assert!(verdict["reason"].is_string(), "{verdict}");
    }
}

fn with(document: &Value, member: &str, value: Value) -> Value {
    let mut changed = document.clone();
    changed[member] = value;
    changed
}

#[tokio::test]
async fn receipt_with_a_name_given_twice_is_invalid() {
    let server = TestApp::start().await;
    let good = receipt(&server).await.to_string();
    for (first, second) in [
        ("\"total_cost\":", "\"total_cost\":0,\"total_cost\":"),
        ("\"step\":", "\"step\":\"z\",\"step\":"),
        ("\"status\":", "\"status\":\"failed\",\"status\":"),
    ] {
        let twice = good.replacen(first, second, 1);
        assert_ne!(twice, good);
        let request = server.request(reqwest::Method::POST, VERIFY).header("content-type", "application/json");
        let verdict = server.answer(request.body(format!("{{\"receipt\": {twice}}}"))).await.is(200);
        assert!(verdict["valid"] == false && verdict.text("reason").contains("twice"), "{verdict}");
    }
}

#[tokio::test]
async fn receipt_verification_accepts_another_issuers_key() {
    let server = TestApp::start().await;
    let signer = Signer::from_hex(&"4".repeat(63).chars().chain(['2']).collect::<String>()).unwrap();
    let payload = json!({"receipt_id": "r1", "units": 1.0, "note": null});
    let mut receipt = payload.clone();
    receipt["signature"] = serde_json::to_value(signer.sign(&payload)).unwrap();
    let verdict = server.post(VERIFY, json!({"receipt": receipt, "public_key": signer.public_key_hex()})).await.ok();
    assert_eq!(verdict["valid"], true, "{verdict}");
    assert_eq!(server.post(VERIFY, json!({"receipt": receipt})).await.ok()["valid"], false, "another's key");
    let bad = server.post(VERIFY, json!({"receipt": receipt, "public_key": "zz"})).await.is(422);
    assert_eq!(bad["detail"][0]["loc"], json!(["body", "public_key"]));
    assert_eq!(server.post(VERIFY, json!({})).await.is(422)["detail"][0]["loc"], json!(["body", "receipt"]));
    // The coordinator's own library made these.
    let vectors = json_fixture("vectors/receipts.json");
    for vector in vectors["vectors"].as_array().unwrap() {
        let mut receipt = vector["payload"].clone();
        receipt["signature"] = vector["signature"].clone();
        let body = json!({"receipt": receipt, "public_key": vectors["public_key_hex"]});
        let verdict = server.post(VERIFY, body).await.ok();
        assert_eq!(verdict["valid"], true, "{verdict}: {receipt}");
    }
}

#[tokio::test]
async fn unfinished_execution_has_no_receipt() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": waiting()})).await;
    let run = server.execute(&id, json!({})).await;
    let path = format!("{AGENTS}/executions/{}", run.text("id"));
    assert_eq!(server.get(&format!("{path}/receipt")).await.is(400)["code"], "invalid_state");
    server.post(&format!("{path}/cancel"), json!({})).await.ok();
    let refused = server.get(&format!("{path}/receipt")).await.is(400);
    assert!(refused.text("detail").contains("cancelled"), "{refused}");
    server.get(&format!("{AGENTS}/executions/exec_0000000000/receipt")).await.is(404);
}

#[tokio::test]
async fn receipt_signing_key_survives_restart_unless_configured() {
    let server = TestApp::start().await;
    let made = receipt(&server).await;
    let file = server.dir().join("receipt-signing-key.hex");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.log().contains("RECEIPT_SIGNING_KEY_HEX is not set"), "{}", server.log());
    assert!(!server.log().contains(std::fs::read_to_string(&file).unwrap().trim()));
    let server = server.restart().await;
    assert_eq!(server.post(VERIFY, json!({"receipt": made})).await.ok()["valid"], true);
    let hex = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";
    let server = server.restart_with(&[("RECEIPT_SIGNING_KEY_HEX", hex)]).await;
    assert!(!server.log().contains(hex));
    let keys = server.get(&format!("{AGENTS}/receipts/keys")).await.ok();
    assert_eq!(keys["keys"][0]["public_key_hex"], Signer::from_hex(hex).unwrap().public_key_hex());
    assert_eq!(server.post(VERIFY, json!({"receipt": made})).await.ok()["valid"], false, "signed by the key before");
}
