//! How agents perform and what they may use: the resources that are allocated to them.

mod agents;
pub mod capabilities;
pub mod comparison;
mod curve_chart;
mod error;
pub mod meta;
pub mod optimisation;
pub mod profiles;
pub mod resources;
mod sample_spread;
pub mod suites;
pub mod sweeps;

pub use self::{
    agents::PerformanceCaller,
    curve_chart::{CurveDrawing, draw_curve},
    error::{PerformanceError, Result},
};
