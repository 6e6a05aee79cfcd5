//! resource_allocation: how many servers to run for a load that comes and goes.
//!
//! In a step, jobs arrive: Poisson with mean `load x load_ratio^level`, the level walking. Each active or rented server
//! does one job; jobs beyond that wait, and beyond the queue's room are dropped. A server ordered costs from the step in
//! which it is ordered and works once it has booted; all that boot are ready together, with probability `boot` a step.
//! Rented servers work at once for one step, for `spot_price` each, `spot_ratio` times that while renting is dear. The
//! reward is
//!
//! `fee x served - server_cost x (active + booting) - rent - waiting_cost x waiting - drop_cost x dropped`.

use super::{Market, Move, parameters::parameters, poisson, walk};

/// Active servers, from none.
const ACTIVE: usize = 7;
/// Servers that boot, from none.
const STARTING: usize = 3;
/// Jobs that wait, from none.
const QUEUE: usize = 8;
/// Levels of load.
const LOADS: usize = 4;
/// Renting: cheap or dear.
const SPOTS: usize = 2;
/// Jobs that arrive in a step, from none; what is more counts as the last.
const ARRIVALS: usize = 6;
/// Servers rented at once.
const RENTED: usize = 2;
/// Active servers at the start.
const FIRST: usize = 2;

parameters! {
    /// Parameters of `resource_allocation`.
    ResourceAllocation {
        /// Jobs that arrive in a step at the lowest level of load, in the mean.
        load: 0.6, 0.05 to 2.0;
        /// The ratio of the means of neighbouring levels.
        load_ratio: 1.8, 1.0 to 3.0;
        /// The probability of a step that the load goes one level up, and the same for down.
        load_change: 0.08, 0.01 to 0.5;
        /// What a job done brings: the unit of the reward.
        fee: 1.0, 0.1 to 10.0;
        /// What a server, active or booting, costs in a step.
        server_cost: 0.4, 0.0 to 5.0;
        /// The probability of a step that the servers which boot become active.
        boot: 0.4, 0.05 to 1.0;
        /// What a rented server costs for its step while renting is cheap.
        spot_price: 0.6, 0.0 to 5.0;
        /// How many times as much it costs while renting is dear.
        spot_ratio: 2.0, 1.0 to 5.0;
        /// The probability of a step that renting turns dear, or cheap again.
        spot_change: 0.1, 0.01 to 1.0;
        /// What a job that waits costs in a step.
        waiting_cost: 0.1, 0.0 to 2.0;
        /// What a job dropped costs.
        drop_cost: 0.5, 0.0 to 5.0;
    }
}

pub(in super::super) struct Resources {
    parameters: ResourceAllocation,
}

impl Market<5> for Resources {
    type Parameters = ResourceAllocation;

    const NAME: &'static str = "resource_allocation";
    const SUMMARY: &'static str = "An operator runs up to six servers for jobs whose load comes and goes; ordered \
        servers take a while to boot and cost from then on. increase orders one, decrease stops one that is active, \
        maintain changes nothing, dynamic rents two for this step at a price that is at times dear. The reward is the \
        fees of the jobs done less the cost of servers, of jobs that wait and of jobs dropped when the queue is full, \
        in fees.";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 5] = [ACTIVE, STARTING, QUEUE, LOADS, SPOTS];
    const SHOWN: [(&'static str, &'static str); 5] = [
        ("supply", "active servers"),
        ("resources", "servers that boot"),
        ("volume", "jobs that wait"),
        ("demand", "the level of load"),
        ("price", "renting is cheap or dear"),
    ];

    fn new(parameters: ResourceAllocation) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &ResourceAllocation {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..LOADS).for_each(|load| visit(1.0 / LOADS as f64, [FIRST, 0, 0, load, 0]));
    }

    fn outcomes(
        &self,
        [mut active, mut starting, queue, load, spot]: [usize; 5],
        action: Move,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let mut rented = 0;
        match action {
            Move::Increase if starting + 1 < STARTING && active + starting + 1 < ACTIVE => starting += 1,
            Move::Decrease => active = active.saturating_sub(1),
            Move::Increase | Move::Maintain => {}
            Move::Dynamic => rented = RENTED,
        }
        let rent = p.spot_price * if spot == 0 { 1.0 } else { p.spot_ratio };
        let running = p.server_cost * (active + starting) as f64 + rent * rented as f64;
        let booted = if starting > 0 { p.boot } else { 0.0 };
        let boots = [(booted, (active + starting).min(ACTIVE - 1), 0), (1.0 - booted, active, starting)];
        let arrivals: [f64; ARRIVALS] = poisson(p.load * p.load_ratio.powi(load as i32));
        for (arrived, of_arrivals) in arrivals.into_iter().enumerate() {
            let served = (queue + arrived).min(active + rented);
            let left = queue + arrived - served;
            let waiting = left.min(QUEUE - 1);
            let unserved = p.waiting_cost * waiting as f64 + p.drop_cost * (left - waiting) as f64;
            let reward = p.fee * served as f64 - running - unserved;
            for (of_boot, active, starting) in boots {
                for (of_load, load) in walk(load, LOADS, p.load_change, p.load_change) {
                    for (of_spot, spot) in walk(spot, SPOTS, p.spot_change, p.spot_change) {
                        let probability = of_arrivals * of_boot * of_load * of_spot;
                        visit(probability, [active, starting, waiting, load, spot], reward);
                    }
                }
            }
        }
    }
}
