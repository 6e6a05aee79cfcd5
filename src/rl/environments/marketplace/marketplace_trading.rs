//! Trading lots of compute credits on an exchange, with costs, pressure and the risk of what is held.

use serde::{Deserialize, Serialize};

use super::{Market, Parameters, feature, walk, within};
use crate::rl::FEATURES;

/// Rungs of the exchange's price ladder.
const PRICES: usize = 9;
const MIDDLE: usize = PRICES / 2;
/// Lots held, from `HELD / 2` short to as many long.
const HELD: usize = 7;
const FLAT: usize = HELD / 2;
/// Pressure of the order book: sellers, balanced, buyers.
const PRESSURES: usize = 3;
/// Volume: thin, normal, busy.
const VOLUMES: usize = 3;

/// Parameters of `marketplace_trading`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarketplaceTrading {
    pub reference_price: f64,
    pub tick: f64,
    pub movement: f64,
    pub reversion: f64,
    pub pressure: f64,
    pub pressure_change: f64,
    pub volume_change: f64,
    pub half_spread: f64,
    pub fill: f64,
    pub risk: f64,
}

impl Default for MarketplaceTrading {
    fn default() -> Self {
        Self {
            reference_price: 1.0,
            tick: 0.02,
            movement: 0.6,
            reversion: 0.25,
            pressure: 0.25,
            pressure_change: 0.1,
            volume_change: 0.15,
            half_spread: 0.5,
            fill: 0.5,
            risk: 0.02,
        }
    }
}

impl Parameters for MarketplaceTrading {
    fn validate(&self) -> Result<(), String> {
        within("reference_price", self.reference_price, 1e-9, 1e9)?;
        within("tick", self.tick, 1e-4, 0.5)
    }
}

pub(in super::super) struct Trading {
    parameters: MarketplaceTrading,
}

impl Trading {
    fn moves(&self, price: usize, pressure: usize) -> [f64; 3] {
        let p = &self.parameters;
        let pull = p.reversion * (MIDDLE as f64 - price as f64) / MIDDLE as f64;
        let tilt = (pull + p.pressure * (pressure as f64 - 1.0)).clamp(-1.0, 1.0);
        let up = p.movement * (1.0 + tilt) / 2.0;
        [p.movement - up, 1.0 - p.movement, up]
    }
}

impl Market<4> for Trading {
    type Parameters = MarketplaceTrading;

    const NAME: &'static str = "marketplace_trading";
    const SUMMARY: &'static str = "";
    const VERSION: u32 = 1;
    /// Price, lots held, pressure, volume.
    const SHAPE: [usize; 4] = [PRICES, HELD, PRESSURES, VOLUMES];

    fn new(parameters: MarketplaceTrading) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &MarketplaceTrading {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 4])) {
        (0..PRICES).for_each(|price| visit(1.0 / PRICES as f64, [price, FLAT, 1, 1]));
    }

    fn outcomes(
        &self,
        [price, held, pressure, volume]: [usize; 4],
        action: usize,
        visit: &mut dyn FnMut(f64, [usize; 4], f64),
    ) {
        let p = &self.parameters;
        let half_spread = p.half_spread * [1.5, 1.0, 0.6][volume];
        let fill = p.fill * [0.4, 1.0, 1.6][volume];
        for (direction, of_move) in self.moves(price, pressure).into_iter().enumerate() {
            let next = (price + direction).saturating_sub(1).min(PRICES - 1);
            let change = next as f64 - price as f64;
            // (probability, held, cash beyond the middle price)
            let trades: [(f64, usize, f64); 3] = match action {
                0 if held + 1 < HELD => [(1.0, held + 1, -half_spread), (0.0, 0, 0.0), (0.0, 0, 0.0)],
                1 if held > 0 => [(1.0, held - 1, -half_spread), (0.0, 0, 0.0), (0.0, 0, 0.0)],
                0..=2 => [(1.0, held, 0.0), (0.0, 0, 0.0), (0.0, 0, 0.0)],
                _ => {
                    let (sold, bought) = match direction {
                        0 => (0.0, fill),
                        1 => (fill / 2.0, fill / 2.0),
                        _ => (fill, 0.0),
                    };
                    let sold = if held > 0 { sold } else { 0.0 };
                    let bought = if held + 1 < HELD { bought } else { 0.0 };
                    [
                        (1.0 - sold - bought, held, 0.0),
                        (sold, held.saturating_sub(1), half_spread),
                        (bought, held + 1, half_spread),
                    ]
                }
            };
            for (of_trade, after, cash) in trades {
                if of_trade == 0.0 {
                    continue;
                }
                let lots = after as f64 - FLAT as f64;
                let reward = cash + lots * change - p.risk * lots * lots;
                for (of_pressure, pressure) in walk(pressure, PRESSURES, p.pressure_change, p.pressure_change) {
                    for (of_volume, volume) in walk(volume, VOLUMES, p.volume_change, p.volume_change) {
                        let probability = of_move * of_trade * of_pressure * of_volume;
                        visit(probability, [next, after, pressure, volume], reward);
                    }
                }
            }
        }
    }

    fn observe(&self, [price, held, pressure, volume]: [usize; 4]) -> [f32; FEATURES.len()] {
        [
            feature(price, PRICES),
            feature(volume, VOLUMES),
            feature(pressure, PRESSURES),
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            feature(held, HELD),
        ]
    }
}
