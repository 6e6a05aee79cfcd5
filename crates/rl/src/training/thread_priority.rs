//! Scheduling of training threads so that they do not delay requests.

use rustix::{
    process::setpriority_process,
    thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity},
};

/// Nice value of training threads.
const TRAINING_NICE: i32 = 10;

/// Prepare the current thread for a training run: set the number of `threads` inside an operation, raise the nice value
/// to 10, and restrict it to some of the processor's last cores.
///
/// A thread that computes continuously and migrates between cores delays threads that wake up for microseconds,
/// whatever its nice value: on two cores the 99th percentile of `act` was 2.2 ms beside it and 0.27 ms without.
/// Restricted to one core it has no effect (0.27 ms). `runs` is the maximum number of concurrent trainings; together
/// they leave one core free where there are two or more.
pub fn lower_thread_priority(threads: u32, runs: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    let this = Some(gettid());
    // On Linux the nice value belongs to the thread. A failure only costs latency elsewhere.
    if let Err(error) = setpriority_process(this, TRAINING_NICE) {
        tracing::warn!(%error, "could not lower a training thread's priority");
    }
    let bound = sched_getaffinity(this).and_then(|allowed| match last_cores(&allowed, runs * threads as usize) {
        Some(some) => sched_setaffinity(this, &some),
        None => Ok(()),
    });
    if let Err(error) = bound {
        tracing::warn!(%error, "could not restrict a training thread to some cores");
    }
}

/// Return the last `count` of these cores, at most all but the first; `None` if there is only one.
fn last_cores(allowed: &CpuSet, count: usize) -> Option<CpuSet> {
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let count = count.min(cores.len().saturating_sub(1));
    let mut some = CpuSet::new();
    cores.iter().rev().take(count).for_each(|core| some.set(*core));
    (count > 0).then_some(some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_left_to_others() {
        let set = |cores: &[usize]| {
            let mut set = CpuSet::new();
            cores.iter().for_each(|core| set.set(*core));
            set
        };
        assert_eq!(last_cores(&set(&[0, 1, 5, 9]), 2), Some(set(&[5, 9])));
        assert_eq!(last_cores(&set(&[0, 1, 5, 9]), 4), Some(set(&[1, 5, 9])));
        assert_eq!(last_cores(&set(&[0, 1]), 1), Some(set(&[1])));
        assert_eq!(last_cores(&set(&[3]), 1), None);
    }

    #[test]
    fn only_the_present_thread_is_changed() {
        let before = sched_getaffinity(None).unwrap();
        let inside = std::thread::spawn(|| {
            lower_thread_priority(1, 1);
            (rustix::process::getpriority_process(Some(gettid())).unwrap(), sched_getaffinity(None).unwrap())
        });
        let (nice, bound) = inside.join().unwrap();
        assert_eq!(nice, TRAINING_NICE);
        assert_eq!(bound, last_cores(&before, 1).unwrap_or(before));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
