//! Verification of results (contract, 'Agents') at the levels basic, full and zero-knowledge, with the names of the
//! passed checks.

use serde_json::{Map, Value, json};

use super::step::{PROOF_CHECK, StepRun, StepVerification};
use crate::{
    definition::ExecutionPlan,
    model::{ExecutionStatus, VerificationLevel},
};

/// Maximum duration of a fully verified step, in seconds.
const MAX_VERIFIED_SECONDS: f64 = 3600.0;
/// Maximum memory of a fully verified step, in MB.
const MAX_VERIFIED_MEMORY_MB: f64 = 8192.0;

/// Verify the result of `step` at `level`. The highest level requires a proof; a step can require one by itself. A
/// proof comes with the result, or is made after the run's end.
pub fn verify_step(
    level: VerificationLevel,
    requires_proof: bool,
    step: &StepRun,
    proof: Option<&Value>,
) -> StepVerification {
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    let mut not_measured = Vec::new();
    let mut note = |name: &str, good: Option<bool>| {
        let list = match good {
            Some(true) => &mut passed,
            Some(false) => &mut failed,
            None => &mut not_measured,
        };
        list.push(name.to_owned());
    };
    note("completed", Some(step.status == ExecutionStatus::Completed));
    note("has_output", Some(step.output.as_deref().is_some_and(|output| !output.is_null())));
    note("no_error", Some(step.error.is_none()));
    if level != VerificationLevel::Basic {
        note("execution_time", Some(step.seconds < MAX_VERIFIED_SECONDS));
        note("memory_usage", step.memory_mb.map(|used| used < MAX_VERIFIED_MEMORY_MB));
    }
    if requires_proof || level == VerificationLevel::ZeroKnowledge {
        note(PROOF_CHECK, Some(proof.is_some_and(|proof| !proof.is_null())));
    }
    StepVerification { level, verified: failed.is_empty(), checks_passed: passed, checks_failed: failed, not_measured }
}

/// Build the column `verification_proof`: the verification of a whole run at `level`, step by step.
pub fn verification_summary(level: VerificationLevel, plan: &ExecutionPlan, steps: &[StepRun]) -> Value {
    let by_key: Map<String, Value> =
        plan.steps.iter().zip(steps).map(|(spec, step)| (spec.key.clone(), json!(step.verification))).collect();
    let verified = steps.iter().all(|step| step.verification.as_ref().is_some_and(|done| done.verified));
    json!({"level": level, "verified": verified, "steps": by_key})
}

#[cfg(test)]
mod tests {
    use am_core::value_budget::SizedValue;

    use super::*;

    fn step() -> StepRun {
        let mut step = StepRun::new("step_1".into());
        step.status = ExecutionStatus::Completed;
        step.output = Some(SizedValue::accepted(json!({"y": 1})));
        step.seconds = 1.0;
        step
    }

    #[test]
    fn each_level_adds_its_checks() {
        let basic = verify_step(VerificationLevel::Basic, false, &step(), None);
        assert!(basic.verified);
        assert_eq!(basic.checks_passed, ["completed", "has_output", "no_error"]);
        let mut long = step();
        long.seconds = 3600.0;
        assert_eq!(verify_step(VerificationLevel::Full, false, &long, None).checks_failed, ["execution_time"]);
        let mut large = step();
        large.memory_mb = Some(8192.0);
        assert_eq!(verify_step(VerificationLevel::Full, false, &large, None).checks_failed, ["memory_usage"]);
        assert_eq!(verify_step(VerificationLevel::Full, false, &step(), None).not_measured, ["memory_usage"]);
    }

    #[test]
    fn zero_knowledge_without_a_proof_is_not_verified() {
        assert!(!verify_step(VerificationLevel::ZeroKnowledge, false, &step(), None).verified);
        assert!(verify_step(VerificationLevel::ZeroKnowledge, false, &step(), Some(&json!({"proof": "x"}))).verified);
        assert_eq!(
            verify_step(VerificationLevel::Basic, true, &step(), None).checks_failed,
            ["proof"],
            "asked for by the step"
        );
    }
}
