//! The optimisers behind one function, and the efficient frontier.

use crate::{
    allocation::{Allocation, AllocationObjective, AllocationProblem, MeanVarianceAim},
    error::{MathError, Result},
    matrix::dot,
    mean_variance::search,
    risk_parity::risk_parity,
};

/// Points of a frontier at most.
const FRONTIER_POINTS: usize = 100;

/// The weights that are best by the objective. Fails if an argument is outside its range, expected returns are missing
/// where the objective needs them, no weights satisfy the limits and the target, or the solver finds none.
pub fn optimise(problem: &AllocationProblem<'_>, objective: &AllocationObjective) -> Result<Allocation> {
    problem.check()?;
    let aim = match objective {
        AllocationObjective::RiskParity { budgets } => return risk_parity(problem, budgets.as_deref()),
        AllocationObjective::MinimumVariance => MeanVarianceAim::MinimumVariance,
        AllocationObjective::MaximumSharpe => MeanVarianceAim::MaximumSharpe,
        AllocationObjective::EfficientReturn { target_return } => MeanVarianceAim::EfficientReturn(*target_return),
        AllocationObjective::EfficientRisk { target_volatility } => MeanVarianceAim::EfficientRisk(*target_volatility),
        AllocationObjective::QuadraticUtility { risk_aversion } => MeanVarianceAim::QuadraticUtility(*risk_aversion),
    };
    answer(problem, aim)
}

fn answer(problem: &AllocationProblem<'_>, aim: MeanVarianceAim) -> Result<Allocation> {
    let found = search(problem, aim)?;
    Ok(problem.answer(found.weights, found.status, found.iterations, found.gap))
}

/// The efficient frontier: portfolios of least variance at returns in equal steps, from that of the least variance of
/// all to the highest that the limits allow. `points` is from 2 to 100. Fails as `optimise` does.
pub fn efficient_frontier(problem: &AllocationProblem<'_>, points: usize) -> Result<Vec<Allocation>> {
    problem.check()?;
    let returns = problem.returns()?;
    if !(2..=FRONTIER_POINTS).contains(&points) {
        return Err(MathError::invalid("points", format!("{points} is not from 2 to {FRONTIER_POINTS}")));
    }
    let safest = answer(problem, MeanVarianceAim::MinimumVariance)?;
    let best = search(problem, MeanVarianceAim::MaximumReturn)?;
    let least = dot(returns, &safest.weights);
    // Of several portfolios with the highest return, the one of least variance; a hair below it, so that there is room.
    let most = dot(returns, &best.weights);
    let most = most - 1e-8 * (most - least).abs();
    let mut frontier = vec![safest];
    for at in 1..points {
        let target = least + (most - least) * at as f64 / (points - 1) as f64;
        frontier.push(answer(problem, MeanVarianceAim::EfficientReturn(target))?);
    }
    Ok(frontier)
}
