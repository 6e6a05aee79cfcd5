//! What an evaluation may take and gives, and what is counted of all.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use serde_json::value::RawValue;

use am_json_schema::SchemaViolation;

/// Limits of an evaluation, and the number of workers.
#[derive(Clone, Debug)]
pub struct JqSettings {
    /// Number of worker processes, at least 1.
    pub workers: usize,
    /// Time limit of one evaluation.
    pub timeout: Duration,
    /// Maximum size of an output, in bytes of JSON.
    pub max_output: usize,
    /// Address space of a worker beyond what the executable itself maps, in MiB. A quarter of it (1 to 256 MiB) is
    /// stack.
    pub memory_mb: u64,
}

/// Error of an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum JqError {
    /// The program failed, with jq's message or that of its own `error`.
    #[error("{0}")]
    Program(String),
    /// The evaluation exceeded its time limit and was killed.
    #[error("the program ran longer than {} s", .limit.as_secs_f64())]
    Timeout {
        /// Time limit that was exceeded.
        limit: Duration,
    },
    /// The output is too large.
    #[error("the output is larger than {limit} bytes")]
    OutputTooLarge {
        /// Maximum size, in bytes.
        limit: usize,
    },
    /// The input is too large.
    #[error("the input is larger than {limit} bytes")]
    InputTooLarge {
        /// Maximum size, in bytes.
        limit: usize,
    },
    /// The program crashed its worker.
    #[error("the program ran out of memory or stack")]
    Crashed,
    /// A worker could not be started. Another attempt may succeed.
    #[error("no jq worker: {0}")]
    NoWorker(String),
    /// The pool has been shut down.
    #[error("the jq workers are shut down")]
    PoolClosed,
}

/// Result of an evaluation.
#[derive(Debug)]
pub struct JqOutput {
    /// The program's only output.
    pub output: Box<RawValue>,
    /// Wall-clock seconds in the worker, from the input's text to the output's.
    pub seconds: f64,
}

/// Result of a validation by a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaResult {
    /// The first ten violations; empty: the instance is valid.
    pub violations: Vec<SchemaViolation>,
    /// Wall-clock seconds in the worker.
    pub seconds: f64,
}

/// Counters of the pool since its start.
#[derive(Debug, Default)]
pub struct JqStats {
    pub(super) evaluations: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) crashes: AtomicU64,
    pub(super) respawns: AtomicU64,
    pub(super) waiting: AtomicUsize,
}

impl JqStats {
    /// Return the number of evaluations answered by a worker, including errors.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.load(Relaxed)
    }

    /// Return the number of evaluations killed for exceeding their time limit.
    pub fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }

    /// Return the number of evaluations that crashed their worker.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Relaxed)
    }

    /// Return the number of workers started in place of another.
    pub fn respawns(&self) -> u64 {
        self.respawns.load(Relaxed)
    }

    /// Return the number of evaluations requested and not yet answered.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}
