//! Statements on holds. What an account's holds keep is summed by triggers of the table.

use am_core::{
    ids::{AgentId, ExecutionId, LedgerAccountId, LedgerHoldId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{Connection, FromRow as _, Result, Tx, codec::Timestamp, insert, page::PageRequest, row, sql, update};

use crate::model::{AccountKey, AccountOwner, AccountPurpose, EntryReference, EntryTags, HoldState, LedgerHold};

row! {
    /// A hold as it is stored.
    struct HoldRow from "h." {
        id: LedgerHoldId,
        account_id: LedgerAccountId,
        amount: Money => Money::from_units,
        captured: Money => Money::from_units,
        released: Money => Money::from_units,
        state: HoldState,
        reference_kind: String,
        reference_id: String,
        principal: Option<PrincipalId>,
        agent_id: Option<AgentId>,
        workflow_id: Option<WorkflowId>,
        execution_id: Option<ExecutionId>,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
    }
}

impl From<HoldRow> for LedgerHold {
    fn from(row: HoldRow) -> Self {
        Self {
            id: row.id,
            account_id: row.account_id,
            amount: row.amount,
            captured: row.captured,
            released: row.released,
            state: row.state,
            reference: EntryReference { kind: row.reference_kind, id: row.reference_id },
            tags: EntryTags {
                principal: row.principal,
                agent: row.agent_id,
                workflow: row.workflow_id,
                execution: row.execution_id,
            },
            created_at: row.created_at,
            expires_at: row.expires_at,
            ended_at: row.ended_at,
        }
    }
}

/// Insert a hold.
pub(super) async fn insert_hold(tx: &mut Tx, hold: &LedgerHold, once: Option<&str>) -> Result<()> {
    insert!("am_ledger_holds" {
        id: &hold.id,
        account_id: &hold.account_id,
        amount: hold.amount.units(),
        captured: hold.captured.units(),
        released: hold.released.units(),
        state: hold.state,
        reference_kind: &hold.reference.kind,
        reference_id: &hold.reference.id,
        principal: &hold.tags.principal,
        agent_id: &hold.tags.agent,
        workflow_id: &hold.tags.workflow,
        execution_id: &hold.tags.execution,
        once_key: once,
        created_at: hold.created_at,
        expires_at: hold.expires_at,
        ended_at: hold.ended_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Write what was taken of a hold, what was set free, and its state.
pub(super) async fn update_hold(tx: &mut Tx, hold: &LedgerHold) -> Result<()> {
    update!("am_ledger_holds" {
        captured: hold.captured.units(),
        released: hold.released.units(),
        state: hold.state,
        ended_at: hold.ended_at,
    } where "id = $1" (&hold.id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read a hold.
pub(super) async fn get_hold(conn: &mut Connection, id: &LedgerHoldId) -> Result<Option<LedgerHold>> {
    let hold = sql!("SELECT ", HoldRow::COLUMNS, " FROM am_ledger_holds h WHERE h.id = $1");
    Ok(hold.bind(id).fetch_optional::<HoldRow>(conn).await?.map(LedgerHold::from))
}

/// Find the hold that was made under a key.
pub(super) async fn find_once(conn: &mut Connection, key: &str) -> Result<Option<LedgerHold>> {
    let hold = sql!("SELECT ", HoldRow::COLUMNS, " FROM am_ledger_holds h WHERE h.once_key = $1");
    Ok(hold.bind(key).fetch_optional::<HoldRow>(conn).await?.map(LedgerHold::from))
}

row! {
    /// What an account is known by.
    struct KeyRow {
        owner: String,
        asset: String,
        purpose: AccountPurpose,
    }
}

/// Read what an account is known by.
pub(super) async fn account_key(conn: &mut Connection, id: &LedgerAccountId) -> Result<Option<AccountKey>> {
    let key = sql!("SELECT ", KeyRow::COLUMNS, " FROM am_ledger_accounts WHERE id = $1");
    let key: Option<KeyRow> = key.bind(id).fetch_optional(conn).await?;
    Ok(key.map(|row| AccountKey::new(AccountOwner::from_stored(&row.owner), &row.asset, row.purpose)))
}

/// A page of the holds on an account, and how many match.
pub(super) async fn list_holds(
    conn: &mut Connection,
    account: &LedgerAccountId,
    state: Option<HoldState>,
    page: &PageRequest,
) -> Result<(Vec<LedgerHold>, i64)> {
    let total = sql!("SELECT count(*) FROM am_ledger_holds h WHERE h.account_id = $1 [AND h.state = $2] {span h. $3}");
    let total = total.bind(account).bind_some(state).bind_span(page.created).fetch_value(conn).await?;
    let holds = sql!(
        "SELECT ",
        HoldRow::COLUMNS,
        " FROM am_ledger_holds h WHERE h.account_id = $1 [AND h.state = $2] {page h. $3}"
    );
    let holds: Vec<HoldRow> = holds.bind(account).bind_some(state).bind_page(page).fetch_all(conn).await?;
    Ok((holds.into_iter().map(LedgerHold::from).collect(), total))
}

/// Ids of open holds whose time is over, the longest first.
pub(super) async fn list_due(conn: &mut Connection, now: Timestamp, most: i64) -> Result<Vec<LedgerHoldId>> {
    let due = sql!(
        "SELECT id FROM am_ledger_holds WHERE state = 'OPEN' AND expires_at IS NOT NULL AND expires_at <= $1
         ORDER BY expires_at, id LIMIT $2"
    );
    due.bind(now).bind(most).fetch_values(conn).await
}
