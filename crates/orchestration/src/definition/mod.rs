//! Workflow definitions: parsed, validated as a whole, and compiled to an [`ExecutionPlan`] that the engine runs.

mod compile;
mod hooks;
mod plan;
mod source;

pub use compile::CompileError;
pub use plan::{CompiledStep, ExecutionPlan, StepDefinition, StepScope};
pub use source::WorkflowDefinition;
