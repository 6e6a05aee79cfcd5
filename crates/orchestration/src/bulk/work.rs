//! The background task that does what operations ask for.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    BulkService,
    model::{BulkAction, BulkOutcome, BulkStatus},
    operation_entry,
    store::{self, OperationRow},
};
use crate::error::{OrchestrationError, Result};
use am_core::ids::ExecutionId;
use am_db::{DatabaseError, Tx, codec::Timestamp};

/// Interval at which operations are looked for that another process left.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Wait after an error that may pass.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Executions of one operation that are done before the next operation's turn.
const TURN: i64 = 16;
/// Operations that take turns.
const MAX_OPEN: i64 = 200;
/// Days for which an operation is kept after its end.
const KEPT_DAYS: i64 = 30;
/// Executions of old operations that are deleted together.
const DELETE_BATCH: i64 = 500;
/// Characters of a reason that are kept.
const MAX_REASON: usize = 500;

impl BulkService {
    /// Do what operations ask for, until it is asked to end.
    pub async fn work(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.round(&stop).await {
                Ok(true) => continue,
                Ok(false) => POLL_INTERVAL,
                Err(OrchestrationError::Stopping) => return,
                Err(error) => {
                    tracing::warn!(%error, "an operation on executions could not go on; it is tried again");
                    RETRY_INTERVAL
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Give each operation a turn. Returns whether there is more to do.
    async fn round(&self, stop: &CancellationToken) -> Result<bool> {
        let open = store::list_open(&mut *self.0.parts.db.read().await?, MAX_OPEN).await?;
        if open.is_empty() {
            return self.delete_old().await;
        }
        for operation in &open {
            let pending = store::list_pending(&mut *self.0.parts.db.read().await?, &operation.id, TURN).await?;
            for (place, execution) in &pending {
                if stop.is_cancelled() {
                    return Ok(false);
                }
                self.change(operation, *place, execution).await?;
            }
            if pending.is_empty() {
                self.finish(operation).await?;
            }
        }
        Ok(true)
    }

    /// Do one execution, and note its outcome in the same transaction.
    async fn change(&self, operation: &OperationRow, place: i64, execution: &ExecutionId) -> Result<()> {
        let error = match self.try_change(operation, place, execution).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let outcome = match &error {
            OrchestrationError::InvalidState(_) | OrchestrationError::NotFound(_) => BulkOutcome::Skipped,
            OrchestrationError::Db(
                DatabaseError::Busy
                | DatabaseError::TimedOut
                | DatabaseError::DiskFull
                | DatabaseError::WriterStopped
                | DatabaseError::Indeterminate(_),
            )
            | OrchestrationError::Stopping
            | OrchestrationError::Unavailable(_)
            | OrchestrationError::LeaseLost => return Err(error),
            // What can't be read now can't be read later.
            _ => BulkOutcome::Failed,
        };
        let reason: String = error.to_string().chars().take(MAX_REASON).collect();
        let id = operation.id.clone();
        let work = async move |tx: &mut Tx| store::settle(tx, &id, place, outcome, Some(&reason)).await;
        self.0.parts.db.write(work).await.map(drop)
    }

    async fn try_change(&self, operation: &OperationRow, place: i64, execution: &ExecutionId) -> Result<()> {
        let parts = &self.0.parts;
        let caller = parts.executions.principal_of(&operation.owner_id, execution).await?;
        let redefinition = match operation.redefines && operation.action == BulkAction::Retry {
            true => Some(parts.executions.redefinition(&caller, &parts.workflows, execution).await?),
            false => None,
        };
        let (executions, action) = (parts.executions.clone(), operation.action);
        let (id, run, by) = (operation.id.clone(), execution.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            if !store::settle(tx, &id, place, BulkOutcome::Changed, None).await? {
                return Ok(());
            }
            match action {
                BulkAction::Retry => executions.retry_in(tx, &by, &run, redefinition).await.map(drop)?,
                BulkAction::Cancel => executions.cancel_in(tx, &by, &run).await?,
            }
            am_core::crash_point!("bulk.before_commit");
            Ok(())
        };
        let changed = parts.db.write(work).await;
        am_core::crash_point!("bulk.after_commit");
        match changed {
            Err(error) => Err(parts.executions.audit_refusal(&caller, execution, error).await),
            Ok(()) => Ok(()),
        }
    }

    async fn finish(&self, operation: &OperationRow) -> Result<()> {
        let (this, id) = (self.clone(), operation.id.clone());
        let (owner, now) = (operation.owner_id.clone(), Timestamp(self.0.parts.clock.now()));
        let work = async move |tx: &mut Tx| {
            if !store::end(tx, &id, BulkStatus::Completed, now).await? {
                return Ok(());
            }
            let entry = operation_entry(&id, "completed", now).on_behalf_of(owner.as_str());
            let entry = match store::get(tx.conn().await?, &id).await? {
                Some(ended) => entry
                    .data("changed", json!(ended.changed))
                    .data("skipped", json!(ended.skipped))
                    .data("failed", json!(ended.failed)),
                None => entry,
            };
            this.0.parts.audit.append(tx, vec![entry]).await?;
            Ok::<_, OrchestrationError>(())
        };
        self.0.parts.db.write(work).await
    }

    /// Delete some of what old operations left. Returns whether there is more.
    async fn delete_old(&self) -> Result<bool> {
        let limit = Timestamp(self.0.parts.clock.now() - chrono::Duration::days(KEPT_DAYS));
        if !store::has_ended_before(&mut *self.0.parts.db.read().await?, limit).await? {
            return Ok(false);
        }
        let work = async move |tx: &mut Tx| store::delete_ended(tx, limit, DELETE_BATCH).await;
        Ok(self.0.parts.db.write(work).await? > 0)
    }
}
