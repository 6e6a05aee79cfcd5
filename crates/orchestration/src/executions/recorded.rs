//! A run as it was recorded: its definition, and each step with its input and output.

use serde_json::Value;

use super::{ExecutionService, StepLog, store};
use crate::{
    action::ActionCatalog,
    definition::{CompiledStep, ExecutionPlan, WorkflowDefinition},
    error::{OrchestrationError, Result, corrupt_json_error},
    run::{Execution, StepRun},
};
use am_core::{boxed, ids::ExecutionId, value_budget::SizedValue};
use am_db::{codec::JsonText, principal::Principal};

/// A run as it was recorded.
pub struct RecordedRun {
    /// The execution that was recorded.
    pub execution: Execution,
    pub(super) plan: ExecutionPlan,
    pub(super) inputs: Value,
    pub(super) steps: Vec<StepRun>,
    logs: Vec<StepLog>,
}

/// A step of a recorded run.
pub struct RecordedStep<'a> {
    /// The step as it is defined.
    pub spec: &'a CompiledStep,
    /// Its row of steps.
    pub log: &'a StepLog,
    /// Its input; `None`: it had none.
    pub input: Option<&'a Value>,
    /// Its output; `None`: it has none.
    pub output: Option<&'a Value>,
}

impl RecordedRun {
    /// The steps in the definition's order.
    pub fn steps(&self) -> impl Iterator<Item = RecordedStep<'_>> {
        self.plan.steps.iter().zip(&self.logs).zip(&self.steps).map(|((spec, log), step)| RecordedStep {
            spec,
            log,
            input: step.input.as_deref(),
            output: step.output.as_deref(),
        })
    }
}

fn document(text: &JsonText) -> Result<Option<Value>> {
    text.parse().map_err(|error| corrupt_json_error("agent_step_executions", error))
}

impl ExecutionService {
    /// A run of `caller` as it was recorded, with its definition compiled again.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too; [`OrchestrationError::InvalidState`] when the coordinator ran it, or its
    /// definition is gone.
    #[boxed]
    pub async fn recorded(&self, caller: &Principal, id: &ExecutionId, names: &ActionCatalog) -> Result<RecordedRun> {
        let (execution, logs) = self.logs(caller, id).await?;
        let mut conn = self.db.read().await?;
        let gone = || OrchestrationError::InvalidState("The execution's definition is not recorded".to_owned());
        let body = store::definition_body(&mut conn, id).await?.ok_or_else(gone)?;
        let inputs = store::inputs(&mut conn, id).await?;
        drop(conn);
        let corrupt = |error| corrupt_json_error("am_definitions.body", error);
        let plan = WorkflowDefinition::from_snapshot(&body).map_err(corrupt)?.compiled(&names.for_takeover()).await?;
        let (mut ordered, mut steps) = (Vec::new(), Vec::new());
        for spec in &plan.steps {
            let log = logs.iter().find(|log| log.key.as_deref() == Some(spec.key.as_str())).ok_or_else(gone)?.clone();
            let mut step = StepRun::new(log.step_id.clone());
            step.status = log.status;
            step.input = document(&log.input)?.map(SizedValue::accepted);
            step.output = document(&log.output)?.map(SizedValue::accepted);
            ordered.push(log);
            steps.push(step);
        }
        let inputs = document(&inputs)?.unwrap_or(Value::Null);
        Ok(RecordedRun { execution, plan, inputs, steps, logs: ordered })
    }
}
