//! Commands in sandboxes as their users have them: what they are given and give back, the rules that hold for them, and
//! what can be seen of them.

use reqwest::Method;
use serde_json::{Value, json};

use super::{audited, command, gone, monitor, processes_with, python, run};
use crate::{
    harness::{Answer, ApiClient, CLIENT, OTHER_ADMIN, PATIENCE, Server},
    kit::{JsonDocument, ask, post_as, sql},
    peer::Peer,
};

const ISOLATION: &str = "bubblewrap namespaces, Landlock, seccomp";

fn create(execution: &str, level: &str) -> String {
    format!("/api/v1/agents/security/sandbox/{execution}/create?security_level={level}")
}

fn cleanup(execution: &str) -> String {
    format!("/api/v1/agents/security/sandbox/{execution}/cleanup")
}

#[tokio::test]
async fn command_step_takes_inputs_and_gives_output() {
    let server = Server::start().await;
    let sum = "import json, os, sys\nvalue = json.load(sys.stdin)\nopen('/workspace/kept', 'w').write('kept')\nprint(json.dumps({'sum': value['a'] + value['b'], 'nice': os.nice(0)}))";
    let read =
        "import os, sys\nprint(sys.argv[1], os.environ['WORD'], sys.stdin.read(), open('/workspace/kept').read())";
    let mut second = command(
        &["python", "-c", read, "$.steps.first.output.json.sum"],
        json!({"env": {"WORD": "$.inputs.word"}, "stdin": "text"}),
    );
    second["depends_on"] = json!(["first"]);
    let mut third = command(
        &["python3", "-c", "import sys; print('no', file=sys.stderr); sys.exit(3)"],
        json!({"allow_failure": true}),
    );
    third["depends_on"] = json!(["second"]);
    let steps = json!({"first": python(sum, json!({})), "second": second, "third": third});
    let ended = run(&server, steps, json!({"a": 2, "b": 3, "word": "hello"})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let results = &ended["final_result"]["step_results"];
    assert_eq!(results["first"]["json"], json!({"sum": 5, "nice": 10}), "the service goes first");
    assert_eq!(results["second"]["stdout"], "5 hello text kept\n", "steps share the workspace");
    assert_eq!((&results["third"]["exit_code"], &results["third"]["stderr"]), (&json!(3), &json!("no\n")));
    assert!(results["first"]["usage"]["memory_peak_bytes"].as_u64().unwrap() > 100_000);

    let id = ended.text("id");
    let logs = server.get(&format!("/api/v1/agents/executions/{id}/logs")).await.ok();
    assert!(logs["step_logs"][0]["memory_usage"].as_f64().unwrap() > 0.1, "{logs}");
    let seen = monitor(&server, id).await;
    assert_eq!((&seen["runs"], &seen["breaches"], &seen["status"]), (&json!(3), &json!(0), &json!("used")));
    assert_eq!((&seen["sandbox_type"], &seen["isolation"]), (&json!("process"), &json!(ISOLATION)));
    let made = audited(&server, id, "WORKFLOW_UPDATED").await;
    assert!(made.iter().any(|data| data["resource"] == "sandbox" && data["action"] == "created"), "{made:?}");

    let failed = run(&server, json!({"s": python("raise SystemExit('why')", json!({}))}), json!({})).await;
    assert!(failed.text("error_message").contains("status 1: why"), "{failed}");
    for (argv, why) in [(&["rm", "x"][..], "blocked"), (&["perl", "-e", "1"], "not among those allowed")] {
        let failed = run(&server, json!({"s": command(argv, json!({}))}), json!({})).await;
        assert!(failed.text("error_message").contains(why), "{failed}");
    }
    let bad = json!({"s": command(&["ls"], json!({"limits": {"memory_mb": 1}}))});
    let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": bad})).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "steps", "s", "action", "limits", "memory_mb"]));
}

#[tokio::test]
async fn step_hooks_run_in_its_sandbox() {
    let server = Server::start().await;
    let check = "import json, sys\nassert json.load(sys.stdin)['points'] >= 0, 'negative'\nopen('/workspace/order', 'a').write('before ')";
    let tell = "import json, sys\nprint(json.load(sys.stdin)['score'])\nopen('/workspace/order', 'a').write('after ')";
    let score = json!({
        "step_type": "data_processing",
        "action": {"kind": "jq", "program": "{score: (.points * 2)}"},
        "hooks": {"before": {"argv": ["python3", "-c", check]}, "after": {"argv": ["python3", "-c", tell]}},
    });
    let mut last = python(
        "import json, sys\nprint(json.dumps([json.load(sys.stdin), open('/workspace/order').read()]))",
        json!({}),
    );
    last["depends_on"] = json!(["score"]);
    let steps = json!({"score": score, "last": last});
    let ended = run(&server, steps.clone(), json!({"points": 4})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["total_steps"], 4);
    let results = ended["final_result"]["step_results"].as_object().unwrap();
    assert_eq!(results.keys().collect::<Vec<_>>(), ["score", "last"]);
    assert_eq!(results["last"]["json"], json!([{"score": 8}, "before after "]));
    let seen = monitor(&server, ended.text("id")).await;
    assert_eq!((&seen["runs"], &seen["breaches"]), (&json!(3), &json!(0)));

    let failed = run(&server, steps, json!({"points": -1})).await;
    assert_eq!((&failed["status"], &failed["step_states"]["score"]["status"]), (&json!("failed"), &json!("pending")));
    assert!(failed.text("error_message").contains("negative"), "{failed}");

    let spy = json!({"step_type": "custom", "hooks": {"before": {"argv": ["python3", "-c", "open('/etc/shadow')"]}}});
    let breach = run(&server, json!({"s": spy}), json!({})).await;
    assert!(breach.text("error_message").contains("sandbox breach"), "{breach}");
    for (hooks, path) in [
        (json!({"before": {"argv": []}}), json!(["body", "steps", "s", "hooks", "before", "argv"])),
        (
            json!({"after": {"argv": ["ls"], "max_retries": 101}}),
            json!(["body", "steps", "s", "hooks", "after", "max_retries"]),
        ),
        (json!({"during": {"argv": ["ls"]}}), json!(["body", "steps", "s", "hooks"])),
    ] {
        let steps = json!({"s": {"step_type": "custom", "hooks": hooks}});
        let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": steps})).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], path, "{refused}");
    }
}

/// An execution whose command begins when the peer lets it.
async fn held(server: &ApiClient, peer: &Peer, step: Value) -> String {
    let first = json!({"step_type": "custom", "action": {"kind": "http", "endpoint": "peer", "body": {"id": "gate", "hold": true}}});
    let mut step = step;
    step["depends_on"] = json!(["gate"]);
    let workflow = server.workflow(json!({"gate": first, "s": step})).await;
    let run = server.execute(&workflow, json!({})).await;
    peer.called(1).await;
    run.text("id").to_owned()
}

#[tokio::test]
async fn prepared_sandbox_limits_every_command() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let step = python("print(1)", json!({"requirements": {"allowed_commands": ["python"]}}));
    let execution = held(&server, &peer, step).await;

    let asked = json!({"memory_mb": 5000, "max_execution_time": 60, "cpu_cores": 1, "blocked_commands": ["python"]});
    let answer =
        server.request(Method::POST, &create(&execution, "confidential")).header("idempotency-key", "one").json(&asked);
    let made = Answer::of(answer.try_clone().unwrap()).await.ok();
    assert_eq!(made["sandbox_id"], format!("sandbox_{execution}"));
    assert_eq!((&made["sandbox_type"], &made["isolation"]), (&json!("docker"), &json!(ISOLATION)));
    let numbers =
        ["cpu_limit", "memory_limit", "disk_limit", "max_execution_time"].map(|name| made[name].as_f64().unwrap());
    assert_eq!(numbers, [4.0, 5000.0, 40960.0, 60.0]);
    assert_eq!(made["network_access"], true);
    let again = Answer::of(answer).await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &made));
    let entries = audited(&server, &execution, "WORKFLOW_UPDATED").await;
    assert_eq!(entries.iter().filter(|data| data["resource"] == "sandbox").count(), 1, "{entries:?}");

    peer.open();
    let ended = server.ended(&execution).await;
    assert!(ended.text("error_message").contains("blocked"), "{ended}");

    server.post(&create("exec_none", "public"), Value::Null).await.is(404);
    server.post(&create("..%2Fx", "public"), Value::Null).await.is(404);
    let bad = server.post(&create(&execution, "public"), json!({"memory_mb": "much"})).await.is(422);
    assert_eq!(bad["detail"][0]["loc"], json!(["body", "memory_mb"]));
    server.post(&create(&execution, "secret"), Value::Null).await.is(422);
    post_as(&server, CLIENT, &create(&execution, "public"), Value::Null).await.is(403);
    server.get("/api/v1/agents/security/sandbox/exec_none/monitor").await.is(404);
    // Another admin's execution is none.
    post_as(&server, OTHER_ADMIN, &create(&execution, "public"), Value::Null).await.is(404);
    post_as(&server, OTHER_ADMIN, &cleanup(&execution), Value::Null).await.is(404);
    let shown = format!("/api/v1/agents/security/sandbox/{execution}/monitor");
    ask(&server, Some(OTHER_ADMIN), Method::GET, &shown, None).await.is(404);
}

#[tokio::test]
async fn running_sandbox_is_shown_and_cleaned_up() {
    let server = Server::start().await;
    let word = format!("seen-{}", server.pid());
    let code = "open('/workspace/file', 'wb').write(b'x' * 100000)\nimport time\nwhile True: time.sleep(0.01)";
    let workflow = server.workflow(json!({"s": command(&["python3", "-c", code, &word], json!({}))})).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run.text("id");
    let deadline = std::time::Instant::now() + PATIENCE;
    let path = format!("/api/v1/agents/security/sandbox/{id}/monitor");
    let seen = loop {
        let answer = server.get(&path).await;
        let usage = &answer.body["running"][0];
        if usage["disk_bytes"].as_u64().is_some_and(|bytes| bytes > 90_000) && usage["processes"] == 1 {
            break answer.body;
        }
        assert!(std::time::Instant::now() < deadline, "{}", answer.text);
        crate::harness::poll_interval().await;
    };
    assert!(seen["resource_usage"]["memory_mb"].as_f64().unwrap() > 0.5, "{seen}");
    assert_eq!((&seen["command_count"], &seen["resource_usage"]["processes"]), (&json!(1), &json!(1)));

    let cleaned = server.post(&cleanup(id), Value::Null).await.ok();
    assert_eq!((&cleaned["status"], &cleaned["removed"]["files"]), (&json!("cleaned"), &json!(1)), "{cleaned}");
    assert!(
        cleaned["removed"]["bytes"].as_u64().unwrap() > 90_000
            && cleaned["removed"]["processes"].as_u64().unwrap() >= 1
    );
    gone(&word).await;
    assert!(!server.dir().join("sandboxes").join(id).exists());
    let ended = server.ended(id).await;
    assert!(ended.text("error_message").contains("cleaned up"), "{ended}");
    let entries = audited(&server, id, "WORKFLOW_UPDATED").await;
    assert!(entries.iter().any(|data| data["action"] == "cleaned" && data["removed"]["files"] == 1), "{entries:?}");
    assert_eq!(monitor(&server, id).await["status"], "cleaned", "what was measured stays on record");
    assert!(processes_with(&word).is_empty());
}

#[tokio::test]
async fn sandbox_network_reaches_listed_hosts_only() {
    let peer = Peer::start();
    let server = Server::builder().env("SANDBOX_PRIVATE_ADDRESSES", true).start().await;
    let port = server.port();
    let code = "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())";
    let fetch = |url: String, domain: &str| {
        let asked = json!({"allowed_domains": [domain], "allowed_ports": [port]});
        command(&["python3", "-c", code, &url], json!({"security_level": "internal", "requirements": asked}))
    };
    let health = format!("http://127.0.0.1:{port}/health");
    let ended = run(&server, json!({"s": fetch(health.clone(), "127.0.0.1")}), json!({})).await;
    assert_eq!(ended["final_result"]["step_results"]["s"]["json"]["status"], "healthy", "{ended}");
    // Another host's name, another port, and no proxy at all.
    let other = format!("http://127.0.0.1:{}/", peer.port());
    for (url, domain) in [(health.clone(), "example.org"), (other, "127.0.0.1")] {
        let ended = run(&server, json!({"s": fetch(url, domain)}), json!({})).await;
        assert!(
            ended.text("error_message").contains("sandbox breach: the command tried to reach 127.0.0.1"),
            "{ended}"
        );
        assert_eq!(audited(&server, ended.text("id"), "SANDBOX_BREACH").await.len(), 1);
    }
    assert!(peer.calls().is_empty());
    let straight = format!(
        "import socket\nfor kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n    try: socket.socket(socket.AF_INET, kind).connect(('127.0.0.1', {port})); print('through')\n    except OSError as error: print(error.strerror)"
    );
    let step = python(&straight, json!({"security_level": "internal"}));
    let ended = run(&server, json!({"s": step}), json!({})).await;
    let stdout = ended["final_result"]["step_results"]["s"].text("stdout");
    assert!(!stdout.contains("through") && stdout.lines().count() == 2, "{stdout}");
    drop(server);

    let server = Server::start().await;
    let health = format!("http://127.0.0.1:{}/health", server.port());
    let asked = json!({"allowed_domains": ["127.0.0.1"], "allowed_ports": [server.port()]});
    let step = command(&["python3", "-c", code, &health], json!({"security_level": "internal", "requirements": asked}));
    let ended = run(&server, json!({"s": step}), json!({})).await;
    assert!(ended.text("error_message").contains("sandbox breach"), "no private address: {ended}");
}

#[tokio::test]
async fn unsupported_sandbox_levels_are_refused() {
    let server = Server::start().await;
    let found = server.get("/api/v1/agents/security/sandbox/capabilities").await.ok();
    assert_eq!((&found["available"], &found["unenforced"]), (&json!(true), &json!([])), "{found}");
    let all = found["capabilities"].as_array().unwrap();
    assert!(all.len() >= 24 && all.iter().all(|one| one["enforced"] == true), "{found}");
    for one in all {
        for member in ["name", "by", "tested", "said"] {
            assert!(one[member].as_str().is_some_and(|text| !text.is_empty()), "{one}");
        }
    }
    let ended = run(&server, json!({"s": {"step_type": "custom"}}), json!({})).await;
    let execution = ended.text("id").to_owned();

    let server = server.restart_with(&[("SANDBOX_BUBBLEWRAP", "/nonexistent/bwrap")]).await;
    let found = server.get("/api/v1/agents/security/sandbox/capabilities").await.ok();
    assert_eq!((&found["available"], &found["isolation"]), (&json!(false), &json!("none")), "{found}");
    assert!(found.text("reason").contains("not installed"), "{found}");
    let refused = server.post(&create(&execution, "public"), Value::Null).await.is(503);
    assert_eq!(refused["code"], "sandbox_unenforced", "{refused}");
    let ended = run(&server, json!({"s": python("print(1)", json!({}))}), json!({})).await;
    assert!(ended.text("error_message").contains("bubblewrap"), "{ended}");
    assert_eq!(server.get("/health/ready").await.status, 200, "all else goes on");
}

#[tokio::test]
async fn sandbox_workspaces_are_removed_after_retention() {
    let server = Server::start().await;
    let ended =
        run(&server, json!({"s": python("open('/workspace/left', 'w').write('x')", json!({}))}), json!({})).await;
    let id = ended.text("id");
    let (own, lost) = (server.dir().join("sandboxes").join(id), server.dir().join("sandboxes/exec_lost"));
    std::fs::create_dir(&lost).unwrap();
    assert!(own.join("left").exists(), "for a while it stays");
    let server = server.restart_with(&[("SANDBOX_KEEP_HOURS", "0")]).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while own.exists() || lost.exists() || monitor(&server, id).await["status"] != "cleaned" {
        assert!(std::time::Instant::now() < deadline, "{own:?} or {lost:?} is still there");
        crate::harness::poll_interval().await;
    }
    let cleaned = audited(&server, id, "WORKFLOW_UPDATED").await;
    assert!(cleaned.iter().any(|data| data["action"] == "cleaned" && data["removed"]["files"] == 1), "{cleaned:?}");
}

/// Rules that the coordinator has written for an execution hold as those that were made here, and stay as they are.
#[tokio::test]
async fn coordinator_sandbox_rules_apply() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let execution = held(&server, &peer, python("print(1)", json!({"security_level": "restricted"}))).await;
    let row = format!(
        "INSERT INTO agent_sandbox_configs VALUES ('sandbox_{execution}', 'process', 'PUBLIC', 1.0, 64, 10, 0, '[\"node\"]', 'null', \
         '[\"/\", \"/etc\"]', NULL, '[]', '[]', '[]', 60, 30, 1, 0, 1, 1, 1, '2026-05-12 14:29:30.123456', '2026-05-12 14:29:30.123456')"
    );
    sql(&server.database(), &row).await;
    peer.open();
    let ended = server.ended(&execution).await;
    let error = ended.text("error_message");
    assert!(error.contains("not among those allowed in this sandbox: node"), "{ended}");
}
