//! Admission of executions: what they may cost is reserved before they begin, taken off as it is spent, and set free at their
//! end.

use chrono::TimeDelta;

use am_core::{
    boxed,
    ids::{BudgetId, ExecutionId},
    money::Money,
};
use am_db::{Connection, Tx, bulk_insert::RowBatch, codec::Timestamp};

use super::{
    model::{Admission, BudgetPeriod, BudgetUse, BudgetWait, SpendingRequest, StoredBudget},
    rules::{BudgetDecision, decide},
    store::{self, WaitRow},
};
use crate::{
    LedgerService,
    error::{LedgerError, Result},
    spending,
};

/// Hours of a budget without a period that are summed anew each time: a clock that is set back does not go back further.
const RECENT_HOURS: i64 = 48;
/// Waits that are read at once.
const MAX_WAITS: i64 = 500;

impl SpendingRequest {
    fn as_use(&self) -> BudgetUse<'_> {
        BudgetUse { principal: &self.principal, agent: None, workflow: Some(&self.workflow) }
    }
}

impl LedgerService {
    /// Whether any budget is about such spending, as far as this process knows. Does not access the database.
    pub fn binds(&self, spending: &BudgetUse<'_>) -> bool {
        self.0.budgets.binds(spending)
    }

    /// Ask the budgets whether an execution may begin, in the transaction that stores it. What it may cost is reserved; where it has
    /// to wait, that is stored.
    ///
    /// # Errors
    /// [`LedgerError::BudgetExceeded`] when a budget refuses it; a database error.
    #[boxed]
    pub async fn admit(&self, tx: &mut Tx, request: &SpendingRequest) -> Result<Admission> {
        let now = self.now();
        let ids = self.0.budgets.matching(&request.as_use());
        let budgets = if ids.is_empty() { Vec::new() } else { store::read_budgets(tx.conn().await?, &ids).await? };
        if budgets.is_empty() {
            return Ok(Admission::Unbound);
        }
        let mut rooms = Vec::with_capacity(budgets.len());
        for budget in &budgets {
            self.sum_past(tx, budget, now).await?;
            rooms.push(budget.room(tx.conn().await?, now).await?);
        }
        match decide(&rooms, request.bound) {
            BudgetDecision::Refuse { place, asked } => {
                let (budget, room) = (&budgets[place], &rooms[place]);
                let (id, name) = (budget.id.clone(), budget.name.clone());
                Err(LedgerError::BudgetExceeded { budget: id, name, remaining: room.remaining(), asked })
            }
            BudgetDecision::Wait(place) => {
                self.tell(tx, &budgets[place], &rooms[place], now).await?;
                let wait = WaitRow {
                    execution_id: request.execution.clone(),
                    budget_id: budgets[place].id.clone(),
                    principal: request.principal.clone(),
                    workflow_id: request.workflow.clone(),
                    amount: request.bound.map(Money::units),
                    since_at: now,
                };
                store::insert_wait(tx, &wait).await?;
                Ok(Admission::Waiting(wait.budget_id))
            }
            BudgetDecision::Begin { reserve, ceiling, exceeded } => {
                for budget in &budgets {
                    store::insert_reservation(tx, &request.execution, &budget.id, reserve, now).await?;
                }
                for place in exceeded {
                    self.tell(tx, &budgets[place], &rooms[place], now).await?;
                }
                Ok(Admission::Reserved { ceiling })
            }
        }
    }

    /// Sum the past hours of a budget without a period once.
    async fn sum_past(&self, tx: &mut Tx, budget: &StoredBudget, now: Timestamp) -> Result<()> {
        let to = spending::hour_of(now.0 - TimeDelta::hours(RECENT_HOURS));
        if budget.period != BudgetPeriod::Total || budget.summed_to >= to {
            return Ok(());
        }
        let conn = tx.conn().await?;
        let more = spending::spent_between(conn, &budget.spending_key(), &budget.summed_to, &to).await?;
        if more != Money::ZERO || budget.summed_to.is_empty() {
            store::set_spent_before(tx, &budget.id, budget.spent_before + more, &to).await?;
        }
        Ok(())
    }

    /// Check that spending that is known to the unit fits all budgets that bind, in the transaction that posts it. Nothing is
    /// reserved, since it is posted at once.
    ///
    /// # Errors
    /// [`LedgerError::BudgetExceeded`]; a database error.
    #[boxed]
    pub async fn check_budgets(&self, tx: &mut Tx, spending: &BudgetUse<'_>, amount: Money) -> Result<()> {
        self.fitting_budgets(tx, spending, amount).await.map(drop)
    }

    /// Reserve what something else than an execution may spend, in the transaction that stores it under the id `subject`, which no
    /// execution has. It can't wait: where a budget has no room, it is refused. [`LedgerService::add_settled_rows`] and
    /// [`LedgerService::release_subject`] end it.
    ///
    /// # Errors
    /// [`LedgerError::BudgetExceeded`]; a database error.
    #[boxed]
    pub async fn reserve_for(&self, tx: &mut Tx, subject: &str, spending: &BudgetUse<'_>, amount: Money) -> Result<()> {
        let now = self.now();
        for budget in self.fitting_budgets(tx, spending, amount).await? {
            store::insert_reservation(tx, &ExecutionId::from(subject), &budget.id, amount, now).await?;
        }
        Ok(())
    }

    /// Add the change that takes from what `subject` reserves what it has spent, or will not spend any more. At most one of a
    /// subject in a write.
    pub fn add_settled_rows(&self, rows: &mut RowBatch, subject: &str, amount: Money) {
        store::add_settled(rows, subject, amount);
    }

    /// Add the change that sets free what `subject` still reserves: it has ended.
    pub fn add_released_rows(&self, rows: &mut RowBatch, subject: &str) {
        store::add_released(rows, subject);
    }

    /// Set free what `subject` still reserves: it has ended.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn release_subject(&self, tx: &mut Tx, subject: &str) -> Result<()> {
        store::release(tx, &ExecutionId::from(subject)).await?;
        Ok(())
    }

    /// The budgets that are about such spending, all of which have room for it.
    async fn fitting_budgets(&self, tx: &mut Tx, spending: &BudgetUse<'_>, amount: Money) -> Result<Vec<StoredBudget>> {
        let ids = self.0.budgets.matching(spending);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now();
        let budgets = store::read_budgets(tx.conn().await?, &ids).await?;
        let mut rooms = Vec::with_capacity(budgets.len());
        for budget in &budgets {
            rooms.push(budget.room(tx.conn().await?, now).await?);
        }
        match decide(&rooms, Some(amount)) {
            BudgetDecision::Begin { exceeded, .. } => {
                for place in exceeded {
                    self.tell(tx, &budgets[place], &rooms[place], now).await?;
                }
                Ok(budgets)
            }
            // What is done at once can't wait.
            BudgetDecision::Refuse { place, .. } | BudgetDecision::Wait(place) => {
                let (budget, remaining) = (&budgets[place], rooms[place].remaining());
                let (id, name) = (budget.id.clone(), budget.name.clone());
                Err(LedgerError::BudgetExceeded { budget: id, name, remaining, asked: amount })
            }
        }
    }

    /// Take what an execution has spent off what it reserves, in the transaction that posts it.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn settle_reservation(&self, tx: &mut Tx, execution: &ExecutionId, spent: Money) -> Result<()> {
        Ok(store::settle(tx, execution, spent).await?)
    }

    /// Set free what an execution still reserves, and end its wait: it has ended.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn release_reservation(&self, tx: &mut Tx, execution: &ExecutionId) -> Result<()> {
        store::release(tx, execution).await?;
        Ok(store::delete_wait(tx, execution).await?)
    }

    /// What an execution waits for; `None`: it waits for no budget.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn wait_of(&self, conn: &mut Connection, execution: &ExecutionId) -> Result<Option<BudgetWait>> {
        let Some(wait) = store::get_wait(conn, execution).await? else { return Ok(None) };
        let budget = store::get_budget(conn, &wait.budget_id).await?;
        Ok(budget.map(|budget| BudgetWait {
            execution: wait.execution_id,
            until: budget.period.bounds(self.now()).map(|(_, to)| to),
            budget: budget.id,
            name: budget.name,
            since: wait.since_at,
        }))
    }

    /// Executions that may be let in now, those that have waited longest first: none behind another one that waits for the same
    /// budget and still has no room.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn waiting_executions(&self) -> Result<Vec<ExecutionId>> {
        let mut conn = self.0.db.read_vital().await?;
        let (mut found, mut blocked) = (Vec::new(), Vec::<BudgetId>::new());
        let mut after: Option<(Timestamp, ExecutionId)> = None;
        loop {
            let position = after.as_ref().map(|(at, id)| (*at, id));
            let waits = store::list_waits(&mut conn, position, MAX_WAITS).await?;
            for wait in &waits {
                if blocked.contains(&wait.budget_id) {
                    continue;
                }
                if has_room(&mut conn, wait, self.now()).await? {
                    found.push(wait.execution_id.clone());
                } else {
                    blocked.push(wait.budget_id.clone());
                }
            }
            match waits.last() {
                Some(last) if waits.len() as i64 == MAX_WAITS && found.len() < waits.len() => {
                    after = Some((last.since_at, last.execution_id.clone()));
                }
                _ => return Ok(found),
            }
        }
    }

    /// Ask the budgets again for an execution that waits. `None`: it does not wait any more.
    ///
    /// # Errors
    /// [`LedgerError::BudgetExceeded`] when a budget refuses it now; a database error.
    #[boxed]
    pub async fn admit_waiting(&self, tx: &mut Tx, execution: &ExecutionId) -> Result<Option<Admission>> {
        let Some(wait) = store::get_wait(tx.conn().await?, execution).await? else { return Ok(None) };
        let request = SpendingRequest {
            execution: wait.execution_id,
            principal: wait.principal,
            workflow: wait.workflow_id,
            bound: wait.amount.map(Money::from_units),
        };
        let admission = self.admit(tx, &request).await?;
        if !matches!(admission, Admission::Waiting(_)) {
            store::delete_wait(tx, execution).await?;
        }
        Ok(Some(admission))
    }
}

/// Whether the budget that an execution waits for may have room for it: whether it does is decided under the write lock.
async fn has_room(conn: &mut Connection, wait: &WaitRow, now: Timestamp) -> Result<bool> {
    let Some(budget) = store::get_budget(conn, &wait.budget_id).await? else { return Ok(true) };
    let remaining = budget.room(conn, now).await?.remaining();
    let needed = wait.amount.map_or(Money::from_units(1), Money::from_units);
    // What would never fit is let in to be refused.
    Ok(remaining >= needed || budget.limit < needed)
}
