//! The security group.

mod policies;
