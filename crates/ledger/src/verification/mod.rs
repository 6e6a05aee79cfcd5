//! Verification of the whole ledger. It reads a part at a time while others post: lines are only added, so an account is compared
//! with as many lines as it had when it was read.

mod store;

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

use am_core::{
    boxed,
    ids::{LedgerAccountId, LedgerEntryId},
    money::Money,
};
use am_db::{Connection, codec::Timestamp};

use super::{LedgerService, error::Result};
use store::CheckedAccount;

/// Accounts that are read at once.
const ACCOUNT_BATCH: i64 = 500;
/// Lines that are read at once.
const LINE_BATCH: i64 = 5000;
/// Entries that are read at once.
const ENTRY_BATCH: i64 = 500;
/// Faults that are told; more are counted.
const MAX_FAULTS: usize = 100;

/// The books of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LedgerAssetTotal)]
pub struct AssetTotal {
    /// Asset of the accounts.
    pub asset: String,
    /// Number of accounts.
    pub accounts: i64,
    /// Sum of all balances: 0 in sound books.
    pub total: Money,
}

/// Result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LedgerVerification)]
pub struct LedgerVerification {
    /// Whether nothing is wrong.
    pub valid: bool,
    /// Number of accounts that were read.
    pub accounts: i64,
    /// Number of entries that were read.
    pub entries: i64,
    /// Number of lines that were read.
    pub lines: i64,
    /// Sums by asset.
    pub assets: Vec<AssetTotal>,
    /// Number of faults.
    pub faults: usize,
    /// The first hundred faults, each a sentence.
    pub found: Vec<String>,
}

impl LedgerVerification {
    fn add(&mut self, fault: String) {
        self.faults += 1;
        if self.found.len() < MAX_FAULTS {
            self.found.push(fault);
        }
    }

    fn require(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.add(fault());
        }
    }
}

impl LedgerService {
    /// Verify the ledger: the lines of each entry sum to zero for each asset; each account's balance is the sum of its lines and
    /// what its last line says, its lines are numbered without gaps, and what is held is the sum of its open holds; no balance is
    /// below what it may be; all accounts of an asset sum to zero; what budgets reserve is the sum of their reservations.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn verify(&self) -> Result<LedgerVerification> {
        let mut report = LedgerVerification::default();
        self.verify_assets(&mut report).await?;
        self.verify_accounts(&mut report).await?;
        self.verify_entries(&mut report).await?;
        for fault in store::budget_faults(&mut *self.0.db.read_list().await?).await? {
            let store::BudgetFault { id, reserved, sum } = fault;
            report.add(format!("budget {id} reserves {reserved} units, and its reservations sum to {sum}"));
        }
        report.valid = report.faults == 0;
        Ok(report)
    }

    async fn verify_assets(&self, report: &mut LedgerVerification) -> Result<()> {
        let sums = store::asset_sums(&mut *self.0.db.read_list().await?).await?;
        for store::AssetSum { asset, high, low, accounts } in sums {
            let total = i128::from(high) * 1_000_000_000 + i128::from(low);
            report.require(total == 0, || format!("all accounts of {asset} sum to {total} units instead of 0"));
            let total = Money::from_units(i64::try_from(total).unwrap_or(i64::MAX));
            report.assets.push(AssetTotal { asset, accounts, total });
        }
        Ok(())
    }

    async fn verify_accounts(&self, report: &mut LedgerVerification) -> Result<()> {
        let mut after = LedgerAccountId::default();
        loop {
            let mut conn = self.0.db.read_list().await?;
            let accounts = store::read_accounts(&mut conn, &after, ACCOUNT_BATCH).await?;
            let Some(last) = accounts.last() else { return Ok(()) };
            after = last.id.clone();
            for account in &accounts {
                report.accounts += 1;
                verify_account(&mut conn, account, report).await?;
            }
        }
    }

    async fn verify_entries(&self, report: &mut LedgerVerification) -> Result<()> {
        let mut after = LedgerEntryId::default();
        loop {
            let mut conn = self.0.db.read_list().await?;
            let entries = store::read_entries(&mut conn, &after, ENTRY_BATCH).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.clone();
            let parts = store::read_parts(&mut conn, &entries).await?;
            let mut sums: BTreeMap<(&LedgerEntryId, &str), i128> = BTreeMap::new();
            for part in &parts {
                *sums.entry((&part.entry_id, part.asset.as_str())).or_default() += i128::from(part.amount);
            }
            let known: BTreeSet<&LedgerEntryId> = sums.keys().map(|(entry, _)| *entry).collect();
            for ((entry, asset), sum) in &sums {
                report.require(*sum == 0, || format!("entry {entry} sums to {sum} units of {asset} instead of 0"));
            }
            for entry in &entries {
                report.entries += 1;
                report.require(known.contains(entry), || format!("entry {entry} has no lines"));
            }
        }
    }
}

async fn verify_account(
    conn: &mut Connection,
    account: &CheckedAccount,
    report: &mut LedgerVerification,
) -> Result<()> {
    let id = &account.id;
    let CheckedAccount { balance, held, lines, holds, may_be_negative, .. } = *account;
    report.require(held == holds, || format!("account {id} holds {held} units, and its holds sum to {holds}"));
    report.require(may_be_negative != 0 || balance >= held, || {
        format!("account {id} has {balance} units, of which {held} are held")
    });
    let (mut sum, mut seen) = (0_i128, 0_i64);
    let mut place = (Timestamp(DateTime::UNIX_EPOCH), 0);
    while seen < lines {
        let found = store::read_lines(conn, id, place, LINE_BATCH.min(lines - seen)).await?;
        let Some(last) = found.last() else { break };
        place = (last.posted_at, last.line_no);
        for line in &found {
            seen += 1;
            sum += i128::from(line.amount);
            report
                .require(line.line_no == seen, || format!("account {id}: line {seen} has the number {}", line.line_no));
            report.require(i128::from(line.balance_after) == sum, || {
                format!(
                    "account {id}: line {} says {} after it, and the lines sum to {sum}",
                    line.line_no, line.balance_after
                )
            });
        }
    }
    report.lines += seen;
    report.require(seen == lines, || format!("account {id} has {seen} lines of {lines}"));
    report.require(sum == i128::from(balance), || {
        format!("account {id} has {balance} units, and its lines sum to {sum}")
    });
    Ok(())
}
