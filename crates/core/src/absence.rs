//! Times in which this process did not run, because it was stopped, frozen or starved. What was due in them is late through no
//! fault of whoever was waited for: limits are extended by as much.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Interval between two beats of the process.
const BEAT_INTERVAL: Duration = Duration::from_millis(100);
/// Lateness of a beat from which it counts as an absence.
const MIN_ABSENCE: Duration = Duration::from_millis(500);
/// Maximum number of absences that are remembered.
const MAX_ABSENCES: usize = 64;

static PROCESS: Mutex<AbsenceLog> = Mutex::new(AbsenceLog::new());

/// Absences of a process, known by the gaps between its beats.
#[derive(Debug)]
struct AbsenceLog {
    last_beat: Option<Instant>,
    /// Beginnings and ends, oldest first.
    absences: VecDeque<(Instant, Instant)>,
}

impl AbsenceLog {
    const fn new() -> Self {
        Self { last_beat: None, absences: VecDeque::new() }
    }

    /// Note that the process runs now. Returns the absence that ended.
    fn beat(&mut self, now: Instant) -> Option<Duration> {
        let absence = self.open_absence(now);
        self.last_beat = Some(now);
        let (from, to) = absence?;
        if self.absences.len() == MAX_ABSENCES {
            self.absences.pop_front();
        }
        self.absences.push_back((from, to));
        Some(to - from)
    }

    /// The absence that ends now, if the next beat is late.
    fn open_absence(&self, now: Instant) -> Option<(Instant, Instant)> {
        let due = self.last_beat? + BEAT_INTERVAL;
        (now.saturating_duration_since(due) >= MIN_ABSENCE).then_some((due, now))
    }

    fn all(&self, now: Instant) -> impl Iterator<Item = (Instant, Instant)> {
        self.absences.iter().copied().chain(self.open_absence(now))
    }

    fn absent_since(&self, since: Instant, now: Instant) -> Duration {
        self.all(now).map(|(from, to)| to.saturating_duration_since(from.max(since))).sum()
    }

    fn recent(&self, window: Duration, now: Instant) -> Duration {
        let ended = self.all(now).filter(|(_, to)| now.saturating_duration_since(*to) <= window);
        ended.map(|(from, to)| to - from).sum()
    }
}

/// Return how long this process did not run since then.
pub fn absent_since(since: Instant) -> Duration {
    PROCESS.lock().absent_since(since, Instant::now())
}

/// Return the whole duration of the absences that ended within the last `window`.
pub fn recent(window: Duration) -> Duration {
    PROCESS.lock().recent(window, Instant::now())
}

/// Note absences of this process, until `stopping`.
pub async fn watch(stopping: CancellationToken) {
    loop {
        if let Some(absence) = PROCESS.lock().beat(Instant::now()) {
            tracing::warn!(seconds = absence.as_secs_f64(), "this process did not run for some time");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(BEAT_INTERVAL) => {}
        }
    }
}

/// Wait for `work` for `limit` of the time in which this process runs; `None`: it has not ended then.
pub async fn timeout<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    let began = Instant::now();
    let mut allowed = limit;
    tokio::pin!(work);
    loop {
        if let Ok(done) = tokio::time::timeout(allowed.saturating_sub(began.elapsed()), &mut work).await {
            return Some(done);
        }
        // What came in the absence is looked at before the time is up.
        let extended = limit.saturating_add(absent_since(began));
        if extended <= allowed {
            return None;
        }
        allowed = extended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn gaps_between_beats_are_absences() {
        let mut log = AbsenceLog::new();
        let start = Instant::now();
        assert_eq!((log.absent_since(start, start + 9 * SECOND), log.beat(start)), (Duration::ZERO, None));
        assert_eq!(log.beat(start + BEAT_INTERVAL + Duration::from_millis(400)), None, "late, and not absent");
        let last = start + Duration::from_millis(500);
        let back = last + BEAT_INTERVAL + 5 * SECOND;
        // Known before the beat that ends it, and the same afterwards.
        for _ in 0..2 {
            assert_eq!(log.absent_since(start, back), 5 * SECOND);
            assert_eq!(log.absent_since(back - 2 * SECOND, back), 2 * SECOND);
            assert_eq!((log.absent_since(back, back), log.recent(SECOND, back)), (Duration::ZERO, 5 * SECOND));
            log.beat(back);
        }
        assert_eq!(log.recent(SECOND, back + 3 * SECOND - BEAT_INTERVAL), 3 * SECOND - 2 * BEAT_INTERVAL);
        log.beat(back + BEAT_INTERVAL);
        assert_eq!(log.absent_since(start, back + BEAT_INTERVAL), 5 * SECOND);
    }
}
