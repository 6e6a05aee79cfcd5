//! Workflow definitions: parsed, validated as a whole, and compiled to an [`ExecutionPlan`] that the engine runs.

mod compile;
mod hooks;
mod plan;
mod source;
mod step_schema;

pub use compile::CompileError;
pub use plan::{CompiledStep, ExecutionPlan, StepDefinition, StepScope};
pub use source::WorkflowDefinition;
pub use step_schema::{HookCommand, StepHooks, WorkflowAction, WorkflowStep};
