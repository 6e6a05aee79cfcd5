//! What a run is likely to take: the mean of the workflow's own last runs, and the monolith's rule of thumb before.

use std::{num::NonZeroUsize, sync::PoisonError, time::Duration};

use lru::LruCache;
use tokio::time::Instant;

use super::{Shared, store};
use crate::error::Result;
use am_db::Database;

/// Seconds a step takes where nothing is known (the monolith's figure).
const STEP_SECONDS: f64 = 30.0;
/// Cost of a run where nothing is known: a base and as much for each step (the monolith's figures).
const STEP_COST: f64 = 0.01;
/// How long a mean is good for: reading fifty runs for each start would cost more than it tells.
const FRESH: Duration = Duration::from_secs(5);

/// An estimate of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Cost in all.
    pub cost: f64,
    /// Runs it is the mean of; 0: the rule of thumb.
    pub runs: i64,
}

#[derive(Clone)]
pub(super) struct Estimates {
    db: Database,
    known: Shared<LruCache<String, (Instant, Estimate)>>,
}

impl Estimates {
    pub fn new(db: Database) -> Self {
        let size = NonZeroUsize::new(1024).unwrap_or(NonZeroUsize::MIN);
        Self { db, known: Shared::new(std::sync::Mutex::new(LruCache::new(size))) }
    }

    pub async fn of(&self, workflow_id: &str, steps: i64) -> Result<Estimate> {
        let found = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(workflow_id).copied();
        if let Some((read, estimate)) = found
            && read.elapsed() < FRESH
        {
            return Ok(estimate);
        }
        let past = store::past_runs(&mut *self.db.read().await?, workflow_id).await?;
        let steps = steps as f64;
        let estimate = match past {
            (runs, Some(seconds), Some(cost)) if runs > 0 => Estimate { seconds, cost, runs },
            _ => Estimate { seconds: STEP_SECONDS * steps, cost: STEP_COST + STEP_COST * steps, runs: 0 },
        };
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(workflow_id.to_owned(), (Instant::now(), estimate));
        Ok(estimate)
    }
}
