//! Budgets: limits of what a principal spends, in all, on an agent or on a workflow, in a period. An execution reserves what it
//! can cost before it begins, and what it costs is taken from that; so no budget that binds is exceeded by one unit.

mod admission;
mod cache;
mod model;
mod rules;
mod store;

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use am_audit::{AuditEntry, EventType};
use am_core::{
    ambient::sleep_or_cancelled,
    boxed,
    ids::{BudgetId, PrincipalId},
    money::Money,
    validation::Violations,
};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner,
    page::PageRequest,
    principal::Principal,
};
use am_webhooks::{WebhookEvent, WebhookEventKind};

pub(super) use cache::BudgetCache;
use model::StoredBudget;
pub use model::{
    Admission, Budget, BudgetChange, BudgetDraft, BudgetPeriod, BudgetScope, BudgetState, BudgetUse, BudgetWait,
    ExceedAction, SpendingRequest,
};
use rules::BudgetRoom;

use super::{
    LedgerService,
    error::{LedgerError, Result},
    spending::{self, SpendingDimension, SpendingKey},
};

/// Budgets that one principal may have.
const MAX_OWN_BUDGETS: i64 = 100;
/// Interval at which changes by other processes are looked for.
const BUDGET_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What is told of a budget that has no room.
#[derive(Serialize)]
struct BudgetExceededEvent<'a> {
    budget_id: &'a BudgetId,
    name: &'a str,
    principal: &'a PrincipalId,
    limit: Money,
    spent: Money,
    reserved: Money,
    period: BudgetPeriod,
    on_exceed: ExceedAction,
}

impl StoredBudget {
    fn spending_key(&self) -> SpendingKey<'_> {
        let (principal, subject) = (self.principal.as_str(), self.subject.as_str());
        let dimension = match self.scope {
            BudgetScope::Principal => SpendingDimension::Principal,
            BudgetScope::Agent => SpendingDimension::Agent,
            BudgetScope::Workflow => SpendingDimension::Workflow,
        };
        SpendingKey { dimension, principal, subject }
    }

    /// What was spent in the present period.
    async fn spent(&self, conn: &mut Connection, now: Timestamp) -> Result<Money> {
        match self.period.bounds(now) {
            Some((from, _)) => spending::spent_since(conn, &self.spending_key(), &spending::hour_of(from.0)).await,
            None => {
                let since = spending::spent_since(conn, &self.spending_key(), &self.summed_to).await?;
                Ok(self.spent_before + since)
            }
        }
    }

    async fn room(&self, conn: &mut Connection, now: Timestamp) -> Result<BudgetRoom> {
        let spent = self.spent(conn, now).await?;
        Ok(BudgetRoom { limit: self.limit, spent, reserved: self.reserved, on_exceed: self.on_exceed })
    }

    /// The budget with what is used of it.
    async fn shown(self, conn: &mut Connection, now: Timestamp) -> Result<Budget> {
        let room = self.room(conn, now).await?;
        let bounds = self.period.bounds(now);
        let state = BudgetState {
            spent: room.spent,
            reserved: room.reserved,
            remaining: room.remaining(),
            period_from: bounds.map(|(from, _)| from),
            period_to: bounds.map(|(_, to)| to),
            waiting: store::count_waits(conn, &self.id).await?,
        };
        Ok(Budget {
            id: self.id,
            owner_id: self.owner_id,
            name: self.name,
            scope: self.scope,
            subject: Some(self.subject).filter(|subject| !subject.is_empty()),
            principal: self.principal,
            limit: self.limit,
            period: self.period,
            on_exceed: self.on_exceed,
            state,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// What the audit log tells of a budget.
fn told(budget: &StoredBudget) -> serde_json::Value {
    let StoredBudget { name, scope, subject, principal, limit, period, on_exceed, .. } = budget;
    json!({"name": name, "scope": scope, "subject": subject, "principal": principal, "limit": limit.to_string(),
        "period": period, "on_exceed": on_exceed})
}

impl LedgerService {
    /// Make a budget. It binds executions that begin from now on, in other processes after a second at most; what was spent in the
    /// present period counts.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`]; [`LedgerError::NameTaken`]; a database error.
    #[boxed]
    pub async fn create_budget(
        &self,
        by: &Principal,
        draft: BudgetDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Budget>> {
        let checked = rules::check_draft(&draft).map_err(LedgerError::Invalid);
        let limit = self.noted(by, ("budget", &draft.name), "create", checked).await?;
        let (me, now, by) = (self.clone(), self.now(), by.clone());
        let budget = StoredBudget {
            id: self.0.ids.next("budget_", 12).into(),
            owner_id: by.id(),
            name: draft.name,
            scope: draft.scope,
            subject: draft.subject.unwrap_or_default(),
            principal: draft.principal,
            limit,
            period: draft.period,
            on_exceed: draft.on_exceed,
            reserved: Money::ZERO,
            spent_before: Money::ZERO,
            summed_to: String::new(),
            told_at: None,
            created_at: now,
            updated_at: now,
        };
        let work = async move |tx: &mut Tx| {
            let (count, is_taken) = store::count_own(tx.conn().await?, &budget.owner_id, &budget.name).await?;
            if is_taken {
                return Err(LedgerError::NameTaken(budget.name));
            }
            if count >= MAX_OWN_BUDGETS {
                return Err(LedgerError::invalid("name", format!("there are {MAX_OWN_BUDGETS} budgets, the most")));
            }
            store::insert_budget(tx, &budget).await?;
            let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(&by).of("budget", "created");
            let entry = entry.data("budget_id", json!(budget.id)).change(None, Some(told(&budget)));
            me.0.audit.append(tx, vec![entry]).await?;
            budget.shown(tx.conn().await?, now).await
        };
        let made = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        self.refresh_budgets().await?;
        Ok(made)
    }

    /// Change a budget of the caller, or of anybody where `is_admin`.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; [`LedgerError::Invalid`]; [`LedgerError::NameTaken`]; a database error.
    #[boxed]
    pub async fn update_budget(
        &self,
        by: &Principal,
        is_admin: bool,
        id: &BudgetId,
        change: BudgetChange,
    ) -> Result<Budget> {
        let mut violations = Violations::default();
        if let Some(name) = &change.name {
            violations.take(rules::check_name(name));
        }
        if let Some(limit) = change.limit {
            limit.amount("limit", &mut violations);
        }
        let checked = violations.finish().map_err(LedgerError::Invalid);
        self.noted(by, ("budget", id), "update", checked).await?;
        self.change_budget(by, is_admin, id, "updated", change).await?;
        let mut conn = self.0.db.read().await?;
        let budget = store::get_budget(&mut conn, id).await?.ok_or(LedgerError::NotFound("Budget"))?;
        budget.shown(&mut conn, self.now()).await
    }

    /// Delete a budget of the caller, or of anybody where `is_admin`. Executions that it binds go on; those that wait for it go on
    /// if no other budget holds them.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; a database error.
    #[boxed]
    pub async fn delete_budget(&self, by: &Principal, is_admin: bool, id: &BudgetId) -> Result<()> {
        self.change_budget(by, is_admin, id, "deleted", BudgetChange::default()).await
    }

    async fn change_budget(
        &self,
        by: &Principal,
        is_admin: bool,
        id: &BudgetId,
        action: &'static str,
        change: BudgetChange,
    ) -> Result<()> {
        let (me, now, by, id) = (self.clone(), self.now(), by.clone(), id.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::get_budget(tx.conn().await?, &id).await?;
            let found = found.filter(|budget| is_admin || by.owns(&budget.owner_id));
            let mut budget = found.ok_or(LedgerError::NotFound("Budget"))?;
            let before = told(&budget);
            let BudgetChange { name, limit, on_exceed } = change;
            let limit = limit.and_then(|limit| limit.get().ok());
            if let Some(name) = name.filter(|name| *name != budget.name) {
                if store::count_own(tx.conn().await?, &budget.owner_id, &name).await?.1 {
                    return Err(LedgerError::NameTaken(name));
                }
                budget.name = name;
            }
            // Another limit is told of anew.
            budget.told_at = budget.told_at.filter(|_| limit.is_none());
            budget.limit = limit.unwrap_or(budget.limit);
            budget.on_exceed = on_exceed.unwrap_or(budget.on_exceed);
            budget.updated_at = now;
            let deleted_at = (action == "deleted").then_some(now);
            store::update_budget(tx, &budget, deleted_at).await?;
            let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(&by).of("budget", action);
            let entry = entry.data("budget_id", json!(id)).change(Some(before), Some(told(&budget)));
            Ok(me.0.audit.append(tx, vec![entry]).await?)
        };
        self.0.db.write(work).await?;
        self.refresh_budgets().await
    }

    /// A budget of the caller, or of anybody where `is_admin`.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; a database error.
    #[boxed]
    pub async fn budget(&self, by: &Principal, is_admin: bool, id: &BudgetId) -> Result<Budget> {
        let mut conn = self.0.db.read().await?;
        let found = store::get_budget(&mut conn, id).await?;
        let found = found.filter(|budget| is_admin || by.owns(&budget.owner_id) || by.owns(&budget.principal));
        found.ok_or(LedgerError::NotFound("Budget"))?.shown(&mut conn, self.now()).await
    }

    /// A page of budgets, of one owner or of all, and how many match.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list_budgets(&self, owner: Option<&PrincipalId>, page: &PageRequest) -> Result<(Vec<Budget>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let (budgets, total) = store::list_budgets(&mut conn, owner, page).await?;
        let mut shown = Vec::with_capacity(budgets.len());
        for budget in budgets {
            shown.push(budget.shown(&mut conn, self.now()).await?);
        }
        Ok((shown, total))
    }

    /// Read what budgets are about, before the first execution that they could bind.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn load_budgets(&self) -> Result<()> {
        self.refresh_budgets().await
    }

    async fn refresh_budgets(&self) -> Result<()> {
        let mut conn = self.0.db.read_vital().await?;
        // Read before the budgets, so that a change in between is noticed by the next call.
        let revision = store::revision(&mut conn).await?;
        if revision != self.0.budgets.revision() {
            self.0.budgets.replace(revision, store::read_keys(&mut conn).await?);
        }
        Ok(())
    }

    /// Read changes of budgets by other processes, and tell of those that were exceeded by what nobody asked them about, until
    /// `stop`.
    #[boxed]
    pub async fn watch_budgets(self, stop: CancellationToken) {
        while sleep_or_cancelled(&stop, BUDGET_POLL_INTERVAL).await {
            if let Err(error) = self.refresh_budgets().await {
                tracing::warn!(%error, "could not read changed budgets; those known stay in force");
            }
            if let Err(error) = self.tell_exceeded().await {
                tracing::warn!(%error, "could not look for exceeded budgets; it is tried again");
            }
        }
    }

    /// Tell of budgets that only tell and are exceeded.
    async fn tell_exceeded(&self) -> Result<()> {
        for id in self.0.budgets.telling() {
            let now = self.now();
            let exceeded = {
                let mut conn = self.0.db.read_vital().await?;
                let Some(budget) = store::get_budget(&mut conn, &id).await? else { continue };
                !is_told(&budget, now) && budget.room(&mut conn, now).await?.remaining() < Money::ZERO
            };
            if !exceeded {
                continue;
            }
            let me = self.clone();
            let work = async move |tx: &mut Tx| {
                let Some(budget) = store::get_budget(tx.conn().await?, &id).await? else { return Ok(()) };
                let room = budget.room(tx.conn().await?, now).await?;
                me.tell(tx, &budget, &room, now).await
            };
            self.0.db.write(work).await?;
        }
        Ok(())
    }

    /// Tell the audit log and webhooks that a budget has no room, once in each of its periods.
    async fn tell(&self, tx: &mut Tx, budget: &StoredBudget, room: &BudgetRoom, now: Timestamp) -> Result<()> {
        if is_told(budget, now) {
            return Ok(());
        }
        store::set_told(tx, &budget.id, period_begin(budget, now)).await?;
        let StoredBudget { id, name, principal, limit, period, on_exceed, .. } = budget;
        let BudgetRoom { spent, reserved, .. } = *room;
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).on_behalf_of(owner::SYSTEM_PRINCIPAL);
        let entry = entry.of("budget", "exceeded").data("budget_id", json!(id)).data("principal", json!(principal));
        self.0.audit.append(tx, vec![entry.data("limit", json!(limit.to_string()))]).await?;
        let data = BudgetExceededEvent {
            budget_id: id,
            name,
            principal,
            limit: *limit,
            spent,
            reserved,
            period: *period,
            on_exceed: *on_exceed,
        };
        let event = WebhookEvent {
            kind: WebhookEventKind::BudgetExceeded,
            owner: Some(budget.owner_id.as_str()),
            data: &data,
            source: None,
        };
        let told = self.0.webhooks.enqueue(tx, event, now).await;
        told.map(drop).map_err(|error| match error {
            am_webhooks::WebhookError::Db(error) => error.into(),
            other => am_db::DatabaseError::InvalidValue(other.to_string()).into(),
        })
    }
}

/// Begin of the budget's present period; the first moment of all where it has none.
fn period_begin(budget: &StoredBudget, now: Timestamp) -> Timestamp {
    budget.period.bounds(now).map_or(Timestamp(chrono::DateTime::UNIX_EPOCH), |(from, _)| from)
}

fn is_told(budget: &StoredBudget, now: Timestamp) -> bool {
    budget.told_at == Some(period_begin(budget, now))
}
