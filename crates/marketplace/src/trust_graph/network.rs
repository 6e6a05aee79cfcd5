//! All pairs of raters and agents in memory, and the computation over them.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{
    evidence::PairEvidence,
    flow::{FlowEdge, IncomingEdges},
    iteration::{TrustEdges, TrustVector, iterate},
    report::{ScoreParts, TrustReport, ranked},
    settings::{TrustSeeding, TrustSeeds, TrustSettings},
};

/// Names with numbers in the order in which they were first seen.
#[derive(Clone, Debug, Default)]
struct NameTable {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
}

impl NameTable {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.numbers.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

/// Nodes of one kind in the order of their names.
struct NodeOrder<'a> {
    names: Vec<&'a str>,
}

impl<'a> NodeOrder<'a> {
    fn new(names: impl Iterator<Item = &'a str>) -> Self {
        Self { names: names.collect::<BTreeSet<_>>().into_iter().collect() }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.names.binary_search(&name).ok()
    }

    /// The position of each name of a table; the table's length for one that is no node.
    fn positions(&self, table: &NameTable) -> Vec<usize> {
        table.names.iter().map(|name| self.find(name).unwrap_or(self.names.len())).collect()
    }

    /// Equal shares for those of `names` that are nodes.
    fn seeded(&self, names: &[String], share: f64) -> Vec<f64> {
        let mut shares = vec![0.0; self.names.len()];
        names.iter().filter_map(|name| self.find(name)).for_each(|node| shares[node] = share);
        shares
    }

    fn owned(&self) -> Vec<String> {
        self.names.iter().map(|&name| name.to_owned()).collect()
    }
}

/// A pair that counts at the moment of a computation.
struct CountedPair {
    rater: usize,
    agent: usize,
    paid: f64,
    local_trust: f64,
}

/// The evidence of all pairs of raters and agents.
#[derive(Clone, Debug, Default)]
pub struct TrustNetwork {
    raters: NameTable,
    agents: NameTable,
    pairs: HashMap<(usize, usize), PairEvidence>,
}

impl TrustNetwork {
    /// A network without pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether it has no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Set what a rater's payments say of an agent, in place of what they said before.
    pub fn set(&mut self, rater: &str, agent: &str, evidence: PairEvidence) {
        let pair = (self.raters.number(rater), self.agents.number(agent));
        self.pairs.insert(pair, evidence);
    }

    /// Forget a pair.
    pub fn remove(&mut self, rater: &str, agent: &str) {
        if let (Some(rater), Some(agent)) = (self.raters.numbers.get(rater), self.agents.numbers.get(agent)) {
            self.pairs.remove(&(*rater, *agent));
        }
    }

    /// Compute the trust in all agents at `now`. The same pairs give the same bits, in whatever order they were set. Takes
    /// time in proportion to the pairs and blocks.
    pub fn compute(&self, seeds: &TrustSeeds, settings: &TrustSettings, now: DateTime<Utc>) -> TrustReport {
        let counted: Vec<((usize, usize), _)> = self
            .pairs
            .iter()
            .filter_map(|(pair, evidence)| Some((*pair, evidence.current(now, settings.half_life_days)?)))
            .collect();
        let rater_names = counted.iter().map(|((rater, _), _)| self.raters.names[*rater].as_str());
        let agent_names = counted.iter().map(|((_, agent), _)| self.agents.names[*agent].as_str());
        let raters = NodeOrder::new(rater_names.chain(seeds.raters.iter().map(String::as_str)));
        let agents = NodeOrder::new(agent_names.chain(seeds.agents.iter().map(String::as_str)));
        let (rater_at, agent_at) = (raters.positions(&self.raters), agents.positions(&self.agents));
        let mut pairs: Vec<CountedPair> = counted
            .into_iter()
            .map(|((rater, agent), current)| CountedPair {
                rater: rater_at[rater],
                agent: agent_at[agent],
                paid: current.paid,
                local_trust: current.local_trust,
            })
            .collect();
        // Sums of floating-point numbers depend on the order of what is summed.
        pairs.sort_unstable_by_key(|pair| (pair.rater, pair.agent));

        let rated = |pair: &CountedPair| FlowEdge { source: pair.rater, target: pair.agent, weight: pair.local_trust };
        let vouched = |pair: &CountedPair| FlowEdge { source: pair.agent, target: pair.rater, weight: pair.paid };
        let good: Vec<FlowEdge> = pairs.iter().map(rated).filter(|edge| edge.weight > 0.0).collect();
        let paid: Vec<FlowEdge> = pairs.iter().map(vouched).collect();
        let ratings = IncomingEdges::new(raters.names.len(), agents.names.len(), &good);
        let vouchers = IncomingEdges::new(agents.names.len(), raters.names.len(), &paid);
        let (seeding, start) = seed_vector(seeds, &raters, &agents);
        let last = iterate(TrustEdges { ratings: &ratings, vouchers: &vouchers }, &start, settings);

        let total: f64 = last.trust.agents.iter().sum();
        let scale = if total > 0.0 { 1.0 / total } else { 0.0 };
        let scores = agents.owned().into_iter().zip(last.trust.agents.iter().map(|trust| trust * scale)).collect();
        TrustReport {
            agents: ranked(scores),
            seeding,
            rounds: last.rounds,
            residual: last.residual,
            computed_at: now,
            parts: ScoreParts {
                raters: raters.owned(),
                given: last.raters_before.iter().map(|trust| trust * (1.0 - settings.restart) * scale).collect(),
                ratings,
                pre_trusted: start.agents.iter().map(|seed| seed * last.restarted * scale).collect(),
            },
        }
    }
}

/// What the seeds have; all raters alike where none are named.
fn seed_vector(seeds: &TrustSeeds, raters: &NodeOrder<'_>, agents: &NodeOrder<'_>) -> (TrustSeeding, TrustVector) {
    let named = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len();
    let count = named(&seeds.raters) + named(&seeds.agents);
    if count == 0 {
        let share = 1.0 / raters.names.len().max(1) as f64;
        let all = TrustVector { raters: vec![share; raters.names.len()], agents: vec![0.0; agents.names.len()] };
        return (TrustSeeding::EveryRater, all);
    }
    let share = 1.0 / count as f64;
    let start =
        TrustVector { raters: raters.seeded(&seeds.raters, share), agents: agents.seeded(&seeds.agents, share) };
    (TrustSeeding::Named, start)
}

#[cfg(test)]
mod tests {
    use am_core::money::Money;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::trust_graph::{RatedPayment, ScoreExplanation};

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    /// Pairs of rater, agent, AIT and rating, rated now.
    fn network(payments: &[(&str, &str, f64, f64)]) -> TrustNetwork {
        let mut network = TrustNetwork::new();
        for (rater, agent, paid, rating) in payments {
            let mut evidence = PairEvidence::default();
            evidence.add(RatedPayment { paid: Money::from_f64(*paid), rating: *rating, at: now() }, 90.0);
            network.set(rater, agent, evidence);
        }
        network
    }

    fn seeds(raters: &[&str]) -> TrustSeeds {
        TrustSeeds { raters: raters.iter().map(|&rater| rater.to_owned()).collect(), agents: Vec::new() }
    }

    fn compute(network: &TrustNetwork, seeds: &TrustSeeds) -> TrustReport {
        network.compute(seeds, &TrustSettings::default(), now())
    }

    fn sum(explanation: &ScoreExplanation) -> f64 {
        let listed: f64 = explanation.raters.iter().map(|rater| rater.contribution).sum();
        listed + explanation.others + explanation.pre_trusted
    }

    #[test]
    fn ring_without_a_path_from_a_seed_has_no_trust() {
        let mut payments =
            vec![("operator", "honest", 1.0, 4.0), ("client", "honest", 1.0, 5.0), ("client", "good", 1.0, 4.0)];
        let ring: Vec<(String, String)> = (0..30)
            .flat_map(|rater| (0..10).map(move |agent| (format!("ring{rater}"), format!("fraud{agent}"))))
            .collect();
        payments.extend(ring.iter().map(|(rater, agent)| (rater.as_str(), agent.as_str(), 500.0, 5.0)));
        let network = network(&payments);
        let report = compute(&network, &seeds(&["operator"]));
        assert_eq!(report.seeding, TrustSeeding::Named);
        assert!(report.residual <= 1e-12);
        assert_eq!(report.agent("honest").unwrap().rank, 1);
        assert_eq!(report.agent("good").unwrap().rank, 2);
        assert!((0..10).all(|agent| report.agent(&format!("fraud{agent}")).unwrap().score == 0.0));
        // Without seeds the many win: the answer says that there were none.
        let unprotected = compute(&network, &TrustSeeds::default());
        assert_eq!(unprotected.seeding, TrustSeeding::EveryRater);
        assert!(unprotected.agent("fraud0").unwrap().rank < unprotected.agent("good").unwrap().rank);
    }

    #[test]
    fn payment_divided_among_accounts_gains_nothing() {
        let base = [("operator", "shop", 1.0, 5.0), ("client", "shop", 4.0, 5.0), ("client", "good", 1.0, 5.0)];
        let ring = ["one", "two", "three", "four"];
        let mut alone = base.to_vec();
        alone.extend([("one", "shop", 4.0, 1.0), ("one", "fraud", 1.0, 5.0)]);
        let mut divided = base.to_vec();
        divided.extend(ring.iter().flat_map(|rater| [(*rater, "shop", 1.0, 1.0), (*rater, "fraud", 0.25, 5.0)]));
        let score = |payments: &[_]| compute(&network(payments), &seeds(&["operator"])).agent("fraud").unwrap().score;
        let (alone, divided) = (score(&alone), score(&divided));
        assert!((alone - divided).abs() < 1e-12 && alone > 0.0, "{alone} {divided}");
    }

    #[test]
    fn old_ratings_lose_to_recent_ones() {
        let mut network = network(&[("operator", "today", 4.0, 5.0)]);
        let mut old = PairEvidence::default();
        old.add(RatedPayment { paid: Money::from_f64(4.0), rating: 5.0, at: now() - TimeDelta::days(90) }, 90.0);
        network.set("operator", "formerly", old);
        let report = compute(&network, &seeds(&["operator"]));
        let quotient = report.agent("today").unwrap().score / report.agent("formerly").unwrap().score;
        assert!((quotient - 5f64.ln() / 3f64.ln()).abs() < 1e-9, "{quotient}");
        network.remove("operator", "formerly");
        assert_eq!(network.len(), 1);
        assert!(compute(&network, &seeds(&["operator"])).agent("formerly").is_none());
    }

    #[test]
    fn explanation_names_who_contributed_what() {
        let payments = [
            ("operator", "shop", 1.0, 5.0),
            ("client", "shop", 2.0, 5.0),
            ("fresh", "shop", 0.0, 5.0),
            ("b", "fraud", 9.0, 5.0),
        ];
        let report = compute(&network(&payments), &seeds(&["operator"]));
        let all = report.explain("shop", 10).unwrap();
        assert_eq!(all.raters.iter().map(|rater| rater.rater.as_str()).collect::<Vec<_>>(), ["operator", "client"]);
        assert!((sum(&all) - 1.0).abs() < 1e-12 && (all.score - 1.0).abs() < 1e-12, "{all:?}");
        let first = report.explain("shop", 1).unwrap();
        assert_eq!((first.raters.len(), first.other_raters), (1, 1));
        assert!((sum(&first) - 1.0).abs() < 1e-12);
        // Raters without trust are counted, not listed.
        let fraud = report.explain("fraud", 10).unwrap();
        assert_eq!((fraud.raters.len(), fraud.other_raters, fraud.score), (0, 1, 0.0));
        assert_eq!(report.explain("nobody", 10), None);
    }

    #[test]
    fn seed_agent_has_its_own_part() {
        let trusted = TrustSeeds { raters: Vec::new(), agents: vec!["shop".to_owned()] };
        let report = compute(&network(&[("client", "shop", 1.0, 5.0), ("client", "new", 1.0, 5.0)]), &trusted);
        let shop = report.explain("shop", 5).unwrap();
        assert!(shop.pre_trusted > 0.0 && (sum(&shop) - shop.score).abs() < 1e-12, "{shop:?}");
        assert!(report.agent("new").unwrap().score > 0.0, "the shop vouches for its client");
    }

    #[test]
    fn empty_network_has_no_scores() {
        let report = compute(&TrustNetwork::new(), &TrustSeeds::default());
        assert!(report.agents.is_empty());
        let report = compute(&TrustNetwork::new(), &seeds(&["operator"]));
        assert!(report.agents.is_empty() && report.explain("a", 1).is_none());
    }

    proptest! {
        #[test]
        fn scores_are_shares_whose_parts_sum_to_them(
            payments in prop::collection::vec((0..12u8, 0..8u8, 0.001..1000.0f64, 1..=5u8), 1..60),
            seeded in prop::collection::vec(0..12u8, 0..3),
            restart in 0.05..0.95f64,
        ) {
            let named: Vec<(String, String, f64, f64)> = payments
                .iter()
                .map(|(rater, agent, paid, rating)| (format!("c{rater}"), format!("a{agent}"), *paid, f64::from(*rating)))
                .collect();
            let forth: Vec<_> = named.iter().map(|(a, b, c, d)| (a.as_str(), b.as_str(), *c, *d)).collect();
            let names: Vec<String> = seeded.iter().map(|seed| format!("c{seed}")).collect();
            let seeds = TrustSeeds { raters: names, agents: Vec::new() };
            let settings = TrustSettings { restart, ..Default::default() };
            let first = network(&forth);
            let report = first.compute(&seeds, &settings, now());
            prop_assert!(report.rounds <= settings.max_rounds());
            prop_assert!(report.residual <= 2e-12, "{}", report.residual);
            let total: f64 = report.agents.iter().map(|agent| agent.score).sum();
            prop_assert!(total == 0.0 || (total - 1.0).abs() < 1e-9, "{total}");
            for agent in &report.agents {
                let explanation = report.explain(&agent.agent, 3).unwrap();
                prop_assert!((sum(&explanation) - agent.score).abs() < 1e-9, "{explanation:?}");
                prop_assert!((0.0..=1.0 + 1e-9).contains(&agent.score));
            }
            // The same pairs in another order.
            let mut other = TrustNetwork::new();
            let mut pairs: Vec<_> = first.pairs.iter().collect();
            pairs.sort_by_key(|(pair, _)| std::cmp::Reverse(**pair));
            for ((rater, agent), evidence) in pairs {
                other.set(&first.raters.names[*rater], &first.agents.names[*agent], *evidence);
            }
            prop_assert_eq!(other.compute(&seeds, &settings, now()).agents, report.agents);
        }
    }
}
