//! Answers that are lost, wrong or hostile: a settlement happens once, and none is said to be there that is not.

use serde_json::{Value, json};

use super::{
    faulty_node::{FaultyNode, NodeFault},
    local_chain::{DeployedContract, LocalChain},
    portfolio, settlements, settling, until_all, until_status,
};
use crate::harness::{ApiClient, poll_interval};

/// Looks at the node that a wrong answer is kept up for.
const LOOKS: usize = 5;

/// A contract, and a node in front of its chain.
async fn behind_a_node() -> (DeployedContract, FaultyNode) {
    let contract = LocalChain::shared().await.deploy().await;
    let node = FaultyNode::start(&contract.url);
    (contract, node)
}

/// A portfolio with a deposit of 5 AIT; its agent's address.
async fn deposited(server: &ApiClient) -> String {
    let (path, address) = portfolio(server).await;
    server.post(&format!("{path}/deposits"), json!({"amount": 5, "source": "outside"})).await.ok();
    address
}

#[tokio::test]
async fn a_lost_answer_is_asked_about_and_never_paid_twice() {
    for fault in [NodeFault::LoseAnswer, NodeFault::NotReached] {
        let (contract, node) = behind_a_node().await;
        let (server, _folder) = settling(&contract, &node.url()).await;
        node.next("eth_sendRawTransaction", [fault.clone(), fault.clone()]);
        let address = deposited(&server).await;
        let rows = until_status(&server, 2, "confirmed").await;
        assert!(rows.iter().all(|row| row["attempts"] == 1), "{fault:?}: {rows:#?}");
        let mut sent = node.sent();
        sent.sort();
        sent.dedup();
        assert_eq!(sent.len(), 2, "{fault:?}: other bytes were sent for the same settlement");
        assert_eq!(contract.held(&address, "AIT").await, 500_000_000, "{fault:?}");
        assert!(server.get("/metrics").await.text.contains("portfolio_settlement_unknown_answers_total"), "{fault:?}");
    }
}

/// While it is not known what became of a transaction, the settlement says so, and none is signed after it.
#[tokio::test]
async fn what_is_not_known_is_called_unknown() {
    let (contract, node) = behind_a_node().await;
    let (server, _folder) = settling(&contract, &node.url()).await;
    node.always("eth_sendRawTransaction", NodeFault::NotReached);
    let address = deposited(&server).await;
    let open = |row: &Value| row["status"] == if row["kind"] == "create" { "unknown" } else { "pending" };
    let rows = until_all(&server, 2, open).await;
    assert!(rows[0]["reason"].as_str().unwrap().contains("no usable answer"), "{rows:#?}");
    assert!(rows[0]["transaction_hash"].is_string() && rows[1]["transaction_hash"].is_null(), "{rows:#?}");
    node.heal();
    until_status(&server, 2, "confirmed").await;
    assert_eq!(contract.held(&address, "AIT").await, 500_000_000);
}

/// A node's refusal of what it has done already is no end: the chain is asked.
#[tokio::test]
async fn a_refusal_of_the_node_is_no_end() {
    let (contract, node) = behind_a_node().await;
    let (server, _folder) = settling(&contract, &node.url()).await;
    node.next("eth_sendRawTransaction", [NodeFault::Refusal("nonce too low".to_owned()), NodeFault::LoseAnswer]);
    let address = deposited(&server).await;
    until_status(&server, 2, "confirmed").await;
    assert_eq!(contract.held(&address, "AIT").await, 500_000_000);
}

#[tokio::test]
async fn hostile_answers_settle_nothing() {
    let hash = |digit: &str| format!("0x{}", digit.repeat(64));
    let receipt = |hash: &str, to: &str| {
        json!({"transactionHash": hash, "blockNumber": "0x1", "blockHash": format!("0x{}", "b".repeat(64)),
            "status": "0x1", "to": to, "logs": []})
    };
    let foreign = receipt(&hash("a"), "0x00000000000000000000000000000000000000aa");
    let huge = format!(r#"{{"jsonrpc": "2.0", "id": 1, "result": "{}"}}"#, "x".repeat(2 << 20));
    let cases: Vec<(&str, NodeFault)> = vec![
        ("eth_sendRawTransaction", NodeFault::Result(json!(hash("f")))),
        ("eth_sendRawTransaction", NodeFault::Text("no JSON".to_owned())),
        ("eth_getTransactionReceipt", NodeFault::Result(foreign)),
        ("eth_getTransactionReceipt", NodeFault::Text(huge)),
        ("eth_getTransactionReceipt", NodeFault::Result(json!({"status": "0x1"}))),
        ("eth_getTransactionReceipt", NodeFault::Text(r#"{"jsonrpc": "2.0", "id": 0, "result": null}"#.to_owned())),
        ("eth_getTransactionCount", NodeFault::Result(json!("0xffffffffffffffffff"))),
        ("eth_chainId", NodeFault::Result(json!("0x1"))),
        ("eth_getBlockByNumber", NodeFault::Result(json!({"number": "0x7fffffffffffffff", "hash": "0x12"}))),
    ];
    let (contract, node) = behind_a_node().await;
    let (server, _folder) = settling(&contract, &node.url()).await;
    let mut count = 0;
    for (method, fault) in cases {
        node.always(method, fault.clone());
        portfolio(&server).await;
        count += 1;
        for _ in 0..LOOKS {
            poll_interval().await;
            let rows = settlements(&server).await;
            let confirmed = rows.iter().filter(|row| row["status"] == "confirmed").count();
            assert!(confirmed < count, "{method} {fault:?}: {rows:#?}");
        }
        node.heal();
        until_status(&server, count, "confirmed").await;
    }
    // Each has its own portfolio in the contract, and no more.
    assert_eq!(node.sent().iter().collect::<std::collections::BTreeSet<_>>().len(), count);
}
