//! A provider's price against a demand curve, a rival and a stock.

use serde::{Deserialize, Serialize};

use super::{Market, Parameters, feature, poisson, walk, within};
use crate::rl::FEATURES;

/// Rungs of the price ladder.
const PRICES: usize = 7;
/// The rung of the reference price.
const MIDDLE: usize = PRICES / 2;
/// The rival keeps off the ladder's ends; its lowest is rung 1.
const RIVALS: usize = PRICES - 2;
/// Seasons of demand: low, normal, high.
const SEASONS: usize = 3;
/// Units of stock, from none.
const STOCKS: usize = 7;
/// Reputation: bad or good.
const REPUTATIONS: usize = 2;
/// Units asked for in a step, from none; what is more counts as the last.
const DEMANDS: usize = 5;

/// Parameters of `price_optimization`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceOptimization {
    /// The price of the middle rung, in the marketplace's currency. It sets the unit only: rewards are in units of it.
    pub reference_price: f64,
    /// What a unit sold costs the provider, as a share of the reference price. 0 to 0.9; 0.35 by default.
    pub unit_cost: f64,
    /// The ratio of neighbouring prices, less 1. 0.02 to 0.5; 0.15 by default.
    pub price_step: f64,
    /// By how many percent demand falls when our price rises by one. 0.2 to 5; 1.6 by default.
    pub elasticity: f64,
    /// By how many percent it rises when the rival's price rises by one. 0 to 5; 1.2 by default.
    pub cross_elasticity: f64,
    /// Units asked for in a step at reference prices, in a normal season, of a provider of good reputation. 0.1 to 4; 2 by
    /// default.
    pub demand: f64,
    /// The ratio of demand between neighbouring seasons, less 1. 0 to 2; 0.6 by default.
    pub season_swing: f64,
    /// The probability that the season changes in a step, from the normal one to either side. 0.01 to 1; 0.1 by default.
    pub season_change: f64,
    /// The probability that a bad reputation is mended by a step in which nobody was turned away. 0.01 to 1; 0.2 by
    /// default.
    pub forgiveness: f64,
    /// The part of demand that a bad reputation leaves. 0 to 1; 0.6 by default.
    pub bad_reputation: f64,
    /// The probability that a rival who is not cheaper than us goes one rung down in a step. 0 to 1; 0.5 by default.
    pub rival_follows: f64,
    /// The probability that a rival who is cheaper goes one rung up in a step. 0 to 1; 0.2 by default.
    pub rival_returns: f64,
    /// What changing the price costs, as a share of the reference price. 0 to 0.5; 0.02 by default.
    pub menu_cost: f64,
}

impl Default for PriceOptimization {
    fn default() -> Self {
        Self {
            reference_price: 1.0,
            unit_cost: 0.35,
            price_step: 0.2,
            elasticity: 2.2,
            cross_elasticity: 1.4,
            demand: 1.2,
            season_swing: 1.0,
            season_change: 0.1,
            forgiveness: 0.2,
            bad_reputation: 0.6,
            rival_follows: 0.5,
            rival_returns: 0.2,
            menu_cost: 0.02,
        }
    }
}

impl Parameters for PriceOptimization {
    fn validate(&self) -> Result<(), String> {
        within("reference_price", self.reference_price, 1e-9, 1e9)?;
        within("unit_cost", self.unit_cost, 0.0, 0.9)?;
        within("price_step", self.price_step, 0.02, 0.5)?;
        within("elasticity", self.elasticity, 0.2, 5.0)?;
        within("cross_elasticity", self.cross_elasticity, 0.0, 5.0)?;
        within("demand", self.demand, 0.1, 4.0)?;
        within("season_swing", self.season_swing, 0.0, 2.0)?;
        within("season_change", self.season_change, 0.01, 1.0)?;
        within("forgiveness", self.forgiveness, 0.01, 1.0)?;
        within("bad_reputation", self.bad_reputation, 0.0, 1.0)?;
        within("rival_follows", self.rival_follows, 0.0, 1.0)?;
        within("rival_returns", self.rival_returns, 0.0, 1.0)?;
        within("menu_cost", self.menu_cost, 0.0, 0.5)
    }
}

pub(in super::super) struct Prices {
    parameters: PriceOptimization,
    /// The price of each rung, in reference prices.
    ladder: [f64; PRICES],
}

impl Prices {
    /// The mean of the units asked for: a constant-elasticity demand curve.
    fn demand(&self, price: usize, rival: usize, season: usize, reputation: usize) -> f64 {
        let p = &self.parameters;
        let season = (1.0 + p.season_swing).powi(season as i32 - 1);
        let reputation = if reputation == 0 { p.bad_reputation } else { 1.0 };
        let prices = self.ladder[price].powf(-p.elasticity) * self.ladder[rival + 1].powf(p.cross_elasticity);
        p.demand * season * reputation * prices
    }
}

impl Market<5> for Prices {
    type Parameters = PriceOptimization;

    const NAME: &'static str = "price_optimization";
    const SUMMARY: &'static str = "";
    const VERSION: u32 = 1;
    /// Our price, the rival's, season, stock, reputation.
    const SHAPE: [usize; 5] = [PRICES, RIVALS, SEASONS, STOCKS, REPUTATIONS];

    fn new(parameters: PriceOptimization) -> Self {
        let ladder = std::array::from_fn(|rung| (1.0 + parameters.price_step).powi(rung as i32 - MIDDLE as i32));
        Self { parameters, ladder }
    }

    fn parameters(&self) -> &PriceOptimization {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        let share = 1.0 / (PRICES * RIVALS) as f64;
        (0..PRICES * RIVALS).for_each(|both| visit(share, [both / RIVALS, both % RIVALS, 1, STOCKS / 2, 1]));
    }

    fn outcomes(
        &self,
        [old, rival, season, stock, reputation]: [usize; 5],
        action: usize,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let price = match action {
            0 => (old + 1).min(PRICES - 1),
            1 => old.saturating_sub(1),
            2 => old,
            _ => rival + 1,
        };
        let menu = if price == old { 0.0 } else { p.menu_cost };
        let (down, up) = match (rival + 1).cmp(&(season + 2)) {
            _ if price < rival + 1 => (p.rival_follows, 0.0),
            std::cmp::Ordering::Less => (0.0, p.rival_returns),
            std::cmp::Ordering::Equal => (0.0, 0.0),
            std::cmp::Ordering::Greater => (p.rival_returns, 0.0),
        };
        let demand: [f64; DEMANDS] = poisson(self.demand(price, rival, season, reputation));
        for (asked, of_demand) in demand.into_iter().enumerate() {
            let sold = asked.min(stock);
            let reward = (self.ladder[price] - p.unit_cost) * sold as f64 - menu;
            let left = (stock - sold + 1).min(STOCKS - 1);
            let mended = match (asked > stock, reputation) {
                (true, _) => 0.0,
                (false, 0) => p.forgiveness,
                _ => 1.0,
            };
            for (of_rival, rival) in walk(rival, RIVALS, down, up) {
                for (of_season, season) in walk(season, SEASONS, p.season_change, p.season_change) {
                    let probability = of_demand * of_rival * of_season;
                    visit(probability * mended, [price, rival, season, left, 1], reward);
                    visit(probability * (1.0 - mended), [price, rival, season, left, 0], reward);
                }
            }
        }
    }

    fn observe(&self, [price, rival, season, stock, reputation]: [usize; 5]) -> [f32; FEATURES.len()] {
        [
            feature(price, PRICES),
            0.0,
            feature(season, SEASONS),
            0.0,
            feature(rival, RIVALS),
            feature(reputation, REPUTATIONS),
            feature(stock, STOCKS),
            0.0,
            feature(price + PRICES - 1 - rival - 1, 2*PRICES),
        ]
    }
}
