//! What was measured of deployments over time.

pub(crate) mod series;
pub(crate) mod store;

pub use self::series::SampleSums;
