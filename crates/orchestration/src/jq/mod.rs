//! jq programs and JSON Schemas, evaluated in child processes: a program can loop forever or use all memory, a schema
//! can take exponential time, and neither can be stopped within a thread. A program has one input and must give exactly
//! one output.
//!
//! [`check_program`] validates a program without running it, [`JqPool`] evaluates, [`worker`] is the code of the child processes.

mod evaluation;
mod pool;
mod process;
mod queue;

pub use am_jq_worker::program::{MAX_PROGRAM_BYTES, ProgramError, check_program};
pub use evaluation::{JqError, JqOutput, JqSettings, JqStats, SchemaResult};
pub use pool::JqPool;
