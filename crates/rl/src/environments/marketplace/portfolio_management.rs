//! portfolio_management: how much of a portfolio to hold in a risky asset.
//!
//! In a step the asset returns its mean or that plus or minus `sqrt(2)` deviations (with probabilities 1/2, 1/4 and 1/4, so
//! that the deviation is right), where
//!
//! `mean = premium + drift x (-1, 0 or 1 by regime) - valuation_pull x (valuation - 2)`
//!
//! and the deviation is `volatility`, `volatility_ratio` times that in rough times. The portfolio gains `w x return`, `w`
//! being the asset's weight after this step's trade. A move of the asset drags its valuation along; a loss of the
//! portfolio deepens its drawdown by a degree and a gain mends one, with a probability of its size in `DEGREE`. Regime
//! and volatility walk. The reward, in percent, is
//!
//! `ln(1 + gain) - trading_cost x weight traded - aversion x (w x deviation)^2`,
//!
//! less `redemption` when the drawdown reaches its deepest degree and investors leave.

use super::{Market, Move, parameters::parameters, walk};

/// Weights of the asset, in fifths, from none.
const EXPOSURES: usize = 6;
/// The market's regime: falling, flat, rising.
const REGIMES: usize = 3;
const FLAT: usize = 1;
/// How dear the asset is.
const VALUATIONS: usize = 5;
const FAIR: usize = VALUATIONS / 2;
/// Calm or rough.
const VOLATILITIES: usize = 2;
/// Degrees of drawdown, from none.
const DRAWDOWNS: usize = 4;
const DEEPEST: usize = DRAWDOWNS - 1;
/// The exposure at the start.
const FIRST: usize = 2;
/// The exposures of the volatility target, in calm and in rough times.
const TARGETS: [usize; VOLATILITIES] = [4, 2];
/// The asset's moves, in `sqrt(2)` deviations from the mean: the move, its probability, and how probably the valuation
/// then goes a degree down and up.
const MOVES: [(f64, f64, f64, f64); 3] = [(-1.0, 0.25, 0.3, 0.0), (0.0, 0.5, 0.1, 0.1), (1.0, 0.25, 0.0, 0.3)];
/// The loss or gain that surely changes the drawdown by a degree.
const DEGREE: f64 = 0.03;
/// Rewards are in percent.
const PERCENT: f64 = 100.0;

parameters! {
    /// Parameters of `portfolio_management`.
    PortfolioManagement {
        /// By how much the mean return of a step is higher in a rising market than in a flat one, and lower in a falling.
        drift: 0.012, 0.0 to 0.1;
        /// The mean return of a step in a flat market, of an asset that is neither cheap nor dear.
        premium: 0.004, -0.05 to 0.05;
        /// The standard deviation of a step's return in calm times.
        volatility: 0.008, 0.0 to 0.1;
        /// How many times that it is in rough times.
        volatility_ratio: 2.0, 1.0 to 3.0;
        /// The probability of a step that times turn rough, or calm again.
        volatility_change: 0.1, 0.01 to 1.0;
        /// The probability of a step that the regime changes to the next on one side, and the same on the other.
        regime_change: 0.12, 0.01 to 0.5;
        /// By how much each degree of dearness lowers the mean return.
        valuation_pull: 0.003, 0.0 to 0.02;
        /// What trading the whole portfolio costs, as a share of it.
        trading_cost: 0.01, 0.0 to 0.1;
        /// What is lost, as a logarithm, when the drawdown gets to its deepest.
        redemption: 0.02, 0.0 to 1.0;
        /// What a step's variance of the portfolio costs: the investors' aversion to risk.
        aversion: 25.0, 0.0 to 1000.0;
    }
}

pub(in super::super) struct Portfolio {
    parameters: PortfolioManagement,
}

impl Portfolio {
    /// Of the asset's return in a step: the mean and the standard deviation.
    fn moments(&self, regime: usize, valuation: usize, volatility: usize) -> (f64, f64) {
        let p = &self.parameters;
        let (regime, dear) = (regime as f64 - FLAT as f64, valuation as f64 - FAIR as f64);
        let mean = p.premium + p.drift * regime - p.valuation_pull * dear;
        (mean, p.volatility * if volatility == 0 { 1.0 } else { p.volatility_ratio })
    }
}

/// A number of exposures as a weight.
fn weight(exposures: usize) -> f64 {
    exposures as f64 / (EXPOSURES - 1) as f64
}

/// The degrees of drawdown that a gain of this size may lead to.
fn drawdowns(drawdown: usize, gain: f64) -> [(f64, usize); 3] {
    let likely = (gain.abs() / DEGREE).min(1.0);
    let (mended, deeper) = if gain < 0.0 { (0.0, likely) } else { (likely, 0.0) };
    walk(drawdown, DRAWDOWNS, mended, deeper)
}

impl Market<5> for Portfolio {
    type Parameters = PortfolioManagement;

    const NAME: &'static str = "portfolio_management";
    const SUMMARY: &'static str = "A portfolio is split between cash and a risky asset whose mean return depends on the \
        market's regime and on how dear it is, and whose volatility changes. increase and decrease move a fifth of the \
        portfolio into and out of the asset, maintain trades nothing, dynamic goes to the weight of a volatility target \
        (four fifths in calm, two in rough times). The reward is the logarithm of growth less trading costs, a charge \
        for variance, and a loss when the drawdown gets so deep that investors leave, in percent.";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 5] = [EXPOSURES, REGIMES, VALUATIONS, VOLATILITIES, DRAWDOWNS];
    const SHOWN: [(&'static str, &'static str); 5] = [
        ("position", "fifths of the portfolio in the asset"),
        ("demand", "the regime: falling, flat, rising"),
        ("price", "how dear the asset is"),
        ("volume", "calm or rough"),
        ("resources", "degrees of drawdown"),
    ];

    fn new(parameters: PortfolioManagement) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &PortfolioManagement {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..REGIMES).for_each(|regime| visit(1.0 / REGIMES as f64, [FIRST, regime, FAIR, 0, 0]));
    }

    fn outcomes(
        &self,
        [old, regime, valuation, volatility, drawdown]: [usize; 5],
        action: Move,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let exposure = match action {
            Move::Increase => (old + 1).min(EXPOSURES - 1),
            Move::Decrease => old.saturating_sub(1),
            Move::Maintain => old,
            Move::Dynamic => TARGETS[volatility],
        };
        let (mean, deviation) = self.moments(regime, valuation, volatility);
        let risk = weight(exposure) * deviation;
        let charged = p.trading_cost * weight(exposure.abs_diff(old)) + p.aversion * risk * risk;
        for (jump, of_move, down, up) in MOVES {
            let gain = weight(exposure) * (mean + jump * std::f64::consts::SQRT_2 * deviation);
            for (of_drawdown, deep) in drawdowns(drawdown, gain) {
                let left = if deep == DEEPEST && drawdown < DEEPEST { p.redemption } else { 0.0 };
                let reward = PERCENT * (gain.ln_1p() - charged - left);
                for (of_valuation, valuation) in walk(valuation, VALUATIONS, down, up) {
                    for (of_regime, regime) in walk(regime, REGIMES, p.regime_change, p.regime_change) {
                        let change = p.volatility_change;
                        for (of_volatility, volatility) in walk(volatility, VOLATILITIES, change, change) {
                            let probability = of_move * of_drawdown * of_valuation * of_regime * of_volatility;
                            visit(probability, [exposure, regime, valuation, volatility, deep], reward);
                        }
                    }
                }
            }
        }
    }
}
