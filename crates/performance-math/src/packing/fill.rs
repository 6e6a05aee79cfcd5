//! The search for the items that fill a host best: minimum bin slack (Gupta and Ho, 1999) in the form MBS' (Fleszar and Hindi, 2002),
//! for several resources.

use std::array;

use super::model::{HostRoom, weigh};

/// Part of a unit's weight below which two fillings are equally good.
const WEIGHT_TOLERANCE: f64 = 1e-12;

/// A search for the subset of items that leaves the least weight of a host free.
struct FillSearch<'a, const N: usize> {
    items: &'a [[u64; N]],
    weights: &'a [f64; N],
    /// Items to choose from, by their numbers, in the order in which they are tried.
    order: &'a [usize],
    /// The least demand of each resource among the items from each place of the order on.
    least: Vec<[u64; N]>,
    /// The weight of all items from each place on.
    rest: Vec<f64>,
    chosen: Vec<usize>,
    best: Vec<usize>,
    best_slack: f64,
    /// Nodes of the search that are left.
    nodes: usize,
}

impl<const N: usize> FillSearch<'_, N> {
    /// Try the items from place `at` on; true: the search is over.
    fn descend(&mut self, at: usize, free: [u64; N], slack: f64) -> bool {
        if slack < self.best_slack - WEIGHT_TOLERANCE {
            self.best_slack = slack;
            self.best.clone_from(&self.chosen);
            if slack <= WEIGHT_TOLERANCE {
                return true;
            }
        }
        for place in at..self.order.len() {
            let nothing_fits = self.least[place].iter().zip(&free).any(|(least, free)| least > free);
            if nothing_fits || slack - self.rest[place] >= self.best_slack - WEIGHT_TOLERANCE {
                return false;
            }
            let demand = &self.items[self.order[place]];
            if demand.iter().zip(&free).any(|(demand, free)| demand > free) {
                continue;
            }
            if self.nodes == 0 {
                return true;
            }
            self.nodes -= 1;
            self.chosen.push(self.order[place]);
            let left = array::from_fn(|resource| free[resource] - demand[resource]);
            let over = self.descend(place + 1, left, slack - weigh(self.weights, demand));
            self.chosen.pop();
            if over {
                return true;
            }
        }
        false
    }
}

/// The items of `order` that fill a host best, beside the first that fits, which is always among them; empty where none fits. At most
/// `nodes` nodes are searched; equally good fillings are decided by the order.
pub(super) fn best_filling<const N: usize>(
    items: &[[u64; N]],
    weights: &[f64; N],
    order: &[usize],
    host: &HostRoom<N>,
    nodes: usize,
) -> Vec<usize> {
    let Some(first) = order.iter().position(|item| host.fits(&items[*item])) else { return Vec::new() };
    let mut free = host.free();
    for (free, demand) in free.iter_mut().zip(&items[order[first]]) {
        *free -= demand;
    }
    let seed = order[first];
    // What does not fit beside the first can't be chosen.
    let fits = |item: &usize| items[*item].iter().zip(&free).all(|(demand, free)| demand <= free);
    let order: Vec<usize> = order[first + 1..].iter().copied().filter(fits).collect();
    let (mut least, mut rest) = (vec![[u64::MAX; N]; order.len()], vec![0.0; order.len()]);
    let (mut least_behind, mut rest_behind) = ([u64::MAX; N], 0.0);
    for (place, item) in order.iter().enumerate().rev() {
        least_behind = array::from_fn(|at| least_behind[at].min(items[*item][at]));
        rest_behind += weigh(weights, &items[*item]);
        least[place] = least_behind;
        rest[place] = rest_behind;
    }
    let slack = weigh(weights, &free);
    let mut search = FillSearch {
        items,
        weights,
        order: &order,
        least,
        rest,
        chosen: vec![seed],
        best: vec![seed],
        best_slack: slack + 1.0,
        nodes,
    };
    search.descend(0, free, slack);
    search.best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(items: &[u64], room: u64) -> Vec<u64> {
        let items: Vec<[u64; 1]> = items.iter().map(|size| [*size]).collect();
        let order: Vec<usize> = (0..items.len()).collect();
        let mut found: Vec<u64> = best_filling(&items, &[1.0], &order, &HostRoom::empty([room]), 10_000)
            .iter()
            .map(|at| items[*at][0])
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn the_first_item_is_completed_to_the_last_unit() {
        assert_eq!(filled(&[490, 300, 290, 260, 250], 1000), [250, 260, 490]);
        assert_eq!(filled(&[70, 45, 40, 20, 9], 100), [9, 20, 70]);
        assert_eq!(filled(&[120, 60], 100), [60], "what is too large is left out");
        assert!(filled(&[120], 100).is_empty());
    }

    #[test]
    fn all_resources_bind() {
        let items = [[5, 1], [4, 9], [4, 5], [1, 1]];
        let found = best_filling(&items, &[0.1, 0.1], &[0, 1, 2, 3], &HostRoom::empty([10, 7]), 1000);
        assert_eq!(found, [0, 2, 3], "the second needs more of the second resource than there is");
    }
}
