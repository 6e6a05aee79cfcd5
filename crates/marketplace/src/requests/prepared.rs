//! Steps that are prepared from what a reader sees, and written together with those of other requests: the writer, of which there is one,
//! has one round trip for all of them, where a step that looks first has several of its own.
//!
//! A reader's view may be old by the time of the write. What a step depends on is guarded by the rows themselves: each step of a request
//! adds an event with the next number, so of two that were prepared from the same state one fails as a duplicate; balances and the
//! ledger's keys are guarded by the database. What else was read (a service's price, a reputation) stood so while the request was
//! handled. A step that can't be prepared, or whose rows are refused, is taken under the write lock, which alone refuses a caller.

use super::{model::MarketRequest, state::RequestState};
use crate::{Marketplace, error::Result};
use am_db::{
    bulk_insert::RowBatch,
    idempotency::{IdempotencyKey, IdempotentResult},
};

/// A request after a step, with all rows that make it so.
pub(super) struct PreparedStep {
    pub request: MarketRequest,
    pub rows: RowBatch,
}

impl Marketplace {
    /// Write a step that was prepared. `Ok(None)`: it was not, or can't be written; the write lock is needed.
    ///
    /// # Errors
    /// Returns an error of the database that has nothing to do with the rows.
    pub(super) async fn write_prepared(
        &self,
        once: Option<&IdempotencyKey>,
        prepared: Result<Option<PreparedStep>>,
    ) -> Result<Option<IdempotentResult<MarketRequest>>> {
        // What was refused is asked again where nothing changes meanwhile, and errors of a reader show there too.
        let Ok(Some(PreparedStep { request, rows })) = prepared else { return Ok(None) };
        let wakes = request.state == RequestState::Accepted && request.workflow_id.is_some();
        let this = self.clone();
        let wake = move || {
            if wakes {
                this.0.wake.notify_one();
            }
        };
        Ok(self.0.db.write_prepared(&self.0.clock, once, (rows, request), wake).await?)
    }
}
