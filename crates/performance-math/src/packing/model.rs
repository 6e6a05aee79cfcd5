//! What is packed, into what, and how good a packing is.

use std::{array, cmp::Ordering};

/// A host: how much it has of each of `N` resources, and how much of that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoom<const N: usize> {
    /// Whole amount of each resource.
    pub capacity: [u64; N],
    /// Amount of each resource that is taken.
    pub used: [u64; N],
}

/// A resource of which a host has too little free for a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceShortfall {
    /// Number of the resource, from 0.
    pub resource: usize,
    /// Amount that is free.
    pub free: u64,
    /// Amount that is lacking beside it.
    pub missing: u64,
}

impl<const N: usize> HostRoom<N> {
    /// A host of which nothing is taken.
    pub fn empty(capacity: [u64; N]) -> Self {
        Self { capacity, used: [0; N] }
    }

    /// Amount of each resource that is free.
    pub fn free(&self) -> [u64; N] {
        array::from_fn(|at| self.capacity[at].saturating_sub(self.used[at]))
    }

    /// Whether all of `demand` is free.
    pub fn fits(&self, demand: &[u64; N]) -> bool {
        self.free().iter().zip(demand).all(|(free, demand)| demand <= free)
    }

    /// Whether anything of it is taken.
    pub fn is_used(&self) -> bool {
        self.used.iter().any(|used| *used > 0)
    }

    /// What lacks for `demand`; empty where it fits.
    pub fn shortfalls(&self, demand: &[u64; N]) -> Vec<ResourceShortfall> {
        let free = self.free();
        (0..N)
            .filter(|at| demand[*at] > free[*at])
            .map(|at| ResourceShortfall { resource: at, free: free[at], missing: demand[at] - free[at] })
            .collect()
    }

    /// Take `demand`, which must fit.
    pub fn take(&mut self, demand: &[u64; N]) {
        for (used, demand) in self.used.iter_mut().zip(demand) {
            *used += demand;
        }
    }

    /// Give `demand` back, which was taken.
    pub fn give_back(&mut self, demand: &[u64; N]) {
        for (used, demand) in self.used.iter_mut().zip(demand) {
            *used = used.saturating_sub(*demand);
        }
    }

    /// Share of a resource that is taken, 0 to 1; 0 for one that the host does not have.
    pub fn share(&self, at: usize) -> f64 {
        if self.capacity[at] == 0 { 0.0 } else { self.used[at] as f64 / self.capacity[at] as f64 }
    }

    /// How unevenly its resources are taken: the standard deviation of their shares, 0 to 0.5, over those that are `counted` and that
    /// it has.
    pub fn imbalance(&self, counted: &[bool; N]) -> f64 {
        let shares: Vec<f64> =
            (0..N).filter(|at| counted[*at] && self.capacity[*at] > 0).map(|at| self.share(at)).collect();
        if shares.len() < 2 {
            return 0.0;
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64).sqrt()
    }
}

/// Demands to place on hosts.
#[derive(Clone, Copy, Debug)]
pub struct PackingProblem<'a, const N: usize> {
    /// The demands, each wholly on one host.
    pub items: &'a [[u64; N]],
    /// The hosts, in the order that decides between equals.
    pub hosts: &'a [HostRoom<N>],
}

impl<const N: usize> PackingProblem<'_, N> {
    /// Which resources are demanded at all.
    pub fn demanded(&self) -> [bool; N] {
        array::from_fn(|at| self.items.iter().any(|item| item[at] > 0))
    }

    /// Sum of all demands; at most the largest number there is.
    pub fn total_demand(&self) -> [u64; N] {
        array::from_fn(|at| self.items.iter().fold(0, |sum: u64, item| sum.saturating_add(item[at])))
    }

    /// Sum of what all hosts have free.
    pub fn total_free(&self) -> [u64; N] {
        array::from_fn(|at| self.hosts.iter().fold(0, |sum: u64, host| sum.saturating_add(host.free()[at])))
    }

    /// How scarce each resource is: the share of what is free that is demanded; 0 where nothing is free.
    pub fn scarcities(&self) -> [f64; N] {
        let (demand, free) = (self.total_demand(), self.total_free());
        array::from_fn(|at| if free[at] == 0 { 0.0 } else { demand[at] as f64 / free[at] as f64 })
    }

    /// What a unit of each resource weighs: its scarcity over the mean of what a host has free of it. So an item's weight is about the
    /// share of a host that it takes, and what nobody demands weighs nothing.
    pub fn unit_weights(&self) -> [f64; N] {
        let (scarcities, free) = (self.scarcities(), self.total_free());
        let hosts = self.hosts.len().max(1) as f64;
        array::from_fn(|at| if free[at] == 0 { 0.0 } else { scarcities[at] / (free[at] as f64 / hosts) })
    }
}

/// Sum of amounts by their weights.
pub(super) fn weigh<const N: usize>(weights: &[f64; N], amounts: &[u64; N]) -> f64 {
    weights.iter().zip(amounts).map(|(weight, amount)| weight * *amount as f64).sum()
}

/// How good a packing is: fewer demands without a host come first, then fewer hosts in use, then less imbalance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PackingScore {
    /// Demands that have no host.
    pub unplaced: usize,
    /// Hosts of which anything is taken afterwards, those of which something was taken before among them.
    pub hosts_in_use: usize,
    /// Mean imbalance of the hosts in use ([`HostRoom::imbalance`]); 0 where there are none.
    pub imbalance: f64,
}

impl PackingScore {
    /// Compare with another packing of the same demands: the lesser is the better.
    pub fn compare(&self, other: &Self) -> Ordering {
        (self.unplaced, self.hosts_in_use)
            .cmp(&(other.unplaced, other.hosts_in_use))
            .then(self.imbalance.total_cmp(&other.imbalance))
    }
}

/// A packing under construction: each demand's host, and the hosts with what was placed.
#[derive(Clone, Debug)]
pub(super) struct PackingDraft<const N: usize> {
    pub places: Vec<Option<usize>>,
    pub rooms: Vec<HostRoom<N>>,
}

impl<const N: usize> PackingDraft<N> {
    /// With nothing placed.
    pub fn empty(problem: &PackingProblem<'_, N>) -> Self {
        Self { places: vec![None; problem.items.len()], rooms: problem.hosts.to_vec() }
    }

    /// Place an item on a host where it fits.
    pub fn place(&mut self, item: usize, demand: &[u64; N], host: usize) {
        self.rooms[host].take(demand);
        self.places[item] = Some(host);
    }

    /// Take an item from its host.
    pub fn lift(&mut self, item: usize, demand: &[u64; N]) {
        if let Some(host) = self.places[item].take() {
            self.rooms[host].give_back(demand);
        }
    }

    /// How good it is.
    pub fn score(&self, demanded: &[bool; N]) -> PackingScore {
        let used: Vec<&HostRoom<N>> = self.rooms.iter().filter(|room| room.is_used()).collect();
        let uneven: f64 = used.iter().map(|room| room.imbalance(demanded)).sum();
        PackingScore {
            unplaced: self.places.iter().filter(|place| place.is_none()).count(),
            hosts_in_use: used.len(),
            imbalance: uneven / used.len().max(1) as f64,
        }
    }
}
