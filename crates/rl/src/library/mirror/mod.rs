//! Table of policies that the coordinator reads.

pub(super) mod store;
