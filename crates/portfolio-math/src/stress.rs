//! What given shocks do to a portfolio.

use crate::error::{MathError, Result, at_least, finite, length};

/// A shock to each asset.
#[derive(Debug, Clone, PartialEq)]
pub struct StressScenario {
    /// The name, which the outcome repeats.
    pub name: String,
    /// The return of each asset, -1 or above.
    pub shocks: Vec<f64>,
}

/// A portfolio after a shock.
#[derive(Debug, Clone, PartialEq)]
pub struct StressOutcome {
    /// The scenario's name.
    pub name: String,
    /// The portfolio's return: the sum of the contributions.
    pub portfolio_return: f64,
    /// Each asset's weight times its shock.
    pub contributions: Vec<f64>,
}

/// The portfolio's return in each scenario. Fails if a scenario has not a shock for each weight, or one below -1.
pub fn stress_test(weights: &[f64], scenarios: &[StressScenario]) -> Result<Vec<StressOutcome>> {
    at_least("weights", 1, weights.len())?;
    finite("weights", weights)?;
    scenarios.iter().map(|scenario| outcome(weights, scenario)).collect()
}

fn outcome(weights: &[f64], scenario: &StressScenario) -> Result<StressOutcome> {
    length("shocks", weights.len(), scenario.shocks.len())?;
    finite("shocks", &scenario.shocks)?;
    if let Some(at) = scenario.shocks.iter().position(|shock| *shock < -1.0) {
        return Err(MathError::invalid("shocks", format!("the shock at {at} is below -1")));
    }
    let contributions: Vec<f64> = weights.iter().zip(&scenario.shocks).map(|(weight, shock)| weight * shock).collect();
    Ok(StressOutcome { name: scenario.name.clone(), portfolio_return: contributions.iter().sum(), contributions })
}
