//! marketplace_trading: lots of compute credits on an exchange, with spread, pressure and the risk of what is held.
//!
//! The middle price is on a ladder of ticks. In a step it moves by a tick with probability `movement`, and then up with
//! probability `(1 + tilt) / 2`, where
//!
//! `tilt = reversion x (distance below the ladder's middle, as a share of the half ladder) + pressure x (-1, 0 or 1)`,
//!
//! clamped to [-1, 1]; the order book's pressure and the volume walk by themselves. The half spread is `half_spread` ticks
//! in normal volume, more in thin and less in busy. Buying or selling a lot at once pays it. Quoting both sides earns it
//! when a quote is filled: the one that the price moves against with probability `fill` (more when busy), so that
//! a fill is followed by a loss on average, either with half of that when the price stands still. The reward is the cash
//! beyond the middle price, plus lots held x the price's move, less `risk` x lots squared, all in ticks.

use super::{Market, Move, parameters::parameters, walk};

/// Rungs of the exchange's price ladder.
const PRICES: usize = 9;
const MIDDLE: usize = PRICES / 2;
/// Lots held, from `FLAT` short to as many long.
const HELD: usize = 7;
const FLAT: usize = HELD / 2;
/// Pressure of the order book: sellers, balanced, buyers.
const PRESSURES: usize = 3;
const BALANCED: usize = 1;
/// Volume: thin, normal, busy.
const VOLUMES: usize = 3;
const NORMAL: usize = 1;
/// The spread in each volume, in that of the normal one.
const SPREADS: [f64; VOLUMES] = [1.5, 1.0, 0.6];
/// How often quotes are filled in each volume, in that of the normal one.
const FILLS: [f64; VOLUMES] = [0.4, 1.0, 1.6];

parameters! {
    /// Parameters of `marketplace_trading`.
    MarketplaceTrading {
        /// The probability that the price moves by a tick in a step.
        movement: 0.6, 0.01 to 1.0;
        /// How strongly the price is drawn to the ladder's middle: the tilt of its direction at an end.
        reversion: 0.25, 0.0 to 1.0;
        /// How strongly the order book's pressure tilts the price's direction.
        pressure: 0.25, 0.0 to 1.0;
        /// The probability of a step that the pressure changes to the next on one side, and the same on the other.
        pressure_change: 0.1, 0.01 to 0.5;
        /// The probability of a step that the volume changes to the next on one side, and the same on the other.
        volume_change: 0.15, 0.01 to 0.5;
        /// Half the spread in normal volume, in ticks.
        half_spread: 0.5, 0.0 to 5.0;
        /// The probability in normal volume that the quote which a price move runs into is filled.
        fill: 0.5, 0.0 to 0.6;
        /// The cost of holding in a step, in ticks for the square of the lots.
        risk: 0.02, 0.0 to 1.0;
    }
}

pub(in super::super) struct Trading {
    parameters: MarketplaceTrading,
}

impl Trading {
    /// The probabilities that the price goes down, stays and goes up.
    fn moves(&self, price: usize, pressure: usize) -> [f64; 3] {
        let p = &self.parameters;
        let pull = p.reversion * (MIDDLE as f64 - price as f64) / MIDDLE as f64;
        let tilt = (pull + p.pressure * (pressure as f64 - BALANCED as f64)).clamp(-1.0, 1.0);
        let up = p.movement * (1.0 + tilt) / 2.0;
        [p.movement - up, 1.0 - p.movement, up]
    }

    /// What may be held after `action` and what it brings beyond the middle price, with the probability of each, when the
    /// price moves in `direction` (0 down, 1 not, 2 up).
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
        ("price", "the rung of the middle price"),
        ("position", "lots held, from three short to three long"),
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
