//! What is checked of a step at each level, by name.

use am_orchestration::{
    executions::ReplayOutcome,
    model::{ExecutionStatus, VerificationLevel},
};

/// Longest time of a fully verified step, in seconds.
const MAX_VERIFIED_SECONDS: f64 = 3600.0;
/// Most memory of a fully verified step, in MB.
const MAX_VERIFIED_MEMORY_MB: f64 = 8192.0;

/// What is known of a step.
#[derive(Clone, Debug)]
pub(crate) struct StepFacts {
    pub(crate) status: ExecutionStatus,
    pub(crate) has_output: bool,
    pub(crate) has_error: bool,
    /// Seconds of all attempts; `None`: not measured.
    pub(crate) seconds: Option<f64>,
    /// Memory in MB; `None`: not measured.
    pub(crate) memory_mb: Option<f64>,
    /// Whether the receipt's signature is valid and has this step with the hashes of its recorded values.
    pub(crate) is_included: bool,
    /// What came of doing it again; `None`: it was not tried.
    pub(crate) replay: Option<ReplayOutcome>,
    /// Whether a proof is asked for.
    pub(crate) needs_proof: bool,
}

/// Names of checks by how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckLists {
    pub(crate) passed: Vec<String>,
    pub(crate) failed: Vec<String>,
    pub(crate) not_measured: Vec<String>,
    /// Why the step was not done again.
    pub(crate) note: Option<String>,
}

impl CheckLists {
    fn add(&mut self, name: &str, good: Option<bool>) {
        let list = match good {
            Some(true) => &mut self.passed,
            Some(false) => &mut self.failed,
            None => &mut self.not_measured,
        };
        list.push(name.to_owned());
    }
}

/// Check a step at a level. A proof that is still to be made fails until it is there.
pub(crate) fn check_step(level: VerificationLevel, facts: &StepFacts) -> CheckLists {
    let mut lists = CheckLists::default();
    lists.add("completed", Some(facts.status == ExecutionStatus::Completed));
    lists.add("has_output", Some(facts.has_output));
    lists.add("no_error", Some(!facts.has_error));
    lists.add("receipt_inclusion", Some(facts.is_included));
    if level != VerificationLevel::Basic {
        lists.add("execution_time", facts.seconds.map(|seconds| seconds < MAX_VERIFIED_SECONDS));
        lists.add("memory_usage", facts.memory_mb.map(|used| used < MAX_VERIFIED_MEMORY_MB));
        let (repeated, note) = match &facts.replay {
            Some(ReplayOutcome::Same) => (Some(true), None),
            Some(ReplayOutcome::Different(hash)) => {
                (Some(false), Some(format!("done again, its output has the SHA-256 {hash}")))
            }
            Some(ReplayOutcome::NotRepeatable(reason)) => (None, Some(reason.clone())),
            None => (None, None),
        };
        lists.add("repeated", repeated);
        lists.note = note;
    }
    if facts.needs_proof || level == VerificationLevel::ZeroKnowledge {
        lists.add("proof", Some(false));
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> StepFacts {
        StepFacts {
            status: ExecutionStatus::Completed,
            has_output: true,
            has_error: false,
            seconds: Some(1.0),
            memory_mb: None,
            is_included: true,
            replay: Some(ReplayOutcome::Same),
            needs_proof: false,
        }
    }

    #[test]
    fn each_level_adds_its_checks() {
        let basic = check_step(VerificationLevel::Basic, &facts());
        assert_eq!(basic.passed, ["completed", "has_output", "no_error", "receipt_inclusion"]);
        assert!(basic.failed.is_empty() && basic.not_measured.is_empty());
        let full = check_step(VerificationLevel::Full, &facts());
        assert_eq!(full.passed[4..], ["execution_time", "repeated"]);
        assert_eq!(full.not_measured, ["memory_usage"]);
        assert_eq!(check_step(VerificationLevel::ZeroKnowledge, &facts()).failed, ["proof"]);
    }

    #[test]
    fn each_fault_is_named() {
        let failed = |facts: StepFacts| check_step(VerificationLevel::Full, &facts).failed;
        assert_eq!(failed(StepFacts { is_included: false, ..facts() }), ["receipt_inclusion"]);
        assert_eq!(failed(StepFacts { seconds: Some(3600.0), ..facts() }), ["execution_time"]);
        assert_eq!(failed(StepFacts { memory_mb: Some(8192.0), ..facts() }), ["memory_usage"]);
        assert_eq!(failed(StepFacts { needs_proof: true, ..facts() }), ["proof"]);
        assert_eq!(failed(StepFacts { has_output: false, has_error: true, ..facts() }), ["has_output", "no_error"]);
        let other = check_step(
            VerificationLevel::Full,
            &StepFacts { replay: Some(ReplayOutcome::Different("ab".into())), ..facts() },
        );
        assert_eq!(
            (other.failed, other.note.unwrap()),
            (vec!["repeated".to_owned()], "done again, its output has the SHA-256 ab".to_owned())
        );
        let random = StepFacts { replay: Some(ReplayOutcome::NotRepeatable("a call".into())), ..facts() };
        assert!(check_step(VerificationLevel::Full, &random).not_measured.contains(&"repeated".to_owned()));
    }
}
