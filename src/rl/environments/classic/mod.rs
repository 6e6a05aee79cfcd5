//! Classic control tasks with the dynamics, starts and time limits of Gymnasium 1.2.3, under its names.

mod cart_pole;

pub(super) use cart_pole::cart_pole;
