//! What keeps agents from doing harm: the policies that bind workflows, the sandboxes that commands run in, and trust that
//! is earned.

pub mod policies;
pub mod sandbox;
pub mod trust;
