//! Numbers come out as they were sent, or are refused.

use reqwest::Method;
use serde_json::{Value, json};

use am_core::crypto::sha256_hex;

use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, jq, locations, sql, waiting},
    messages::client::Socket,
};

async fn post_text(server: &ApiClient, path: &str, body: &str) -> Answer {
    let request = server.request(Method::POST, path).header("content-type", "application/json").body(body.to_owned());
    server.answer(request).await
}

#[tokio::test]
async fn number_that_would_not_be_kept_is_refused_wherever_clients_send_json() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq(".")})).await;
    let agent = "/api/v1/agent/messages";
    for (path, body, loc) in [
        (
            format!("{AGENTS}/workflows/{id}/execute"),
            r#"{"inputs": {"ids": [1, 18446744073709551616]}}"#,
            json!(["body", "inputs", "ids", 1]),
        ),
        (format!("{AGENTS}/workflows/{id}/execute"), r#"{"inputs": {"x": -1e400}}"#, json!(["body", "inputs", "x"])),
        (
            format!("{AGENTS}/workflows"),
            r#"{"name": "n", "steps": {"a": {"step_type": "custom", "input_mappings": {"x": -9223372036854775809}}}}"#,
            json!(["body", "steps", "a", "input_mappings", "x"]),
        ),
        (format!("{agent}/send"), r#"{"content": {"n": 99999999999999999999}}"#, json!(["body", "content", "n"])),
    ] {
        let refused = post_text(&server, &path, body).await.is(422);
        assert_eq!(locations(&refused), [loc], "{path}: {refused}");
    }
    assert_eq!(server.get(&format!("{AGENTS}/executions")).await.ok(), json!([]), "nothing was started");
    let mut socket = Socket::open(&server, "numbers").await;
    let frame = r#"{"type": "message", "payload": {"content": {"n": 99999999999999999999}, "recipient_id": "b"}}"#;
    socket.send_raw(frame.into()).await;
    let answer = socket.next().await;
    assert_eq!(answer["code"], "bad_frame", "{answer}");
    assert!(answer.text("detail").starts_with("payload.content.n: The number 99999999999999999999"), "{answer}");
}

#[tokio::test]
async fn receipt_has_the_hash_of_the_digits_that_were_sent() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq(".")})).await;
    let sent = r#"{"inputs": {"b": -9223372036854775808, "a": 18446744073709551615, "c": -0, "d": 1e5, "e": 0.10, "f": [1.0, -0.0]}}"#;
    let run = post_text(&server, &format!("{AGENTS}/workflows/{id}/execute?wait=20"), sent).await.ok();
    assert_eq!(run["status"], "completed", "{run}");
    let receipt = server.get(&format!("{AGENTS}/executions/{}/receipt", run.text("id"))).await.ok();
    // Python's json.dumps(json.loads(...), sort_keys=True, separators=(",", ":")).
    let python = r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":0,"d":100000.0,"e":0.1,"f":[1.0,-0.0]}"#;
    let payload = &receipt["receipt"]["payload"];
    let expected = json!(sha256_hex(python.as_bytes()));
    assert_eq!((&payload["inputs_sha256"], &payload["steps"][0]["output_sha256"]), (&expected, &expected), "{receipt}");
}

#[tokio::test]
async fn result_with_a_number_that_would_not_be_kept_fails_its_step() {
    let server = TestApp::start().await;
    let mut job = waiting();
    job["max_retries"] = 0.into();
    let id = server.workflow(json!({"j": job})).await;
    let run = server.execute(&id, json!({})).await;
    let begun = server.until(run.text("id"), |run| run["step_states"]["j"]["job_id"].is_string()).await;
    let change = r#"state = 'COMPLETED', result = '{"hashes": [7, 123456789012345678901234567890]}'"#;
    let job = begun["step_states"]["j"].text("job_id");
    sql(&server.database(), &format!("UPDATE job SET {change} WHERE id = '{job}'")).await;
    let failed = server.ended(run.text("id")).await;
    let words = "hashes.1: The number 123456789012345678901234567890 has more than 64 bits";
    assert!(failed.text("error_message").contains(words), "{failed}");

    let mut program = jq("{big: 99999999999999999999}");
    program["max_retries"] = 0.into();
    let id = server.workflow(json!({"a": program})).await;
    let failed: Value = server.ended(server.execute(&id, json!({})).await.text("id")).await;
    assert!(failed.text("error_message").contains("big: The number 99999999999999999999"), "{failed}");
}
