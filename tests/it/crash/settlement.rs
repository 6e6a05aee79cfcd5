//! The process dies around each step of a settlement: the contract gets it once.

use serde_json::json;

use super::*;
use crate::portfolio::settlement::{local_chain::LocalChain, portfolio, settings, until_status};

#[tokio::test]
async fn a_settlement_that_dies_happens_once() {
    let chain = LocalChain::shared().await;
    for point in ["settlement.after_sign", "settlement.before_send", "settlement.after_send", "settlement.before_end"] {
        let contract = chain.deploy().await;
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Server::builder().env("FAILPOINTS", format!("{point}=return"));
        for (name, value) in settings(folder.path(), &contract, &contract.url) {
            builder = builder.env(name, value);
        }
        let mut doomed = builder.start().await;
        // It may die before the answer has come.
        let strategy = json!({"name": "half", "target_allocations": {"AIT": 50, "ETH": 50}});
        let strategy = doomed.post(&format!("{}/strategies", crate::portfolio::PORTFOLIOS), strategy).await.is(201);
        let address = crate::portfolio::new_address();
        let body = json!({"agent_address": address, "strategy_id": strategy["id"], "risk_tolerance": 100});
        let _ = doomed.request(Method::POST, crate::portfolio::PORTFOLIOS).json(&body).send().await;
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        let rows = until_status(&server, 1, "confirmed").await;
        assert_eq!(rows[0]["attempts"], 1, "{point}: {rows:#?}");
        assert_eq!(contract.portfolio_of(&address).await, 1, "{point}");
        // The portfolios that come after it have numbers after its own.
        let (_, next) = portfolio(&server).await;
        until_status(&server, 2, "confirmed").await;
        assert_eq!(contract.portfolio_of(&next).await, 2, "{point}");
    }
}
