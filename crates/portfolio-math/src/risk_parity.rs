//! Portfolios whose assets contribute to risk in given proportions.

use clarabel::solver::ExponentialConeT;

use crate::{
    allocation::{Allocation, AllocationProblem, SolveStatus},
    conic::{ConicProgram, add_limits},
    error::{MathError, Result, finite, length},
    matrix::{dot, mean},
};

/// Passes over all assets at most; a few dozen suffice unless assets are nearly the same.
const SWEEPS: u32 = 5_000;
/// The largest difference between an asset's part of the risk and its budget that counts as none.
const BUDGET_TOLERANCE: f64 = 1e-11;

/// Equal risk contributions, or in proportion to budgets: the minimum of x'Σx / 2 - Σ b ln x, scaled to sum 1 (Spinu
/// 2013), by cyclical coordinate descent (Griveau-Billion, Richard and Roncalli 2013). Where its answer breaks a limit,
/// the same is minimised under the limits, as a program with exponential cones; contributions then differ from their
/// budgets by what the limits force (Richard and Roncalli 2019).
pub(crate) fn risk_parity(problem: &AllocationProblem<'_>, budgets: Option<&[f64]>) -> Result<Allocation> {
    let budgets = checked_budgets(problem, budgets)?;
    let limits = problem.limits;
    let found = descend(problem, &budgets)?;
    let total: f64 = found.amounts.iter().sum();
    let weights: Vec<f64> = found.amounts.iter().map(|amount| amount / total).collect();
    if limits.allow(&weights) {
        return Ok(problem.answer(weights, SolveStatus::Optimal, found.sweeps, found.gap));
    }
    limited(problem, &budgets)
}

fn checked_budgets(problem: &AllocationProblem<'_>, budgets: Option<&[f64]>) -> Result<Vec<f64>> {
    let assets = problem.assets();
    if let Some(at) = problem.limits.upper.iter().position(|upper| *upper <= 0.0) {
        return Err(MathError::invalid(
            "upper",
            format!("risk parity holds each asset, and asset {at} may not be held"),
        ));
    }
    if let Some(at) = problem.covariance.diagonal().iter().position(|variance| *variance <= 0.0) {
        return Err(MathError::invalid("covariance", format!("asset {at} has no variance, so it can't have risk")));
    }
    let budgets = budgets.map_or_else(|| vec![1.0; assets], <[f64]>::to_vec);
    length("budgets", assets, budgets.len())?;
    finite("budgets", &budgets)?;
    if let Some(at) = budgets.iter().position(|budget| *budget <= 0.0) {
        return Err(MathError::invalid("budgets", format!("the budget of asset {at} is not above 0")));
    }
    let total: f64 = budgets.iter().sum();
    Ok(budgets.iter().map(|budget| budget / total).collect())
}

/// Amounts whose risk contributions are the budgets.
struct BudgetedAmounts {
    amounts: Vec<f64>,
    sweeps: u32,
    gap: f64,
}

fn descend(problem: &AllocationProblem<'_>, budgets: &[f64]) -> Result<BudgetedAmounts> {
    let covariance = problem.covariance;
    let scale = mean(&covariance.diagonal());
    let variances: Vec<f64> = covariance.diagonal().iter().map(|variance| variance / scale).collect();
    let mut amounts: Vec<f64> =
        budgets.iter().zip(&variances).map(|(budget, variance)| (budget / variance).sqrt()).collect();
    let mut gap = f64::INFINITY;
    for sweep in 1..=SWEEPS {
        for at in 0..amounts.len() {
            let others = dot(covariance.row(at), &amounts) / scale - variances[at] * amounts[at];
            let root = (others * others + 4.0 * variances[at] * budgets[at]).sqrt();
            // The same root in the form that does not cancel.
            amounts[at] = if others > 0.0 {
                2.0 * budgets[at] / (others + root)
            } else {
                (root - others) / (2.0 * variances[at])
            };
        }
        let slopes = covariance.times(&amounts);
        let parts: Vec<f64> = slopes.iter().zip(&amounts).map(|(slope, amount)| slope * amount / scale).collect();
        let total: f64 = parts.iter().sum();
        gap = parts.iter().zip(budgets).fold(0.0_f64, |most, (part, budget)| most.max((part / total - budget).abs()));
        if gap < BUDGET_TOLERANCE {
            return Ok(BudgetedAmounts { amounts, sweeps: sweep, gap });
        }
        if !total.is_finite() {
            break;
        }
    }
    Err(MathError::NotSolved { reason: format!("risk contributions differ from their budgets by {gap}") })
}

fn limited(problem: &AllocationProblem<'_>, budgets: &[f64]) -> Result<Allocation> {
    let assets = problem.assets();
    let scale = mean(&problem.covariance.diagonal());
    let mut program = ConicProgram::default();
    let first = program.add_variables(vec![0.0; assets]);
    for column in 0..assets {
        for row in 0..=column {
            program.add_quadratic(first + row, first + column, problem.covariance.get(row, column) / scale);
        }
    }
    let logs = program.add_variables(budgets.iter().map(|budget| -budget));
    let total = program.add_variables([0.0]);
    let block = add_limits(&mut program, problem.limits, (0..assets).collect(), first, Some(total));
    for at in 0..assets {
        // The triple (log, 1, amount): e to the log is at most the amount.
        let rows = vec![(vec![(logs + at, -1.0)], 0.0), (Vec::new(), 1.0), (vec![(first + at, -1.0)], 0.0)];
        program.add_cone(rows, ExponentialConeT());
    }
    let answer = program.solve().map_err(|failure| {
        failure.refuse("limits", || "no weights above 0 satisfy the bounds, sectors and turnover together".to_owned())
    })?;
    let scaled = block.weights(&answer, assets);
    let sum: f64 = scaled.iter().sum();
    let weights: Vec<f64> = scaled.iter().map(|amount| amount / sum).collect();
    let weights = problem.limits.tidy(&weights);
    Ok(problem.answer(weights, answer.status, answer.iterations, answer.gap))
}
