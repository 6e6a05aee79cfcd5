//! The books balance wherever the process dies, and nothing is posted twice.

use serde_json::json;

use super::*;
use crate::{
    harness::CLIENT,
    kit::jq,
    ledger::{LEDGER, account_of, fund, principal_of, spending_by, verified},
};

/// Transfers that are sent, each under a key of its own.
const TRANSFERS: usize = 40;

/// Start the server anew so that it dies at this passage of `point`, if it comes so far while `act` asks it, and once more on what
/// it has left.
async fn died_at(server: Server, point: &str, passages: usize, act: impl AsyncFn(&Server)) -> Server {
    let doomed = server.again().env("FAILPOINTS", format!("{point}={passages}*off->return"));
    let left = match doomed.try_start() {
        Err(builder) => builder,
        Ok(doomed) => {
            act(&doomed).await;
            doomed.again()
        }
    };
    left.env("FAILPOINTS", "").start().await
}

#[tokio::test]
async fn a_transfer_that_dies_happened_once_or_not_at_all() {
    let body = || json!({"to_owner": principal_of(CLIENT), "amount": "0.5"});
    let keyed = |server: &Server, at: usize| {
        let request = server.request(Method::POST, &format!("{LEDGER}/transfers"));
        request.header("idempotency-key", format!("move-{at}")).json(&body())
    };
    for (point, passages) in
        [("db.before_commit", 8), ("db.before_commit", 20), ("db.after_commit", 8), ("db.after_commit", 20)]
    {
        let mut server = Server::builder().start().await;
        let wallet = account_of(&fund(&server, 100).await, "wallet");
        server = died_at(server, point, passages, async |server: &Server| {
            for at in 0..TRANSFERS {
                if keyed(server, at).send().await.is_err() {
                    break;
                }
            }
        })
        .await;
        for at in 0..TRANSFERS {
            Answer::of(keyed(&server, at)).await.is(201);
        }
        let account = server.get(&format!("{LEDGER}/accounts/{wallet}")).await.ok();
        assert_eq!((&account["balance"], &account["lines"]), (&json!(80.0), &json!(41)), "{point} {passages}");
        assert_eq!(verified(&server).await.entries, 41, "{point} {passages}");
    }
}

#[tokio::test]
async fn a_run_that_dies_costs_what_it_says() {
    for (point, passages) in
        [("engine.before_save", 2), ("engine.after_claim", 1), ("db.before_commit", 12), ("db.after_commit", 12)]
    {
        let mut server = Server::builder().start().await;
        let workflow = server.workflow(json!({"a": jq("1"), "b": jq("2")})).await;
        server.post(&format!("{LEDGER}/budgets"), json!({"name": "all", "limit": 5})).await.is(201);
        let path = format!("/api/v1/agents/workflows/{workflow}/execute");
        server = died_at(server, point, passages, async |server: &Server| {
            for _ in 0..6 {
                if server.request(Method::POST, &path).json(&json!({"inputs": {}})).send().await.is_err() {
                    break;
                }
            }
        })
        .await;
        let mut total = 0.0;
        let runs = server.get(&format!("/api/v1/agents/workflows/{workflow}/executions?limit=100")).await.ok();
        for run in runs.as_array().unwrap() {
            let ended = server.ended(run.text("execution_id")).await;
            assert_eq!(ended["status"], "completed", "{point}: {ended}");
            total += ended["current_cost"].as_f64().unwrap();
        }
        let report = server.get(&spending_by("workflow")).await.ok();
        let posted = report["total"].as_f64().unwrap();
        assert!((posted - total).abs() < 1e-9, "{point}: {posted} is posted, and the runs cost {total}");
        let budget = server.get(&format!("{LEDGER}/budgets")).await.ok();
        assert_eq!(
            (&budget[0]["state"]["reserved"], &budget[0]["state"]["spent"]),
            (&json!(0.0), &report["total"]),
            "{point}"
        );
        verified(&server).await;
    }
}
