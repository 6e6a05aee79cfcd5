//! Types of portfolios that several modules use.

use std::collections::BTreeMap;

use am_core::{ids::PrincipalId, money::Money};
use am_db::codec::Timestamp;
use am_ledger::AIT;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Different tokens that one portfolio may hold or aim at.
pub const MAX_TOKENS: usize = 50;
/// Characters of a token's symbol.
const MAX_SYMBOL_LEN: usize = 20;

am_db::stored_enum! {
    /// Kind of a strategy.
    pub enum StrategyType {
        /// Keeps what there is before it grows.
        Conservative = "CONSERVATIVE" / "conservative",
        /// Between conservative and aggressive.
        Balanced = "BALANCED" / "balanced",
        /// Grows before it keeps.
        Aggressive = "AGGRESSIVE" / "aggressive",
        /// Changes its targets.
        Dynamic = "DYNAMIC" / "dynamic",
    }
}

am_db::stored_enum! {
    /// Rule by which a strategy signals.
    pub enum SignalKind {
        /// A holding is off its target.
        Drift = "drift" / "drift",
        /// A price rose or fell over the last days.
        Momentum = "momentum" / "momentum",
        /// A price is far from its mean of the last days.
        Reversion = "reversion" / "reversion",
    }
}

am_db::stored_enum! {
    /// What a signal says of a token.
    pub enum SignalSide {
        /// More of it should be held.
        Buy = "buy" / "buy",
        /// Less of it should be held.
        Sell = "sell" / "sell",
    }
}

am_db::stored_enum! {
    /// State of a trade.
    pub enum TradeStatus {
        /// It was not carried out yet.
        Pending = "PENDING" / "pending",
        /// It was carried out.
        Executed = "EXECUTED" / "executed",
        /// It could not be carried out.
        Failed = "FAILED" / "failed",
        /// It was cancelled.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

am_db::stored_enum! {
    /// State of a settlement.
    pub enum SettlementStatus {
        /// It waits to be signed.
        Pending = "pending" / "pending",
        /// Its transaction is signed and stored; whether it was sent is not known.
        Signed = "signed" / "signed",
        /// A node has its transaction.
        Sent = "sent" / "sent",
        /// It was sent, and no node says that it has it; it is asked about and sent again, the same bytes.
        Unknown = "unknown" / "unknown",
        /// It is in the contract, for good.
        Confirmed = "confirmed" / "confirmed",
        /// The contract refused it.
        Reverted = "reverted" / "reverted",
        /// Another transaction of the same sender took its number, so it can't happen any more.
        Superseded = "superseded" / "superseded",
        /// An admin gave it up.
        Abandoned = "abandoned" / "abandoned",
    }
}

/// Where a change of a portfolio is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettlementVenue {
    /// In the ledger alone.
    #[default]
    Ledger,
    /// In the ledger, and in the contract.
    Contract,
}

/// Settlement of a portfolio, a flow or a trade, in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettlementSummary {
    /// Where it is settled.
    pub mode: SettlementVenue,
    /// Id of the settlement; null in the ledger alone.
    #[serde(default)]
    pub id: Option<String>,
    /// State of the settlement; null in the ledger alone, and where it ended and its record was removed, which `reason` says.
    #[serde(default)]
    pub status: Option<SettlementStatus>,
    /// Hash of its transaction; null: none was signed.
    #[serde(default)]
    pub transaction_hash: Option<String>,
    /// Number of the block that has it; null: none has it for good.
    #[serde(default)]
    pub block: Option<i64>,
    /// Why it is in this state; null: there is nothing to say.
    #[serde(default)]
    pub reason: Option<String>,
}

impl SettlementSummary {
    /// A settlement that has just been stored, or whose state is yet to be read; `None`: in the ledger alone.
    pub(crate) fn pending(id: Option<String>) -> Self {
        let Some(id) = id else { return Self::default() };
        let (mode, status) = (SettlementVenue::Contract, Some(SettlementStatus::Pending));
        Self { mode, id: Some(id), status, ..Self::default() }
    }
}

/// A rule by which a strategy signals, from recorded prices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = StrategySignalRule)]
pub struct SignalRule {
    /// Kind of the rule.
    pub rule: SignalKind,
    /// From where on it signals. `drift`: points off the target, above 0 to 100, default 5; `momentum`: percent of change, above 0 to
    /// 1000, default 5; `reversion`: standard deviations from the mean, above 0 to 10, default 2.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Days of prices that are looked at, 5 to 365. Default 90 for `momentum`, 30 for `reversion`; `drift` has none.
    #[serde(default)]
    pub days: Option<i64>,
    /// Points by which a rebalance that follows a signal of strength 1 moves the token's target, above 0 to 100. Default 10; `drift`
    /// has none, it goes to the targets.
    #[serde(default)]
    pub tilt: Option<f64>,
    /// Days after which a signal expires, 1 to 30. Default 1.
    #[serde(default)]
    pub expires_days: Option<i64>,
}

impl SignalRule {
    /// From where on it signals.
    pub(crate) fn threshold(&self) -> f64 {
        self.threshold.unwrap_or(if self.rule == SignalKind::Reversion { 2.0 } else { 5.0 })
    }

    /// Days of prices that are looked at; 0: none.
    pub(crate) fn days(&self) -> i64 {
        let default = match self.rule {
            SignalKind::Drift => 0,
            SignalKind::Momentum => 90,
            SignalKind::Reversion => 30,
        };
        self.days.unwrap_or(default)
    }

    /// Points by which the target moves; 0: none.
    pub(crate) fn tilt(&self) -> f64 {
        self.tilt.unwrap_or(if self.rule == SignalKind::Drift { 0.0 } else { 10.0 })
    }

    /// Days after which a signal expires.
    pub(crate) fn expires_days(&self) -> i64 {
        self.expires_days.unwrap_or(1)
    }

    /// The same with the defaults in place of what was not said.
    pub(crate) fn filled(&self) -> Self {
        let looks_back = self.rule != SignalKind::Drift;
        Self {
            rule: self.rule,
            threshold: Some(self.threshold()),
            days: looks_back.then(|| self.days()),
            tilt: looks_back.then(|| self.tilt()),
            expires_days: Some(self.expires_days()),
        }
    }
}

/// A strategy: what a portfolio aims at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioStrategy)]
pub struct StrategyDocument {
    /// Number of the strategy.
    pub id: i64,
    /// Name, 1 to 100 characters.
    pub name: String,
    /// Kind of the strategy.
    pub strategy_type: StrategyType,
    /// Percent of the whole for each token; they sum to 100, plus or minus 0.01.
    pub target_allocations: BTreeMap<String, f64>,
    /// Percent that the value of a unit may be below its peak before the alert `drawdown` is raised.
    pub max_drawdown: f64,
    /// Seconds after which a rebalance is due.
    pub rebalance_frequency: i64,
    /// Percent that a unit may lose in 24 hours before the alert `loss` is raised.
    pub volatility_threshold: f64,
    /// Sector of each token, for reports and limits; a token that is not named is in the sector `other`.
    #[serde(default)]
    pub sectors: BTreeMap<String, String>,
    /// Lot of each token: a rebalance sells multiples of it, and buys no less than it. A token that is not named is traded in any
    /// amount.
    #[serde(default)]
    pub lot_sizes: BTreeMap<String, f64>,
    /// Percent of the whole that one rebalance sells at most; null: there is no limit.
    #[serde(default)]
    pub max_turnover: Option<f64>,
    /// Rules by which it signals; empty: it does not.
    #[serde(default)]
    pub signal_rules: Vec<SignalRule>,
    /// Whether portfolios may be made with it.
    pub is_active: bool,
    /// Principal that owns it; null: another service made it, and everybody sees it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub owner_id: Option<PrincipalId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A portfolio of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentPortfolio)]
pub struct PortfolioDocument {
    /// Number of the portfolio.
    pub id: i64,
    /// Address of the agent: `0x` and 40 hex digits, in small letters.
    pub agent_address: String,
    /// Number of its strategy.
    pub strategy_id: i64,
    /// Id in the contract; null: it is in none, or the contract has not told it yet.
    #[serde(default)]
    pub contract_portfolio_id: Option<String>,
    /// How far its creation in the contract is.
    #[serde(default)]
    pub settlement: SettlementSummary,
    /// What the first deposit was worth in AIT; 0 before.
    pub initial_capital: f64,
    /// What it was worth in AIT when this was last measured.
    pub total_value: f64,
    /// Risk, 0 to 100, when this was last measured; 0 before.
    pub risk_score: f64,
    /// Highest risk, 0 to 100, that a trade may lead to.
    pub risk_tolerance: f64,
    /// Whether it takes deposits and trades.
    pub is_active: bool,
    /// Principal that owns it.
    #[schema(value_type = String)]
    pub owner_id: PrincipalId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// When it was rebalanced last; at first when it was made.
    pub last_rebalance: Timestamp,
}

/// What a portfolio holds of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioAsset)]
pub struct AssetHolding {
    /// Symbol of the token.
    pub token_symbol: String,
    /// Address of the token's contract; null: none was said.
    #[serde(default)]
    pub token_address: Option<String>,
    /// Amount held, from the ledger.
    #[serde(with = "am_core::money::exact")]
    pub balance: Money,
    /// Last recorded price in AIT; null: there is none.
    #[serde(with = "am_core::money::exact_option", default)]
    pub price: Option<Money>,
    /// Time of that price; null: there is none, or the token is AIT itself.
    #[serde(default)]
    pub priced_at: Option<Timestamp>,
    /// What it is worth in AIT; null: it has no price.
    #[serde(with = "am_core::money::exact_option", default)]
    pub value: Option<Money>,
    /// Percent of the whole that the strategy aims at.
    pub target_allocation: f64,
    /// Percent of the whole; null: some token held has no price.
    #[serde(default)]
    pub current_allocation: Option<f64>,
    /// AIT paid for each token held, on average, fees included; null: none is held.
    #[serde(default)]
    pub average_cost: Option<f64>,
    /// Value less what was paid for it, in AIT; null: it has no price.
    #[serde(default)]
    pub unrealized_pnl: Option<f64>,
}

/// All that a portfolio holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioHoldings)]
pub struct HoldingsReport {
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// Time of the report.
    pub measured_at: Timestamp,
    /// What all of it is worth in AIT; null: see `reason`.
    #[serde(with = "am_core::money::exact_option", default)]
    pub total_value: Option<Money>,
    /// Why there is no value; null: there is one.
    #[serde(default)]
    pub reason: Option<String>,
    /// The tokens, in the order of their symbols.
    pub assets: Vec<AssetHolding>,
}

/// Whether `symbol` may be a token's: a capital letter or a digit, then those, `.`, `_` and `-`, 20 characters at most.
pub(crate) fn is_symbol(symbol: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let bytes = symbol.as_bytes();
    (1..=MAX_SYMBOL_LEN).contains(&bytes.len())
        && letter(bytes[0])
        && bytes.iter().all(|byte| letter(*byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// What is said of a symbol that is none.
pub(crate) const SYMBOL_RULE: &str = "has 1 to 20 capital letters, digits, `.`, `_` and `-`, a letter or digit first";

/// Whether values are counted in this token.
pub(crate) fn is_cash(token: &str) -> bool {
    token == AIT
}

/// Whether `address` is an agent's or a contract's: `0x` and 40 hex digits.
pub(crate) fn is_address(address: &str) -> bool {
    address.strip_prefix("0x").is_some_and(|digits| digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_addresses_have_their_form() {
        for good in ["AIT", "ETH", "1INCH", "A.B-C_D", "ABCDEFGHIJKLMNOPQRST"] {
            assert!(is_symbol(good), "{good}");
        }
        for bad in ["", "eth", ".A", "ABCDEFGHIJKLMNOPQRSTU", "A B", "Ä"] {
            assert!(!is_symbol(bad), "{bad}");
        }
        assert!(is_address("0x00112233445566778899aabbccddeeFF00112233"));
        for bad in ["0x", "00112233445566778899aabbccddeeff00112233", "0x00112233445566778899aabbccddeeff0011223g"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
