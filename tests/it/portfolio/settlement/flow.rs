//! Changes of portfolios reach the contract, in their order.

use serde_json::{Value, json};

use super::{local_chain::LocalChain, portfolio, settings, settlements, settling, until_all, until_status};
use crate::{
    harness::{CLIENT, Server, TestApp},
    kit::{JsonDocument, get_as},
    portfolio::{PORTFOLIOS, funded, text_of},
};

/// What a portfolio holds of a token, in units of the eighth decimal place.
async fn held(server: &TestApp, portfolio: &str, token: &str) -> u128 {
    let holdings = server.get(&format!("{portfolio}/assets")).await.ok();
    let assets = holdings["assets"].as_array().unwrap();
    let asset = assets.iter().find(|asset| asset["token_symbol"] == token);
    asset.map_or(0, |asset| (asset["balance"].as_f64().unwrap() * 1e8).round() as u128)
}

#[tokio::test]
async fn the_contract_holds_what_the_ledger_says() {
    let chain = LocalChain::shared().await;
    let contract = chain.deploy().await;
    let (server, _folder) = settling(&contract, &contract.url).await;
    let (path, address) = portfolio(&server).await;
    let made = server.get(&path).await.ok();
    assert_eq!(made["settlement"]["mode"], "contract");
    let deposit = json!({"amount": "1000.00000001", "source": "outside"});
    let deposit = server.post(&format!("{path}/deposits"), deposit).await.ok();
    assert_eq!(deposit["settlement"]["status"], "pending");
    let body = json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 100});
    let trade = server.post(&format!("{path}/trades"), body).await.is(201);
    server.post(&format!("{path}/withdrawals"), json!({"amount": 50, "source": "outside"})).await.ok();
    let rebalance = server.post(&format!("{path}/rebalances"), json!({"force": true})).await.ok();
    assert!(!rebalance["trade_ids"].as_array().unwrap().is_empty(), "{rebalance}");

    let rows = until_status(&server, 5, "confirmed").await;
    let kinds: Vec<&str> = rows.iter().map(|row| row.text("kind")).collect();
    assert_eq!(kinds, ["create", "deposit", "trade", "withdrawal", "rebalance"]);
    let nonces: Vec<i64> = rows.iter().map(|row| row["nonce"].as_i64().unwrap()).collect();
    assert_eq!(nonces, [1, 2, 3, 4, 5], "the contract itself was the account's first transaction");
    assert!(rows.iter().all(|row| row["attempts"] == 1 && row["block"].as_i64().is_some_and(|block| block > 0)));
    for token in ["AIT", "ETH"] {
        assert_eq!(contract.held(&address, token).await, held(&server, &path, token).await, "{token}");
    }

    let after = server.get(&path).await.ok();
    assert_eq!(after["contract_portfolio_id"], contract.portfolio_of(&address).await.to_string());
    assert_eq!(after["settlement"]["status"], "confirmed");
    assert_eq!(after["settlement"]["transaction_hash"], rows[0]["transaction_hash"]);
    let flows = server.get(&format!("{path}/flows")).await.ok();
    assert!(flows.as_array().unwrap().iter().all(|flow| flow["settlement"]["status"] == "confirmed"), "{flows}");
    let trades = server.get(&format!("{path}/trades")).await.ok();
    let first = trades.as_array().unwrap().last().unwrap();
    assert_eq!((&first["id"], &first["transaction_hash"]), (&trade["id"], &rows[2]["transaction_hash"]));
    assert_eq!(trades[0]["transaction_hash"], rows[4]["transaction_hash"], "a rebalance is one transaction");
    // The coordinator's tables say so too.
    let hash = format!("SELECT transaction_hash FROM portfolio_trade WHERE id = {}", trade["id"]);
    assert_eq!(text_of(&server, &hash).await, rows[2].text("transaction_hash"));
    let receipt = chain.ask("eth_getTransactionReceipt", json!([rows[2]["transaction_hash"]])).await;
    assert_eq!((&receipt["status"], receipt.text("to")), (&json!("0x1"), contract.address.as_str()));

    let one = rows[1].text("id");
    assert_eq!(server.get(&format!("{PORTFOLIOS}/settlements/{one}")).await.ok(), rows[1]);
    get_as(&server, CLIENT, &format!("{PORTFOLIOS}/settlements/{one}")).await.is(404);
    assert_eq!(get_as(&server, CLIENT, &format!("{PORTFOLIOS}/settlements")).await.ok(), json!([]));
    let none = server.get(&format!("{PORTFOLIOS}/settlements?status=unknown")).await.ok();
    assert_eq!(none, json!([]));
    let of = server.get(&format!("{PORTFOLIOS}/settlements?status=confirmed&portfolio_id={}", after["id"])).await.ok();
    assert_eq!(of.as_array().unwrap().len(), 5);
    server.get(&format!("{PORTFOLIOS}/settlements?status=lost")).await.is(422);
    // The key is in no line.
    assert!(!server.log().contains(&contract.key));
}

#[tokio::test]
async fn without_a_contract_nothing_is_settled_there() {
    let server = TestApp::start().await;
    let path = funded(&server).await;
    let made = server.get(&path).await.ok();
    assert_eq!(
        made["settlement"],
        json!({
            "mode": "ledger", "id": null, "status": null, "transaction_hash": null, "block": null, "reason": null,
        })
    );
    assert_eq!(made["contract_portfolio_id"], Value::Null);
    let body = json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 1});
    let trade = server.post(&format!("{path}/trades"), body).await.is(201);
    assert_eq!((&trade["transaction_hash"], &trade["settlement"]["mode"]), (&Value::Null, &json!("ledger")));
    assert!(settlements(&server).await.is_empty());
}

#[tokio::test]
async fn a_portfolio_that_is_older_than_the_contract_is_brought_into_it() {
    let contract = LocalChain::shared().await.deploy().await;
    let server = TestApp::start().await;
    let path = funded(&server).await;
    let address = server.get(&path).await.ok().text("agent_address").to_owned();
    let folder = tempfile::tempdir().unwrap();
    let env = settings(folder.path(), &contract, &contract.url);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = server.restart_with(&env).await;
    assert!(settlements(&server).await.is_empty(), "nothing is written before something changes");
    server.post(&format!("{path}/withdrawals"), json!({"amount": 1, "source": "outside"})).await.ok();
    let rows = until_status(&server, 3, "confirmed").await;
    let kinds: Vec<&str> = rows.iter().map(|row| row.text("kind")).collect();
    assert_eq!(kinds, ["create", "opening", "withdrawal"]);
    assert_eq!(contract.held(&address, "AIT").await, 99_900_000_000);
}

/// A settlement counts when its block is deep enough, and the chain may not go back behind it.
#[tokio::test]
async fn confirmations_are_waited_for_and_a_chain_that_went_back_stops_everything() {
    let chain = LocalChain::start().await;
    let contract = chain.deploy().await;
    let folder = tempfile::tempdir().unwrap();
    let mut builder = TestApp::builder();
    for (name, value) in settings(folder.path(), &contract, &contract.url) {
        builder = builder.env(name, value);
    }
    let server = builder.env("PORTFOLIO_SETTLEMENT_CONFIRMATIONS", 3).start().await;
    let before = chain.ask("evm_snapshot", json!([])).await;
    portfolio(&server).await;
    until_status(&server, 1, "sent").await;
    chain.ask("evm_mine", json!([])).await;
    chain.ask("evm_mine", json!([])).await;
    let rows = until_status(&server, 1, "confirmed").await;
    let head = chain.ask("eth_blockNumber", json!([])).await;
    let head = i64::from_str_radix(head.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(rows[0]["block"].as_i64().unwrap(), head - 2);

    assert_eq!(chain.ask("evm_revert", json!([before])).await, true);
    portfolio(&server).await;
    server.logged("the chain went back").await;
    let rows = settlements(&server).await;
    assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&json!("confirmed"), &json!("pending")));
    let metrics = server.get("/metrics").await;
    assert!(metrics.text.contains("\nportfolio_settlement_halted 1\n"), "{}", metrics.text);
}

#[tokio::test]
async fn a_start_with_another_chains_id_is_refused() {
    let contract = LocalChain::shared().await.deploy().await;
    let folder = tempfile::tempdir().unwrap();
    let started = |changes: Vec<(&'static str, String)>| {
        let mut builder = Server::builder();
        for (name, value) in settings(folder.path(), &contract, &contract.url).into_iter().chain(changes) {
            builder = builder.env(name, value);
        }
        builder.start_and_fail()
    };
    let (status, log) = started(vec![("PORTFOLIO_SETTLEMENT_CHAIN_ID", "1".to_owned())]);
    assert!(!status.success() && log.contains("the node's chain has the id 31337"), "{log}");
    let readable = folder.path().join("open.hex");
    std::fs::write(&readable, &contract.key).unwrap();
    let (status, log) = started(vec![("PORTFOLIO_SETTLEMENT_KEY_FILE", readable.display().to_string())]);
    assert!(!status.success() && log.contains("PORTFOLIO_SETTLEMENT_KEY_FILE"), "{log}");
    assert!(!log.contains(&contract.key), "the key is in the log");
    let refused = TestApp::builder().env("PORTFOLIO_SETTLEMENT", "contract").refusal();
    for name in ["RPC_URL", "KEY_FILE", "CONTRACT", "CHAIN_ID"] {
        assert!(refused.contains(&format!("PORTFOLIO_SETTLEMENT_{name}")), "{refused}");
    }
}

/// A node that is away keeps nothing from being changed: settlements wait for it.
#[tokio::test]
async fn changes_wait_for_a_node_that_is_away() {
    let chain = LocalChain::shared().await;
    let contract = chain.deploy().await;
    let (server, _folder) = settling(&contract, "http://127.0.0.1:1/").await;
    let (path, address) = portfolio(&server).await;
    server.post(&format!("{path}/deposits"), json!({"amount": 3, "source": "outside"})).await.ok();
    server.logged("settlements could not be written to the contract").await;
    until_all(&server, 2, |row| row["status"] == "pending").await;
    let server = server.restart_with(&[("PORTFOLIO_SETTLEMENT_RPC_URL", &contract.url)]).await;
    until_status(&server, 2, "confirmed").await;
    assert_eq!(contract.held(&address, "AIT").await, 300_000_000);
}
