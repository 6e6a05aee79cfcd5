//! A process dies around acceptance and payment: what was answered holds, what was not can be asked again, and no unit is lost.

use serde_json::json;

use super::*;
use crate::{
    harness::{CLIENT, OTHER_ADMIN},
    kit::{get_as, jq, post_as},
    marketplace::{MARKET, agent, check_books, fund, now, offer, request, request_for, until_state},
};

/// POST with the idempotency key; none when the server dies before its answer has come.
async fn post_keyed(server: &ApiClient, caller: &str, path: &str, body: &Value) -> Option<Answer> {
    let request = server.client().post(server.url(path)).header("x-api-key", caller).header("idempotency-key", KEY);
    let response = request.json(body).send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

#[tokio::test]
async fn acceptance_and_payment_survive_a_crash() {
    for (point, verb) in
        [("market.before_accept", "accept"), ("market.before_step", "settle"), ("market.before_create", "create")]
    {
        let server = Server::builder().start().await;
        agent(&server, OTHER_ADMIN, "seller").await;
        fund(&server, CLIENT, 100.0).await;
        let service = offer(&server, OTHER_ADMIN, "seller", json!({})).await;
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        if verb == "settle" {
            let path = |verb: &str| format!("{MARKET}/requests/{}/{verb}", made.text("id"));
            post_as(&server, OTHER_ADMIN, &path("accept"), json!({})).await.ok();
            post_as(&server, OTHER_ADMIN, &path("complete"), json!({"results": 1})).await.ok();
        }
        let (caller, path, body) = match verb {
            "create" => (CLIENT, format!("{MARKET}/requests"), request_for(&service, 10.0)),
            "settle" => (CLIENT, format!("{MARKET}/requests/{}/settle", made.text("id")), json!({})),
            _ => (OTHER_ADMIN, format!("{MARKET}/requests/{}/accept", made.text("id")), json!({})),
        };
        let mut doomed = server.restart_with(&[("FAILPOINTS", &format!("{point}=return"))]).await;
        let answer = post_keyed(&doomed, caller, &path, &body).await;
        assert!(answer.is_none(), "{point}: {answer:?}");
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        check_books(&server).await;
        let first = post_keyed(&server, caller, &path, &body).await.unwrap();
        assert!(first.status.is_success(), "{point}: {}", first.text);
        let again = post_keyed(&server, caller, &path, &body).await.unwrap();
        assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, "true"), "{point}");
        check_books(&server).await;
    }
}

#[tokio::test]
async fn workflow_of_an_accepted_request_runs_once() {
    for point in ["market.run_started", "market.before_settle"] {
        let server = Server::builder().start().await;
        agent(&server, OTHER_ADMIN, "seller").await;
        fund(&server, CLIENT, 100.0).await;
        let body = json!({"name": "work", "steps": {"a": jq("{n: 1}")}});
        let workflow = post_as(&server, OTHER_ADMIN, "/api/v1/agents/workflows", body).await.ok();
        let service = offer(&server, OTHER_ADMIN, "seller", json!({"workflow_id": workflow["id"]})).await;
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        let mut doomed = server.restart_with(&[("FAILPOINTS", &format!("{point}=return"))]).await;
        // It may die before the answer has come.
        let path = format!("{MARKET}/requests/{}/accept", made.text("id"));
        let _ = post_keyed(&doomed, OTHER_ADMIN, &path, &json!({})).await;
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        if now(&server, &made).await["state"] == "open" {
            post_keyed(&server, OTHER_ADMIN, &path, &json!({})).await.unwrap().ok();
        }
        let settled = until_state(&server, &made, "settled").await;
        assert_eq!(settled["paid"], 2.5, "{point}");
        let runs = get_as(&server, OTHER_ADMIN, "/api/v1/agents/executions").await.ok();
        assert_eq!(runs.as_array().unwrap().len(), 1, "{point}: {runs}");
        check_books(&server).await;
    }
}

#[tokio::test]
async fn what_is_due_happens_after_a_crash() {
    let builder = Server::builder().env("MARKET_REVIEW_SECONDS", 1).env("FAILPOINTS", "market.before_deadline=return");
    let mut doomed = builder.start().await;
    agent(&doomed, OTHER_ADMIN, "seller").await;
    fund(&doomed, CLIENT, 100.0).await;
    let service = offer(&doomed, OTHER_ADMIN, "seller", json!({})).await;
    let made = request(&doomed, CLIENT, request_for(&service, 10.0)).await;
    let path = |verb: &str| format!("{MARKET}/requests/{}/{verb}", made.text("id"));
    post_as(&doomed, OTHER_ADMIN, &path("accept"), json!({})).await.ok();
    post_as(&doomed, OTHER_ADMIN, &path("complete"), json!({"results": 1})).await.ok();
    doomed.wait();
    let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
    assert_eq!(until_state(&server, &made, "settled").await["paid"], 2.5);
    check_books(&server).await;
}
