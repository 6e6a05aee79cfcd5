//! What budgets are about, in memory: whether any is about an execution is asked for each that begins.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use am_core::ids::{BudgetId, PrincipalId};

use super::{
    model::{BudgetScope, BudgetUse, ExceedAction},
    store::BudgetKeyRow,
};

/// Budgets in force, by whose spending they limit.
#[derive(Default)]
pub(crate) struct BudgetCache(RwLock<Arc<CachedBudgets>>);

#[derive(Default)]
struct CachedBudgets {
    /// Number of the last change that is in here.
    revision: i64,
    by_principal: HashMap<PrincipalId, Vec<CachedBudget>>,
}

struct CachedBudget {
    id: BudgetId,
    scope: BudgetScope,
    subject: String,
    on_exceed: ExceedAction,
}

impl CachedBudget {
    fn is_about(&self, spending: &BudgetUse<'_>) -> bool {
        match self.scope {
            BudgetScope::Principal => true,
            BudgetScope::Agent => spending.agent.is_some_and(|agent| agent.as_str() == self.subject),
            BudgetScope::Workflow => spending.workflow.is_some_and(|workflow| workflow.as_str() == self.subject),
        }
    }
}

impl BudgetCache {
    /// Number of the last change that is known.
    pub(super) fn revision(&self) -> i64 {
        self.0.read().revision
    }

    /// Replace everything by what was read.
    pub(super) fn replace(&self, revision: i64, keys: Vec<BudgetKeyRow>) {
        let mut by_principal: HashMap<PrincipalId, Vec<CachedBudget>> = HashMap::new();
        for BudgetKeyRow { id, scope, subject, principal, on_exceed, .. } in keys {
            by_principal.entry(principal).or_default().push(CachedBudget { id, scope, subject, on_exceed });
        }
        *self.0.write() = Arc::new(CachedBudgets { revision, by_principal });
    }

    /// The budgets that are about such spending.
    pub(super) fn matching(&self, spending: &BudgetUse<'_>) -> Vec<BudgetId> {
        let cached = self.0.read().clone();
        let own = cached.by_principal.get(spending.principal).into_iter().flatten();
        own.filter(|budget| budget.is_about(spending)).map(|budget| budget.id.clone()).collect()
    }

    /// Whether any budget is about such spending.
    pub(super) fn binds(&self, spending: &BudgetUse<'_>) -> bool {
        let cached = self.0.read();
        cached
            .by_principal
            .get(spending.principal)
            .is_some_and(|own| own.iter().any(|budget| budget.is_about(spending)))
    }

    /// The budgets whose owners are told when they are exceeded.
    pub(super) fn telling(&self) -> Vec<BudgetId> {
        let cached = self.0.read().clone();
        let all = cached.by_principal.values().flatten();
        all.filter(|budget| budget.on_exceed == ExceedAction::Notify).map(|budget| budget.id.clone()).collect()
    }
}
