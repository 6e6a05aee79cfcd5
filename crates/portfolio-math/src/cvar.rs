//! The least conditional value at risk (Rockafellar and Uryasev, Optimization of conditional value-at-risk, Journal of
//! Risk 2, 2000).

use crate::{
    allocation::{AllocationLimits, AllocationProblem, MeanVarianceAim, SolveStatus},
    conic::{ConicFailure, ConicProgram, add_limits},
    error::{MathError, Result, at_least, bounded, finite, length},
    matrix::{DenseMatrix, add_scaled, dot},
    moments::sample_covariance,
    seed::likely_assets,
};

/// Assets and scenarios that join a working set at a time.
const JOINING_ASSETS: usize = 40;
/// Scenarios that join a working set at a time.
const JOINING_SCENARIOS: usize = 200;
/// The reduced cost, relative to the largest return, below which an asset would improve the answer.
const REDUCED_COST_TOLERANCE: f64 = 1e-8;
/// The loss beyond the value at risk, relative to the largest return, at which a scenario counts.
const EXCESS_TOLERANCE: f64 = 1e-9;

/// The scenarios that weights are searched for.
#[derive(Debug, Clone, Copy)]
pub struct CvarProblem<'a> {
    /// Returns, equally likely: a row for each scenario, a column for each asset.
    pub scenarios: &'a DenseMatrix,
    /// The expected return of each asset in a year; `None` where only risk counts.
    pub expected_returns: Option<&'a [f64]>,
    /// The share of scenarios that are not counted as the tail: 0.95 for the worst 5 %.
    pub confidence: f64,
    /// A year's expected return at least; `None` for any.
    pub target_return: Option<f64>,
    /// What weights may be.
    pub limits: &'a AllocationLimits,
}

/// Weights of the least conditional value at risk. Losses are above 0 here.
#[derive(Debug, Clone, PartialEq)]
pub struct CvarAllocation {
    /// Each asset's weight; they sum to 1.
    pub weights: Vec<f64>,
    /// The mean loss of the worst scenarios, of one period.
    pub cvar: f64,
    /// The loss that the worst scenarios exceed, of one period.
    pub value_at_risk: f64,
    /// A year's expected return; `None` without expected returns of assets.
    pub expected_return: Option<f64>,
    /// Why the optimiser stopped.
    pub status: SolveStatus,
    /// Steps of the method.
    pub iterations: u32,
    /// The duality gap, relative to the largest return.
    pub gap: f64,
}

/// The weights of the least conditional value at risk. Fails below two scenarios, if an argument is outside its range,
/// if no weights satisfy the limits and the target, or if the solver finds none.
pub fn minimise_cvar(problem: &CvarProblem<'_>) -> Result<CvarAllocation> {
    let scenarios = problem.scenarios;
    let assets = scenarios.columns();
    at_least("scenarios", 2, scenarios.rows())?;
    at_least("scenarios", 1, assets)?;
    bounded("scenarios", scenarios.rows(), assets)?;
    length("lower", assets, problem.limits.lower.len())?;
    problem.limits.check(assets)?;
    if !(problem.confidence > 0.0 && problem.confidence < 1.0) {
        return Err(MathError::invalid("confidence", format!("{} is not between 0 and 1", problem.confidence)));
    }
    if let Some(returns) = problem.expected_returns {
        length("expected_returns", assets, returns.len())?;
        finite("expected_returns", returns)?;
    }
    if let Some(target) = problem.target_return {
        finite("target_return", &[target])?;
        if problem.expected_returns.is_none() {
            return Err(MathError::invalid("expected_returns", "a target return needs them"));
        }
    }
    CvarSearch::new(problem).run()
}

/// The growing working sets of assets and scenarios.
struct CvarSearch<'a> {
    problem: &'a CvarProblem<'a>,
    /// The largest absolute return, by which the program's numbers are near 1.
    largest: f64,
    inside: Vec<bool>,
    counted: Vec<bool>,
    /// The scenarios' transpose: a row for each asset.
    by_asset: DenseMatrix,
}

impl<'a> CvarSearch<'a> {
    fn new(problem: &'a CvarProblem<'a>) -> Self {
        let scenarios = problem.scenarios;
        let assets = scenarios.columns();
        let limits = problem.limits;
        let covariance = sample_covariance(scenarios);
        let by_variance = AllocationProblem {
            covariance: &covariance,
            expected_returns: problem.expected_returns,
            risk_free_rate: 0.0,
            limits,
        };
        let aim = match problem.target_return {
            Some(target) => MeanVarianceAim::EfficientReturn(target),
            None => MeanVarianceAim::MinimumVariance,
        };
        let may_wait = |asset: usize| {
            let held = limits.turnover.as_ref().is_some_and(|turnover| turnover.current[asset] != 0.0);
            limits.lower[asset] == 0.0 && !held
        };
        let mut inside = likely_assets(&by_variance, aim);
        for (asset, inside) in inside.iter_mut().enumerate() {
            *inside |= assets <= JOINING_ASSETS || !may_wait(asset);
        }
        // The worst scenarios of the likely assets, three times as many as the tail has.
        let held: Vec<f64> = inside.iter().map(|inside| f64::from(u8::from(*inside))).collect();
        let totals = scenarios.times(&held);
        let mut order: Vec<usize> = (0..scenarios.rows()).collect();
        order.sort_by(|a, b| totals[*a].total_cmp(&totals[*b]));
        let tail = (1.0 - problem.confidence) * scenarios.rows() as f64;
        let mut counted = vec![false; scenarios.rows()];
        for row in order.into_iter().take((3.0 * tail).ceil() as usize + 20) {
            counted[row] = true;
        }
        let largest = scenarios.values().iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let by_asset = scenarios.transposed();
        Self { problem, largest: if largest > 0.0 { largest } else { 1.0 }, inside, counted, by_asset }
    }

    fn run(mut self) -> Result<CvarAllocation> {
        let mut iterations = 0;
        loop {
            if let Some(found) = self.step(&mut iterations)? {
                return Ok(found);
            }
        }
    }

    /// Solves for the working sets. `None` if they had to grow.
    fn step(&mut self, iterations: &mut u32) -> Result<Option<CvarAllocation>> {
        let CvarProblem { scenarios, limits, .. } = *self.problem;
        let assets = scenarios.columns();
        let set: Vec<usize> = (0..assets).filter(|asset| self.inside[*asset]).collect();
        let rows: Vec<usize> = (0..scenarios.rows()).filter(|row| self.counted[*row]).collect();
        let tail_price = 1.0 / (scenarios.rows() as f64 * (1.0 - self.problem.confidence));
        let mut program = ConicProgram::default();
        let first = program.add_variables(vec![0.0; set.len()]);
        let threshold = program.add_variables([1.0]);
        let excesses = program.add_variables(vec![tail_price; rows.len()]);
        // A scenario's excess is at least its loss beyond the threshold, and at least 0.
        let first_row = rows.iter().enumerate().fold(None, |found, (at, row)| {
            let returns = scenarios.row(*row);
            let mut entries: Vec<(usize, f64)> =
                set.iter().enumerate().map(|(to, asset)| (first + to, -returns[*asset] / self.largest)).collect();
            entries.extend([(threshold, -1.0), (excesses + at, -1.0)]);
            let place = program.add_inequality(entries, 0.0);
            program.add_inequality(vec![(excesses + at, -1.0)], 0.0);
            found.or(Some(place))
        });
        let own_row = self.target_row(&mut program, &set, first);
        let block = add_limits(&mut program, limits, set, first, None);
        let equalities = program.equalities();
        let answer = match program.solve() {
            Ok(answer) => answer,
            Err(_) if !self.is_whole() => {
                self.inside.fill(true);
                self.counted.fill(true);
                return Ok(None);
            }
            Err(failure) => return Err(self.refuse(failure)),
        };
        *iterations += answer.iterations;
        let weights = block.weights(&answer, assets);
        let edge = answer.values[threshold];
        let grew_rows = self.count_scenarios(&weights, edge);
        // An asset's gradient: what it would lose in the scenarios, by their prices.
        let mut costs = vec![0.0; assets];
        for (at, row) in rows.iter().enumerate() {
            let price = answer.multipliers[equalities + first_row.unwrap_or(0) + 2 * at];
            add_scaled(&mut costs, -price / self.largest, scenarios.row(*row));
        }
        if let (Some(row), Some(returns)) = (own_row, self.problem.expected_returns) {
            let price = answer.multipliers[equalities + row] / return_scale(returns);
            add_scaled(&mut costs, -price, returns);
        }
        let largest = costs.iter().fold(0.0_f64, |most, cost| most.max(cost.abs()));
        block.add_prices(&mut costs, limits, &answer, equalities);
        let improves = |asset: &usize| {
            !self.inside[*asset] && limits.upper[*asset] > 0.0 && costs[*asset] < -REDUCED_COST_TOLERANCE * largest
        };
        let mut joining: Vec<usize> = (0..assets).filter(improves).collect();
        joining.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]));
        joining.truncate(JOINING_ASSETS);
        for asset in &joining {
            self.inside[*asset] = true;
        }
        if grew_rows || !joining.is_empty() {
            return Ok(None);
        }
        let weights = limits.tidy(&weights);
        let (value_at_risk, cvar) = self.tail(&weights);
        let expected_return = self.problem.expected_returns.map(|returns| dot(returns, &weights));
        Ok(Some(CvarAllocation {
            weights,
            cvar,
            value_at_risk,
            expected_return,
            status: answer.status,
            iterations: *iterations,
            gap: answer.gap,
        }))
    }

    /// Adds the target's row and answers its place.
    fn target_row(&self, program: &mut ConicProgram, set: &[usize], first: usize) -> Option<usize> {
        let (target, returns) = (self.problem.target_return?, self.problem.expected_returns?);
        let scale = return_scale(returns);
        let entries = set.iter().enumerate().map(|(at, asset)| (first + at, -returns[*asset] / scale)).collect();
        Some(program.add_inequality(entries, -target / scale))
    }

    fn is_whole(&self) -> bool {
        self.inside.iter().all(|inside| *inside) && self.counted.iter().all(|counted| *counted)
    }

    /// Counts the scenarios that lose more than the threshold, the worst first; answers whether there were new ones.
    fn count_scenarios(&mut self, weights: &[f64], edge: f64) -> bool {
        let held: Vec<usize> = (0..weights.len()).filter(|at| weights[*at] != 0.0).collect();
        let amounts: Vec<f64> = held.iter().map(|at| weights[*at]).collect();
        let returns = self.by_asset.times_sparse(&held, &amounts);
        let excess = |row: usize| -returns[row] / self.largest - edge;
        let mut joining: Vec<usize> =
            (0..returns.len()).filter(|row| !self.counted[*row] && excess(*row) > EXCESS_TOLERANCE).collect();
        joining.sort_by(|a, b| excess(*b).total_cmp(&excess(*a)));
        joining.truncate(JOINING_SCENARIOS);
        for row in &joining {
            self.counted[*row] = true;
        }
        !joining.is_empty()
    }

    /// Value at risk and its conditional of some weights, over all scenarios: the least of threshold + mean excess by
    /// the tail's share is at the loss with that share of losses above it.
    fn tail(&self, weights: &[f64]) -> (f64, f64) {
        let mut losses: Vec<f64> = self.problem.scenarios.times(weights).iter().map(|value| -value).collect();
        losses.sort_by(|a, b| b.total_cmp(a));
        let size = losses.len() as f64 * (1.0 - self.problem.confidence);
        let place = ((size - 1e-9).ceil() as usize).clamp(1, losses.len()) - 1;
        let edge = losses[place];
        let excess: f64 = losses[..place].iter().map(|loss| loss - edge).sum();
        (edge, edge + excess / size)
    }

    fn refuse(&self, failure: ConicFailure) -> MathError {
        match self.problem.target_return {
            Some(target) => failure.refuse("target_return", || format!("no weights within the limits reach {target}")),
            None => {
                failure.refuse("limits", || "no weights satisfy the bounds, sectors and turnover together".to_owned())
            }
        }
    }
}

/// The largest absolute expected return; 1 if all are 0.
fn return_scale(returns: &[f64]) -> f64 {
    let largest = returns.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    if largest > 0.0 { largest } else { 1.0 }
}
