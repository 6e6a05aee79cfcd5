//! The power iteration.

use super::{flow::IncomingEdges, settings::TrustSettings};

/// Trust of all nodes, which sums to 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrustVector {
    pub(super) raters: Vec<f64>,
    pub(super) agents: Vec<f64>,
}

impl TrustVector {
    fn distance(&self, other: &Self) -> f64 {
        let part = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>();
        part(&self.raters, &other.raters) + part(&self.agents, &other.agents)
    }
}

/// Edges of both kinds.
#[derive(Clone, Copy)]
pub(super) struct TrustEdges<'a> {
    /// From raters to the agents that they rated well.
    pub(super) ratings: &'a IncomingEdges,
    /// From agents to the clients who paid them.
    pub(super) vouchers: &'a IncomingEdges,
}

/// The last round of an iteration.
pub(super) struct LastRound {
    pub(super) trust: TrustVector,
    /// What the raters had before the round, from which the agents' trust in `trust` comes.
    pub(super) raters_before: Vec<f64>,
    /// Trust that the round gave to the seeds.
    pub(super) restarted: f64,
    pub(super) rounds: u32,
    /// Change by the round (L1 norm).
    pub(super) residual: f64,
}

fn next_round(
    edges: TrustEdges<'_>,
    seeds: &TrustVector,
    before: &TrustVector,
    settings: &TrustSettings,
) -> (TrustVector, f64) {
    let kept = 1.0 - settings.restart;
    let passed_on = kept * settings.vouching;
    let mut agents: Vec<f64> =
        (0..before.agents.len()).map(|agent| kept * edges.ratings.arriving(&before.raters, agent)).collect();
    let mut raters: Vec<f64> =
        (0..before.raters.len()).map(|rater| passed_on * edges.vouchers.arriving(&before.agents, rater)).collect();
    let arrived = agents.iter().sum::<f64>() + raters.iter().sum::<f64>();
    // Also what raters who trust nobody, and agents whom nobody paid, have not passed on.
    let restarted = (1.0 - arrived).max(0.0);
    agents.iter_mut().zip(&seeds.agents).for_each(|(agent, seed)| *agent += restarted * seed);
    raters.iter_mut().zip(&seeds.raters).for_each(|(rater, seed)| *rater += restarted * seed);
    (TrustVector { raters, agents }, restarted)
}

/// Iterate from the seeds, whose shares sum to 1, until a round changes no more than the tolerance.
pub(super) fn iterate(edges: TrustEdges<'_>, seeds: &TrustVector, settings: &TrustSettings) -> LastRound {
    let mut before = seeds.clone();
    let mut rounds = 0;
    loop {
        let (trust, restarted) = next_round(edges, seeds, &before, settings);
        rounds += 1;
        let residual = trust.distance(&before);
        if residual <= settings.tolerance || rounds >= settings.max_rounds() {
            return LastRound { trust, raters_before: before.raters, restarted, rounds, residual };
        }
        before = trust;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust_graph::flow::FlowEdge;

    #[test]
    fn fixed_point_of_a_small_graph_is_the_one_found_by_hand() {
        let edge = |source, target, weight| FlowEdge { source, target, weight };
        // Rater 0 is the seed and trusts agent 0; rater 1 paid agent 0 and trusts agent 1, which nobody else paid.
        let ratings = IncomingEdges::new(2, 2, &[edge(0, 0, 1.0), edge(1, 1, 1.0)]);
        let vouchers = IncomingEdges::new(2, 2, &[edge(0, 0, 1.0), edge(0, 1, 3.0), edge(1, 1, 1.0)]);
        let seeds = TrustVector { raters: vec![1.0, 0.0], agents: vec![0.0, 0.0] };
        let settings = TrustSettings { restart: 0.5, vouching: 0.5, tolerance: 1e-14, ..Default::default() };
        let edges = TrustEdges { ratings: &ratings, vouchers: &vouchers };
        let last = iterate(edges, &seeds, &settings);
        // With s, r, a, b for the seed, rater 1 and the agents: a = s/2, b = r/2, r = (3a/4 + b)/4, s + r + a + b = 1.
        // So r = 3s/32 + r/8, r = 3s/28, b = 3s/56, and s (1 + 3/28 + 1/2 + 3/56) = 1.
        let s = 56.0 / 93.0;
        let expected = [s, 3.0 * s / 28.0, s / 2.0, 3.0 * s / 56.0];
        let found = [last.trust.raters[0], last.trust.raters[1], last.trust.agents[0], last.trust.agents[1]];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-13, "{found}, not {expected}");
        }
        assert!(last.residual <= 1e-14 && last.rounds <= settings.max_rounds());
    }
}
