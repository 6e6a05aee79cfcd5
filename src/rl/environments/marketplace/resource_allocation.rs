//! x
use serde::{Deserialize, Serialize};

use super::{Market, Parameters, feature, poisson, walk, within};
use crate::rl::FEATURES;

const ACTIVE: usize = 7;
const STARTING: usize = 3;
const QUEUE: usize = 8;
const LOADS: usize = 4;
const SPOTS: usize = 2;
const ARRIVALS: usize = 6;

/// Parameters of `resource_allocation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceAllocation {
    pub load: f64,
    pub load_ratio: f64,
    pub load_change: f64,
    pub fee: f64,
    pub server_cost: f64,
    pub boot: f64,
    pub burst: usize,
    pub spot_price: f64,
    pub spot_ratio: f64,
    pub spot_change: f64,
    pub waiting_cost: f64,
    pub drop_cost: f64,
    pub scale: f64,
}

impl Default for ResourceAllocation {
    fn default() -> Self {
        Self {
            load: 0.6,
            load_ratio: 1.8,
            load_change: 0.08,
            fee: 1.0,
            server_cost: 0.4,
            boot: 0.4,
            burst: 2,
            spot_price: 0.6,
            spot_ratio: 2.0,
            spot_change: 0.1,
            waiting_cost: 0.1,
            drop_cost: 0.5,
            scale: 1.0,
        }
    }
}

impl Parameters for ResourceAllocation {
    fn validate(&self) -> Result<(), String> {
        within("load", self.load, 0.05, 2.0)
    }
}

pub(in super::super) struct Resources {
    parameters: ResourceAllocation,
}

impl Market<5> for Resources {
    type Parameters = ResourceAllocation;

    const NAME: &'static str = "resource_allocation";
    const SUMMARY: &'static str = "";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 5] = [ACTIVE, STARTING, QUEUE, LOADS, SPOTS];

    fn new(parameters: ResourceAllocation) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &ResourceAllocation {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..LOADS).for_each(|load| visit(1.0 / LOADS as f64, [2, 0, 0, load, 0]));
    }

    fn outcomes(
        &self,
        [active, starting, queue, load, spot]: [usize; 5],
        action: usize,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let (mut active, mut starting, mut burst) = (active, starting, 0);
        match action {
            0 if starting + 1 < STARTING && active + starting + 1 < ACTIVE => starting += 1,
            1 if active > 0 => active -= 1,
            3 => burst = p.burst,
            _ => {}
        }
        let spot_price = p.spot_price * if spot == 1 { p.spot_ratio } else { 1.0 };
        let running = p.server_cost * (active + starting) as f64 + spot_price * burst as f64;
        let arrivals: [f64; ARRIVALS] = poisson(p.load * p.load_ratio.powi(load as i32));
        for (arrived, of_arrivals) in arrivals.into_iter().enumerate() {
            let served = (queue + arrived).min(active + burst);
            let left = queue + arrived - served;
            let kept = left.min(QUEUE - 1);
            let reward = p.fee * served as f64
                - running
                - p.waiting_cost * kept as f64
                - p.drop_cost * (left - kept) as f64;
            let boots = if starting > 0 { p.boot } else { 0.0 };
            for (of_boot, active, starting) in [(boots, (active + starting).min(ACTIVE - 1), 0), (1.0 - boots, active, starting)] {
                for (of_load, load) in walk(load, LOADS, p.load_change, p.load_change) {
                    for (of_spot, spot) in walk(spot, SPOTS, p.spot_change, p.spot_change) {
                        let probability = of_arrivals * of_boot * of_load * of_spot;
                        visit(probability, [active, starting, kept, load, spot], reward * p.scale);
                    }
                }
            }
        }
    }

    fn observe(&self, [active, starting, queue, load, spot]: [usize; 5]) -> [f32; FEATURES.len()] {
        [
            feature(spot, SPOTS),
            feature(queue, QUEUE),
            feature(load, LOADS),
            feature(active, ACTIVE),
            0.0,
            0.0,
            feature(starting, STARTING),
            0.0,
            0.0,
        ]
    }
}
