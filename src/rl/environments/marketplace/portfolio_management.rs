//! x
use serde::{Deserialize, Serialize};

use super::{Market, Parameters, feature, walk, within};
use crate::rl::FEATURES;

const EXPOSURES: usize = 6;
const REGIMES: usize = 3;
const VALUATIONS: usize = 5;
const VOLATILITIES: usize = 2;
const DRAWDOWNS: usize = 4;

/// Parameters of `portfolio_management`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortfolioManagement {
    pub drift: f64,
    pub premium: f64,
    pub volatility: f64,
    pub volatility_ratio: f64,
    pub volatility_change: f64,
    pub regime_change: f64,
    pub valuation_pull: f64,
    pub trading_cost: f64,
    pub redemption: f64,
    pub scale: f64,
    pub aversion: f64,
}

impl Default for PortfolioManagement {
    fn default() -> Self {
        Self {
            drift: 0.012,
            premium: 0.004,
            volatility: 0.008,
            volatility_ratio: 2.0,
            volatility_change: 0.1,
            regime_change: 0.12,
            valuation_pull: 0.003,
            trading_cost: 0.01,
            redemption: 0.02,
            scale: 100.0,
            aversion: 25.0,
        }
    }
}

impl Parameters for PortfolioManagement {
    fn validate(&self) -> Result<(), String> {
        within("drift", self.drift, 0.0, 0.2)
    }
}

pub(in super::super) struct Portfolio {
    parameters: PortfolioManagement,
}

impl Market<5> for Portfolio {
    type Parameters = PortfolioManagement;

    const NAME: &'static str = "portfolio_management";
    const SUMMARY: &'static str = "";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 5] = [EXPOSURES, REGIMES, VALUATIONS, VOLATILITIES, DRAWDOWNS];

    fn new(parameters: PortfolioManagement) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &PortfolioManagement {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..REGIMES).for_each(|regime| visit(1.0 / REGIMES as f64, [2, regime, VALUATIONS / 2, 0, 0]));
    }

    fn outcomes(
        &self,
        [old, regime, valuation, volatility, drawdown]: [usize; 5],
        action: usize,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let exposure = match action {
            0 => (old + 1).min(EXPOSURES - 1),
            1 => old.saturating_sub(1),
            2 => old,
            _ => [4, 2][volatility],
        };
        let weight = exposure as f64 / (EXPOSURES - 1) as f64;
        let traded = (exposure.abs_diff(old)) as f64 / (EXPOSURES - 1) as f64;
        let mean = p.premium + p.drift * (regime as f64 - 1.0) - p.valuation_pull * (valuation as f64 - 2.0);
        let deviation = p.volatility * if volatility == 1 { p.volatility_ratio } else { 1.0 };
        // Three points with this mean and deviation.
        for (jump, of_return) in [(-1.0, 0.25), (0.0, 0.5), (1.0, 0.25)] {
            let gain = weight * (mean + jump * 2f64.sqrt() * deviation);
            let mut reward = p.scale * ((1.0 + gain).ln() - p.trading_cost * traded - p.aversion * weight * weight * deviation * deviation);
            let (down, up) = if gain < 0.0 { (0.0, (-gain / 0.03).min(1.0)) } else { ((gain / 0.03).min(1.0), 0.0) };
            for (of_drawdown, deeper) in walk(drawdown, DRAWDOWNS, down, up) {
                if deeper == DRAWDOWNS - 1 && drawdown < DRAWDOWNS -1 {
                    reward -= p.scale * p.redemption;
                }
                let (low, high) = if jump < 0.0 { (0.3, 0.0) } else if jump > 0.0 { (0.0, 0.3) } else { (0.1, 0.1) };
                for (of_valuation, valuation) in walk(valuation, VALUATIONS, low, high) {
                    for (of_regime, regime) in walk(regime, REGIMES, p.regime_change, p.regime_change) {
                        for (of_volatility, volatility) in
                            walk(volatility, VOLATILITIES, p.volatility_change, p.volatility_change)
                        {
                            let probability = of_return * of_drawdown * of_valuation * of_regime * of_volatility;
                            visit(probability, [exposure, regime, valuation, volatility, deeper], reward);
                        }
                    }
                }
            }
        }
    }

    fn observe(&self, [exposure, regime, valuation, volatility, drawdown]: [usize; 5]) -> [f32; FEATURES.len()] {
        [
            feature(valuation, VALUATIONS),
            feature(volatility, VOLATILITIES),
            feature(regime, REGIMES),
            0.0,
            0.0,
            0.0,
            feature(drawdown, DRAWDOWNS),
            0.0,
            feature(exposure, EXPOSURES),
        ]
    }
}
