//! Fair shares of what is scarce, by key (a principal): a queue that serves keys in turn, and places that no key can occupy
//! alone.

mod places;
mod queue;

pub use places::{FairPlace, FairPlaces, PlaceLimits};
pub use queue::FairQueue;
