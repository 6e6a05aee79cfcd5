//! Settings of the settlement of portfolios.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;

use super::{
    group::settings,
    setting_reader::{SettingReader, milliseconds, number, optional_path, parsed, seconds},
};

/// Where changes of portfolios are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementMode {
    /// In the ledger alone.
    Ledger,
    /// In the ledger, and afterwards in a contract on a chain.
    Contract,
}

settings! {
    /// Settings of the settlement of portfolios.
    pub struct SettlementConfig {
        /// Where changes of portfolios are settled: `ledger` (default) or `contract`.
        "PORTFOLIO_SETTLEMENT" mode: SettlementMode = SettlementMode::Ledger, parsed("ledger or contract", parse_mode);
        /// Address of the chain's JSON-RPC node. Needed with `contract`.
        "PORTFOLIO_SETTLEMENT_RPC_URL" rpc_url: Option<Url> = None, node_address;
        /// File with the key that signs transactions: 64 hex digits, which its owner alone can read. Needed with `contract`.
        "PORTFOLIO_SETTLEMENT_KEY_FILE" key_file: Option<PathBuf> = None, optional_path;
        /// Address of the contract: `0x` and 40 hex digits. Needed with `contract`.
        "PORTFOLIO_SETTLEMENT_CONTRACT" contract: String = String::new(), contract_address;
        /// Id that the chain must have. 0 (default): none was said; `contract` needs one.
        "PORTFOLIO_SETTLEMENT_CHAIN_ID" chain_id: u64 = 0, number(0..=i64::MAX.cast_unsigned());
        /// Blocks, its own among them, after which a transaction counts as final, default 12.
        "PORTFOLIO_SETTLEMENT_CONFIRMATIONS" confirmations: u64 = 12, number(1..=10_000);
        /// Time between two looks at the chain, default 5000 ms.
        "PORTFOLIO_SETTLEMENT_POLL_MS" interval: Duration = Duration::from_secs(5), milliseconds(50..=3_600_000);
        /// Gas that one call may use, default 300000; each further trade of a rebalance may use as much as a third of it more.
        "PORTFOLIO_SETTLEMENT_GAS_LIMIT" gas_limit: u64 = 300_000, number(21_000..=30_000_000);
        /// Highest price of gas in gwei (10^-9 of the chain's coin) that is offered, default 200. While the chain asks for more,
        /// nothing is sent.
        "PORTFOLIO_SETTLEMENT_MAX_GAS_GWEI" max_gas_gwei: u64 = 200, number(1..=1_000_000);
        /// Time that the transaction which is next may wait for a block before one that pays more replaces it, default 300 s; as long is
        /// a number waited for that nobody's transaction has.
        "PORTFOLIO_SETTLEMENT_REPLACE_SECONDS" replace_after: Duration = Duration::from_secs(300), seconds(10..=604_800);
        /// Replacements of one transaction at most, default 5; 0: only admins ask for one.
        "PORTFOLIO_SETTLEMENT_MAX_REPLACEMENTS" max_replacements: u64 = 5, number(0..=50);
    }
}

fn parse_mode(text: &str) -> Option<SettlementMode> {
    match text {
        "ledger" => Some(SettlementMode::Ledger),
        "contract" => Some(SettlementMode::Contract),
        _ => None,
    }
}

/// A node is often the operator's own, beside the service, so any host and plain http are taken.
fn node_address(from: &mut SettingReader, key: &str, default: Option<Url>) -> Option<Url> {
    let Some(text) = from.plain_text(key).filter(|text| !text.is_empty()) else { return default };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        from.reject(key, "is invalid: should be an http or https URL");
    }
    url
}

fn contract_address(from: &mut SettingReader, key: &str, default: String) -> String {
    let Some(text) = from.plain_text(key).filter(|text| !text.is_empty()) else { return default };
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
    if digits.is_none_or(|digits| !digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
        from.reject(key, format!("`{text}` is invalid: should be 0x and 40 hex digits"));
        return default;
    }
    text.to_ascii_lowercase()
}

/// With `contract`, everything that a call needs must be set.
pub(super) fn validate_settlement(config: &SettlementConfig, reader: &mut SettingReader) {
    if config.mode == SettlementMode::Ledger {
        return;
    }
    let needed = [
        ("PORTFOLIO_SETTLEMENT_RPC_URL", config.rpc_url.is_some()),
        ("PORTFOLIO_SETTLEMENT_KEY_FILE", config.key_file.is_some()),
        ("PORTFOLIO_SETTLEMENT_CONTRACT", !config.contract.is_empty()),
        ("PORTFOLIO_SETTLEMENT_CHAIN_ID", config.chain_id > 0),
    ];
    for (name, _) in needed.into_iter().filter(|(_, is_set)| !is_set) {
        reader.reject(name, "is needed with PORTFOLIO_SETTLEMENT=contract");
    }
}
