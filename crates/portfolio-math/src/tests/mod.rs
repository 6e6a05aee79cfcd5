//! Tests across modules: against figures of other implementations, and of what must hold for any input.

mod backtests;
mod properties;
mod reference;
mod refusals;

use serde_json::Value;

use crate::{AllocationLimits, AllocationObjective, AllocationProblem, DenseMatrix};

/// Numbers of a fixture.
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// A matrix of a fixture, row by row.
fn matrix(value: &Value) -> DenseMatrix {
    DenseMatrix::from_rows(&value.as_array().unwrap().iter().map(numbers).collect::<Vec<_>>()).unwrap()
}

#[track_caller]
fn close(what: &str, found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= tolerance * wanted.abs().max(1.0), "{what}, {at}: {found}, not {wanted}");
    }
}

/// Returns with a market, sectors and noise of their own, from a seed.
pub(crate) fn market(seed: u64, periods: usize, assets: usize) -> DenseMatrix {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut normal = move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let loads: Vec<(f64, f64, f64)> =
        (0..assets).map(|_| (1.0 + 0.3 * normal(), 0.01 + 0.003 * normal().abs(), 0.0003 * normal())).collect();
    let rows: Vec<Vec<f64>> = (0..periods)
        .map(|_| {
            let common = 0.0004 + 0.009 * normal();
            let sectors: Vec<f64> = (0..5).map(|_| 0.005 * normal()).collect();
            let of_asset = |(at, (load, own, drift)): (usize, &(f64, f64, f64))| {
                load * common + sectors[at % 5] + own * normal() + drift
            };
            loads.iter().enumerate().map(of_asset).collect()
        })
        .collect();
    DenseMatrix::from_rows(&rows).unwrap()
}

/// All objectives that search for weights by mean and variance.
fn objectives(target_return: f64, target_volatility: f64) -> [AllocationObjective; 6] {
    [
        AllocationObjective::MinimumVariance,
        AllocationObjective::MaximumSharpe,
        AllocationObjective::EfficientReturn { target_return },
        AllocationObjective::EfficientRisk { target_volatility },
        AllocationObjective::QuadraticUtility { risk_aversion: 3.0 },
        AllocationObjective::RiskParity { budgets: None },
    ]
}

fn problem<'a>(
    covariance: &'a DenseMatrix,
    expected_returns: &'a [f64],
    limits: &'a AllocationLimits,
) -> AllocationProblem<'a> {
    AllocationProblem { covariance, expected_returns: Some(expected_returns), risk_free_rate: 0.02, limits }
}
