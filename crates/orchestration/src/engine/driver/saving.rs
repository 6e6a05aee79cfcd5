//! Saves of a run while it is driven.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};

use super::{Completion, RunDriver};
use crate::{
    action::StepAction,
    engine::{
        audit_entries,
        checkpoint::{Ownership, RunCheckpoint},
        costs, late_costs,
        store::SaveOutcome,
    },
    error::{OrchestrationError, Result},
    model::ExecutionStatus,
    receipts,
};
use am_core::{blocking::in_place, money::Money};
use am_db::{Tx, codec::Timestamp};

impl RunDriver {
    /// Issue the receipt of a completed run, signed over everything that is saved with it.
    pub(super) fn seal(&mut self, now: Timestamp) {
        if self.run.status == ExecutionStatus::Completed && self.run.receipt.get().is_none() {
            self.run.receipt = receipts::issue_receipt(&self.run, &self.engine.signer, &self.engine.ids, now);
        }
    }

    pub(super) fn take_checkpoint(&mut self, hold: Ownership, now: Timestamp) -> RunCheckpoint {
        let mut save = RunCheckpoint::from_run(&mut self.run, hold, &self.engine.worker.id, now);
        // Others go by the wall clock.
        save.ordered_at = Timestamp(self.engine.clock.now());
        save.orders = std::mem::take(&mut self.orders);
        save.take_back = std::mem::take(&mut self.take_back);
        save.trail
            .extend(save.take_back.iter().map(|order| audit_entries::task_cancelled_entry(&self.run, order, now)));
        save.trail.append(&mut self.refusals);
        self.save_by = None;
        save
    }

    /// Save, and retry while the database is busy: the driver does nothing else until it is saved.
    pub(super) async fn save(&mut self, hold: Ownership) -> Result<()> {
        let now = self.now();
        let save = in_place(self.run.size().bytes, || {
            self.seal(now);
            Arc::new(self.take_checkpoint(hold, now))
        });
        let mut wait = Duration::from_millis(50);
        loop {
            match self.engine.save(save.clone()).await {
                Ok(SaveOutcome { paused }) => {
                    self.paused = paused;
                    self.claim_counts = false;
                    self.unsaved_cost = Money::ZERO;
                    return Ok(());
                }
                Err(OrchestrationError::Db(error @ (am_db::DatabaseError::Busy | am_db::DatabaseError::DiskFull)))
                    if !self.engine.kill.is_cancelled() =>
                {
                    tracing::warn!(execution = %self.run.id, %error, "could not save the execution; retrying");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Add the cost of an attempt to what the next save writes. The cost of a job is not lost without a save: it is booked when
    /// the job has ended, whether its step waits for it or not.
    pub(super) fn note_unsaved_cost(&mut self, at: usize, cost: Money) {
        if !matches!(self.run.plan.steps[at].action, StepAction::Job(_)) {
            self.unsaved_cost += self.run.charged(at, cost);
        }
    }

    /// Book what ended while the run was cancelled, which the next save would have written. Another worker's run books its own.
    pub(super) async fn book_late_cost(&mut self) {
        while let Some(Some(landed)) = self.flying.next().now_or_never() {
            if let Completion::Attempt { at, result: Ok(outcome), .. } = landed {
                self.note_unsaved_cost(at, outcome.cost);
            }
        }
        if !self.unsaved_cost.is_positive() && !self.run.is_bound {
            return;
        }
        let (engine, cost, now) = (&self.engine, self.unsaved_cost, Timestamp(self.engine.clock.now()));
        let (id, hub) = (self.run.id.clone(), engine.hub.clone());
        let (audit, entry) = (engine.audit.clone(), audit_entries::late_cost_entry(&self.run, cost, now));
        let ledger = engine.ledger.clone();
        let posted = costs::cost_entry(&self.run.client_id, &self.run.workflow_id, &id, cost);
        let work = async move |tx: &mut Tx| {
            if !cost.is_positive() {
                // Unless another worker drives it now.
                let has_ended = costs::store::has_ended(tx.conn().await?, &id).await?;
                return if has_ended { costs::end_reservation(&ledger, tx, &id).await } else { Ok(()) };
            }
            if late_costs::store::book_cost(tx, &id, &[ExecutionStatus::Cancelled], cost, now).await? {
                audit.append(tx, vec![entry]).await?;
                ledger.post(tx, posted).await?;
                ledger.settle_reservation(tx, &id, cost).await?;
                costs::end_reservation(&ledger, tx, &id).await?;
                tx.after_commit(move || hub.wake(&id));
            }
            Ok::<_, OrchestrationError>(())
        };
        if let Err(error) = engine.db.write(work).await {
            tracing::error!(execution = %self.run.id, %error, %cost, "could not book a late cost");
        }
    }
}
