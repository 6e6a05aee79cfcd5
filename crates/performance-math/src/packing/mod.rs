//! Placement of demands for several resources on hosts: vector bin packing.
//!
//! One demand at a time goes to the host whose free shares are nearest to its own ([`choose_host`]). Many at once are packed by several
//! rules, the best of which is improved by a bounded search ([`plan_packing`]); the hosts that no packing goes below stand beside it
//! ([`lower_bound`]). Amounts are whole numbers, so that sums are exact.

mod bounds;
mod completion;
mod fill;
mod greedy;
mod host_choice;
pub mod instances;
mod model;
mod planner;
#[cfg(test)]
mod tests;

pub use self::{
    bounds::{BoundMethod, PackingBound, lower_bound, martello_toth_l2},
    greedy::PackingRule,
    host_choice::{HostChoice, choose_host, scarcity},
    model::{HostRoom, PackingProblem, PackingScore, ResourceShortfall},
    planner::{PackingEffort, PackingPlan, plan_packing},
};
