//! Optimisers of mean and variance (Markowitz 1952).

use crate::{
    allocation::{AllocationProblem, MeanVarianceAim, SolveStatus},
    conic::{ConicAnswer, ConicFailure, ConicProgram, WeightBlock, add_limits},
    error::{MathError, Result, positive},
    matrix::{DenseMatrix, dot, mean, semidefinite_factor},
    seed,
};

/// Assets that are solved for at once, without a working set.
const WHOLE_SET: usize = 40;
/// Assets that join a working set at a time.
const JOINING_ASSETS: usize = 40;
/// The reduced cost, relative to the gradient, below which an asset would improve the answer.
const REDUCED_COST_TOLERANCE: f64 = 1e-9;

/// Weights of the best portfolio, and how the search ended.
pub(crate) struct WeightSearch {
    pub(crate) weights: Vec<f64>,
    pub(crate) status: SolveStatus,
    pub(crate) iterations: u32,
    pub(crate) gap: f64,
}

/// One program over a working set: the variables, and where the multiplier of its own constraint is.
struct SetProgram {
    program: ConicProgram,
    block: WeightBlock,
    scale: Option<usize>,
    own_row: Option<usize>,
}

/// An aim with the numbers that keep the solver's values near 1.
pub(crate) struct MeanVariance<'a> {
    problem: &'a AllocationProblem<'a>,
    aim: MeanVarianceAim,
    returns: &'a [f64],
    /// The mean variance.
    variance: f64,
    /// The largest absolute (excess) return.
    largest_return: f64,
}

impl<'a> MeanVariance<'a> {
    /// Checks the aim's arguments.
    pub(crate) fn new(problem: &'a AllocationProblem<'a>, aim: MeanVarianceAim) -> Result<Self> {
        use MeanVarianceAim as Aim;
        let returns = if aim == Aim::MinimumVariance { &[] } else { problem.returns()? };
        match aim {
            Aim::EfficientReturn(target) if !target.is_finite() => {
                return Err(MathError::invalid("target_return", "is not finite"));
            }
            Aim::EfficientRisk(target) => positive("target_volatility", target)?,
            Aim::QuadraticUtility(aversion) => positive("risk_aversion", aversion)?,
            _ => {}
        }
        let risk_free = if aim == Aim::MaximumSharpe { problem.risk_free_rate } else { 0.0 };
        let largest = returns.iter().fold(0.0_f64, |most, value| most.max((value - risk_free).abs()));
        let variance = mean(&problem.covariance.diagonal());
        Ok(Self { problem, aim, returns, variance, largest_return: if largest > 0.0 { largest } else { 1.0 } })
    }

    /// Excess return of an asset, or its return where the aim knows no risk-free rate, relative to the largest.
    fn reward(&self, asset: usize) -> f64 {
        let risk_free = if self.aim == MeanVarianceAim::MaximumSharpe { self.problem.risk_free_rate } else { 0.0 };
        (self.returns[asset] - risk_free) / self.largest_return
    }

    /// The linear cost of an asset's weight.
    fn cost(&self, asset: usize) -> f64 {
        match self.aim {
            MeanVarianceAim::QuadraticUtility(aversion) => -self.returns[asset] / (aversion * self.variance),
            MeanVarianceAim::EfficientRisk(_) | MeanVarianceAim::MaximumReturn => -self.reward(asset),
            _ => 0.0,
        }
    }

    fn has_quadratic(&self) -> bool {
        !matches!(self.aim, MeanVarianceAim::EfficientRisk(_) | MeanVarianceAim::MaximumReturn)
    }

    fn program(&self, set: Vec<usize>) -> Result<SetProgram> {
        use MeanVarianceAim as Aim;
        let mut program = ConicProgram::default();
        let size = set.len();
        let first = program.add_variables(set.iter().map(|asset| self.cost(*asset)));
        if self.has_quadratic() {
            for (column, asset) in set.iter().enumerate() {
                let row_of = self.problem.covariance.row(*asset);
                for (row, other) in set[..=column].iter().enumerate() {
                    program.add_quadratic(first + row, first + column, row_of[*other] / self.variance);
                }
            }
        }
        let scale = (self.aim == Aim::MaximumSharpe).then(|| program.add_variables([0.0]));
        let block = add_limits(&mut program, self.problem.limits, set, first, scale);
        let rewards = |sign: f64| -> Vec<(usize, f64)> {
            block.set.iter().enumerate().map(|(at, asset)| (first + at, sign * self.reward(*asset))).collect()
        };
        let own_row = match self.aim {
            Aim::EfficientReturn(target) => Some(program.add_inequality(rewards(-1.0), -target / self.largest_return)),
            Aim::MaximumSharpe => Some(program.add_equality(rewards(1.0), 1.0)),
            Aim::EfficientRisk(target) => {
                let covariance = self.problem.covariance;
                let part =
                    DenseMatrix::filled(size, size, |row, column| covariance.get(block.set[row], block.set[column]));
                let factor = semidefinite_factor(&part, "covariance")?;
                let row =
                    |at| factor.row(at).iter().enumerate().map(|(to, value)| (first + to, value / target)).collect();
                program.add_norm((0..factor.rows()).map(row).collect(), 1.0);
                None
            }
            _ => None,
        };
        if let Some(scale) = scale {
            program.add_inequality(vec![(scale, -1.0)], 0.0);
        }
        Ok(SetProgram { program, block, scale, own_row })
    }

    /// The gradient of the objective, with the price of the aim's own constraint, at unscaled weights.
    fn gradient(&self, weights: &[f64], answer: &ConicAnswer, place: &Places) -> Vec<f64> {
        use MeanVarianceAim as Aim;
        let held: Vec<usize> = (0..weights.len()).filter(|at| weights[*at] != 0.0).collect();
        let amounts: Vec<f64> = held.iter().map(|at| weights[*at]).collect();
        let slopes = self.problem.covariance.times_sparse(&held, &amounts);
        let risk_price = match self.aim {
            // The multiplier of the cone's first row; the norm's gradient is the slope by the target's square.
            Aim::EfficientRisk(target) => answer.multipliers[place.cones] / (target * target),
            Aim::MaximumReturn => 0.0,
            _ => 1.0 / self.variance,
        };
        let reward_price = match (self.aim, place.own_row) {
            (Aim::EfficientReturn(_), Some(row)) => -answer.multipliers[place.equalities + row],
            (Aim::MaximumSharpe, Some(row)) => answer.multipliers[row],
            _ => 0.0,
        };
        let gradient = |asset: usize| {
            let reward = if reward_price == 0.0 { 0.0 } else { reward_price * self.reward(asset) };
            risk_price * slopes[asset] + self.cost(asset) + reward
        };
        (0..weights.len()).map(gradient).collect()
    }

    /// Solves over growing working sets until no asset outside would improve the answer.
    fn search(&self) -> std::result::Result<WeightSearch, SearchFailure> {
        let limits = self.problem.limits;
        let assets = self.problem.assets();
        let may_wait = |asset: &usize| {
            let held = limits.turnover.as_ref().is_some_and(|turnover| turnover.current[*asset] != 0.0);
            limits.lower[*asset] == 0.0 && !held
        };
        let mut inside = vec![true; assets];
        if assets > WHOLE_SET {
            let seeds = seed::likely_assets(self.problem, self.aim);
            inside = (0..assets).map(|asset| seeds[asset] || !may_wait(&asset)).collect();
        }
        self.search_from(inside)
    }

    /// Solves over a working set that grows from `inside`.
    fn search_from(&self, mut inside: Vec<bool>) -> std::result::Result<WeightSearch, SearchFailure> {
        let limits = self.problem.limits;
        let assets = self.problem.assets();
        let mut iterations = 0;
        loop {
            let set: Vec<usize> = (0..assets).filter(|asset| inside[*asset]).collect();
            let whole = set.len() == assets;
            let SetProgram { program, block, scale, own_row } = self.program(set).map_err(SearchFailure::Refused)?;
            let place = Places { own_row, equalities: program.equalities(), cones: program.rows_before_cones() };
            let answer = match program.solve() {
                Ok(answer) => answer,
                Err(_) if !whole => {
                    inside = vec![true; assets];
                    continue;
                }
                Err(failure) => return Err(SearchFailure::Conic(failure)),
            };
            iterations += answer.iterations;
            let scaled = block.weights(&answer, assets);
            let mut costs = self.gradient(&scaled, &answer, &place);
            let largest = costs.iter().fold(0.0_f64, |most, cost| most.max(cost.abs()));
            block.add_prices(&mut costs, limits, &answer, place.equalities);
            let improves = |asset: &usize| {
                !inside[*asset] && limits.upper[*asset] > 0.0 && costs[*asset] < -REDUCED_COST_TOLERANCE * largest
            };
            let mut joining: Vec<usize> = (0..assets).filter(improves).collect();
            if joining.is_empty() {
                let factor = scale.map_or(1.0, |scale| answer.values[scale]);
                if factor <= 0.0 {
                    let reason = "the weights grow without bound".to_owned();
                    return Err(SearchFailure::Conic(ConicFailure::Stopped(reason)));
                }
                let weights: Vec<f64> = scaled.iter().map(|value| value / factor).collect();
                let weights = limits.tidy(&weights);
                return Ok(WeightSearch { weights, status: answer.status, iterations, gap: answer.gap });
            }
            joining.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]));
            for asset in joining.into_iter().take(JOINING_ASSETS) {
                inside[asset] = true;
            }
        }
    }
}

/// Where a program's multipliers are.
struct Places {
    own_row: Option<usize>,
    equalities: usize,
    cones: usize,
}

/// Why a search found nothing.
pub(crate) enum SearchFailure {
    /// An argument is at fault.
    Refused(MathError),
    /// The solver found nothing.
    Conic(ConicFailure),
}

/// The weights of an aim. If none satisfy the limits, or the target with them, the error says what could be reached.
pub(crate) fn search(problem: &AllocationProblem<'_>, aim: MeanVarianceAim) -> Result<WeightSearch> {
    match MeanVariance::new(problem, aim)?.search() {
        Ok(found) => Ok(found),
        Err(SearchFailure::Refused(error)) => Err(error),
        Err(SearchFailure::Conic(failure @ ConicFailure::Stopped(_))) => Err(failure.refuse("objective", String::new)),
        Err(SearchFailure::Conic(failure)) => {
            let (argument, reason) = unreachable_target(problem, aim)?;
            Err(failure.refuse(argument, || reason))
        }
    }
}

/// Which target can't be met, and what can. Fails if the limits can't be met without a target.
fn unreachable_target(problem: &AllocationProblem<'_>, aim: MeanVarianceAim) -> Result<(&'static str, String)> {
    use MeanVarianceAim as Aim;
    let limits = "no weights satisfy the bounds, sectors and turnover together";
    Ok(match aim {
        Aim::EfficientReturn(target) => {
            let best = search(problem, Aim::MaximumReturn)?;
            let most = dot(problem.returns()?, &best.weights);
            ("target_return", format!("{target} is above the highest return that the limits allow, {most}"))
        }
        Aim::EfficientRisk(target) => {
            let safest = search(problem, Aim::MinimumVariance)?;
            let least = problem.variance(&safest.weights).max(0.0).sqrt();
            ("target_volatility", format!("{target} is below the least volatility that the limits allow, {least}"))
        }
        Aim::MaximumSharpe => {
            search(problem, Aim::MinimumVariance)?;
            ("risk_free_rate", "no weights that the limits allow have an expected return above it".to_owned())
        }
        Aim::MinimumVariance | Aim::QuadraticUtility(_) | Aim::MaximumReturn => ("limits", limits.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::{MeanVariance, MeanVarianceAim as Aim, seed};
    use crate::{
        AllocationLimits, AllocationProblem, CovarianceMethod, SectorLimit, TurnoverLimit, estimate_covariance,
        mean_historical_return, tests::market,
    };

    #[test]
    fn working_sets_end_with_what_all_assets_give() {
        let assets = 90;
        let returns = market(11, 150, assets);
        let covariance = estimate_covariance(&returns, &CovarianceMethod::LedoitWolf, 252.0).unwrap().matrix;
        let expected = mean_historical_return(&returns, 252.0, false).unwrap();
        let members: Vec<usize> = (0..assets).filter(|at| at % 5 == 0).collect();
        let sectors = vec![SectorLimit { name: "fifth".to_owned(), assets: members, least: 0.3, most: 0.35 }];
        let current = (0..assets).map(|at| if at < 10 { 0.1 } else { 0.0 }).collect();
        let open = AllocationLimits::long_only(assets);
        let narrow = AllocationLimits { sectors, ..AllocationLimits::between(assets, 0.0, 0.06) };
        let slow = AllocationLimits { turnover: Some(TurnoverLimit { current, most: 0.9 }), ..open.clone() };
        for limits in [open, narrow, slow] {
            let problem = AllocationProblem {
                covariance: &covariance,
                expected_returns: Some(&expected),
                risk_free_rate: 0.01,
                limits: &limits,
            };
            let aims = [
                Aim::MinimumVariance,
                Aim::EfficientReturn(0.12),
                Aim::EfficientRisk(0.17),
                Aim::QuadraticUtility(4.0),
                Aim::MaximumSharpe,
            ];
            for aim in aims {
                let program = MeanVariance::new(&problem, aim).unwrap();
                let answer = |inside| program.search_from(inside).unwrap_or_else(|_| panic!("{aim:?}")).weights;
                let whole = answer(vec![true; assets]);
                // From a guess, and from nearly nothing: the ten assets that are held.
                let few = (0..assets).map(|at| at < 10).collect();
                for inside in [seed::likely_assets(&problem, aim), few] {
                    let inside: Vec<bool> = inside.iter().enumerate().map(|(at, inside)| *inside || at < 10).collect();
                    assert!(!inside.iter().all(|inside| *inside));
                    for (at, (found, wanted)) in answer(inside).iter().zip(&whole).enumerate() {
                        assert!((found - wanted).abs() < 1e-5, "{aim:?}, {at}: {found}, not {wanted}");
                    }
                }
            }
        }
    }
}
