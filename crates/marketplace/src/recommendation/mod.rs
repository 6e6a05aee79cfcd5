//! Recommendations of services from what clients paid for, without I/O.
