//! Measurement of a command's files, so often that its disk limit is seen soon after it is passed.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::measure;

/// Minimum time between two measurements.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum time between two measurements.
const MAX_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes that processes write to files in a second at most; what is written first goes to memory.
const MAX_BYTES_PER_SECOND: f64 = 4e9;
/// Number of times that the processor time of a measurement passes until the next, so that measuring does not dominate.
const COST_FACTOR: u32 = 3;

/// Files of a command as last measured, and the time of the next measurement.
pub struct DiskWatch {
    limit: u64,
    due: Instant,
    found: measure::FileUsage,
}

impl DiskWatch {
    /// Watch files that may have `limit` bytes.
    pub fn new(limit: u64, now: Instant) -> Self {
        Self { limit, due: now, found: measure::FileUsage::default() }
    }

    /// Time until the next measurement.
    pub fn pause(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Measure the files in `workspace`, and those without a name that `root` and its descendants have open, if that is due.
    pub fn look(&mut self, workspace: &Path, root: u32) {
        let began = Instant::now();
        if self.due > began {
            return;
        }
        let worked = thread_time();
        self.found = measure::measure_files(workspace);
        self.found.bytes += measure::deleted_file_bytes(&measure::descendants(root), workspace);
        let now = Instant::now();
        // On a busy host a measurement may last long for lack of a processor, which is no reason to put the next off.
        let worked = worked.zip(thread_time()).map(|(before, after)| after.saturating_sub(before));
        let cost = worked.map_or(now - began, |worked| worked.min(now - began));
        self.due = now + interval(cost, self.limit.saturating_sub(self.found.bytes));
    }

    /// Return what was measured last.
    pub fn found(&self) -> measure::FileUsage {
        self.found
    }

    /// Return whether there is more than allowed.
    pub fn is_over(&self) -> bool {
        self.found.bytes > self.limit || self.found.count > measure::MAX_COUNTED_FILES
    }
}

/// Processor time of this thread; `None` where the kernel does not tell.
fn thread_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Time from a measurement that took `cost` to the next, when `room` bytes are left: the nearer the limit, the shorter. A
/// measurement of many files puts the next off, but never for long.
fn interval(cost: Duration, room: u64) -> Duration {
    let filled = Duration::try_from_secs_f64(room as f64 / MAX_BYTES_PER_SECOND).unwrap_or(MAX_INTERVAL);
    filled.max(cost * COST_FACTOR).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_measured_the_more_often_the_nearer_the_limit_is() {
        let millis = Duration::from_millis;
        assert_eq!(interval(millis(0), 0), MIN_INTERVAL);
        assert_eq!(interval(millis(0), 64 << 20), Duration::from_secs_f64(f64::from(64 << 20) / 4e9));
        assert_eq!(interval(millis(0), 100 << 30), MAX_INTERVAL, "idle commands cost little");
        assert_eq!(interval(millis(20), 0), millis(60));
        assert_eq!(interval(millis(150), 0), MAX_INTERVAL, "many files don't put the limit off");
        assert_eq!(interval(millis(0), u64::MAX), MAX_INTERVAL);
    }

    #[test]
    fn time_of_this_thread_is_that_in_which_it_works() {
        let (began, before) = (Instant::now(), thread_time().unwrap());
        while thread_time().unwrap() - before < Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(20), "it works all the time");
        }
        let worked = thread_time().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(thread_time().unwrap() - worked < Duration::from_millis(40));
    }

    #[test]
    fn what_is_found_is_compared_with_the_limit() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), vec![1; 300_000]).unwrap();
        let now = Instant::now();
        let watch = |limit| {
            let mut watch = DiskWatch::new(limit, now);
            assert_eq!(watch.pause(now), Duration::ZERO);
            // No process has this id.
            watch.look(place.path(), u32::MAX - 1);
            assert!(watch.pause(Instant::now()) > Duration::ZERO);
            watch
        };
        assert!(watch(200_000).is_over() && !watch(1 << 20).is_over());
        assert_eq!(watch(1 << 20).found().count, 1);
    }
}
