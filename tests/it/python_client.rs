//! The client in Python, examples/python/walk.py, as its text says that it is used.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::{
    coordinator::python,
    harness::{ADMIN, ApiClient, PATIENCE, Server, TestApp},
    kit::{AGENTS, JsonDocument, jq},
};

fn walk(server: &ApiClient, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/walk.py")).args(arguments);
    command.current_dir(server.dir()).env("AGENT_MANAGEMENT_URL", server.url("")).env("AGENT_MANAGEMENT_KEY", ADMIN);
    command.env("AGENT_MANAGEMENT_BINARY", env!("CARGO_BIN_EXE_agent-management"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn printed(server: &ApiClient, arguments: &[&str]) -> String {
    let output = walk(server, arguments).output().unwrap();
    let (text, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{faults}");
    text.into_owned()
}

/// A process that ends with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_python_client_follows_a_workflow_and_repeats_failed_runs() {
    let server = TestApp::start().await;
    let text = printed(&server, &["follow", "20", "22"]);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "1 execution_started",
            "2 step_started add",
            "3 step_completed add",
            "4 step_started check",
            "5 step_completed check",
            "6 execution_completed",
            "sum: 42",
        ]
    );
    let workflow = server.workflow(json!({"a": jq("error(\"no luck\")")})).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = server.execute(&workflow, json!({})).await.text("id").to_owned();
        server.ended(&run).await;
        runs.push(run);
    }
    server
        .put(&format!("{AGENTS}/workflows/{workflow}"), json!({"name": "mended", "steps": {"a": jq("1")}}))
        .await
        .ok();
    let text = printed(&server, &["retry"]);
    for run in &runs {
        assert!(text.contains(&format!("{run} completed")), "{text}");
        assert_eq!(server.get(&format!("{AGENTS}/executions/{run}")).await.ok()["status"], "completed");
    }
    assert_eq!(printed(&server, &["retry"]), "", "none is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_agent_does_assignments_and_answers_sealed_messages() {
    let server = Server::start().await;
    let mut agent = walk(&server, &["agent", "adder"]).spawn().unwrap();
    let mut said = BufReader::new(agent.stdout.take().unwrap()).lines();
    let agent = Background(agent);
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    assert!(printed(&server, &["ask", "adder", "alice", "3", "4"]).contains("sum: 7.0"));
    let body = json!({
        "name": "sums", "strategy": "parallel", "sub_tasks": [{"key": "one", "task_type": "data_analysis"}],
        "inputs": {"numbers": [1, 2, 39]},
    });
    let plan = server.post(&format!("{AGENTS}/plans"), body).await.is(201);
    let run = server.post(&format!("{AGENTS}/plans/{}/execute", plan.text("id")), json!({})).await.ok();
    let ended = tokio::time::timeout(PATIENCE, server.ended(run.text("execution_id"))).await.unwrap();
    assert_eq!(
        (&ended["status"], &ended["final_result"]["step_results"]["one"]),
        (&json!("completed"), &json!({"sum": 42}))
    );
    let inbox = server.get(&format!("{AGENTS}/messages/history?sender_id=alice")).await.ok();
    assert!(!inbox.to_string().contains("numbers"), "what alice asks is sealed: {inbox}");
    drop(agent);
}
