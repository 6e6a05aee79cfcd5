//! Successive halving (Jamieson and Talwalkar 2016): many candidates with little resource, the best of them with more.

use serde::{Deserialize, Serialize};

/// A rung: so many candidates with so much resource each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalvingRung {
    /// Candidates that are measured.
    pub candidates: usize,
    /// Resource of each, in the caller's unit.
    pub resource: u64,
}

/// The rungs for `candidates`, of whom the best 1/`eta` come on at each rung with `eta` times the resource, which begins so that the
/// last rung has `most`. No rung has less than `least` or fewer than one candidate.
pub fn halving_rungs(candidates: usize, least: u64, most: u64, eta: usize) -> Vec<HalvingRung> {
    let (eta, least) = (eta.max(2), least.clamp(1, most.max(1)));
    let mut rungs = vec![HalvingRung { candidates: candidates.max(1), resource: most.max(1) }];
    // Counted back from the last rung, so that the best is always measured with all of it.
    let mut count = candidates.max(1);
    let mut counts = vec![count];
    while count > 1 {
        count = count.div_ceil(eta);
        counts.push(count);
    }
    let mut resources = vec![most.max(1)];
    while resources.len() < counts.len() {
        let next = resources.last().copied().unwrap_or(1) / eta as u64;
        if next < least {
            break;
        }
        resources.push(next);
    }
    resources.reverse();
    if resources.len() > 1 {
        let counts = counts.into_iter().take(resources.len());
        rungs = counts.zip(resources).map(|(candidates, resource)| HalvingRung { candidates, resource }).collect();
    }
    rungs
}

/// The indices of the `count` lowest losses, best first; equal ones in their order. Losses that are not numbers come last.
pub fn best_indices(losses: &[f64], count: usize) -> Vec<usize> {
    let key = |at: &usize| if losses[*at].is_nan() { f64::INFINITY } else { losses[*at] };
    let mut order: Vec<usize> = (0..losses.len()).collect();
    order.sort_by(|a, b| key(a).total_cmp(&key(b)));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_third_comes_on_with_three_times_the_resource() {
        let rungs = halving_rungs(9, 100, 900, 3);
        let found: Vec<(usize, u64)> = rungs.iter().map(|rung| (rung.candidates, rung.resource)).collect();
        assert_eq!(found, [(9, 100), (3, 300), (1, 900)]);
        assert_eq!(halving_rungs(9, 500, 900, 3), [HalvingRung { candidates: 9, resource: 900 }], "one rung only fits");
        assert_eq!(halving_rungs(0, 0, 0, 0), [HalvingRung { candidates: 1, resource: 1 }]);
    }

    #[test]
    fn the_best_are_chosen_and_what_failed_is_last() {
        assert_eq!(best_indices(&[3.0, f64::NAN, 1.0, 1.0, f64::INFINITY], 4), [2, 3, 0, 1]);
    }

    proptest! {
        #[test]
        fn rungs_narrow_and_grow(candidates in 1usize..200, least in 1u64..1000, most in 1u64..100_000, eta in 2usize..6) {
            let rungs = halving_rungs(candidates, least, most, eta);
            prop_assert_eq!(rungs[0].candidates, candidates);
            prop_assert_eq!(rungs[rungs.len() - 1].resource, most);
            for pair in rungs.windows(2) {
                prop_assert!(pair[1].candidates < pair[0].candidates && pair[1].resource > pair[0].resource);
            }
        }
    }
}
