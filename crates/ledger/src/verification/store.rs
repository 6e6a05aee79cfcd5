//! Statements that read the whole ledger, a part at a time.

use am_core::ids::{BudgetId, LedgerAccountId, LedgerEntryId};
use am_db::{Connection, FromRow as _, Result, codec::Timestamp, row, sql};

row! {
    /// An account with what its open holds keep, as one moment has them.
    pub(super) struct CheckedAccount from "a." {
        pub(super) id: LedgerAccountId,
        pub(super) asset: String,
        pub(super) may_be_negative: i64,
        pub(super) balance: i64,
        pub(super) held: i64,
        pub(super) lines: i64,
        pub(super) holds: i64 = "(SELECT CAST(coalesce(sum(h.amount - h.captured - h.released), 0) AS BIGINT)
             FROM am_ledger_holds h WHERE h.account_id = a.id AND h.state = 'OPEN')",
    }
}

/// Read accounts in the order of their ids, behind this one.
pub(super) async fn read_accounts(
    conn: &mut Connection,
    after: &LedgerAccountId,
    most: i64,
) -> Result<Vec<CheckedAccount>> {
    let accounts =
        sql!("SELECT ", CheckedAccount::COLUMNS, " FROM am_ledger_accounts a WHERE a.id > $1 ORDER BY a.id LIMIT $2");
    accounts.bind(after).bind(most).fetch_all(conn).await
}

row! {
    /// A line of an account.
    pub(super) struct CheckedLine {
        pub(super) posted_at: Timestamp,
        pub(super) line_no: i64,
        pub(super) amount: i64,
        pub(super) balance_after: i64,
    }
}

/// Read lines of an account in their order, behind this one.
pub(super) async fn read_lines(
    conn: &mut Connection,
    account: &LedgerAccountId,
    after: (Timestamp, i64),
    most: i64,
) -> Result<Vec<CheckedLine>> {
    let lines = sql!(
        "SELECT ",
        CheckedLine::COLUMNS,
        " FROM am_ledger_lines WHERE account_id = $1 AND (posted_at, line_no) > ($2, $3)
         ORDER BY posted_at, line_no LIMIT $4"
    );
    lines.bind(account).bind(after.0).bind(after.1).bind(most).fetch_all(conn).await
}

/// Read the ids of entries in their order, behind this one.
pub(super) async fn read_entries(
    conn: &mut Connection,
    after: &LedgerEntryId,
    most: i64,
) -> Result<Vec<LedgerEntryId>> {
    let entries = sql!("SELECT id FROM am_ledger_entries WHERE id > $1 ORDER BY id LIMIT $2");
    entries.bind(after).bind(most).fetch_values(conn).await
}

row! {
    /// A line of an entry.
    pub(super) struct EntryPart {
        pub(super) entry_id: LedgerEntryId = "l.entry_id",
        pub(super) asset: String = "a.asset",
        pub(super) amount: i64 = "l.amount",
    }
}

/// Read the lines of these entries.
pub(super) async fn read_parts(conn: &mut Connection, entries: &[LedgerEntryId]) -> Result<Vec<EntryPart>> {
    let parts = sql!(
        "SELECT ",
        EntryPart::COLUMNS,
        " FROM am_ledger_lines l {then} am_ledger_accounts a ON a.id = l.account_id
         WHERE l.entry_id IN ($1)"
    );
    parts.bind_all(entries).fetch_all(conn).await
}

row! {
    /// The sum of an asset over all accounts, as thousands of millions of units and the rest.
    pub(super) struct AssetSum {
        pub(super) asset: String,
        pub(super) high: i64 = "CAST(sum(balance / 1000000000) AS BIGINT)",
        pub(super) low: i64 = "CAST(sum(balance % 1000000000) AS BIGINT)",
        pub(super) accounts: i64 = "count(*)",
    }
}

/// Sum all balances by asset, as one moment has them.
pub(super) async fn asset_sums(conn: &mut Connection) -> Result<Vec<AssetSum>> {
    let sums = sql!("SELECT ", AssetSum::COLUMNS, " FROM am_ledger_accounts GROUP BY asset ORDER BY asset");
    sums.fetch_all(conn).await
}

row! {
    /// A budget whose reserved amount is not the sum of its reservations.
    pub(super) struct BudgetFault {
        pub(super) id: BudgetId = "b.id",
        pub(super) reserved: i64 = "b.reserved",
        pub(super) sum: i64 = "b.total",
    }
}

/// Find budgets whose reserved amount is not the sum of their reservations.
pub(super) async fn budget_faults(conn: &mut Connection) -> Result<Vec<BudgetFault>> {
    let faults = sql!(
        "SELECT ",
        BudgetFault::COLUMNS,
        " FROM (SELECT g.id, g.reserved, CAST(coalesce((SELECT sum(r.amount) FROM am_ledger_reservations r
             WHERE r.budget_id = g.id), 0) AS BIGINT) AS total FROM am_ledger_budgets g) AS b
         WHERE b.reserved <> b.total"
    );
    faults.fetch_all(conn).await
}
