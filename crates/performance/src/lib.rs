//! How agents perform and what they may use: the resources that are allocated to them.

mod agents;
pub mod capabilities;
mod curve_chart;
mod error;
pub mod meta;
pub mod optimisation;
pub mod profiles;
pub mod resources;
pub mod suites;

pub use self::{
    agents::PerformanceCaller,
    curve_chart::{CurveDrawing, draw_curve},
    error::{PerformanceError, Result},
};
