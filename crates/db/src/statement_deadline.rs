//! A time limit for statements on a connection, kept by SQLite's progress handler.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Connection, Result};

/// Instructions of SQLite's virtual machine between two looks at the time; some 0.1 to 1 ms.
const CHECK_INTERVAL: i32 = 20_000;
/// A deadline that has passed.
const PASSED: u64 = 1;

/// Time since the last look at the clock after which no statement is running.
const QUIET: u64 = 1000;

/// When a connection's statement is ended.
#[derive(Clone, Default)]
pub struct StatementDeadline(Arc<DeadlineClock>);

/// Times in milliseconds of [`elapsed`].
#[derive(Default)]
struct DeadlineClock {
    /// When the statement is ended; 0: never.
    ends: AtomicU64,
    /// When a statement last looked at the time; 0: none has, they were short.
    looked: AtomicU64,
}

impl StatementDeadline {
    /// A deadline that ends the statements of `conn`.
    ///
    /// # Errors
    /// Fails when the connection fails.
    pub async fn attach(conn: &mut Connection) -> Result<Self> {
        let deadline = Self::default();
        let clock = deadline.0.clone();
        conn.lock_handle().await?.set_progress_handler(CHECK_INTERVAL, move || {
            let (now, ends) = (elapsed(), clock.ends.load(Ordering::Relaxed));
            clock.looked.store(now, Ordering::Relaxed);
            ends == 0 || now < ends
        });
        Ok(deadline)
    }

    /// Give the statements from now on this much time.
    pub fn set(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.0.ends.store(elapsed().saturating_add(limit), Ordering::Relaxed);
    }

    /// Give the statements from now on any time.
    pub fn lift(&self) {
        self.0.ends.store(0, Ordering::Relaxed);
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        let ends = self.0.ends.load(Ordering::Relaxed);
        ends > 0 && elapsed() >= ends
    }

    /// End the statement that is running, if any.
    pub fn pass(&self) {
        self.0.ends.store(PASSED, Ordering::Relaxed);
    }

    /// Whether a long statement ran a moment ago, which its caller may have given up.
    pub fn may_be_running(&self) -> bool {
        let looked = self.0.looked.load(Ordering::Relaxed);
        looked > 0 && elapsed().saturating_sub(looked) < QUIET
    }
}

/// Milliseconds since the first call, and some.
fn elapsed() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let since = BEGUN.get_or_init(Instant::now).elapsed().as_millis();
    u64::try_from(since).unwrap_or(u64::MAX).saturating_add(PASSED)
}
