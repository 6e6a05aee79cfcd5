//! A training thread gives way to those that answer requests.

use rustix::{
    process::setpriority_process,
    thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity},
};

/// The nice value of training.
const NICE: i32 = 10;

/// Prepares the present thread for a run: it uses `threads` threads inside an operation, at a nice value of 10, and stays on
/// some of the processor's last cores.
///
/// A thread that computes all the time and is moved from core to core stands in the way of others that wake up for
/// microseconds, whatever its nice value: on two cores the 99th percentile of `act` was 2.2 ms beside it and 0.27 ms without.
/// Bound to one core, it is not felt (0.27 ms): who wakes finds the other one. `runs` is how many trainings there may be at once;
/// together they leave a core to others where there are two or more.
pub fn be_modest(threads: u32, runs: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    let this = Some(gettid());
    // On Linux a nice value is a thread's own. What can't be had costs only some latency elsewhere.
    if let Err(error) = setpriority_process(this, NICE) {
        tracing::warn!(%error, "a training thread runs at the usual priority");
    }
    let bound = sched_getaffinity(this).and_then(|allowed| match last_of(&allowed, runs * threads as usize) {
        Some(some) => sched_setaffinity(this, &some),
        None => Ok(()),
    });
    if let Err(error) = bound {
        tracing::warn!(%error, "a training thread runs on any core");
    }
}

/// The last `count` of these cores, or all but the first where that is fewer. None: there is only one.
fn last_of(allowed: &CpuSet, count: usize) -> Option<CpuSet> {
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
        assert_eq!(last_of(&set(&[0, 1, 5, 9]), 2), Some(set(&[5, 9])));
        assert_eq!(last_of(&set(&[0, 1, 5, 9]), 4), Some(set(&[1, 5, 9])));
        assert_eq!(last_of(&set(&[0, 1]), 1), Some(set(&[1])));
        assert_eq!(last_of(&set(&[3]), 1), None);
    }

    #[test]
    fn only_the_present_thread_is_changed() {
        let before = sched_getaffinity(None).unwrap();
        let inside = std::thread::spawn(|| {
            be_modest(1, 1);
            (rustix::process::getpriority_process(Some(gettid())).unwrap(), sched_getaffinity(None).unwrap())
        });
        let (nice, bound) = inside.join().unwrap();
        assert_eq!(nice, NICE);
        assert_eq!(bound, last_of(&before, 1).unwrap_or(before));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
