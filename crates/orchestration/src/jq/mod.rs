//! jq programs and JSON Schemas, evaluated in child processes: a program can loop forever or use all memory, a schema
//! can take exponential time, and neither can be stopped within a thread. A program has one input and must give exactly
//! one output.
//!
//! [`check`] validates a program without running it, [`Pool`] evaluates, [`worker`] is the code of the child processes.

mod pool;
mod process;

pub use am_jq_worker::program::{MAX_PROGRAM_BYTES, ProgramError, check};
pub use pool::{Error, Evaluated, Pool, Settings, Stats, Verdict};
