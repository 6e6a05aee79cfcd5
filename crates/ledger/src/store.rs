//! Statements that post entries, and those that read accounts and entries.

use am_core::{
    ids::{AgentId, ExecutionId, LedgerAccountId, LedgerEntryId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{Connection, FromRow as _, Result, bulk_insert::RowBatch, codec::Timestamp, push_row, row, sql};

use super::{
    draft::NewEntry,
    model::{AccountKey, AccountPurpose, EntryKind, EntryLine, EntryReference, EntryTags, LedgerAccount, LedgerEntry},
};

/// One side of a movement: what an account gets, below zero where it pays.
pub(super) struct AccountChange<'a> {
    pub(super) account: &'a AccountKey,
    pub(super) other: &'a AccountKey,
    pub(super) amount: i64,
    pub(super) is_fee: bool,
}

/// Add the row of an entry.
pub(super) fn add_entry_row(rows: &mut RowBatch, id: &LedgerEntryId, entry: &NewEntry, now: Timestamp) {
    let reference = entry.reference.as_ref();
    push_row!(rows, "am_ledger_entries" {
        id: id,
        kind: entry.kind,
        reference_kind: reference.map(|reference| &reference.kind),
        reference_id: reference.map(|reference| &reference.id),
        principal: &entry.tags.principal,
        agent_id: &entry.tags.agent,
        workflow_id: &entry.tags.workflow,
        execution_id: &entry.tags.execution,
        note: &entry.note,
        reverses: &entry.reverses,
        once_key: &entry.once,
        spent: entry.spent.units(),
        spent_on_agent: entry.spent_on_agent.units(),
        created_at: now,
    });
}

/// Add the row that changes an account, or opens it; its line follows from it.
pub(super) fn add_account_row(rows: &mut RowBatch, entry: &LedgerEntryId, change: &AccountChange<'_>, now: Timestamp) {
    let AccountChange { account, other, amount, is_fee } = change;
    push_row!(rows, "am_ledger_accounts" {
        id: account.id(),
        owner: account.owner.to_string(),
        asset: &account.asset,
        purpose: account.purpose,
        may_be_negative: account.purpose.may_be_negative(),
        balance: *amount,
        lines: 1i64,
        posted_at: now,
        last_entry: entry,
        last_other: other.id(),
        last_is_fee: *is_fee,
        created_at: now,
    } "ON CONFLICT (id) DO UPDATE SET balance = am_ledger_accounts.balance + excluded.balance,
           lines = am_ledger_accounts.lines + 1,
           posted_at = CASE WHEN am_ledger_accounts.posted_at > excluded.posted_at
               THEN am_ledger_accounts.posted_at ELSE excluded.posted_at END,
           last_entry = excluded.last_entry, last_other = excluded.last_other, last_is_fee = excluded.last_is_fee");
}

row! {
    /// What must be known of an account before something leaves it.
    pub(super) struct AccountState {
        pub(super) id: LedgerAccountId,
        pub(super) balance: Money => Money::from_units,
        pub(super) held: Money => Money::from_units,
    }
}

/// Read what these accounts have; those that were never used are missing.
pub(super) async fn read_states(conn: &mut Connection, ids: &[LedgerAccountId]) -> Result<Vec<AccountState>> {
    let states = sql!("SELECT ", AccountState::COLUMNS, " FROM am_ledger_accounts WHERE id IN ($1)");
    states.bind_all(ids).fetch_all(conn).await
}

row! {
    /// An entry that was posted under a key.
    pub(super) struct KnownEntry {
        pub(super) id: LedgerEntryId,
        pub(super) once_key: String,
        pub(super) posted_at: Timestamp = "created_at",
    }
}

/// Find the entries that were posted under these keys.
pub(super) async fn find_known(conn: &mut Connection, keys: &[&str]) -> Result<Vec<KnownEntry>> {
    let known = sql!("SELECT ", KnownEntry::COLUMNS, " FROM am_ledger_entries WHERE once_key IN ($1)");
    known.bind_all(keys.iter().copied()).fetch_all(conn).await
}

row! {
    /// An account as it is stored.
    pub(crate) struct AccountRow from "a." {
        id: LedgerAccountId,
        owner: String,
        asset: String,
        purpose: AccountPurpose,
        may_be_negative: i64,
        balance: Money => Money::from_units,
        held: Money => Money::from_units,
        lines: i64,
        posted_at: Timestamp,
        created_at: Timestamp,
    }
}

impl From<AccountRow> for LedgerAccount {
    fn from(row: AccountRow) -> Self {
        Self {
            id: row.id,
            owner: row.owner,
            asset: row.asset,
            purpose: row.purpose,
            may_be_negative: row.may_be_negative != 0,
            balance: row.balance,
            held: row.held,
            available: row.balance - row.held,
            lines: row.lines,
            posted_at: row.posted_at,
            created_at: row.created_at,
        }
    }
}

/// Read an account.
pub(super) async fn get_account(conn: &mut Connection, id: &LedgerAccountId) -> Result<Option<LedgerAccount>> {
    let account = sql!("SELECT ", AccountRow::COLUMNS, " FROM am_ledger_accounts a WHERE a.id = $1");
    Ok(account.bind(id).fetch_optional::<AccountRow>(conn).await?.map(LedgerAccount::from))
}

/// Read all accounts of an owner, by asset and purpose.
pub(super) async fn accounts_of(conn: &mut Connection, owner: &str) -> Result<Vec<LedgerAccount>> {
    let accounts = sql!(
        "SELECT ",
        AccountRow::COLUMNS,
        " FROM am_ledger_accounts a WHERE a.owner = $1 ORDER BY a.asset, a.purpose"
    );
    let accounts: Vec<AccountRow> = accounts.bind(owner).fetch_all(conn).await?;
    Ok(accounts.into_iter().map(LedgerAccount::from).collect())
}

/// Read the balance after the last line of an account before `at`; `None`: it had none.
pub(super) async fn balance_before(
    conn: &mut Connection,
    account: &LedgerAccountId,
    at: Timestamp,
) -> Result<Option<(Money, i64)>> {
    let balance = sql!(
        "SELECT balance_after, line_no FROM am_ledger_lines WHERE account_id = $1 AND posted_at < $2
         ORDER BY posted_at DESC, line_no DESC LIMIT 1"
    );
    let found: Option<(i64, i64)> = balance.bind(account).bind(at).fetch_optional(conn).await?;
    Ok(found.map(|(units, line_no)| (Money::from_units(units), line_no)))
}

row! {
    /// An entry without its lines.
    pub(super) struct EntryRow {
        pub(super) id: LedgerEntryId,
        pub(super) kind: EntryKind,
        reference_kind: Option<String>,
        reference_id: Option<String>,
        principal: Option<PrincipalId>,
        agent_id: Option<AgentId>,
        workflow_id: Option<WorkflowId>,
        execution_id: Option<ExecutionId>,
        note: Option<String>,
        pub(super) reverses: Option<LedgerEntryId>,
        pub(super) spent: Money => Money::from_units,
        pub(super) spent_on_agent: Money => Money::from_units,
        pub(super) posted_at: Timestamp = "created_at",
    }
}

impl EntryRow {
    /// Who spent it and on what.
    pub(super) fn tags(&self) -> EntryTags {
        EntryTags {
            principal: self.principal.clone(),
            agent: self.agent_id.clone(),
            workflow: self.workflow_id.clone(),
            execution: self.execution_id.clone(),
        }
    }

    /// The entry with its lines.
    pub(super) fn with_lines(self, lines: Vec<EntryLine>, reversed_by: Option<LedgerEntryId>) -> LedgerEntry {
        let tags = self.tags();
        let reference = self.reference_kind.zip(self.reference_id).map(|(kind, id)| EntryReference { kind, id });
        LedgerEntry {
            id: self.id,
            kind: self.kind,
            reference,
            tags,
            spent: self.spent,
            note: self.note,
            reverses: self.reverses,
            reversed_by,
            posted_at: self.posted_at,
            lines,
        }
    }
}

/// Read an entry without its lines.
pub(super) async fn get_entry(conn: &mut Connection, id: &LedgerEntryId) -> Result<Option<EntryRow>> {
    let entry = sql!("SELECT ", EntryRow::COLUMNS, " FROM am_ledger_entries WHERE id = $1");
    entry.bind(id).fetch_optional(conn).await
}

/// Find the entry that takes another one back.
pub(super) async fn reversal_of(conn: &mut Connection, id: &LedgerEntryId) -> Result<Option<LedgerEntryId>> {
    let reversal = sql!("SELECT id FROM am_ledger_entries WHERE reverses = $1 AND reverses IS NOT NULL");
    reversal.bind(id).fetch_optional_value(conn).await
}

row! {
    /// A line with its account.
    struct LineRow from "l." {
        account_id: LedgerAccountId,
        owner: String = "a.owner",
        asset: String = "a.asset",
        purpose: AccountPurpose = "a.purpose",
        amount: Money => Money::from_units,
        balance_after: Money => Money::from_units,
        line_no: i64,
        is_fee: i64,
        other_account: LedgerAccountId,
    }
}

/// Read the lines of an entry.
pub(super) async fn entry_lines(conn: &mut Connection, id: &LedgerEntryId) -> Result<Vec<EntryLine>> {
    let lines = sql!(
        "SELECT ",
        LineRow::COLUMNS,
        " FROM am_ledger_lines l JOIN am_ledger_accounts a ON a.id = l.account_id WHERE l.entry_id = $1"
    );
    let lines: Vec<LineRow> = lines.bind(id).fetch_all(conn).await?;
    let line = |row: LineRow| EntryLine {
        account_id: row.account_id,
        owner: row.owner,
        asset: row.asset,
        purpose: row.purpose,
        amount: row.amount,
        balance_after: row.balance_after,
        line_no: row.line_no,
        is_fee: row.is_fee != 0,
        other_account_id: row.other_account,
    };
    let mut lines: Vec<EntryLine> = lines.into_iter().map(line).collect();
    lines.sort_by(|one, other| (&one.account_id, one.line_no).cmp(&(&other.account_id, other.line_no)));
    Ok(lines)
}
