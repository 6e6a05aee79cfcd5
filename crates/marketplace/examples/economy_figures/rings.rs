//! A market in which some of the agents and clients are one ring, whose accounts pay and praise each other.
//!
//! Its law: 200 agents and 400 clients, of both of which the given share belongs to the ring. An honest agent's quality is uniform
//! in 0.7..1; a colluding one's is 0.2. A rating is `1 + 4 * (quality + uniform(-0.15..0.15))`, rounded, from 1 to 5. An honest client
//! makes 60 purchases: each with equal chances from an agent that it has rated 4 or better, or from one drawn uniformly from
//! all, the ring's among them. A colluding client makes 60 purchases of colluding agents and rates each 5. Amounts are log-uniform in
//! 0.1..20 AIT, ages uniform in 0..180 days. The seeds are 5 % of the honest clients, three at least.

use std::{collections::BTreeMap, fmt::Write};

use am_core::money::Money;
use am_marketplace::trust_graph::{PairEvidence, RatedPayment, TrustNetwork, TrustSeeds, TrustSettings};
use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

const AGENTS: usize = 200;
const CLIENTS: usize = 400;
const PURCHASES: usize = 60;
/// Purchases of honest agents by each colluding client that buys in: a fifth of what an honest client makes.
const BOUGHT_IN: usize = 12;
const RING_QUALITY: f64 = 0.2;
/// Quality that a disguised agent shows to strangers.
const DISGUISE_QUALITY: f64 = 0.9;
/// Every fifth colluding agent is disguised.
const DISGUISED: usize = 5;
const SIMULATIONS: u64 = 5;

/// What the ring does beside praising itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RingTactic {
    /// Nothing.
    Isolated,
    /// A fifth of its agents serve honest clients well.
    Disguised,
    /// Its clients also pay honest agents, whom they rate 1.
    BuyingIn,
}

impl RingTactic {
    const ALL: [Self; 3] = [Self::Isolated, Self::Disguised, Self::BuyingIn];

    fn text(self) -> &'static str {
        match self {
            Self::Isolated => "praises itself",
            Self::Disguised => "and a fifth serve strangers well",
            Self::BuyingIn => "and pays honest agents, whom it rates 1",
        }
    }
}

/// A rated purchase.
struct RingPurchase {
    client: usize,
    agent: usize,
    paid: f64,
    rating: f64,
    age_days: f64,
}

/// A market; the first agents and clients are honest.
struct RingMarket {
    honest_agents: usize,
    honest_clients: usize,
    purchases: Vec<RingPurchase>,
}

impl RingMarket {
    fn simulate(colluding: f64, tactic: RingTactic, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let honest = |all: usize| (all as f64 * (1.0 - colluding)).round() as usize;
        let (honest_agents, honest_clients) = (honest(AGENTS), honest(CLIENTS));
        let quality: Vec<f64> = (0..AGENTS)
            .map(|agent| match agent.checked_sub(honest_agents) {
                None => rng.random_range(0.7..1.0),
                Some(n) if tactic == RingTactic::Disguised && n % DISGUISED == 0 => DISGUISE_QUALITY,
                Some(_) => RING_QUALITY,
            })
            .collect();
        let mut market = Self { honest_agents, honest_clients, purchases: Vec::new() };
        for client in 0..honest_clients {
            let mut liked: Vec<usize> = Vec::new();
            for _ in 0..PURCHASES {
                let again = liked.choose(&mut rng).copied().filter(|_| rng.random_bool(0.5));
                let agent = again.unwrap_or_else(|| rng.random_range(0..AGENTS));
                let rating = (1.0 + 4.0 * (quality[agent] + rng.random_range(-0.15..0.15))).round().clamp(1.0, 5.0);
                if rating >= 4.0 {
                    liked.push(agent);
                }
                market.buy(client, agent, rating, &mut rng);
            }
        }
        for client in honest_clients..CLIENTS {
            for _ in 0..PURCHASES {
                let agent = rng.random_range(honest_agents..AGENTS);
                market.buy(client, agent, 5.0, &mut rng);
            }
            let bought_in = if tactic == RingTactic::BuyingIn { BOUGHT_IN } else { 0 };
            for _ in 0..bought_in {
                let agent = rng.random_range(0..honest_agents);
                market.buy(client, agent, 1.0, &mut rng);
            }
        }
        market
    }

    fn buy(&mut self, client: usize, agent: usize, rating: f64, rng: &mut Xoshiro256PlusPlus) {
        let paid = rng.random_range(0.1f64.ln()..20f64.ln()).exp();
        let age_days = rng.random_range(0.0..180.0);
        self.purchases.push(RingPurchase { client, agent, paid, rating, age_days });
    }

    fn is_inside_ring(&self, purchase: &RingPurchase) -> bool {
        purchase.client >= self.honest_clients && purchase.agent >= self.honest_agents
    }

    /// Trust in each agent, from the purchases that `counted` holds of.
    fn trust(&self, counted: impl Fn(&RingPurchase) -> bool) -> Vec<f64> {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let settings = TrustSettings::default();
        let mut pairs: BTreeMap<(usize, usize), PairEvidence> = BTreeMap::new();
        for purchase in self.purchases.iter().filter(|purchase| counted(purchase)) {
            let at = before(now, purchase.age_days);
            let payment = RatedPayment { paid: Money::from_f64(purchase.paid), rating: purchase.rating, at };
            pairs.entry((purchase.client, purchase.agent)).or_default().add(payment, settings.half_life_days);
        }
        let mut network = TrustNetwork::new();
        for ((client, agent), evidence) in pairs {
            network.set(&client_name(client), &agent_name(agent), evidence);
        }
        let seeds = (self.honest_clients / 20).max(3);
        let seeds = TrustSeeds { raters: (0..seeds).map(client_name).collect(), agents: Vec::new() };
        let report = network.compute(&seeds, &settings, now);
        (0..AGENTS).map(|agent| report.agent(&agent_name(agent)).map_or(0.0, |trust| trust.score)).collect()
    }

    /// The ring's share of what honest agents are paid.
    fn bought_in(&self) -> f64 {
        let to_honest = self.purchases.iter().filter(|purchase| purchase.agent < self.honest_agents);
        let (mut ring, mut all) = (0.0, 0.0);
        for purchase in to_honest {
            all += purchase.paid;
            ring += if purchase.client < self.honest_clients { 0.0 } else { purchase.paid };
        }
        ring / all
    }

    fn mean_ratings(&self) -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0); AGENTS];
        for purchase in &self.purchases {
            let (sum, count) = &mut sums[purchase.agent];
            *sum += purchase.rating;
            *count += 1.0;
        }
        sums.into_iter().map(|(sum, count)| if count > 0.0 { sum / count } else { 0.0 }).collect()
    }

    fn standing(&self, scores: &[f64]) -> HonestStanding {
        let (honest, ring) = scores.split_at(self.honest_agents);
        let ranks: Vec<f64> = honest
            .iter()
            .map(|own| {
                let better = scores.iter().filter(|score| *score > own).count() as f64;
                let equal = scores.iter().filter(|score| *score == own).count() as f64;
                1.0 + better + (equal - 1.0) / 2.0
            })
            .collect();
        let above = |own: &f64| {
            let points = ring.iter().map(|other| {
                if own > other {
                    1.0
                } else if own == other {
                    0.5
                } else {
                    0.0
                }
            });
            points.sum::<f64>()
        };
        HonestStanding {
            mean_rank: ranks.iter().sum::<f64>() / ranks.len() as f64,
            worst_rank: ranks.iter().copied().fold(0.0, f64::max),
            above_ring: honest.iter().map(above).sum::<f64>() / (honest.len() * ring.len()) as f64,
        }
    }
}

fn before(now: DateTime<Utc>, days: f64) -> DateTime<Utc> {
    now - TimeDelta::milliseconds((days * 86_400_000.0) as i64)
}

fn client_name(client: usize) -> String {
    format!("client-{client:03}")
}

fn agent_name(agent: usize) -> String {
    format!("agent-{agent:03}")
}

/// Where the honest agents stand among all. Equal scores share the mean of their ranks.
#[derive(Clone, Copy, Debug, Default)]
struct HonestStanding {
    mean_rank: f64,
    worst_rank: f64,
    /// Share of all pairs of an honest and a colluding agent in which the honest one is above.
    above_ring: f64,
}

/// Means over several simulations.
#[derive(Clone, Copy, Debug, Default)]
struct RingFigures {
    honest_agents: usize,
    by_trust: HonestStanding,
    by_rating: HonestStanding,
    /// The ring's share of what honest agents are paid.
    bought_in: f64,
    /// The ring's share of all trust.
    ring_trust: f64,
    /// The same without the purchases inside the ring.
    ring_trust_without: f64,
}

fn figures(colluding: f64, tactic: RingTactic, simulations: u64) -> RingFigures {
    let mut mean = RingFigures::default();
    let part = 1.0 / simulations as f64;
    let add = |to: &mut HonestStanding, of: HonestStanding| {
        to.mean_rank += part * of.mean_rank;
        to.worst_rank += part * of.worst_rank;
        to.above_ring += part * of.above_ring;
    };
    for seed in 0..simulations {
        let market = RingMarket::simulate(colluding, tactic, seed);
        let trust = market.trust(|_| true);
        let without = market.trust(|purchase| !market.is_inside_ring(purchase));
        mean.honest_agents = market.honest_agents;
        mean.bought_in += part * market.bought_in();
        mean.ring_trust += part * trust[market.honest_agents..].iter().sum::<f64>();
        mean.ring_trust_without += part * without[market.honest_agents..].iter().sum::<f64>();
        add(&mut mean.by_trust, market.standing(&trust));
        add(&mut mean.by_rating, market.standing(&market.mean_ratings()));
    }
    mean
}

/// The table of docs/ECONOMY.md.
pub fn table() -> String {
    let mut table = String::from(
        "| colluders | the ring | of what honest agents are paid | honest agents | mean rank | worst rank | above the ring | trust in the ring | without its own payments | by mean rating: mean rank | worst rank | above the ring |\n\
         |---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for colluding in [0.1, 0.5, 0.9] {
        for tactic in RingTactic::ALL {
            let found = figures(colluding, tactic, SIMULATIONS);
            let (trust, rating) = (found.by_trust, found.by_rating);
            let _ = writeln!(
                table,
                "| {:.0} % | {} | {:.0} % | {} | {:.1} | {:.1} | {:.1} % | {:.2} % | {:.2} % | {:.1} | {:.1} | {:.1} % |",
                100.0 * colluding,
                tactic.text(),
                100.0 * found.bought_in,
                found.honest_agents,
                trust.mean_rank,
                trust.worst_rank,
                100.0 * trust.above_ring,
                100.0 * found.ring_trust,
                100.0 * found.ring_trust_without,
                rating.mean_rank,
                rating.worst_rank,
                100.0 * rating.above_ring,
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolated_ring_stands_below_all_honest_agents() {
        for colluding in [0.1, 0.5, 0.9] {
            let found = figures(colluding, RingTactic::Isolated, 2);
            assert!(found.by_trust.above_ring > 0.99, "{colluding}: {found:?}");
            assert_eq!((found.ring_trust, found.bought_in), (0.0, 0.0), "{colluding}: {found:?}");
            assert!(found.by_rating.above_ring < found.by_trust.above_ring - 0.1, "{colluding}: {found:?}");
        }
    }

    #[test]
    fn ring_that_pays_or_serves_strangers_does_not_pass_most_honest_agents() {
        for (colluding, least) in [(0.1, 0.85), (0.5, 0.85), (0.9, 0.5)] {
            for tactic in [RingTactic::Disguised, RingTactic::BuyingIn] {
                let found = figures(colluding, tactic, 2);
                assert!(found.by_trust.above_ring > least, "{colluding} {tactic:?}: {found:?}");
                assert!(found.by_trust.mean_rank < found.by_rating.mean_rank, "{colluding} {tactic:?}: {found:?}");
                // What it earned from strangers is its own; paying itself adds little to it.
                let lifted = found.ring_trust - found.ring_trust_without;
                assert!(tactic == RingTactic::BuyingIn || lifted < 0.06, "{colluding} {tactic:?}: {found:?}");
            }
        }
    }
}
