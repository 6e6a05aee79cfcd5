//! `status`, `runs`, `workflows` and `jobs`, as programs read them.

use serde_json::{Value, json};

use super::{ask_service, ask_with_input, begin, document, printed, said, without_key};
use crate::{
    harness::{ADMIN, CLIENT, ReservedPort, Server, TestApp},
    kit::{AGENTS, JsonDocument, jq, waiting},
    operation::run,
    redact::redacted,
};

/// The documents that a command printed, one to a line.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn status_tells_checks_counts_and_whether_it_is_ready() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let run_id = server.execute(&workflow, json!({})).await;
    server.until(run_id.text("id"), |run| run["step_states"]["a"]["job_id"].is_string()).await;
    let status = document(&ask_service(&server, &["status"]));
    assert_eq!((&status["health"]["status"], &status["ready"]["status"]), (&json!("healthy"), &json!("ready")));
    assert!(status["ready"]["checks"].as_array().is_some_and(|checks| checks.len() >= 5), "{status}");
    let counts = &status["counts"];
    let found = ["workflows", "runs_running", "runs_failed", "jobs_queued"].map(|name| counts[name].as_i64());
    assert_eq!(found, [Some(1), Some(1), Some(0), Some(1)], "{counts}");
    let open = document(&without_key(server.dir(), &server.url(""), &["status"]));
    assert_eq!((&open["counts"], &open["ready"]["status"]), (&Value::Null, &json!("ready")));

    let (dir, url) = (tempfile::tempdir().unwrap(), server.url(""));
    drop(server);
    let words = said(&without_key(dir.path(), &url, &["status"]), 1);
    assert!(words.contains("no answer from") && words.contains("--url or AGENT_MANAGEMENT_URL"), "{words}");
}

#[tokio::test]
async fn a_workflow_from_a_file_is_followed_to_its_end() {
    let server = TestApp::start().await;
    let steps = json!({
        "double": {"step_type": "data_processing", "input_mappings": {"n": "$.inputs.n", "who": "$.inputs.who"},
                   "action": {"kind": "jq", "program": "if .n < 0 then error(\"too small\") else {n: (.n * 2), who} end"}},
        "check": {"step_type": "verification", "depends_on": ["double"]},
    });
    let file = server.dir().join("workflow.json");
    std::fs::write(&file, json!({"name": "doubled", "steps": steps}).to_string()).unwrap();
    std::fs::write(server.dir().join("inputs.json"), r#"{"n": 1, "who": "file"}"#).unwrap();
    let run_file = ["workflows", "run", "workflow.json", "--follow", "--inputs", "inputs.json", "--input", "n=21"];
    let output = ask_service(&server, &run_file);
    let events = lines(&printed(&output, 0));
    let (ended, events) = events.split_last().unwrap();
    assert_eq!(
        (&ended["status"], &ended["inputs"]),
        (&json!("completed"), &json!({"n": 21, "who": "file"})),
        "{ended}"
    );
    assert_eq!(ended["final_result"]["step_results"]["double"], json!({"n": 42, "who": "file"}));
    let kinds: Vec<&str> = events.iter().map(|event| event.text("type")).collect();
    assert_eq!(
        kinds,
        [
            "execution_started",
            "step_started",
            "step_completed",
            "step_started",
            "step_completed",
            "execution_completed"
        ]
    );
    insta::assert_json_snapshot!("followed_events", redacted(&Value::Array(events.to_vec())));

    // The workflow that was made, by its id; a run that fails makes the command fail, and says why.
    let failed = ask_service(
        &server,
        &["workflows", "run", ended.text("workflow_id"), "--follow", "--input", "n=-1", "--input", "who=me"],
    );
    let words = said(&failed, 1);
    assert!(words.contains("failed: step double") && words.contains("too small"), "{words}");
    assert_eq!(lines(&printed(&failed, 1)).last().unwrap()["status"], "failed");
    // Without following it is started, and that is all.
    let started = document(&ask_service(
        &server,
        &["workflows", "run", ended.text("workflow_id"), "--input", "n=1", "--input", "who=5"],
    ));
    assert_eq!(server.ended(started.text("execution_id")).await["inputs"], json!({"n": 1, "who": 5}));
    // From standard input too.
    let text = std::fs::read_to_string(&file).unwrap();
    let piped =
        ask_with_input(&server, &["workflows", "run", "-", "--follow", "--input", "n=2", "--input", "who=me"], &text);
    assert_eq!(lines(&printed(&piped, 0)).last().unwrap()["status"], "completed");
}

#[tokio::test]
async fn lists_follow_pages_to_the_row_that_is_wanted() {
    let server = TestApp::start().await;
    for at in 0..503 {
        let body = json!({"name": format!("n{at}"), "steps": {"a": jq("1")}});
        server.post(&format!("{AGENTS}/workflows"), body).await.ok();
    }
    let names = |output: &std::process::Output| -> Vec<String> {
        document(output).as_array().unwrap().iter().map(|row| row.text("name").to_owned()).collect()
    };
    let all = names(&ask_service(&server, &["workflows", "list", "--all"]));
    let expected: Vec<String> = (0..503).rev().map(|at| format!("n{at}")).collect();
    assert_eq!(all, expected, "over two pages, each once, the newest first");
    assert_eq!(names(&ask_service(&server, &["workflows", "list"])), expected[..50]);
    assert_eq!(names(&ask_service(&server, &["workflows", "list", "--limit", "501"])), expected[..501]);
    let listed = document(&ask_service(&server, &["workflows", "list", "--limit", "10"]));
    let since = listed[6].text("created_at");
    assert_eq!(names(&ask_service(&server, &["workflows", "list", "--since", since])), expected[..7]);
    assert_eq!(names(&ask_service(&server, &["workflows", "list", "--all", "--since", "1h"])), expected);
    let shown = document(&ask_service(&server, &["workflows", "show", listed[0].text("id")]));
    assert_eq!((&shown["name"], &shown["steps"]["a"]["action"]["kind"]), (&json!("n502"), &json!("jq")));
}

#[tokio::test]
async fn runs_are_listed_retried_and_cancelled() {
    let server = TestApp::start().await;
    let bad = server.workflow(json!({"a": jq("error(\"no luck\")")})).await;
    let failed = server.execute(&bad, json!({})).await;
    let id = failed.text("id");
    server.ended(id).await;
    let long = server.workflow(json!({"a": waiting()})).await;
    let running = server.execute(&long, json!({})).await;
    let listed = document(&ask_service(&server, &["runs", "list", "--status", "failed"]));
    assert_eq!((listed.as_array().unwrap().len(), listed[0].text("execution_id")), (1, id));
    let several =
        document(&ask_service(&server, &["runs", "list", "--status", "failed,running,pending", "--since", "1h"]));
    assert_eq!(several.as_array().unwrap().len(), 2, "{several}");
    let by_workflow = document(&ask_service(&server, &["runs", "list", "--workflow", &long, "--since", "1d"]));
    assert_eq!((by_workflow.as_array().unwrap().len(), &by_workflow[0]["id"]), (1, &running["id"]));
    // Mended, and retried with what it is now.
    let body = json!({"name": "mended", "steps": {"a": jq("7")}});
    server.put(&format!("{AGENTS}/workflows/{bad}"), body).await.ok();
    let again = ask_service(&server, &["runs", "retry", id, "--follow"]);
    assert!(said(&again, 1).contains("no luck"));
    let mended = ask_service(&server, &["runs", "retry", id, "--definition", "current", "--follow"]);
    let ended = lines(&printed(&mended, 0)).pop().unwrap();
    assert_eq!((&ended["status"], &ended["final_result"]["step_results"]["a"]), (&json!("completed"), &json!(7)));
    // Each that can be cancelled is; the other is named.
    let cancelled = ask_service(&server, &["runs", "cancel", id, running.text("id")]);
    assert!(said(&cancelled, 1).contains(id));
    let answers: Value = serde_json::from_str(&printed(&cancelled, 1)).unwrap();
    assert_eq!((answers.as_array().unwrap().len(), &answers[0]["status"]), (1, &json!("cancelled")));
    assert_eq!(document(&ask_service(&server, &["runs", "show", running.text("id")]))["status"], "cancelled");
}

#[tokio::test]
async fn many_runs_are_retried_and_cancelled() {
    let server = TestApp::start().await;
    let bad = server.workflow(json!({"a": jq("error(\"no luck\")")})).await;
    let mut failed = Vec::new();
    for _ in 0..3 {
        let id = server.execute(&bad, json!({})).await.text("id").to_owned();
        server.ended(&id).await;
        failed.push(id);
    }
    let filter = ["runs", "retry-all", "--error-class", "jq", "--error-contains", "luck", "--since", "7d"];
    let counted = document(&ask_service(&server, &[&filter[..], &["--dry-run"]].concat()));
    assert_eq!(
        (&counted["count"], &counted["execution_ids"], &counted["operation"]),
        (&json!(3), &json!(failed), &Value::Null)
    );
    let older = document(&ask_service(&server, &["runs", "retry-all", "--before", "1h", "--dry-run"]));
    assert_eq!(older["count"], 0);
    server.put(&format!("{AGENTS}/workflows/{bad}"), json!({"name": "m", "steps": {"a": jq("7")}})).await.ok();
    let done = ask_service(&server, &[&filter[..], &["--definition", "current", "--follow"]].concat());
    let done = document(&done);
    assert_eq!(
        (&done["operation"]["status"], &done["operation"]["changed"]),
        (&json!("completed"), &json!(3)),
        "{done}"
    );
    for id in &failed {
        assert_eq!(server.ended(id).await["status"], "completed");
    }
    let long = server.workflow(json!({"a": waiting()})).await;
    let running = server.execute(&long, json!({})).await;
    let cancelled =
        ask_service(&server, &["runs", "cancel-all", "--workflow", &long, "--status", "pending,running", "--follow"]);
    assert_eq!(document(&cancelled)["operation"]["changed"], 1);
    assert_eq!(document(&ask_service(&server, &["runs", "show", running.text("id")]))["status"], "cancelled");
    // What the action can't change is refused, with the member's name.
    let refused = ask_service(&server, &["runs", "cancel-all", "--status", "failed"]);
    assert!(said(&refused, 1).contains("filter.status"), "{refused:?}");
}

#[tokio::test]
async fn jobs_are_listed_watched_and_cancelled() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let run = server.execute(&workflow, json!({})).await;
    let run = server.until(run.text("id"), |run| run["step_states"]["a"]["job_id"].is_string()).await;
    let job = run["step_states"]["a"].text("job_id");
    let listed = document(&ask_service(&server, &["jobs", "list", "--state", "QUEUED"]));
    assert_eq!((listed.as_array().unwrap().len(), listed[0].text("job_id")), (1, job));
    assert_eq!(document(&ask_service(&server, &["jobs", "list", "--service", "whisper"])), json!([]));
    assert_eq!(document(&ask_service(&server, &["jobs", "show", job]))["request"]["model"], "llama-7b");
    let watching = begin(&server, &["jobs", "watch", job]);
    assert_eq!(document(&ask_service(&server, &["jobs", "cancel", job]))["taken_back"], true);
    let watched = watching.wait_with_output().unwrap();
    assert!(said(&watched, 1).contains("is CANCELED"));
    assert_eq!(lines(&printed(&watched, 1)).last().unwrap()["status"], "CANCELED");
}

/// Whoever follows loses nothing when the server dies: each event comes once.
#[tokio::test]
async fn watching_goes_on_after_the_server_was_killed() {
    let port = ReservedPort::new();
    let server = Server::builder().env("APP_PORT", port.number()).start().await;
    let step = |after: &str, action: Value| json!({"step_type": "inference", "depends_on": [after], "action": action["action"]});
    let steps = json!({"a": jq("1"), "b": step("a", waiting())});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run.text("id").to_owned();
    server.until(&id, |run| run["step_states"]["b"]["job_id"].is_string()).await;
    let watching = begin(&server, &["runs", "watch", &id]);
    server.logged("executions/{execution_id}/events").await;
    let server = server.restart().await;
    printed(&ask_service(&server, &["runs", "cancel", &id]), 0);
    let watched = watching.wait_with_output().unwrap();
    assert!(said(&watched, 1).contains(&format!("execution {id} cancelled")));
    let events = lines(&printed(&watched, 1));
    let (ended, events) = events.split_last().unwrap();
    assert_eq!(ended["status"], "cancelled");
    let numbers: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=i64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["type"], "execution_cancelled");
}

#[tokio::test]
async fn refusals_are_the_apis_words_with_a_hint() {
    let server = TestApp::start().await;
    let (dir, url) = (server.dir(), server.url(""));
    let with_key = |key: &str, arguments: &[&str]| {
        run(dir, arguments, &[("AGENT_MANAGEMENT_URL", &url), ("AGENT_MANAGEMENT_KEY", key)])
    };
    for (output, words) in [
        (without_key(dir, &url, &["runs", "list"]), "set AGENT_MANAGEMENT_KEY"),
        (with_key("a-key-that-nobody-has", &["runs", "list"]), "unknown, revoked or expired"),
        (with_key(CLIENT, &["runs", "list"]), "a key of the role admin"),
        (with_key(ADMIN, &["runs", "show", "exec_none"]), "404 not_found"),
        (with_key(ADMIN, &["runs", "list", "--status", "dancing"]), "query.status"),
        (with_key(ADMIN, &["workflows", "run", "nowhere.json"]), "there is no file nowhere.json"),
    ] {
        let said = said(&output, 1);
        assert!(said.starts_with("agent-management: ") && said.contains(words), "{said}");
        assert!(!said.contains(ADMIN) && output.stdout.is_empty(), "{said}");
    }
    // Each fault of a workflow with its place.
    std::fs::write(dir.join("bad.json"), r#"{"name": "", "steps": {}}"#).unwrap();
    let words = said(&with_key(ADMIN, &["workflows", "run", "bad.json"]), 1);
    assert!(words.contains("422 validation_error\n  body.name: must have"), "{words}");
    for (arguments, status) in [
        (&["runs", "dance"][..], 2),
        (&["runs", "list", "--limit", "0"], 2),
        (&["runs", "list", "--since", "yesterday"], 2),
        (&["workflows", "run", "x", "--input", "novalue"], 2),
        (&["runs", "list", "--url", "no url"], 2),
    ] {
        assert_eq!(with_key(ADMIN, arguments).status.code(), Some(status), "{arguments:?}");
    }
    // A key from a file goes before the variable, and is the first line alone.
    std::fs::write(dir.join("key"), format!("{ADMIN}\nnot this\n")).unwrap();
    let from_file = with_key("a-key-that-nobody-has", &["runs", "list", "--key-file", "key"]);
    assert_eq!(document(&from_file), json!([]));
    assert!(said(&with_key(ADMIN, &["runs", "list", "--key-file", "none"]), 1).contains("none can't be read"));
}
