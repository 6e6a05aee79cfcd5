//! Executions as clients see them: now, or once they have ended.

use std::time::Duration;

use super::{
    ExecutionService,
    estimate::ExecutionEstimate,
    store,
    waiting::{self, ExecutionWaits},
};
use crate::{error::Result, run::Execution};
use am_core::{boxed, ids::ExecutionId};
use am_db::{
    codec::{JsonText, Timestamp},
    idempotency::IdempotentResult,
    principal::Principal,
};

/// An execution as a client sees it at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Execution as it stands after the request.
    pub execution: Execution,
    /// Inputs of the execution; none in lists, and where the coordinator ran it.
    pub inputs: JsonText,
    /// What it is likely to take in all; none in lists, and once it has ended.
    pub estimate: Option<ExecutionEstimate>,
    /// What it and its steps wait for; nothing in lists.
    pub waits: ExecutionWaits,
}

impl Observed {
    /// An execution as lists show it.
    pub fn listed(execution: Execution) -> Self {
        Self { execution, inputs: JsonText::none(), estimate: None, waits: ExecutionWaits::default() }
    }
}

impl ExecutionService {
    /// The same as it is observed: now, or once it has ended or `wait` is over.
    ///
    /// # Errors
    /// As [`ExecutionService::get`].
    #[boxed]
    pub async fn observe(&self, caller: &Principal, id: &ExecutionId, wait: Option<Duration>) -> Result<Observed> {
        let execution = match wait {
            Some(wait) => self.wait(caller, id, wait).await?,
            None => self.get(caller, id).await?,
        };
        self.observed(execution, true).await
    }

    /// What was begun, once it has ended or `wait` is over. An answer given before is given again as it was, unless its
    /// client waits: then it wants the end.
    ///
    /// # Errors
    /// As [`ExecutionService::get`].
    pub(crate) async fn observe_begun(
        &self,
        caller: &Principal,
        begun: IdempotentResult<Execution>,
        wait: Option<Duration>,
    ) -> Result<IdempotentResult<Observed>> {
        let IdempotentResult { value, replayed } = begun;
        let execution = match wait {
            Some(wait) if !value.status.is_final() => self.wait(caller, &value.id, wait).await?,
            _ => value,
        };
        // Without a wait it is the same answer as before, whatever the execution waits for meanwhile.
        Ok(IdempotentResult { value: self.observed(execution, wait.is_some()).await?, replayed })
    }

    /// An execution as it is shown; `shows_waits`: with what it waits for, if it is open.
    async fn observed(&self, execution: Execution, shows_waits: bool) -> Result<Observed> {
        if execution.status.is_final() {
            let inputs = store::inputs(&mut *self.db.read().await?, &execution.id).await?;
            return Ok(Observed { inputs, ..Observed::listed(execution) });
        }
        let estimate = self.estimates.of(&execution.workflow_id, execution.total_steps).await?;
        let inputs = store::inputs(&mut *self.db.read().await?, &execution.id).await?;
        let waits = match shows_waits {
            true => waiting::find_waits(&self.db, &self.engine, &execution, Timestamp(self.clock.now())).await?,
            false => ExecutionWaits::default(),
        };
        Ok(Observed { inputs, estimate: Some(estimate), waits, execution })
    }

    /// An execution of `caller`'s, once it has ended or `wait` is over.
    ///
    /// # Errors
    /// As [`ExecutionService::get`].
    #[boxed]
    pub async fn wait(&self, caller: &Principal, id: &ExecutionId, wait: Duration) -> Result<Execution> {
        let deadline = tokio::time::Instant::now() + wait;
        // Register for the notification before the first query, so that none is missed in between.
        let mut subscription = self.hub.subscribe(id);
        loop {
            let execution = self.get(caller, id).await?;
            if execution.status.is_final() || self.engine.has_left(id) {
                return Ok(execution);
            }
            // A driver in another process cannot notify this one, so the row is also polled.
            let look_again = deadline.min(tokio::time::Instant::now() + Duration::from_secs(1));
            tokio::select! {
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep_until(look_again) => {
                    if look_again == deadline {
                        return self.get(caller, id).await;
                    }
                }
            }
        }
    }
}
