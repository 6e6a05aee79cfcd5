//! Whether a new revision is as good as the one that serves, judged call by call: Wald's sequential probability ratio test on failed
//! calls and on slow ones.
//!
//! For calls that fail independently with probability p, the likelihood ratio of `p1` to `p0` is a martingale where p = `p0`. By
//! Ville's inequality it reaches `1/alpha` with probability at most `alpha` there, and its inverse reaches `1/beta` with
//! probability at most `beta` where p = `p1`; so the two error rates hold however long the test goes on (Wald, Sequential Analysis,
//! 1947, chapter 3; Ville 1939).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Chance that a revision whose share is `p0` or less is undone, by both tests together.
const FALSE_UNDO: f64 = 0.05;
/// Chance that a revision whose share is `p1` or more passes one test.
const FALSE_PASS: f64 = 0.05;
/// Least share of failed calls that counts as good.
const LEAST_GOOD_ERRORS: f64 = 0.01;
/// Distance between the shares of failed calls that are good and bad.
const ERROR_DISTANCE: f64 = 0.04;
/// Shares of slow calls that are good and bad.
const SLOW_SHARES: (f64, f64) = (0.05, 0.2);
/// A call is slow that takes so many times the serving revision's 95th percentile.
const SLOW_FACTOR: f64 = 2.0;
/// No call is slow that takes less, in seconds: the clock's grain and the scheduler's are not the revision's fault.
const LEAST_SLOW_SECONDS: f64 = 0.05;
/// What is slow where nothing was measured, in seconds.
const UNKNOWN_SLOW_SECONDS: f64 = 2.0;
/// Largest share of failed calls that can still count as good.
const MOST_GOOD_ERRORS: f64 = 0.9;

/// A sequential test of a share against two values of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SequentialTest {
    /// Share that is good.
    pub p0: f64,
    /// Share that is bad.
    pub p1: f64,
    /// Chance at most that a share of `p0` or less is found bad.
    pub alpha: f64,
    /// Chance at most that a share of `p1` or more is found good.
    pub beta: f64,
    /// Logarithm of the likelihood ratio so far.
    pub log_ratio: f64,
    /// Calls so far.
    pub calls: u64,
    /// Calls so far that have what is tested.
    pub hits: u64,
}

/// What a sequential test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestFinding {
    /// More calls are needed.
    Open,
    /// The share is good.
    Good,
    /// The share is bad.
    Bad,
}

impl SequentialTest {
    /// A test that begins.
    fn new(p0: f64, p1: f64, alpha: f64) -> Self {
        Self { p0, p1, alpha, beta: FALSE_PASS, log_ratio: 0.0, calls: 0, hits: 0 }
    }

    /// Take in a call. One after the end changes nothing but the counts.
    pub fn observe(&mut self, hit: bool) {
        let decided = self.finding() != TestFinding::Open;
        self.calls += 1;
        self.hits += u64::from(hit);
        if !decided {
            self.log_ratio += if hit { (self.p1 / self.p0).ln() } else { ((1.0 - self.p1) / (1.0 - self.p0)).ln() };
        }
    }

    /// What it says so far.
    pub fn finding(&self) -> TestFinding {
        if self.log_ratio >= -self.alpha.ln() {
            TestFinding::Bad
        } else if self.log_ratio <= self.beta.ln() {
            TestFinding::Good
        } else {
            TestFinding::Open
        }
    }
}

/// What the serving revision's calls were like before a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrialBaseline {
    /// Calls that it had.
    pub calls: u64,
    /// Those that failed.
    pub errors: u64,
    /// 95th percentile of their seconds; `None`: there were none.
    pub p95_seconds: Option<f64>,
}

/// The trial of a canary: both tests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CanaryTrial {
    /// Test of failed calls.
    pub errors: SequentialTest,
    /// Test of slow calls.
    pub slow: SequentialTest,
    /// Seconds above which a call is slow.
    pub slow_above_seconds: f64,
}

/// What a trial says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialVerdict {
    /// More calls are needed.
    Open,
    /// The canary is as good as what serves, for this reason.
    Good(String),
    /// It is worse, for this reason.
    Bad(String),
}

/// Upper end of Wilson's interval at 95 % for a share of `hits` in `calls` (Wilson 1927).
fn upper_share(hits: u64, calls: u64) -> f64 {
    const Z: f64 = 1.959_964;
    let (n, share) = (calls as f64, hits as f64 / calls as f64);
    let centre = share + Z * Z / (2.0 * n);
    (centre + Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt()) / (1.0 + Z * Z / n)
}

impl CanaryTrial {
    /// Begin a trial. What is good is fixed here: errors up to what the serving revision's may be, and at least 1 %.
    pub fn begin(baseline: &TrialBaseline) -> Self {
        let served = if baseline.errors > 0 { upper_share(baseline.errors, baseline.calls) } else { 0.0 };
        let good = served.clamp(LEAST_GOOD_ERRORS, MOST_GOOD_ERRORS);
        let bad = (good + ERROR_DISTANCE).max(good + (1.0 - good) * ERROR_DISTANCE).min(0.99);
        let slow_above = baseline.p95_seconds.map_or(UNKNOWN_SLOW_SECONDS, |p95| p95 * SLOW_FACTOR);
        Self {
            errors: SequentialTest::new(good, bad, FALSE_UNDO / 2.0),
            slow: SequentialTest::new(SLOW_SHARES.0, SLOW_SHARES.1, FALSE_UNDO / 2.0),
            slow_above_seconds: slow_above.max(LEAST_SLOW_SECONDS),
        }
    }

    /// Take in a call of the canary.
    pub fn observe(&mut self, failed: bool, seconds: f64) {
        self.errors.observe(failed);
        // How long a failed call took says nothing of those that work.
        if !failed {
            self.slow.observe(seconds > self.slow_above_seconds);
        }
    }

    /// What it says so far, with the figures.
    pub fn verdict(&self) -> TrialVerdict {
        let told = |test: &SequentialTest, what: &str| {
            format!(
                "{} of {} calls {what} (good: {:.1} %, bad: {:.1} %, error rates {} and {})",
                test.hits,
                test.calls,
                test.p0 * 100.0,
                test.p1 * 100.0,
                test.alpha,
                test.beta,
            )
        };
        let slow = format!("took more than {:.3} s", self.slow_above_seconds);
        match (self.errors.finding(), self.slow.finding()) {
            (TestFinding::Bad, _) => TrialVerdict::Bad(told(&self.errors, "failed")),
            (_, TestFinding::Bad) => TrialVerdict::Bad(told(&self.slow, &slow)),
            (TestFinding::Good, TestFinding::Good) => {
                TrialVerdict::Good(format!("{}; {}", told(&self.errors, "failed"), told(&self.slow, &slow)))
            }
            _ => TrialVerdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    /// The share of trials that are found bad and good, and the mean number of calls, where calls fail with probability `errors` and
    /// are slow with probability `slow`.
    fn simulate(baseline: &TrialBaseline, errors: f64, slow: f64, seed: u64) -> (f64, f64, f64) {
        const TRIALS: usize = 2000;
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut bad, mut good, mut calls) = (0.0, 0.0, 0.0);
        for _ in 0..TRIALS {
            let mut trial = CanaryTrial::begin(baseline);
            let verdict = loop {
                let failed = rng.random::<f64>() < errors;
                let seconds = if rng.random::<f64>() < slow { 100.0 } else { 0.0 };
                trial.observe(failed, seconds);
                calls += 1.0;
                match trial.verdict() {
                    TrialVerdict::Open => {}
                    verdict => break verdict,
                }
            };
            match verdict {
                TrialVerdict::Bad(_) => bad += 1.0,
                _ => good += 1.0,
            }
        }
        (bad / TRIALS as f64, good / TRIALS as f64, calls / TRIALS as f64)
    }

    #[test]
    fn error_rates_are_as_stated() {
        let baseline = TrialBaseline { calls: 1000, errors: 0, p95_seconds: Some(0.2) };
        // Three standard errors of 2000 trials at 5 %.
        let margin = 3.0 * (0.05f64 * 0.95 / 2000.0).sqrt();
        let (undone, _, _) = simulate(&baseline, 0.01, 0.05, 1);
        assert!(undone <= FALSE_UNDO + margin, "a good canary is undone in {undone} of all trials");
        let (_, passed, _) = simulate(&baseline, 0.05, 0.0, 2);
        assert!(passed <= FALSE_PASS + margin, "one with too many errors passes in {passed} of all trials");
        let (_, passed, _) = simulate(&baseline, 0.0, 0.2, 3);
        assert!(passed <= FALSE_PASS + margin, "one that is too slow passes in {passed} of all trials");
        let (undone, _, calls) = simulate(&baseline, 0.5, 0.05, 4);
        assert!(undone > 0.999 && calls < 12.0, "one that fails half its calls: {undone} after {calls} calls");
    }

    #[test]
    fn a_revision_that_always_failed_some_calls_is_not_held_to_none() {
        let baseline = TrialBaseline { calls: 1000, errors: 80, p95_seconds: None };
        let trial = CanaryTrial::begin(&baseline);
        assert!(trial.errors.p0 > 0.08 && trial.errors.p0 < 0.11, "{}", trial.errors.p0);
        let (undone, _, _) = simulate(&baseline, 0.08, 0.0, 5);
        assert!(undone < 0.05, "{undone}");
    }

    #[test]
    fn a_verdict_names_its_figures() {
        let mut trial = CanaryTrial::begin(&TrialBaseline::default());
        while trial.verdict() == TrialVerdict::Open {
            trial.observe(true, 0.0);
        }
        let TrialVerdict::Bad(reason) = trial.verdict() else { panic!("{:?}", trial.verdict()) };
        assert!(reason.starts_with("3 of 3 calls failed (good: 1.0 %, bad: 5.0 %"), "{reason}");
    }

    proptest! {
        /// Any baseline gives shares in order; a decided test stays decided.
        #[test]
        fn trials_are_sound(calls in 1u64..5000, errors in 0u64..5000, hits in proptest::collection::vec(any::<bool>(), 0..300)) {
            let baseline = TrialBaseline { calls, errors: errors.min(calls), p95_seconds: Some(0.1) };
            let mut trial = CanaryTrial::begin(&baseline);
            prop_assert!(0.0 < trial.errors.p0 && trial.errors.p0 < trial.errors.p1 && trial.errors.p1 < 1.0);
            let mut decided = None;
            for hit in hits {
                trial.errors.observe(hit);
                match decided {
                    Some(finding) => prop_assert_eq!(trial.errors.finding(), finding),
                    None if trial.errors.finding() != TestFinding::Open => decided = Some(trial.errors.finding()),
                    None => {}
                }
            }
        }
    }
}
