//! Runs that others queue in a transaction of theirs: steps of workflows, and sweeps.

use serde_json::json;

use super::{
    model::{NewTrainingRun, RunStatus},
    store,
    training_event::TrainingEventKind,
};
use crate::error::Result;
use am_core::boxed;
use am_db::{Tx, codec::Timestamp};

/// Store a queued run in the caller's transaction; call [`super::TrainingRuns::wake`] after the commit. The settings are already
/// validated. A run beyond its limits is stored as failed, with the limit in its error.
///
/// # Errors
/// Returns a database error when a query or the transaction fails.
#[boxed]
pub async fn enqueue_run(tx: &mut Tx, new: &NewTrainingRun, now: Timestamp) -> Result<()> {
    let open = store::count_unended(tx.conn().await?, &[new.owner_id.to_string()]).await?;
    store::insert(tx, new, now).await?;
    if let Err(refused) = new.limits.check_steps(new.task.steps()).and_then(|()| new.limits.check_open(open)) {
        let ending = store::RunEnding { error: Some(refused.to_string()), ..store::RunEnding::default() };
        store::save_release(tx, &new.id, RunStatus::Failed, &ending, now).await?;
        let data = json!({"policy": new.policy, "error": ending.error});
        store::append_event(tx, &new.id, TrainingEventKind::Failed, data, now).await?;
    }
    Ok(())
}

/// Store queued runs of one owner in the caller's transaction, all or none; call [`super::TrainingRuns::wake`] after the commit. The settings
/// are already validated. Returns false where the owner would have more runs than its limits allow: later there may be a place.
///
/// # Errors
/// Returns a database error when a query or the transaction fails.
#[boxed]
pub async fn enqueue_runs(tx: &mut Tx, runs: &[NewTrainingRun], now: Timestamp) -> Result<bool> {
    let Some(first) = runs.first() else { return Ok(true) };
    let open = store::count_unended(tx.conn().await?, &[first.owner_id.to_string()]).await?;
    if open.unsigned_abs() + runs.len() as u64 > first.limits.open_runs {
        return Ok(false);
    }
    for new in runs {
        store::insert(tx, new, now).await?;
    }
    Ok(true)
}
