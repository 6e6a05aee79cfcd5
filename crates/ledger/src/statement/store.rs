//! Statements that read accounts in lists and their lines in pages.

use am_core::{
    ids::{LedgerAccountId, LedgerEntryId},
    money::Money,
};
use am_db::{Connection, FromRow as _, Result, codec::Timestamp, page::PageRequest, page::TimeSpan, row, sql};

use super::StatementLine;
use crate::{
    model::{AccountPurpose, EntryKind, LedgerAccount},
    store::AccountRow,
};

/// A page of accounts, of one owner or of all, and how many match.
pub(super) async fn list_accounts(
    conn: &mut Connection,
    owner: Option<&str>,
    asset: Option<&str>,
    purpose: Option<AccountPurpose>,
    page: &PageRequest,
) -> Result<(Vec<LedgerAccount>, i64)> {
    let total = sql!(
        "SELECT count(*) FROM am_ledger_accounts a
         WHERE true [AND a.owner = $1] [AND a.asset = $2] [AND a.purpose = $3] {span a. $4}"
    );
    let total = total.bind_some(owner).bind_some(asset).bind_some(purpose).bind_span(page.created);
    let total = total.fetch_value(conn).await?;
    let accounts = sql!(
        "SELECT ",
        AccountRow::COLUMNS,
        " FROM am_ledger_accounts a
         WHERE true [AND a.owner = $1] [AND a.asset = $2] [AND a.purpose = $3] {page a. $4}"
    );
    let accounts = accounts.bind_some(owner).bind_some(asset).bind_some(purpose).bind_page(page);
    let accounts: Vec<AccountRow> = accounts.fetch_all(conn).await?;
    Ok((accounts.into_iter().map(LedgerAccount::from).collect(), total))
}

row! {
    /// A line with its entry.
    struct StatementRow from "l." {
        posted_at: Timestamp,
        line_no: i64,
        entry_id: LedgerEntryId,
        kind: EntryKind = "e.kind",
        reference_kind: Option<String> = "e.reference_kind",
        reference_id: Option<String> = "e.reference_id",
        note: Option<String> = "e.note",
        other_account: LedgerAccountId,
        other_owner: String = "o.owner",
        amount: Money => Money::from_units,
        balance_after: Money => Money::from_units,
        is_fee: i64,
    }
}

/// Where a page of lines begins: behind this time and number.
pub(super) type LinePosition = (Timestamp, i64);

/// Read lines of an account, newest or oldest first.
pub(super) async fn read_lines(
    conn: &mut Connection,
    account: &LedgerAccountId,
    after: Option<LinePosition>,
    page: &PageRequest,
) -> Result<Vec<StatementLine>> {
    let [newer, older] = if page.oldest_first { [None, after] } else { [after, None] };
    let ((newer_at, newer_no), (older_at, older_no)) = (newer.unzip(), older.unzip());
    let lines = sql!(
        "SELECT ",
        StatementRow::COLUMNS,
        " FROM am_ledger_lines l {then} am_ledger_entries e ON e.id = l.entry_id
             {then} am_ledger_accounts o ON o.id = l.other_account
         WHERE l.account_id = $1 [AND (l.posted_at, l.line_no) < ($2, $3)] [AND (l.posted_at, l.line_no) > ($4, $5)]
             [AND l.posted_at > $6] [AND l.posted_at < $7]
         ORDER BY l.posted_at [?8 DESC], l.line_no [?8 DESC] LIMIT $9 OFFSET $10"
    );
    let lines = lines.bind(account).bind_some(newer_at).bind_some(newer_no).bind_some(older_at).bind_some(older_no);
    let lines = lines.bind_span(page.created).bind_flag(!page.oldest_first);
    let lines: Vec<StatementRow> =
        lines.bind(i64::from(page.limit)).bind(i64::from(page.offset)).fetch_all(conn).await?;
    let line = |row: StatementRow| StatementLine {
        posted_at: row.posted_at,
        line_no: row.line_no,
        place: row.line_no.to_string(),
        entry_id: row.entry_id,
        kind: row.kind,
        reference_kind: row.reference_kind,
        reference_id: row.reference_id,
        note: row.note,
        other_account_id: row.other_account,
        other_owner: row.other_owner,
        amount: row.amount,
        balance_after: row.balance_after,
        is_fee: row.is_fee != 0,
    };
    Ok(lines.into_iter().map(line).collect())
}

/// Number of the last line of an account in a span of time, and of the last one before it: their difference is how many lines the
/// span has.
pub(super) async fn line_bounds(
    conn: &mut Connection,
    account: &LedgerAccountId,
    span: TimeSpan,
) -> Result<(i64, i64)> {
    let last = sql!(
        "SELECT line_no FROM am_ledger_lines WHERE account_id = $1 [AND posted_at < $2]
         ORDER BY posted_at DESC, line_no DESC LIMIT 1"
    );
    let last: Option<i64> = last.bind(account).bind_some(span.before).fetch_optional_value(conn).await?;
    let Some(after) = span.after else { return Ok((last.unwrap_or(0), 0)) };
    let before = sql!(
        "SELECT line_no FROM am_ledger_lines WHERE account_id = $1 AND posted_at <= $2
         ORDER BY posted_at DESC, line_no DESC LIMIT 1"
    );
    let before: Option<i64> = before.bind(account).bind(after).fetch_optional_value(conn).await?;
    Ok((last.unwrap_or(0), before.unwrap_or(0)))
}
