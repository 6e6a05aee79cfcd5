//! Security: the policies that bind workflows.

pub mod policies;
