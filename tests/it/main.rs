//! The service from outside.

mod jq;
