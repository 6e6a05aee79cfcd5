//! A guess of which assets an optimum holds, from a cheap method of low accuracy: it exchanges weight between the two
//! assets whose gradients differ most (as in sequential minimal optimisation, Platt 1998), under the bounds only.

use crate::{
    allocation::{AllocationLimits, AllocationProblem, MeanVarianceAim},
    matrix::{add_scaled, dot},
};

/// Exchanges at most for one trade-off between return and risk.
const EXCHANGES: usize = 400;
/// Trade-offs that are tried for a target.
const TRADE_OFFS: usize = 12;
/// The difference of gradients, relative to the largest, at which exchanging ends.
const GRADIENT_TOLERANCE: f64 = 1e-3;

/// Weights within bounds, with the gradient of half the variance.
struct Exchange<'a> {
    problem: &'a AllocationProblem<'a>,
    weights: Vec<f64>,
    slopes: Vec<f64>,
}

impl<'a> Exchange<'a> {
    /// Begins with the assets of least variance, as much of each as its bound allows.
    fn new(problem: &'a AllocationProblem<'a>) -> Self {
        let limits = problem.limits;
        let mut weights = limits.lower.clone();
        let variances = problem.covariance.diagonal();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|a, b| variances[*a].total_cmp(&variances[*b]));
        let mut left = 1.0 - weights.iter().sum::<f64>();
        for at in &order {
            let more = left.min(limits.upper[*at] - limits.lower[*at]).max(0.0);
            weights[*at] += more;
            left -= more;
        }
        let slopes = problem.covariance.times_sparse(&order, &order.iter().map(|at| weights[*at]).collect::<Vec<_>>());
        Self { problem, weights, slopes }
    }

    /// Exchanges weights until the gradient of variance / 2 - reward × returns is nearly level.
    fn settle(&mut self, reward: f64, returns: &[f64]) {
        let limits = self.problem.limits;
        let covariance = self.problem.covariance;
        for _ in 0..EXCHANGES {
            let (mut to, mut from) = (None, None);
            let (mut least, mut most, mut size) = (f64::INFINITY, f64::NEG_INFINITY, 0.0_f64);
            for at in 0..self.weights.len() {
                let gradient = self.slopes[at] - returns.get(at).map_or(0.0, |value| reward * value);
                size = size.max(gradient.abs());
                if gradient < least && self.weights[at] < limits.upper[at] {
                    (least, to) = (gradient, Some(at));
                }
                if gradient > most && self.weights[at] > limits.lower[at] {
                    (most, from) = (gradient, Some(at));
                }
            }
            let (Some(to), Some(from)) = (to, from) else { return };
            if most - least <= GRADIENT_TOLERANCE * size {
                return;
            }
            let curvature = covariance.get(to, to) + covariance.get(from, from) - 2.0 * covariance.get(to, from);
            let room = (limits.upper[to] - self.weights[to]).min(self.weights[from] - limits.lower[from]);
            let step = if curvature > 0.0 { ((most - least) / curvature).min(room) } else { room };
            self.weights[to] += step;
            self.weights[from] -= step;
            add_scaled(&mut self.slopes, step, covariance.row(to));
            add_scaled(&mut self.slopes, -step, covariance.row(from));
        }
    }

    fn variance(&self) -> f64 {
        dot(&self.slopes, &self.weights)
    }
}

/// Whether each asset is likely to be held. An asset that is missed costs time, not accuracy.
pub(crate) fn likely_assets(problem: &AllocationProblem<'_>, aim: MeanVarianceAim) -> Vec<bool> {
    use MeanVarianceAim as Aim;
    let limits = problem.limits;
    let mut likely = vec![false; problem.assets()];
    let mut exchange = Exchange::new(problem);
    let returns = problem.expected_returns.unwrap_or_default();
    let mut note = |exchange: &Exchange<'_>| {
        for (at, likely) in likely.iter_mut().enumerate() {
            *likely |= exchange.weights[at] > limits.lower[at];
        }
    };
    match aim {
        Aim::MinimumVariance => exchange.settle(0.0, &[]),
        Aim::QuadraticUtility(aversion) => exchange.settle(1.0 / aversion, returns),
        Aim::MaximumReturn => exchange.settle(1e6, returns),
        Aim::MaximumSharpe => {
            let excess: Vec<f64> = returns.iter().map(|value| value - problem.risk_free_rate).collect();
            exchange.settle(0.0, &[]);
            // At the optimum the trade-off is variance by excess return; without one, return alone counts.
            for _ in 0..TRADE_OFFS {
                let reward = dot(&excess, &exchange.weights);
                let variance = exchange.variance();
                exchange.settle(if reward > 0.0 { variance / reward } else { 1e3 * variance }, &excess);
            }
        }
        Aim::EfficientReturn(target) => {
            bisect(&mut exchange, returns, &mut note, |exchange| dot(returns, &exchange.weights) < target);
        }
        Aim::EfficientRisk(target) => {
            bisect(&mut exchange, returns, &mut note, |exchange| exchange.variance() < target * target);
        }
    }
    note(&exchange);
    add_sectors(problem, limits, &mut likely);
    likely
}

/// Looks for the trade-off at which `wants_more` turns, and notes the last ones' assets.
fn bisect(
    exchange: &mut Exchange<'_>,
    returns: &[f64],
    note: &mut impl FnMut(&Exchange<'_>),
    wants_more: impl Fn(&Exchange<'_>) -> bool,
) {
    exchange.settle(0.0, &[]);
    let largest = returns.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    if largest <= 0.0 || !wants_more(exchange) {
        return;
    }
    let mut high = exchange.variance() / largest;
    let mut low = 0.0;
    for _ in 0..2 * TRADE_OFFS {
        exchange.settle(high, returns);
        if !wants_more(exchange) {
            break;
        }
        (low, high) = (high, high * 2.0);
    }
    for step in 0..TRADE_OFFS {
        let middle = (low + high) / 2.0;
        exchange.settle(middle, returns);
        if step + 3 >= TRADE_OFFS {
            note(exchange);
        }
        if wants_more(exchange) { low = middle } else { high = middle }
    }
}

/// Adds the assets of least variance of sectors that must be held.
fn add_sectors(problem: &AllocationProblem<'_>, limits: &AllocationLimits, likely: &mut [bool]) {
    for sector in limits.sectors.iter().filter(|sector| sector.least > 0.0) {
        let mut members = sector.assets.clone();
        members.sort_by(|a, b| problem.covariance.get(*a, *a).total_cmp(&problem.covariance.get(*b, *b)));
        let mut missing = sector.least;
        for asset in members {
            if missing <= 0.0 {
                break;
            }
            likely[asset] = true;
            missing -= limits.upper[asset];
        }
    }
}
