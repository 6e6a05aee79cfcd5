//! Lower bounds of the hosts that demands need.

use super::model::{HostRoom, PackingProblem};

/// How a bound was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundMethod {
    /// The fewest hosts whose room sums to the demand in one resource.
    Volume,
    /// Martello and Toth's L2 in one resource: large demands that cannot share a host, and what is left beside them.
    MartelloToth,
}

/// A number of hosts that no packing of all demands can go below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackingBound {
    /// Hosts in use, those of which something is taken before among them.
    pub hosts_in_use: usize,
    /// The resource that says so.
    pub resource: usize,
    /// How it was found.
    pub method: BoundMethod,
}

/// The greatest of the bounds in each resource; `None` where the hosts together have too little of one.
pub fn lower_bound<const N: usize>(problem: &PackingProblem<'_, N>) -> Option<PackingBound> {
    let used: Vec<&HostRoom<N>> = problem.hosts.iter().filter(|host| host.is_used()).collect();
    let idle: Vec<&HostRoom<N>> = problem.hosts.iter().filter(|host| !host.is_used()).collect();
    let demand = problem.total_demand();
    let mut best: Option<PackingBound> = None;
    for at in 0..N {
        let in_used = used.iter().fold(0u64, |sum, host| sum.saturating_add(host.free()[at]));
        let opened = fewest_hosts(demand[at].saturating_sub(in_used), &idle, at)?;
        let mut consider = |hosts_in_use: usize, method: BoundMethod| {
            if best.is_none_or(|best| hosts_in_use > best.hosts_in_use) {
                best = Some(PackingBound { hosts_in_use, resource: at, method });
            }
        };
        consider(used.len() + opened, BoundMethod::Volume);
        if used.is_empty() {
            // A host's room is at most the largest: so large ones need no more hosts than there are.
            let largest = idle.iter().map(|host| host.capacity[at]).max().unwrap_or(0);
            let sizes: Vec<u64> = problem.items.iter().map(|item| item[at]).filter(|size| *size > 0).collect();
            consider(martello_toth_l2(&sizes, largest), BoundMethod::MartelloToth);
        }
    }
    best
}

/// The fewest of `hosts` that have `demand` of a resource together; `None`: all have too little.
fn fewest_hosts<const N: usize>(demand: u64, hosts: &[&HostRoom<N>], at: usize) -> Option<usize> {
    let mut rooms: Vec<u64> = hosts.iter().map(|host| host.free()[at]).collect();
    rooms.sort_unstable_by(|a, b| b.cmp(a));
    let mut rest = demand;
    let mut count = 0;
    for room in rooms {
        if rest == 0 {
            break;
        }
        rest = rest.saturating_sub(room);
        count += 1;
    }
    (rest == 0).then_some(count)
}

/// Martello and Toth's bound L2 (Knapsack Problems, 1990, section 8.3) of the bins of `capacity` that items of these sizes need, in
/// the time that sorting takes. No size may be above the capacity; one that is counts as a bin.
pub fn martello_toth_l2(sizes: &[u64], capacity: u64) -> usize {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    // Sums of the largest.
    let mut sums = vec![0u128];
    for size in &sizes {
        sums.push(sums.last().copied().unwrap_or(0) + u128::from(*size));
    }
    let above = |bound: u64| sizes.partition_point(|size| *size > bound);
    let halves = above(capacity / 2);
    let mut best = 0;
    let mut last = None;
    let small = sizes[halves..].iter().copied().chain([0]);
    for alpha in small {
        if last == Some(alpha) {
            continue;
        }
        last = Some(alpha);
        // So large that nothing of size alpha fits beside them; over half a bin; at least alpha.
        let large = above(capacity.saturating_sub(alpha)).min(halves);
        let counted = if alpha == 0 { sizes.len() } else { above(alpha - 1) };
        let beside = ((halves - large) as u128 * u128::from(capacity)).saturating_sub(sums[halves] - sums[large]);
        let rest = (sums[counted.max(halves)] - sums[halves]).saturating_sub(beside);
        let more = if capacity == 0 { 0 } else { rest.div_ceil(u128::from(capacity)) };
        best = best.max(halves + usize::try_from(more).unwrap_or(usize::MAX));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(items: &[[u64; 2]], hosts: &[HostRoom<2>]) -> Option<(usize, usize, BoundMethod)> {
        lower_bound(&PackingProblem { items, hosts }).map(|found| (found.hosts_in_use, found.resource, found.method))
    }

    #[test]
    fn large_items_that_cannot_share_a_bin_are_counted() {
        // The volume is 2.04 bins; no two of these fit together.
        assert_eq!(martello_toth_l2(&[51, 51, 51, 51], 100), 4);
        // 70 and 60 leave 30 and 40 beside them: the four of 20 need 80, of which 10 do not fit.
        assert_eq!(martello_toth_l2(&[70, 60, 20, 20, 20, 20], 100), 3);
        // Beside 70 nothing of size 35 fits, so 35 and 35 and 35 need a bin and a half for themselves.
        assert_eq!(martello_toth_l2(&[70, 70, 35, 35, 35], 100), 4);
        assert_eq!(martello_toth_l2(&[], 100), 0);
        assert_eq!(martello_toth_l2(&[50, 50], 100), 1);
        assert_eq!(martello_toth_l2(&[100, 1], 100), 2);
    }

    #[test]
    fn the_scarcest_resource_decides() {
        let hosts = [HostRoom::empty([10, 100]); 4];
        assert_eq!(bound(&[[1, 60], [1, 60], [1, 60]], &hosts), Some((3, 1, BoundMethod::MartelloToth)));
        assert_eq!(bound(&[[4, 1], [4, 1], [4, 1]], &hosts), Some((2, 0, BoundMethod::Volume)));
        assert_eq!(bound(&[[41, 0]], &hosts), None, "together they have 40");
        assert_eq!(bound(&[], &hosts), Some((0, 0, BoundMethod::Volume)));
    }

    #[test]
    fn hosts_in_use_count_and_their_room_is_used_first() {
        let busy = HostRoom { capacity: [10, 10], used: [4, 0] };
        let hosts = [busy, HostRoom::empty([10, 10]), HostRoom::empty([10, 10])];
        assert_eq!(bound(&[[6, 1]], &hosts), Some((1, 0, BoundMethod::Volume)));
        assert_eq!(bound(&[[6, 1], [1, 1]], &hosts), Some((2, 0, BoundMethod::Volume)));
    }

    #[test]
    fn of_hosts_of_several_sizes_the_largest_are_counted() {
        let hosts = [HostRoom::empty([5, 5]), HostRoom::empty([20, 20]), HostRoom::empty([5, 5])];
        assert_eq!(bound(&[[10, 1], [10, 1]], &hosts), Some((1, 0, BoundMethod::Volume)));
        assert_eq!(bound(&[[20, 1], [5, 1]], &hosts), Some((2, 0, BoundMethod::Volume)));
    }
}
