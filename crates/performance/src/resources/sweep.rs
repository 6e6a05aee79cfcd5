//! The background task of resources: ends allocations whose time has run out, and shows the capacity in the metrics.

use std::time::Duration;

use am_core::ambient::sleep_or_cancelled;
use am_db::Tx;
use tokio_util::sync::CancellationToken;

use super::{ResourceService, allocations::EXPIRY_BATCH, store};
use crate::error::{PerformanceError, Result};

/// Interval at which allocations are looked through that are due.
const SWEEP_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Sweeps after which the metrics show the capacity anew.
const SWEEPS_PER_REPORT: u32 = 10;

impl ResourceService {
    /// End allocations whose time has run out, until it is asked to end.
    pub async fn sweep_loop(self, stop: CancellationToken) {
        let mut sweeps = 0u32;
        loop {
            if sweeps.is_multiple_of(SWEEPS_PER_REPORT)
                && let Err(error) = self.show_capacity().await
            {
                self.note_failure(&error);
            }
            sweeps = sweeps.wrapping_add(1);
            while !stop.is_cancelled() {
                match self.sweep_once().await {
                    // A full batch may have more behind it.
                    Ok(ended) if ended as i64 == EXPIRY_BATCH => {}
                    Ok(_) => break,
                    Err(error) => {
                        self.note_failure(&error);
                        break;
                    }
                }
            }
            if !sleep_or_cancelled(&stop, SWEEP_POLL_INTERVAL).await {
                return;
            }
        }
    }

    fn note_failure(&self, error: &PerformanceError) {
        self.0.metrics.sweep_failures.inc();
        tracing::warn!(%error, "allocations could not be swept; it is tried again");
    }

    async fn show_capacity(&self) -> Result<()> {
        self.0.metrics.show(&self.capacity().await?);
        Ok(())
    }

    /// End what is due. Returns how many were looked at.
    async fn sweep_once(&self) -> Result<usize> {
        let now = self.now();
        if store::due(&mut *self.0.db.read().await?, now, 1).await?.is_empty() {
            return Ok(0);
        }
        let me = self.clone();
        self.0.db.write(async move |tx: &mut Tx| me.expire_batch(tx, now).await).await
    }
}
