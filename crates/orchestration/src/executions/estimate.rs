//! Estimates of a run's duration and cost: means of the workflow's last runs, or fixed figures per step before that.

use std::{num::NonZeroUsize, time::Duration};

use lru::LruCache;
use tokio::time::Instant;

use super::{
    SharedMutex,
    store::{self, RunMeans},
};
use crate::error::Result;
use am_core::{boxed, ids::WorkflowId, money::Money};
use am_db::Database;

/// Seconds per step when nothing is known (the monolith's figure).
const DEFAULT_STEP_SECONDS: f64 = 30.0;
/// Cost per step, and basic cost of a run, when nothing is known (the monolith's figures).
const DEFAULT_STEP_COST: Money = Money::from_f64(0.01);
/// Time for which a mean is cached: reading fifty runs at each start would cost more than it is worth.
const ESTIMATE_TTL: Duration = Duration::from_secs(5);

/// Estimate of a run's duration and cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExecutionEstimate {
    /// Duration in seconds, from start to end.
    pub seconds: f64,
    /// Cost of the whole run.
    pub cost: Money,
    /// Number of runs averaged; 0: fixed figures per step.
    pub runs: i64,
}

#[derive(Clone)]
pub(super) struct ExecutionEstimator {
    db: Database,
    known: SharedMutex<LruCache<WorkflowId, (Instant, ExecutionEstimate)>>,
}

impl ExecutionEstimator {
    pub fn new(db: Database) -> Self {
        let size = NonZeroUsize::new(1024).unwrap_or(NonZeroUsize::MIN);
        Self { db, known: SharedMutex::new(parking_lot::Mutex::new(LruCache::new(size))) }
    }

    #[boxed]
    pub async fn of(&self, workflow_id: &WorkflowId, steps: i64) -> Result<ExecutionEstimate> {
        let found = self.known.lock().get(workflow_id).copied();
        if let Some((read, estimate)) = found
            && read.elapsed() < ESTIMATE_TTL
        {
            return Ok(estimate);
        }
        let past = store::completed_run_means(&mut *self.db.read().await?, workflow_id).await?;
        let steps = steps as f64;
        let estimate = match past {
            RunMeans { runs, seconds: Some(seconds), cost: Some(cost) } if runs > 0 => {
                ExecutionEstimate { seconds, cost, runs }
            }
            _ => ExecutionEstimate {
                seconds: DEFAULT_STEP_SECONDS * steps,
                cost: DEFAULT_STEP_COST.scaled(steps + 1.0),
                runs: 0,
            },
        };
        self.known.lock().put(workflow_id.clone(), (Instant::now(), estimate));
        Ok(estimate)
    }
}
