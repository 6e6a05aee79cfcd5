//! Settlement in a contract: each change of a portfolio is stored as a settlement in its own transaction, and written to the contract
//! afterwards by a worker. What is sent is stored before, so that a lost answer is asked about and the same bytes are sent again.

mod chain_state;
mod fees;
mod json_rpc;
mod model;
mod outbox;
mod receipt;
mod replacement;
mod setup;
#[cfg(feature = "contract-settlement")]
mod signer;
#[cfg(not(feature = "contract-settlement"))]
#[path = "signer_absent.rs"]
mod signer;
mod start_error;
mod state;
mod store;
mod worker;

use am_core::boxed;
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use serde_json::json;

use self::state::{RetryPlan, may_abandon, retry_plan};
pub(crate) use self::{
    model::{ContractCall, SettlementDraft, TradeLeg},
    outbox::fill_summaries,
};
pub use self::{
    model::{SettlementKind, SettlementRecord},
    setup::SettlementSetup,
    start_error::SettlementStartError,
};
use crate::{
    PortfolioCaller, PortfolioService,
    error::{PortfolioError, Result},
    model::SettlementStatus,
};

/// Which settlements a list has.
#[derive(Clone, Copy, Debug, Default)]
pub struct SettlementFilter {
    /// Only those in this state; `None`: in any.
    pub status: Option<SettlementStatus>,
    /// Only those of this portfolio; `None`: of any.
    pub portfolio_id: Option<i64>,
}

/// What an admin does about a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SettlementOrder {
    Retry,
    Abandon,
}

impl SettlementOrder {
    /// The word for it in the audit log.
    fn word(self) -> &'static str {
        match self {
            Self::Retry => "settlement_retried",
            Self::Abandon => "settlement_abandoned",
        }
    }
}

fn no_settlement(id: &str) -> PortfolioError {
    PortfolioError::NotFound(format!("No settlement {id}"))
}

impl PortfolioService {
    /// A page of the caller's settlements, for an admin of all, the newest first, and how many there are; `None`: not counted.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list_settlements(
        &self,
        caller: &PortfolioCaller,
        filter: SettlementFilter,
        page: &PageRequest,
    ) -> Result<(Vec<SettlementRecord>, Option<i64>)> {
        store::list(&mut *self.0.db.read_list().await?, caller.owner_filter(), filter, page).await
    }

    /// A settlement that the caller may see.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn settlement(&self, caller: &PortfolioCaller, id: &str) -> Result<SettlementRecord> {
        let found = store::get(&mut *self.0.db.read().await?, id).await?;
        let found = found.filter(|(_, owner)| caller.may_use(owner.as_str()));
        found.map(|(record, _)| record).ok_or_else(|| no_settlement(id))
    }

    /// Try a settlement again: one that the contract refused, or that can't happen any more, by a new transaction; one that is
    /// under way by a transaction with the same number that pays more.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Conflict`] where it waits already, or has ended.
    #[boxed]
    pub async fn retry_settlement(
        &self,
        caller: &PortfolioCaller,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SettlementRecord>> {
        let done = self.order_settlement(caller, id, SettlementOrder::Retry, once).await;
        self.wake_settlement();
        done
    }

    /// Give up a settlement of which no transaction can happen.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Conflict`] where a transaction may yet happen, or it has ended.
    #[boxed]
    pub async fn abandon_settlement(
        &self,
        caller: &PortfolioCaller,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SettlementRecord>> {
        self.order_settlement(caller, id, SettlementOrder::Abandon, once).await
    }

    async fn order_settlement(
        &self,
        caller: &PortfolioCaller,
        id: &str,
        order: SettlementOrder,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SettlementRecord>> {
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?;
            let (before, _) =
                found.filter(|(_, owner)| by.may_use(owner.as_str())).ok_or_else(|| no_settlement(&id))?;
            let status = before.status;
            let refused = || {
                let text = match order {
                    SettlementOrder::Retry => format!("A settlement that is {status} is not tried again"),
                    SettlementOrder::Abandon => format!("A settlement that is {status} is not given up"),
                };
                PortfolioError::Conflict("settlement_state", text)
            };
            match (order, retry_plan(status)) {
                (SettlementOrder::Retry, Some(RetryPlan::Anew)) => store::requeue(tx, &id, now).await?,
                (SettlementOrder::Retry, Some(RetryPlan::Reprice)) => store::ask_reprice(tx, &id, now).await?,
                (SettlementOrder::Abandon, _) if may_abandon(status) => store::abandon(tx, &id, now).await?,
                _ => return Err(refused()),
            }
            let entry = me.entry(&by.principal, "portfolio", order.word(), now);
            let entry = entry.data("portfolio", json!(before.portfolio_id)).data("settlement", json!(id));
            me.0.audit.append(tx, vec![entry.data("was", json!(status))]).await?;
            let after = store::get(tx.conn().await?, &id).await?;
            after.map(|(record, _)| record).ok_or_else(|| no_settlement(&id))
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }
}
