//! The audit log's keys and restored databases, with the processes and commands that an operator has.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, PATIENCE, Server, poll_interval},
    kit::{AGENTS, JsonDocument},
    operation::run_with,
};

const LOGS: &str = "/api/v1/agents/security/audit-logs";
const TREE: &str = "/api/v1/agents/security/audit-tree";
const OLD: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const NEW: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";

async fn head(server: &ApiClient) -> Value {
    server.get(&format!("{TREE}/head")).await.ok()
}

/// The keys of the log once so many have signed a head.
async fn keys_of(server: &ApiClient, count: usize) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let keys = server.get(&format!("{TREE}/keys")).await.ok();
        if keys.as_array().unwrap().len() == count {
            return keys;
        }
        assert!(std::time::Instant::now() < deadline, "not {count} keys: {keys}");
        poll_interval().await;
    }
}

/// Verify an export with this key alone.
fn verify(dir: &Path, export: &str, key: &str, more: &[&str]) -> (bool, Value) {
    let arguments = [&["verify-audit", "-", "--public-key", key], more].concat();
    let done = run_with(dir, &arguments, &[("DATA_DIR", ".")], export);
    (done.status.success(), serde_json::from_slice(&done.stdout).unwrap_or_default())
}

#[tokio::test]
async fn change_of_the_audit_key_is_signed_by_both_and_told() {
    let mut server = Server::builder().env("AUDIT_SIGNING_KEY_HEX", OLD).start().await;
    server.workflow(json!({"a": {"step_type": "custom"}})).await;
    assert!(server.terminate().success(), "the last entries are signed");
    let server = server.restart_with(&[]).await;
    let before = head(&server).await;
    let keys = keys_of(&server, 1).await;
    assert_eq!(keys[0].text("change"), "first", "{keys}");
    assert_eq!((&keys[0]["public_key"], &keys[0]["audit_id"]), (&before["public_key"], &Value::Null));

    // Another key alone signs nothing here.
    let (server, said) = refused_with(server, &[("AUDIT_SIGNING_KEY_HEX", NEW)]).await;
    assert!(said.contains("AUDIT_PREVIOUS_SIGNING_KEY_HEX"), "{said}");

    let rotated = [("AUDIT_SIGNING_KEY_HEX", NEW), ("AUDIT_PREVIOUS_SIGNING_KEY_HEX", OLD)];
    let server = server.restart_with(&rotated).await;
    server.workflow(json!({"a": {"step_type": "custom"}})).await;
    let keys = keys_of(&server, 2).await;
    assert_eq!(keys[1].text("change"), "rotated", "{keys}");
    assert!(keys[1]["first_size"].as_u64() > before["size"].as_u64(), "{keys}");
    let told = server.get(&format!("{LOGS}/{}", keys[1].text("audit_id"))).await.ok();
    assert_eq!(told["event_data"]["action"], "key_rotated", "{told}");
    // The old key may go now, and either key verifies the whole log.
    let server = server.restart_with(&[("AUDIT_PREVIOUS_SIGNING_KEY_HEX", "")]).await;
    let after = head(&server).await;
    assert_eq!(after["public_key"], keys[1]["public_key"]);
    let export = server.get(&format!("{LOGS}/export")).await.text;
    for key in keys.as_array().unwrap() {
        let (valid, report) = verify(server.dir(), &export, key.text("public_key"), &[]);
        assert!(valid && report["valid"] == true, "{report}");
    }
    let nobody = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
    assert!(!verify(server.dir(), &export, nobody, &[]).0, "a third key verifies nothing");
}

/// Stop, and start with these settings: it must not.
async fn refused_with(mut server: Server, env: &[(&str, &str)]) -> (Server, String) {
    assert!(server.terminate().success());
    let dir = server.dir().to_owned();
    let fixed = [("DATA_DIR", "."), ("APP_ENV", "dev"), ("APP_PORT", "0")];
    let done = run_with(&dir, &["serve"], &[&fixed, env].concat(), "");
    assert!(!done.status.success());
    (server, String::from_utf8_lossy(&done.stderr).into_owned())
}

#[tokio::test]
async fn restored_database_is_accepted_by_command() {
    let mut server = Server::start().await;
    server.workflow(json!({"a": {"step_type": "custom"}})).await;
    assert!(server.terminate().success());
    let (database, backup) = (server.database(), server.dir().join("backup.db"));
    std::fs::copy(&database, &backup).unwrap();
    let mut server = server.restart_with(&[]).await;
    let kept = server.workflow(json!({"a": {"step_type": "custom"}})).await;
    assert!(server.terminate().success());
    let lost = std::fs::read_to_string(server.dir().join("audit-last-head.txt")).unwrap();
    std::fs::write(server.dir().join("lost.txt"), &lost).unwrap();

    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
    }
    std::fs::copy(&backup, &database).unwrap();
    let server = server.restart_with(&[]).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    let ready = loop {
        let ready = server.get("/health/ready").await;
        if ready.status == 503 {
            break ready.body;
        }
        assert!(std::time::Instant::now() < deadline, "what was restored is signed: {}", ready.text);
        poll_interval().await;
    };
    let check = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "audit_log").unwrap();
    assert_eq!(check["ok"], false, "{ready}");
    let before = head(&server).await;

    // While the service runs, as after a stop.
    let dir = server.dir().to_owned();
    let command = |arguments: &[&str]| run_with(&dir, arguments, &[("DATA_DIR", "."), ("APP_ENV", "dev")], "");
    assert!(!command(&["accept-audit-restore"]).status.success(), "it wants a reason");
    let done = command(&["accept-audit-restore", "--reason", "a test"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = String::from_utf8(done.stdout).unwrap();
    let server = server.restart_with(&[]).await;
    server.get("/health/ready").await.is(200);
    server.get(&format!("{AGENTS}/workflows/{kept}")).await.is(404);
    assert!(head(&server).await["size"].as_u64() > before["size"].as_u64());
    let entries = server.get(&format!("{LOGS}?event_type=workflow_updated")).await.ok();
    let told = entries.as_array().unwrap().iter().find(|entry| entry["event_data"]["action"] == "restored");
    assert_eq!(told.unwrap()["event_data"]["resource"], "audit_log");
    let export = server.get(&format!("{LOGS}/export")).await.text;
    std::fs::write(dir.join("first.txt"), printed).unwrap();
    let key = before.text("public_key").to_owned();
    let (valid, report) = verify(&dir, &export, &key, &["--checkpoint", "first.txt", "--checkpoint", "lost.txt"]);
    assert!(valid, "{report}");
    assert_eq!(report["lost_checkpoints"], 1, "{report}");
}
