//! Control requests from this process to the driver of a run.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use parking_lot::Mutex;

use super::model::ControlRequest;
use am_core::ids::PrincipalId;

/// Control requests for one run that this process drives.
#[derive(Debug)]
pub(super) struct ControlHandle {
    /// Owner of the run.
    pub(super) owner_id: PrincipalId,
    /// When this process began to drive it.
    pub(super) since: Instant,
    wish: Mutex<Option<ControlRequest>>,
    yields: AtomicBool,
}

impl ControlHandle {
    pub(super) fn new(owner_id: PrincipalId) -> Self {
        Self { owner_id, since: Instant::now(), wish: Mutex::default(), yields: AtomicBool::new(false) }
    }

    /// Set or clear the request. A cancellation stays.
    pub(super) fn ask(&self, wish: Option<ControlRequest>) {
        let mut present = self.wish.lock();
        if *present != Some(ControlRequest::Cancel) {
            *present = wish;
        }
    }

    pub(super) fn wish(&self) -> Option<ControlRequest> {
        *self.wish.lock()
    }

    /// Ask the run to make place for another owner's.
    pub(super) fn ask_to_yield(&self) {
        self.yields.store(true, Ordering::Relaxed);
    }

    pub(super) fn must_yield(&self) -> bool {
        self.yields.load(Ordering::Relaxed)
    }
}
