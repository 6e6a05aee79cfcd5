//! What the coordinator sees of policies.

pub(super) mod store;
