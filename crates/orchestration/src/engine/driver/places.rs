//! Places of a run: one among those that work, or one among those that only wait.

use futures_util::future::BoxFuture;

use super::RunDriver;
use am_core::{fair::FairPlace, ids::PrincipalId};
use am_db::codec::Timestamp;

impl RunDriver {
    /// Whether steps may begin now. A run that has given up its place asks for another when steps have become ready.
    pub(super) fn may_begin(&mut self) -> bool {
        if self.place.is_some() || self.run.is_done() {
            return true;
        }
        if self.changed && self.asked.is_none() && !self.run.ready().is_empty() {
            self.asked = Some(Box::pin(self.engine.places.acquire(&self.run.client_id)));
            *self.handle.asked_at.lock() = Some(Timestamp(self.engine.clock.now()));
        }
        false
    }

    /// Give up the place of a run that only waits; it keeps it if as many wait in memory as may.
    pub(super) fn park(&mut self) {
        if self.place.is_some() {
            self.parked = self.engine.parked.try_acquire(&self.run.client_id);
            self.place.take_if(|_| self.parked.is_some());
        }
    }
}

/// Wait for the place that was asked for, or forever.
pub(super) async fn granted(asked: &mut Option<BoxFuture<'static, FairPlace<PrincipalId>>>) -> FairPlace<PrincipalId> {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}
