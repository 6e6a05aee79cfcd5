//! Budgets bind executions: refused, waiting, told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{LEDGER, verified};
use crate::{
    harness::{ApiClient, CLIENT, PATIENCE, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument, ask, get_as, jq, post_as, waiting},
};

async fn budget(server: &ApiClient, name: &str, limit: &str, period: &str, on_exceed: &str) -> String {
    let body = json!({"name": name, "limit": limit, "period": period, "on_exceed": on_exceed});
    server.post(&format!("{LEDGER}/budgets"), body).await.is(201).text("id").to_owned()
}

async fn state(server: &ApiClient, id: &str) -> Value {
    server.get(&format!("{LEDGER}/budgets/{id}")).await.ok()["state"].clone()
}

async fn start(server: &ApiClient, workflow: &str) -> crate::harness::Answer {
    server.post(&format!("{AGENTS}/workflows/{workflow}/execute"), json!({"inputs": {}})).await
}

#[tokio::test]
async fn a_budget_refuses_what_does_not_fit() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1"), "b": jq("2")})).await;
    let id = budget(&server, "month", "0.05", "month", "refuse").await;
    for _ in 0..2 {
        let run = start(&server, &workflow).await.ok();
        let ended = server.ended(run.text("id")).await;
        assert_eq!((&ended["status"], &ended["current_cost"]), (&json!("completed"), &json!(0.02)));
    }
    let refused = start(&server, &workflow).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("budget_exceeded")), "{}", refused.text);
    assert_eq!((&refused.body["budget"], &refused.body["remaining"]), (&json!("month"), &json!(0.01)));
    let found = state(&server, &id).await;
    assert_eq!((&found["spent"], &found["reserved"], &found["remaining"]), (&json!(0.04), &json!(0.0), &json!(0.01)));
    let log = server.get(&format!("{AGENTS}/security/audit-logs?event_type=access_denied")).await.ok();
    assert_eq!(log[0]["event_data"]["action"], "start", "{log}");
    server.put(&format!("{LEDGER}/budgets/{id}"), json!({"limit": 0.06})).await.ok();
    let run = start(&server, &workflow).await.ok();
    server.ended(run.text("id")).await;
    assert_eq!(state(&server, &id).await["remaining"], 0.0);
    server.delete(&format!("{LEDGER}/budgets/{id}")).await.is(204);
    start(&server, &workflow).await.ok();
    verified(&server).await;
}

#[tokio::test]
async fn what_is_in_escrow_counts_as_spent_until_it_comes_back() {
    use crate::marketplace::{MARKET, act, check_books, open_market, request, request_for};
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let limits = json!({"name": "market", "limit": 10, "on_exceed": "pause"});
    let id = post_as(&server, CLIENT, &format!("{LEDGER}/budgets"), limits).await.is(201).text("id").to_owned();
    let used = async || {
        let found = state(&server, &id).await;
        (found["spent"].as_f64().unwrap(), found["reserved"].as_f64().unwrap())
    };
    let first = request(&server, CLIENT, request_for(&service, 8.0)).await;
    assert_eq!(used().await, (0.0, 8.0));
    let refused = post_as(&server, CLIENT, &format!("{MARKET}/requests"), request_for(&service, 3.0)).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("budget_exceeded")), "{}", refused.text);
    act(&server, CLIENT, &first, "cancel", json!({})).await.ok();
    assert_eq!(used().await, (0.0, 0.0));
    let second = request(&server, CLIENT, request_for(&service, 9.0)).await;
    let accepted = act(&server, crate::harness::OTHER_ADMIN, &second, "accept", json!({})).await.ok();
    let price = accepted["price"].as_f64().unwrap();
    assert!(price < 9.0 && used().await == (0.0, price), "what the budget had beyond the price is free: {accepted}");
    act(&server, crate::harness::OTHER_ADMIN, &second, "complete", json!({"results": {"n": 1}})).await.ok();
    act(&server, CLIENT, &second, "settle", json!({})).await.ok();
    assert_eq!(used().await, (price, 0.0));
    check_books(&server).await;
    verified(&server).await;
}

#[tokio::test]
async fn a_job_with_a_highest_price_reserves_it() {
    let server = TestApp::start().await;
    let limits = json!({"name": "jobs", "limit": 2});
    let id = post_as(&server, CLIENT, &format!("{LEDGER}/budgets"), limits).await.is(201).text("id").to_owned();
    let jobs = format!("{}/llm_inference", crate::services::SERVICES);
    let body = json!({"model": "mistral-7b", "prompt": "hello"});
    let job = post_as(&server, CLIENT, &format!("{jobs}?max_price=1.5"), body.clone()).await.ok();
    assert_eq!(state(&server, &id).await["reserved"], 1.5);
    let refused = post_as(&server, CLIENT, &format!("{jobs}?max_price=0.6"), body.clone()).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("budget_exceeded")), "{}", refused.text);
    post_as(&server, CLIENT, &jobs, body).await.ok();
    let path = format!("{}/jobs/{}", crate::services::SERVICES, job.text("job_id"));
    ask(&server, Some(CLIENT), reqwest::Method::DELETE, &path, None).await.ok();
    assert_eq!(state(&server, &id).await["reserved"], 0.0);
}

#[tokio::test]
async fn what_a_cancelled_run_reserved_is_free_again() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let id = budget(&server, "day", "1", "day", "refuse").await;
    let run = start(&server, &workflow).await.ok();
    let found = state(&server, &id).await;
    assert_eq!((&found["reserved"], &found["remaining"]), (&json!(1.0), &json!(0.0)), "it has no bound of its own");
    assert_eq!(start(&server, &workflow).await.status, 409);
    server.until(run.text("id"), |run| run["step_states"]["a"]["status"] == "running").await;
    server.post(&format!("{AGENTS}/executions/{}/cancel", run.text("id")), json!({})).await.ok();
    let deadline = Instant::now() + PATIENCE;
    while state(&server, &id).await["reserved"] != 0.0 {
        assert!(Instant::now() < deadline, "it still reserves: {}", state(&server, &id).await);
        poll_interval().await;
    }
    let bounded = json!({"inputs": {}, "max_cost_budget": 0.4});
    server.post(&format!("{AGENTS}/workflows/{workflow}/execute"), bounded).await.ok();
    assert_eq!(state(&server, &id).await["reserved"], 0.4);
}

#[tokio::test]
async fn who_has_to_wait_begins_when_there_is_room() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1"), "b": jq("2")})).await;
    let id = budget(&server, "hour", "0.03", "hour", "pause").await;
    let first = start(&server, &workflow).await.ok();
    assert_eq!(server.ended(first.text("id")).await["status"], "completed");
    let second = start(&server, &workflow).await.ok();
    let third = start(&server, &workflow).await.ok();
    for run in [&second, &third] {
        let found = server.get(&format!("{AGENTS}/executions/{}", run.text("id"))).await.ok();
        assert_eq!((&found["status"], &found["waiting_for"]["kind"]), (&json!("pending"), &json!("budget")), "{found}");
        assert!(
            found["waiting_for"]["until"].is_string() && found["waiting_for"]["reason"].to_string().contains("hour")
        );
    }
    assert_eq!(state(&server, &id).await["waiting"], 2);
    server.post(&format!("{AGENTS}/executions/{}/cancel", third.text("id")), json!({})).await.ok();
    assert_eq!(state(&server, &id).await["waiting"], 1);
    server.clock().advance(Duration::from_secs(3600));
    assert_eq!(server.ended(second.text("id")).await["status"], "completed");
    let found = state(&server, &id).await;
    assert_eq!((&found["spent"], &found["waiting"]), (&json!(0.02), &json!(0)));
    verified(&server).await;
}

#[tokio::test]
async fn a_budget_that_tells_lets_all_begin_and_tells_once() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let id = budget(&server, "watch", "0.015", "week", "notify").await;
    for _ in 0..4 {
        let run = start(&server, &workflow).await.ok();
        assert_eq!(server.ended(run.text("id")).await["status"], "completed");
    }
    assert_eq!(state(&server, &id).await["remaining"], -0.025);
    let log = server.get(&format!("{AGENTS}/security/audit-logs?event_type=workflow_updated&limit=500")).await.ok();
    let told = log.as_array().unwrap().iter().filter(|entry| entry["event_data"]["resource"] == "budget");
    let told: Vec<&Value> = told.filter(|entry| entry["event_data"]["action"] == "exceeded").collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn a_budget_is_its_owners() {
    let server = TestApp::start().await;
    let body = json!({"name": "own", "limit": 1});
    let made = post_as(&server, CLIENT, &format!("{LEDGER}/budgets"), body.clone()).await.is(201);
    assert_eq!(
        (&made["scope"], &made["period"], &made["on_exceed"]),
        (&json!("principal"), &json!("total"), &json!("refuse"))
    );
    assert_eq!(post_as(&server, CLIENT, &format!("{LEDGER}/budgets"), body.clone()).await.status, 409);
    let another = json!({"name": "x", "limit": 1, "principal": super::principal_of(server.key())});
    assert_eq!(post_as(&server, CLIENT, &format!("{LEDGER}/budgets"), another).await.status, 403);
    for (field, value) in
        [("limit", json!(-1)), ("name", json!("")), ("subject", json!("w")), ("period", json!("year"))]
    {
        let mut body = body.clone();
        body["name"] = json!("other");
        body[field] = value;
        let answer = post_as(&server, CLIENT, &format!("{LEDGER}/budgets"), body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["detail"][0]["loc"][1]),
            (422, &json!(field)),
            "{}",
            answer.text
        );
    }
    let own = get_as(&server, CLIENT, &format!("{LEDGER}/budgets")).await.ok();
    assert_eq!(own.as_array().unwrap().len(), 1);
    assert_eq!(server.get(&format!("{LEDGER}/budgets")).await.ok().as_array().unwrap().len(), 1, "an admin sees all");
    // Another principal's budget binds nobody else.
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    server.put(&format!("{LEDGER}/budgets/{}", made.text("id")), json!({"limit": 0})).await.ok();
    start(&server, &workflow).await.ok();
}
