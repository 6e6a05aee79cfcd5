//! A packing of many demands at once: the best of several rules, then a bounded search that takes hosts apart and fills them anew.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use super::{
    bounds::{PackingBound, lower_bound},
    completion::complete_bins,
    greedy::{GREEDY_RULES, PackingOrder, PackingRule, fill_by_slack, pack_by},
    host_choice::choose_host,
    model::{PackingDraft, PackingProblem, PackingScore, weigh},
};

/// Hosts that one step of the search takes apart at most, beside the emptiest.
const MAX_DISMANTLED_HOSTS: usize = 9;
/// Nodes that each filling of a step searches at most.
const STEP_NODES: usize = 2_000;
/// Hosts that the complete search repacks at once: with three items each there are many packings without waste, and few enough nodes.
const COMPLETED_HOSTS: usize = 20;
/// Difference of two sums of squared fillings that counts.
const FILLING_TOLERANCE: f64 = 1e-9;

/// How much is searched. The same effort gives the same packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackingEffort {
    /// Seed of the search.
    pub seed: u64,
    /// Nodes that a host's filling searches at most at first.
    pub nodes_per_host: usize,
    /// Steps of the search at most; it ends earlier where the lower bound is reached.
    pub steps: usize,
    /// Tries of the complete search at most, which repacks some hosts into one fewer where there is one resource and equal hosts.
    pub completions: usize,
    /// Nodes of each such try at most.
    pub nodes_per_completion: usize,
}

impl Default for PackingEffort {
    fn default() -> Self {
        Self { seed: 0, nodes_per_host: 20_000, steps: 2_000, completions: 30, nodes_per_completion: 100_000 }
    }
}

/// A packing, how good it is, and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct PackingPlan {
    /// The host of each demand, by number; `None`: it has none.
    pub places: Vec<Option<usize>>,
    /// How good it is.
    pub score: PackingScore,
    /// The rule that it was begun with.
    pub rule: PackingRule,
    /// How good that rule's packing was, before the search.
    pub begun: PackingScore,
    /// How good first fit in the order of the demands is, for comparison.
    pub first_fit: PackingScore,
    /// Hosts that no packing of all demands goes below; `None`: the hosts together have too little.
    pub bound: Option<PackingBound>,
    /// Steps of the search that were made.
    pub steps: usize,
    /// Whether the complete search has saved a host after them.
    pub completed: bool,
}

/// Pack a problem's demands: as many as can be placed, on as few hosts as can be, as evenly as can be, in this order.
pub fn plan_packing<const N: usize>(problem: &PackingProblem<'_, N>, effort: &PackingEffort) -> PackingPlan {
    let demanded = problem.demanded();
    let bound = lower_bound(problem);
    let order = PackingOrder::new(problem);
    let mut slack = PackingDraft::empty(problem);
    fill_by_slack(&mut slack, problem, &order.weights, order.items.clone(), &order.hosts, effort.nodes_per_host);
    place_rest(problem, &mut slack, &order);
    let rules = GREEDY_RULES.map(|rule| (rule, pack_by(rule, problem, &order)));
    let (mut rule, mut score, mut draft) = (PackingRule::BinSlack, slack.score(&demanded), slack);
    let mut first_fit = score;
    for (other, packed) in rules {
        let found = packed.score(&demanded);
        if other == PackingRule::FirstFit {
            first_fit = found;
        }
        if found.compare(&score).is_lt() {
            (rule, score, draft) = (other, found, packed);
        }
    }
    let begun = score;
    let goal = bound.map_or(0, |bound| bound.hosts_in_use);
    let steps = RepackingSearch::new(problem, &order, effort, goal).run(&mut draft);
    let completed = complete(problem, &mut draft, effort, goal);
    place_rest(problem, &mut draft, &order);
    even_out(problem, &mut draft, &demanded);
    place_rest(problem, &mut draft, &order);
    let score = draft.score(&demanded);
    PackingPlan { places: draft.places, score, rule, begun, first_fit, bound, steps, completed }
}

/// Takes a few hosts apart, the emptiest among them, and fills them anew in an order of chance. A step is kept where it needs no more
/// hosts and fills some better: the sum of the squared fillings does not fall, so that free room gathers on few hosts until one of
/// them is empty (after Fleszar and Hindi's perturbation of MBS').
struct RepackingSearch<'a, const N: usize> {
    problem: &'a PackingProblem<'a, N>,
    weights: [f64; N],
    room_weights: Vec<f64>,
    steps: usize,
    goal: usize,
    random: SmallRng,
}

/// What a step is judged by.
#[derive(Clone, Copy)]
struct StepScore {
    unplaced: usize,
    in_use: usize,
    filling: f64,
}

impl StepScore {
    fn is_as_good_as(self, other: Self) -> bool {
        (self.unplaced, self.in_use) < (other.unplaced, other.in_use)
            || ((self.unplaced, self.in_use) == (other.unplaced, other.in_use)
                && self.filling >= other.filling - FILLING_TOLERANCE)
    }
}

impl<'a, const N: usize> RepackingSearch<'a, N> {
    fn new(problem: &'a PackingProblem<'a, N>, order: &PackingOrder<N>, effort: &PackingEffort, goal: usize) -> Self {
        let room_weights = problem.hosts.iter().map(|host| weigh(&order.weights, &host.free())).collect();
        Self {
            problem,
            weights: order.weights,
            room_weights,
            steps: effort.steps,
            goal,
            random: SmallRng::seed_from_u64(effort.seed),
        }
    }

    /// Search, and return the steps that were made.
    fn run(mut self, draft: &mut PackingDraft<N>) -> usize {
        for step in 0..self.steps {
            let unplaced: Vec<usize> = (0..draft.places.len()).filter(|item| draft.places[*item].is_none()).collect();
            let in_use = draft.rooms.iter().filter(|room| room.is_used()).count();
            if unplaced.is_empty() && in_use <= self.goal {
                return step;
            }
            let hosts = self.dismantled_hosts(draft, !unplaced.is_empty());
            if hosts.is_empty() || (hosts.len() < 2 && unplaced.is_empty()) {
                return step;
            }
            self.step(draft, &hosts, unplaced);
        }
        self.steps
    }

    /// The host with the least on it that could be emptied, and some others in an order of chance. Where demands are unplaced, any.
    fn dismantled_hosts(&mut self, draft: &PackingDraft<N>, any: bool) -> Vec<usize> {
        let mut holding: Vec<usize> = draft.places.iter().flatten().copied().collect();
        holding.sort_unstable();
        holding.dedup();
        let emptied = |host: &usize| !self.problem.hosts[*host].is_used();
        let emptiest = holding
            .iter()
            .copied()
            .filter(|host| any || emptied(host))
            .min_by(|a, b| self.filling(draft, *a).total_cmp(&self.filling(draft, *b)));
        let Some(emptiest) = emptiest else { return Vec::new() };
        holding.retain(|host| *host != emptiest);
        let others = self.random.random_range(1..=MAX_DISMANTLED_HOSTS).min(holding.len());
        let (chosen, _) = holding.partial_shuffle(&mut self.random, others);
        let mut hosts = chosen.to_vec();
        hosts.push(emptiest);
        hosts
    }

    /// How much of a host's free room was filled, by weight.
    fn filling(&self, draft: &PackingDraft<N>, host: usize) -> f64 {
        let room = self.room_weights[host];
        if room > 0.0 { 1.0 - weigh(&self.weights, &draft.rooms[host].free()) / room } else { 0.0 }
    }

    fn score(&self, draft: &PackingDraft<N>, hosts: &[usize], unplaced: usize) -> StepScore {
        StepScore {
            unplaced,
            in_use: hosts.iter().filter(|host| draft.rooms[**host].is_used()).count(),
            filling: hosts.iter().map(|host| self.filling(draft, *host).powi(2)).sum(),
        }
    }

    /// Fill these hosts anew, with what has no host too, and keep that where it is as good.
    fn step(&mut self, draft: &mut PackingDraft<N>, hosts: &[usize], unplaced: Vec<usize>) {
        let before = self.score(draft, hosts, unplaced.len());
        let on_hosts = |place: &Option<usize>| place.is_some_and(|host| hosts.contains(&host));
        let mut waiting: Vec<usize> = (0..draft.places.len()).filter(|item| on_hosts(&draft.places[*item])).collect();
        let old: Vec<(usize, Option<usize>)> = waiting.iter().map(|item| (*item, draft.places[*item])).collect();
        for item in &waiting {
            draft.lift(*item, &self.problem.items[*item]);
        }
        waiting.extend(&unplaced);
        waiting.shuffle(&mut self.random);
        // The heaviest leads, with the rest in an order of chance; those of every other step are sorted halfway.
        let by_weight = |item: &usize| weigh(&self.weights, &self.problem.items[*item]);
        if self.random.random_bool(0.5) {
            waiting.sort_by(|a, b| by_weight(b).total_cmp(&by_weight(a)));
            let end = waiting.len();
            for at in 1..end {
                if self.random.random_bool(0.2) {
                    let other = self.random.random_range(at..end);
                    waiting.swap(at, other);
                }
            }
        }
        let mut fillable = hosts.to_vec();
        fillable.sort_by(|a, b| {
            let idle = |host: &usize| !self.problem.hosts[*host].is_used();
            idle(a).cmp(&idle(b)).then(self.room_weights[*b].total_cmp(&self.room_weights[*a]))
        });
        let mut left = waiting;
        for host in fillable {
            if let Some(heaviest) = (0..left.len()).max_by(|a, b| by_weight(&left[*a]).total_cmp(&by_weight(&left[*b])))
            {
                left.swap(0, heaviest);
            }
            left = fill_by_slack(draft, self.problem, &self.weights, left, &[host], STEP_NODES);
        }
        let after = self.score(draft, hosts, left.len());
        if after.is_as_good_as(before) {
            return;
        }
        for (item, _) in &old {
            draft.lift(*item, &self.problem.items[*item]);
        }
        for item in &unplaced {
            draft.lift(*item, &self.problem.items[*item]);
        }
        for (item, place) in old {
            if let Some(host) = place {
                draft.place(item, &self.problem.items[item], host);
            }
        }
    }
}

/// Repack some hosts, the emptiest among them, into one host fewer by the complete search, again and again until the lower bound is
/// reached, where one resource alone is demanded and all hosts are idle and have as much of it. Returns whether it has saved a host.
fn complete<const N: usize>(
    problem: &PackingProblem<'_, N>,
    draft: &mut PackingDraft<N>,
    effort: &PackingEffort,
    goal: usize,
) -> bool {
    let demanded = problem.demanded();
    let mut resources = (0..N).filter(|at| demanded[*at]);
    let (Some(resource), None) = (resources.next(), resources.next()) else { return false };
    let capacity = problem.hosts.first().map_or(0, |host| host.capacity[resource]);
    let equal = problem.hosts.iter().all(|host| !host.is_used() && host.capacity[resource] == capacity);
    if !equal || draft.places.iter().any(Option::is_none) {
        return false;
    }
    let mut random = SmallRng::seed_from_u64(effort.seed);
    let mut saved = false;
    for _ in 0..effort.completions {
        let mut bins: Vec<usize> = (0..draft.rooms.len()).filter(|host| draft.rooms[*host].is_used()).collect();
        if bins.len() <= goal {
            break;
        }
        // The emptiest ones, until their room is that of a host, and some others.
        bins.shuffle(&mut random);
        bins.sort_by_key(|host| draft.rooms[*host].used[resource]);
        let mut room = 0;
        let enough = bins.iter().take_while(|host| {
            let before = room;
            room += draft.rooms[**host].free()[resource];
            before < capacity
        });
        let emptiest = enough.count();
        if room < capacity {
            break;
        }
        bins[emptiest..].shuffle(&mut random);
        bins.truncate(COMPLETED_HOSTS.max(emptiest + 1));
        let items: Vec<usize> = (0..draft.places.len())
            .filter(|item| {
                problem.items[*item][resource] > 0 && draft.places[*item].is_some_and(|host| bins.contains(&host))
            })
            .collect();
        let sizes: Vec<u64> = items.iter().map(|item| problem.items[*item][resource]).collect();
        let Some(places) = complete_bins(&sizes, capacity, bins.len() - 1, effort.nodes_per_completion) else {
            continue;
        };
        for item in &items {
            draft.lift(*item, &problem.items[*item]);
        }
        for (item, bin) in items.into_iter().zip(places) {
            draft.place(item, &problem.items[item], bins[bin]);
        }
        saved = true;
    }
    saved
}

/// Place what a limited search has left and what fits: the last of a filling, and what demands nothing.
fn place_rest<const N: usize>(problem: &PackingProblem<'_, N>, draft: &mut PackingDraft<N>, order: &PackingOrder<N>) {
    for item in &order.items {
        let demand = &problem.items[*item];
        if draft.places[*item].is_none()
            && let Some(choice) = choose_host(&draft.rooms, demand, &order.scarcities)
        {
            draft.place(*item, demand, choice.host);
        }
    }
}

/// Move single demands between hosts that are in use, each once at most, where that makes them more even and empties none.
fn even_out<const N: usize>(problem: &PackingProblem<'_, N>, draft: &mut PackingDraft<N>, demanded: &[bool; N]) {
    for (item, demand) in problem.items.iter().enumerate() {
        let Some(from) = draft.places[item] else { continue };
        let mut without = draft.rooms[from];
        without.give_back(demand);
        if !without.is_used() {
            continue;
        }
        let relief = draft.rooms[from].imbalance(demanded) - without.imbalance(demanded);
        let mut best: Option<(usize, f64)> = None;
        for (host, room) in draft.rooms.iter().enumerate() {
            if host == from || !room.is_used() || !room.fits(demand) {
                continue;
            }
            let mut with = *room;
            with.take(demand);
            let gain = relief + room.imbalance(demanded) - with.imbalance(demanded);
            if gain > FILLING_TOLERANCE && best.is_none_or(|(_, known)| gain > known) {
                best = Some((host, gain));
            }
        }
        if let Some((host, _)) = best {
            draft.lift(item, demand);
            draft.place(item, demand, host);
        }
    }
}
