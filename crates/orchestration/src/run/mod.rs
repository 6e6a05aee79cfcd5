//! A run: its state machine, without I/O; its events; and the execution that clients see of it.

mod budget;
mod context;
mod execution;
mod result;
mod state;
mod step;
mod store;
mod values;
mod verification;

pub(crate) use budget::{AttemptPrice, BudgetCheck};
pub(crate) use context::{PlannedSteps, RunContext, ScopeInputContext};
pub use execution::Execution;
pub(crate) use state::{AfterFailure, PendingEvent, RunLimits, RunState, round_progress};
pub(crate) use step::{AttemptFailure, AttemptOutput, AttemptResult, StepRun, StepVerification};
pub(crate) use store::append_event;
