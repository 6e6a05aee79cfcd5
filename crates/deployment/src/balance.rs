//! Which instance gets a call: the less busy of two that are drawn at random (Mitzenmacher 2001: the longest queue grows with
//! log log n where one draw gives log n / log log n), without those that fail call after call. Rules without I/O: the caller brings the
//! random numbers and the time.

use std::{collections::BTreeMap, time::Duration};

/// Failed calls in a row after which an instance gets none for a while.
const EJECT_AFTER: u32 = 5;
/// First time without calls; it grows by as much with each time, up to [`LONGEST_EJECTION`].
const EJECTION: Duration = Duration::from_secs(5);
/// Longest time without calls.
const LONGEST_EJECTION: Duration = Duration::from_secs(60);

/// An instance that calls may go to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Endpoint {
    /// Whether it serves the revision that is rolled out.
    is_target: bool,
    in_flight: u32,
    /// Failed calls in a row.
    failures: u32,
    /// Times that it was ejected since its last good call.
    ejections: u32,
    ejected_until: Option<Duration>,
}

/// How a call to an instance ended, for the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// The instance answered.
    Answered,
    /// It could not be reached, or answered that it can't.
    Failed,
    /// The caller went away before the answer: that says nothing of the instance.
    Abandoned,
}

/// Three random numbers from 0 up to 1: for the revision, and for the two draws.
pub type BalanceDraws = [f64; 3];

/// The instances of a deployment that calls may go to.
#[derive(Clone, Debug, Default)]
pub struct CallBalance {
    endpoints: BTreeMap<String, Endpoint>,
    /// Those that calls went to and that are gone from the list while calls are under way.
    leaving: BTreeMap<String, u32>,
}

impl CallBalance {
    /// Set the instances that calls may go to, each with whether it serves the revision that is rolled out. What is known of those
    /// that were there before stays.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = (String, bool)>) {
        let mut known = std::mem::take(&mut self.endpoints);
        for (id, is_target) in members {
            let mut endpoint = known.remove(&id).unwrap_or_else(|| Endpoint {
                in_flight: self.leaving.remove(&id).unwrap_or(0),
                ..Endpoint::default()
            });
            endpoint.is_target = is_target;
            self.endpoints.insert(id, endpoint);
        }
        for (id, gone) in known.into_iter().filter(|(_, gone)| gone.in_flight > 0) {
            self.leaving.insert(id, gone.in_flight);
        }
    }

    /// Instances that calls may go to.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.endpoints.keys().map(String::as_str)
    }

    /// Calls under way at an instance, whether more may go to it or not.
    pub fn in_flight(&self, id: &str) -> u32 {
        self.endpoints.get(id).map(|one| one.in_flight).or_else(|| self.leaving.get(id).copied()).unwrap_or(0)
    }

    /// Calls under way at all instances.
    pub fn total_in_flight(&self) -> u32 {
        let here: u32 = self.endpoints.values().map(|one| one.in_flight).sum();
        here + self.leaving.values().sum::<u32>()
    }

    /// Choose the instance of a call, which is then under way: not one of `tried`, and of the revision that is rolled out with the
    /// probability `share` (`None`: any). Where the revision drawn has none, the other's.
    pub fn choose(
        &mut self,
        share: Option<f64>,
        draws: BalanceDraws,
        now: Duration,
        tried: &[String],
    ) -> Option<(String, bool)> {
        let ejected = |one: &Endpoint| one.ejected_until.is_some_and(|until| now < until);
        // When more than half are ejected, it is not the instances that fail: then all get calls.
        let out = self.endpoints.values().filter(|one| ejected(one)).count();
        let eject = out * 2 <= self.endpoints.len() && out < self.endpoints.len();
        let is_out = |id: &String, one: &Endpoint| tried.contains(id) || (eject && ejected(one));
        let open: Vec<(&String, &Endpoint)> = self.endpoints.iter().filter(|(id, one)| !is_out(id, one)).collect();
        let wants_target = share.map(|share| draws[0] < share);
        let of_revision = |wanted: bool| open.iter().filter(move |(_, one)| one.is_target == wanted).copied();
        let candidates: Vec<(&String, &Endpoint)> = match (wants_target, share) {
            (None, _) => open.clone(),
            (Some(wanted), share) => {
                let found: Vec<_> = of_revision(wanted).collect();
                // A share of zero or one is no matter of chance: the other revision gets none.
                let strict = share.is_some_and(|share| share <= 0.0 || share >= 1.0);
                if found.is_empty() && !strict { open.clone() } else { found }
            }
        };
        let drawn = |draw: f64, count: usize| ((draw * count as f64) as usize).min(count.saturating_sub(1));
        let first = drawn(draws[1], candidates.len());
        let (id, is_target) = match candidates.len() {
            0 => return None,
            1 => (candidates[0].0.clone(), candidates[0].1.is_target),
            count => {
                let second = (first + 1 + drawn(draws[2], count - 1)) % count;
                let (one, other) = (candidates[first], candidates[second]);
                let chosen = if other.1.in_flight < one.1.in_flight { other } else { one };
                (chosen.0.clone(), chosen.1.is_target)
            }
        };
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.in_flight += 1;
        }
        Some((id, is_target))
    }

    /// A call has ended. Returns whether its instance is ejected by that.
    pub fn finish(&mut self, id: &str, end: CallEnd, now: Duration) -> bool {
        if let Some(left) = self.leaving.get_mut(id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.leaving.remove(id);
            }
            return false;
        }
        let Some(endpoint) = self.endpoints.get_mut(id) else { return false };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        match end {
            CallEnd::Abandoned => return false,
            CallEnd::Answered => {
                (endpoint.failures, endpoint.ejections, endpoint.ejected_until) = (0, 0, None);
                return false;
            }
            CallEnd::Failed => endpoint.failures += 1,
        }
        if endpoint.failures < EJECT_AFTER {
            return false;
        }
        endpoint.failures = 0;
        endpoint.ejections += 1;
        endpoint.ejected_until = Some(now + (EJECTION * endpoint.ejections).min(LONGEST_EJECTION));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    fn of(members: &[(&str, bool)]) -> CallBalance {
        let mut balance = CallBalance::default();
        balance.set_members(members.iter().map(|(id, target)| ((*id).to_owned(), *target)));
        balance
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn of_two_the_less_busy_one_is_chosen() {
        let mut balance = of(&[("a", false), ("b", false)]);
        let first = balance.choose(None, [0.0; 3], NOW, &[]).unwrap().0;
        let second = balance.choose(None, [0.0; 3], NOW, &[]).unwrap().0;
        assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
        assert_eq!(balance.choose(None, [0.0; 3], NOW, &["a".into(), "b".into()]), None);
    }

    #[test]
    fn shares_of_nothing_and_of_all_are_strict() {
        let mut balance = of(&[("old", false), ("new", true)]);
        assert_eq!(balance.choose(Some(0.0), [0.0; 3], NOW, &[]).unwrap(), ("old".into(), false));
        assert_eq!(balance.choose(Some(0.0), [0.0; 3], NOW, &["old".into()]), None);
        assert_eq!(balance.choose(Some(0.2), [0.1, 0.0, 0.0], NOW, &[]).unwrap(), ("new".into(), true));
        assert_eq!(balance.choose(Some(0.2), [0.1, 0.0, 0.0], NOW, &["new".into()]).unwrap(), ("old".into(), false));
    }

    #[test]
    fn one_that_fails_is_left_out_for_a_while_and_never_all() {
        let mut balance = of(&[("a", false), ("b", false)]);
        for at in 0..EJECT_AFTER {
            let (id, _) = balance.choose(None, [0.0; 3], NOW, &["b".into()]).unwrap();
            assert_eq!(balance.finish(&id, CallEnd::Failed, NOW), at + 1 == EJECT_AFTER);
        }
        assert_eq!(balance.choose(None, [0.0; 3], NOW, &[]).unwrap().0, "b");
        let later = NOW + EJECTION;
        assert_eq!(balance.choose(None, [0.0; 3], later, &[]).unwrap().0, "a", "its time is over");
        let mut alone = of(&[("a", false)]);
        for _ in 0..EJECT_AFTER {
            alone.choose(None, [0.0; 3], NOW, &[]).unwrap();
            alone.finish("a", CallEnd::Failed, NOW);
        }
        assert!(alone.choose(None, [0.0; 3], NOW, &[]).is_some(), "the only one is asked all the same");
    }

    #[test]
    fn calls_of_one_that_left_are_still_counted() {
        let mut balance = of(&[("a", false), ("b", false)]);
        balance.choose(None, [0.0; 3], NOW, &["b".into()]).unwrap();
        balance.set_members([("b".to_owned(), false)]);
        assert_eq!((balance.in_flight("a"), balance.total_in_flight()), (1, 1));
        balance.finish("a", CallEnd::Answered, NOW);
        assert_eq!((balance.in_flight("a"), balance.total_in_flight()), (0, 0));
    }

    /// Calls thrown at ten instances, none of which ends: two choices keep the fullest near the mean.
    #[test]
    fn two_choices_are_even() {
        let names: Vec<String> = (0..10).map(|at| format!("i{at}")).collect();
        let mut balance = CallBalance::default();
        balance.set_members(names.iter().map(|name| (name.clone(), false)));
        let mut rng = SmallRng::seed_from_u64(3);
        for _ in 0..1000 {
            balance.choose(None, rng.random(), NOW, &[]).unwrap();
        }
        let fullest = names.iter().map(|name| balance.in_flight(name)).max().unwrap();
        assert!(fullest <= 104, "{fullest} calls at one of ten for a mean of 100");
    }

    proptest! {
        /// Whatever members come and go: the calls that began and did not end are those that are counted.
        #[test]
        fn calls_are_counted(steps in proptest::collection::vec((0u8..3, 0usize..5, any::<bool>(), 0.0f64..1.0), 1..200)) {
            let mut balance = CallBalance::default();
            let mut open: Vec<String> = Vec::new();
            for (what, which, good, draw) in steps {
                match what {
                    0 => balance.set_members((0..=which).map(|at| (format!("i{at}"), at % 2 == 0))),
                    1 => open.extend(balance.choose(Some(draw), [draw, draw, 1.0 - draw], NOW, &[]).map(|(id, _)| id)),
                    _ if !open.is_empty() => {
                        let id = open.swap_remove(which % open.len());
                        balance.finish(&id, if good { CallEnd::Answered } else { CallEnd::Failed }, NOW);
                    }
                    _ => {}
                }
                prop_assert_eq!(balance.total_in_flight() as usize, open.len());
            }
        }
    }
}
