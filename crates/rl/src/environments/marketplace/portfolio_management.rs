//! `portfolio_management`: the share of a portfolio that is held in a risky asset.
//!
//! In a step the asset returns its mean, or the mean plus or minus `sqrt(2)` standard deviations (probabilities 1/2,
//! 1/4 and 1/4, which gives the right deviation), where
//!
//! `mean = premium + drift x (-1, 0 or 1 by regime) - valuation_pull x (valuation - 2)`
//!
//! and the deviation is `volatility`, or `volatility_ratio` times that in turbulent periods. The portfolio gains `w x
//! return`, `w` being the asset's weight after this step's trade. A move of the asset changes its valuation; a loss
//! deepens the drawdown by a level and a gain reduces it by one, each with a probability proportional to its size
//! (certain at `DRAWDOWN_STEP`). Regime and volatility follow walks. The reward, in percent, is
//!
//! `ln(1 + gain) - trading_cost x weight traded - aversion x (w x deviation)^2`,
//!
//! minus `redemption` when the drawdown reaches its deepest level and investors withdraw.

use super::{
    MARKET_ACTIONS, MarketAction, MarketModel, parameters::market_parameters, scale_feature, walk_transitions,
};
use crate::FEATURE_NAMES;

/// Number of exposure levels: weights of the asset in fifths, from 0.
const EXPOSURE_LEVELS: usize = 6;
/// Number of market regimes: falling, flat, rising.
const REGIME_COUNT: usize = 3;
const FLAT_REGIME: usize = 1;
/// Number of valuation levels of the asset, from cheap to expensive.
const VALUATION_LEVELS: usize = 5;
const FAIR_VALUATION: usize = VALUATION_LEVELS / 2;
/// Number of volatility levels: calm, turbulent.
const VOLATILITY_LEVELS: usize = 2;
/// Number of drawdown levels, from none.
const DRAWDOWN_LEVELS: usize = 4;
const DEEPEST_DRAWDOWN: usize = DRAWDOWN_LEVELS - 1;
/// Exposure at the start of an episode.
const INITIAL_EXPOSURE: usize = 2;
/// Exposures of the volatility-target action, in calm and in turbulent periods.
const TARGET_EXPOSURES: [usize; VOLATILITY_LEVELS] = [4, 2];
/// Moves of the asset: size in `sqrt(2)` deviations from the mean, probability, and the probabilities that the
/// valuation then goes down and up a level.
const RETURN_MOVES: [(f64, f64, f64, f64); 3] = [(-1.0, 0.25, 0.3, 0.0), (0.0, 0.5, 0.1, 0.1), (1.0, 0.25, 0.0, 0.3)];
/// Loss or gain that certainly changes the drawdown by a level.
const DRAWDOWN_STEP: f64 = 0.03;
/// Factor that expresses rewards in percent.
const PERCENT: f64 = 100.0;

market_parameters! {
    /// Parameters of `portfolio_management`.
    PortfolioManagement {
        /// Difference of the mean return per step between a rising and a flat market; a falling market has minus that.
        drift: 0.012, 0.0 to 0.1;
        /// Mean return per step in a flat market, for an asset that is fairly valued.
        premium: 0.004, -0.05 to 0.05;
        /// Standard deviation of the return per step in calm periods.
        volatility: 0.008, 0.0 to 0.1;
        /// Ratio of the standard deviation in turbulent periods to that in calm ones.
        volatility_ratio: 2.0, 1.0 to 3.0;
        /// Probability per step that the volatility changes to the other level.
        volatility_change: 0.1, 0.01 to 1.0;
        /// Probability per step that the regime moves to the next on one side; the same on the other.
        regime_change: 0.12, 0.01 to 0.5;
        /// Decrease of the mean return for each level of valuation above fair.
        valuation_pull: 0.003, 0.0 to 0.02;
        /// Cost of trading the whole portfolio, as a share of it.
        trading_cost: 0.01, 0.0 to 0.1;
        /// Loss, as a logarithm, when the drawdown reaches its deepest level.
        redemption: 0.02, 0.0 to 1.0;
        /// Cost of the portfolio's variance per step: the investors' risk aversion.
        aversion: 25.0, 0.0 to 1000.0;
    }
}

pub(in super::super) struct PortfolioMarket {
    parameters: PortfolioManagement,
}

impl PortfolioMarket {
    /// Mean and standard deviation of the asset's return in a step.
    fn moments(&self, regime: usize, valuation: usize, volatility: usize) -> (f64, f64) {
        let p = &self.parameters;
        let (regime, dear) = (regime as f64 - FLAT_REGIME as f64, valuation as f64 - FAIR_VALUATION as f64);
        let mean = p.premium + p.drift * regime - p.valuation_pull * dear;
        (mean, p.volatility * if volatility == 0 { 1.0 } else { p.volatility_ratio })
    }
}

/// The exposure after an action.
fn exposure_after(old: usize, volatility: usize, action: MarketAction) -> usize {
    match action {
        MarketAction::Increase => (old + 1).min(EXPOSURE_LEVELS - 1),
        MarketAction::Decrease => old.saturating_sub(1),
        MarketAction::Maintain => old,
        MarketAction::Dynamic => TARGET_EXPOSURES[volatility],
    }
}

/// A state of `portfolio_management` as its five levels: exposure, regime, valuation, volatility, drawdown. For policies of this
/// environment that act elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortfolioLevels(pub [usize; 5]);

impl PortfolioLevels {
    /// What a policy sees. A level beyond the last counts as the last.
    pub fn observation(self) -> Vec<f64> {
        let mut features = vec![0.0; FEATURE_NAMES.len()];
        let names = <PortfolioMarket as MarketModel<5>>::FEATURE_MAP;
        let shown = names.iter().zip(<PortfolioMarket as MarketModel<5>>::STATE_SHAPE).zip(self.0);
        for (((name, _), values), level) in shown {
            if let Some(place) = FEATURE_NAMES.iter().position(|feature| feature == name) {
                features[place] = f64::from(scale_feature(level.min(values - 1), values));
            }
        }
        features
    }

    /// The exposure after the action of this index; `None`: there is none.
    pub fn exposure_after(self, action: usize) -> Option<usize> {
        let [exposure, _, _, volatility, _] = self.0;
        let action = *MARKET_ACTIONS.get(action)?;
        Some(exposure_after(exposure.min(EXPOSURE_LEVELS - 1), volatility.min(VOLATILITY_LEVELS - 1), action))
    }
}

/// Weight of the asset at an exposure level.
fn exposure_weight(exposures: usize) -> f64 {
    exposures as f64 / (EXPOSURE_LEVELS - 1) as f64
}

/// Possible drawdown levels after a gain of this size, with their probabilities.
fn drawdown_transitions(drawdown: usize, gain: f64) -> [(f64, usize); 3] {
    let likely = (gain.abs() / DRAWDOWN_STEP).min(1.0);
    let (mended, deeper) = if gain < 0.0 { (0.0, likely) } else { (likely, 0.0) };
    walk_transitions(drawdown, DRAWDOWN_LEVELS, mended, deeper)
}

impl MarketModel<5> for PortfolioMarket {
    type Parameters = PortfolioManagement;

    const NAME: &'static str = "portfolio_management";
    const SUMMARY: &'static str = "A portfolio is split between cash and a risky asset whose mean return depends on the \
        market's regime and on how dear it is, and whose volatility changes. increase and decrease move a fifth of the \
        portfolio into and out of the asset, maintain trades nothing, dynamic goes to the weight of a volatility target \
        (four fifths in calm, two in rough times). The reward is the logarithm of growth less trading costs, a charge \
        for variance, and a loss when the drawdown gets so deep that investors leave, in percent.";
    const VERSION: u32 = 1;
    const STATE_SHAPE: [usize; 5] =
        [EXPOSURE_LEVELS, REGIME_COUNT, VALUATION_LEVELS, VOLATILITY_LEVELS, DRAWDOWN_LEVELS];
    const FEATURE_MAP: [(&'static str, &'static str); 5] = [
        ("position", "fifths of the portfolio in the asset"),
        ("demand", "the regime: falling, flat, rising"),
        ("price", "valuation of the asset, cheap to expensive"),
        ("volume", "calm or turbulent"),
        ("resources", "level of the drawdown"),
    ];

    fn new(parameters: PortfolioManagement) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &PortfolioManagement {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..REGIME_COUNT)
            .for_each(|regime| visit(1.0 / REGIME_COUNT as f64, [INITIAL_EXPOSURE, regime, FAIR_VALUATION, 0, 0]));
    }

    fn outcomes(
        &self,
        [old, regime, valuation, volatility, drawdown]: [usize; 5],
        action: MarketAction,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let exposure = exposure_after(old, volatility, action);
        let (mean, deviation) = self.moments(regime, valuation, volatility);
        let risk = exposure_weight(exposure) * deviation;
        let charged = p.trading_cost * exposure_weight(exposure.abs_diff(old)) + p.aversion * risk * risk;
        for (jump, of_move, down, up) in RETURN_MOVES {
            let gain = exposure_weight(exposure) * (mean + jump * std::f64::consts::SQRT_2 * deviation);
            for (of_drawdown, deep) in drawdown_transitions(drawdown, gain) {
                let left = if deep == DEEPEST_DRAWDOWN && drawdown < DEEPEST_DRAWDOWN { p.redemption } else { 0.0 };
                let reward = PERCENT * (gain.ln_1p() - charged - left);
                for (of_valuation, valuation) in walk_transitions(valuation, VALUATION_LEVELS, down, up) {
                    for (of_regime, regime) in walk_transitions(regime, REGIME_COUNT, p.regime_change, p.regime_change)
                    {
                        let change = p.volatility_change;
                        for (of_volatility, volatility) in
                            walk_transitions(volatility, VOLATILITY_LEVELS, change, change)
                        {
                            let probability = of_move * of_drawdown * of_valuation * of_regime * of_volatility;
                            visit(probability, [exposure, regime, valuation, volatility, deep], reward);
                        }
                    }
                }
            }
        }
    }
}
