//! `resource_allocation`: the number of servers to run for a varying load.
//!
//! In a step, jobs arrive: Poisson distributed with mean `load x load_ratio^level`, where the level follows a walk.
//! Each active or rented server does one job; further jobs wait, and jobs beyond the queue's capacity are dropped. An
//! ordered server costs from the step in which it is ordered and works once it has booted; all booting servers become
//! active together, with probability `boot` per step. Rented servers work at once for one step, for `spot_price` each,
//! or `spot_ratio` times that while renting is expensive. The reward is
//!
//! `fee x served - server_cost x (active + booting) - rent - waiting_cost x waiting - drop_cost x dropped`.

use super::{MarketAction, MarketModel, parameters::market_parameters, poisson_probabilities, walk_transitions};

/// Number of active-server counts, from 0.
const ACTIVE_LEVELS: usize = 7;
/// Number of booting-server counts, from 0.
const BOOTING_LEVELS: usize = 3;
/// Number of waiting-job counts, from 0.
const QUEUE_LEVELS: usize = 8;
/// Number of load levels.
const LOAD_LEVELS: usize = 4;
/// Number of spot price levels: cheap, expensive.
const SPOT_PRICE_LEVELS: usize = 2;
/// Number of arrival counts per step, from 0; more arrivals count as the last.
const ARRIVAL_LEVELS: usize = 6;
/// Servers rented per rental.
const SERVERS_PER_RENTAL: usize = 2;
/// Active servers at the start of an episode.
const INITIAL_ACTIVE_SERVERS: usize = 2;

market_parameters! {
    /// Parameters of `resource_allocation`.
    ResourceAllocation {
        /// Mean number of jobs that arrive per step at the lowest load level.
        load: 0.6, 0.05 to 2.0;
        /// Ratio of the means of neighbouring load levels.
        load_ratio: 1.8, 1.0 to 3.0;
        /// Probability per step that the load goes up a level; the same for down.
        load_change: 0.08, 0.01 to 0.5;
        /// Revenue of a completed job: the unit of the reward.
        fee: 1.0, 0.1 to 10.0;
        /// Cost per step of a server, active or booting.
        server_cost: 0.4, 0.0 to 5.0;
        /// Probability per step that the booting servers become active.
        boot: 0.4, 0.05 to 1.0;
        /// Cost of a rented server for its step while renting is cheap.
        spot_price: 0.6, 0.0 to 5.0;
        /// Ratio of that cost while renting is expensive.
        spot_ratio: 2.0, 1.0 to 5.0;
        /// Probability per step that renting changes to the other price.
        spot_change: 0.1, 0.01 to 1.0;
        /// Cost per step of a waiting job.
        waiting_cost: 0.1, 0.0 to 2.0;
        /// Cost of a dropped job.
        drop_cost: 0.5, 0.0 to 5.0;
    }
}

pub(in super::super) struct ResourceMarket {
    parameters: ResourceAllocation,
}

impl MarketModel<5> for ResourceMarket {
    type Parameters = ResourceAllocation;

    const NAME: &'static str = "resource_allocation";
    const SUMMARY: &'static str = "An operator runs up to six servers for jobs whose load comes and goes; ordered \
        servers take a while to boot and cost from then on. increase orders one, decrease stops one that is active, \
        maintain changes nothing, dynamic rents two for this step at a price that is at times dear. The reward is the \
        fees of the jobs done less the cost of servers, of jobs that wait and of jobs dropped when the queue is full, \
        in fees.";
    const VERSION: u32 = 1;
    const STATE_SHAPE: [usize; 5] = [ACTIVE_LEVELS, BOOTING_LEVELS, QUEUE_LEVELS, LOAD_LEVELS, SPOT_PRICE_LEVELS];
    const FEATURE_MAP: [(&'static str, &'static str); 5] = [
        ("supply", "active servers"),
        ("resources", "booting servers"),
        ("volume", "waiting jobs"),
        ("demand", "the level of load"),
        ("price", "renting is cheap or expensive"),
    ];

    fn new(parameters: ResourceAllocation) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &ResourceAllocation {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..LOAD_LEVELS).for_each(|load| visit(1.0 / LOAD_LEVELS as f64, [INITIAL_ACTIVE_SERVERS, 0, 0, load, 0]));
    }

    fn outcomes(
        &self,
        [mut active, mut starting, queue, load, spot]: [usize; 5],
        action: MarketAction,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let mut rented = 0;
        match action {
            MarketAction::Increase if starting + 1 < BOOTING_LEVELS && active + starting + 1 < ACTIVE_LEVELS => {
                starting += 1
            }
            MarketAction::Decrease => active = active.saturating_sub(1),
            MarketAction::Increase | MarketAction::Maintain => {}
            MarketAction::Dynamic => rented = SERVERS_PER_RENTAL,
        }
        let rent = p.spot_price * if spot == 0 { 1.0 } else { p.spot_ratio };
        let running = p.server_cost * (active + starting) as f64 + rent * rented as f64;
        let booted = if starting > 0 { p.boot } else { 0.0 };
        let boots = [(booted, (active + starting).min(ACTIVE_LEVELS - 1), 0), (1.0 - booted, active, starting)];
        let arrivals: [f64; ARRIVAL_LEVELS] = poisson_probabilities(p.load * p.load_ratio.powi(load as i32));
        for (arrived, of_arrivals) in arrivals.into_iter().enumerate() {
            let served = (queue + arrived).min(active + rented);
            let left = queue + arrived - served;
            let waiting = left.min(QUEUE_LEVELS - 1);
            let unserved = p.waiting_cost * waiting as f64 + p.drop_cost * (left - waiting) as f64;
            let reward = p.fee * served as f64 - running - unserved;
            for (of_boot, active, starting) in boots {
                for (of_load, load) in walk_transitions(load, LOAD_LEVELS, p.load_change, p.load_change) {
                    for (of_spot, spot) in walk_transitions(spot, SPOT_PRICE_LEVELS, p.spot_change, p.spot_change) {
                        let probability = of_arrivals * of_boot * of_load * of_spot;
                        visit(probability, [active, starting, waiting, load, spot], reward);
                    }
                }
            }
        }
    }
}
