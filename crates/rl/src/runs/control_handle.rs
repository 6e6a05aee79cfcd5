//! Control requests from this process to the driver of a run.

use parking_lot::Mutex;

use super::model::ControlRequest;

/// Control request for one run, if any.
#[derive(Debug, Default)]
pub(super) struct ControlHandle(Mutex<Option<ControlRequest>>);

impl ControlHandle {
    /// Set or clear the request. A cancellation stays.
    pub(super) fn ask(&self, wish: Option<ControlRequest>) {
        let mut present = self.0.lock();
        if *present != Some(ControlRequest::Cancel) {
            *present = wish;
        }
    }

    pub(super) fn wish(&self) -> Option<ControlRequest> {
        *self.0.lock()
    }
}
