//! What others in this process can tell the driver of a run.

use std::sync::{Mutex, PoisonError};

use super::model::Wish;

/// One run's.
#[derive(Debug, Default)]
pub(super) struct Handle(Mutex<Option<Wish>>);

impl Handle {
    /// Ask for something, or for nothing any more. A run that is to be cancelled stays so.
    pub(super) fn ask(&self, wish: Option<Wish>) {
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *present != Some(Wish::Cancel) {
            *present = wish;
        }
    }

    pub(super) fn wish(&self) -> Option<Wish> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
