//! The books balance wherever the process dies, and nothing is posted twice.

use serde_json::json;

use super::*;
use crate::{kit::jq, ledger::{LEDGER, account_of, fund, principal_of, spending_by, verified}};

#[tokio::test]
async fn a_transfer_that_dies_happened_once_or_not_at_all() {
    for point in ["db.before_commit", "db.after_commit"] {
        let server = Server::builder().start().await;
        let wallet = account_of(&fund(&server, 100).await, "wallet");
        let mut doomed = server.restart_with(&[("FAILPOINTS", &format!("{point}=3*off->return"))]).await;
        let body = json!({"to_owner": principal_of(crate::harness::CLIENT), "amount": "0.5"});
        for at in 0..40 {
            let request = doomed.request(Method::POST, &format!("{LEDGER}/transfers"));
            let sent = request.header("idempotency-key", format!("move-{at}")).json(&body).send().await;
            if sent.is_err() {
                break;
            }
        }
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        for at in 0..40 {
            let request = server.request(Method::POST, &format!("{LEDGER}/transfers"));
            Answer::of(request.header("idempotency-key", format!("move-{at}")).json(&body)).await.is(201);
        }
        let account = server.get(&format!("{LEDGER}/accounts/{wallet}")).await.ok();
        assert_eq!((&account["balance"], &account["lines"]), (&json!(80.0), &json!(41)), "{point}");
        assert_eq!(verified(&server).await.entries, 41, "{point}");
    }
}

#[tokio::test]
async fn a_run_that_dies_costs_what_it_says() {
    for point in ["engine.before_save", "db.before_commit", "db.after_commit", "engine.after_claim"] {
        let server = Server::builder().env("ENGINE_LEASE_SECONDS", "2").start().await;
        let workflow = server.workflow(json!({"a": jq("2"), "b": jq("1")})).await;
        server.post(&format!("{LEDGER}/budgets"), json!({"name": "all", "limit": 5})).await.is(201);
        let mut doomed = server.restart_with(&[("FAILPOINTS", &format!("{point}=2*off->return"))]).await;
        for _ in 0..6 {
            let path = format!("/api/v1/agents/workflows/{workflow}/execute");
            if doomed.request(Method::POST, &path).json(&json!({"inputs": {}})).send().await.is_err() {
                break;
            }
        }
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        let mut total = 0.0;
        let runs = server.get(&format!("/api/v1/agents/workflows/{workflow}/executions?limit=100")).await.ok();
        for run in runs.as_array().unwrap() {
            let ended = server.ended(run.text("id")).await;
            assert_eq!(ended["status"], "completed", "{point}: {ended}");
            total += ended["current_cost"].as_f64().unwrap();
        }
        let report = server.get(&spending_by("workflow")).await.ok();
        let posted = report["total"].as_f64().unwrap();
        assert!((posted - total).abs() < 1e-9, "{point}: {posted} is posted, and the runs cost {total}");
        let budget = server.get(&format!("{LEDGER}/budgets")).await.ok();
        assert_eq!(budget[0]["state"]["reserved"], 0.0, "{point}: {budget}");
        verified(&server).await;
    }
}
