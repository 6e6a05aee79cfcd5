//! The ledger: double entry, in whole numbers of the smallest unit. Each movement takes from one account what it adds to another,
//! so all accounts of an asset sum to zero at any time. Entries are added within the transaction of what they tell of; none is
//! changed or deleted, and a correction is an entry of its own.

mod budgets;
mod costs;
mod draft;
mod error;
mod holds;
mod model;
mod operations;
mod posting;
mod spending;
mod statement;
mod store;
#[cfg(test)]
mod tests;
mod verification;

use std::sync::Arc;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
};
use am_db::{Database, Tx, codec::Timestamp, principal::Principal};
use am_webhooks::WebhookService;
use serde_json::json;

pub use budgets::{
    Admission, Budget, BudgetChange, BudgetDraft, BudgetPeriod, BudgetScope, BudgetState, BudgetUse, BudgetWait,
    ExceedAction, SpendingRequest,
};
pub use costs::{CostPayee, cost_entry, pay_entry, payer_of};
pub use draft::{EntryMovement, NewEntry};
pub use error::{LedgerError, Result};
pub use holds::{CaptureMovement, CapturedHold, HoldCapture, NewHold};
pub use model::{
    AIT, AccountBalance, AccountKey, AccountOwner, AccountPurpose, EntryKind, EntryLine, EntryReference, EntryTags,
    HoldState, LedgerAccount, LedgerEntry, LedgerHold, PostedEntry,
};
pub use operations::{CaptureOrder, HoldRequest, MoneyOrder};
pub use spending::{SpendingDimension, SpendingGroup, SpendingSum};
pub use statement::{
    AccountFilter, MAX_PERIODS, PeriodBalance, PeriodLength, StatementExport, StatementFormat, StatementLine,
};
pub use verification::{AssetTotal, LedgerVerification};

use budgets::BudgetCache;

/// The ledger. Cheap to clone.
#[derive(Clone)]
pub struct LedgerService(Arc<LedgerInner>);

struct LedgerInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    webhooks: WebhookService,
    budgets: BudgetCache,
}

impl LedgerService {
    /// The ledger in `db`. Budgets bind once [`LedgerService::load_budgets`] has read them.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog, webhooks: WebhookService) -> Self {
        Self(Arc::new(LedgerInner { db, clock, ids, audit, webhooks, budgets: BudgetCache::default() }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Tell the audit log that something was refused, whose transaction was rolled back: in one of its own. What fails here is
    /// logged and not answered.
    #[boxed]
    pub async fn record_refusal(
        &self,
        principal: &Principal,
        (resource, id): (&'static str, &str),
        action: &'static str,
        reason: &str,
    ) {
        let entry = AuditEntry::new(EventType::AccessDenied, self.now()).by(principal).of(resource, action);
        let entry = entry.data("id", json!(id)).data("refused", json!(true)).reason(Some(reason));
        let audit = self.0.audit.clone();
        let told = self.0.db.write(async move |tx: &mut Tx| audit.append(tx, vec![entry]).await).await;
        if let Err(error) = told {
            tracing::error!(%error, action, "could not tell the audit log of a refusal");
        }
    }
}
