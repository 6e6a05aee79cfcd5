//! Operations on many executions at once: they are chosen by a filter, stored with the operation, and done one by one in the
//! background. Each is changed in the transaction that sets its outcome, so that none is changed twice, whichever process goes on
//! with the operation.

mod choice;
mod model;
mod store;
mod work;

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

pub use model::{BulkAction, BulkAnswer, BulkFault, BulkFilter, BulkOperation, BulkOutcome, BulkStatus, ErrorClass};

use super::{
    error::{OrchestrationError, Result},
    executions::ExecutionService,
    workflows::WorkflowService,
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::BulkOperationId,
    validation::within,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use choice::ChosenExecutions;

/// Operations of one owner that may go on at once.
const MAX_OPEN_OPERATIONS: i64 = 10;
/// Executions whose ids an answer shows.
const SHOWN_IDS: usize = 100;
/// Executions that an operation did not change, as an answer shows them.
const SHOWN_FAULTS: i64 = 100;

/// Service for operations on many executions. Cheap to clone.
#[derive(Clone)]
pub struct BulkService(Arc<BulkServiceInner>);

struct BulkServiceInner {
    parts: BulkServiceParts,
    /// Notified of a new operation.
    wake: Notify,
}

/// Dependencies of the service.
pub struct BulkServiceParts {
    /// Database of the operations.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids.
    pub ids: IdGenerator,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// Service that changes executions.
    pub executions: ExecutionService,
    /// Service for the definitions that retries may go by.
    pub workflows: WorkflowService,
}

/// Request for an operation.
#[derive(Clone, Debug)]
pub struct BulkRequest {
    /// What is to be done with each execution.
    pub action: BulkAction,
    /// Which executions of the caller.
    pub filter: BulkFilter,
    /// Whether retries go by the workflows' definitions of now.
    pub redefines: bool,
    /// Whether the executions are only counted.
    pub dry_run: bool,
}

impl BulkService {
    /// Create the service. Nothing is done before [`BulkService::work`] runs.
    pub fn new(parts: BulkServiceParts) -> Self {
        Self(Arc::new(BulkServiceInner { parts, wake: Notify::new() }))
    }

    /// Choose executions of `caller`, and begin to change them unless it is a dry run.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`] for a filter that the action can't be chosen by; [`OrchestrationError::Conflict`] while too many
    /// operations of the caller go on.
    #[boxed]
    pub async fn begin(
        &self,
        caller: &Principal,
        request: BulkRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BulkAnswer>> {
        let parts = &self.0.parts;
        if let Some(begun) = parts.db.answered(&parts.clock, once.as_ref()).await? {
            return Ok(begun);
        }
        let BulkRequest { action, filter, redefines, dry_run } = request;
        let now = Timestamp(parts.clock.now());
        let filter = filter.seen_from(now);
        let statuses = filter.check(action).map_err(|found| OrchestrationError::Invalid(within("filter", found)))?;
        let ChosenExecutions { ids, has_more } = choice::choose(&parts.db, caller, &statuses, &filter).await?;
        let count = ids.len() as i64;
        let shown = ids.iter().take(SHOWN_IDS).cloned().collect();
        let answer = BulkAnswer { dry_run, count, has_more, execution_ids: shown, operation: None };
        let is_done = ids.is_empty();
        let operation = (!dry_run).then(|| BulkOperation {
            id: parts.ids.next("bulk_", 12).into(),
            owner_id: caller.id(),
            action,
            redefines,
            filter,
            status: if is_done { BulkStatus::Completed } else { BulkStatus::Running },
            total: count,
            changed: 0,
            skipped: 0,
            failed: 0,
            has_more,
            created_at: now,
            ended_at: is_done.then_some(now),
            faults: Some(Vec::new()),
        });
        let (this, caller) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let Some(operation) = operation else { return Ok(answer) };
            let open = store::count_open(tx.conn().await?, &operation.owner_id).await?;
            if open >= MAX_OPEN_OPERATIONS {
                let message = format!("{open} of your operations on executions have not ended; more may be begun then");
                return Err(OrchestrationError::Conflict(message));
            }
            store::insert(tx, &operation, &ids).await?;
            let entry = operation_entry(&operation.id, "begun", now).by(&caller);
            let entry = entry.data("does", json!(action)).data("filter", json!(operation.filter));
            this.0.parts.audit.append(tx, vec![entry.data("executions", json!(count))]).await?;
            tx.after_commit(move || this.0.wake.notify_one());
            Ok(BulkAnswer { operation: Some(operation), ..answer })
        };
        parts.db.write_idempotent(&parts.clock, once, work).await
    }

    /// Return an operation of `caller`, with the first executions that it did not change.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &Principal, id: &BulkOperationId) -> Result<BulkOperation> {
        let mut conn = self.0.parts.db.read().await?;
        let found = caller.own(store::get(&mut conn, id).await?, |row| &row.owner_id).ok_or_else(not_found)?;
        let faults = store::list_faults(&mut conn, id, SHOWN_FAULTS).await?;
        Ok(found.shown(Some(faults)))
    }

    /// Return a page of `caller`'s operations, newest first, and their number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, caller: &Principal, page: &PageRequest) -> Result<(Vec<BulkOperation>, i64)> {
        let mut conn = self.0.parts.db.read_list().await?;
        let (rows, total) = store::list(&mut conn, &caller.id(), page).await?;
        Ok((rows.into_iter().map(|row| row.shown(None)).collect(), total))
    }

    /// Cancel an operation: no further execution is changed; what was done stays. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &Principal,
        id: &BulkOperationId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BulkOperation>> {
        let (this, caller, id) = (self.clone(), caller.clone(), id.clone());
        let now = Timestamp(self.0.parts.clock.now());
        let work = async move |tx: &mut Tx| {
            let found = caller.own(store::get(tx.conn().await?, &id).await?, |row| &row.owner_id);
            let found = found.ok_or_else(not_found)?;
            let is_cancelled = store::end(tx, &id, BulkStatus::Cancelled, now).await?;
            if is_cancelled {
                this.0.parts.audit.append(tx, vec![operation_entry(&id, "cancelled", now).by(&caller)]).await?;
            }
            let cancelled =
                if is_cancelled { store::get(tx.conn().await?, &id).await?.ok_or_else(not_found)? } else { found };
            let faults = store::list_faults(tx.conn().await?, &id, SHOWN_FAULTS).await?;
            Ok(cancelled.shown(Some(faults)))
        };
        self.0.parts.db.write_idempotent(&self.0.parts.clock, once, work).await
    }
}

fn not_found() -> OrchestrationError {
    OrchestrationError::NotFound("Operation")
}

fn operation_entry(id: &BulkOperationId, action: &str, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now).of("bulk_operation", action).data("operation_id", json!(id))
}
