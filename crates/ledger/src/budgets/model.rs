//! Budgets as clients see them, and what is asked of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{
    ids::{AgentId, BudgetId, ExecutionId, PrincipalId, WorkflowId},
    money::{self, Money, StatedAmount},
};
use am_db::codec::Timestamp;

am_db::stored_enum! {
    /// What a budget limits the spending on.
    pub enum BudgetScope {
        /// All that a principal spends.
        Principal = "PRINCIPAL" / "principal",
        /// What a principal spends on one agent, or by it for messages.
        Agent = "AGENT" / "agent",
        /// What a principal spends on one workflow, network or plan.
        Workflow = "WORKFLOW" / "workflow",
    }
}

am_db::stored_enum! {
    /// Period after which a budget begins anew, in UTC.
    pub enum BudgetPeriod {
        /// It begins anew each hour.
        Hour = "HOUR" / "hour",
        /// It begins anew each day.
        Day = "DAY" / "day",
        /// It begins anew each Monday.
        Week = "WEEK" / "week",
        /// It begins anew each month.
        Month = "MONTH" / "month",
        /// It never begins anew.
        Total = "TOTAL" / "total",
    }
}

am_db::stored_enum! {
    /// What becomes of an execution for which a budget has no room.
    pub enum ExceedAction {
        /// It is refused.
        Refuse = "REFUSE" / "refuse",
        /// It waits until the budget has room.
        Pause = "PAUSE" / "pause",
        /// It begins all the same, and the budget's owner is told.
        Notify = "NOTIFY" / "notify",
    }
}

/// A budget as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredBudget {
    pub(crate) id: BudgetId,
    pub(crate) owner_id: PrincipalId,
    pub(crate) name: String,
    pub(crate) scope: BudgetScope,
    /// Agent or workflow; empty for all that the principal spends.
    pub(crate) subject: String,
    pub(crate) principal: PrincipalId,
    pub(crate) limit: Money,
    pub(crate) period: BudgetPeriod,
    pub(crate) on_exceed: ExceedAction,
    pub(crate) reserved: Money,
    /// What was spent before the hour `summed_to`.
    pub(crate) spent_before: Money,
    pub(crate) summed_to: String,
    /// Begin of the period in which it was told last.
    pub(crate) told_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A budget with what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// Id of the budget.
    #[schema(value_type = String)]
    pub id: BudgetId,
    /// Principal that made it.
    #[schema(value_type = String)]
    pub owner_id: PrincipalId,
    /// Name, which no other budget of the owner has.
    pub name: String,
    /// What it limits the spending on.
    pub scope: BudgetScope,
    /// Agent or workflow that it is about; null: all that the principal spends.
    pub subject: Option<String>,
    /// Principal whose spending it limits.
    #[schema(value_type = String)]
    pub principal: PrincipalId,
    /// Most that may be spent in a period, in AIT.
    #[serde(with = "money::exact")]
    pub limit: Money,
    /// Period after which it begins anew.
    pub period: BudgetPeriod,
    /// What becomes of an execution for which it has no room.
    pub on_exceed: ExceedAction,
    /// What is used of it.
    pub state: BudgetState,
    /// Time at which it was made.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// What is used of a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetState {
    /// What was spent in the present period, in AIT.
    #[serde(with = "money::exact")]
    pub spent: Money,
    /// What open executions may still spend of it.
    #[serde(with = "money::exact")]
    pub reserved: Money,
    /// The limit without the two; below zero where more was spent.
    #[serde(with = "money::exact")]
    pub remaining: Money,
    /// Begin of the present period; null: it has none.
    pub period_from: Option<Timestamp>,
    /// End of the present period; null: it has none.
    pub period_to: Option<Timestamp>,
    /// Number of executions that wait for it.
    pub waiting: i64,
}

/// A budget to be made.
#[derive(Clone, Debug)]
pub struct BudgetDraft {
    /// Name, 1 to 100 characters.
    pub name: String,
    /// What it limits the spending on.
    pub scope: BudgetScope,
    /// Agent or workflow; `None` with the scope `principal`.
    pub subject: Option<String>,
    /// Principal whose spending it limits.
    pub principal: PrincipalId,
    /// Most that may be spent in a period, 0 or more.
    pub limit: StatedAmount,
    /// Period after which it begins anew.
    pub period: BudgetPeriod,
    /// What becomes of an execution for which it has no room.
    pub on_exceed: ExceedAction,
}

/// A change of a budget. `None` members stay as they are.
#[derive(Clone, Debug, Default)]
pub struct BudgetChange {
    /// Name, 1 to 100 characters.
    pub name: Option<String>,
    /// Most that may be spent in a period, 0 or more.
    pub limit: Option<StatedAmount>,
    /// What becomes of an execution for which it has no room.
    pub on_exceed: Option<ExceedAction>,
}

/// An execution that wants to spend.
#[derive(Clone, Debug)]
pub struct SpendingRequest {
    /// Id of the execution.
    pub execution: ExecutionId,
    /// Principal that pays.
    pub principal: PrincipalId,
    /// Workflow, network or plan that is run.
    pub workflow: WorkflowId,
    /// Most that it can cost; `None`: nobody knows before.
    pub bound: Option<Money>,
}

/// What is known of spending before it happens.
#[derive(Clone, Copy, Debug)]
pub struct BudgetUse<'a> {
    /// Principal that pays.
    pub principal: &'a PrincipalId,
    /// Agent that it is for, or by; `None`: none.
    pub agent: Option<&'a AgentId>,
    /// Workflow that it is for; `None`: none.
    pub workflow: Option<&'a WorkflowId>,
}

/// Answer of the budgets to an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// No budget is about it.
    Unbound,
    /// It may begin.
    Reserved {
        /// Most that it may cost; `None`: there are only budgets that tell.
        ceiling: Option<Money>,
    },
    /// It waits for this budget.
    Waiting(BudgetId),
}

/// An execution that waits for a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetWait {
    /// Id of the execution.
    pub execution: ExecutionId,
    /// Budget that it waits for.
    pub budget: BudgetId,
    /// Name of the budget.
    pub name: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// End of the budget's period; `None`: it has none.
    pub until: Option<Timestamp>,
}
