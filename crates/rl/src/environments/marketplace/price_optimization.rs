//! `price_optimization`: a provider's price against a demand curve, a rival and limited stock.
//!
//! In a step the provider sets a price `p` and the rival asks `q`, both on a ladder of reference price x (1 +
//! `price_step`)^k. The units demanded are Poisson distributed with the mean of a constant-elasticity demand curve,
//!
//! `demand x (1 + season_swing)^season x p^-elasticity x q^cross_elasticity x (1, or bad_reputation)`,
//!
//! with season -1, 0 or 1 and prices in reference prices. Units are sold as far as stock allows, each for `p -
//! unit_cost`; then one unit is supplied. Unmet demand makes the reputation bad; a step without unmet demand restores
//! it with probability `forgiveness`. A rival that is undercut lowers its price by a level with probability
//! `rival_follows`; otherwise it moves towards its usual level for the season with probability `rival_returns`. The
//! season follows a walk.

use super::{MarketAction, MarketModel, parameters::market_parameters, poisson_probabilities, walk_transitions};

/// Number of price levels.
const PRICE_LEVELS: usize = 7;
/// Level of the reference price.
const REFERENCE_PRICE_LEVEL: usize = PRICE_LEVELS / 2;
/// Number of price levels of the rival, which avoids both ends of the ladder: its lowest is level 1.
const RIVAL_PRICE_LEVELS: usize = PRICE_LEVELS - 2;
/// Number of demand seasons: low, normal, high.
const SEASON_COUNT: usize = 3;
/// Season at the start of an episode.
const NORMAL_SEASON: usize = 1;
/// Number of stock levels, from 0.
const STOCK_LEVELS: usize = 7;
/// Units supplied at the end of a step, if the stock is not full.
const UNITS_SUPPLIED_PER_STEP: usize = 1;
/// Number of reputation levels: bad, good.
const REPUTATION_LEVELS: usize = 2;
/// Number of demand counts per step, from 0; larger demand counts as the last.
const DEMAND_LEVELS: usize = 5;

market_parameters! {
    /// Parameters of `price_optimization`.
    PriceOptimization {
        /// Price of the middle level, in the marketplace's currency. It only sets the unit: rewards are in reference
        /// prices.
        reference_price: 1.0, 1e-9 to 1e9;
        /// Cost of a sold unit, as a share of the reference price.
        unit_cost: 0.35, 0.0 to 0.9;
        /// Ratio of neighbouring price levels, minus 1.
        price_step: 0.2, 0.02 to 0.5;
        /// Percentage by which demand falls when the own price rises by 1 %.
        elasticity: 2.2, 0.2 to 5.0;
        /// Percentage by which demand rises when the rival's price rises by 1 %.
        cross_elasticity: 1.4, 0.0 to 5.0;
        /// Units demanded per step at reference prices, in the normal season, with a good reputation.
        demand: 1.2, 0.1 to 4.0;
        /// Ratio of demand between neighbouring seasons, minus 1.
        season_swing: 1.0, 0.0 to 2.0;
        /// Probability per step that the season moves to the one above; the same for the one below.
        season_change: 0.1, 0.01 to 0.5;
        /// Probability that a step without unmet demand restores a bad reputation.
        forgiveness: 0.2, 0.01 to 1.0;
        /// Share of demand that remains with a bad reputation.
        bad_reputation: 0.6, 0.0 to 1.0;
        /// Probability per step that an undercut rival lowers its price by a level.
        rival_follows: 0.5, 0.0 to 1.0;
        /// Probability per step that a rival that is not undercut moves one level towards its usual price.
        rival_returns: 0.2, 0.0 to 1.0;
        /// Cost of changing the price, as a share of the reference price.
        menu_cost: 0.02, 0.0 to 0.5;
    }
}

pub(in super::super) struct PricingMarket {
    parameters: PriceOptimization,
    /// Price of each level, in reference prices.
    ladder: [f64; PRICE_LEVELS],
}

impl PricingMarket {
    /// Mean of the units demanded.
    fn demand(&self, price: usize, rival: usize, season: usize, reputation: usize) -> f64 {
        let p = &self.parameters;
        let season = (1.0 + p.season_swing).powi(season as i32 - NORMAL_SEASON as i32);
        let reputation = if reputation == 0 { p.bad_reputation } else { 1.0 };
        let prices = self.ladder[price].powf(-p.elasticity) * self.ladder[rival].powf(p.cross_elasticity);
        p.demand * season * reputation * prices
    }

    /// Probabilities that the rival at level `rival` goes a level down and a level up.
    fn rival_move_probabilities(&self, price: usize, rival: usize, season: usize) -> (f64, f64) {
        let p = &self.parameters;
        let usual = REFERENCE_PRICE_LEVEL + season - NORMAL_SEASON;
        match rival {
            _ if price < rival => (p.rival_follows, 0.0),
            _ if rival < usual => (0.0, p.rival_returns),
            _ if rival > usual => (p.rival_returns, 0.0),
            _ => (0.0, 0.0),
        }
    }
}

impl MarketModel<5> for PricingMarket {
    type Parameters = PriceOptimization;

    const NAME: &'static str = "price_optimization";
    const SUMMARY: &'static str = "A provider sets the price of its service, on a ladder of seven, against a demand \
        curve of constant elasticity that shifts with the season, a rival who follows it down, and a stock that is \
        refilled by one unit a step; turning buyers away spoils its reputation. increase and decrease go one rung up \
        and down, maintain keeps the price, dynamic takes the rival's. The reward is the margin on the units sold less \
        the cost of changing the price, in reference prices.";
    const VERSION: u32 = 1;
    const STATE_SHAPE: [usize; 5] = [PRICE_LEVELS, RIVAL_PRICE_LEVELS, SEASON_COUNT, STOCK_LEVELS, REPUTATION_LEVELS];
    const FEATURE_MAP: [(&'static str, &'static str); 5] = [
        ("price", "level of the provider's price"),
        ("competition", "level of the rival's price"),
        ("demand", "the season"),
        ("resources", "units in stock"),
        ("reputation", "bad or good"),
    ];

    fn new(parameters: PriceOptimization) -> Self {
        let ladder =
            std::array::from_fn(|rung| (1.0 + parameters.price_step).powi(rung as i32 - REFERENCE_PRICE_LEVEL as i32));
        Self { parameters, ladder }
    }

    fn parameters(&self) -> &PriceOptimization {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        let share = 1.0 / (PRICE_LEVELS * RIVAL_PRICE_LEVELS) as f64;
        let prices = (0..PRICE_LEVELS).flat_map(|price| (0..RIVAL_PRICE_LEVELS).map(move |rival| (price, rival)));
        prices.for_each(|(price, rival)| {
            visit(share, [price, rival, NORMAL_SEASON, STOCK_LEVELS / 2, REPUTATION_LEVELS - 1])
        });
    }

    fn outcomes(
        &self,
        [old, rival, season, stock, reputation]: [usize; 5],
        action: MarketAction,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let rung = rival + 1;
        let price = match action {
            MarketAction::Increase => (old + 1).min(PRICE_LEVELS - 1),
            MarketAction::Decrease => old.saturating_sub(1),
            MarketAction::Maintain => old,
            MarketAction::Dynamic => rung,
        };
        let menu = if price == old { 0.0 } else { p.menu_cost };
        let (down, up) = self.rival_move_probabilities(price, rung, season);
        let demand: [f64; DEMAND_LEVELS] = poisson_probabilities(self.demand(price, rung, season, reputation));
        for (asked, of_demand) in demand.into_iter().enumerate() {
            let sold = asked.min(stock);
            let reward = (self.ladder[price] - p.unit_cost) * sold as f64 - menu;
            let left = (stock - sold + UNITS_SUPPLIED_PER_STEP).min(STOCK_LEVELS - 1);
            let good = match (asked > stock, reputation) {
                (true, _) => 0.0,
                (false, 0) => p.forgiveness,
                (false, _) => 1.0,
            };
            for (of_rival, rival) in walk_transitions(rival, RIVAL_PRICE_LEVELS, down, up) {
                for (of_season, season) in walk_transitions(season, SEASON_COUNT, p.season_change, p.season_change) {
                    let probability = of_demand * of_rival * of_season;
                    visit(probability * good, [price, rival, season, left, 1], reward);
                    visit(probability * (1.0 - good), [price, rival, season, left, 0], reward);
                }
            }
        }
    }
}
