//! The main job, once through: make a workflow, run it, lose the server, get the result, check the receipt offline.

use std::process::Command;

use serde_json::json;

use crate::harness::Server;
use crate::kit::JsonDocument;

#[tokio::test]
async fn workflow_runs_and_its_receipt_verifies_offline() {
    let server = Server::start().await;
    let id = server
        .workflow(json!({
            "a": {"step_type": "data_processing", "action": {"kind": "jq", "program": "{x: (.x + 1)}"}},
            "b": {"step_type": "inference", "depends_on": ["a"], "input_mappings": {"state": [1, 2, 3, 4, 5, 6, 7, 8, 9]},
                  "action": {"kind": "policy", "policy": "marketplace-ppo"}},
            "c": {"step_type": "verification", "depends_on": ["a", "b"]},
        }))
        .await;
    let path = format!("/api/v1/agents/workflows/{id}/execute?wait=10");
    let run = server.post(&path, json!({"workflow_id": id, "inputs": {"x": 41}})).await.ok();
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(run["final_result"]["step_results"]["a"], json!({"x": 42}));
    let server = server.restart().await;
    let execution = run.text("execution_id");
    let receipt = server.get(&format!("/api/v1/agents/executions/{execution}/receipt")).await.ok();
    assert_eq!(receipt["verified"], true);
    let keys = server.get("/api/v1/agents/receipts/keys").await.ok();
    let file = server.dir().join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_agent-management"))
        .arg("verify-receipt")
        .arg(&file)
        .args(["--public-key", keys["keys"][0].text("public_key_hex")])
        .status()
        .unwrap();
    assert!(check.success());
}

/// Without free files nothing can be accepted; as soon as there are some, it goes on.
#[tokio::test]
async fn exhausted_open_files_are_survived() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    use tokio::{io::AsyncWriteExt as _, net::TcpStream};
    let server = Server::start().await;
    let pid = Pid::from_raw(server.pid().cast_signed());
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + 20), maximum: Some(open + 20) };
    prlimit(pid, Resource::Nofile, few).unwrap();
    let mut halves = Vec::new();
    for _ in 0..60 {
        let mut half = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        half.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
        halves.push(half);
    }
    server.logged("no connection can be accepted").await;
    drop(halves);
    assert_eq!(server.get("/health").await.ok()["status"], "healthy");
}
