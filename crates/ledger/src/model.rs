//! Accounts, entries and holds, as the ledger shows them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use am_core::{
    ids::{AgentId, ExecutionId, LedgerAccountId, LedgerEntryId, LedgerHoldId, PrincipalId, WorkflowId},
    money::{self, Money},
};
use am_db::{codec::Timestamp, owner::SYSTEM_PRINCIPAL};

/// Symbol of the marketplace's currency.
pub const AIT: &str = "AIT";
/// Hex digits of an account's id.
const ACCOUNT_HEX_DIGITS: usize = 20;

am_db::stored_enum! {
    /// What an account is for.
    pub enum AccountPurpose {
        /// What its owner has.
        Wallet = "WALLET" / "wallet",
        /// What is kept for somebody until something is done.
        Escrow = "ESCROW" / "escrow",
        /// The tab on which costs of runs, jobs and messages are written: it may be below zero.
        Costs = "COSTS" / "costs",
        /// What its owner has earned.
        Earnings = "EARNINGS" / "earnings",
        /// Fees that were taken.
        Fees = "FEES" / "fees",
        /// Common money of a guild.
        Treasury = "TREASURY" / "treasury",
        /// The outside world: deposits come from it, withdrawals go to it. It may be below zero.
        External = "EXTERNAL" / "external",
    }
}

impl AccountPurpose {
    /// Whether the balance of such an account may be below zero.
    pub fn may_be_negative(self) -> bool {
        matches!(self, Self::Costs | Self::External)
    }
}

am_db::stored_enum! {
    /// Kind of an entry.
    pub enum EntryKind {
        /// Money came from outside.
        Deposit = "DEPOSIT" / "deposit",
        /// Money went outside.
        Withdrawal = "WITHDRAWAL" / "withdrawal",
        /// Money went from one account to another.
        Transfer = "TRANSFER" / "transfer",
        /// What a run, a job or a message cost.
        Cost = "COST" / "cost",
        /// What was paid for work.
        Payment = "PAYMENT" / "payment",
        /// What was held was taken.
        Capture = "CAPTURE" / "capture",
        /// What was paid was given back.
        Refund = "REFUND" / "refund",
        /// A share of an income went to common money.
        Contribution = "CONTRIBUTION" / "contribution",
        /// One asset was given for another.
        Trade = "TRADE" / "trade",
        /// Trades that bring a portfolio to its targets.
        Rebalance = "REBALANCE" / "rebalance",
        /// What was agreed was settled.
        Settlement = "SETTLEMENT" / "settlement",
        /// An entry was taken back.
        Reversal = "REVERSAL" / "reversal",
    }
}

am_db::stored_enum! {
    /// State of a hold.
    pub enum HoldState {
        /// It keeps what is left of it.
        Open = "OPEN" / "open",
        /// It ended, and some of it or all was taken.
        Captured = "CAPTURED" / "captured",
        /// It ended, and nothing of it was taken.
        Released = "RELEASED" / "released",
        /// It ended because its time was over.
        Expired = "EXPIRED" / "expired",
    }
}

/// Owner of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountOwner {
    /// The holder of a key.
    Principal(PrincipalId),
    /// A registered agent.
    Agent(AgentId),
    /// A guild of agents.
    Guild(String),
    /// A portfolio of assets.
    Portfolio(String),
    /// The service itself.
    System,
}

impl AccountOwner {
    /// The owner that a stored text names.
    pub fn from_stored(text: &str) -> Self {
        match text.split_once(':') {
            Some(("agent", id)) => Self::Agent(id.into()),
            Some(("guild", id)) => Self::Guild(id.to_owned()),
            Some(("portfolio", id)) => Self::Portfolio(id.to_owned()),
            _ if text == SYSTEM_PRINCIPAL => Self::System,
            _ => Self::Principal(text.into()),
        }
    }
}

/// The stored and shown form: a principal, `agent:ID`, `guild:ID`, `portfolio:ID` or `system`.
impl fmt::Display for AccountOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(id) => f.write_str(id),
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Guild(id) => write!(f, "guild:{id}"),
            Self::Portfolio(id) => write!(f, "portfolio:{id}"),
            Self::System => f.write_str(SYSTEM_PRINCIPAL),
        }
    }
}

/// What an account is known by. It is opened by the first entry that names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// Owner of the account.
    pub owner: AccountOwner,
    /// What it holds: [`AIT`], or the symbol of a token.
    pub asset: String,
    /// What it is for.
    pub purpose: AccountPurpose,
}

impl AccountKey {
    /// The account of this owner, asset and purpose.
    pub fn new(owner: AccountOwner, asset: &str, purpose: AccountPurpose) -> Self {
        Self { owner, asset: asset.to_owned(), purpose }
    }

    /// An account in [`AIT`].
    pub fn ait(owner: AccountOwner, purpose: AccountPurpose) -> Self {
        Self::new(owner, AIT, purpose)
    }

    /// The wallet in [`AIT`].
    pub fn wallet(owner: AccountOwner) -> Self {
        Self::ait(owner, AccountPurpose::Wallet)
    }

    /// Id of the account: `acct_` and the first 20 hex digits of SHA-256("aitbc-account:" + owner + LF + asset + LF + purpose).
    pub fn id(&self) -> LedgerAccountId {
        let Self { owner, asset, purpose } = self;
        let digest = Sha256::digest(format!("aitbc-account:{owner}\n{asset}\n{}", purpose.stored()));
        format!("acct_{}", &hex::encode(digest)[..ACCOUNT_HEX_DIGITS]).into()
    }
}

/// For people: `system/AIT/fees`.
impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.owner, self.asset, self.purpose)
    }
}

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountBalance {
    /// Sum of all lines.
    pub balance: Money,
    /// The part that open holds keep.
    pub held: Money,
    /// The balance without what is held.
    pub available: Money,
}

/// An account with its balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LedgerAccount)]
pub struct LedgerAccount {
    /// Id of the account.
    #[schema(value_type = String)]
    pub id: LedgerAccountId,
    /// Owner: a principal, `agent:ID`, `guild:ID`, `portfolio:ID` or `system`.
    pub owner: String,
    /// Asset: `AIT`, or the symbol of a token.
    pub asset: String,
    /// What the account is for.
    pub purpose: AccountPurpose,
    /// Whether the balance may be below zero.
    pub may_be_negative: bool,
    /// Sum of all lines, in the asset, with up to 8 decimal places.
    #[serde(with = "money::exact")]
    pub balance: Money,
    /// The part of the balance that open holds keep.
    #[serde(with = "money::exact")]
    pub held: Money,
    /// The balance without what is held.
    #[serde(with = "money::exact")]
    pub available: Money,
    /// Number of lines.
    pub lines: i64,
    /// Time of the last line.
    pub posted_at: Timestamp,
    /// Time of the first line.
    pub created_at: Timestamp,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LedgerReference)]
pub struct EntryReference {
    /// Kind of the thing, as `execution`.
    pub kind: String,
    /// Id of the thing.
    pub id: String,
}

impl EntryReference {
    /// The thing of this kind and id.
    pub fn new(kind: &'static str, id: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), id: id.into() }
    }
}

/// Who spent an amount and on what. `None` members: nobody, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LedgerTags)]
pub struct EntryTags {
    /// Principal that spent it; null: nobody.
    #[schema(value_type = Option<String>)]
    pub principal: Option<PrincipalId>,
    /// Agent that it was spent on, or by; null: none.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    /// Workflow, network or plan that it was spent on; null: none.
    #[schema(value_type = Option<String>)]
    pub workflow: Option<WorkflowId>,
    /// Execution that it was spent on; null: none.
    #[schema(value_type = Option<String>)]
    pub execution: Option<ExecutionId>,
}

/// An entry that is in the ledger now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedEntry {
    /// Id of the entry.
    pub id: LedgerEntryId,
    /// Time at which it was posted.
    pub posted_at: Timestamp,
    /// True when an earlier post under the same key made it, and nothing was done now.
    pub replayed: bool,
}

/// One line of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LedgerEntryLine)]
pub struct EntryLine {
    /// Account that it changes.
    #[schema(value_type = String)]
    pub account_id: LedgerAccountId,
    /// Owner of the account.
    pub owner: String,
    /// Asset of the account.
    pub asset: String,
    /// What the account is for.
    pub purpose: AccountPurpose,
    /// Change of the balance: below zero where it was paid.
    #[serde(with = "money::exact")]
    pub amount: Money,
    /// Balance after it.
    #[serde(with = "money::exact")]
    pub balance_after: Money,
    /// Number of the line in its account, from 1.
    pub line_no: i64,
    /// Whether it is a fee.
    pub is_fee: bool,
    /// The account that the amount came from or went to.
    #[schema(value_type = String)]
    pub other_account_id: LedgerAccountId,
}

/// An entry with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LedgerEntry)]
pub struct LedgerEntry {
    /// Id of the entry.
    #[schema(value_type = String)]
    pub id: LedgerEntryId,
    /// Kind of the entry.
    pub kind: EntryKind,
    /// What it is about; null: nothing else.
    pub reference: Option<EntryReference>,
    /// Who spent it and on what.
    pub tags: EntryTags,
    /// How much of it counts as spent.
    #[serde(with = "money::exact")]
    pub spent: Money,
    /// Words for people; null: none.
    pub note: Option<String>,
    /// Id of the entry that it takes back; null: none.
    #[schema(value_type = Option<String>)]
    pub reverses: Option<LedgerEntryId>,
    /// Id of the entry that takes it back; null: none.
    #[schema(value_type = Option<String>)]
    pub reversed_by: Option<LedgerEntryId>,
    /// Time at which it was posted.
    pub posted_at: Timestamp,
    /// Its lines, two for each movement; they sum to zero for each asset.
    pub lines: Vec<EntryLine>,
}

/// A hold: a part of an account's balance that is kept for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LedgerHold)]
pub struct LedgerHold {
    /// Id of the hold.
    #[schema(value_type = String)]
    pub id: LedgerHoldId,
    /// Account that it keeps a part of.
    #[schema(value_type = String)]
    pub account_id: LedgerAccountId,
    /// Amount that was held, in the account's asset.
    #[serde(with = "money::exact")]
    pub amount: Money,
    /// What was taken of it.
    #[serde(with = "money::exact")]
    pub captured: Money,
    /// What was set free.
    #[serde(with = "money::exact")]
    pub released: Money,
    /// State of the hold.
    pub state: HoldState,
    /// What it is for.
    pub reference: EntryReference,
    /// Who spends what is taken, and on what.
    pub tags: EntryTags,
    /// Time at which it was made.
    pub created_at: Timestamp,
    /// Time at which it expires; null: it does not.
    pub expires_at: Option<Timestamp>,
    /// Time at which it ended; null: it is open.
    pub ended_at: Option<Timestamp>,
}

impl LedgerHold {
    /// What it still keeps.
    pub fn left(&self) -> Money {
        self.amount - self.captured - self.released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_as_it_is_written() {
        for (owner, text) in [
            (AccountOwner::Principal("key_0123".into()), "key_0123"),
            (AccountOwner::Agent("agent_1".into()), "agent:agent_1"),
            (AccountOwner::Agent("a:b".into()), "agent:a:b"),
            (AccountOwner::Guild("g".into()), "guild:g"),
            (AccountOwner::Portfolio("p".into()), "portfolio:p"),
            (AccountOwner::System, "system"),
        ] {
            assert_eq!(owner.to_string(), text);
            assert_eq!(AccountOwner::from_stored(text), owner);
        }
    }

    #[test]
    fn an_accounts_id_is_stable() {
        // printf 'aitbc-account:system\nAIT\nFEES' | sha256sum | cut -c1-20
        let fees = AccountKey::ait(AccountOwner::System, AccountPurpose::Fees);
        assert_eq!(fees.id().as_str(), "acct_b32af1e77babc17b31f0");
        assert_ne!(fees.id(), AccountKey::new(AccountOwner::System, "ETH", AccountPurpose::Fees).id());
        assert_eq!(fees.to_string(), "system/AIT/fees");
    }
}
