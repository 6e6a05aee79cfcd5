//! The host for one demand at a time.

use super::model::HostRoom;

/// The host that a demand is placed on, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostChoice {
    /// Number of the host, from 0.
    pub host: usize,
    /// Whether nothing of it was taken before.
    pub opens_host: bool,
    /// Distance of its free shares from the demanded ones, by the scarcity of each resource; the least was chosen.
    pub distance: f64,
    /// The demand's dominant resource: that of whose amount on this host it takes the largest share. `None`: nothing is demanded.
    pub dominant: Option<usize>,
    /// Share of the host's dominant resource that the demand takes, 0 to 1.
    pub dominant_share: f64,
    /// Hosts on which the demand would have fitted.
    pub candidates: usize,
}

/// Scarcity of each resource: the share of all hosts' amounts that is taken once `demand` is placed.
pub fn scarcity<const N: usize>(hosts: &[HostRoom<N>], demand: &[u64; N]) -> [f64; N] {
    std::array::from_fn(|at| {
        let capacity: f64 = hosts.iter().map(|host| host.capacity[at] as f64).sum();
        let used: f64 = hosts.iter().map(|host| host.used[at] as f64).sum();
        if capacity > 0.0 { (used + demand[at] as f64) / capacity } else { 0.0 }
    })
}

/// Choose the host for a demand: one that is in use before one that is idle, and among those the one whose free shares are nearest to
/// the demanded ones (the norm-based greedy rule of Panigrahy, Talwar, Uyeda and Wieder, 2011), each resource weighed by `weights`
/// (such as its [`scarcity`]). Between equals the first. `None`: it fits on none.
pub fn choose_host<const N: usize>(hosts: &[HostRoom<N>], demand: &[u64; N], weights: &[f64; N]) -> Option<HostChoice> {
    let mut best: Option<HostChoice> = None;
    let mut candidates = 0;
    for (number, host) in hosts.iter().enumerate() {
        if !host.fits(demand) {
            continue;
        }
        candidates += 1;
        let share = |at: usize| {
            if host.capacity[at] == 0 { 0.0 } else { demand[at] as f64 / host.capacity[at] as f64 }
        };
        let opens_host = !host.is_used();
        let distance = distance(host, demand, weights);
        let better = best.is_none_or(|best| (opens_host, distance) < (best.opens_host, best.distance));
        if better {
            let largest = (0..N).filter(|at| demand[*at] > 0).reduce(|a, b| if share(b) > share(a) { b } else { a });
            let dominant_share = largest.map_or(0.0, share);
            best = Some(HostChoice {
                host: number,
                opens_host,
                distance,
                dominant: largest,
                dominant_share,
                candidates: 0,
            });
        }
    }
    best.map(|best| HostChoice { candidates, ..best })
}

/// Sum of the squared differences between a host's free shares and the shares that a demand takes of it, by their weights.
pub(super) fn distance<const N: usize>(host: &HostRoom<N>, demand: &[u64; N], weights: &[f64; N]) -> f64 {
    let free = host.free();
    (0..N)
        .filter(|at| host.capacity[*at] > 0)
        .map(|at| weights[at] * ((free[at] as f64 - demand[at] as f64) / host.capacity[at] as f64).powi(2))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_use_come_first_and_the_nearest_shape_is_chosen() {
        let memory_left = HostRoom { capacity: [10, 10], used: [8, 2] };
        let cores_left = HostRoom { capacity: [10, 10], used: [2, 8] };
        let hosts = [HostRoom::empty([10, 10]), memory_left, cores_left];
        let chosen = |demand: [u64; 2]| choose_host(&hosts, &demand, &scarcity(&hosts, &demand)).unwrap();
        let found = chosen([1, 6]);
        assert_eq!((found.host, found.opens_host, found.dominant, found.candidates), (1, false, Some(1), 2));
        assert!((found.dominant_share - 0.6).abs() < 1e-12);
        assert_eq!(chosen([6, 1]).host, 2);
        assert_eq!((chosen([9, 9]).host, chosen([9, 9]).opens_host), (0, true));
        assert_eq!(choose_host(&hosts, &[11, 0], &[1.0, 1.0]), None);
        assert_eq!(chosen([0, 0]).dominant, None);
    }

    #[test]
    fn what_lacks_is_said_for_each_resource() {
        let host = HostRoom { capacity: [10, 4], used: [8, 0] };
        let found: Vec<_> =
            host.shortfalls(&[3, 6]).iter().map(|lack| (lack.resource, lack.free, lack.missing)).collect();
        assert_eq!(found, [(0, 2, 1), (1, 4, 2)]);
        assert!(host.shortfalls(&[2, 4]).is_empty());
    }
}
