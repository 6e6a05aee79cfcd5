//! Endpoints that callers make over the API, and what they are told.

use am_webhooks::WebhookEventKind;

use super::*;
use crate::{
    harness::{ADMIN, CLIENT, OTHER_ADMIN, poll_interval},
    kit::{AGENTS, ask, get_as, jq, locations, post_as, waiting},
    services::SERVICES,
};

/// An application whose callers may make endpoints that lead here.
async fn start() -> TestApp {
    let builder = TestApp::builder().env("WEBHOOK_PRIVATE_ADDRESSES", true).env("AUDIT_SEAL_SECONDS", NO_HEAD_SECONDS);
    builder.env("AGENT_OFFLINE_SECONDS", 30).start().await
}

fn address(receiver: &Receiver) -> String {
    format!("http://127.0.0.1:{}/mine?token=t0ken", receiver.port)
}

async fn made(server: &ApiClient, key: &str, receiver: &Receiver, more: Value) -> Value {
    let mut body = json!({"url": address(receiver)});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post_as(server, key, WEBHOOKS, body).await.is(201)
}

/// The kinds of the calls, once `kind` has come.
async fn kinds_with(receiver: &Receiver, kind: &str) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let kinds: Vec<String> = receiver.bodies().iter().map(|body| body.text("type").to_owned()).collect();
        if kinds.iter().any(|found| found == kind) {
            return kinds;
        }
        assert!(Instant::now() < deadline, "{kind} never came: {kinds:?}");
        poll_interval().await;
    }
}

async fn execute_as(server: &ApiClient, key: &str, steps: Value, more: Value) -> String {
    let mut draft = json!({"name": "w", "steps": steps});
    draft.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let workflow = post_as(server, key, &format!("{AGENTS}/workflows"), draft).await.ok();
    let execute = format!("{AGENTS}/workflows/{}/execute?wait=20", workflow.text("id"));
    post_as(server, key, &execute, json!({})).await.ok().text("id").to_owned()
}

#[tokio::test]
async fn an_endpoint_is_told_of_its_owners_executions_only_and_signed_by_the_secret_shown_once() {
    let (mine, all) = (Receiver::start([]), Receiver::start([]));
    let server = start().await;
    let hook =
        made(&server, ADMIN, &mine, json!({"events": ["execution.completed", "execution.failed", "test"]})).await;
    let (name, secret) = (hook.text("name").to_owned(), hook.text("secret").to_owned());
    assert_eq!((&hook["scope"], &hook["url"]), (&json!("own"), &json!(format!("http://127.0.0.1:{}/mine", mine.port))));
    made(&server, OTHER_ADMIN, &all, json!({"scope": "all", "events": ["execution.completed"]})).await;

    let own = execute_as(&server, ADMIN, json!({"a": jq("1")}), json!({})).await;
    let theirs = execute_as(&server, OTHER_ADMIN, json!({"a": jq("2")}), json!({})).await;
    let bad = execute_as(&server, ADMIN, json!({"a": jq("error(\"a secret of mine\")")}), json!({})).await;
    kinds_with(&mine, "execution.failed").await;
    all.called(2).await;
    let told = |receiver: &Receiver| -> BTreeSet<String> {
        receiver.bodies().iter().map(|body| body["data"].text("execution_id").to_owned()).collect()
    };
    assert_eq!(told(&mine), BTreeSet::from([own.clone(), bad.clone()]));
    assert_eq!(told(&all), BTreeSet::from([own, theirs]));
    let failed = mine.bodies().into_iter().find(|body| body["type"] == "execution.failed").unwrap();
    assert_eq!((&failed["data"]["failed_step"], &failed["data"]["error_class"]), (&json!("a"), &json!("jq")));
    assert!(!failed.to_string().contains("a secret of mine"), "{failed}");

    // The secret signs, is shown in no other answer, and is the same after a restart.
    let server = server.restart().await;
    post_as(&server, ADMIN, &format!("{WEBHOOKS}/{name}/test"), json!({})).await.is(201);
    mine.called(3).await;
    for call in mine.book.calls.lock().unwrap().iter() {
        Webhook::new(&secret).unwrap().verify(&call.body, &call.headers).unwrap();
    }
    for path in [WEBHOOKS.to_owned(), format!("{WEBHOOKS}/{name}"), format!("{WEBHOOKS}/deliveries")] {
        let shown = get_as(&server, ADMIN, &path).await;
        assert!(!shown.text.contains(&secret) && !shown.text.contains("t0ken"), "{path}: {}", shown.text);
    }
    let stored = std::fs::read(server.database()).unwrap();
    assert!(!stored.windows(secret.len()).any(|window| window == secret.as_bytes()), "the database has no secret");
}

#[tokio::test]
async fn clients_see_and_use_their_own_endpoints_only() {
    let receiver = Receiver::start([]);
    let server = start().await;
    let hook = made(&server, CLIENT, &receiver, json!({})).await;
    let name = hook.text("name");
    let job = json!({"model": "llama-7b", "prompt": "hello"});
    let job = post_as(&server, CLIENT, &format!("{SERVICES}/llm/inference"), job).await.is(201);
    ask(&server, Some(CLIENT), reqwest::Method::DELETE, &format!("{SERVICES}/jobs/{}", job.text("job_id")), None).await;
    kinds_with(&receiver, "job.canceled").await;
    let deliveries = get_as(&server, CLIENT, &format!("{WEBHOOKS}/deliveries")).await.ok();
    let delivery = deliveries[0].text("id").to_owned();
    get_as(&server, CLIENT, &format!("{WEBHOOKS}/deliveries/{delivery}")).await.ok();
    assert_eq!(get_as(&server, CLIENT, WEBHOOKS).await.ok()[0]["name"], name);
    let miner = crate::harness::MINER;
    assert_eq!(get_as(&server, miner, WEBHOOKS).await.ok(), json!([]));
    assert_eq!(get_as(&server, miner, &format!("{WEBHOOKS}/deliveries")).await.ok(), json!([]));
    get_as(&server, miner, &format!("{WEBHOOKS}/{name}")).await.is(404);
    get_as(&server, miner, &format!("{WEBHOOKS}/deliveries/{delivery}")).await.is(404);
    post_as(&server, miner, &format!("{WEBHOOKS}/{name}/test"), json!({})).await.is(404);
    let delete = async |key: &str| {
        ask(&server, Some(key), reqwest::Method::DELETE, &format!("{WEBHOOKS}/{name}"), None).await.status.as_u16()
    };
    assert_eq!((delete(miner).await, delete(CLIENT).await, delete(CLIENT).await), (404, 204, 404));
    let audit = get_as(&server, ADMIN, &format!("{AGENTS}/security/audit-logs?limit=50")).await.ok();
    let told: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["event_data"]["resource"] == "webhook")
        .map(|entry| entry["event_data"].text("action"))
        .collect();
    assert_eq!(told, ["deleted", "created"]);
}

#[tokio::test]
async fn faults_of_an_endpoint_are_told_at_once_and_private_addresses_are_refused() {
    let server = TestApp::start().await;
    for (body, places) in [
        (json!({"url": "http://example.com/"}), vec![json!(["body", "url"])]),
        (json!({"url": "https://127.0.0.1/"}), vec![json!(["body", "url"])]),
        (json!({"url": "https://[::1]/"}), vec![json!(["body", "url"])]),
        (json!({"url": "https://user:secret@example.com/"}), vec![json!(["body", "url"])]),
        (
            json!({"url": "ftp://x", "events": ["execution.failed", "nothing"], "timeout_seconds": 0}),
            vec![json!(["body", "url"]), json!(["body", "timeout_seconds"]), json!(["body", "events", 1])],
        ),
        (json!({"url": "https://example.com/", "events": ["audit.head"]}), vec![json!(["body", "events", 0])]),
        (json!({"url": "https://example.com/", "secret": "mine"}), vec![json!(["body", "secret"])]),
    ] {
        let refused = server.post(WEBHOOKS, body.clone()).await.is(422);
        assert_eq!(locations(&refused), places, "{body}");
    }
    let all = json!({"url": "https://example.com/", "scope": "all"});
    post_as(&server, CLIENT, WEBHOOKS, all.clone()).await.is(403);
    for number in 0..10 {
        post_as(&server, CLIENT, WEBHOOKS, json!({"url": format!("https://example.com/{number}")})).await.is(201);
    }
    post_as(&server, CLIENT, WEBHOOKS, json!({"url": "https://example.com/one-more"})).await.is(409);
    server.post(WEBHOOKS, all).await.is(201);
}

#[tokio::test]
async fn plans_training_agents_and_budgets_are_told() {
    let receiver = Receiver::start([]);
    let server = start().await;
    made(&server, ADMIN, &receiver, json!({})).await;
    // A budget that is used up, a run that is cancelled, an agent that is taken offline, a plan that is never executed.
    let costly = json!({"step_type": "data_processing", "action": {"kind": "jq", "program": "1"}});
    let budget = execute_as(&server, ADMIN, json!({"a": costly}), json!({"max_cost_budget": 0.001})).await;
    let waits = execute_as_now(&server, json!({"w": waiting()})).await;
    server.post(&format!("{AGENTS}/executions/{waits}/cancel"), json!({})).await.ok();
    let run = server.post(&format!("{}/runs", crate::rl::RL), crate::rl::small(50_000_000)).await.is(201);
    server.post(&format!("{}/runs/{}/cancel", crate::rl::RL, run.text("id")), json!({})).await.ok();
    crate::agents::registry::register(&server, "alice", json!({"capabilities": ["io_bound"]})).await;
    server.post(&format!("{AGENTS}/registry/alice/offline"), json!({})).await.ok();
    let plan = crate::agents::plans::plan(&server, json!({"task_types": ["io_bound"]})).await;
    server.post(&format!("{AGENTS}/plans/{}/cancel", plan.text("id")), json!({})).await.ok();
    for kind in ["budget.exceeded", "execution.cancelled", "training.cancelled", "agent.offline", "plan.cancelled"] {
        kinds_with(&receiver, kind).await;
    }
    let bodies = receiver.bodies();
    let data = |kind: &str| bodies.iter().find(|body| body["type"] == kind).unwrap()["data"].clone();
    assert_eq!(data("budget.exceeded").text("execution_id"), budget);
    assert_eq!(data("training.cancelled").text("run_id"), run.text("id"));
    assert_eq!(data("agent.offline").text("agent_id"), "alice");
    assert_eq!(data("plan.cancelled").text("plan_id"), plan.text("id"));
}

#[tokio::test]
async fn both_parties_of_a_market_request_are_told() {
    use crate::marketplace::{act, open_market, pay, principal, request, request_for};
    let (client, provider, all) = (Receiver::start([]), Receiver::start([]), Receiver::start([]));
    let server = start().await;
    made(&server, CLIENT, &client, json!({})).await;
    made(&server, OTHER_ADMIN, &provider, json!({})).await;
    made(&server, ADMIN, &all, json!({"scope": "all", "events": ["market_request.paid"]})).await;
    let service = open_market(&server).await;
    let withdrawn = request(&server, CLIENT, request_for(&service, 3.0)).await;
    act(&server, CLIENT, &withdrawn, "cancel", json!({})).await.ok();
    let paid = request(&server, CLIENT, request_for(&service, 10.0)).await;
    pay(&server, OTHER_ADMIN, CLIENT, &paid).await;
    for receiver in [&client, &provider] {
        let deadline = Instant::now() + PATIENCE;
        while receiver.bodies().len() < 6 && Instant::now() < deadline {
            poll_interval().await;
        }
        let bodies = receiver.bodies();
        let of = |request: &Value| -> BTreeSet<&str> {
            let about = bodies.iter().filter(|body| body["data"]["request_id"] == request["id"]);
            about.map(|body| body.text("type").trim_start_matches("market_request.")).collect()
        };
        assert_eq!(of(&withdrawn), ["cancelled", "created"].into());
        assert_eq!(of(&paid), ["accepted", "completed", "created", "paid"].into());
        let told = bodies.iter().find(|body| body["type"] == "market_request.paid").unwrap()["data"].clone();
        assert_eq!((told.text("client_id"), told.text("provider_id")), (&*principal(CLIENT), &*principal(OTHER_ADMIN)));
        assert!(told["paid"].as_f64().unwrap() >= 2.0, "{told}");
    }
    kinds_with(&all, "market_request.paid").await;
    assert_eq!(all.bodies().len(), 1, "who sees all is told once");
}

async fn execute_as_now(server: &ApiClient, steps: Value) -> String {
    let workflow = server.workflow(steps).await;
    server.execute(&workflow, json!({})).await.text("id").to_owned()
}

#[test]
fn the_document_has_every_kind_of_event() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/API.md")).unwrap();
    let (_, table) = document.split_once("| kind (`type`) | when |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let first = |row: &str| row.split('|').nth(1).unwrap_or_default().to_owned();
    let named: BTreeSet<String> = table
        .lines()
        .map(first)
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let kinds: BTreeSet<String> = WebhookEventKind::ALL.iter().map(|kind| kind.word().to_owned()).collect();
    assert_eq!(named, kinds);
}
