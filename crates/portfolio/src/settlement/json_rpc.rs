//! A chain's node over JSON-RPC. Nothing that it answers is believed unseen: an answer of another form counts as lost.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use am_core::{boxed, error_text::error_with_causes, response_body::read_response_body};
use reqwest::{Client, ClientBuilder, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

/// Time limit of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes that an answer may have.
const MAX_ANSWER: usize = 1 << 20;
/// Characters of what a node says that are kept.
const MAX_WORDS: usize = 300;

/// Reason why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RpcFault {
    /// There is no usable answer: what was asked may have been done.
    #[error("no usable answer of the node: {0}")]
    Lost(String),
    /// The node refused.
    #[error("{message}")]
    Refused {
        /// What the node says, shortened.
        message: String,
        /// Bytes in hex that a contract answered; `None`: none came with it.
        data: Option<String>,
    },
}

impl RpcFault {
    fn lost(why: impl Into<String>) -> Self {
        Self::Lost(shortened(&why.into()))
    }
}

/// A text of others without control characters, and not longer than what is kept.
pub(crate) fn shortened(text: &str) -> String {
    let words: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
    words.trim().to_owned()
}

#[derive(Deserialize)]
struct RpcAnswer<'a> {
    jsonrpc: String,
    id: u64,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

/// A block, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChainBlock {
    number: String,
    /// Hash of the block.
    pub hash: String,
    base_fee_per_gas: Option<String>,
}

impl ChainBlock {
    /// Number of the block.
    pub fn number(&self) -> Result<u64, RpcFault> {
        quantity(&self.number)
    }

    /// The price of gas that every transaction pays, in wei.
    pub fn base_fee(&self) -> Result<u64, RpcFault> {
        let fee = self.base_fee_per_gas.as_deref();
        quantity(fee.ok_or_else(|| RpcFault::lost("the chain has no base fee (EIP-1559), which is needed"))?)
    }
}

/// A number as a node writes it: `0x` and hex digits.
pub(crate) fn quantity(text: &str) -> Result<u64, RpcFault> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    // The database's numbers end there.
    let number = number.filter(|number| i64::try_from(*number).is_ok());
    number.ok_or_else(|| RpcFault::lost(format!("`{text}` is no number")))
}

/// Whether `text` is a hash: `0x` and 64 hex digits.
pub(crate) fn is_hash(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The bytes that come with an error, wherever the node puts them.
fn error_data(data: &Value) -> Option<String> {
    let text = data.as_str().or_else(|| data.get("data").and_then(Value::as_str));
    text.filter(|text| text.starts_with("0x")).map(str::to_owned)
}

/// A client of one node.
pub(crate) struct ChainClient {
    client: Client,
    url: Url,
    next_id: AtomicU64,
}

impl ChainClient {
    /// A client of the node at `url`.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(url: Url) -> Result<Self, reqwest::Error> {
        let builder = ClientBuilder::new()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_TIMEOUT)
            .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")));
        Ok(Self { client: builder.build()?, url, next_id: AtomicU64::new(1) })
    }

    /// The result of a call, as JSON.
    #[boxed]
    async fn call_raw(&self, method: &str, params: Value) -> Result<Box<RawValue>, RpcFault> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let sent = self.client.post(self.url.clone()).json(&body).send().await;
        // An address may hold a key.
        let answer = sent.map_err(|error| RpcFault::lost(error_with_causes(&error.without_url())))?;
        let status = answer.status();
        let bytes = read_response_body(answer, MAX_ANSWER).await.map_err(|error| RpcFault::lost(error.to_string()))?;
        let read: RpcAnswer<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| RpcFault::lost(format!("{status}: it is no answer of JSON-RPC: {error}")))?;
        if read.jsonrpc != "2.0" || read.id != id {
            return Err(RpcFault::lost("it answers another call"));
        }
        if let Some(error) = read.error {
            let message = shortened(&format!("{} ({})", error.message, error.code));
            return Err(RpcFault::Refused { message, data: error_data(&error.data) });
        }
        // A result that is null is read as none: both mean that there is nothing.
        Ok(read.result.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned))
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcFault> {
        let result = self.call_raw(method, params).await?;
        serde_json::from_str(result.get())
            .map_err(|error| RpcFault::lost(format!("its answer to {method} is of another form: {error}")))
    }

    async fn number(&self, method: &str, params: Value) -> Result<u64, RpcFault> {
        quantity(&self.call::<String>(method, params).await?)
    }

    /// Id of the chain.
    pub async fn chain_id(&self) -> Result<u64, RpcFault> {
        self.number("eth_chainId", json!([])).await
    }

    /// The newest block.
    pub async fn latest_block(&self) -> Result<ChainBlock, RpcFault> {
        let found: Option<ChainBlock> = self.call("eth_getBlockByNumber", json!(["latest", false])).await?;
        found.filter(|block| is_hash(&block.hash)).ok_or_else(|| RpcFault::lost("it has no newest block"))
    }

    /// Hash of the block with this number; `None`: there is none.
    pub async fn block_hash(&self, number: u64) -> Result<Option<String>, RpcFault> {
        let found: Option<ChainBlock> =
            self.call("eth_getBlockByNumber", json!([format!("0x{number:x}"), false])).await?;
        Ok(found.filter(|block| is_hash(&block.hash)).map(|block| block.hash.to_ascii_lowercase()))
    }

    /// Transactions of `sender` up to block `block`; `None`: up to the newest.
    pub async fn transaction_count(&self, sender: &str, block: Option<u64>) -> Result<u64, RpcFault> {
        let block = block.map_or_else(|| "latest".to_owned(), |block| format!("0x{block:x}"));
        self.number("eth_getTransactionCount", json!([sender, block])).await
    }

    /// Transactions of `sender` in the chain and those that the node has for the blocks that come, as far as their numbers follow each
    /// other.
    pub async fn pending_count(&self, sender: &str) -> Result<u64, RpcFault> {
        self.number("eth_getTransactionCount", json!([sender, "pending"])).await
    }

    /// Whether there is a contract at `address`.
    pub async fn has_code(&self, address: &str) -> Result<bool, RpcFault> {
        Ok(self.call::<String>("eth_getCode", json!([address, "latest"])).await?.len() > 2)
    }

    /// What blocks' makers are offered now beside the base fee, in wei; `None`: the node does not say.
    pub async fn priority_fee(&self) -> Result<Option<u64>, RpcFault> {
        match self.number("eth_maxPriorityFeePerGas", json!([])).await {
            Ok(fee) => Ok(Some(fee)),
            Err(RpcFault::Refused { .. }) => Ok(None),
            Err(lost) => Err(lost),
        }
    }

    /// Send a signed transaction; the hash that the node answers.
    pub async fn send(&self, raw: &str) -> Result<String, RpcFault> {
        Ok(self.call::<String>("eth_sendRawTransaction", json!([raw])).await?.to_ascii_lowercase())
    }

    /// Whether the node has a transaction, in a block or not.
    pub async fn knows(&self, hash: &str) -> Result<bool, RpcFault> {
        let found: Option<Value> = self.call("eth_getTransactionByHash", json!([hash])).await?;
        let same = |value: &Value| value["hash"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(hash));
        match found {
            None => Ok(false),
            Some(value) if same(&value) => Ok(true),
            Some(_) => Err(RpcFault::lost("it answers with another transaction")),
        }
    }

    /// The receipt of a transaction, as JSON; `None`: no block has it.
    pub async fn receipt<T: DeserializeOwned>(&self, hash: &str) -> Result<Option<T>, RpcFault> {
        self.call("eth_getTransactionReceipt", json!([hash])).await
    }

    /// What a call would answer, in hex; `block` `None`: at the newest.
    pub async fn view(&self, sender: &str, contract: &str, data: &str, block: Option<u64>) -> Result<String, RpcFault> {
        let block = block.map_or_else(|| "latest".to_owned(), |block| format!("0x{block:x}"));
        self.call("eth_call", json!([{"from": sender, "to": contract, "data": data}, block])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_hashes_have_their_form() {
        assert_eq!(quantity("0x1f"), Ok(31));
        for bad in ["", "1f", "0x", "0x+1", "0xg", "0x8000000000000000", "0x1ffffffffffffffff"] {
            assert!(quantity(bad).is_err(), "{bad}");
        }
        assert!(is_hash(&format!("0x{}", "aB".repeat(32))));
        assert!(!is_hash(&"ab".repeat(33)) && !is_hash("0x12"));
    }

    #[test]
    fn words_of_others_are_short_and_on_one_line() {
        assert_eq!(shortened(" a\nb\u{7} "), "a b");
        assert_eq!(shortened(&"ä".repeat(1000)).chars().count(), MAX_WORDS);
    }

    #[test]
    fn bytes_of_a_refusal_are_found_where_nodes_put_them() {
        assert_eq!(error_data(&json!("0x08c3")), Some("0x08c3".to_owned()));
        assert_eq!(error_data(&json!({"data": "0x08c3"})), Some("0x08c3".to_owned()));
        assert_eq!(error_data(&json!({"message": "no"})), None);
        assert_eq!(error_data(&json!("no bytes")), None);
    }
}
