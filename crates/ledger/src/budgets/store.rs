//! Statements on budgets, reservations and waits. What a budget's reservations sum to is kept by triggers.

use am_core::{
    ids::{BudgetId, ExecutionId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, codec::Timestamp, insert, page::PageRequest,
    push_change, row, sql, update,
};

use super::model::{BudgetScope, ExceedAction, StoredBudget};

row! {
    StoredBudget from "b." {
        id,
        owner_id,
        name,
        scope,
        subject,
        principal,
        limit = "b.limit_units" => Money::from_units,
        period,
        on_exceed,
        reserved => Money::from_units,
        spent_before => Money::from_units,
        summed_to,
        told_at,
        created_at,
        updated_at,
    }
}

row! {
    /// What a budget is about.
    pub(super) struct BudgetKeyRow {
        pub(super) id: BudgetId,
        pub(super) scope: BudgetScope,
        pub(super) subject: String,
        pub(super) principal: PrincipalId,
        pub(super) on_exceed: ExceedAction,
    }
}

/// The number of the last change of any budget.
pub(super) async fn revision(conn: &mut Connection) -> Result<i64> {
    sql!("SELECT coalesce(max(revision), 0) FROM am_ledger_budgets").fetch_value(conn).await
}

/// Read what all budgets in force are about.
pub(super) async fn read_keys(conn: &mut Connection) -> Result<Vec<BudgetKeyRow>> {
    let keys = sql!("SELECT ", BudgetKeyRow::COLUMNS, " FROM am_ledger_budgets WHERE deleted_at IS NULL");
    keys.fetch_all(conn).await
}

/// Insert a budget, as the last change.
pub(super) async fn insert_budget(tx: &mut Tx, budget: &StoredBudget) -> Result<()> {
    let revision = revision(tx.conn().await?).await? + 1;
    insert!("am_ledger_budgets" {
        id: &budget.id,
        owner_id: &budget.owner_id,
        name: &budget.name,
        scope: budget.scope,
        subject: &budget.subject,
        principal: &budget.principal,
        limit_units: budget.limit.units(),
        period: budget.period,
        on_exceed: budget.on_exceed,
        revision: revision,
        created_at: budget.created_at,
        updated_at: budget.updated_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Write what a client changed of a budget, as the last change.
pub(super) async fn update_budget(tx: &mut Tx, budget: &StoredBudget, deleted_at: Option<Timestamp>) -> Result<()> {
    let revision = revision(tx.conn().await?).await? + 1;
    update!("am_ledger_budgets" {
        name: &budget.name,
        limit_units: budget.limit.units(),
        on_exceed: budget.on_exceed,
        told_at: budget.told_at,
        updated_at: budget.updated_at,
        deleted_at: deleted_at,
        revision: revision,
    } where "id = $1" (&budget.id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Write the begin of the period in which a budget was told last.
pub(super) async fn set_told(tx: &mut Tx, id: &BudgetId, told_at: Timestamp) -> Result<()> {
    let set = sql!("UPDATE am_ledger_budgets SET told_at = $2 WHERE id = $1");
    set.bind(id).bind(told_at).execute(tx.conn().await?).await?;
    Ok(())
}

/// Write what was spent before an hour.
pub(super) async fn set_spent_before(tx: &mut Tx, id: &BudgetId, spent: Money, summed_to: &str) -> Result<()> {
    let set = sql!("UPDATE am_ledger_budgets SET spent_before = $2, summed_to = $3 WHERE id = $1");
    set.bind(id).bind(spent.units()).bind(summed_to).execute(tx.conn().await?).await?;
    Ok(())
}

/// Read a budget in force.
pub(super) async fn get_budget(conn: &mut Connection, id: &BudgetId) -> Result<Option<StoredBudget>> {
    let budget =
        sql!("SELECT ", StoredBudget::COLUMNS, " FROM am_ledger_budgets b WHERE b.id = $1 AND b.deleted_at IS NULL");
    budget.bind(id).fetch_optional(conn).await
}

/// Read these budgets, those in force.
pub(super) async fn read_budgets(conn: &mut Connection, ids: &[BudgetId]) -> Result<Vec<StoredBudget>> {
    let budgets =
        sql!("SELECT ", StoredBudget::COLUMNS, " FROM am_ledger_budgets b WHERE b.id IN ($1) AND b.deleted_at IS NULL");
    budgets.bind_all(ids).fetch_all(conn).await
}

/// Count the budgets of an owner, and find whether one has this name.
pub(super) async fn count_own(conn: &mut Connection, owner: &PrincipalId, name: &str) -> Result<(i64, bool)> {
    let count = sql!(
        "SELECT count(*), coalesce(max(CASE WHEN name = $2 THEN 1 ELSE 0 END), 0) FROM am_ledger_budgets
         WHERE owner_id = $1 AND deleted_at IS NULL"
    );
    let (count, taken): (i64, i64) = count.bind(owner).bind(name).fetch_one(conn).await?;
    Ok((count, taken != 0))
}

/// A page of budgets, of one owner or of all, and how many match.
pub(super) async fn list_budgets(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    page: &PageRequest,
) -> Result<(Vec<StoredBudget>, i64)> {
    let total =
        sql!("SELECT count(*) FROM am_ledger_budgets b WHERE b.deleted_at IS NULL [AND b.owner_id = $1] {span b. $2}");
    let total = total.bind_some(owner).bind_span(page.created).fetch_value(conn).await?;
    let budgets = sql!(
        "SELECT ",
        StoredBudget::COLUMNS,
        " FROM am_ledger_budgets b WHERE b.deleted_at IS NULL [AND b.owner_id = $1] {page b. $2}"
    );
    Ok((budgets.bind_some(owner).bind_page(page).fetch_all(conn).await?, total))
}

/// Insert what an execution reserves of a budget.
pub(super) async fn insert_reservation(
    tx: &mut Tx,
    execution: &ExecutionId,
    budget: &BudgetId,
    amount: Money,
    now: Timestamp,
) -> Result<()> {
    insert!("am_ledger_reservations" {
        execution_id: execution,
        budget_id: budget,
        amount: amount.units(),
        created_at: now,
    } update on (execution_id, budget_id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Take what an execution has spent from what it reserves.
pub(super) async fn settle(tx: &mut Tx, execution: &ExecutionId, spent: Money) -> Result<()> {
    let settled = sql!(
        "UPDATE am_ledger_reservations SET amount = CASE WHEN amount > $2 THEN amount - $2 ELSE 0 END
         WHERE execution_id = $1"
    );
    settled.bind(execution).bind(spent.units()).execute(tx.conn().await?).await?;
    Ok(())
}

/// Add the change that takes an amount from what a subject reserves of each budget.
pub(super) fn add_settled(rows: &mut RowBatch, subject: &str, spent: Money) {
    push_change!(
        rows,
        (subject, spent.units()),
        "UPDATE am_ledger_reservations SET amount = CASE WHEN amount > r.spent THEN amount - r.spent ELSE 0 END
         FROM {records $1 subject:text spent:bigint} AS r WHERE am_ledger_reservations.execution_id = r.subject"
    );
}

/// Add the change that deletes what a subject reserves.
pub(super) fn add_released(rows: &mut RowBatch, subject: &str) {
    push_change!(
        rows,
        (subject),
        "DELETE FROM am_ledger_reservations WHERE execution_id IN (SELECT r.subject FROM {records $1 subject:text} AS r)"
    );
}

/// Delete what an execution reserves. Returns whether it reserved anything.
pub(super) async fn release(tx: &mut Tx, execution: &ExecutionId) -> Result<bool> {
    let released = sql!("DELETE FROM am_ledger_reservations WHERE execution_id = $1");
    Ok(released.bind(execution).execute(tx.conn().await?).await? > 0)
}

row! {
    /// An execution that waits for a budget.
    pub(super) struct WaitRow from "w." {
        pub(super) execution_id: ExecutionId,
        pub(super) budget_id: BudgetId,
        pub(super) principal: PrincipalId,
        pub(super) workflow_id: WorkflowId,
        pub(super) amount: Option<i64>,
        pub(super) since_at: Timestamp,
    }
}

/// Insert a wait, or the budget that it is for now.
pub(super) async fn insert_wait(tx: &mut Tx, wait: &WaitRow) -> Result<()> {
    insert!("am_ledger_waits" {
        execution_id: &wait.execution_id,
        budget_id: &wait.budget_id,
        principal: &wait.principal,
        workflow_id: &wait.workflow_id,
        amount: wait.amount,
        since_at: wait.since_at,
    } update on (execution_id) except (since_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read a wait.
pub(super) async fn get_wait(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<WaitRow>> {
    let wait = sql!("SELECT ", WaitRow::COLUMNS, " FROM am_ledger_waits w WHERE w.execution_id = $1");
    wait.bind(execution).fetch_optional(conn).await
}

/// Delete a wait.
pub(super) async fn delete_wait(tx: &mut Tx, execution: &ExecutionId) -> Result<()> {
    sql!("DELETE FROM am_ledger_waits WHERE execution_id = $1").bind(execution).execute(tx.conn().await?).await?;
    Ok(())
}

/// Read waits behind this one, the longest first.
pub(super) async fn list_waits(
    conn: &mut Connection,
    after: Option<(Timestamp, &ExecutionId)>,
    most: i64,
) -> Result<Vec<WaitRow>> {
    let (at, id) = after.unzip();
    let waits = sql!(
        "SELECT ",
        WaitRow::COLUMNS,
        " FROM am_ledger_waits w WHERE true [AND (w.since_at, w.execution_id) > ($1, $2)]
         ORDER BY w.since_at, w.execution_id LIMIT $3"
    );
    waits.bind_some(at).bind_some(id).bind(most).fetch_all(conn).await
}

/// Count the executions that wait for a budget.
pub(super) async fn count_waits(conn: &mut Connection, budget: &BudgetId) -> Result<i64> {
    sql!("SELECT count(*) FROM am_ledger_waits WHERE budget_id = $1").bind(budget).fetch_value(conn).await
}
