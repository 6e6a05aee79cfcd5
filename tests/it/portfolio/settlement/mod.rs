//! Settlement in a contract on a local chain: what the contract holds is what the ledger says, whatever the node answers.

mod answers;
pub mod faulty_node;
mod flow;
pub mod local_chain;
mod orders;
mod waiting;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

use serde_json::{Value, json};

use self::local_chain::{CHAIN_ID, DeployedContract};
use super::{PORTFOLIOS, new_address, record_prices};
use crate::harness::{ApiClient, PATIENCE, TestApp, poll_interval};

/// The settings of settlement in `contract` by the node at `url`, with the key in `folder`.
pub fn settings(folder: &Path, contract: &DeployedContract, url: &str) -> Vec<(&'static str, String)> {
    let file = folder.join("settlement-key.hex");
    fs::write(&file, &contract.key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    vec![
        ("PORTFOLIO_SETTLEMENT", "contract".to_owned()),
        ("PORTFOLIO_SETTLEMENT_RPC_URL", url.to_owned()),
        ("PORTFOLIO_SETTLEMENT_KEY_FILE", file.display().to_string()),
        ("PORTFOLIO_SETTLEMENT_CONTRACT", contract.address.clone()),
        ("PORTFOLIO_SETTLEMENT_CHAIN_ID", CHAIN_ID.to_string()),
        ("PORTFOLIO_SETTLEMENT_CONFIRMATIONS", "1".to_owned()),
        ("PORTFOLIO_SETTLEMENT_POLL_MS", "50".to_owned()),
    ]
}

/// An application that settles in `contract` by the node at `url`. The folder with its key lives as long as it.
pub async fn settling(contract: &DeployedContract, url: &str) -> (TestApp, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = TestApp::builder();
    for (name, value) in settings(folder.path(), contract, url) {
        builder = builder.env(name, value);
    }
    (builder.start().await, folder)
}

/// A portfolio of an address of its own that aims at half AIT and half ETH; answers its path and the address.
pub async fn portfolio(server: &ApiClient) -> (String, String) {
    record_prices(server, &[("ETH", 20.0)]).await;
    let strategy = json!({"name": "half", "target_allocations": {"AIT": 50, "ETH": 50}});
    let strategy = server.post(&format!("{PORTFOLIOS}/strategies"), strategy).await.is(201);
    let address = new_address();
    let body = json!({"agent_address": address, "strategy_id": strategy["id"], "risk_tolerance": 100});
    let made = server.post(PORTFOLIOS, body).await.is(201);
    (format!("{PORTFOLIOS}/{}", made["id"]), address)
}

/// The settlements, the oldest first.
pub async fn settlements(server: &ApiClient) -> Vec<Value> {
    let mut rows = server.get(&format!("{PORTFOLIOS}/settlements?limit=100")).await.ok().as_array().unwrap().clone();
    rows.reverse();
    rows
}

/// The settlements once there are so many, and this holds of each.
pub async fn until_all(server: &ApiClient, count: usize, done: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = settlements(server).await;
        if rows.len() == count && rows.iter().all(&done) {
            return rows;
        }
        assert!(Instant::now() < deadline, "it never came: {rows:#?}");
        poll_interval().await;
    }
}

/// The settlements once there are so many, all in this state.
pub async fn until_status(server: &ApiClient, count: usize, status: &str) -> Vec<Value> {
    until_all(server, count, |row| row["status"] == status).await
}
