//! What admins do about settlements that did not come to their end.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    faulty_node::{FaultyNode, NodeFault},
    local_chain::LocalChain,
    portfolio, settlements, settling, until_status,
};
use crate::{
    harness::{Answer, ApiClient, CLIENT},
    kit::{JsonDocument, post_as},
    portfolio::PORTFOLIOS,
};

async fn order(server: &ApiClient, settlement: &Value, verb: &str) -> Answer {
    server.post(&format!("{PORTFOLIOS}/settlements/{}/{verb}", settlement.text("id")), json!({})).await
}

#[tokio::test]
async fn a_refusal_of_the_contract_is_told_tried_again_and_given_up() {
    let chain = LocalChain::shared().await;
    let (theirs, other) = (chain.deploy().await, chain.deploy().await);
    // Its writer is another account.
    let contract = super::DeployedContract { key: other.key, account: other.account, ..theirs };
    let (server, _folder) = settling(&contract, &contract.url).await;
    portfolio(&server).await;
    let rows = until_status(&server, 1, "reverted").await;
    assert_eq!(rows[0]["reason"], "only its writer may write");
    assert!(rows[0]["block"].is_i64() && rows[0]["transaction_hash"].is_string(), "{rows:#?}");
    let refused = |verb: &str| format!("{PORTFOLIOS}/settlements/{}/{verb}", rows[0].text("id"));
    post_as(&server, CLIENT, &refused("retry"), json!({})).await.is(403);
    post_as(&server, CLIENT, &refused("abandon"), json!({})).await.is(403);

    let keyed = || server.request(Method::POST, &refused("retry")).header("idempotency-key", "again").json(&json!({}));
    let first = Answer::of(keyed()).await.ok();
    assert_eq!(first["status"], "pending");
    let again = super::until_all(&server, 1, |row| row["status"] == "reverted" && row["attempts"] == 2).await;
    assert_ne!(again[0]["transaction_hash"], rows[0]["transaction_hash"]);
    assert_eq!(Answer::of(keyed()).await.ok(), first, "the repetition of a request does nothing more");
    let given_up = order(&server, &again[0], "abandon").await.ok();
    assert_eq!((&given_up["status"], &given_up["attempts"]), (&json!("abandoned"), &json!(2)));
    for verb in ["retry", "abandon"] {
        assert_eq!(order(&server, &again[0], verb).await.is(409)["code"], "settlement_state");
    }
    order(&server, &json!({"id": "settle_none"}), "retry").await.is(404);
}

/// One that may yet happen is not given up; it is replaced by a transaction with the same number.
#[tokio::test]
async fn a_transaction_that_is_not_mined_is_replaced_by_one_that_pays_more() {
    let contract = LocalChain::shared().await.deploy().await;
    let node = FaultyNode::start(&contract.url);
    let (server, _folder) = settling(&contract, &node.url()).await;
    node.always("eth_sendRawTransaction", NodeFault::NotReached);
    let (_, address) = portfolio(&server).await;
    let rows = until_status(&server, 1, "unknown").await;
    assert_eq!(order(&server, &rows[0], "abandon").await.is(409)["code"], "settlement_state");
    order(&server, &rows[0], "retry").await.ok();
    super::until_all(&server, 1, |row| row["attempts"] == 2).await;
    node.heal();
    let after = until_status(&server, 1, "confirmed").await;
    assert_eq!(after[0]["nonce"], rows[0]["nonce"]);
    assert_ne!(after[0]["transaction_hash"], rows[0]["transaction_hash"]);
    assert_eq!(contract.portfolio_of(&address).await, 1);
}

/// Somebody else uses the key: the settlement can't happen any more, which is told, and it is signed anew only when that is asked.
#[tokio::test]
async fn a_number_that_another_transaction_took_is_told() {
    let chain = LocalChain::shared().await;
    let contract = chain.deploy().await;
    let node = FaultyNode::start(&contract.url);
    let (server, _folder) = settling(&contract, &node.url()).await;
    node.always("eth_sendRawTransaction", NodeFault::NotReached);
    let (_, address) = portfolio(&server).await;
    let before = until_status(&server, 1, "unknown").await;
    let foreign = json!([{"from": contract.account, "to": contract.account, "value": "0x1"}]);
    chain.ask("eth_sendTransaction", foreign).await;
    let rows = until_status(&server, 1, "superseded").await;
    assert!(rows[0]["reason"].as_str().unwrap().contains("took its number"), "{rows:#?}");
    assert_eq!(contract.portfolio_of(&address).await, 0);
    node.heal();
    order(&server, &rows[0], "retry").await.ok();
    let rows = until_status(&server, 1, "confirmed").await;
    assert_eq!(rows[0]["nonce"].as_i64().unwrap(), before[0]["nonce"].as_i64().unwrap() + 1);
    assert_eq!(contract.portfolio_of(&address).await, 1);
}

/// The chain asks for more than is offered: nothing is sent, and what waits may be given up.
#[tokio::test]
async fn nothing_is_sent_while_gas_is_too_dear() {
    let contract = LocalChain::shared().await.deploy().await;
    let node = FaultyNode::start(&contract.url);
    let head = super::local_chain::ask_node(&contract.url, "eth_getBlockByNumber", json!(["latest", false])).await;
    let mut head = head.unwrap();
    head["baseFeePerGas"] = json!(format!("0x{:x}", 500_000_000_000_u64));
    let (server, _folder) = settling(&contract, &node.url()).await;
    node.always("eth_getBlockByNumber", NodeFault::Result(head));
    portfolio(&server).await;
    server.logged("the chain asks for 500 gwei for gas").await;
    let rows = settlements(&server).await;
    assert_eq!((&rows[0]["status"], node.sent().len()), (&json!("pending"), 0));
    assert_eq!(order(&server, &rows[0], "abandon").await.ok()["status"], "abandoned");
}
