//! What a run leaves behind and carries along: its events, its definition, many of them at once.

use super::*;

/// (id, event, data) of each event of a stream, until it ends or `most` have come.
async fn stream(server: &ApiClient, execution: &str, last: Option<u64>, most: usize) -> Vec<(u64, String, Value)> {
    let path = format!("/api/v1/agents/executions/{execution}/events");
    let mut request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut response = request.send().await.unwrap().error_for_status().unwrap();
    let (mut text, mut events) = (String::new(), Vec::new());
    while events.len() < most {
        let Some(chunk) = timeout(PATIENCE, response.chunk()).await.expect("the stream stands still").unwrap() else {
            break;
        };
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            if !field("id: ").is_empty() {
                let data = serde_json::from_str(field("data: ")).unwrap();
                events.push((field("id: ").parse().unwrap(), field("event: ").to_owned(), data));
            }
            text = rest.to_owned();
        }
    }
    events.truncate(most);
    events
}

#[tokio::test]
async fn execution_event_stream_resumes_after_restart() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps =
        json!({"a": jq("."), "b": after(call("b", json!({"hold": true})), &["a"]), "c": after(jq("."), &["b"])});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run.text("id");
    peer.called(1).await;
    // a began and ended, b began: then the stream waits.
    let first = stream(&server, id, None, 4).await;
    let (rest, ()) = tokio::join!(stream(&server, id, Some(4), 100), async { peer.open() });
    let whole: Vec<Value> = first.iter().chain(&rest).map(|(_, _, data)| data.clone()).collect();
    assert_eq!(
        kinds(&whole),
        [
            "execution_started",
            "step_started",
            "step_completed",
            "step_started",
            "step_completed",
            "step_started",
            "step_completed",
            "execution_completed"
        ]
    );
    for (number, event, data) in first.iter().chain(&rest) {
        assert_eq!((&json!(number), &json!(event)), (&data["seq"], &data["type"]));
    }
    for limit in [1, 3, 1000] {
        assert_eq!(events(&server, id, limit).await, whole, "pages of {limit}");
    }
    let server = server.restart().await;
    let again = stream(&server, id, Some(5), 100).await;
    assert_eq!(again.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [6, 7, 8]);
    assert!(stream(&server, id, Some(8), 100).await.is_empty());
    assert!(stream(&server, id, Some(u64::MAX), 100).await.is_empty());
}

#[tokio::test]
async fn restarted_execution_keeps_its_definition() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = json!({"a": call("a", json!({"hold": true})), "b": after(jq("\"old\""), &["a"])});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run.text("id");
    peer.called(1).await;
    let path = format!("/api/v1/agents/workflows/{workflow}");
    server.put(&path, json!({"steps": {"a": jq("\"new\"")}})).await.ok();
    server.delete(&path).await.is(200);
    let server = server.restart().await;
    peer.open();
    let done = server.ended(id).await;
    assert_eq!(completed(&done)["b"], "old");
    server.get(&path).await.is(404);
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok()["verified"], true);
}

#[tokio::test]
async fn removed_endpoint_fails_the_execution_at_restart() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let job = json!({"step_type": "inference", "model_requirements": {"model": "llama-7b"}});
    let workflow = server.workflow(json!({"a": call("a", json!({"hold": true})), "j": job})).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run.text("id");
    peer.called(1).await;
    let begun = server.until(id, |run| run["step_states"]["j"]["job_id"].is_string()).await;
    let server = server.restart_with(&[("HTTP_ENDPOINTS", "{}")]).await;
    let failed = server.ended(id).await;
    assert_eq!(failed["status"], "failed");
    has(failed.text("error_message"), "\"peer\" is no longer configured");
    let states = &failed["step_states"];
    assert_eq!((&states["a"]["status"], &states["j"]["status"]), (&json!("failed"), &json!("cancelled")));
    let events = events(&server, id, 1000).await;
    assert_eq!(kinds(&events).last(), Some(&"execution_failed"));
    let job = server.get(&format!("/api/v1/services/jobs/{}", begun["step_states"]["j"].text("job_id"))).await.ok();
    assert_eq!(job["status"], "CANCELED");
}

#[tokio::test]
async fn active_executions_are_limited() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 8).start().await;
    let workflow = server.workflow(json!({"a": call("a", json!({})), "b": after(jq(".id"), &["a"])})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let request = server.request(Method::POST, &path).json(&json!({"inputs": {}}));
        runs.spawn(async move { Answer::of(request).await.ok().text("id").to_owned() });
    }
    let ids = runs.join_all().await;
    for id in &ids {
        completed(&server.ended(id).await);
    }
    assert_eq!(peer.calls().len(), 200);
    assert!(peer.most_at_once() <= 8, "{}", peer.most_at_once());
}

/// A browser that is answered 204 does not connect again.
#[tokio::test]
async fn an_ended_stream_has_nothing_after_its_last_event() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": {"step_type": "data_processing"}})).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run["execution_id"].as_str().unwrap();
    server.ended(id).await;
    let path = format!("/api/v1/agents/executions/{id}/events");
    let last = server.get(&format!("{path}?format=json")).await.ok()["next_after"].as_i64().unwrap();
    let resume = |after: i64| {
        let request = server.request(reqwest::Method::GET, &path).header("accept", "text/event-stream");
        server.answer(request.header("last-event-id", after))
    };
    let before = resume(last - 1).await;
    assert!(before.status == 200 && before.text.contains(&format!("id: {last}")), "{}", before.text);
    let after = resume(last).await;
    assert_eq!((after.status.as_u16(), after.text.as_str()), (204, ""));
}
