//! jq programs, evaluated by crate jaq in child processes: a program can loop for ever or ask for all the memory, and
//! neither can be stopped inside a thread. A program has one input and must give exactly one output.
//!
//! [`check`] reads a program without running it, [`Pool`] evaluates, [`worker`] is what the child processes run.

mod encode;
mod pool;
mod process;
mod program;
mod protocol;
pub mod worker;

pub use pool::{Error, Evaluated, Pool, Settings, Stats};
pub use program::{MAX_PROGRAM_BYTES, ProgramError, check};
