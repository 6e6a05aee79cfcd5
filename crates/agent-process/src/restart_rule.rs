//! When an instance that has ended is started again, and when it is given up. A rule without clock and process: the caller says
//! how long the last process lived and how much time has passed.

use std::{collections::VecDeque, time::Duration};

/// Wait before the first new start.
pub const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait before a new start.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A process that lived as long has made up for those before it.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// So many ends within [`LOOP_WINDOW`] are a loop.
pub const LOOP_ENDS: usize = 5;
/// Time in which ends are counted.
pub const LOOP_WINDOW: Duration = Duration::from_secs(60);

/// What to do about an instance whose process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start it again after this wait.
    After(Duration),
    /// Leave it: it ends again and again.
    GiveUp,
}

/// The ends of one instance.
#[derive(Clone, Debug, Default)]
pub struct RestartRule {
    /// Ends in a row without a stable life between.
    row: u32,
    /// Times of the last ends, counted from any moment.
    ends: VecDeque<Duration>,
}

impl RestartRule {
    /// Decide about an end at `now`, a time that passes evenly, of a process that lived for `lived`.
    pub fn ended(&mut self, now: Duration, lived: Duration) -> RestartDecision {
        if lived >= STABLE_AFTER {
            self.row = 0;
            self.ends.clear();
        }
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|end| now.saturating_sub(*end) > LOOP_WINDOW) {
            self.ends.pop_front();
        }
        if self.ends.len() >= LOOP_ENDS {
            return RestartDecision::GiveUp;
        }
        let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(self.row)).min(LONGEST_WAIT);
        self.row = self.row.saturating_add(1);
        RestartDecision::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_and_a_stable_life_begins_anew() {
        let mut rule = RestartRule::default();
        let mut now = Duration::ZERO;
        for wait in [200, 400, 800] {
            now += Duration::from_secs(20);
            assert_eq!(rule.ended(now, Duration::from_secs(1)), RestartDecision::After(Duration::from_millis(wait)));
        }
        now += STABLE_AFTER;
        assert_eq!(rule.ended(now, STABLE_AFTER), RestartDecision::After(FIRST_WAIT));
    }

    #[test]
    fn a_loop_is_given_up() {
        let mut rule = RestartRule::default();
        let decisions: Vec<RestartDecision> =
            (0..LOOP_ENDS).map(|at| rule.ended(Duration::from_secs(at as u64), Duration::ZERO)).collect();
        assert_eq!(decisions.iter().filter(|one| **one == RestartDecision::GiveUp).count(), 1);
        assert_eq!(decisions.last(), Some(&RestartDecision::GiveUp));
    }

    proptest! {
        /// Whatever its ends are: waits stay in their range, and it is given up only for as many ends as a loop has, all of them
        /// within the window.
        #[test]
        fn decisions_follow_the_ends(gaps in proptest::collection::vec((0u64..120_000, 0u64..60_000), 1..80)) {
            let mut rule = RestartRule::default();
            let (mut now, mut recent) = (Duration::ZERO, Vec::new());
            for (gap, lived) in gaps {
                now += Duration::from_millis(gap);
                let lived = Duration::from_millis(lived);
                if lived >= STABLE_AFTER {
                    recent.clear();
                }
                recent.push(now);
                let within = recent.iter().filter(|end| now - **end <= LOOP_WINDOW).count();
                match rule.ended(now, lived) {
                    RestartDecision::GiveUp => prop_assert!(within >= LOOP_ENDS),
                    RestartDecision::After(wait) => {
                        prop_assert!(within < LOOP_ENDS);
                        prop_assert!((FIRST_WAIT..=LONGEST_WAIT).contains(&wait));
                    }
                }
            }
        }
    }
}
