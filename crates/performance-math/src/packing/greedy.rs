//! Packings by one rule each.

use super::{
    fill::best_filling,
    host_choice::{choose_host, distance},
    model::{PackingDraft, PackingProblem, weigh},
};

/// The rule that a packing was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackingRule {
    /// Each demand as it comes, on the first host where it fits.
    FirstFit,
    /// The same, the heaviest demand first.
    FirstFitDecreasing,
    /// The heaviest demand first, on the host with the nearest free shares.
    NearestShape,
    /// Host by host, the demand with the greatest product with what is free.
    DotProduct,
    /// Host by host, the demand that is nearest to what is free.
    LeastDistance,
    /// Host by host, the heaviest demand and the others that fill the host best beside it.
    BinSlack,
}

/// All rules but [`PackingRule::BinSlack`], which needs a limit of its search.
pub(super) const GREEDY_RULES: [PackingRule; 5] = [
    PackingRule::FirstFit,
    PackingRule::FirstFitDecreasing,
    PackingRule::NearestShape,
    PackingRule::DotProduct,
    PackingRule::LeastDistance,
];

/// What all rules know of a problem.
pub(super) struct PackingOrder<const N: usize> {
    /// Weight of a unit of each resource.
    pub weights: [f64; N],
    /// Weight of the share of a host, of each resource.
    pub scarcities: [f64; N],
    /// Items by their numbers, the heaviest first.
    pub items: Vec<usize>,
    /// Hosts by their numbers: those in use first, then the largest.
    pub hosts: Vec<usize>,
}

impl<const N: usize> PackingOrder<N> {
    /// The order of a problem's items and hosts.
    pub fn new(problem: &PackingProblem<'_, N>) -> Self {
        let weights = problem.unit_weights();
        let sizes: Vec<f64> = problem.items.iter().map(|item| weigh(&weights, item)).collect();
        let rooms: Vec<f64> = problem.hosts.iter().map(|host| weigh(&weights, &host.free())).collect();
        let mut items: Vec<usize> = (0..problem.items.len()).collect();
        items.sort_by(|a, b| sizes[*b].total_cmp(&sizes[*a]));
        let mut hosts: Vec<usize> = (0..problem.hosts.len()).collect();
        let is_idle = |host: usize| !problem.hosts[host].is_used();
        hosts.sort_by(|a, b| is_idle(*a).cmp(&is_idle(*b)).then(rooms[*b].total_cmp(&rooms[*a])));
        Self { weights, scarcities: problem.scarcities(), items, hosts }
    }
}

/// Pack by one of [`GREEDY_RULES`].
pub(super) fn pack_by<const N: usize>(
    rule: PackingRule,
    problem: &PackingProblem<'_, N>,
    order: &PackingOrder<N>,
) -> PackingDraft<N> {
    let mut draft = PackingDraft::empty(problem);
    match rule {
        PackingRule::FirstFit => {
            for item in 0..problem.items.len() {
                place_first(&mut draft, problem, item, 0..problem.hosts.len());
            }
        }
        PackingRule::FirstFitDecreasing => {
            for item in &order.items {
                place_first(&mut draft, problem, *item, order.hosts.iter().copied());
            }
        }
        PackingRule::NearestShape => {
            for item in &order.items {
                let demand = &problem.items[*item];
                if let Some(choice) = choose_host(&draft.rooms, demand, &order.scarcities) {
                    draft.place(*item, demand, choice.host);
                }
            }
        }
        PackingRule::DotProduct | PackingRule::LeastDistance | PackingRule::BinSlack => {
            fill_hosts(&mut draft, problem, order, rule);
        }
    }
    draft
}

fn place_first<const N: usize>(
    draft: &mut PackingDraft<N>,
    problem: &PackingProblem<'_, N>,
    item: usize,
    mut hosts: impl Iterator<Item = usize>,
) {
    let demand = &problem.items[item];
    if let Some(host) = hosts.find(|host| draft.rooms[*host].fits(demand)) {
        draft.place(item, demand, host);
    }
}

/// Fill one host after the other with the item that fits it best at each moment.
fn fill_hosts<const N: usize>(
    draft: &mut PackingDraft<N>,
    problem: &PackingProblem<'_, N>,
    order: &PackingOrder<N>,
    rule: PackingRule,
) {
    let mut waiting = order.items.clone();
    for host in &order.hosts {
        loop {
            let room = draft.rooms[*host];
            // What is chosen has the greatest merit; between equals the heaviest.
            let merit = |item: usize| match rule {
                PackingRule::DotProduct => {
                    let free = room.free();
                    let part = |at: usize| free[at] as f64 / room.capacity[at] as f64;
                    let weight = |at: usize| order.weights[at] * problem.items[item][at] as f64;
                    (0..N).filter(|at| room.capacity[*at] > 0).map(|at| weight(at) * part(at)).sum()
                }
                _ => -distance(&room, &problem.items[item], &order.scarcities),
            };
            let fitting = waiting.iter().enumerate().filter(|(_, item)| room.fits(&problem.items[**item]));
            let mut best: Option<(usize, f64)> = None;
            for (at, item) in fitting {
                let merit = merit(*item);
                if best.is_none_or(|(_, known)| merit > known) {
                    best = Some((at, merit));
                }
            }
            let Some((at, _)) = best else { break };
            let item = waiting.remove(at);
            draft.place(item, &problem.items[item], *host);
        }
        if waiting.is_empty() {
            break;
        }
    }
}

/// Place `waiting` items on these hosts, one host after the other, each with the first that fits it and those that fill it best
/// beside that; at most `nodes` nodes are searched for each host. Returns the items that are left.
pub(super) fn fill_by_slack<const N: usize>(
    draft: &mut PackingDraft<N>,
    problem: &PackingProblem<'_, N>,
    weights: &[f64; N],
    mut waiting: Vec<usize>,
    hosts: &[usize],
    nodes: usize,
) -> Vec<usize> {
    for host in hosts {
        if waiting.is_empty() {
            break;
        }
        let chosen = best_filling(problem.items, weights, &waiting, &draft.rooms[*host], nodes);
        if chosen.is_empty() {
            continue;
        }
        for item in &chosen {
            draft.place(*item, &problem.items[*item], *host);
        }
        waiting.retain(|item| draft.places[*item].is_none());
    }
    waiting
}
