//! What is asked, in this process, of the driver of a task.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use parking_lot::Mutex;

use crate::model::WorkWish;
use am_core::ids::PrincipalId;

/// Requests to the driver of one task.
#[derive(Debug)]
pub(crate) struct WishHandle {
    /// Owner of the task.
    pub(crate) owner_id: PrincipalId,
    /// When this process began to drive it.
    pub(crate) since: Instant,
    wish: Mutex<Option<WorkWish>>,
    yields: AtomicBool,
    waits: AtomicBool,
}

impl WishHandle {
    pub(crate) fn new(owner_id: PrincipalId, wish: Option<WorkWish>, waits: bool) -> Self {
        let (wish, yields, waits) = (Mutex::new(wish), AtomicBool::default(), AtomicBool::new(waits));
        Self { owner_id, since: Instant::now(), wish, yields, waits }
    }

    /// Set or clear the request. A cancellation stays.
    pub(crate) fn ask(&self, wish: Option<WorkWish>) {
        let mut present = self.wish.lock();
        if *present != Some(WorkWish::Cancel) {
            *present = wish;
        }
    }

    pub(crate) fn wish(&self) -> Option<WorkWish> {
        *self.wish.lock()
    }

    /// Ask the task to make place for another owner's.
    pub(crate) fn ask_to_yield(&self) {
        self.yields.store(true, Ordering::Relaxed);
    }

    pub(crate) fn must_yield(&self) -> bool {
        self.yields.load(Ordering::Relaxed)
    }

    /// Note whether the task only waits. Returns whether it has just begun to, which frees its place.
    pub(crate) fn set_waiting(&self, waits: bool) -> bool {
        !self.waits.swap(waits, Ordering::Relaxed) && waits
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}
