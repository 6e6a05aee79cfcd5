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

use super::{Market, Move, parameters::parameters, walk};

/// Number of price levels on the ladder.
const PRICES: usize = 9;
const MIDDLE: usize = PRICES / 2;
/// Number of inventory levels, from three lots short to three lots long.
const HELD: usize = 7;
const FLAT: usize = HELD / 2;
/// Number of order-pressure levels: sellers, balanced, buyers.
const PRESSURES: usize = 3;
const BALANCED: usize = 1;
/// Number of volume levels: thin, normal, busy.
const VOLUMES: usize = 3;
const NORMAL: usize = 1;
/// Half spread at each volume level, relative to normal volume.
const SPREADS: [f64; VOLUMES] = [1.5, 1.0, 0.6];
/// Fill probability at each volume level, relative to normal volume.
const FILLS: [f64; VOLUMES] = [0.4, 1.0, 1.6];

parameters! {
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

pub(in super::super) struct Trading {
    parameters: MarketplaceTrading,
}

impl Trading {
    /// Probabilities that the price goes down, stays and goes up.
    fn moves(&self, price: usize, pressure: usize) -> [f64; 3] {
        let p = &self.parameters;
        let pull = p.reversion * (MIDDLE as f64 - price as f64) / MIDDLE as f64;
        let tilt = (pull + p.pressure * (pressure as f64 - BALANCED as f64)).clamp(-1.0, 1.0);
        let up = p.movement * (1.0 + tilt) / 2.0;
        [p.movement - up, 1.0 - p.movement, up]
    }

    /// Return the possible inventories after `action`, the cash that each brings beyond the mid price, and their
    /// probabilities, when the price moves in `direction` (0 down, 1 unchanged, 2 up).
    fn trades(&self, held: usize, volume: usize, action: Move, direction: usize) -> [(f64, usize, f64); 3] {
        let half_spread = self.parameters.half_spread * SPREADS[volume];
        let only = |held, cash| [(1.0, held, cash), (0.0, held, cash), (0.0, held, cash)];
        match action {
            Move::Increase if held + 1 < HELD => only(held + 1, -half_spread),
            Move::Decrease if held > 0 => only(held - 1, -half_spread),
            Move::Increase | Move::Decrease | Move::Maintain => only(held, 0.0),
            Move::Dynamic => {
                let fill = self.parameters.fill * FILLS[volume];
                let (sold, bought) = [(0.0, fill), (fill / 2.0, fill / 2.0), (fill, 0.0)][direction];
                let sold = if held > 0 { sold } else { 0.0 };
                let bought = if held + 1 < HELD { bought } else { 0.0 };
                [
                    (1.0 - sold - bought, held, 0.0),
                    (sold, held.saturating_sub(1), half_spread),
                    (bought, (held + 1).min(HELD - 1), half_spread),
                ]
            }
        }
    }
}

impl Market<4> for Trading {
    type Parameters = MarketplaceTrading;

    const NAME: &'static str = "marketplace_trading";
    const SUMMARY: &'static str = "A trader holds up to three lots of compute credits, long or short, on an exchange \
        whose price reverts to a middle and leans with the order book's pressure. increase and decrease buy and sell a \
        lot at once and pay half the spread, maintain waits, dynamic quotes both sides and earns half the spread when a \
        quote is filled, mostly the one that the price is about to run through. The reward is the change of wealth less \
        a charge for the square of the lots held, in ticks.";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 4] = [PRICES, HELD, PRESSURES, VOLUMES];
    const SHOWN: [(&'static str, &'static str); 4] = [
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
        (0..PRICES).for_each(|price| visit(1.0 / PRICES as f64, [price, FLAT, BALANCED, NORMAL]));
    }

    fn outcomes(
        &self,
        [price, held, pressure, volume]: [usize; 4],
        action: Move,
        visit: &mut dyn FnMut(f64, [usize; 4], f64),
    ) {
        let p = &self.parameters;
        for (direction, of_move) in self.moves(price, pressure).into_iter().enumerate() {
            let next = (price + direction).saturating_sub(1).min(PRICES - 1);
            let change = next as f64 - price as f64;
            for (of_trade, held, cash) in self.trades(held, volume, action, direction) {
                if of_trade == 0.0 {
                    continue;
                }
                let lots = held as f64 - FLAT as f64;
                let reward = cash + lots * change - p.risk * lots * lots;
                for (of_pressure, pressure) in walk(pressure, PRESSURES, p.pressure_change, p.pressure_change) {
                    for (of_volume, volume) in walk(volume, VOLUMES, p.volume_change, p.volume_change) {
                        let probability = of_move * of_trade * of_pressure * of_volume;
                        visit(probability, [next, held, pressure, volume], reward);
                    }
                }
            }
        }
    }
}
