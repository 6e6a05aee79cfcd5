//! What keeps agents from doing harm: the policies that bind workflows, and the sandboxes that commands run in.

pub mod policies;
pub mod sandbox;
