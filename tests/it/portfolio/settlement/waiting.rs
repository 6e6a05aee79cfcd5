//! Transactions that no block takes: they are replaced after a time, and numbers that nobody has are filled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    faulty_node::{FaultyNode, NodeFault},
    local_chain::{DeployedContract, LocalChain},
    portfolio, settings, settlements, until_all, until_status,
};
use crate::harness::{PATIENCE, TestApp, poll_interval};

/// Longer than a transaction waits before it is replaced.
const LONG: Duration = Duration::from_secs(301);
/// Looks at the chain in which nothing more may happen.
const LOOKS: usize = 5;

/// An application that settles by `node`, and replaces a transaction so often at most.
async fn replacing(contract: &DeployedContract, node: &FaultyNode, most: u64) -> (TestApp, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = TestApp::builder();
    for (name, value) in settings(folder.path(), contract, &node.url()) {
        builder = builder.env(name, value);
    }
    (builder.env("PORTFOLIO_SETTLEMENT_MAX_REPLACEMENTS", most).start().await, folder)
}

#[tokio::test]
async fn what_waits_too_long_is_replaced_by_itself_and_not_for_ever() {
    let contract = LocalChain::shared().await.deploy().await;
    let node = FaultyNode::start(&contract.url);
    let (server, _folder) = replacing(&contract, &node, 1).await;
    node.always("eth_sendRawTransaction", NodeFault::NotReached);
    let (_, address) = portfolio(&server).await;
    let first = until_status(&server, 1, "unknown").await;
    assert_eq!(first[0]["attempts"], 1);
    server.clock().advance(LONG);
    let second = until_all(&server, 1, |row| row["attempts"] == 2).await;
    assert_eq!(second[0]["nonce"], first[0]["nonce"]);
    assert_ne!(second[0]["transaction_hash"], first[0]["transaction_hash"]);
    server.clock().advance(2 * LONG);
    for _ in 0..LOOKS {
        poll_interval().await;
        assert_eq!(settlements(&server).await[0]["attempts"], 2, "one replacement is allowed");
    }
    node.heal();
    let rows = until_status(&server, 1, "confirmed").await;
    assert_eq!((&rows[0]["attempts"], &rows[0]["nonce"]), (&json!(2), &first[0]["nonce"]));
    assert_eq!(contract.portfolio_of(&address).await, 1);
    assert!(server.get("/metrics").await.text.contains("portfolio_settlement_replacements_total 1"));
}

/// The block may have the first of two, although the second pays more: it counts, once.
#[tokio::test]
async fn whichever_of_two_is_mined_counts_once() {
    let chain = LocalChain::start().await;
    let contract = chain.deploy().await;
    chain.ask("evm_setAutomine", json!([false])).await;
    let node = FaultyNode::start(&contract.url);
    let (server, _folder) = replacing(&contract, &node, 1).await;
    let (_, address) = portfolio(&server).await;
    let first = until_status(&server, 1, "sent").await;
    node.always("eth_sendRawTransaction", NodeFault::NotReached);
    server.clock().advance(LONG);
    let second = until_all(&server, 1, |row| row["attempts"] == 2).await;
    assert_ne!(second[0]["transaction_hash"], first[0]["transaction_hash"]);
    chain.ask("evm_mine", json!([])).await;
    let rows = until_status(&server, 1, "confirmed").await;
    assert_eq!(rows[0]["transaction_hash"], first[0]["transaction_hash"]);
    assert_eq!(contract.portfolio_of(&address).await, 1);
}

/// A number was given that is ahead of the chain, whose own transaction with the number before is gone: a filler takes that.
#[tokio::test]
async fn a_number_that_nobody_has_is_filled() {
    let chain = LocalChain::start().await;
    let contract = chain.deploy().await;
    chain.ask("evm_setAutomine", json!([false])).await;
    let node = FaultyNode::start(&contract.url);
    // The node says that the account has one transaction more than it has.
    node.always("eth_getTransactionCount", NodeFault::Result(json!("0x2")));
    let (server, _folder) = replacing(&contract, &node, 1).await;
    let (_, address) = portfolio(&server).await;
    let rows = until_status(&server, 1, "sent").await;
    assert_eq!(rows[0]["nonce"], 2);
    node.heal();
    for _ in 0..LOOKS {
        poll_interval().await;
        assert_eq!(node.sent().len(), 1, "it may yet come");
    }
    server.clock().advance(LONG);
    let deadline = Instant::now() + PATIENCE;
    while node.sent().len() < 2 {
        assert!(Instant::now() < deadline, "no filler was sent");
        poll_interval().await;
    }
    chain.ask("evm_mine", json!([])).await;
    let rows = until_status(&server, 1, "confirmed").await;
    assert_eq!((&rows[0]["nonce"], &rows[0]["attempts"]), (&json!(2), &json!(1)));
    assert_eq!(contract.portfolio_of(&address).await, 1);
    let filler: Value = chain.ask("eth_getTransactionCount", json!([contract.account, "latest"])).await;
    assert_eq!(filler, "0x3", "the contract, the filler and the settlement");
    assert!(server.get("/metrics").await.text.contains("portfolio_settlement_fillers_total 1"));
}
