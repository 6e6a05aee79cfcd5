//! Security of agents: the policies that restrict workflows, the sandboxes that commands run in, trust scores, and the
//! reputation derived from them.

pub mod policies;
pub mod reputation;
pub mod sandbox;
pub mod trust;
