//! jq programs and JSON Schemas, evaluated in child processes: a program can loop forever or use all memory, a schema
//! can take exponential time, and neither can be stopped within a thread. A program has one input and must give exactly
//! one output.
//!
//! [`JqPool`] evaluates, and compiles without evaluating; [`am_jq_worker`] is the code of the child processes.

mod check;
mod evaluation;
mod pool;
mod process;
mod queue;

pub use check::{SourceText, TextChecker};
pub use evaluation::{JqError, JqOutput, JqSettings, JqStats, SchemaResult};
pub use pool::JqPool;
