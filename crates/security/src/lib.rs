//! What keeps agents from doing harm: the policies that bind workflows, the sandboxes that commands run in, trust that is
//! earned, and the reputation that follows from it.

pub mod policies;
pub mod reputation;
pub mod sandbox;
pub mod trust;
