//! What keeps agents from doing harm: sandboxes that commands run in.

pub mod sandbox;
