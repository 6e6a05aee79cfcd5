//! The background task of the marketplace: what is due happens, workflows of accepted requests are started and looked after,
//! purchases are counted, trust is computed.

use std::time::Duration;

use am_core::ids::MarketRequestId;
use tokio_util::sync::CancellationToken;

use crate::{
    Marketplace,
    error::{MarketError, Result},
    requests::MarketRequest,
    workflow_runs::{RunFault, RunOrder, RunOutcome},
};

/// Interval at which the marketplace looks what is due.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Wait after an error that may pass.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Requests to which something happens in a round.
const DUE_BATCH: i64 = 200;
/// Requests with a workflow that are looked at together.
const RUN_BATCH: i64 = 200;

impl Marketplace {
    /// Do what happens by itself, until it is asked to end.
    pub async fn work(self, stop: CancellationToken) {
        let mut trusted_until = Duration::ZERO;
        while !stop.is_cancelled() {
            let wait = match self.round(&stop, &mut trusted_until).await {
                Ok(true) => continue,
                Ok(false) => POLL_INTERVAL,
                Err(error) => {
                    self.0.metrics.worker_failures.inc();
                    tracing::warn!(%error, "the marketplace could not do what was due; it is tried again");
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

    /// Do what is due once. Returns whether there is more at once.
    async fn round(&self, stop: &CancellationToken, trusted_until: &mut Duration) -> Result<bool> {
        let due = self.due_requests(DUE_BATCH).await?;
        for id in &due {
            if stop.is_cancelled() {
                return Ok(false);
            }
            self.pass_deadline(id).await?;
        }
        self.look_after_runs(stop).await?;
        let counts_more = self.count_purchases().await?;
        let now = self.0.clock.elapsed();
        if now >= *trusted_until {
            *trusted_until = now + self.0.settings.trust_interval;
            self.refresh_trust().await?;
        }
        Ok(due.len() as i64 == DUE_BATCH || counts_more)
    }

    /// Start the workflows of requests that were accepted, and complete those whose runs have ended.
    async fn look_after_runs(&self, stop: &CancellationToken) -> Result<()> {
        let mut after = MarketRequestId::default();
        loop {
            let requests = self.requests_with_workflow(&after, RUN_BATCH).await?;
            for request in &requests {
                if stop.is_cancelled() {
                    return Ok(());
                }
                self.look_after(request).await?;
            }
            match requests.last() {
                Some(last) if requests.len() as i64 == RUN_BATCH => after = last.id.clone(),
                _ => return Ok(()),
            }
        }
    }

    async fn look_after(&self, request: &MarketRequest) -> Result<()> {
        let (Some(provider_id), Some(workflow_id)) = (request.provider_id.clone(), request.workflow_id.clone()) else {
            return Ok(());
        };
        let Some(execution) = &request.execution_id else {
            let order = RunOrder {
                request_id: request.id.clone(),
                provider_id,
                workflow_id,
                inputs: crate::requests::inputs_of(request)?,
                budget: request.escrow,
            };
            let started = self.0.runner.start_run(&order).await;
            am_core::crash_point!("market.run_started");
            return match started {
                Ok(execution) => self.note_run(&request.id, &execution).await.map(drop),
                Err(fault) => self.give_up(request, fault, "the service's workflow could not be started").await,
            };
        };
        match self.0.runner.run_outcome(&provider_id, execution).await {
            Ok(RunOutcome::Running) => Ok(()),
            Ok(RunOutcome::Completed { receipt, results_hash }) => match self.0.runner.verify_receipt(&receipt) {
                Ok(verified) if verified.execution_id == *execution => {
                    if !self.complete_by_run(&request.id, verified, results_hash).await? {
                        tracing::debug!(request = %request.id, "the request has changed before its run was looked at");
                    }
                    Ok(())
                }
                Ok(_) => self.reject_run(&request.id, "the run's receipt is of another execution".to_owned()).await,
                Err(reason) => self.reject_run(&request.id, format!("the run's receipt is not valid: {reason}")).await,
            },
            Ok(RunOutcome::Failed(reason)) => {
                self.reject_run(&request.id, format!("the run of the service's workflow failed: {reason}")).await
            }
            Err(fault) => self.give_up(request, fault, "the run of the service's workflow can't be looked at").await,
        }
    }

    /// Give the client its money back where a run will never be possible.
    async fn give_up(&self, request: &MarketRequest, fault: RunFault, what: &str) -> Result<()> {
        match fault {
            RunFault::Permanent(reason) => self.reject_run(&request.id, format!("{what}: {reason}")).await,
            // One run must not hold up the others: it is looked at again in the next round.
            RunFault::Transient(reason) => {
                tracing::warn!(request = %request.id, reason, "{what}; it is tried again");
                Ok::<_, MarketError>(())
            }
        }
    }
}
