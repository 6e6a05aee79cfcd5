//! Classic control tasks with the dynamics, initial states and time limits of Gymnasium 1.2.3, under the same names.
//!
//! Numbers are computed in 64 bits (32 where stated) and in Gymnasium's order of operations, so that the last digits
//! agree. Some of these tasks double an error many times a second; the same rounding keeps a trajectory equal for
//! longer.

mod acrobot;
mod cart_pole;
mod mountain_car;
mod pendulum;
#[cfg(test)]
mod tests;

pub(super) use acrobot::acrobot;
pub(super) use cart_pole::cart_pole;
pub(super) use mountain_car::mountain_car;
pub(super) use pendulum::pendulum;
