//! Control requests from this process to the driver of a run.

use parking_lot::Mutex;

use super::model::Wish;

/// Control request for one run, if any.
#[derive(Debug, Default)]
pub(super) struct Handle(Mutex<Option<Wish>>);

impl Handle {
    /// Set or clear the request. A cancellation stays.
    pub(super) fn ask(&self, wish: Option<Wish>) {
        let mut present = self.0.lock();
        if *present != Some(Wish::Cancel) {
            *present = wish;
        }
    }

    pub(super) fn wish(&self) -> Option<Wish> {
        *self.0.lock()
    }
}
