//! Classic control tasks with the dynamics, starts and time limits of Gymnasium 1.2.3, under its names.
//!
//! Numbers are computed as there, in 64 bits (but where 32 are said), in its order of operations: that way the last
//! digits agree too, and a trajectory stays with Gymnasium's for longer, since some of these tasks double an error many
//! times a second.

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
