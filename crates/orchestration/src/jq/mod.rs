//! jq programs and JSON Schemas, evaluated in child processes: a program can loop for ever or ask for all the memory, a
//! schema can take exponential time, and neither can be stopped inside a thread. A program has one input and must give
//! exactly one output.
//!
//! [`check`] reads a program without running it, [`Pool`] evaluates, [`am_jq_worker`] is what the child processes run.

mod pool;
mod process;

pub use am_jq_worker::program::{MAX_PROGRAM_BYTES, ProgramError, check};
pub use pool::{Error, Evaluated, Pool, Settings, Stats, Verdict};
