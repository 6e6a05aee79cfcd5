//! Commands with something to them; each is a few calls on a room, and what a person reads of it.

pub mod keys;
