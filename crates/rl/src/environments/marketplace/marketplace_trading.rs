//! `marketplace_trading`: trading lots of compute credits on an exchange, with bid-ask spread, order pressure and
//! inventory risk.
//!
//! The mid price moves on a ladder of ticks. In a step it moves by one tick with probability `movement`, upwards with
//! probability `(1 + tilt) / 2`, where
//!
//! `tilt = reversion x (distance below the middle of the ladder, as a share of half the ladder) + pressure x (-1, 0 or
//! 1)`,
//!
//! clamped to [-1, 1]. The order book's pressure and the trading volume follow random walks of their own. The half
//! spread is `half_spread` ticks in normal volume, more in thin and less in busy volume. Buying or selling a lot at
//! once costs the half spread; quoting both sides earns it when a quote is filled. The quote that the price moves
//! against is filled with probability `fill` (more when busy), so a fill is followed by a loss on average; when the
//! price does not move, either quote is filled with half of that. The reward is the cash beyond the mid price, plus
//! lots held x price change, minus `risk` x lots squared, all in ticks.

use super::{MarketAction, MarketModel, parameters::market_parameters, walk_transitions};

/// Number of price levels on the ladder.
const PRICE_LEVELS: usize = 9;
const MIDDLE_PRICE: usize = PRICE_LEVELS / 2;
/// Number of inventory levels, from three lots short to three lots long.
const HOLDING_LEVELS: usize = 7;
const FLAT_HOLDING: usize = HOLDING_LEVELS / 2;
/// Number of order-pressure levels: sellers, balanced, buyers.
const PRESSURE_LEVELS: usize = 3;
const BALANCED_PRESSURE: usize = 1;
/// Number of volume levels: thin, normal, busy.
const VOLUME_LEVELS: usize = 3;
const NORMAL_VOLUME: usize = 1;
/// Half spread at each volume level, relative to normal volume.
const SPREAD_FACTORS: [f64; VOLUME_LEVELS] = [1.5, 1.0, 0.6];
/// Fill probability at each volume level, relative to normal volume.
const FILL_FACTORS: [f64; VOLUME_LEVELS] = [0.4, 1.0, 1.6];

market_parameters! {
    /// Parameters of `marketplace_trading`.
    MarketplaceTrading {
        /// Probability per step that the price moves by one tick.
        movement: 0.6, 0.01 to 1.0;
        /// Strength of the price's return to the middle of the ladder: the tilt of its direction at either end.
        reversion: 0.25, 0.0 to 1.0;
        /// Effect of the order book's pressure on the price's direction.
        pressure: 0.25, 0.0 to 1.0;
        /// Probability per step that the pressure moves to the next level on one side; the same on the other.
        pressure_change: 0.1, 0.01 to 0.5;
        /// Probability per step that the volume moves to the next level on one side; the same on the other.
        volume_change: 0.15, 0.01 to 0.5;
        /// Half spread in normal volume, in ticks.
        half_spread: 0.5, 0.0 to 5.0;
        /// Probability in normal volume that the quote against which the price moves is filled.
        fill: 0.5, 0.0 to 0.6;
        /// Cost of inventory per step, in ticks per lot squared.
        risk: 0.02, 0.0 to 1.0;
    }
}

pub(in super::super) struct TradingMarket {
    parameters: MarketplaceTrading,
}

impl TradingMarket {
    /// Probabilities that the price goes down, stays and goes up.
    fn moves(&self, price: usize, pressure: usize) -> [f64; 3] {
        let p = &self.parameters;
        let pull = p.reversion * (MIDDLE_PRICE as f64 - price as f64) / MIDDLE_PRICE as f64;
        let tilt = (pull + p.pressure * (pressure as f64 - BALANCED_PRESSURE as f64)).clamp(-1.0, 1.0);
        let up = p.movement * (1.0 + tilt) / 2.0;
        [p.movement - up, 1.0 - p.movement, up]
    }

    /// Return the possible inventories after `action`, the cash that each brings beyond the mid price, and their
    /// probabilities, when the price moves in `direction` (0 down, 1 unchanged, 2 up).
    fn trade_outcomes(
        &self,
        held: usize,
        volume: usize,
        action: MarketAction,
        direction: usize,
    ) -> [(f64, usize, f64); 3] {
        let half_spread = self.parameters.half_spread * SPREAD_FACTORS[volume];
        let only = |held, cash| [(1.0, held, cash), (0.0, held, cash), (0.0, held, cash)];
        match action {
            MarketAction::Increase if held + 1 < HOLDING_LEVELS => only(held + 1, -half_spread),
            MarketAction::Decrease if held > 0 => only(held - 1, -half_spread),
            MarketAction::Increase | MarketAction::Decrease | MarketAction::Maintain => only(held, 0.0),
            MarketAction::Dynamic => {
                let fill = self.parameters.fill * FILL_FACTORS[volume];
                let (sold, bought) = [(0.0, fill), (fill / 2.0, fill / 2.0), (fill, 0.0)][direction];
                let sold = if held > 0 { sold } else { 0.0 };
                let bought = if held + 1 < HOLDING_LEVELS { bought } else { 0.0 };
                [
                    (1.0 - sold - bought, held, 0.0),
                    (sold, held.saturating_sub(1), half_spread),
                    (bought, (held + 1).min(HOLDING_LEVELS - 1), half_spread),
                ]
            }
        }
    }
}

impl MarketModel<4> for TradingMarket {
    type Parameters = MarketplaceTrading;

    const NAME: &'static str = "marketplace_trading";
    const SUMMARY: &'static str = "A trader holds up to three lots of compute credits, long or short, on an exchange \
        whose price reverts to a middle and leans with the order book's pressure. increase and decrease buy and sell a \
        lot at once and pay half the spread, maintain waits, dynamic quotes both sides and earns half the spread when a \
        quote is filled, mostly the one that the price is about to run through. The reward is the change of wealth less \
        a charge for the square of the lots held, in ticks.";
    const VERSION: u32 = 1;
    const STATE_SHAPE: [usize; 4] = [PRICE_LEVELS, HOLDING_LEVELS, PRESSURE_LEVELS, VOLUME_LEVELS];
    const FEATURE_MAP: [(&'static str, &'static str); 4] = [
        ("price", "level of the mid price"),
        ("position", "inventory, from three lots short to three long"),
        ("demand", "the order book's pressure: sellers, balanced, buyers"),
        ("volume", "thin, normal, busy"),
    ];

    fn new(parameters: MarketplaceTrading) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &MarketplaceTrading {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 4])) {
        (0..PRICE_LEVELS).for_each(|price| {
            visit(1.0 / PRICE_LEVELS as f64, [price, FLAT_HOLDING, BALANCED_PRESSURE, NORMAL_VOLUME])
        });
    }

    fn outcomes(
        &self,
        [price, held, pressure, volume]: [usize; 4],
        action: MarketAction,
        visit: &mut dyn FnMut(f64, [usize; 4], f64),
    ) {
        let p = &self.parameters;
        for (direction, of_move) in self.moves(price, pressure).into_iter().enumerate() {
            let next = (price + direction).saturating_sub(1).min(PRICE_LEVELS - 1);
            let change = next as f64 - price as f64;
            for (of_trade, held, cash) in self.trade_outcomes(held, volume, action, direction) {
                if of_trade == 0.0 {
                    continue;
                }
                let lots = held as f64 - FLAT_HOLDING as f64;
                let reward = cash + lots * change - p.risk * lots * lots;
                for (of_pressure, pressure) in
                    walk_transitions(pressure, PRESSURE_LEVELS, p.pressure_change, p.pressure_change)
                {
                    for (of_volume, volume) in walk_transitions(volume, VOLUME_LEVELS, p.volume_change, p.volume_change)
                    {
                        let probability = of_move * of_trade * of_pressure * of_volume;
                        visit(probability, [next, held, pressure, volume], reward);
                    }
                }
            }
        }
    }
}
