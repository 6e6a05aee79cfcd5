//! What limits a run, and what its client does to it: cancels, pauses, waits.

use super::*;
use crate::agents::{
    plans::{has as has_assignments, report},
    registry::register,
};

#[tokio::test]
async fn step_and_execution_timeouts_stop_running_work() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let mut step = call("slow", json!({"hold": true}));
    step["timeout_seconds"] = 1.into();
    let bad = run(&server, json!({"s": step}), json!({})).await;
    has(failed_at(&bad, "s"), "timeout_seconds 1");
    assert!(bad["step_states"]["s"]["execution_time"].as_f64().unwrap() >= 1.0);

    let held = json!({"name": "n", "steps": {"s": call("held", json!({"hold": true}))}, "max_execution_time": 1});
    let workflow = server.post("/api/v1/agents/workflows", held).await.ok();
    let run = server.execute(workflow.text("id"), json!({})).await;
    let bad = server.ended(run.text("id")).await;
    assert_eq!((&bad["status"], &bad["failed_step"]), (&json!("failed"), &Value::Null));
    has(bad.text("error_message"), "max_execution_time 1: 1.");
    assert_eq!(bad["step_states"]["s"]["status"], "cancelled");
    let left = timeout(PATIENCE, async {
        while peer.under_way() > 0 {
            crate::harness::poll_interval().await;
        }
    });
    assert!(left.await.is_ok(), "the calls were given up");
}

#[tokio::test]
async fn step_budget_is_reserved_and_settled() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let chat = |others: &[&str]| {
        after(
            json!({"step_type": "inference", "action": {"kind": "http", "endpoint": "chat", "body": {"messages": 1}}}),
            others,
        )
    };
    let execute = async |steps: Value, budget: f64| {
        let workflow = server.workflow(steps).await;
        let path = format!("/api/v1/agents/workflows/{workflow}/execute?wait=20");
        server.post(&path, json!({"max_cost_budget": budget})).await.ok()
    };
    // Each may cost 0.51. Three side by side fit 1.6, none fits 0.5, and 1.1 stops before the third.
    let three = || json!({"a": chat(&[]), "b": chat(&[]), "c": chat(&[])});
    let good = execute(three(), 1.6).await;
    completed(&good);
    assert_eq!(good["total_cost"], 1.53);
    let bad = execute(three(), 0.5).await;
    has(bad.text("error_message"), "max_cost_budget 0.5: 0 is spent, and step \"a\" may cost 0.51");
    let before = peer.calls().len();
    let bad = execute(three(), 1.1).await;
    has(bad.text("error_message"), "max_cost_budget 1.1: 1.02 is spent, and step \"c\" may cost 0.51");
    assert_eq!((&bad["status"], &bad["total_cost"]), (&json!("failed"), &json!(1.02)));
    assert_eq!(peer.calls().len() - before, 2, "the third is not called");
    // Retrying does not lift the limit.
    let id = bad.text("id");
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    let bad = server.ended(id).await;
    has(bad.text("error_message"), "1.02 is spent");

    // What is measured may be more than what was set aside.
    let dear = server.restart_with(&[("COMPUTE_PRICE_PER_SECOND", "1000000")]).await;
    let workflow = dear.workflow(json!({"a": jq("[range(1000)] | add")})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute?wait=20");
    let bad = dear.post(&path, json!({"max_cost_budget": 0.5})).await.ok();
    has(bad.text("error_message"), "was spent");
    let spent = bad["total_cost"].as_f64().unwrap();
    has(bad.text("error_message"), &format!("max_cost_budget 0.5: {spent:.3}")[..24]);
    let id = bad.text("id");
    dear.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    assert_eq!(dear.ended(id).await["status"], "failed", "all its steps are done, and it spent too much still");
}

#[tokio::test]
async fn orders_without_a_price_share_what_is_left_of_the_budget() {
    let server = TestApp::start().await;
    let order = |more: &[&str]| {
        let action = json!({"kind": "agent", "task_type": "text_processing"});
        after(json!({"step_type": "inference", "action": action}), more)
    };
    let workflow = server.workflow(json!({"a": order(&[]), "b": order(&[]), "c": order(&[])})).await;
    register(&server, "dear", json!({"cost_per_hour": 1_000_000_000.0})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    let run = server.post(&path, json!({"max_cost_budget": 0.05})).await.ok();
    let id = run.text("id");
    // The first is offered all that is left beside its own price, the others wait until it is settled.
    let [one] = &has_assignments(&server, "dear", 1).await[..] else { unreachable!() };
    assert_eq!(one["max_price"], 0.04, "{one}");
    // Its time is counted from here.
    report(&server, one, "accept", json!({})).await.ok();
    report(&server, one, "result", json!({"result": {"x": 1}})).await.ok();
    let bad = server.ended(id).await;
    let failed = bad.text("failed_step").to_owned();
    has(failed_at(&bad, &failed), "max_cost_budget 0.05: ");
    has(bad.text("error_message"), "nothing is left");
    let spent = bad["total_cost"].as_f64().unwrap();
    assert!(spent > 0.01 && spent <= 0.05, "{bad}");
    // Nothing is left from the start.
    let bad = server.post(&format!("{path}?wait=20"), json!({"max_cost_budget": 0.01})).await.ok();
    has(bad.text("error_message"), "max_cost_budget 0.01: 0 is spent, and nothing is left for step");
}

#[tokio::test]
async fn failing_step_cancels_others_and_retry_keeps_results() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = json!({
        "first": call("first", json!({"value": 1})),
        "bad": after(call("bad", json!({"status": 400, "times": 1})), &["first"]),
        "beside": after(call("beside", json!({"hold": true})), &["first"]),
        "last": after(call("last", json!({"sum": "$.steps.first.output.value"})), &["bad", "beside"]),
    });
    let failed = run(&server, steps, json!({})).await;
    failed_at(&failed, "bad");
    let states = &failed["step_states"];
    assert_eq!(
        ["first", "bad", "beside", "last"].map(|key| states[key].text("status")),
        ["completed", "failed", "cancelled", "pending"]
    );
    peer.open();
    let id = failed.text("id");
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    let done = server.ended(id).await;
    assert_eq!(completed(&done)["last"], json!({"sum": 1, "id": "last"}));
    assert_eq!(["first", "bad", "last"].map(|id| peer.count(id)), [1, 2, 1], "what ended well is not called again");
    assert_eq!(done["total_cost"], 0.04);
    let events = events(&server, id, 1000).await;
    assert!(kinds(&events).contains(&"execution_retried"));
    let receipt = server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok();
    assert_eq!(receipt["verified"], true);
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.is(400);
}

#[tokio::test]
async fn cancel_stops_running_steps_and_waiting_executions() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 1).start().await;
    let workflow = server.workflow(json!({"s": call("s", json!({"hold": true}))})).await;
    let running = server.execute(&workflow, json!({})).await;
    peer.called(1).await;
    let waiting = server.execute(&workflow, json!({})).await;
    let (running, waiting) = (running.text("id"), waiting.text("id"));
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{waiting}")).await.ok()["status"], "pending");

    let cancel = async |id: &str| server.post(&format!("/api/v1/agents/executions/{id}/cancel"), json!({})).await;
    assert_eq!(cancel(waiting).await.ok()["status"], "cancelled");
    assert_eq!(cancel(running).await.ok()["status"], "cancelled");
    let gone = timeout(PATIENCE, async {
        while peer.under_way() > 0 {
            crate::harness::poll_interval().await;
        }
    });
    assert!(gone.await.is_ok(), "the call was given up");
    cancel(running).await.is(400);
    // The place is free, and what was cancelled before its start does not take it.
    peer.open();
    let next = server.execute(&workflow, json!({})).await;
    completed(&server.ended(next.text("id")).await);
    assert_eq!(peer.calls().len(), 2);
    for id in [running, waiting] {
        let document = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
        assert_eq!(document["step_states"]["s"]["status"], "cancelled");
        let events = events(&server, id, 1000).await;
        assert_eq!(kinds(&events).last(), Some(&"execution_cancelled"));
        let receipt = server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await;
        assert!(receipt.status.is_client_error(), "{receipt:?}");
    }
}

#[tokio::test]
async fn paused_execution_starts_no_step() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = json!({"a": call("a", json!({"hold": true})), "b": after(call("b", json!({})), &["a"])});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run.text("id");
    peer.called(1).await;
    let change = |what: &str| format!("/api/v1/agents/executions/{id}/{what}");
    server.post(&change("pause"), json!({})).await.ok();
    server.post(&change("pause"), json!({})).await.is(400);
    peer.open();
    // What was under way ends.
    let paused = server.until(id, |run| run["step_states"]["a"]["status"] == "completed").await;
    assert_eq!((&paused["paused"], &paused["status"]), (&json!(true), &json!("running")));
    let server = server.restart().await;
    let still = server.get(&format!("/api/v1/agents/executions/{id}?wait=1")).await.ok();
    assert_eq!((&still["status"], peer.count("b")), (&json!("running"), 0), "a pause outlives the process");
    server.post(&change("resume"), json!({})).await.ok();
    completed(&server.ended(id).await);
    assert_eq!((peer.count("a"), peer.count("b")), (1, 1));
    server.post(&change("resume"), json!({})).await.is(400);
    let events = events(&server, id, 1000).await;
    let kinds = kinds(&events);
    assert!(kinds.contains(&"execution_paused") && kinds.contains(&"execution_resumed"), "{kinds:?}");
}

#[tokio::test]
async fn execute_wait_ends_at_timeout_end_or_shutdown() {
    let peer = Peer::start();
    let mut server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let workflow = server.workflow(json!({"s": call("s", json!({"hold": true}))})).await;
    let execute = format!("/api/v1/agents/workflows/{workflow}/execute");
    let began = Instant::now();
    let run = server.post(&format!("{execute}?wait=0.3"), json!({})).await.ok();
    assert_eq!(run["status"], "running");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let status = format!("/api/v1/agents/executions/{}/status", run.text("id"));
    let began = Instant::now();
    let patient = format!("{status}?wait=30");
    let (waited, ()) = tokio::join!(server.get(&patient), async {
        peer.called(1).await;
        peer.open();
    });
    completed(&waited.ok());
    assert!(began.elapsed() < Duration::from_secs(20), "it is answered at the end, not at the time's");
    for bad in ["-1", "x", "NaN", "1e400"] {
        server.get(&format!("{status}?wait={bad}")).await.is(422);
    }
    // A service that stops answers who waits as soon as it lets the run go.
    peer.shut();
    let run = server.post(&execute, json!({})).await.ok();
    peer.called(2).await;
    let id = run.text("id");
    server.post(&format!("/api/v1/agents/executions/{id}/pause"), json!({})).await.ok();
    let waiting = server.request(Method::GET, &format!("/api/v1/agents/executions/{id}?wait=30"));
    let waiting = tokio::spawn(Answer::of(waiting));
    let in_flight = timeout(PATIENCE, async {
        while !server.get("/metrics").await.text.contains("http_requests_in_flight 2") {
            crate::harness::poll_interval().await;
        }
    });
    assert!(in_flight.await.is_ok(), "it waits, beside the one that asks for the metrics");
    let began = Instant::now();
    server.signal("TERM");
    peer.open();
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap().ok()["status"].is_string());
    assert!(server.wait().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn setting_the_wall_clock_changes_no_duration() {
    let peer = Peer::start();
    let server = with(&peer).await;
    for (round, jump) in [3600, -3600].into_iter().enumerate() {
        let held = call(&format!("held{round}"), json!({"hold": true}));
        let body = json!({"name": "n", "steps": {"s": held, "t": after(jq("1"), &["s"])}, "max_execution_time": 30});
        let workflow = server.post("/api/v1/agents/workflows", body).await.ok();
        peer.shut();
        let run = server.execute(workflow.text("id"), json!({})).await;
        peer.called(round + 1).await;
        server.clock().jump(jump);
        peer.open();
        let ended = server.ended(run.text("id")).await;
        completed(&ended);
        for seconds in [&ended["total_execution_time"], &ended["step_states"]["s"]["execution_time"]] {
            assert!((0.0..25.0).contains(&seconds.as_f64().unwrap()), "after {jump} s: {ended}");
        }
        let times = ["started_at", "completed_at"].map(|member| ended["step_states"]["t"].text(member).to_owned());
        assert!(times[0] <= times[1] && ended.text("started_at") <= times[0].as_str(), "{ended}");
    }
    // Between two drivers of one run nobody knows how much time has passed, but it does not go back.
    let steps = json!({"a": call("before", json!({})), "b": after(call("later", json!({"hold": true})), &["a"])});
    let workflow = server.workflow(steps).await;
    peer.shut();
    let run = server.execute(&workflow, json!({})).await;
    peer.called(4).await;
    let path = format!("/api/v1/agents/executions/{}", run.text("id"));
    server.post(&format!("{path}/pause"), json!({})).await.ok();
    peer.open();
    server.until(run.text("id"), |run| run["step_states"]["b"]["status"] == "completed" || run["paused"] == true).await;
    server.clock().jump(-3600);
    server.post(&format!("{path}/resume"), json!({})).await.ok();
    let ended = server.ended(run.text("id")).await;
    completed(&ended);
    assert!((0.0..25.0).contains(&ended["total_execution_time"].as_f64().unwrap()), "{ended}");
}

#[tokio::test]
async fn name_that_is_gone_concerns_only_steps_to_begin() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let start = async |steps: Value| {
        let workflow = server.workflow(steps).await;
        let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
        server.until(&id, |run| run["step_states"]["b"]["job_id"].is_string()).await;
        id
    };
    let steps = || json!({"a": call("a", json!({})), "b": after(crate::kit::waiting(), &["a"])});
    let without = start(steps()).await;
    let mut more = steps();
    more["c"] = after(call("c", json!({})), &["b"]);
    let with_another = start(more).await;

    let server = server.restart_with(&[("HTTP_ENDPOINTS", "{}")]).await;
    let done = "UPDATE job SET state = 'COMPLETED', result = '{\"text\": \"x\"}'";
    crate::kit::sql(&server.database(), done).await;
    completed(&server.ended(&without).await);
    has(failed_at(&server.ended(&with_another).await, "c"), "no longer configured");

    let server = server.restart_with(&[("HTTP_ENDPOINTS", &peer.endpoints())]).await;
    server.post(&format!("/api/v1/agents/executions/{with_another}/retry"), json!({})).await.ok();
    completed(&server.ended(&with_another).await);
    assert_eq!((peer.count("a"), peer.count("c")), (2, 1), "what has ended is not called again");
}

#[tokio::test]
async fn failure_ends_a_pause() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let workflow = server.workflow(json!({"a": call("held", json!({"hold": true, "status": 400}))})).await;
    let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
    peer.called(1).await;
    server.post(&format!("/api/v1/agents/executions/{id}/pause"), json!({})).await.ok();
    peer.open();
    let failed = server.ended(&id).await;
    assert_eq!((&failed["status"], &failed["paused"]), (&json!("failed"), &json!(false)));
    let listed = server.get("/api/v1/agents/executions").await.ok();
    assert_eq!(listed[0]["paused"], false);
}

#[tokio::test]
async fn execution_shows_its_inputs_and_promises_no_end_without_a_miner() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": crate::kit::waiting()})).await;
    let inputs = json!({"prompt": "hello", "n": [1, null]});
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    let started = server.post(&path, json!({"inputs": inputs})).await.ok();
    assert_eq!(started["inputs"], inputs);
    let id = started.text("id");
    server.until(id, |run| run["step_states"]["a"]["job_id"].is_string()).await;
    let seen = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
    assert_eq!((&seen["inputs"], &seen["estimated_completion"]), (&inputs, &Value::Null));
    assert_eq!((&seen["estimated_total_cost"], &seen["waiting_for"]["kind"]), (&Value::Null, &json!("miner")));
    crate::kit::sql(&server.database(), "UPDATE job SET state = 'RUNNING', assigned_miner_id = 'm'").await;
    let seen = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
    assert!(seen["estimated_completion"].is_string(), "a miner has it: {seen}");
    assert_eq!(server.get("/api/v1/agents/executions").await.ok()[0]["inputs"], Value::Null);
}

#[tokio::test]
async fn failed_execution_leaves_a_line_in_the_log() {
    let server = TestApp::start().await;
    let bad = run(&server, json!({"s": jq("error(\"a secret of mine\")")}), json!({})).await;
    server.logged("execution failed").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("execution failed")).unwrap();
    for word in ["WARN", bad.text("id"), bad.text("workflow_id"), "\"jq\"", "\"s\""] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(!line.contains("a secret of mine"));
}

#[tokio::test]
async fn retry_with_the_current_definition_keeps_what_is_the_same() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = |program: &str, more: bool| {
        let mut steps = json!({
            "a": call("a", json!({})),
            "b": after(jq(program), &["a"]),
            "c": after(call("c", json!({})), &["b"]),
        });
        if more {
            steps["d"] = after(call("d", json!({})), &["c"]);
        }
        steps
    };
    let workflow = server.workflow(steps("error(\"no\")", false)).await;
    let id = server.execute(&workflow, json!({"x": 1})).await.text("id").to_owned();
    assert_eq!(server.ended(&id).await["failed_step"], "b");
    let path = format!("/api/v1/agents/workflows/{workflow}");
    server.put(&path, json!({"steps": steps("{ok: true}", true)})).await.ok();
    let retry = format!("/api/v1/agents/executions/{id}/retry");
    server.post(&retry, json!({})).await.ok();
    assert_eq!(server.ended(&id).await["failed_step"], "b", "the snapshot's definition is the default");
    assert_eq!(server.post(&format!("{retry}?definition=newest"), json!({})).await.status, 422);

    let retried = server.post(&format!("{retry}?definition=current"), json!({})).await.ok();
    assert_eq!(retried["total_steps"], 4);
    let done = server.ended(&id).await;
    assert_eq!(completed(&done)["b"], json!({"ok": true}));
    assert_eq!((peer.count("a"), peer.count("c"), peer.count("d")), (1, 1, 1), "what is the same is kept");
    assert_eq!((&done["completed_steps"], &done["step_states"]["b"]["attempts"]), (&json!(4), &json!(3)));
    let receipt = server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok();
    assert_eq!(receipt["receipt"]["payload"]["steps"].as_array().unwrap().len(), 4);
    let logs = server.get(&format!("/api/v1/agents/executions/{id}/logs")).await.ok();
    assert_eq!(logs["step_logs"].as_array().unwrap().len(), 4);

    // A step that has ended and is another one now is done again, and so is what waited for it.
    let workflow = server.workflow(json!({"a": call("a2", json!({})), "b": after(jq("error(1)"), &["a"])})).await;
    let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
    server.ended(&id).await;
    let changed = json!({"a": call("a3", json!({})), "b": after(jq("1"), &["a"])});
    server.put(&format!("/api/v1/agents/workflows/{workflow}"), json!({"steps": changed})).await.ok();
    server.post(&format!("/api/v1/agents/executions/{id}/retry?definition=current"), json!({})).await.ok();
    completed(&server.ended(&id).await);
    assert_eq!((peer.count("a2"), peer.count("a3")), (1, 1));
    server.post(&format!("/api/v1/agents/executions/{id}/retry?definition=current"), json!({})).await.is(400);
}
