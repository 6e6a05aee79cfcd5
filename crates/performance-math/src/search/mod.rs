//! Search for the best point of a space: proposals by a tree-structured Parzen estimator, budgets by successive halving.

mod halving;
mod space;
mod tpe;

pub use self::{
    halving::{HalvingRung, best_indices, halving_rungs},
    space::{SearchDimension, SearchSpace, SpaceError},
    tpe::{SearchTrial, TpeSearch},
};
