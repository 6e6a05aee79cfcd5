//! Replay of a workflow with the recorded times of its steps, under other settings: list scheduling as the engine does it. A ready
//! step begins when a place is free, in the order of the definition; an attempt takes the time of a recorded one, or fails as one
//! did; a step that waits for its retry holds no place; a step that fails for good ends the run.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};

/// A recorded attempt at a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayAttempt {
    /// Seconds from its begin to its end.
    pub seconds: f64,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it failed so that it is not tried again, whatever the settings.
    pub is_final: bool,
}

/// When a failed step is tried again: after `initial` · `backoff`^(n-1) seconds, at most `max`, spread by `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayRetry {
    /// Retries at most.
    pub retries: u32,
    /// Seconds before the first retry.
    pub initial: f64,
    /// Factor from one retry to the next.
    pub backoff: f64,
    /// Seconds at most.
    pub max: f64,
    /// Random share of the delay, 0 to 1.
    pub jitter: f64,
}

/// A step of the workflow with what is recorded of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayStep {
    /// Indices of the steps that must end first.
    pub dependencies: Vec<usize>,
    /// Recorded attempts; without one it takes no time.
    pub attempts: Vec<ReplayAttempt>,
    /// Seconds from when it could begin to when it did, with a place free: the engine's own time.
    pub lag: f64,
    /// When it is tried again.
    pub retry: ReplayRetry,
}

/// A replayed run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplayedRun {
    /// Seconds from its begin to its end.
    pub seconds: f64,
    /// Whether it failed.
    pub failed: bool,
    /// Seconds that its attempts took together.
    pub work: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StepState {
    /// Waits for its dependencies, or for its retry at this time.
    Waiting(f64),
    /// Runs until this time, with this outcome.
    Running(f64, ReplayAttempt),
    Done,
}

/// Replay one run with at most `parallel` steps at once. The same seed draws the same attempts.
pub fn replay_run(steps: &[ReplayStep], parallel: usize, seed: u64) -> ReplayedRun {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut states = vec![StepState::Waiting(0.0); steps.len()];
    let mut tries = vec![0u32; steps.len()];
    let (mut now, mut work) = (0.0f64, 0.0f64);
    loop {
        begin_ready(steps, &mut states, (parallel, now), &mut work, &mut rng);
        let ends = states.iter().enumerate().filter_map(|(at, state)| match state {
            StepState::Running(until, _) => Some((*until, at)),
            StepState::Waiting(from) if *from > now && is_free(steps, &states, at) => Some((*from, at)),
            _ => None,
        });
        let Some((next, at)) = ends.min_by(|a, b| a.0.total_cmp(&b.0)) else {
            let failed = states.iter().any(|state| *state != StepState::Done);
            return ReplayedRun { seconds: now, failed, work };
        };
        now = next;
        let StepState::Running(_, attempt) = states[at] else { continue };
        if !attempt.failed {
            states[at] = StepState::Done;
            continue;
        }
        tries[at] += 1;
        let retry = steps[at].retry;
        if attempt.is_final || tries[at] > retry.retries {
            return ReplayedRun { seconds: now, failed: true, work };
        }
        let wait = (retry.initial * retry.backoff.powi(tries[at].cast_signed() - 1)).min(retry.max);
        let spread = 1.0 + retry.jitter * (2.0 * rng.random::<f64>() - 1.0);
        states[at] = StepState::Waiting(now + wait * spread);
    }
}

fn is_free(steps: &[ReplayStep], states: &[StepState], at: usize) -> bool {
    steps[at].dependencies.iter().all(|before| states[*before] == StepState::Done)
}

fn begin_ready(
    steps: &[ReplayStep],
    states: &mut [StepState],
    (parallel, now): (usize, f64),
    work: &mut f64,
    rng: &mut SmallRng,
) {
    let mut under_way = states.iter().filter(|state| matches!(state, StepState::Running(..))).count();
    for at in 0..steps.len() {
        if under_way >= parallel.max(1) {
            return;
        }
        let StepState::Waiting(from) = states[at] else { continue };
        if from > now || !is_free(steps, states, at) {
            continue;
        }
        let step = &steps[at];
        let drawn = match step.attempts.len() {
            0 => ReplayAttempt { seconds: 0.0, failed: false, is_final: false },
            count => step.attempts[rng.random_range(0..count)],
        };
        *work += drawn.seconds;
        states[at] = StepState::Running(now + step.lag + drawn.seconds, drawn);
        under_way += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER: ReplayRetry = ReplayRetry { retries: 0, initial: 1.0, backoff: 2.0, max: 60.0, jitter: 0.0 };

    fn step(dependencies: &[usize], seconds: f64) -> ReplayStep {
        let attempts = vec![ReplayAttempt { seconds, failed: false, is_final: false }];
        ReplayStep { dependencies: dependencies.to_vec(), attempts, lag: 0.0, retry: NEVER }
    }

    #[test]
    fn steps_run_beside_each_other_as_places_allow() {
        let steps = [step(&[], 1.0), step(&[], 2.0), step(&[], 3.0), step(&[0, 1, 2], 1.0)];
        let seconds = |parallel| replay_run(&steps, parallel, 1).seconds;
        assert_eq!([seconds(1), seconds(2), seconds(3), seconds(9)], [7.0, 5.0, 4.0, 4.0]);
        assert_eq!(replay_run(&steps, 2, 1).work, 7.0);
        assert_eq!(replay_run(&[], 1, 1), ReplayedRun { seconds: 0.0, failed: false, work: 0.0 });
    }

    #[test]
    fn retries_wait_and_cost_time() {
        let mut failing = step(&[], 1.0);
        failing.attempts = vec![ReplayAttempt { seconds: 1.0, failed: true, is_final: false }];
        assert_eq!(replay_run(&[failing.clone()], 1, 1), ReplayedRun { seconds: 1.0, failed: true, work: 1.0 });
        failing.retry = ReplayRetry { retries: 2, ..NEVER };
        // 1 s, wait 1 s, 1 s, wait 2 s, 1 s.
        assert_eq!(replay_run(&[failing.clone()], 1, 1), ReplayedRun { seconds: 6.0, failed: true, work: 3.0 });
        let mut lost = failing.clone();
        lost.attempts[0].is_final = true;
        assert_eq!(replay_run(&[lost], 1, 1).seconds, 1.0, "what can't pass is not tried again");
        // While it waits, its place is another's.
        let both = [failing, step(&[], 1.0)];
        let run = replay_run(&both, 1, 1);
        assert_eq!((run.seconds, run.work), (6.0, 4.0));
    }

    #[test]
    fn the_share_of_failures_is_that_of_the_records() {
        let mut flaky = step(&[], 1.0);
        flaky.attempts.extend([ReplayAttempt { seconds: 0.5, failed: true, is_final: false }; 1]);
        let failed = (0..2000).filter(|seed| replay_run(std::slice::from_ref(&flaky), 1, *seed).failed).count();
        assert!((900..1100).contains(&failed), "{failed} of 2000 at one half");
        flaky.retry = ReplayRetry { retries: 3, ..NEVER };
        let failed = (0..2000).filter(|seed| replay_run(std::slice::from_ref(&flaky), 1, *seed).failed).count();
        assert!((80..170).contains(&failed), "{failed} of 2000 at one sixteenth");
    }

    proptest! {
        #[test]
        fn more_places_take_no_longer_without_dependencies(times in proptest::collection::vec(0.01..9.0_f64, 1..12), parallel in 1usize..6) {
            let steps: Vec<ReplayStep> = times.iter().map(|seconds| step(&[], *seconds)).collect();
            let run = replay_run(&steps, parallel, 3);
            let (sum, most) = (times.iter().sum::<f64>(), times.iter().copied().fold(0.0, f64::max));
            // Graham's bounds of list scheduling.
            let least = (sum / parallel as f64).max(most);
            prop_assert!(run.seconds >= least - 1e-9);
            prop_assert!(run.seconds <= sum / parallel as f64 + most + 1e-9);
        }
    }
}
