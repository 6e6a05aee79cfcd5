//! What is kept of a run's end: its result, and the receipts of miners.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use super::step::StepRun;
use crate::definition::ExecutionPlan;
use am_core::value_budget::{ByteLimit, ValueBudget};

/// Largest receipt of a miner that is stored with a step. It is the miner's to choose, and stays in the job's row.
const MINER_RECEIPT: ByteLimit = ByteLimit { name: "a miner's receipt", bytes: 64 << 10 };

/// Return whether a miner's receipt is stored with the step.
pub(super) fn can_be_kept(receipt: &Value) -> bool {
    let kept = ValueBudget::new(MINER_RECEIPT).draw(receipt);
    kept.inspect_err(|exceeded| tracing::warn!("a miner's receipt has {exceeded}; it stays with its job only")).is_ok()
}

/// Column `final_result` of a completed run: the outputs of its steps by key, without those of hooks.
pub(super) struct FinalResult<'a> {
    pub plan: &'a ExecutionPlan,
    pub steps: &'a [StepRun],
}

impl Serialize for FinalResult<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(1))?;
        members.serialize_entry("step_results", &StepResults(self))?;
        members.end()
    }
}

struct StepResults<'a>(&'a FinalResult<'a>);

impl Serialize for StepResults<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = self.0.plan.steps.iter().zip(self.0.steps).filter(|(spec, _)| spec.raw.hook_of.is_none());
        serializer.collect_map(steps.map(|(spec, step)| (&spec.key, step.output.as_deref())))
    }
}
