//! Settings of background work.

use std::time::Duration;

use super::{
    group::settings,
    setting_reader::{fraction, number},
};

settings! {
    /// Settings of background work.
    pub struct BackgroundConfig {
        /// Background tasks that this process does at the same time, default 1; with 0 it does none.
        "BACKGROUND_SLOTS" slots: usize = 1, number(0..=64);
        /// Interval between two checkpoints of a task, the most work that a crash loses, default 5 s.
        "BACKGROUND_CHECKPOINT_SECONDS" checkpoint_every: Duration = Duration::from_secs(5), fraction(0.0..=86_400.0);
        /// Turn of each of two owners who always have tasks, default 2 s.
        "BACKGROUND_SLICE_SECONDS" slice: Duration = Duration::from_secs(2), fraction(0.0..=86_400.0);
        /// Background tasks of one principal that have not ended, default 32.
        "BACKGROUND_MAX_OPEN_TASKS" open_tasks: u64 = 32, number(1..=10_000);
    }
}
