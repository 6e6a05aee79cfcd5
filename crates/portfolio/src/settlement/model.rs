//! Settlements as they are stored and shown, and what they write to the contract.

use am_core::crypto;
use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::SettlementStatus;

am_db::stored_enum! {
    /// What a settlement writes to the contract.
    pub enum SettlementKind {
        /// That there is a portfolio.
        Create = "create" / "create",
        /// What a portfolio held that is older than the settlement in the contract.
        Opening = "opening" / "opening",
        /// A deposit into the portfolio.
        Deposit = "deposit" / "deposit",
        /// A withdrawal from the portfolio.
        Withdrawal = "withdrawal" / "withdrawal",
        /// A trade of one token for another.
        Trade = "trade" / "trade",
        /// All trades of a rebalance.
        Rebalance = "rebalance" / "rebalance",
    }
}

/// A change of a portfolio that is written to the contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioSettlement)]
pub struct SettlementRecord {
    /// Id of the settlement.
    pub id: String,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// What it writes.
    pub kind: SettlementKind,
    /// Number of the deposit, withdrawal, trade or rebalance; null: it is of the portfolio itself.
    #[serde(default)]
    pub subject_id: Option<i64>,
    /// State of the settlement.
    pub status: SettlementStatus,
    /// Why it is in this state: the contract's or the node's words; null: there is nothing to say.
    #[serde(default)]
    pub reason: Option<String>,
    /// Transactions that were signed for it.
    pub attempts: i64,
    /// Number of its transaction among the sender's; null: none was signed.
    #[serde(default)]
    pub nonce: Option<i64>,
    /// Hash of its transaction; null: none was signed.
    #[serde(default)]
    pub transaction_hash: Option<String>,
    /// Number of the block that has it; null: none has it for good.
    #[serde(default)]
    pub block: Option<i64>,
    /// Since when it is to be sent.
    pub queued_at: Timestamp,
    /// When it was made, with its change.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub updated_at: Timestamp,
}

/// Two sides of a trade, in whole units of the eighth decimal place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TradeLeg {
    /// Symbol of the token that is sold.
    pub sell_token: String,
    /// Symbol of the token that is bought.
    pub buy_token: String,
    /// What leaves the portfolio.
    pub sell_amount: i64,
    /// What the portfolio gets, after fee and slippage.
    pub received_amount: i64,
}

/// A call of the contract, but for the settlement and the agent, which all calls name. Amounts are whole units of the eighth decimal
/// place, as in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(crate) enum ContractCall {
    /// There is a portfolio.
    Create,
    /// A token came in.
    Deposit { token: String, amount: i64 },
    /// A token went out.
    Withdraw { token: String, amount: i64 },
    /// Trades, all or none.
    Trade { trades: Vec<TradeLeg> },
}

impl ContractCall {
    /// Trades beyond the first.
    pub fn further_trades(&self) -> u64 {
        match self {
            Self::Trade { trades } => (trades.len() as u64).saturating_sub(1),
            _ => 0,
        }
    }
}

/// A settlement to store.
#[derive(Clone, Debug)]
pub(crate) struct SettlementDraft {
    pub id: String,
    pub kind: SettlementKind,
    pub subject_id: Option<i64>,
    pub call: ContractCall,
}

/// A transaction that is signed: its bytes and its hash, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedCall {
    pub raw: String,
    pub hash: String,
}

/// What the contract knows a settlement by, 32 bytes in hex with `0x`: the SHA-256 of `aitbc-settlement:` and its id. The contract takes
/// each once.
pub(crate) fn settlement_key(id: &str) -> String {
    format!("0x{}", crypto::sha256_hex(format!("aitbc-settlement:{id}").as_bytes()))
}
