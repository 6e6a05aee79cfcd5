//! The mathematics of performance, as functions without storage: packing of demands on hosts,
//! sketches of distributions, trends.

pub mod interval;
pub mod packing;
pub mod quantile_sketch;
pub mod replay;
pub mod search;
pub mod trend;
