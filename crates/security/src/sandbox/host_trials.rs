//! When the host is tested: at the start, and again with back-off while commands are refused for what the test found. A
//! test that gets no answer (a busy machine, a stopped process) says nothing lasting about the host.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::enforcement_probe::HostCapabilities;

/// Time from the first refusing test to the next; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Maximum time between two tests while commands are refused.
const MAX_BACKOFF: Duration = Duration::from_secs(600);

/// The last test of the host, and when the next is due.
#[derive(Default)]
pub(super) struct HostTrials {
    /// Held while a test runs.
    pub running: tokio::sync::Mutex<()>,
    last: Mutex<Option<PastTrial>>,
}

#[derive(Clone)]
struct PastTrial {
    found: Arc<HostCapabilities>,
    /// Number of tests in a row because of which commands are refused.
    refusals: u32,
    /// Time of the next test; `None`: commands are run, and no other test is due.
    next: Option<Instant>,
}

impl HostTrials {
    /// Return what the last test found; `None`: a test is due at `now`.
    pub fn found(&self, now: Instant) -> Option<Arc<HostCapabilities>> {
        let last = self.last.lock().clone()?;
        last.next.is_none_or(|next| now < next).then_some(last.found)
    }

    /// Return when the next test is due; `None`: never.
    pub fn next(&self) -> Option<Instant> {
        self.last.lock().as_ref().and_then(|last| last.next)
    }

    /// Keep what a test that ended at `now` has found.
    pub fn keep(&self, found: Arc<HostCapabilities>, now: Instant) {
        let mut last = self.last.lock();
        let refused = found.check_enforced().is_err();
        let refusals = if refused { last.as_ref().map_or(0, |last| last.refusals) + 1 } else { 0 };
        let wait = FIRST_BACKOFF.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(MAX_BACKOFF);
        *last = Some(PastTrial { found, refusals, next: refused.then(|| now + wait) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_db::codec::Timestamp;
    use chrono::DateTime;

    fn found(reason: Option<&str>) -> Arc<HostCapabilities> {
        Arc::new(HostCapabilities {
            available: reason.is_none(),
            isolation: String::new(),
            reason: reason.map(str::to_owned),
            user: String::new(),
            capabilities: Vec::new(),
            unenforced: Vec::new(),
            allow_unenforced: false,
            tested_at: Timestamp(DateTime::UNIX_EPOCH),
            seconds: 0.0,
        })
    }

    #[test]
    fn test_without_an_answer_is_repeated_with_back_off() {
        let (trials, start) = (HostTrials::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(trials.found(start).is_none(), "nothing was tested");
        trials.keep(found(Some("no answer")), start);
        assert!(trials.found(start).is_some_and(|found| !found.available), "commands don't wait for the next test");
        assert!(trials.found(at(1)).is_none());
        trials.keep(found(Some("no answer")), at(1));
        assert!(trials.found(at(2)).is_some());
        assert_eq!(trials.next(), Some(at(3)));
        for _ in 0..100 {
            trials.keep(found(Some("no answer")), at(3));
        }
        assert_eq!(trials.next(), Some(at(603)));
        trials.keep(found(None), at(603));
        assert_eq!(trials.next(), None);
        assert!(trials.found(at(1_000_000)).is_some_and(|found| found.available), "what holds is not tested again");
        trials.keep(found(Some("no answer")), at(1_000_000));
        assert_eq!(trials.next(), Some(at(1_000_001)), "the back-off begins anew");
    }
}
