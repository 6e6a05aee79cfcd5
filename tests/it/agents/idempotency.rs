//! `Idempotency-Key`: the same request again is answered as it was, and does nothing more.

use std::{collections::HashSet, time::Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{plans, registry};
use crate::{
    harness::{Answer, ApiClient, OTHER_ADMIN, PATIENCE, TestApp},
    kit::{AGENTS, JsonDocument, fixture, jq, operations, sql, waiting, webhook_to_nobody},
    marketplace::MARKET,
    rl,
    services::SERVICES,
};

/// Take a file instead of JSON, or an instance's token instead of a key; `rl/policies.rs`, `relations/records.rs` and
/// `deployment/calls.rs` try them.
pub(super) const UPLOADS: [&str; 3] = [
    "/api/v1/agents/performance/rl/policies/{name}/versions",
    "/api/v1/agents/{agent_id}/messages/import",
    "/api/v1/agents/integration/deployments/instances/{instance_id}/execute",
];

struct Case {
    template: String,
    path: String,
    body: Value,
    key: String,
    first: Option<Answer>,
}

async fn send(server: &ApiClient, path: &str, key: &str, body: &Value) -> Answer {
    Answer::of(server.request(Method::POST, path).header("idempotency-key", key).json(body)).await
}

/// What to ask of an operation so that it succeeds once. An operation that is not known here fails the test.
pub(super) async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let path = |id: &str| {
        let parts: Vec<&str> = template.split('/').map(|part| if part.starts_with('{') { id } else { part }).collect();
        parts.join("/")
    };
    let quick = || json!({"a": jq("1")});
    let execution = async |steps: Value| {
        let workflow = server.workflow(steps).await;
        server.execute(&workflow, json!({})).await.text("id").to_owned()
    };
    match template.strip_prefix(AGENTS).unwrap_or(template) {
        "/workflows" => (path(""), json!({"name": "once", "steps": quick()})),
        "/workflows/{workflow_id}/execute" => {
            (path(&server.workflow(quick()).await) + "?wait=20", json!({"inputs": {"n": 1}}))
        }
        "/workflows/{workflow_id}/cancel"
        | "/executions/{execution_id}/cancel"
        | "/executions/{execution_id}/pause" => (path(&execution(json!({"a": waiting()})).await), json!({})),
        "/executions/{execution_id}/resume" => {
            let id = execution(json!({"a": waiting()})).await;
            server.post(&format!("{AGENTS}/executions/{id}/pause"), json!({})).await.ok();
            (path(&id), json!({}))
        }
        "/executions/{execution_id}/retry" => {
            let id = execution(json!({"a": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"x\")"}}})).await;
            assert_eq!(server.ended(&id).await["status"], "failed");
            (path(&id) + "?wait=20", json!({}))
        }
        "/executions/retry" | "/executions/cancel" => (path(""), json!({"filter": {"workflow_id": "agent_00000000"}})),
        "/executions/operations/{operation_id}/cancel" => {
            let asked = json!({"filter": {"workflow_id": "agent_00000000"}});
            let begun = server.post(&format!("{AGENTS}/executions/retry"), asked).await.ok();
            (path(begun["operation"].text("id")), json!({}))
        }
        other if other.starts_with("/portfolios") => crate::portfolio::prepare(server, other).await,
        other if other.starts_with("/performance/optimization/") => {
            crate::performance::optimisation::prepare(server, other).await
        }
        other if other.starts_with("/performance/tasks/") => crate::performance::tasks::prepare(server, other).await,
        other if other.starts_with("/performance/profiles") => {
            crate::performance::profiles::prepare(server, other).await
        }
        other if other.starts_with("/performance/resources/") || other.starts_with("/performance/allocations/") => {
            crate::performance::resources::prepare(server, other).await
        }
        other if other.starts_with("/performance/suites") || other.starts_with("/performance/evaluations/") => {
            crate::performance::suites::prepare(server, other).await
        }
        other if other.starts_with("/performance/capabilities") => {
            crate::performance::capabilities::prepare(server, other).await
        }
        other if other.starts_with("/performance/meta-learning/") => {
            crate::performance::meta::prepare(server, other).await
        }
        other if other.starts_with("/integration/integrations/zk/") => crate::proofs::prepare(server, other).await,
        other if other.starts_with("/integration/") => crate::deployment::prepare(server, other).await,
        "/receipts/verify" => (path(""), json!({"receipt": {}})),
        "/networks" => (path(""), json!({"name": "once"})),
        "/networks/{network_id}/execute" | "/networks/{network_id}/optimize" => {
            let agent = server.workflow(quick()).await;
            let made = server.post(&format!("{AGENTS}/networks"), json!({"name": "n", "agents": [agent]})).await.ok();
            let wait = if template.ends_with("execute") { "?wait=20" } else { "" };
            (path(made.text("id")) + wait, json!({"task": {"x": 1}, "objective": "speed"}))
        }
        "/registry" => (path(""), json!({"agent_id": "once", "capabilities": ["io_bound"]})),
        "/registry/{agent_id}/heartbeat" | "/registry/{agent_id}/offline" | "/registry/{agent_id}/online" => {
            let id = format!("agent-{}", template.rsplit('/').next().unwrap());
            registry::register(server, &id, json!({"capabilities": ["io_bound"]})).await;
            if template.ends_with("online") {
                server.post(&format!("{}/{id}/offline", registry::REGISTRY), json!({})).await.ok();
            }
            (path(&id), json!({}))
        }
        "/plans" => (path(""), json!({"name": "once", "task_types": ["io_bound"]})),
        "/plans/{plan_id}/execute" | "/plans/{plan_id}/cancel" => {
            let (id, _) = assigned(server, !template.ends_with("execute")).await;
            (path(&id), json!({}))
        }
        "/plans/{plan_id}/retry" => {
            let (id, one) = assigned(server, true).await;
            plans::report(server, &one, "fail", json!({"error": "no", "retryable": false})).await.ok();
            let execution = one.text("execution_id");
            assert_eq!(server.ended(execution).await["status"], "failed");
            (path(&id), json!({}))
        }
        "/plans/assignments/{assignment_id}/accept"
        | "/plans/assignments/{assignment_id}/progress"
        | "/plans/assignments/{assignment_id}/result"
        | "/plans/assignments/{assignment_id}/fail" => {
            let (_, one) = assigned(server, true).await;
            let body = match template.rsplit('/').next().unwrap() {
                "progress" => json!({"attempt": one["attempt"], "progress": 5}),
                "result" => json!({"attempt": one["attempt"], "result": {"x": 1}}),
                "fail" => json!({"attempt": one["attempt"], "error": "no"}),
                _ => json!({"attempt": one["attempt"]}),
            };
            (path(one.text("assignment_id")), body)
        }
        "/{agent_id}/learning/enable" => (path("learner"), json!({"mode": "transfer"})),
        "/{agent_id}/learning/train" => {
            server.post(&format!("{AGENTS}/taught/learning/enable"), json!({})).await.ok();
            let row = json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0], "action": 1, "reward": 0.5});
            (path("taught"), json!({"feedback": [row], "epochs": 1}))
        }
        "/security/sandbox/{execution_id}/create" => (path(&execution(json!({"a": waiting()})).await), json!({})),
        "/security/sandbox/{execution_id}/cleanup" => {
            let id = execution(json!({"a": waiting()})).await;
            server.post(&format!("{AGENTS}/security/sandbox/{id}/create"), json!({})).await.ok();
            (path(&id), json!({}))
        }
        "/security/audit-logs" => (path(""), json!({"event_type": "step_failed"})),
        "/security/policies" => (path("") + "?name=once&description=d&security_level=restricted", json!({})),
        "/security/validate-workflow/{workflow_id}" => (path(&server.workflow(quick()).await), json!({})),
        "/security/webhooks" => (path(""), json!({"url": "https://example.com/hook", "events": ["test"]})),
        "/security/webhooks/{name}/test" => (path("ops"), json!({})),
        "/security/webhooks/deliveries/{id}/redeliver" => (path(&dead_delivery(server).await), json!({})),
        "/security/trust-scores/{entity_type}/{entity_id}/update" => {
            (format!("{AGENTS}/security/trust-scores/user/u1/update?execution_success=true"), json!({}))
        }
        "/security/executions/{execution_id}/security-monitor" => {
            let workflow = server.workflow(quick()).await;
            let run = server.execute(&workflow, json!({})).await.text("id").to_owned();
            server.ended(&run).await;
            (path(&run) + &format!("?workflow_id={workflow}"), json!({}))
        }
        "/ledger/deposits" => (path(""), json!({"owner": crate::ledger::principal_of(server.key()), "amount": 5})),
        "/ledger/withdrawals" => {
            crate::ledger::fund(server, 10).await;
            (path(""), json!({"owner": crate::ledger::principal_of(server.key()), "amount": "1.5"}))
        }
        "/ledger/transfers" => {
            crate::ledger::fund(server, 10).await;
            (path(""), json!({"to_purpose": "costs", "amount": 1}))
        }
        "/ledger/entries/{entry_id}/reverse" => (path(crate::ledger::fund(server, 10).await.text("id")), json!({})),
        "/ledger/holds" => {
            crate::ledger::fund(server, 10).await;
            (path(""), json!({"amount": 1, "reference": "r"}))
        }
        "/ledger/holds/{hold_id}/capture" => {
            let to = json!({"to_owner": crate::ledger::principal_of(crate::harness::CLIENT), "amount": 1});
            (path(&crate::ledger::held(server, 5).await), to)
        }
        "/ledger/holds/{hold_id}/release" => (path(&crate::ledger::held(server, 5).await), json!({})),
        "/ledger/budgets" => {
            (path(""), json!({"name": "once", "scope": "workflow", "subject": "agent_00000000", "limit": 5}))
        }
        "/register" => (path(""), json!({"agent_id": "listed-once", "capabilities": ["gpu", "io_bound"]})),
        "/discover" => (path(""), json!({"capabilities": ["gpu"]})),
        "/{agent_id}/heartbeat" | "/{agent_id}/deregister" => {
            let id = format!("listed-{}", template.rsplit('/').next().unwrap());
            server.post(&format!("{AGENTS}/register"), json!({"agent_id": id})).await.ok();
            (path(&id), json!({}))
        }
        other if other.starts_with("/creativity/") => crate::creativity::prepare(server, other).await,
        other if other.starts_with(MARKET) => crate::marketplace::prepare(server, other).await,
        other if other.starts_with(SERVICES) => crate::services::good(other),
        other if other.starts_with("/messages") || other.starts_with("/{agent_id}/") => talk(server, other, path).await,
        other => match other.strip_prefix("/performance/rl") {
            Some(rest) => policies(server, rest, path).await,
            None => panic!("POST {other} is not tried here: say how it is asked"),
        },
    }
}

/// A plan for an agent of its own, and what that was given once it is executed.
async fn assigned(server: &ApiClient, executed: bool) -> (String, Value) {
    let kind = format!("kind-{}", server.get(&format!("{}?limit=1", plans::PLANS)).await.header("x-total-count"));
    let own = json!({"agent_type": kind, "capabilities": ["audio_processing"]});
    registry::register(server, &kind, own).await;
    let sub_task = json!({"task_type": "audio_processing", "agent_type": kind});
    let plan = plans::plan(server, json!({"sub_tasks": [sub_task]})).await;
    let id = plan.text("id").to_owned();
    if !executed {
        return (id, Value::Null);
    }
    plans::execute(server, &plan).await;
    let one = plans::has(server, &kind, 1).await.remove(0);
    (id, one)
}

/// The same for messages and channels.
async fn talk(server: &ApiClient, template: &str, path: impl Fn(&str) -> String) -> (String, Value) {
    let content = || json!({"x": 1});
    let group = async || {
        let body = json!({"type": "group", "members": ["bob"]});
        let made = server.post(&format!("{AGENTS}/alice/channels"), body).await.is(201);
        format!("{AGENTS}/alice/channels/{}", made.text("channel_id"))
    };
    match template {
        "/messages/send" => (path(""), json!({"sender": "alice", "recipient": "bob", "content": content()})),
        "/messages/broadcast" => (path(""), json!({"sender": "alice", "topic": "t", "content": content()})),
        "/messages/id/{message_id}/read" => {
            let body = json!({"sender": "alice", "recipient": "bob", "content": content()});
            let sent = server.post(&format!("{AGENTS}/messages/send"), body).await.ok();
            (path(sent.text("message_id")), json!({}))
        }
        "/messages/subscribe" => (path(""), json!({"agent_id": "bob", "topic": "t", "filter": content()})),
        "/messages/unsubscribe" => {
            let body = json!({"agent_id": "bob", "topic": "gone"});
            server.post(&format!("{AGENTS}/messages/subscribe"), body.clone()).await.ok();
            (path(""), body)
        }
        "/{agent_id}/keys" => {
            let key = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8";
            (path("keyed"), json!({"kind": "x25519", "public_key": key}))
        }
        "/{agent_id}/contacts" => (path("alice"), json!({"contact_id": "dave"})),
        "/{agent_id}/blocks" => (path("alice"), json!({"blocked_id": "mallory"})),
        "/{agent_id}/authorizations" => (path("alice"), json!({"reason": "r"})),
        "/{agent_id}/templates" => (path("alice"), json!({"name": "once", "content": content()})),
        "/{agent_id}/templates/{template_id}/render" => {
            let variables = json!({"project_name": "p", "role_description": "r"});
            (format!("{AGENTS}/alice/templates/collaboration_invite/render"), json!({"variables": variables}))
        }
        "/{agent_id}/payments" => {
            let body = json!({"sender": "alice", "recipient": "bob", "content": content()});
            let sent = server.post(&format!("{AGENTS}/messages/send"), body).await.ok();
            (path("alice"), json!({"message_ids": [sent["message_id"]], "payment_status": "paid"}))
        }
        "/{agent_id}/channels" => (path("alice"), json!({"type": "group", "members": ["bob"]})),
        "/{agent_id}/channels/{channel_id}/members" => (group().await + "/members", json!({"agent_id": "carol"})),
        "/{agent_id}/channels/{channel_id}/messages" => (group().await + "/messages", json!({"content": content()})),
        other => panic!("POST {other} is not tried here: say how it is asked"),
    }
}

/// A call to nobody, given up.
async fn dead_delivery(server: &ApiClient) -> String {
    let webhooks = format!("{AGENTS}/security/webhooks");
    let made = server.post(&format!("{webhooks}/ops/test"), json!({})).await.ok();
    let id = made.text("id").to_owned();
    let deadline = std::time::Instant::now() + PATIENCE;
    while server.get(&format!("{webhooks}/deliveries/{id}")).await.ok()["state"] != "dead" {
        assert!(std::time::Instant::now() < deadline, "it was never given up");
        crate::harness::poll_interval().await;
    }
    id
}

/// The same for policies and their training.
async fn policies(server: &ApiClient, template: &str, path: impl Fn(&str) -> String) -> (String, Value) {
    // Trains for as long as the test lasts; what comes after it waits for its place.
    let queued = async || {
        let run = server.post(&format!("{}/runs", rl::RL), rl::small(50_000_000)).await.is(201);
        run.text("id").to_owned()
    };
    match template {
        "/policies/{name}/aliases/{alias}/rollback" | "/strategies/{strategy}/deploy" => {
            for _ in 0..2 {
                let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
                rl::upload(server, server.key(), "again/versions?aliases=again", weights).await.is(201);
            }
            let deploys = template.ends_with("deploy");
            if deploys { (path("pricing"), json!({"policy": "again"})) } else { (path("again"), json!({})) }
        }
        "/policies/{policy}/act" => {
            (path("marketplace-ppo"), json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0], "mode": "sample"}))
        }
        "/policies/{policy}/act/{call_id}/outcome" => {
            let act = format!("{}/policies/marketplace-ppo/act", rl::RL);
            let called = server.post(&act, json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0]})).await.ok();
            (format!("{act}/{}/outcome", called.text("call_id")), json!({"reward": 1.5}))
        }
        "/policies/{policy}/evaluate" => {
            (path("marketplace-ppo"), json!({"environment": "price_optimization", "episodes": 1}))
        }
        "/environments" => (path(""), rl::environments::walk("once")),
        "/runs" => (path(""), rl::small(64)),
        "/compare" => {
            let other = rl::compare::uploaded(server).await;
            let body = json!({"versions": ["marketplace-ppo@1", other], "environment": "price_optimization", "episodes": 1,
                "seeds": [0, 1]});
            (path(""), body)
        }
        "/sweeps" => (path(""), rl::sweeps::small(json!({}))),
        "/sweeps/{sweep_id}/cancel" => {
            let sweep = server.post(&format!("{}/sweeps", rl::RL), rl::sweeps::small(json!({}))).await.is(201);
            (path(sweep.text("sweep_id")), json!({}))
        }
        "/runs/{run_id}/pause" | "/runs/{run_id}/cancel" => (path(&queued().await), json!({})),
        "/runs/{run_id}/resume" => {
            let (_first, id) = (queued().await, queued().await);
            server.post(&format!("{}/runs/{id}/pause", rl::RL), json!({})).await.ok();
            (path(&id), json!({}))
        }
        "/strategies/{strategy}/optimize" => (path("pricing"), json!({"steps": 64})),
        "/strategies/{strategy}/evaluate" => (path("pricing"), json!({"policy": "marketplace-ppo", "episodes": 1})),
        other => panic!("POST {other} is not tried here: say how it is asked"),
    }
}

/// How many rows there are of everything a request could make.
async fn counts(server: &ApiClient) -> Vec<String> {
    let mut counts = Vec::new();
    for list in ["workflows", "executions", "networks", "registry", "plans"] {
        counts.push(server.get(&format!("{AGENTS}/{list}?limit=1")).await.header("x-total-count").to_owned());
    }
    counts.push(server.get(&format!("{SERVICES}/jobs?limit=1")).await.header("x-total-count").to_owned());
    counts
}

#[tokio::test]
async fn every_post_is_idempotent_across_a_restart() {
    let builder = TestApp::builder().env("WEBHOOKS", webhook_to_nobody()).env("WEBHOOK_RETRY_SCALE", 0);
    let server = builder.env("DEPLOYMENT_ALLOW_ROOT", true).start().await;
    let document = server.get("/openapi.json").await.ok();
    let posts = operations(&document).into_iter().filter(|(method, _)| method == Method::POST);
    let mut cases = Vec::new();
    for (number, (_, template)) in posts.filter(|(_, path)| !UPLOADS.contains(&path.as_str())).enumerate() {
        let (path, body) = prepare(&server, &template).await;
        cases.push(Case { template, path, body, key: format!("key-{number}"), first: None });
    }
    assert!(cases.len() >= 11, "{}", cases.len());
    for case in &mut cases {
        let first = send(&server, &case.path, &case.key, &case.body).await;
        assert!(first.status.is_success(), "POST {}: {} {}", case.template, first.status, first.text);
        assert_eq!(first.header("idempotency-replayed"), "", "POST {}", case.template);
        // Whoever waits for a client's job is not to wait in vain.
        let done = "UPDATE job SET state = 'COMPLETED', result = '{}' WHERE id IN (SELECT id FROM am_jobs)";
        sql(&server.database(), done).await;
        unchanged_by(&server, &format!("POST {}", case.template), async || {
            refused_or_replayed(&server, case, &first).await
        })
        .await;
        case.first = Some(first);
    }
    // A key belongs to one request: another operation can't have it.
    let refused = send(&server, &cases[1].path, &cases[0].key, &cases[1].body).await.is(422);
    assert_eq!(refused["code"], "idempotency_key_reused");
    let server = server.restart().await;
    unchanged_by(&server, "repetitions after a restart", async || {
        for case in &cases {
            replayed(&server, case, case.first.as_ref().unwrap()).await;
        }
    })
    .await;
}

/// Do something that changes nothing. What works in the background may change something meanwhile, but not each time.
async fn unchanged_by(server: &ApiClient, what: &str, work: impl AsyncFn()) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = counts(server).await;
        work().await;
        let after = counts(server).await;
        if after == before {
            return;
        }
        assert!(Instant::now() < deadline, "{what} did something again: {before:?}, then {after:?}");
    }
}

/// Repeat a request under its key: as it was, more patiently, and with another body.
async fn refused_or_replayed(server: &ApiClient, case: &Case, first: &Answer) {
    replayed(server, case, first).await;
    // Waiting another time is not another request.
    if let Some(asked) = case.path.strip_suffix("?wait=20") {
        let patient = send(server, &format!("{asked}?wait=1"), &case.key, &case.body).await;
        assert_eq!(patient.status, first.status, "POST {}", case.template);
    }
    let mut other = case.body.clone();
    // A security policy takes no member that it has not.
    let member = if case.template.ends_with("/security/policies") { "max_workflow_steps" } else { "another" };
    other[member] = json!(1);
    let refused = send(server, &case.path, &case.key, &other).await;
    // Where no other member is taken, that is said first.
    if refused.status != 422 || refused.body["detail"][0]["type"] != "extra_forbidden" {
        let code = (refused.status.as_u16(), &refused.body["code"]);
        assert_eq!(code, (422, &json!("idempotency_key_reused")), "POST {}", case.template);
        assert_eq!(refused.body["detail"][0]["loc"], json!(["header", "Idempotency-Key"]));
    }
}

async fn replayed(server: &ApiClient, case: &Case, first: &Answer) {
    let again = send(server, &case.path, &case.key, &case.body).await;
    assert_eq!(again.header("idempotency-replayed"), "true", "POST {}: {}", case.template, again.text);
    assert_eq!((again.status, &again.body), (first.status, &first.body), "POST {}", case.template);
    assert_eq!(again.header("etag"), first.header("etag"), "POST {}", case.template);
}

#[tokio::test]
async fn concurrent_requests_with_one_idempotency_key_take_effect_once() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1")})).await;
    for (key, path, body) in [
        ("create", format!("{AGENTS}/workflows"), json!({"name": "n", "steps": {"a": jq("1")}})),
        ("execute", format!("{AGENTS}/workflows/{id}/execute?wait=20"), json!({})),
        ("network", format!("{AGENTS}/networks"), json!({"name": "n"})),
    ] {
        let sum = async || counts(&server).await.iter().map(|count| count.parse::<i64>().unwrap()).sum::<i64>();
        let before = sum().await;
        let answers = join_all((0..12).map(|_| send(&server, &path, key, &body))).await;
        let ids: HashSet<&str> = answers
            .iter()
            .map(|answer| answer.body["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text)))
            .collect();
        assert_eq!(ids.len(), 1, "{path}");
        let new = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count();
        assert_eq!((new, sum().await - before), (1, 1), "{path}");
    }
}

#[tokio::test]
async fn idempotency_key_is_per_caller_and_failures_are_not_kept() {
    let server = TestApp::start().await;
    let path = format!("{AGENTS}/workflows");
    let good = json!({"name": "n", "steps": {}});
    send(&server, &path, "k", &json!({"name": "", "steps": {}})).await.is(422);
    let mine = send(&server, &path, "k", &good).await.ok();
    let theirs = server
        .client()
        .post(server.url(&path))
        .header("x-api-key", OTHER_ADMIN)
        .header("idempotency-key", "k")
        .json(&good);
    let theirs = Answer::of(theirs).await;
    assert_eq!(theirs.header("idempotency-replayed"), "");
    assert_ne!(theirs.ok()["id"], mine["id"]);
    for bad in ["", "a b", &"x".repeat(256)] {
        let refused = send(&server, &path, bad, &good).await.is(422);
        assert_eq!(refused["detail"][0]["loc"], json!(["header", "Idempotency-Key"]));
    }
}

#[tokio::test]
async fn idempotent_answer_outlives_the_deleted_resource() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1")})).await;
    let path = format!("{AGENTS}/workflows/{id}/execute?wait=20");
    let first = send(&server, &path, "k", &json!({})).await;
    server.delete(&format!("{AGENTS}/workflows/{id}")).await.ok();
    let again = send(&server, &path, "k", &json!({})).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.body), (first.status, "true", &first.body));
}
