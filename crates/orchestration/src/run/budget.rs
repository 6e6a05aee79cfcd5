//! Budget of a run: what an attempt reserves of it, and what it is charged.

use super::state::RunState;
use crate::action::StepAction;
use am_core::money::Money;

/// Price of an attempt, as far as it is known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptPrice {
    /// It costs this much at most.
    AtMost(Money),
    /// It costs this much, and what a miner or an agent asks.
    Open(Money),
}

/// Result of checking the budget for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetCheck {
    /// The step fits into the budget, and reserves this much of it.
    Fits(Money),
    /// The answer depends on the final cost of the steps in progress.
    Pending,
}

impl RunState {
    /// Check whether step `at` fits into the budget. An open price reserves all that is left, until the true cost is known.
    ///
    /// # Errors
    /// A message with the exceeded limit and the amounts.
    pub fn check_budget(&self, at: usize, price: AttemptPrice) -> Result<BudgetCheck, String> {
        let estimate = match price {
            AttemptPrice::Open(own) if self.limits.budget.is_positive() => return self.check_open_price(at, own),
            AttemptPrice::AtMost(cost) | AttemptPrice::Open(cost) => cost,
        };
        let fits = |cost: Money| !self.limits.budget.is_positive() || cost + estimate <= self.limits.budget;
        if fits(self.committed_cost()) {
            Ok(BudgetCheck::Fits(estimate))
        } else if fits(self.total_cost) {
            // Other steps have reserved too much; their final cost may be lower.
            Ok(BudgetCheck::Pending)
        } else {
            Err(format!(
                "max_cost_budget {}: {} is spent, and step {:?} may cost {estimate}",
                self.limits.budget, self.total_cost, self.plan.steps[at].key
            ))
        }
    }

    /// Check whether anything is left for step `at`, which costs `own` and a price that is not known.
    fn check_open_price(&self, at: usize, own: Money) -> Result<BudgetCheck, String> {
        let left = |cost: Money| self.limits.budget - cost;
        if left(self.committed_cost()) > own {
            Ok(BudgetCheck::Fits(left(self.committed_cost())))
        } else if left(self.total_cost) > own && self.committed_cost() > self.total_cost {
            Ok(BudgetCheck::Pending)
        } else {
            Err(format!(
                "max_cost_budget {}: {} is spent, and nothing is left for step {:?}, whose price is not known before",
                self.limits.budget, self.total_cost, self.plan.steps[at].key
            ))
        }
    }

    /// The highest price that an order of step `at` may have, where the run has a budget: what was reserved for the attempt
    /// without the step's `own` price.
    pub fn granted_price(&self, at: usize, own: Money) -> Option<Money> {
        self.limits.budget.is_positive().then(|| self.steps[at].reserved - own)
    }

    /// The cost of an attempt of step `at` that asks for `cost`: an order of a run with a budget is paid what was reserved for it
    /// at most, and no step of a run that is bound by a principal's budget costs more than is left of it.
    pub fn charged(&self, at: usize, cost: Money) -> Money {
        let ordered = matches!(self.plan.steps[at].action, StepAction::Job(_) | StepAction::Agent(_));
        match self.limits.budget {
            limit if !limit.is_positive() => cost,
            _ if ordered => cost.min(self.steps[at].reserved),
            limit if self.is_bound => cost.min(limit - (self.committed_cost() - self.steps[at].reserved)),
            _ => cost,
        }
    }

    /// Return a message with the amounts if more than the budget was spent.
    pub fn budget_exceeded(&self) -> Option<String> {
        let (limit, used) = (self.limits.budget, self.total_cost);
        (limit.is_positive() && used > limit).then(|| format!("max_cost_budget {limit}: {used} was spent"))
    }
}
