//! What a receipt says of a call of the contract.

use serde::Deserialize;

use super::json_rpc::{RpcFault, is_hash, quantity, shortened};

/// Begin of the bytes with which Solidity reports a reason: the selector of `Error(string)`.
const ERROR_SELECTOR: &str = "0x08c379a0";
/// Hex digits of a word.
const WORD_DIGITS: usize = 64;

/// A receipt as a node answers it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChainReceipt {
    transaction_hash: String,
    block_number: String,
    block_hash: String,
    status: String,
    to: Option<String>,
    #[serde(default)]
    logs: Vec<ChainLog>,
}

/// An event of a receipt.
#[derive(Clone, Debug, Deserialize)]
struct ChainLog {
    address: String,
    topics: Vec<String>,
    data: String,
}

/// Result of a call that a block has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettleOutcome {
    /// The contract recorded the settlement; the id that it gave the portfolio.
    Settled { portfolio: String },
    /// The contract refused.
    Reverted,
    /// The call went through, and the contract said nothing.
    Silent,
}

impl ChainReceipt {
    /// Its block's number and hash, where the receipt is of this transaction and this contract.
    ///
    /// # Errors
    /// When it is of another one, or of another form.
    pub fn block_of(&self, hash: &str, contract: &str) -> Result<(u64, String), RpcFault> {
        if !self.transaction_hash.eq_ignore_ascii_case(hash) {
            return Err(RpcFault::Lost("it answers with the receipt of another transaction".to_owned()));
        }
        if !self.to.as_ref().is_some_and(|to| to.eq_ignore_ascii_case(contract)) || !is_hash(&self.block_hash) {
            return Err(RpcFault::Lost("the receipt is not of a call of the contract".to_owned()));
        }
        Ok((quantity(&self.block_number)?, self.block_hash.to_ascii_lowercase()))
    }

    /// What became of the call: `topic` is the hash of the event, `key` what the contract knows the settlement by.
    ///
    /// # Errors
    /// When its status is of another form.
    pub fn outcome(&self, contract: &str, topic: &str, key: &str) -> Result<SettleOutcome, RpcFault> {
        if quantity(&self.status)? == 0 {
            return Ok(SettleOutcome::Reverted);
        }
        let says_so = |log: &&ChainLog| {
            let named =
                |at: usize, word: &str| log.topics.get(at).is_some_and(|topic| topic.eq_ignore_ascii_case(word));
            log.address.eq_ignore_ascii_case(contract) && named(0, topic) && named(1, key)
        };
        let Some(log) = self.logs.iter().find(says_so) else { return Ok(SettleOutcome::Silent) };
        let word = log.data.strip_prefix("0x").and_then(|data| data.get(..WORD_DIGITS));
        let portfolio = word.and_then(decimal_of);
        portfolio.map_or(Ok(SettleOutcome::Silent), |portfolio| Ok(SettleOutcome::Settled { portfolio }))
    }
}

/// A word as a decimal number, or as hex where it has more than 128 bits.
fn decimal_of(word: &str) -> Option<String> {
    if !word.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = word.trim_start_matches('0');
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let small = u128::from_str_radix(digits, 16).map(|number| number.to_string());
    Some(small.unwrap_or_else(|_| format!("0x{digits}")))
}

/// The reason that a contract gave with the bytes `data` in hex; `None`: it gave none.
pub(crate) fn revert_reason(data: &str) -> Option<String> {
    let words = data.strip_prefix(ERROR_SELECTOR)?;
    let word = |at: usize| words.get(at * WORD_DIGITS..(at + 1) * WORD_DIGITS);
    let length = usize::from_str_radix(word(1)?.trim_start_matches('0'), 16).unwrap_or(0).min(1024);
    let text = words.get(2 * WORD_DIGITS..2 * WORD_DIGITS + 2 * length)?;
    let bytes: Option<Vec<u8>> =
        (0..length).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    Some(shortened(&String::from_utf8_lossy(&bytes?))).filter(|reason| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CONTRACT: &str = "0x00000000000000000000000000000000000000cc";

    fn hash(digit: &str) -> String {
        format!("0x{}", digit.repeat(64))
    }

    fn receipt(change: impl Fn(&mut Value)) -> ChainReceipt {
        let log = json!({
            "address": CONTRACT.to_uppercase().replace('X', "x"),
            "topics": [hash("e"), hash("5")],
            "data": format!("0x{:064x}", 7),
        });
        let mut value = json!({
            "transactionHash": hash("a"), "blockNumber": "0x10", "blockHash": hash("b"), "status": "0x1",
            "to": CONTRACT, "logs": [log],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_the_contracts_own_word_settles() {
        let outcome = |receipt: ChainReceipt| receipt.outcome(CONTRACT, &hash("e"), &hash("5")).unwrap();
        assert_eq!(outcome(receipt(|_| {})), SettleOutcome::Settled { portfolio: "7".into() });
        assert_eq!(outcome(receipt(|value| value["status"] = json!("0x0"))), SettleOutcome::Reverted);
        let silent: [fn(&mut Value); 5] = [
            |value| value["logs"] = json!([]),
            |value| value["logs"][0]["address"] = json!("0x00000000000000000000000000000000000000dd"),
            |value| value["logs"][0]["topics"][0] = json!(format!("0x{}", "f".repeat(64))),
            |value| value["logs"][0]["topics"][1] = json!(format!("0x{}", "6".repeat(64))),
            |value| value["logs"][0]["data"] = json!("0x12"),
        ];
        for change in silent {
            assert_eq!(outcome(receipt(change)), SettleOutcome::Silent);
        }
        assert!(receipt(|value| value["status"] = json!("yes")).outcome(CONTRACT, "", "").is_err());
    }

    #[test]
    fn another_transactions_receipt_is_no_answer() {
        let sound = receipt(|_| {});
        assert_eq!(sound.block_of(&hash("a"), CONTRACT).unwrap(), (16, hash("b")));
        assert!(sound.block_of(&hash("c"), CONTRACT).is_err());
        assert!(sound.block_of(&hash("a"), "0x00000000000000000000000000000000000000dd").is_err());
        assert!(receipt(|value| value["to"] = Value::Null).block_of(&hash("a"), CONTRACT).is_err());
        assert!(receipt(|value| value["blockNumber"] = json!("16")).block_of(&hash("a"), CONTRACT).is_err());
    }

    #[test]
    fn reasons_of_contracts_are_read() {
        let word = |number: usize| format!("{number:064x}");
        let text = hex_of("holds too little");
        let data = format!("{ERROR_SELECTOR}{}{}{text}{}", word(32), word(16), "0".repeat(32));
        assert_eq!(revert_reason(&data).as_deref(), Some("holds too little"));
        for bad in ["0x", ERROR_SELECTOR, "0x12345678", &format!("{ERROR_SELECTOR}{}{}", word(32), word(9999))] {
            assert_eq!(revert_reason(bad), None, "{bad}");
        }
        assert_eq!(decimal_of(&format!("1{}", "0".repeat(63))), Some(format!("0x1{}", "0".repeat(63))));
    }

    fn hex_of(text: &str) -> String {
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }
}
