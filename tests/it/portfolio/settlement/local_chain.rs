//! A local chain of the npm registry (hardhat), and the contract that was written for the tests.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Instant,
};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    coordinator::python,
    harness::{PATIENCE, ReservedPort, poll_interval},
    kit::{JsonDocument, fixture},
};

/// Id of the chain.
pub const CHAIN_ID: u64 = 31_337;

/// A node in a process of its own, which ends with this one: it reads a pipe.
pub struct LocalChain {
    process: Child,
    port: ReservedPort,
    next_account: AtomicU64,
}

impl Drop for LocalChain {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The contract of one test, on an account that no other test uses.
pub struct DeployedContract {
    /// Where the chain answers.
    pub url: String,
    /// Address of the contract.
    pub address: String,
    /// Address of the account that may write.
    pub account: String,
    /// The account's key, in hex.
    pub key: String,
}

impl LocalChain {
    /// One of this test's own, whose time it may bend.
    pub async fn start() -> Self {
        let python = python();
        let modules = python.ancestors().nth(3).unwrap().join("npm");
        assert!(modules.join("node_modules/hardhat").exists(), "hardhat is missing: run scripts/test-tools.sh once");
        let port = ReservedPort::new();
        let process = Command::new(node(&python))
            .arg(fixture("contract-settlement/chain.js"))
            .arg(port.number().to_string())
            .current_dir(modules)
            .env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true")
            .env("CI", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let chain = Self { process, port, next_account: AtomicU64::new(0) };
        let deadline = Instant::now() + PATIENCE;
        while ask_node(&chain.url(), "eth_chainId", json!([])).await.is_err() {
            assert!(Instant::now() < deadline, "the local chain does not answer");
            poll_interval().await;
        }
        chain
    }

    /// The one that tests share which only send transactions.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<LocalChain> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// The result of a call.
    pub async fn ask(&self, method: &str, params: Value) -> Value {
        ask_node(&self.url(), method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A new contract, which a new account may write.
    pub async fn deploy(&self) -> DeployedContract {
        let at = self.next_account.fetch_add(1, SeqCst);
        let account = self.ask("eth_accounts", json!([])).await[at as usize].as_str().unwrap().to_owned();
        let compiled: Value = serde_json::from_slice(&read("PortfolioBook.json")).unwrap();
        let made = json!([{"from": account, "data": compiled["bytecode"], "gas": "0x2dc6c0"}]);
        let hash = self.ask("eth_sendTransaction", made).await;
        let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        let address = receipt.text("contractAddress").to_lowercase();
        DeployedContract { url: self.url(), address, account, key: format!("{:064x}", at + 1) }
    }
}

impl DeployedContract {
    /// What the contract says that an agent holds of a token, in units of the eighth decimal place.
    pub async fn held(&self, agent: &str, token: &str) -> u128 {
        let token: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
        let data = format!("0x166e56cd{:0>64}{token:0<64}", agent.trim_start_matches("0x"));
        self.view(&data).await
    }

    /// The number that the contract gave an agent's portfolio; 0: none.
    pub async fn portfolio_of(&self, agent: &str) -> u128 {
        self.view(&format!("0x3e58a432{:0>64}", agent.trim_start_matches("0x"))).await
    }

    async fn view(&self, data: &str) -> u128 {
        let asked = json!([{"from": self.account, "to": self.address, "data": data}, "latest"]);
        let word = ask_node(&self.url, "eth_call", asked).await.unwrap();
        u128::from_str_radix(word.as_str().unwrap().trim_start_matches("0x").trim_start_matches('0'), 16).unwrap_or(0)
    }
}

/// The Node.js beside the test tools' Python.
fn node(python: &Path) -> PathBuf {
    python.with_file_name("node")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("contract-settlement/{name}"))).unwrap()
}

/// The result of a call of a node; the error as text.
pub async fn ask_node(url: &str, method: &str, params: Value) -> Result<Value, String> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let answer = Client::new().post(url).json(&body).send().await.map_err(|error| error.to_string())?;
    let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
    match answer.get("error") {
        Some(error) => Err(error.to_string()),
        None => Ok(answer["result"].take()),
    }
}
